//! Waiting for a socket or device, and for the end.

use std::{os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// After an error that may last.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// After one that does not.
pub(super) const SHORT: Duration = Duration::from_millis(1);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Readable,
    Writable,
    /// The time alone.
    Nothing,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// What was waited for is there, or the time is up.
    Ready,
    /// The tunnel is to end.
    Closed,
}

impl Woken {
    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

/// Waits for `what` of `on`, at most as long as `limit`, or until `closed` hangs up.
pub(super) fn wait(on: &impl AsFd, what: Wait, limit: Option<Duration>, closed: &impl AsFd) -> Woken {
    let flags = match what {
        Wait::Readable => PollFlags::POLLIN,
        Wait::Writable => PollFlags::POLLOUT,
        Wait::Nothing => PollFlags::empty(),
    };
    let mut both = [PollFd::new(closed.as_fd(), PollFlags::POLLIN), PollFd::new(on.as_fd(), flags)];
    // An interface that is down hangs up all the time.
    let watched = if what == Wait::Nothing { &mut both[..1] } else { &mut both[..] };
    let limit = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    loop {
        match poll(watched, limit) {
            Err(Errno::EINTR) => {}
            Ok(_) if watched[0].any() == Some(true) => return Woken::Closed,
            // Without memory for it there is nothing better than to go on.
            Ok(_) | Err(_) => return Woken::Ready,
        }
    }
}
