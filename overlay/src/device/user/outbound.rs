//! From this host to the others: reads what the kernel sends into the interface, seals it, sends it in bursts.

use std::{io, net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Instant};

use boringtun::noise::TunnResult;

use super::{
    Shared,
    cut::{Unfit, cut},
    packet,
    remote::Remote,
    socket::BURST_BYTES,
    vnet::{self, Header},
    wait::Wait,
};

/// What WireGuard adds to a packet, in bytes.
const OVERHEAD: usize = 32;
/// The longest message of a handshake.
const HANDSHAKE_BYTES: usize = 148;

/// Runs until the tunnel is closed.
pub(super) fn run(shared: &Shared) {
    let mut read = vec![0; vnet::LENGTH + 65_535];
    let mut burst = Burst::new();
    loop {
        match shared.tun.recv(&mut read) {
            Ok(length) => take(shared, &mut read[..length], &mut burst),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                burst.flush(shared);
                // Also when the interface was taken down or away: until it is back there is nothing to read.
                let (until, pause) = if e.kind() == io::ErrorKind::WouldBlock {
                    (Wait::Readable, None)
                } else {
                    (Wait::Nothing, Some(super::wait::PAUSE))
                };
                if shared.wait(&shared.tun, until, pause).is_closed() {
                    return;
                }
            }
        }
    }
}

/// Deals with one read of the device.
fn take(shared: &Shared, read: &mut [u8], burst: &mut Burst) {
    let table = shared.table.load();
    let Some((header, whole)) = read.split_first_chunk_mut() else { return };
    let Ok(header) = Header::read(header) else { return shared.dropped.unfit(1) };
    let Some(destination) = packet::destination(whole) else { return shared.dropped.unfit(1) };
    let Some(remote) = table.behind(destination) else {
        // The kernel's own chatter of neighbours and routers is for nobody.
        if !destination.is_multicast() {
            shared.dropped.unroutable(1);
        }
        return;
    };
    let Some(to) = remote.tunnel().endpoint else { return shared.dropped.unroutable(1) };
    let way = Way { to, ecn: packet::ecn(whole), now: Instant::now() };
    let cut = cut(header, whole, |packet| burst.seal(shared, remote, way, packet));
    if cut == Err(Unfit) {
        shared.dropped.unfit(1);
    }
}

/// How the pieces of one packet go.
#[derive(Clone, Copy)]
struct Way {
    to: SocketAddr,
    /// The congestion mark: that of the packet inside. RFC 6040, section 4.1.
    ecn: u8,
    now: Instant,
}

/// Datagrams of one length for one peer, sealed, that go in one call of the system.
struct Burst {
    bytes: Vec<u8>,
    end: usize,
    to: Option<SocketAddr>,
    /// The congestion mark of all.
    ecn: u8,
    /// The length of all but the last.
    size: usize,
    count: usize,
}

impl Burst {
    fn new() -> Self {
        Self { bytes: vec![0; BURST_BYTES + HANDSHAKE_BYTES], end: 0, to: None, ecn: 0, size: 0, count: 0 }
    }

    /// Seals `packet` behind what is there; sends that first if the two cannot go together.
    fn seal(&mut self, shared: &Shared, remote: &Remote, way: Way, packet: &[u8]) {
        let Way { to, ecn, now } = way;
        let length = packet.len() + OVERHEAD;
        if !self.takes(to, ecn, length, shared.socket.most_at_once()) {
            self.flush(shared);
        }
        if length > BURST_BYTES {
            return shared.dropped.unfit(1);
        }
        let place = &mut self.bytes[self.end..self.end + length.max(HANDSHAKE_BYTES)];
        let mut tunnel = remote.tunnel();
        match tunnel.carrier().encapsulate(packet, place) {
            TunnResult::WriteToNetwork(sealed) if sealed[0] == 4 => {
                tunnel.sent_at = Some(now);
                drop(tunnel);
                remote.sent.fetch_add(packet.len() as u64, Relaxed);
                if self.count == 0 {
                    (self.to, self.ecn, self.size) = (Some(to), ecn, length);
                }
                self.end += length;
                self.count += 1;
            }
            // There is no session yet: the packet waits in the queue of the tunnel, which is bounded.
            TunnResult::WriteToNetwork(handshake) => {
                tunnel.waiting = true;
                tunnel.sent_at = Some(now);
                drop(tunnel);
                shared.send(to, handshake, handshake.len(), packet::NOT_ECT);
            }
            _ => tunnel.waiting = true,
        }
    }

    fn takes(&self, to: SocketAddr, ecn: u8, length: usize, most: usize) -> bool {
        self.count == 0
            || (self.to == Some(to)
                && self.ecn == ecn
                && length <= self.size
                // The last was shorter: nothing goes behind it.
                && self.end == self.count * self.size
                && self.count < most
                && self.end + length <= BURST_BYTES)
    }

    fn flush(&mut self, shared: &Shared) {
        if let Some(to) = self.to.take() {
            shared.send_all(to, &self.bytes[..self.end], self.size, self.ecn);
        }
        (self.end, self.count) = (0, 0);
    }
}
