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

/// A peer.
pub(super) struct Remote {
    pub(super) key: PublicKey,
    /// What its sessions' numbers begin with; they end with eight bits that count.
    index: u32,
    preshared: PresharedKey,
    tunnel: Mutex<Tunnel>,
    /// Bytes of packets, not of datagrams.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// What both directions need of a peer.
pub(super) struct Tunnel {
    pub(super) tunn: Tunn,
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

impl Tunnel {
    /// A message of a handshake was answered: the first of them, or the last, which only who has all secrets can.
    pub(super) fn step(&mut self, first: bool) {
        self.answered = first;
        if !first {
            self.shaken = Some(Instant::now());
        }
    }

    /// A datagram came by a session.
    pub(super) fn confirm(&mut self) {
        if std::mem::take(&mut self.answered) {
            self.shaken = Some(Instant::now());
        }
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
            let remote = match self.keys.get(&peer.key) {
                Some(kept) if kept.preshared == peer.preshared => kept.clone(),
                _ => Arc::new(Remote::new(peer, self.free_index(&table), own, limiter)),
            };
            for net in &peer.allowed {
                table.routes.insert(network(*net), remote.clone());
            }
            remote.update(peer);
            table.indexes.insert(remote.index, remote.clone());
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
    fn new(peer: &Peer, index: u32, own: &PrivateKey, limiter: &Arc<RateLimiter>) -> Self {
        let key = x25519_dalek::PublicKey::from(*peer.key.as_bytes());
        let preshared = Some(*peer.preshared.as_bytes());
        // Keepalives are ours to send, so that they can be changed without a new session.
        let tunn = Tunn::new(own.secret().clone(), key, preshared, None, index, Some(limiter.clone()));
        let tunnel = Tunnel {
            tunn,
            endpoint: peer.endpoint,
            given: peer.endpoint,
            keepalive: peer.keepalive,
            sent_at: None,
            waiting: false,
            shaken: None,
            answered: false,
        };
        Self {
            key: peer.key,
            index,
            preshared: peer.preshared.clone(),
            tunnel: Mutex::new(tunnel),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }
}

fn network(net: IpNet) -> IpNetwork {
    let net = net.trunc();
    IpNetwork::new(net.network(), net.prefix_len()).expect("no host bits are left")
}
