//! When a probe runs, and whether what it found is worth writing. Pure: times are given, counted from any one origin.

use std::time::Duration;

use kvstore_core::health::Status;

/// A new check's first run comes within this, however long its interval: who starts a container waits for it.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// How far apart the moments are at which probes begin.
const MOMENT: Duration = Duration::from_millis(50);

/// The first run of a check that appeared at `now`; `random` is in 0..1.
pub(in crate::agent) fn first(now: Duration, interval: Duration, random: f64) -> Duration {
    now + interval.min(FIRST_WITHIN).mul_f64(random)
}

/// The second run, which sets the check's place within its interval for good: anywhere, so that checks that came
/// together do not run together for ever.
pub(in crate::agent) fn second(now: Duration, interval: Duration, random: f64) -> Duration {
    now + interval.mul_f64(random)
}

/// The run after the one that was due at `due` and ended at `now`. What was missed meanwhile is not made up for.
pub(in crate::agent) fn next(due: Duration, now: Duration, interval: Duration) -> Duration {
    let late = now.saturating_sub(due);
    let missed = late.as_nanos() / interval.as_nanos().max(1);
    due + interval * u32::try_from(missed).unwrap_or(u32::MAX - 1).saturating_add(1)
}

/// When what is due at `due` is begun: at the next of a few moments a second, the same for all checks. So a host with
/// thousands of checks wakes for some of them together, connects for all of those, and writes their results together.
pub(in crate::agent) fn together(due: Duration) -> Duration {
    let missing = due.as_nanos().next_multiple_of(MOMENT.as_nanos()) - due.as_nanos();
    due + Duration::from_nanos(u64::try_from(missing).unwrap_or(0))
}

/// Whether a result is written: a new status at once; a new output alone at most every `every`.
pub(in crate::agent) fn worth_writing(
    old: (Status, &str),
    new: (Status, &str),
    since_last: Option<Duration>,
    every: Duration,
) -> bool {
    old.0 != new.0 || old.1 != new.1 && since_last.is_none_or(|since| since >= every)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Critical, Passing};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_run_is_soon_and_the_second_anywhere() {
        for (interval, random, expected) in [
            (s(10), 0.0, s(100)),
            (s(10), 0.5, Duration::from_millis(100_500)),
            (s(3600), 0.999, Duration::from_millis(100_999)),
            (Duration::from_millis(200), 0.5, Duration::from_millis(100_100)),
        ] {
            assert_eq!(first(s(100), interval, random), expected, "{interval:?} {random}");
        }
        assert_eq!(second(s(100), s(10), 0.5), s(105));
    }

    #[test]
    fn runs_keep_their_place_and_missed_ones_are_left_out() {
        for (due, now, interval, expected) in [
            (100, 100, 10, 110),
            (100, 103, 10, 110),
            (100, 110, 10, 120),
            (100, 119, 10, 120),
            (100, 1_000_003, 10, 1_000_010),
            (100, 99, 10, 110),
        ] {
            assert_eq!(next(s(due), s(now), s(interval)), s(expected), "{due} {now}");
        }
        assert!(next(s(1), s(2), Duration::ZERO) >= s(1));
    }

    #[test]
    fn what_is_due_about_the_same_time_begins_together() {
        for (due, begun) in [(0, 0), (1, 50), (49, 50), (50, 50), (51, 100), (100_000_001, 100_000_050)] {
            assert_eq!(together(Duration::from_millis(due)), Duration::from_millis(begun), "{due}");
        }
        assert_eq!(together(Duration::from_nanos(1)), MOMENT);
        assert!(together(s(u64::MAX / 2)) >= s(u64::MAX / 2));
    }

    #[test]
    fn a_status_is_written_at_once_and_an_output_now_and_then() {
        for (old, new, since, expected) in [
            ((Passing, "a"), (Passing, "a"), None, false),
            ((Passing, "a"), (Critical, "a"), Some(s(0)), true),
            ((Passing, "a"), (Passing, "b"), None, true),
            ((Passing, "a"), (Passing, "b"), Some(s(29)), false),
            ((Passing, "a"), (Passing, "b"), Some(s(30)), true),
        ] {
            assert_eq!(worth_writing(old, new, since, s(30)), expected, "{old:?} {new:?} {since:?}");
        }
    }
}
