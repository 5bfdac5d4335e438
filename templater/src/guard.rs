//! When a loss is not believed at once. Pure: times are given.
//!
//! A registry that was away may come back without its data, or with a part of them, and so may one that elects a leader.
//! What it answers then is true of it and not of the services; who believed it would empty every proxy.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::values::Answer;

/// Which losses are held back, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropPolicy {
    /// A loss of more than this many percent is held back; without it only after a gap, of more than half.
    pub max_drop: Option<u8>,
    /// How long; then the registry is asked again, for what is certainly the newest, and believed.
    pub hold: Duration,
    /// The same if nothing at all is left after a gap.
    pub empty_hold: Duration,
}

impl Default for DropPolicy {
    /// Ten seconds are enough for registrars to fill a registry again; ten minutes are enough for people to look.
    fn default() -> Self {
        Self { max_drop: None, hold: Duration::from_secs(10), empty_hold: Duration::from_mins(10) }
    }
}

/// Judges the answers to one dependency.
#[derive(Debug)]
pub struct Guard {
    policy: DropPolicy,
    /// Whether the registry was out of contact since the last answer that was as before, or was believed. Told from
    /// within a query.
    gap: AtomicBool,
    until: Option<Instant>,
}

/// What is to be done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is used.
    Believe,
    /// The answer before stays in use, until this time at most; `true` if that is new.
    Hold(Instant, bool),
}

impl Guard {
    /// Nothing is held yet. `kept` if what is known comes from an earlier life, after which anything may be missed.
    pub fn new(policy: DropPolicy, kept: bool) -> Self {
        Self { policy, gap: kept.into(), until: None }
    }

    /// The registry did not answer.
    pub fn missed(&self) {
        self.gap.store(true, Ordering::Relaxed);
    }

    /// The registry says what it said before.
    pub fn unchanged(&self) {
        self.gap.store(false, Ordering::Relaxed);
    }

    fn gap(&self) -> bool {
        self.gap.load(Ordering::Relaxed)
    }

    /// Whether `after` is to take the place of `before`.
    pub fn judge(&mut self, before: Option<&Answer>, after: &Answer, now: Instant) -> Verdict {
        if !before.is_some_and(|before| self.is_too_much(before.len(), after.len())) {
            self.believed();
            return Verdict::Believe;
        }
        let hold = if self.gap() && after.is_empty() { self.policy.empty_hold } else { self.policy.hold };
        let new = self.until.is_none();
        Verdict::Hold(*self.until.get_or_insert(now + hold), new)
    }

    fn is_too_much(&self, before: usize, after: usize) -> bool {
        let max = match (self.policy.max_drop, self.gap()) {
            (Some(max), _) => max,
            (None, true) => 50,
            (None, false) => return false,
        };
        before.saturating_sub(after) * 100 > before * usize::from(max)
    }

    /// When to ask again, if something is held.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }

    /// It was asked again and did not answer.
    pub fn again(&mut self, now: Instant) {
        self.until = Some(now + self.policy.hold);
    }

    /// An answer is used, whatever it says.
    pub fn believed(&mut self) {
        self.unchanged();
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::tests::entry;

    fn of(count: usize) -> Answer {
        Answer::instances((0..count).map(|n| entry(&format!("i{n} 10.0.0.1:80 passing"))).collect())
    }

    const HOLD: Duration = Duration::from_secs(10);
    const EMPTY: Duration = Duration::from_mins(10);

    /// How long a drop is held.
    fn held(max_drop: Option<u8>, gap: bool, before: usize, after: usize) -> Option<Duration> {
        let mut guard = Guard::new(DropPolicy { max_drop, ..DropPolicy::default() }, false);
        if gap {
            guard.missed();
        }
        let now = Instant::now();
        match guard.judge(Some(&of(before)), &of(after), now) {
            Verdict::Believe => None,
            Verdict::Hold(until, _) => Some(until - now),
        }
    }

    #[test]
    fn what_is_lost_is_believed_unless_contact_was_lost_or_it_is_too_much() {
        let cases = [
            (None, false, 5, 0, None),
            (None, true, 5, 5, None),
            (None, true, 4, 2, None),
            (None, true, 5, 2, Some(HOLD)),
            (None, true, 5, 0, Some(EMPTY)),
            (None, true, 0, 0, None),
            (Some(20), false, 10, 8, None),
            (Some(20), false, 10, 7, Some(HOLD)),
            (Some(20), false, 1, 0, Some(HOLD)),
            (Some(100), true, 5, 0, None),
            (Some(0), false, 5, 6, None),
        ];
        for (max, gap, before, after, expected) in cases {
            assert_eq!(held(max, gap, before, after), expected, "{max:?} {gap} {before} -> {after}");
        }
    }

    #[test]
    fn a_gap_without_a_loss_leaves_no_suspicion() {
        let mut guard = Guard::new(DropPolicy::default(), true);
        guard.unchanged();
        assert_eq!(guard.judge(Some(&of(1)), &of(0), Instant::now()), Verdict::Believe);
    }

    #[test]
    fn a_hold_is_not_prolonged_by_more_of_the_same_and_ends_when_all_is_back() {
        let mut guard = Guard::new(DropPolicy::default(), true);
        let now = Instant::now();
        let first = guard.judge(Some(&of(5)), &of(0), now);
        assert_eq!(first, Verdict::Hold(now + EMPTY, true));
        assert_eq!(guard.judge(Some(&of(5)), &of(1), now + HOLD), Verdict::Hold(now + EMPTY, false));
        assert_eq!(guard.judge(Some(&of(5)), &of(5), now + HOLD), Verdict::Believe);
        assert_eq!((guard.due(), guard.judge(Some(&of(5)), &of(0), now)), (None, Verdict::Believe));
    }
}
