//! What follows from what this host holds and from the plan: peers, rules, addresses and routes that are to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::error;

use super::Daemon;
use crate::{
    device::Peer,
    firewall::Rules,
    network::{Network, NetworkName},
    overlap,
    peers::tunnel_address,
    routes::Route,
    state::Held,
};

/// A network that this host leaves out.
pub(super) struct Refused {
    pub(super) name: NetworkName,
    pub(super) why: String,
}

/// What is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) peers: Vec<Peer>,
    pub(super) rules: Rules,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) routes: BTreeSet<Route>,
}

impl Daemon {
    /// What follows from what this host holds and from the plan.
    pub(super) fn wanted(&self, held: &Held) -> Wanted {
        let peers = self.plan.peers.iter().map(|(_, peer)| peer.clone());
        let peers: Vec<_> = peers.chain(self.client_peers()).collect();
        let networks: Vec<_> = held.networks.iter().map(|held| held.network.clone()).collect();
        let blocks: Vec<_> = held.networks.iter().flat_map(|held| held.blocks.iter().copied()).collect();
        let shared = held.networks.iter().filter(|held| !held.network.local);
        let mut addresses: BTreeSet<IpAddr> = [IpAddr::V6(tunnel_address(self.me()))].into();
        let mut routes = BTreeSet::new();
        let mut lans = BTreeSet::new();
        for held in shared {
            let first = held.blocks.first();
            addresses.extend(held.blocks.iter().flat_map(|b| [IpAddr::V4(b.gateway()), IpAddr::V6(b.gateway6())]));
            let (v4, v6) = (IpNet::V4(held.network.subnet), IpNet::V6(held.network.subnet6));
            for (to, source) in [(v4, first.map(|b| b.gateway().into())), (v6, first.map(|b| b.gateway6().into()))] {
                routes.insert(Route { to, tunnel: false, source: None, mtu: None });
                if first.is_some() {
                    routes.insert(Route { to, tunnel: true, source, mtu: None });
                }
            }
        }
        for peer in self.plan.peers.iter().flat_map(|(_, peer)| &peer.allowed) {
            let lan = !networks.iter().any(|network| within(network, peer.addr()));
            let taken = matches!(peer, IpNet::V4(v4) if lan && self.lan_is_taken(*v4).is_err());
            if lan && !taken {
                if let IpNet::V4(v4) = peer {
                    lans.insert(*v4);
                }
                let source = matches!(peer, IpNet::V6(_)).then(|| IpAddr::V6(tunnel_address(self.me())));
                routes.insert(Route { to: *peer, tunnel: true, source, mtu: None });
            }
        }
        routes.extend(self.narrow_routes(held));
        routes.extend(self.client_routes(|network| held.network(network)?.blocks.first().copied()));
        let own_lans = self.saved.lans.iter().map(|lan| lan.subnet).filter(|_| self.belongs()).collect();
        let rules = Rules { interface: self.config.interface.clone(), networks, blocks, lans, own_lans };
        Wanted { peers, rules, addresses, routes }
    }

    /// Leaves out the networks that meet an older one, or something else on this host.
    pub(super) fn refuse_clashes(&mut self) {
        let mut refused = BTreeMap::new();
        for (network, other) in self.world.left_out() {
            let (subnet, older) = (network.subnet, &other.name);
            let why =
                format!("its {subnet} overlaps with the network {older}, which was made before it; make it again");
            refused.insert(network.id, Refused { name: network.name.clone(), why });
        }
        for network in self.world.networks() {
            // What this host has addresses of is its own doing.
            if self.saved.blocks.iter().any(|holding| holding.network == network.id) {
                continue;
            }
            if let Some(other) = overlap::clash(network.subnet, self.tunnel.used()) {
                let subnet = network.subnet;
                let why =
                    format!("its {subnet} overlaps with {other}, which this host has a route to; remove one of them");
                refused.insert(network.id, Refused { name: network.name.clone(), why });
            }
        }
        for (_, Refused { name, why }) in refused.iter().filter(|(id, _)| !self.refused.contains_key(id)) {
            error!("network {name} is left out on this host: {why}");
        }
        self.refused = refused;
    }
}

/// Whether the address is one of the network's.
pub(super) fn within(network: &Network, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => network.subnet.contains(&v4),
        IpAddr::V6(v6) => network.subnet6.contains(&v6),
    }
}
