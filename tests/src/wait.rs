//! Waiting for something to become true: asks again and again until a deadline, and tells what it saw last.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Between two attempts; short beside every bound that a story states.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `attempt` until it succeeds; gives what it gave.
///
/// # Errors
/// When `limit` is over: what was waited for, and the last attempt's error. An attempt that hangs ends with the limit.
pub async fn poll<T, E: Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, String> {
    let start = Instant::now();
    let mut last = "nothing; the first attempt did not end".to_owned();
    while let Some(left) = limit.checked_sub(start.elapsed()) {
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) => last = e.to_string(),
            Err(_) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("not within {limit:?}: {what}\n  last seen: {last}"))
}

/// `eventually!("what", limit, async { Ok(value) or Err(what was seen) })`: the value, or a panic at this line.
#[macro_export]
macro_rules! eventually {
    ($what:expr, $limit:expr, $attempt:expr) => {
        match $crate::wait::poll(::std::convert::AsRef::as_ref(&$what), $limit, async || $attempt.await).await {
            Ok(value) => value,
            Err(e) => panic!("{e}"),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    fn run<T>(future: impl Future<Output = T>) -> T {
        Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn gives_the_first_success() {
        let mut n = 0;
        let attempt = async || {
            n += 1;
            if n < 3 { Err("not yet") } else { Ok(n) }
        };
        assert_eq!(run(poll("n is 3", Duration::from_secs(5), attempt)), Ok(3));
    }

    #[test]
    fn tells_the_last_thing_seen() {
        let failed = run(poll("a thing", Duration::from_millis(50), async || Err::<(), _>("still blue")));
        assert!(failed.as_ref().is_err_and(|e| e.contains("a thing") && e.contains("still blue")), "{failed:?}");
    }

    #[test]
    fn an_attempt_that_hangs_ends_with_the_limit() {
        let start = Instant::now();
        let failed =
            run(poll("a thing", Duration::from_millis(50), async || std::future::pending::<Result<(), &str>>().await));
        assert!(failed.is_err() && start.elapsed() < Duration::from_secs(5));
    }
}
