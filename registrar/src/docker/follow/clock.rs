//! Docker's clock, as far as it is known between two of its answers.

use tokio::time::Instant;

/// What Docker's clock showed at a moment of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) at: Instant,
    pub(super) time: i64,
}

impl Clock {
    pub(super) fn now(self) -> i64 {
        let passed = i64::try_from(self.at.elapsed().as_nanos()).unwrap_or(i64::MAX);
        if self.time == 0 { 0 } else { self.time.saturating_add(passed) }
    }
}
