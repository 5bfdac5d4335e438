//! What the data plane and the routes are to be. Pure: from what is believed, and which peers are heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use ring::digest::{SHA256, digest};

use crate::{
    device::Peer,
    lans,
    network::NodeId,
    paths::Graph,
    record::Key,
    secret::Keyring,
    world::{Now, World},
};

/// So often a peer hears from us at least, so that a NAT in between keeps the way open.
const KEEPALIVE: Duration = Duration::from_secs(25);

/// This host's own address in the tunnel, which nobody else can have: a hash of its id below a fixed prefix of RFC 4193.
/// It is never passed on by others, so that who answers there is reached without one between.
pub fn tunnel_address(node: NodeId) -> Ipv6Addr {
    let hash = digest(&SHA256, &[b"overlay/v1 address".as_slice(), &node.0].concat());
    let low = u64::from_be_bytes(hash.as_ref()[..8].try_into().expect("32 bytes have 8"));
    Ipv6Addr::from(0xfd66_6c6f_7469_6c6c_u128 << 64 | u128::from(low))
}

/// What this host itself knows.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// This host.
    pub me: NodeId,
    /// Which peers answer without one between; who is not in it has not been asked yet.
    pub heard: &'a BTreeMap<NodeId, bool>,
    /// Where each is to be tried.
    pub endpoints: &'a BTreeMap<NodeId, SocketAddr>,
}

/// What is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For the data plane.
    pub peers: Vec<(NodeId, Peer)>,
    /// Through whom each host is reached that is not reached directly.
    pub relayed: BTreeMap<NodeId, NodeId>,
    /// Through whom each subnet is reached that is behind a host; this host itself among them.
    pub lans: BTreeMap<Ipv4Net, NodeId>,
    /// Whose each [`tunnel_address`] is.
    pub addresses: BTreeMap<Ipv6Addr, NodeId>,
}

/// The peers of `view.me`, each with what is behind it.
pub fn plan(world: &World, keyring: &Keyring, view: &View<'_>, now: Now) -> Plan {
    if world.evicted(view.me) || world.node(view.me).is_some_and(|node| node.left) {
        return Plan::default();
    }
    let members: BTreeMap<NodeId, _> = world.members(now).filter(|(id, _)| *id != view.me).collect();
    let next = next_hops(world, view, now);
    let lans = lans::carriers(&lans::offered(world, now), view.me, |id| next.contains_key(&id));
    let mut behind: BTreeMap<NodeId, BTreeSet<IpNet>> = BTreeMap::new();
    for (net, owner) in owned(world, view.me, &lans, now) {
        // Who is reached by nobody is tried directly.
        let through = next.get(&owner).copied().filter(|hop| members.contains_key(hop)).unwrap_or(owner);
        behind.entry(through).or_default().insert(net);
    }
    let mine = world.record(&Key::Node(view.me)).map_or(keyring.current().epoch(), |record| record.epoch);
    let peer = |id: NodeId| {
        let record = world.record(&Key::Node(id))?;
        let mut allowed = behind.get(&id).cloned().unwrap_or_default();
        allowed.insert(IpNet::new(tunnel_address(id).into(), 128).expect("128 bits"));
        let peer = Peer {
            key: record.by.wireguard,
            preshared: keyring.preshared(view.me, id, mine.min(record.epoch)),
            endpoint: view.endpoints.get(&id).copied(),
            allowed,
            keepalive: Some(KEEPALIVE),
        };
        Some((id, peer))
    };
    let peers: Vec<_> = members.keys().filter_map(|id| peer(*id)).collect();
    let addresses = peers.iter().map(|(id, _)| (tunnel_address(*id), *id)).collect();
    let relayed = next.into_iter().filter(|(id, hop)| id != hop && members.contains_key(id)).collect();
    Plan { peers, relayed, lans, addresses }
}

/// The prefixes of others, each of one of them.
fn owned(world: &World, me: NodeId, lans: &BTreeMap<Ipv4Net, NodeId>, now: Now) -> BTreeMap<IpNet, NodeId> {
    let mut owned = BTreeMap::new();
    for (block, (_, holder)) in world.holders(now) {
        owned.insert(IpNet::V4(block.v4), holder);
        owned.insert(IpNet::V6(block.v6), holder);
    }
    owned.extend(lans.iter().map(|(lan, carrier)| (IpNet::V4(*lan), *carrier)));
    owned.retain(|_, owner| *owner != me);
    owned
}

fn next_hops(world: &World, view: &View<'_>, now: Now) -> BTreeMap<NodeId, NodeId> {
    let members: BTreeMap<NodeId, bool> = world.members(now).map(|(id, node)| (id, node.relay)).collect();
    let mut graph = Graph::default();
    for (from, not_to) in world.cut_off().filter(|(from, _)| members.contains_key(from)) {
        // A link is there if neither end says that it is not.
        not_to.iter().filter(|to| members.contains_key(to)).for_each(|to| graph.set(from, *to, false));
    }
    graph.relays = members.iter().filter(|(_, relay)| **relay).map(|(id, _)| *id).collect();
    graph.hosts = members.keys().copied().chain([view.me]).collect();
    // Of our own links we know more, and sooner.
    for id in members.keys().filter(|id| **id != view.me) {
        graph.set(view.me, *id, view.heard.get(id).copied().unwrap_or(true));
    }
    graph.next_hops(view.me)
}

/// All the places where a host might be, also those where others hear it.
pub fn candidates(world: &World, id: NodeId, now: Now) -> Vec<crate::record::Candidate> {
    use crate::record::{Candidate, Source::Observed};
    let mut all = world.node(id).map(|node| node.endpoints.clone()).unwrap_or_default();
    let by_members = world.seen(id).filter(|(by, _)| world.is_member(*by, now));
    all.extend(by_members.map(|(_, address)| Candidate { source: Observed, address }));
    all
}

#[cfg(test)]
mod tests;
