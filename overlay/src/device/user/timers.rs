//! What time brings: handshakes sent again or renewed, keepalives, old keys forgotten.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use boringtun::noise::{TunnResult, errors::WireGuardError};

use super::{Shared, packet::NOT_ECT, remote::Remote};

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
    let mut place = [0; 256];
    let mut tunnel = remote.tunnel();
    let Some(to) = tunnel.endpoint else { return };
    let result = match tunnel.tunn.update_timers(&mut place) {
        TunnResult::Done | TunnResult::Err(WireGuardError::ConnectionExpired) => {
            let due = tunnel.keepalive.is_some_and(|k| tunnel.sent_at.is_none_or(|sent| sent.elapsed() >= k));
            match due {
                false => return,
                // An empty packet; or, where there is no session to send it in, a handshake.
                true if tunnel.tunn.time_since_last_handshake().is_some() => tunnel.tunn.encapsulate(&[], &mut place),
                true => tunnel.tunn.format_handshake_initiation(&mut place, false),
            }
        }
        result => result,
    };
    if let TunnResult::WriteToNetwork(message) = result {
        tunnel.sent_at = Some(Instant::now());
        drop(tunnel);
        shared.send(to, message, message.len(), NOT_ECT);
    }
}
