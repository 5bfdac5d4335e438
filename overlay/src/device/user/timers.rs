//! What time brings: handshakes sent again or renewed, keepalives, old keys forgotten.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use boringtun::noise::{TunnResult, errors::WireGuardError};

use super::{
    Shared,
    packet::NOT_ECT,
    remote::{Remote, Tunnel, Which},
};

/// WireGuard's own times are whole seconds.
const TICK: Duration = Duration::from_millis(250);

/// Runs until the other end of `closed` is dropped.
pub(super) fn run(shared: &Shared, closed: &Receiver<()>) {
    while closed.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        shared.limiter.reset_count();
        for remote in shared.table.load().all() {
            tick(shared, remote);
        }
    }
}

fn tick(shared: &Shared, remote: &Remote) {
    remote.tunnel().forget_expired();
    for which in [Which::Now, Which::Before] {
        let mut place = [0; 256];
        let mut tunnel = remote.tunnel();
        let Some(to) = tunnel.endpoint else { return };
        if let Some(length) = due(&mut tunnel, which, &mut place) {
            tunnel.sent_at = Some(Instant::now());
            drop(tunnel);
            shared.send(to, &place[..length], length, NOT_ECT);
        }
    }
}

/// The length of what is to be sent now.
fn due(tunnel: &mut Tunnel, which: Which, place: &mut [u8]) -> Option<usize> {
    let (changes, keepalive, sent_at) = (tunnel.changes(), tunnel.keepalive, tunnel.sent_at);
    let length = |result: TunnResult<'_>| match result {
        TunnResult::WriteToNetwork(message) => Some(message.len()),
        _ => None,
    };
    let tunn = tunnel.tunn(which)?;
    match tunn.update_timers(place) {
        TunnResult::Done | TunnResult::Err(WireGuardError::ConnectionExpired) => {}
        result => return length(result),
    }
    let has_session = tunn.time_since_last_handshake().is_some();
    // The new one gets its session at once.
    if changes && which == Which::Now {
        return length(tunn.format_handshake_initiation(place, false));
    }
    let due = keepalive.is_some_and(|k| sent_at.is_none_or(|sent| sent.elapsed() >= k));
    match due {
        false => None,
        // An empty packet; or, where there is no session to send it in, a handshake.
        true if has_session => length(tunn.encapsulate(&[], place)),
        true => length(tunn.format_handshake_initiation(place, false)),
    }
}
