//! Load by `wrk`: two threads, 32 connections kept open, the next request as soon as an answer is there.

use std::{ffi::OsString, path::Path, time::Duration};

use flotilla_tests::program::Launch;

/// Connections of every run.
pub(crate) const CONNECTIONS: usize = 32;
/// How often each of the servers compared has its turn.
const TURNS: usize = 7;
const LIMIT: Duration = Duration::from_mins(1);

/// What one run found.
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: f64,
    /// The time that 99 of 100 requests did not exceed.
    pub(crate) p99: Duration,
}

/// Requests a second for `GET url`.
pub(crate) async fn get(url: &str) -> f64 {
    run(&[url.into()]).await.rate
}

/// Requests that `script` makes of `word`.
pub(crate) async fn scripted(script: &Path, url: &str, word: &str) -> Load {
    run(&["-s".into(), script.into(), url.into(), "--".into(), word.into()]).await
}

async fn run(args: &[OsString]) -> Load {
    let connections = format!("-c{CONNECTIONS}");
    let ran = Launch::new("wrk").args(["-t2", &connections, "-d2s", "--latency"]).args(args).run(LIMIT).await;
    let text = ran.ok().unwrap_or_else(|e| panic!("wrk: {e}"));
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    read(&text).unwrap_or_else(|| panic!("wrk said nothing of requests: {text}"))
}

/// What `wrk --latency` said.
fn read(text: &str) -> Option<Load> {
    let after = |name: &str| text.lines().find_map(|line| line.trim_start().strip_prefix(name)).map(str::trim);
    Some(Load { rate: after("Requests/sec:")?.parse().ok()?, p99: time(after("99%")?)? })
}

/// `1.25ms` and the like.
fn time(text: &str) -> Option<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    let (number, seconds) = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
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
    fn what_wrk_says_is_read() {
        let text = "  Latency Distribution\n     50%  816.00us\n     99%    6.05ms\n\nRequests/sec:  18345.12\nTransfer/sec: 1MB\n";
        let load = read(text).unwrap();
        assert!((load.rate - 18345.12).abs() < 1e-9);
        assert_eq!(load.p99, Duration::from_micros(6050));
        assert_eq!(
            (time("816.00us"), time("1.50s")),
            (Some(Duration::from_micros(816)), Some(Duration::from_millis(1500)))
        );
        assert_eq!(time("6.05"), None);
    }

    #[test]
    fn a_turn_that_was_slow_for_both_changes_no_ratio() {
        let rates = Rates(vec![vec![90.0, 100.0], vec![9.0, 10.0], vec![45.0, 50.0]]);
        assert!((rates.ratio(0, 1) - 0.9).abs() < 1e-9);
        assert!((rates.of(1) - 50.0).abs() < 1e-9);
    }
}
