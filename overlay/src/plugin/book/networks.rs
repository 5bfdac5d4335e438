//! Networks: what Docker makes once and never tells again, and what their bridges are like.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use super::{Book, Bridge, Done, Network, Refusal, Step, World, blocks, held, never};
use crate::{
    addresses,
    link::mac_of,
    plugin::protocol::{Answer, CreateNetwork, Id, IpamData},
};

/// What any way carries; for as long as the mesh has not told better.
const SMALLEST_MTU: u16 = 1280;
/// Of a network that does not leave this host.
const LOCAL_MTU: u16 = 1500;
/// Docker's name for the size of the largest packet, as its own drivers have it.
const DOCKER_MTU: &str = "com.docker.network.driver.mtu";

/// A network that Docker made with our driver, for the mesh to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Docker's id for it.
    pub id: Id,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The same of IPv6, if it was made with any.
    pub subnet6: Option<Ipv6Net>,
    /// Other hosts are not to know of it.
    pub local: bool,
}

/// What of a network the host's firewall has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridged {
    /// The name of its bridge.
    pub bridge: String,
    /// It leads nowhere else.
    pub internal: bool,
    /// Its addresses, of each family.
    pub pools: Vec<IpNet>,
}

impl Book {
    pub(super) fn create_network(&mut self, world: World<'_>, asked: &CreateNetwork) -> Result<Done, Refusal> {
        let network = network(asked)?;
        for pool in &network.pools {
            let other = self.networks.iter().find(|(id, other)| **id != asked.network && other.pools.contains(pool));
            if let Some((id, _)) = other {
                return never(format!("{pool} is the network {}'s", id.short()));
            }
            // Docker's own driver of addresses does not ask us.
            self.check_overlap(world, *pool)?;
        }
        if self.networks.get(&asked.network).is_some_and(|there| *there != network) {
            return never(format!("there is a network {}, and it is another one", asked.network.short()));
        }
        self.networks.insert(asked.network.clone(), network);
        let bridge = self.bridge(world, &asked.network).expect("it was just put there");
        Ok(Done::after(vec![Step::Bridge(bridge), Step::Nat]))
    }

    pub(super) fn delete_network(&mut self, id: &Id) -> Done {
        self.networks.remove(id);
        self.withdrawn.extend(self.announced.remove(id));
        let ended: Vec<Id> =
            self.endpoints.iter().filter(|(_, end)| end.network == *id).map(|(id, _)| id.clone()).collect();
        let mut steps: Vec<_> = ended.iter().map(|id| Step::NoPair(pair_name(id))).collect();
        self.endpoints.retain(|_, endpoint| endpoint.network != *id);
        steps.extend([Step::NoBridge(bridge_name(id)), Step::Nat]);
        Done { answer: Answer::Nothing, steps }
    }

    /// The bridge of a network, as it should be now.
    pub(super) fn bridge(&self, world: World<'_>, id: &Id) -> Option<Bridge> {
        let network = self.networks.get(id)?;
        let held = network.pools.iter().find_map(|pool| held(world, *pool));
        let name = held.map_or_else(|| id.short().to_owned(), |held| held.network.name.to_string());
        let behind = |pool: &IpNet| match held {
            Some(held) => blocks(held, *pool),
            None if network.local => vec![*pool],
            None => Vec::new(),
        };
        let alone = |gateway: &_| IpNet::from(*gateway);
        let exposed = held.into_iter().flat_map(|held| self.exposed(held.network.id));
        Some(Bridge {
            name: bridge_name(id),
            alias: format!("overlay: network {name}"),
            mtu: network
                .mtu
                .unwrap_or(held.map_or(if network.local { LOCAL_MTU } else { SMALLEST_MTU }, |held| held.mtu)),
            mac: network.gateways.first().map(|gateway| mac_of(*gateway))?,
            addresses: network.gateways.iter().map(alone).chain(exposed).collect(),
            routes: network.pools.iter().flat_map(behind).collect(),
        })
    }

    /// The bridges of all networks, as they should be now.
    pub(in crate::plugin) fn bridges(&self, world: World<'_>) -> BTreeSet<Bridge> {
        self.networks.keys().filter_map(|id| self.bridge(world, id)).collect()
    }

    /// All networks that Docker made with our driver.
    pub(in crate::plugin) fn made(&self) -> Vec<Made> {
        let made = |(id, network): (&Id, &Network)| {
            let v4 = network.pools.iter().find_map(|pool| if let IpNet::V4(net) = pool { Some(*net) } else { None });
            let v6 = network.pools.iter().find_map(|pool| if let IpNet::V6(net) = pool { Some(*net) } else { None });
            Some(Made { id: id.clone(), subnet: v4?, subnet6: v6, local: network.local })
        };
        self.networks.iter().filter_map(made).collect()
    }

    /// The bridges of those, for the host's firewall.
    pub(in crate::plugin) fn bridged(&self) -> Vec<Bridged> {
        let bridged = |(id, network): (&Id, &Network)| Bridged {
            bridge: bridge_name(id),
            internal: network.internal,
            pools: network.pools.clone(),
        };
        self.networks.iter().map(bridged).collect()
    }

    /// What takes these steps back, where this book is to count again.
    pub(in crate::plugin) fn instead_of(&self, steps: &[Step]) -> Vec<Step> {
        let there = |name: &str| self.networks.keys().any(|id| bridge_name(id) == name);
        let back = |step: &Step| match step {
            Step::Bridge(bridge) if !there(&bridge.name) => Some(Step::NoBridge(bridge.name.clone())),
            Step::Pair(pair) => Some(Step::NoPair(pair.name.clone())),
            _ => None,
        };
        steps.iter().rev().filter_map(back).collect()
    }

    /// Forgets networks, with all in them, that Docker has removed while nobody was here to be told.
    pub(in crate::plugin) fn forget(&mut self, gone: &BTreeSet<Id>) -> Vec<Step> {
        let mut steps = Vec::new();
        for id in gone {
            let pools = self.networks.get(id).map(|network| network.pools.clone()).unwrap_or_default();
            for pool in pools {
                self.forget_pool(pool);
            }
            steps.extend(self.delete_network(id).steps);
        }
        steps
    }

    /// Forgets pools that Docker, which has begun anew and asked once more for all that it has, has not asked for.
    pub(in crate::plugin) fn forget_unasked(&mut self) {
        let made = |subnet: &IpNet| self.networks.values().any(|network| network.pools.contains(subnet));
        let unasked = self.pools.iter().filter(|(subnet, pool)| !pool.asked && !made(subnet));
        for subnet in unasked.map(|(subnet, _)| *subnet).collect::<Vec<_>>() {
            self.forget_pool(subnet);
        }
    }
}

pub(super) fn bridge_name(id: &Id) -> String {
    format!("{}{}", crate::docker::BRIDGES, id.short())
}

pub(super) fn pair_name(endpoint: &Id) -> String {
    format!("ovp-{}", endpoint.short())
}

fn network(asked: &CreateNetwork) -> Result<Network, Refusal> {
    let (pools, gateways) = match (asked.v4.as_slice(), asked.v6.as_slice()) {
        ([v4], []) => (vec![v4.pool], vec![gateway(v4)?]),
        ([v4], [v6]) => (vec![v4.pool, v6.pool], vec![gateway(v4)?, gateway(v6)?]),
        _ => return never("a network has one subnet of IPv4, and at most one of IPv6: give --subnet"),
    };
    if pools[0].prefix_len() == 0 {
        return never("a network needs addresses: give --subnet, and not --ipam-driver null");
    }
    let mut made = Network { pools, gateways, internal: asked.options.internal, local: false, mtu: None };
    for (name, value) in &asked.options.generic {
        option(&mut made, name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned))?;
    }
    // Hosts have a /64 of it each, and others take it for what it is.
    let shared = |net: &&IpNet| net.prefix_len() == 48 && matches!(net.addr(), IpAddr::V6(ip) if ip.is_unique_local());
    if let Some(v6) = made.pools.get(1).filter(|pool| !made.local && !shared(pool)) {
        return never(format!("{v6} is no /48 of fd00::/8, as a network of several hosts needs it"));
    }
    Ok(made)
}

/// `--opt NAME=VALUE`; Docker's own that mean nothing here are let pass, as its drivers do.
fn option(network: &mut Network, name: &str, value: &str) -> Result<(), Refusal> {
    match name {
        "local" => match value {
            "" | "true" => network.local = true,
            "false" => network.local = false,
            _ => return never(format!("--opt local: {value:?} is neither true nor false")),
        },
        "mtu" | DOCKER_MTU => match value.parse() {
            Ok(mtu) if mtu >= SMALLEST_MTU => network.mtu = Some(mtu),
            _ => return never(format!("--opt {name}: {value:?} is no number of bytes from {SMALLEST_MTU} on")),
        },
        name if name.starts_with("com.docker.") => {}
        _ => return never(format!("there is no --opt {name} ({:?}); there are local and mtu", Value::from(value))),
    }
    Ok(())
}

fn gateway(data: &IpamData) -> Result<IpAddr, Refusal> {
    let gateway = data.gateway.map(|gateway| gateway.addr()).or_else(|| addresses::first(data.pool));
    match gateway {
        Some(gateway) if data.pool.contains(&gateway) => Ok(gateway),
        Some(gateway) => never(format!("the gateway {gateway} is not in {}", data.pool)),
        None => never(format!("{} is too small for a gateway and containers", data.pool)),
    }
}
