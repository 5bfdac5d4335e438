//! The peers as the threads see them: who is behind an address, whose a session is. A table is never changed, only
//! replaced by another, which shares with it the peers that stay; so no thread waits for it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use boringtun::noise::{Tunn, rate_limiter::RateLimiter};
use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::IpNet;

use crate::{
    device::{Peer, PeerStatus},
    keys::{PresharedKey, PrivateKey, PublicKey},
};

/// What was sealed by the sessions of before comes in for this long after the others are there.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A peer.
pub(super) struct Remote {
    pub(super) key: PublicKey,
    tunnel: Mutex<Tunnel>,
    /// Bytes of packets, not of datagrams.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// WireGuard with a peer, by one preshared key.
struct Wire {
    tunn: Tunn,
    /// What its sessions' numbers begin with; they end with eight bits that count.
    index: u32,
    preshared: PresharedKey,
}

/// What both directions need of a peer.
pub(super) struct Tunnel {
    wire: Wire,
    /// The one with the preshared key of before. It carries, and answers, until the peer has shown that it has the new
    /// one, so that the two hosts need not change theirs at the same moment; then what is on its way is still taken.
    before: Option<Wire>,
    /// When the peer has shown it.
    shown: Option<Instant>,
    /// Where it was heard from last, or is tried.
    pub(super) endpoint: Option<SocketAddr>,
    /// Where it was said to be.
    given: Option<SocketAddr>,
    pub(super) keepalive: Option<Duration>,
    /// When it last got a datagram; none before the first.
    pub(super) sent_at: Option<Instant>,
    /// Whether packets wait for the end of a handshake.
    pub(super) waiting: bool,
    /// When a handshake was last known to have succeeded on both sides.
    shaken: Option<Instant>,
    /// Whether the peer's handshake was answered, and the peer did not show yet that it has the same secrets.
    answered: bool,
}

/// Which of the two of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Now,
    Before,
}

impl Tunnel {
    /// The one that carries packets to the peer.
    pub(super) fn carrier(&mut self) -> &mut Tunn {
        match &mut self.before {
            Some(before) if self.shown.is_none() => &mut before.tunn,
            _ => &mut self.wire.tunn,
        }
    }

    /// That one, if it is there.
    pub(super) fn tunn(&mut self, which: Which) -> Option<&mut Tunn> {
        match which {
            Which::Now => Some(&mut self.wire.tunn),
            Which::Before => self.before.as_mut().map(|before| &mut before.tunn),
        }
    }

    /// Whose the session of this number is.
    pub(super) fn of_session(&self, session: u32) -> Which {
        let before = self.before.as_ref().is_some_and(|before| before.index == session >> 8);
        if before { Which::Before } else { Which::Now }
    }

    /// Whether the peer has yet to show that it has the new preshared key.
    pub(super) fn changes(&self) -> bool {
        self.before.is_some() && self.shown.is_none()
    }

    /// Forgets the one of before when it is over.
    pub(super) fn forget_expired(&mut self) {
        let late = self.shown.is_some_and(|then| then.elapsed() > ON_ITS_WAY);
        self.before.take_if(|before| late || before.tunn.time_since_last_handshake().is_none());
    }

    /// A message of a handshake was answered: the first of them, or the last, which only who has all secrets can.
    pub(super) fn step(&mut self, which: Which, first: bool) {
        if which == Which::Now {
            self.answered = first;
        }
        if !first {
            self.shaken(which);
        }
    }

    /// A datagram came by a session.
    pub(super) fn confirm(&mut self, which: Which) {
        if which == Which::Now && std::mem::take(&mut self.answered) {
            self.shaken(which);
        }
    }

    fn shaken(&mut self, which: Which) {
        self.shaken = Some(Instant::now());
        if which == Which::Now {
            self.shown.get_or_insert_with(Instant::now);
        }
    }

    /// Has the peer from now on another preshared key.
    fn renew(&mut self, wire: Wire) {
        let old = std::mem::replace(&mut self.wire, wire);
        self.answered = false;
        // Of two changes before the peer has followed the first, the first is good for nothing.
        if !self.changes() {
            self.before = Some(old).filter(|old| old.tunn.time_since_last_handshake().is_some());
        }
        self.shown = None;
    }
}

impl Wire {
    fn new(peer: &Peer, index: u32, own: &PrivateKey, limiter: &Arc<RateLimiter>) -> Self {
        let key = x25519_dalek::PublicKey::from(*peer.key.as_bytes());
        let preshared = Some(*peer.preshared.as_bytes());
        // Keepalives are ours to send, so that they can be changed without a new session.
        let tunn = Tunn::new(own.secret().clone(), key, preshared, None, index, Some(limiter.clone()));
        Self { tunn, index, preshared: peer.preshared.clone() }
    }
}

impl Remote {
    /// Held for the sealing or opening of one packet.
    pub(super) fn tunnel(&self) -> MutexGuard<'_, Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, peer: &Peer) {
        let mut tunnel = self.tunnel();
        tunnel.keepalive = peer.keepalive;
        if tunnel.given != peer.endpoint {
            tunnel.given = peer.endpoint;
            tunnel.endpoint = peer.endpoint.or(tunnel.endpoint);
        }
    }

    pub(super) fn status(&self) -> PeerStatus {
        let tunnel = self.tunnel();
        PeerStatus {
            key: self.key,
            endpoint: tunnel.endpoint,
            handshake: tunnel.shaken.map(|at| at.elapsed()),
            received_bytes: self.received.load(Relaxed),
            sent_bytes: self.sent.load(Relaxed),
        }
    }
}

/// All peers, by what they are looked for.
pub(super) struct Table {
    indexes: HashMap<u32, Arc<Remote>>,
    keys: HashMap<PublicKey, Arc<Remote>>,
    routes: IpNetworkTable<Arc<Remote>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { indexes: HashMap::new(), keys: HashMap::new(), routes: IpNetworkTable::new() }
    }
}

impl Table {
    /// The table of `peers`, who have no prefix in common, and keep their sessions if they were in this one.
    pub(super) fn with(&self, peers: &[Peer], own: &PrivateKey, limiter: &Arc<RateLimiter>) -> Self {
        let mut table = Self::default();
        for peer in peers {
            let wire = || Wire::new(peer, self.free_index(&table), own, limiter);
            let remote = match self.keys.get(&peer.key) {
                Some(kept) => {
                    if kept.tunnel().wire.preshared != peer.preshared {
                        kept.tunnel().renew(wire());
                    }
                    kept.clone()
                }
                None => Arc::new(Remote::new(peer, wire())),
            };
            for net in &peer.allowed {
                table.routes.insert(network(*net), remote.clone());
            }
            remote.update(peer);
            for index in remote.indexes() {
                table.indexes.insert(index, remote.clone());
            }
            table.keys.insert(peer.key, remote);
        }
        table
    }

    /// One that is in neither table, so that no datagram of a peer who left is taken for one of another.
    fn free_index(&self, other: &Self) -> u32 {
        let taken = |index| self.indexes.contains_key(&index) || other.indexes.contains_key(&index);
        std::iter::repeat_with(|| rand::random::<u32>() >> 8).find(|index| !taken(*index)).expect("there are 2^24")
    }

    /// Whose the session of this number is.
    pub(super) fn of_session(&self, session: u32) -> Option<&Arc<Remote>> {
        self.indexes.get(&(session >> 8))
    }

    pub(super) fn of_key(&self, key: &PublicKey) -> Option<&Arc<Remote>> {
        self.keys.get(key)
    }

    /// Behind whom this address is.
    pub(super) fn behind(&self, address: IpAddr) -> Option<&Arc<Remote>> {
        match address {
            IpAddr::V4(address) => self.routes.longest_match_ipv4(address).map(|(_, remote)| remote),
            IpAddr::V6(address) => self.routes.longest_match_ipv6(address).map(|(_, remote)| remote),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.keys.values()
    }
}

impl Remote {
    fn new(peer: &Peer, wire: Wire) -> Self {
        let tunnel = Tunnel {
            wire,
            before: None,
            shown: None,
            endpoint: peer.endpoint,
            given: peer.endpoint,
            keepalive: peer.keepalive,
            sent_at: None,
            waiting: false,
            shaken: None,
            answered: false,
        };
        let (key, tunnel) = (peer.key, Mutex::new(tunnel));
        Self { key, tunnel, sent: AtomicU64::new(0), received: AtomicU64::new(0) }
    }

    fn indexes(&self) -> Vec<u32> {
        let tunnel = self.tunnel();
        tunnel.before.iter().chain([&tunnel.wire]).map(|wire| wire.index).collect()
    }
}

fn network(net: IpNet) -> IpNetwork {
    let net = net.trunc();
    IpNetwork::new(net.network(), net.prefix_len()).expect("no host bits are left")
}
