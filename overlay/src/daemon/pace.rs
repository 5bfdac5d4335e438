//! When the plans are made anew: at once after something new, but after things that come in crowds once for all of them,
//! so that the time it takes does not grow with how many they are.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So long after it was done it is not done again.
const SHORTEST: Duration = Duration::from_millis(10);
/// So much longer than it took, so that most of the time is for hearing.
const SHARE: u32 = 4;
/// But it is never put off for longer.
const LONGEST: Duration = Duration::from_millis(200);

/// Whether there is anything new, and when it may be looked at.
#[derive(Default)]
pub(super) struct Pace {
    news: bool,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn news(&mut self) {
        self.news = true;
    }

    /// Until it is time; for ever, if there is nothing new.
    pub(super) async fn wait(&self) {
        match (self.news, self.not_before) {
            (false, _) => std::future::pending().await,
            (true, Some(then)) => sleep_until(then).await,
            (true, None) => {}
        }
    }

    /// All that was new until then was looked at.
    pub(super) fn stepped(&mut self, began: Instant, ended: Instant) {
        self.news = false;
        self.not_before = Some(ended + (SHARE * ended.duration_since(began)).clamp(SHORTEST, LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often plans are made that take `step` each, while there is something new every `every` until `end`.
    async fn steps(every: Duration, step: Duration, end: Duration) -> u32 {
        let (began, mut pace, mut steps) = (Instant::now(), Pace::default(), 0);
        let mut next = began;
        while began.elapsed() < end {
            tokio::select! {
                biased;
                () = sleep_until(next) => {
                    next += every;
                    pace.news();
                }
                () = pace.wait() => {
                    let now = Instant::now();
                    tokio::time::sleep(step).await;
                    pace.stepped(now, Instant::now());
                    steps += 1;
                }
            }
        }
        steps
    }

    #[tokio::test(start_paused = true)]
    async fn crowds_cost_one_plan_and_what_comes_alone_has_its_own_at_once() {
        let (ms, end) = (Duration::from_millis, Duration::from_secs(10));
        assert_eq!(steps(ms(1000), ms(1), end).await, 10, "one each");
        let quick = steps(ms(1), ms(1), end).await;
        assert!((800..=1000).contains(&quick), "ten thousand things, {quick} plans");
        let slow = steps(ms(1), ms(30), end).await;
        assert!((60..=70).contains(&slow), "a fifth of the time: {slow} plans");
        let slower = steps(ms(1), ms(300), end).await;
        assert!((19..=21).contains(&slower), "put off, but not for longer than it may: {slower} plans");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_new_is_no_plan() {
        let pace = Pace::default();
        assert!(tokio::time::timeout(Duration::from_secs(9), pace.wait()).await.is_err());
    }
}
