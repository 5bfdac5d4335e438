//! Containers' attachments, and the ports of the host that lead to them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Book, Done, Endpoint, Network, Pair, Refusal, Step, World, blocks, held, networks, never,
    pools::{list, own_addresses},
};
use crate::{
    link::mac_of,
    plugin::protocol::{
        Answer, CreateEndpoint, EndpointRef, ExternalConnectivity, Id, PortMapping, Published, Sandbox,
    },
};

/// Ports that are chosen here; those that the system itself chooses from on its own account end before.
const CHOSEN: std::ops::RangeInclusive<u16> = 61_000..=65_535;

impl Book {
    pub(super) fn create_endpoint(&mut self, world: World<'_>, asked: &CreateEndpoint) -> Result<Done, Refusal> {
        let network = self.network(&asked.network)?;
        let addresses: Vec<IpNet> = [asked.interface.v4, asked.interface.v6].into_iter().flatten().collect();
        let Some(first) = addresses.first() else { return never("an address of IPv4 is wanted") };
        for address in &addresses {
            self.check(world, network, &asked.endpoint, *address)?;
        }
        let mac = asked.interface.mac.unwrap_or_else(|| mac_of(first.addr()));
        let endpoint = Endpoint { network: asked.network.clone(), addresses, mac, ports: Vec::new() };
        self.endpoints.insert(asked.endpoint.clone(), endpoint);
        // What was given must not be given back.
        let made = asked.interface.mac.is_none().then_some(mac);
        Ok(Done::answer(Answer::Endpoint(made)))
    }

    /// Addresses may come from Docker itself, which knows of no other host.
    fn check(&self, world: World<'_>, network: &Network, id: &Id, address: IpNet) -> Result<(), Refusal> {
        let ip = address.addr();
        let Some(pool) = network.pools.iter().find(|pool| pool.contains(&ip)) else {
            return never(format!("{ip} is not in {}", list(&network.pools)));
        };
        if network.gateways.contains(&ip) || own_addresses(world, *pool).contains(&ip) {
            return never(format!("{ip} is the gateway's"));
        }
        let has_it =
            |(other, endpoint): (&Id, &Endpoint)| other != id && endpoint.addresses.iter().any(|a| a.addr() == ip);
        if self.endpoints.iter().any(has_it) {
            return never(format!("{ip} is another container's"));
        }
        // Where Docker gives addresses itself, it does not know of those.
        if self.attached.iter().any(|there| there.kept && there.addresses.iter().any(|a| a.addr() == ip)) {
            return never(format!("{ip} is that of a link that `overlay ps` shows"));
        }
        if network.local {
            return Ok(());
        }
        let ours = held(world, *pool).map(|held| blocks(held, *pool)).unwrap_or_default();
        if ours.is_empty() {
            let why =
                format!("this host has no block of {pool} yet: the registry gives it one; `overlay status` tells");
            return Err(Refusal::NotYet(why));
        }
        if ours.iter().any(|block| block.contains(&ip)) {
            return Ok(());
        }
        never(format!(
            "{ip} is in the block of another host, or of none; this one has {}: make the network with --ipam-driver {}, or with --ip-range",
            list(&ours),
            crate::plugin::protocol::NAME
        ))
    }

    pub(super) fn endpoint_info(&self, of: &EndpointRef) -> Done {
        let ports = self.endpoints.get(&of.endpoint).map(|endpoint| endpoint.ports.clone());
        Done::answer(Answer::EndpointInfo(ports.unwrap_or_default()))
    }

    pub(super) fn delete_endpoint(&mut self, of: &EndpointRef) -> Done {
        let mut steps = vec![Step::NoPair(networks::pair_name(&of.endpoint))];
        let gone = self.endpoints.remove(&of.endpoint);
        steps.extend(gone.filter(|endpoint| !endpoint.ports.is_empty()).map(|_| Step::Nat));
        Done::after(steps)
    }

    pub(super) fn join(&mut self, world: World<'_>, of: &EndpointRef) -> Result<Done, Refusal> {
        let network = self.network(&of.network)?.clone();
        let bridge = self.bridge(world, &of.network).expect("there is the network");
        let endpoint = self.endpoint(of)?;
        let peer = format!("ovt-{}", of.endpoint.short());
        let pair = Pair {
            name: networks::pair_name(&of.endpoint),
            peer: peer.clone(),
            bridge: bridge.name.clone(),
            alias: format!("overlay: endpoint {}", of.endpoint.short()),
            mtu: bridge.mtu,
            mac: endpoint.mac,
        };
        let answer = Answer::Sandbox(sandbox(world, &network, peer));
        Ok(Done { answer, steps: vec![Step::Bridge(bridge), Step::Pair(pair)] })
    }

    pub(super) fn publish(&mut self, asked: &ExternalConnectivity) -> Result<Done, Refusal> {
        let mut ports = Vec::new();
        for wanted in &asked.options.ports {
            let taken = |protocol: u8, port: u16| {
                let others = self.endpoints.iter().filter(|(id, _)| **id != asked.endpoint.endpoint);
                let all = others.flat_map(|(_, endpoint)| &endpoint.ports).chain(&ports);
                all.into_iter().any(|other: &Published| {
                    let same_ip = |a: Option<IpAddr>, b: Option<IpAddr>| a.is_none() || b.is_none() || a == b;
                    other.protocol == protocol && other.host_port == port && same_ip(other.host_ip, wanted.host_ip)
                })
            };
            let host_port = host_port(wanted, &taken)?;
            let host_ip = wanted.host_ip.filter(|ip| !ip.is_unspecified());
            ports.push(Published { protocol: wanted.proto, host_ip, host_port, port: wanted.port });
        }
        self.endpoint(&asked.endpoint)?.ports = ports;
        Ok(Done::after(vec![Step::Nat]))
    }

    pub(super) fn unpublish(&mut self, of: &EndpointRef) -> Done {
        if let Some(endpoint) = self.endpoints.get_mut(&of.endpoint) {
            endpoint.ports.clear();
        }
        Done::after(vec![Step::Nat])
    }

    fn network(&self, id: &Id) -> Result<&Network, Refusal> {
        self.networks.get(id).ok_or_else(|| {
            let why = "was made when this host's state was another; remove it from Docker and make it again";
            Refusal::Never(format!("the network {} is not known: it {why}", id.short()))
        })
    }

    fn endpoint(&mut self, of: &EndpointRef) -> Result<&mut Endpoint, Refusal> {
        let found = self.endpoints.get_mut(&of.endpoint).filter(|endpoint| endpoint.network == of.network);
        found.ok_or_else(|| Refusal::Never(format!("there is no endpoint {}", of.endpoint.short())))
    }
}

/// The ways in a container. Docker gives it an address with the whole network around, as if all of it were right behind
/// the link; but what is on other hosts is behind the gateway. Halves of the network win over the whole, so that two
/// routes say so for good, however blocks come and go, and in both families: the host need not answer for others' hardware
/// addresses, which IPv6 would want address by address. Our own blocks are smaller still, and right behind the link.
fn sandbox(world: World<'_>, network: &Network, link: String) -> Sandbox {
    let (mut connected, mut routed) = (Vec::new(), Vec::new());
    for (pool, gateway) in network.pools.iter().zip(&network.gateways) {
        let near = held(world, *pool).map(|held| blocks(held, *pool)).unwrap_or_default();
        if network.local || near.contains(pool) || pool.prefix_len() + 1 >= pool.max_prefix_len() {
            continue;
        }
        connected.push(IpNet::from(*gateway));
        let halves = pool.subnets(pool.prefix_len() + 1).into_iter().flatten();
        // A block that is a half is right behind the link.
        routed.extend(halves.filter(|half| !near.contains(half)).map(|half| (half, *gateway)));
        connected.extend(near);
    }
    let gateways = if network.internal { Vec::new() } else { network.gateways.clone() };
    Sandbox { link, gateways, connected, routed }
}

fn host_port(wanted: &PortMapping, taken: &impl Fn(u8, u16) -> bool) -> Result<u16, Refusal> {
    if ![6, 17, 132].contains(&wanted.proto) {
        return never(format!("ports of the protocol {} cannot be published", wanted.proto));
    }
    let (range, chosen) = match wanted.host_port {
        0 => (CHOSEN, true),
        first => (first..=wanted.host_port_end.max(first), false),
    };
    let free = range.clone().find(|port| !taken(wanted.proto, *port));
    free.ok_or_else(|| {
        Refusal::Never(if chosen {
            "no port of the host is free".into()
        } else {
            format!("port {} of the host leads to another container", wanted.host_port)
        })
    })
}
