//! The blocking-query loop: a read repeated for ever, giving each new value once.

use std::{future::Future, time::Duration};

use crate::{Error, Read, Wait};

/// Waits between attempts that fail: doubling from `first` to `max`, with jitter, back to `first` after a success.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    /// State of a small generator; jitter needs no better one.
    noise: u64,
}

impl Backoff {
    /// 0.1 s, doubling up to 5 s: for whatever must be retried for ever.
    pub fn new() -> Self {
        Self::between(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// Doubling from `first` to `max`.
    pub fn between(first: Duration, max: Duration) -> Self {
        let seed = std::process::id();
        Self { first, max, next: first, noise: u64::from(seed) << 1 | 1 }
    }

    /// How long to wait now; the next wait is twice as long.
    pub fn delay(&mut self) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.max);
        // xorshift64; three quarters to five quarters of the base
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        base * 3 / 4 + base / 2 * u32::from(self.noise.to_le_bytes()[3]) / 255
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// Follows one read by blocking queries.
///
/// [`Watch::next`] resolves with the first value at once and then with every value that differs from the last one.
/// Index rules: a lower index than before, or any error, starts over from 0; an equal index is no news. Errors are
/// handed out so that the caller can say so; calling again retries after a growing pause.
#[derive(Debug)]
pub struct Watch<T> {
    wait: Duration,
    /// What the next query asks to wait behind.
    index: u64,
    /// Of the last answer.
    seen_at: u64,
    last: Option<T>,
    backoff: Backoff,
    patience: Patience,
    failed: bool,
}

/// Answers without news that are followed by the next query at once; beyond them a registry that answers blocking
/// queries without news is asked at most every [`NO_NEWS_PAUSE`]. So a few needless wakes delay no change, and a
/// registry that does not wait at all is not hammered.
const NO_NEWS_BURST: u32 = 10;
const NO_NEWS_PAUSE: Duration = Duration::from_millis(100);

/// A token bucket: [`NO_NEWS_BURST`] at once, one more every [`NO_NEWS_PAUSE`].
#[derive(Debug)]
struct Patience {
    left: u32,
    refilled: tokio::time::Instant,
}

impl Patience {
    fn new() -> Self {
        Self { left: NO_NEWS_BURST, refilled: tokio::time::Instant::now() }
    }

    /// Takes a token; waits for one if there is none.
    async fn spend(&mut self) {
        let pauses = self.refilled.elapsed().as_millis() / NO_NEWS_PAUSE.as_millis();
        if pauses > 0 {
            self.left = self.left.saturating_add(u32::try_from(pauses).unwrap_or(u32::MAX)).min(NO_NEWS_BURST);
            self.refilled = tokio::time::Instant::now();
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => tokio::time::sleep(NO_NEWS_PAUSE).await,
        }
    }
}

impl<T: PartialEq + Clone> Watch<T> {
    /// A watch whose single queries wait at most `wait`.
    pub fn new(wait: Duration) -> Self {
        Self {
            wait,
            index: 0,
            seen_at: 0,
            last: None,
            backoff: Backoff::new(),
            patience: Patience::new(),
            failed: false,
        }
    }

    /// The next new value of what `read` asks for.
    ///
    /// # Errors
    /// What `read` gave. The next call pauses, then starts over; the last value stays the one to differ from.
    pub async fn next<F>(&mut self, mut read: impl FnMut(Option<Wait>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Read<T>, Error>>,
    {
        if self.failed {
            tokio::time::sleep(self.backoff.delay()).await;
        }
        loop {
            let wait = (self.index > 0).then_some(Wait { index: self.index, wait: self.wait });
            let got = match read(wait).await {
                Ok(got) => got,
                Err(error) => {
                    self.index = 0;
                    self.failed = true;
                    return Err(error);
                }
            };
            self.failed = false;
            self.backoff.reset();
            // A lower index is another life of the registry; 0 would make the next query not wait at all.
            self.seen_at = got.index;
            self.index = if got.index < self.index { 0 } else { got.index.max(1) };
            if self.last.as_ref() != Some(&got.value) {
                self.last = Some(got.value.clone());
                return Ok(got.value);
            }
            self.patience.spend().await;
        }
    }

    /// The index of the last answer; 0 before the first.
    pub fn seen_at(&self) -> u64 {
        self.seen_at
    }

    /// The last value handed out.
    pub fn last(&self) -> Option<&T> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::VecDeque};

    /// Plays `answers` (index, value) and tells with which index each was asked for.
    async fn follow(answers: &[(u64, &'static str)], values: usize) -> (Vec<u64>, Vec<&'static str>) {
        let script = RefCell::new(answers.iter().copied().collect::<VecDeque<_>>());
        let asked = RefCell::new(Vec::new());
        let mut watch = Watch::new(Duration::from_mins(1));
        let mut got = Vec::new();
        while got.len() < values {
            let next = watch
                .next(async |wait: Option<Wait>| {
                    asked.borrow_mut().push(wait.map_or(0, |w| w.index));
                    let (index, value) = script.borrow_mut().pop_front().expect("script is long enough");
                    if value == "error" {
                        return Err(Error::Address { address: String::new(), why: String::new() });
                    }
                    Ok(Read { index, value })
                })
                .await;
            got.extend(next);
        }
        (asked.into_inner(), got)
    }

    #[tokio::test(start_paused = true)]
    async fn gives_each_new_value_once() {
        let (asked, got) = follow(&[(5, "a"), (5, "a"), (6, "a"), (9, "b")], 2).await;
        assert_eq!(asked, [0, 5, 5, 6]);
        assert_eq!(got, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn starts_over_when_the_index_goes_back_or_a_call_fails() {
        let (asked, got) = follow(&[(50, "a"), (7, "a"), (7, "b"), (0, "error"), (9, "c")], 3).await;
        assert_eq!(asked, [0, 50, 0, 7, 0]);
        assert_eq!(got, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_answers_without_news_delay_nothing_and_many_are_slowed_down() {
        let started = tokio::time::Instant::now();
        let mut answers: Vec<_> = (1..=8).map(|index| (index, "a")).collect();
        answers.push((9, "b"));
        follow(&answers, 2).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        answers.splice(8.., (9..=30).map(|index| (index, "a")).chain([(31, "b")]));
        follow(&answers, 2).await;
        assert!(started.elapsed() >= NO_NEWS_PAUSE * 10, "{:?}", started.elapsed());
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_resets() {
        let mut backoff = Backoff::between(Duration::from_millis(100), Duration::from_secs(1));
        let near = |d: Duration, ms: u128| (ms * 3 / 4..=ms * 5 / 4).contains(&d.as_millis());
        for ms in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.delay();
            assert!(near(delay, ms), "{delay:?} is not near {ms} ms");
        }
        backoff.reset();
        assert!(near(backoff.delay(), 100));
    }
}
