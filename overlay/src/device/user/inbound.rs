//! From the others to this host: receives bursts, opens what is sealed, and hands packets to the kernel, joined.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use boringtun::noise::{Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon};
use quinn_udp::RecvMeta;

use super::{
    Shared,
    join::Joiner,
    packet::{self, CE, NOT_ECT},
    remote::{Remote, Table, Tunnel, Which},
    wait::Wait,
};
use crate::keys::PublicKey;

/// Datagrams of one size arrive in one buffer, so few are needed.
const BUFFERS: usize = 16;
const BUFFER_BYTES: usize = 65_536;

/// Runs until the tunnel is closed.
pub(super) fn run(shared: &Shared) {
    let mut memory = vec![0; BUFFERS * BUFFER_BYTES];
    let mut metas = [RecvMeta::default(); BUFFERS];
    let mut inbound =
        Inbound { shared, joiner: Joiner::new(shared.tun.udp_gso()), opened: vec![0; BUFFER_BYTES], honest: None };
    loop {
        let mut buffers: Vec<_> = memory.chunks_mut(BUFFER_BYTES).map(IoSliceMut::new).collect();
        match shared.socket.receive(&mut buffers, &mut metas) {
            Ok(filled) => {
                let table = shared.table.load();
                inbound.honest = None;
                for (buffer, meta) in buffers.iter().zip(&metas[..filled]) {
                    inbound.take(&table, &buffer[..meta.len], meta);
                }
                inbound.joiner.flush(|packet| shared.write(packet));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if shared.wait(&shared.socket, Wait::Readable, None).is_closed() {
                    return;
                }
            }
            // What the network said of a datagram sent before; there may be more to receive.
            Err(_) => {
                if shared.wait(&shared.socket, Wait::Nothing, Some(super::wait::SHORT)).is_closed() {
                    return;
                }
            }
        }
    }
}

struct Inbound<'a> {
    shared: &'a Shared,
    joiner: Joiner,
    /// Where a datagram is opened.
    opened: Vec<u8>,
    /// By the table in use: an address, and the key of the peer behind it.
    honest: Option<(IpAddr, PublicKey)>,
}

impl Inbound<'_> {
    /// Deals with the datagrams that arrived in one buffer.
    fn take(&mut self, table: &Table, bytes: &[u8], meta: &RecvMeta) {
        if bytes.is_empty() {
            self.shared.dropped.refused(&WireGuardError::InvalidPacket);
        }
        let ecn = meta.ecn.map_or(NOT_ECT, |ecn| ecn as u8);
        for datagram in bytes.chunks(meta.stride.max(1)) {
            if let Err(why) = self.open(table, datagram, meta.addr, ecn) {
                self.shared.dropped.refused(&why);
            }
        }
    }

    fn open(&mut self, table: &Table, datagram: &[u8], from: SocketAddr, ecn: u8) -> Result<(), WireGuardError> {
        let session = match Tunn::parse_incoming_packet(datagram)? {
            Packet::PacketData(data) => data.receiver_idx,
            Packet::HandshakeInit(_) => {
                let Some(remote) = self.initiator(table, datagram, from)? else { return Ok(()) };
                // Until a change of secrets is through, by both: the peer takes the answer that it has the secret of.
                if remote.tunnel().changes() {
                    self.pass(table, &remote, Which::Before, datagram, from, ecn)?;
                }
                return self.pass(table, &remote, Which::Now, datagram, from, ecn);
            }
            Packet::HandshakeResponse(response) => {
                if !self.verify(datagram, from)? {
                    return Ok(());
                }
                response.receiver_idx
            }
            Packet::PacketCookieReply(reply) => reply.receiver_idx,
        };
        let remote = table.of_session(session).ok_or(WireGuardError::NoCurrentSession)?;
        let which = remote.tunnel().of_session(session);
        self.pass(table, remote, which, datagram, from, ecn)
    }

    /// Who begins a handshake; none if it has to prove its address first.
    fn initiator(
        &mut self,
        table: &Table,
        datagram: &[u8],
        from: SocketAddr,
    ) -> Result<Option<Arc<Remote>>, WireGuardError> {
        if !self.verify(datagram, from)? {
            return Ok(None);
        }
        let Packet::HandshakeInit(init) = Tunn::parse_incoming_packet(datagram)? else { return Ok(None) };
        let half = parse_handshake_anon(self.shared.key.secret(), &self.shared.public, &init)?;
        table.of_key(&PublicKey::new(half.peer_static_public)).cloned().ok_or(WireGuardError::WrongKey).map(Some)
    }

    /// Whether a message of a handshake is for this host, and, when there are too many of them, from where it says.
    /// If not it is told how to prove that: WireGuard's cookie.
    fn verify(&mut self, datagram: &[u8], from: SocketAddr) -> Result<bool, WireGuardError> {
        match self.shared.limiter.verify_packet(Some(from.ip()), datagram, &mut self.opened) {
            Ok(_) => Ok(true),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.shared.send(from, cookie, cookie.len(), NOT_ECT);
                Ok(false)
            }
            Err(TunnResult::Err(e)) => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Passes a datagram through the tunnel of the peer whose it claims to be.
    fn pass(
        &mut self,
        table: &Table,
        remote: &Arc<Remote>,
        which: Which,
        datagram: &[u8],
        from: SocketAddr,
        ecn: u8,
    ) -> Result<(), WireGuardError> {
        let mut tunnel = remote.tunnel();
        let Some(tunn) = tunnel.tunn(which) else { return Ok(()) };
        let packet = match tunn.decapsulate(Some(from.ip()), datagram, &mut self.opened) {
            TunnResult::WriteToTunnelV4(packet, source) => Some((packet, source.into())),
            TunnResult::WriteToTunnelV6(packet, source) => Some((packet, source.into())),
            TunnResult::WriteToNetwork(answer) => {
                // To the beginning of a handshake, or to its end.
                tunnel.step(which, answer[0] == 2);
                self.shared.send(from, answer, answer.len(), NOT_ECT);
                tunnel.sent_at = Some(Instant::now());
                // What waited for the session can go now.
                tunnel.waiting = true;
                None
            }
            TunnResult::Done => None,
            TunnResult::Err(e) => return Err(e),
        };
        if datagram[0] == 4 {
            tunnel.confirm(which);
        }
        // It proved to be the peer, so this is where it is now.
        tunnel.endpoint = Some(from);
        if tunnel.waiting {
            send_waiting(self.shared, &mut tunnel, from);
        }
        drop(tunnel);
        let Some((packet, source)) = packet else { return Ok(()) };
        if self.honest != Some((source, remote.key)) {
            if !table.behind(source).is_some_and(|owner| Arc::ptr_eq(owner, remote)) {
                self.shared.dropped.spoofed(1);
                return Ok(());
            }
            self.honest = Some((source, remote.key));
        }
        remote.received.fetch_add(packet.len() as u64, Relaxed);
        if ecn == CE {
            // RFC 6040, section 4.2: who would not understand the mark loses the packet instead.
            if packet::ecn(packet) == NOT_ECT {
                return Ok(());
            }
            packet::mark_congested(packet);
        }
        self.joiner.push(packet, |packet| self.shared.write(packet));
        Ok(())
    }
}

/// Sends what was queued while there was no session.
fn send_waiting(shared: &Shared, tunnel: &mut Tunnel, to: SocketAddr) {
    // A packet of the largest size, sealed.
    let mut place = vec![0; BUFFER_BYTES + 32];
    tunnel.waiting = false;
    while let TunnResult::WriteToNetwork(sealed) = tunnel.carrier().decapsulate(None, &[], &mut place) {
        let handshake = sealed[0] != 4;
        shared.send(to, sealed, sealed.len(), NOT_ECT);
        if handshake {
            tunnel.waiting = true;
            return;
        }
    }
}
