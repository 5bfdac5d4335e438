//! What is to change at Docker so that it has the mesh's networks, and the mesh those that were made by the driver. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kvstore_client::names::NETWORK_LABEL;

use crate::{
    mesh::NewNetwork,
    network::{Block, Hosts, NetworkId, NetworkName},
    plugin::{Made, protocol},
    state::{Held, HeldNetwork},
};

/// The label that makes a network of Docker's ours; its value is the network's id in the mesh.
pub const LABEL: &str = NETWORK_LABEL;
/// Docker's names for what a bridge is to be like.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const BRIDGE_MTU: &str = "com.docker.network.driver.mtu";
const BRIDGE_TRUSTS: &str = "com.docker.network.bridge.trusted_host_interfaces";

/// A network that Docker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Docker's id for it.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Whose driver.
    pub driver: String,
    #[allow(missing_docs)]
    pub labels: BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub options: BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub subnets: BTreeSet<IpNet>,
    /// Whether a running container is in it.
    pub in_use: bool,
    /// Why Docker does not show it; what it lists is known all the same.
    pub trouble: Option<String>,
}

impl Network {
    /// The link that is its bridge, if it is a bridge network.
    pub(super) fn bridge(&self) -> Option<String> {
        let told = || self.options.get(BRIDGE_NAME).cloned();
        let by_id =
            || if self.name == "bridge" { Some("docker0".into()) } else { Some(format!("br-{}", self.id.get(..12)?)) };
        told().or_else(by_id)
    }
}

/// A bridge network as it is to be made. None of ours is in the way when Docker starts a container in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is called.
    pub name: String,
    #[allow(missing_docs)]
    pub labels: BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub options: BTreeMap<String, String>,
    /// Of each family.
    pub ranges: Vec<Range>,
}

/// Addresses of a bridge network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// All: this host's block.
    pub subnet: IpNet,
    /// What Docker gives; the rest is for what is attached beside it.
    pub given: IpNet,
    /// The host's own.
    pub gateway: std::net::IpAddr,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Docker is to have this network.
    Create {
        /// The mesh's name for it.
        network: NetworkId,
        #[allow(missing_docs)]
        wanted: Wanted,
    },
    /// Docker is to have it no more; it is not in use.
    Remove {
        #[allow(missing_docs)]
        id: String,
        #[allow(missing_docs)]
        name: String,
        /// The link that was its bridge.
        bridge: Option<String>,
    },
    /// The mesh is to have what was made by the driver.
    Announce {
        /// Docker's id for it.
        id: protocol::Id,
        #[allow(missing_docs)]
        network: Box<NewNetwork>,
    },
    /// Somebody has to do something.
    Warn(String),
}

/// The way from what Docker has to what it should have.
pub fn plan(held: &Held, docker: &[Network], made: &[Made]) -> Vec<Action> {
    let mut actions = Vec::new();
    for network in &held.networks {
        actions.extend(have(&held.tunnel, network, docker, made));
    }
    let known: BTreeSet<String> = held.networks.iter().map(|held| held.network.id.to_string()).collect();
    for left in docker.iter().filter(|network| network.labels.get(LABEL).is_some_and(|id| !known.contains(id))) {
        actions.push(remove(left, "is no network of the mesh any more"));
    }
    actions.extend(made.iter().filter_map(|made| announce(held, docker, made)));
    actions
}

/// The bridge network for this host's part of `held`, once it has one.
fn have(tunnel: &str, held: &HeldNetwork, docker: &[Network], made: &[Made]) -> Option<Action> {
    let network = &held.network;
    // The driver serves it.
    if made.iter().any(|made| made.subnet == network.subnet) {
        return None;
    }
    let block = held.blocks.first()?;
    let wanted = wanted(tunnel, held, block);
    let ours = docker.iter().find(|there| there.labels.get(LABEL).is_some_and(|id| *id == network.id.to_string()));
    let Some(there) = ours else {
        let taken = docker.iter().find(|there| there.name == wanted.name);
        return Some(taken.map_or(Action::Create { network: network.id, wanted }, |other| {
            let name = &other.name;
            Action::Warn(format!("Docker has a network {name} of its own; the mesh's of that name is not there: rename or remove Docker's"))
        }));
    };
    let fits = there.subnets.iter().any(|subnet| held.blocks.iter().any(|block| IpNet::V4(block.v4) == *subnet));
    let same = |option: &str| there.options.get(option) == wanted.options.get(option);
    let why = match () {
        () if !fits => "has another block by now",
        () if !same(BRIDGE_MTU) => "has packets of another size by now",
        () if !same(BRIDGE_TRUSTS) => "is reached through another interface by now",
        () => return None,
    };
    // What Docker has made it does not change; removed, it is made anew at once.
    Some(remove(there, why))
}

fn remove(network: &Network, why: &str) -> Action {
    let name = &network.name;
    if network.in_use {
        return Action::Warn(format!(
            "Docker's network {name} {why}, and is in use: stop its containers, or disconnect them"
        ));
    }
    Action::Remove { id: network.id.clone(), name: name.clone(), bridge: network.options.get(BRIDGE_NAME).cloned() }
}

fn announce(held: &Held, docker: &[Network], made: &Made) -> Option<Action> {
    let network = docker.iter().find(|network| network.id == made.id.as_str())?;
    if let Some(same) = held.networks.iter().find(|held| held.network.subnet == made.subnet) {
        let (subnet, theirs, name) = (made.subnet, network.name.as_str(), same.network.name.as_str());
        let otherwise = theirs != name;
        return otherwise.then(|| Action::Warn(format!(
            "Docker's network {theirs} is the mesh's network {name}, which has {subnet}, too: other hosts know it as {name}, and not as {theirs}"
        )));
    }
    let name: NetworkName = match network.name.parse() {
        Ok(name) => name,
        Err(e) => return Some(Action::Warn(format!("it stays on this host: {e}"))),
    };
    if held.named(&name).is_some() {
        return Some(Action::Warn(format!(
            "the mesh has a network {name} of other addresses; Docker's, {}, stays on this host: make it under another name",
            made.subnet
        )));
    }
    let block_bits = made.local.then_some(made.subnet.prefix_len());
    let new = NewNetwork {
        name,
        subnet: Some(made.subnet),
        subnet6: made.subnet6,
        block_bits,
        local: made.local,
        hosts: Hosts::All,
    };
    Some(Action::Announce { id: made.id.clone(), network: Box::new(new) })
}

/// What Docker is asked for: an ordinary bridge, on the one that we have made and keep.
fn wanted(tunnel: &str, held: &HeldNetwork, block: &Block) -> Wanted {
    let network = &held.network;
    let options = [
        (BRIDGE_NAME, bridge_name(network.id)),
        (BRIDGE_MTU, held.mtu.to_string()),
        // Others are to see the container's own address; what leaves the mesh we masquerade ourselves.
        ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
        // Docker 28.2 and later: it lets nothing in by other links else.
        (BRIDGE_TRUSTS, tunnel.to_owned()),
    ];
    Wanted {
        name: network.name.to_string(),
        labels: [(LABEL.to_owned(), network.id.to_string())].into(),
        options: options.map(|(name, value)| (name.to_owned(), value)).into(),
        ranges: vec![
            range(IpNet::V4(block.v4), block.gateway().into()),
            range(IpNet::V6(block.v6), block.gateway6().into()),
        ],
    }
}

/// What the names of all our bridges begin with.
pub const BRIDGES: &str = "ovb-";

/// The name of the bridge of a network of the mesh.
pub fn bridge_name(network: NetworkId) -> String {
    format!("{BRIDGES}{}", &network.to_string()[..11])
}

/// The first half is Docker's.
fn range(subnet: IpNet, gateway: std::net::IpAddr) -> Range {
    let half = subnet.subnets(subnet.prefix_len() + 1).ok().and_then(|mut halves| halves.next());
    Range { subnet, given: half.unwrap_or(subnet), gateway }
}

/// What is attached beside Docker has its addresses from here: the second half of a block.
pub fn beside(block: IpNet) -> IpNet {
    block.subnets(block.prefix_len() + 1).ok().and_then(|mut halves| halves.nth(1)).unwrap_or(block)
}

#[cfg(test)]
mod tests;
