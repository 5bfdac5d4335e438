//! Load by `wrk`: two threads, 32 connections kept open, the next request as soon as an answer is there.

use std::{ffi::OsString, path::Path, time::Duration};

use flotilla_tests::program::Launch;

/// Connections of every run.
pub(crate) const CONNECTIONS: usize = 32;
/// How often each of the servers compared has its turn; the median counts.
pub(crate) const TURNS: usize = 3;
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
    let ran = Launch::new("wrk").args(["-t2", &connections, "-d4s"]).args(args).run(LIMIT).await;
    let text = ran.ok().unwrap_or_else(|e| panic!("wrk: {e}"));
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let figure = text.lines().find_map(|l| l.strip_prefix("Requests/sec:")?.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("wrk said nothing of requests: {text}"))
}

/// The rates of several servers that take turns.
pub(crate) async fn in_turns(urls: &[&str]) -> Vec<f64> {
    let mut rates = vec![Vec::new(); urls.len()];
    for _ in 0..TURNS {
        for (url, rates) in urls.iter().zip(&mut rates) {
            rates.push(get(url).await);
        }
    }
    rates.into_iter().map(median).collect()
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
