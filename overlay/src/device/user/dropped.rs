//! What was dropped, by why.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use boringtun::noise::errors::WireGuardError;

use crate::device::Dropped;

#[derive(Default)]
pub(super) struct Counters {
    malformed: AtomicU64,
    replayed: AtomicU64,
    spoofed: AtomicU64,
    unroutable: AtomicU64,
    unfit: AtomicU64,
    unsent: AtomicU64,
}

impl Counters {
    /// A datagram that the protocol refuses.
    pub(super) fn refused(&self, why: &WireGuardError) {
        let counter = match why {
            WireGuardError::DuplicateCounter
            | WireGuardError::InvalidCounter
            | WireGuardError::WrongTai64nTimestamp => &self.replayed,
            _ => &self.malformed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn spoofed(&self, n: u64) {
        self.spoofed.fetch_add(n, Relaxed);
    }

    pub(super) fn unroutable(&self, n: u64) {
        self.unroutable.fetch_add(n, Relaxed);
    }

    /// Packets of this host that are none, or not as the kernel says.
    pub(super) fn unfit(&self, n: u64) {
        self.unfit.fetch_add(n, Relaxed);
    }

    /// Packets that the system did not take.
    pub(super) fn unsent(&self, n: u64) {
        self.unsent.fetch_add(n, Relaxed);
    }

    pub(super) fn read(&self) -> Dropped {
        Dropped {
            malformed: self.malformed.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            spoofed: self.spoofed.load(Relaxed),
            unroutable: self.unroutable.load(Relaxed),
            unfit: self.unfit.load(Relaxed),
            unsent: self.unsent.load(Relaxed),
        }
    }
}
