//! Load by `wrk`: two threads, 32 connections kept open, the next request as soon as an answer is there.

use std::{ffi::OsString, path::Path, time::Duration};

use flotilla_tests::program::Launch;

/// Connections of every run.
pub(crate) const CONNECTIONS: usize = 32;
/// How often each of the servers compared has its turn.
const TURNS: usize = 7;
const LIMIT: Duration = Duration::from_mins(1);

/// Requests a second for `GET url`.
pub(crate) async fn get(url: &str) -> f64 {
    run(&[url.into()]).await
}

/// Requests a second of what `script` makes of `word`.
pub(crate) async fn scripted(script: &Path, url: &str, word: &str) -> f64 {
    run(&["-s".into(), script.into(), url.into(), "--".into(), word.into()]).await
}

async fn run(args: &[OsString]) -> f64 {
    let connections = format!("-c{CONNECTIONS}");
    let ran = Launch::new("wrk").args(["-t2", &connections, "-d2s"]).args(args).run(LIMIT).await;
    let text = ran.ok().unwrap_or_else(|e| panic!("wrk: {e}"));
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let figure = text.lines().find_map(|l| l.strip_prefix("Requests/sec:")?.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("wrk said nothing of requests: {text}"))
}

/// Rates of servers that took turns: of each turn, those of all, in their order.
pub(crate) struct Rates(Vec<Vec<f64>>);

impl Rates {
    /// What `of` counts of each of `servers` in turn, again and again.
    pub(crate) async fn in_turns<S: Copy>(servers: &[S], of: impl AsyncFn(S) -> f64) -> Self {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let mut rates = Vec::new();
            for server in servers {
                rates.push(of(*server).await);
            }
            turns.push(rates);
        }
        Self(turns)
    }

    /// The median rate of one of them.
    pub(crate) fn of(&self, one: usize) -> f64 {
        median(self.0.iter().map(|rates| rates[one]).collect())
    }

    /// How many times the rate of `other` that of `one` was: the median of the turns, so that what slowed both of a turn
    /// counts for neither.
    pub(crate) fn ratio(&self, one: usize, other: usize) -> f64 {
        median(self.0.iter().map(|rates| rates[one] / rates[other]).collect())
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_slow_for_both_changes_no_ratio() {
        let rates = Rates(vec![vec![90.0, 100.0], vec![9.0, 10.0], vec![45.0, 50.0]]);
        assert!((rates.ratio(0, 1) - 0.9).abs() < 1e-9);
        assert!((rates.of(1) - 50.0).abs() < 1e-9);
    }
}
