//! What peers are asked through the tunnel, every two seconds: whether they are there, and how large a packet gets
//! through to them. The routes follow from it.

use std::{collections::BTreeMap, net::Ipv6Addr, net::SocketAddr};

use ipnet::IpNet;
use tokio::time::Instant;

use super::Daemon;
use crate::{
    keys::PublicKey,
    mtu::{START, Way},
    network::NodeId,
    peers::tunnel_address,
    probe::EVERY,
    routes::Route,
    state::Held,
};

/// More than this between two rounds is more than questions and answers.
const BUSY_BYTES: u64 = 32 << 10;
/// Questions and answers are as long as each other; if so much more was sent than received, something large may be lost.
const UNANSWERED_BYTES: u64 = 1000;

/// The ways to all peers.
#[derive(Default)]
pub(super) struct Ways {
    ways: BTreeMap<NodeId, Found>,
    asked: Option<Instant>,
}

struct Found {
    way: Way,
    /// Where the peer was then: from another place there is another way.
    endpoint: Option<SocketAddr>,
    /// It was silent, and has not been heard since.
    lost: bool,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Daemon {
    /// A peer has answered a question of `size` bytes; 0 for the one whether it is there. True if that is news: most
    /// answers are what they were, and there are many of them.
    pub(super) fn answered(&mut self, address: Ipv6Addr, size: u16) -> bool {
        let Some(id) = self.plan.addresses.get(&address) else { return false };
        let heard = self.hearing.answered(*id, Instant::now());
        let Some(found) = self.ways.ways.get_mut(id) else { return heard };
        let before = found.way.size();
        found.way.answered(size);
        heard || found.way.size() != before
    }

    /// Asks all that it is time for; a new peer at once.
    pub(super) async fn ask(&mut self) {
        let now = Instant::now();
        let due = self.ways.asked.is_none_or(|then| now.duration_since(then) >= EVERY);
        if due {
            self.ways.asked = Some(now);
        }
        let peers: BTreeMap<NodeId, PublicKey> = self.plan.peers.iter().map(|(id, peer)| (*id, peer.key)).collect();
        self.ways.ways.retain(|id, _| peers.contains_key(id));
        let stats: BTreeMap<_, _> = self.tunnel.stats().into_iter().map(|stat| (stat.key, stat)).collect();
        let heard = self.hearing.heard(now);
        let mut questions = Vec::new();
        for (id, key) in peers {
            let (new, late) = (!self.ways.ways.contains_key(&id), self.hearing.is_late(id, now));
            if !due && !new && !late {
                continue;
            }
            let max = self.config.mtu.min(self.world.node(id).map_or(0, |node| node.mtu));
            let stat = stats.get(&key);
            let endpoint = stat.and_then(|stat| stat.endpoint);
            let (sent_bytes, received_bytes) = stat.map_or((0, 0), |stat| (stat.sent_bytes, stat.received_bytes));
            let heard = heard.get(&id).copied();
            let begin = || Found { way: Way::new(max), endpoint, lost: false, sent_bytes, received_bytes };
            let found = self.ways.ways.entry(id).or_insert_with(begin);
            // Where many packets are lost a few more show that there is a way all the same.
            questions.extend([(tunnel_address(id), 0); 3].into_iter().take(if late { 3 } else { 1 }));
            if found.endpoint != endpoint || found.lost && heard == Some(true) {
                *found = begin();
            }
            if !due && !new {
                continue;
            }
            let sent = sent_bytes.saturating_sub(found.sent_bytes);
            let received = received_bytes.saturating_sub(found.received_bytes);
            let busy = sent > BUSY_BYTES || sent > received + UNANSWERED_BYTES;
            found.lost |= heard == Some(false);
            (found.sent_bytes, found.received_bytes) = (sent_bytes, received_bytes);
            // Of who does not answer at all, nothing is to be learned; a new one may be about to.
            if heard == Some(true) || new {
                questions.extend(found.way.round(max, busy).into_iter().map(|size| (tunnel_address(id), size)));
            }
        }
        self.tunnel.ask(&questions).await;
    }

    /// How large a packet gets to a peer, and whether that is known; none where it is nobody's to know.
    pub(super) fn way(&self, id: NodeId) -> Option<(u16, bool)> {
        match self.plan.relayed.get(&id) {
            // What is behind the next host is not seen from here, but takes this, or tells the sender.
            Some(hop) => Some((self.ways.ways.get(hop)?.way.size().min(START), false)),
            None => self.ways.ways.get(&id).map(|found| (found.way.size(), found.way.is_known())),
        }
    }

    /// Routes to those whose ways take less than the interface does.
    pub(super) fn narrow_routes(&self, held: &Held) -> Vec<Route> {
        let mut routes = Vec::new();
        let shared = || held.networks.iter().filter(|held| !held.network.local);
        for (block, (_, holder)) in self.world.holders(self.now()) {
            let Some((held, first)) = shared()
                .find(|held| held.network.id == block.network)
                .and_then(|held| Some((held, held.blocks.first()?)))
            else {
                continue;
            };
            let Some((size, _)) = self.way(holder).filter(|(size, _)| *size < held.mtu) else { continue };
            let sources =
                [(IpNet::V4(block.v4), first.gateway().into()), (IpNet::V6(block.v6), first.gateway6().into())];
            // The kernel takes no smaller one for IPv6, which cannot be used there.
            routes.extend(sources.into_iter().map(|(to, source)| {
                let mtu = if to.addr().is_ipv6() { size.max(START) } else { size };
                Route { to, tunnel: true, source: Some(source), mtu: Some(u32::from(mtu)) }
            }));
        }
        routes
    }
}
