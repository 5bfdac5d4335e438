//! What this host has told Docker, and what follows from it for the next call. Pure: the book is changed in memory, kept on
//! the disk by the caller, and only then answered from. Docker forgets what it was told here less often than it asks
//! again: every call may come twice, and what is released may not be known.

mod attached;
mod endpoints;
mod networks;
mod pools;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    attached::{Asked, Attachment, Holder, Place, Way},
    networks::{Bridged, Made},
    pools::OFFERED,
};
use super::protocol::{Answer, Call, Id, Published};
use crate::{
    addresses::Addresses,
    link::Mac,
    network::NetworkName,
    state::{Held, HeldNetwork},
};
pub(crate) use attached::ends;

/// Everything that was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    /// How the rest is to be read.
    #[serde(default)]
    pub(super) format: u32,
    /// By what they are pools of.
    pub(super) pools: BTreeMap<IpNet, Pool>,
    /// By Docker's ids for them.
    pub(super) networks: BTreeMap<Id, Network>,
    /// Attachments of containers, likewise.
    pub(super) endpoints: BTreeMap<Id, Endpoint>,
    /// What the mesh calls the networks that it has from here.
    #[serde(default)]
    pub(super) announced: BTreeMap<Id, NetworkName>,
    /// Those of them that Docker has removed, and the mesh has still.
    #[serde(default)]
    pub(super) withdrawn: BTreeSet<NetworkName>,
    /// Links beside Docker's.
    #[serde(default)]
    pub(super) attached: Vec<Attachment>,
}

/// Addresses that Docker asks us for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) addresses: Addresses,
    /// Containers get theirs from here.
    pub(super) range: Option<IpNet>,
    pub(super) gateway: Option<IpAddr>,
    /// Docker has asked for it in its present life. What it has not asked for it may ask for once more.
    pub(super) asked: bool,
}

/// A network whose driver we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    /// All addresses of it, of each family.
    pub(super) pools: Vec<IpNet>,
    /// Ours, in the same order.
    pub(super) gateways: Vec<IpAddr>,
    /// It leads nowhere else.
    pub(super) internal: bool,
    /// Other hosts do not know of it.
    pub(super) local: bool,
    /// The largest packet, if it was told.
    pub(super) mtu: Option<u16>,
}

/// A container's attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) network: Id,
    pub(super) addresses: Vec<IpNet>,
    pub(super) mac: Mac,
    pub(super) ports: Vec<Published>,
}

/// What is so beside what the book says.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    /// This host's networks and blocks.
    pub(super) held: &'a Held,
    /// What the host has routes to: nothing new may be in their way.
    pub(super) busy: &'a BTreeSet<IpNet>,
    /// What nobody can guess.
    pub(super) random: u64,
}

/// Why a call is refused; the book is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It cannot be.
    #[error("{0}")]
    Never(String),
    /// What it needs may be on its way.
    #[error("{0}")]
    NotYet(String),
}

/// What is to be done with the host's network before a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Have this bridge, as it is described.
    Bridge(Bridge),
    /// Have none of this name.
    NoBridge(String),
    /// Have a pair of links: one a port of the bridge, one for the container.
    Pair(Pair),
    /// Have none of this name.
    NoPair(String),
    /// Have addresses translated as the book says.
    Nat,
}

/// A network's bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bridge {
    /// Its name.
    pub(super) name: String,
    /// What a person reads beside it.
    pub(super) alias: String,
    /// The largest packet, in bytes.
    pub(super) mtu: u16,
    /// Its hardware address.
    pub(super) mac: Mac,
    /// Our addresses, without the network around them: what is behind the bridge the routes say.
    pub(super) addresses: BTreeSet<IpNet>,
    /// What is behind it.
    pub(super) routes: BTreeSet<IpNet>,
}

/// A pair of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// The host's end.
    pub(super) name: String,
    /// The container's, while it is here.
    pub(super) peer: String,
    /// The bridge of which the host's end is a port.
    pub(super) bridge: String,
    /// What a person reads beside it.
    pub(super) alias: String,
    /// The largest packet, in bytes.
    pub(super) mtu: u16,
    /// The container's hardware address.
    pub(super) mac: Mac,
}

/// A call that was entered in the book.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    /// What is answered, once the steps are taken.
    pub(super) answer: Answer,
    /// To be taken in this order.
    pub(super) steps: Vec<Step>,
}

impl Done {
    fn answer(answer: Answer) -> Self {
        Self { answer, steps: Vec::new() }
    }

    fn after(steps: Vec<Step>) -> Self {
        Self { answer: Answer::Nothing, steps }
    }
}

impl Book {
    /// The format that is written, and the newest that is read.
    pub(super) const FORMAT: u32 = 0;

    /// The book with this call in it.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(super) fn enter(&self, world: World<'_>, call: &Call) -> Result<(Self, Done), Refusal> {
        let mut next = self.clone();
        let done = next.write(world, call)?;
        Ok((next, done))
    }

    fn write(&mut self, world: World<'_>, call: &Call) -> Result<Done, Refusal> {
        match call {
            Call::Activate => {
                self.docker_began();
                Ok(Done::answer(Answer::Implements))
            }
            Call::NetworkCapabilities => Ok(Done::answer(Answer::NetworkCapabilities)),
            Call::GatewayAllocationCheck => Ok(Done::answer(Answer::GatewayAllocation)),
            // The link is inside for as long as Docker has not given it back: it goes with the endpoint.
            Call::Discover | Call::Leave(_) => Ok(Done::after(Vec::new())),
            Call::IpamCapabilities => Ok(Done::answer(Answer::IpamCapabilities)),
            Call::AddressSpaces => Ok(Done::answer(Answer::AddressSpaces)),
            Call::RequestPool(asked) => self.request_pool(world, asked),
            Call::ReleasePool(of) => Ok(self.release_pool(of)),
            Call::RequestAddress(asked) => self.request_address(world, asked),
            Call::ReleaseAddress(given) => Ok(self.release_address(given)),
            Call::CreateNetwork(asked) => self.create_network(world, asked),
            Call::DeleteNetwork(of) => Ok(self.delete_network(&of.network)),
            Call::CreateEndpoint(asked) => self.create_endpoint(world, asked),
            Call::EndpointInfo(of) => Ok(self.endpoint_info(of)),
            Call::DeleteEndpoint(of) => Ok(self.delete_endpoint(of)),
            Call::Join(of) => self.join(world, of),
            Call::ProgramExternalConnectivity(asked) => self.publish(asked),
            Call::RevokeExternalConnectivity(of) => Ok(self.unpublish(of)),
        }
    }

    /// A new life of Docker's: it will ask once more for what it has.
    fn docker_began(&mut self) {
        for pool in self.pools.values_mut() {
            pool.asked = false;
        }
    }

    /// The published ports of all containers, with the addresses that they lead to.
    pub(super) fn published(&self) -> impl Iterator<Item = (&Published, IpAddr)> {
        self.endpoints.values().flat_map(|endpoint| {
            let address = endpoint.addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4);
            endpoint.ports.iter().filter_map(move |port| Some((port, address?)))
        })
    }

    /// What containers of the driver's networks have their addresses from, where these lead out.
    pub(super) fn leaving(&self) -> BTreeSet<IpNet> {
        self.networks.values().filter(|network| !network.internal).flat_map(|network| network.pools.clone()).collect()
    }

    /// The same where they do not.
    pub(super) fn internal(&self) -> BTreeSet<IpNet> {
        self.networks.values().filter(|network| network.internal).flat_map(|network| network.pools.clone()).collect()
    }
}

/// The network of the mesh whose addresses these are.
fn held(world: World<'_>, pool: IpNet) -> Option<&HeldNetwork> {
    world.held.networks.iter().find(|held| match pool {
        IpNet::V4(pool) => held.network.subnet == pool,
        IpNet::V6(pool) => held.network.subnet6 == pool,
    })
}

/// This host's part of a network, in the family of `pool`.
fn blocks(held: &HeldNetwork, pool: IpNet) -> Vec<IpNet> {
    let of = |block: &crate::network::Block| match pool {
        IpNet::V4(_) => IpNet::V4(block.v4),
        IpNet::V6(_) => IpNet::V6(block.v6),
    };
    held.blocks.iter().map(of).collect()
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn never<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Never(why.into()))
}

#[cfg(test)]
mod tests;
