//! When the next snapshot is due, and which ones are not kept. Pure: it goes by the names of the files that are there, so
//! that an agent that is started again and again neither skips snapshots nor takes more of them.

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Of the names of files; nothing else is ever removed.
const NAME: &str = "kvstore-%Y%m%dT%H%M%SZ.snap";

/// What a file is called that is not whole yet.
pub(super) const UNFINISHED: &str = ".unfinished";

/// The name of a snapshot taken then.
pub(super) fn name(at: Timestamp) -> String {
    at.strftime(NAME).to_string()
}

/// When the snapshot of this name was taken; none if it is no name of ours.
pub(super) fn taken_at(file: &str) -> Option<Timestamp> {
    let at = DateTime::strptime(NAME, file).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    (name(at) == file).then_some(at)
}

/// How long from `now` on there is time until the next one, if those are there.
pub(super) fn due_in(there: &[Timestamp], every: Duration, now: Timestamp) -> Duration {
    let Some(newest) = there.iter().max() else { return Duration::ZERO };
    match Duration::try_from(now.duration_since(*newest)) {
        Ok(age) => every.saturating_sub(age),
        // Of the future: a clock was set back. What that may be off by does not put off the next one.
        Err(_) => every,
    }
}

/// Those beyond the newest `keep`.
pub(super) fn surplus(mut there: Vec<Timestamp>, keep: usize) -> Vec<Timestamp> {
    there.sort_unstable_by(|a, b| b.cmp(a));
    there.split_off(keep.min(there.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_our_own_names_are_known() {
        let file = "kvstore-20260102T030405Z.snap";
        assert_eq!(taken_at(file).map(name).as_deref(), Some(file));
        for other in [
            "",
            "kvstore-20260102T030405Z.snap.unfinished",
            "kvstore-20260102T030405Z.snap~",
            "kvstore-2026012T030405Z.snap",
            "kvstore-20261302T030405Z.snap",
            "kvstore- 20260102T030405Z.snap",
            "backup.snap",
            "../kvstore-20260102T030405Z.snap",
            "KVSTORE-20260102T030405Z.snap",
        ] {
            assert_eq!(taken_at(other), None, "{other}");
        }
    }

    #[test]
    fn the_next_one_is_due_after_the_newest() {
        for (there, now, due) in [
            (&[][..], 1000, 0),
            (&[1000], 1000, 60),
            (&[1000, 940], 1010, 50),
            (&[940, 1000], 1060, 0),
            (&[1000], 9000, 0),
            (&[5000], 1000, 60),
        ] {
            let there: Vec<_> = there.iter().copied().map(at).collect();
            assert_eq!(due_in(&there, Duration::from_mins(1), at(now)), Duration::from_secs(due), "{there:?} {now}");
        }
    }

    #[test]
    fn the_oldest_go() {
        for (there, keep, gone) in
            [(&[][..], 2, &[][..]), (&[1, 2], 2, &[]), (&[2, 4, 1, 3], 2, &[2, 1]), (&[1, 2], 1, &[1])]
        {
            let stamps = |seconds: &[i64]| seconds.iter().copied().map(at).collect::<Vec<_>>();
            assert_eq!(surplus(stamps(there), keep), stamps(gone), "{there:?} {keep}");
        }
    }
}
