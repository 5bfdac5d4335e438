//! When to act on changes: at once after a calm, else when the changes pause. Pure: times are given, never read.

use std::time::{Duration, Instant};

/// How long to wait for quiet, and how long at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// Without a change for this long, the data count as complete.
    pub quiet: Duration,
    /// However busy it is, nothing waits longer than this.
    pub max: Duration,
}

impl Default for Debounce {
    /// 50 ms of quiet, 500 ms at most: a burst of registrations is one or two writes, and nobody waits noticeably.
    fn default() -> Self {
        Self { quiet: Duration::from_millis(50), max: Duration::from_millis(500) }
    }
}

/// Decides when the next pass is due.
///
/// The first change after a calm is due immediately (the leading edge). One that follows an effective pass or another
/// change within `quiet` waits until nothing has changed for `quiet`, but never longer than `max`.
#[derive(Clone, Debug)]
pub struct Quiescence {
    debounce: Debounce,
    /// The first and the last change that no pass has dealt with.
    waiting: Option<(Instant, Instant)>,
    /// The last change or effective pass before those: what "calm" counts from.
    busy: Option<Instant>,
}

impl Quiescence {
    /// Calm, with nothing to do.
    pub fn new(debounce: Debounce) -> Self {
        Self { debounce, waiting: None, busy: None }
    }

    /// Something changed.
    pub fn change(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
    }

    /// When the next pass should start; `None` if nothing has changed.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.waiting?;
        let calm = self.busy.is_none_or(|busy| first.saturating_duration_since(busy) >= self.debounce.quiet);
        Some(if calm { first } else { (last + self.debounce.quiet).min(first + self.debounce.max) })
    }

    /// A pass over all changes so far begins.
    pub fn begin(&mut self) {
        self.waiting = None;
    }

    /// The pass ended; `effective` if it changed the world. One that did not leaves the calm undisturbed.
    pub fn end(&mut self, now: Instant, effective: bool) {
        if effective {
            self.busy = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes at `changes` (ms), each pass taking no time and being effective; when do passes run?
    fn passes(changes: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut quiescence = Quiescence::new(Debounce::default());
        let mut ran = Vec::new();
        let mut run_until = |quiescence: &mut Quiescence, until: Option<Instant>| {
            while let Some(due) = quiescence.due().filter(|due| until.is_none_or(|until| *due <= until)) {
                quiescence.begin();
                quiescence.end(due, true);
                ran.push(u64::try_from((due - start).as_millis()).unwrap());
            }
        };
        for ms in changes {
            run_until(&mut quiescence, Some(at(ms)));
            quiescence.change(at(ms));
        }
        run_until(&mut quiescence, None);
        ran
    }

    #[test]
    fn a_lone_change_is_dealt_with_at_once() {
        assert_eq!(passes([1000]), [1000]);
        assert_eq!(passes([1000, 1060, 2000]), [1000, 1060, 2000]);
    }

    #[test]
    fn what_follows_closely_waits_for_quiet() {
        assert_eq!(passes([0, 10, 20, 30]), [0, 80]);
        assert_eq!(passes([0, 10, 100]), [0, 60, 150]);
    }

    #[test]
    fn a_storm_waits_for_max_and_ends_soon_after_its_last_change() {
        let ran = passes((0..1000).map(|i| i * 2));
        assert!(ran.len() <= 6, "{ran:?}");
        assert!((1998..=1998 + 50).contains(ran.last().unwrap()), "{ran:?}");
    }

    #[test]
    fn a_pass_without_effect_leaves_the_leading_edge_to_the_next_change() {
        let start = Instant::now();
        let mut quiescence = Quiescence::new(Debounce::default());
        quiescence.change(start);
        quiescence.begin();
        quiescence.end(start, false);
        assert_eq!(quiescence.due(), None);
        quiescence.change(start + Duration::from_millis(5));
        assert_eq!(quiescence.due(), Some(start + Duration::from_millis(5)));
    }
}
