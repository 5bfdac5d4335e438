//! Links beside those that Docker asks for: of running containers, and of this host itself. Their addresses come from the
//! same pools as those that Docker is given.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Book, Bridge, Pool, Refusal, World, never, pools::list};
use crate::{
    addresses::{self, Addresses},
    docker::{beside, bridge_name},
    link::{Mac, mac_of},
    network::{Block, NetworkId, NetworkName},
    state::HeldNetwork,
};

/// A link that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Whose it is.
    pub holder: Holder,
    /// Where it leads.
    pub way: Way,
    /// Its addresses, with what is right behind the link around them.
    pub addresses: Vec<IpNet>,
    /// Where it sends all else, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Its hardware address, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// These very addresses were asked for: no others will do.
    pub fixed: bool,
    /// The addresses are taken; those of a container that has ended are free after a while.
    pub kept: bool,
}

/// Who has a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// This host.
    Host,
    /// A container.
    Container {
        /// All 64 digits.
        id: String,
        /// What it was called.
        name: String,
        /// Its links are called `ov0`, `ov1` and so on.
        number: u8,
    },
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Into a network of the mesh.
    Network {
        #[allow(missing_docs)]
        id: NetworkId,
        #[allow(missing_docs)]
        name: NetworkName,
    },
    /// To a bridge that somebody else made.
    Bridge(String),
    /// Into the network behind a link of the host.
    Parent {
        #[allow(missing_docs)]
        link: String,
        /// The VLAN there.
        #[serde(default)]
        vlan: Option<u16>,
    },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// For whom; the number is chosen here.
    pub holder: Holder,
    /// Where.
    pub place: Place,
    /// As in [`Attachment`].
    pub gateway: Option<IpAddr>,
    /// As in [`Attachment`].
    pub mac: Option<Mac>,
}

/// Which network, and which address there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The only network that there is.
    Only,
    /// An address of this network.
    Network(NetworkName),
    /// This address of the network that has it; or, if it is all of a network, an address there.
    Address(IpAddr, Option<u8>),
    /// No network of the mesh: this address, there.
    Outside(IpNet, Way),
}

impl Holder {
    /// Whether both are the same, whatever the number of the link.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host, Self::Host) => true,
            (Self::Container { id, .. }, Self::Container { id: other, .. }) => id == other,
            _ => false,
        }
    }
}

impl Attachment {
    /// The network of the mesh that it leads into.
    pub fn network(&self) -> Option<NetworkId> {
        if let Way::Network { id, .. } = &self.way { Some(*id) } else { None }
    }

    /// Whether `place` means this one.
    pub fn is_at(&self, place: &Place) -> bool {
        match (place, &self.way) {
            (Place::Only, _) => true,
            (Place::Network(wanted), Way::Network { name, .. }) => wanted == name,
            (Place::Address(ip, _), _) => self.addresses.iter().any(|address| address.addr() == *ip),
            _ => false,
        }
    }
}

impl Book {
    /// Notes a link with its addresses. Whoever asks again has the same.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(in crate::plugin) fn attach(&mut self, world: World<'_>, asked: &Asked) -> Result<Attachment, Refusal> {
        let (way, addresses, fixed) = match &asked.place {
            Place::Outside(address, way) => (way.clone(), vec![*address], true),
            place => {
                let (held, wanted) = find(world, place)?;
                let network = &held.network;
                let same = |there: &&Attachment| there.holder.is(&asked.holder) && there.network() == Some(network.id);
                let has = |there: &&Attachment| wanted.is_none_or(|ip| there.addresses.iter().any(|a| a.addr() == ip));
                if let Some(there) = self.attached.iter().find(|there| same(there) && has(there)) {
                    return Ok(there.clone());
                }
                let way = Way::Network { id: network.id, name: network.name.clone() };
                (way, self.take_beside(held, wanted)?, wanted.is_some())
            }
        };
        let holder = match &asked.holder {
            Holder::Host => Holder::Host,
            Holder::Container { id, name, .. } => {
                let number = self.free_number(&asked.holder)?;
                Holder::Container { id: id.clone(), name: name.clone(), number }
            }
        };
        let (gateway, mac) = (asked.gateway, asked.mac);
        let made = Attachment { holder, way, addresses, gateway, mac, fixed, kept: true };
        self.attached.push(made.clone());
        Ok(made)
    }

    fn free_number(&self, holder: &Holder) -> Result<u8, Refusal> {
        let taken = |number: &u8| {
            let is = |there: &Attachment| matches!(there.holder, Holder::Container { number: n, .. } if n == *number);
            self.attached.iter().any(|there| there.holder.is(holder) && is(there))
        };
        (0..100).find(|number| !taken(number)).ok_or_else(|| Refusal::Never("it has a hundred links already".into()))
    }

    /// Forgets a link; its addresses are free.
    pub(in crate::plugin) fn detach(&mut self, attachment: &Attachment) {
        self.attached.retain(|there| there != attachment);
        if attachment.kept {
            self.give_back(attachment);
        }
    }

    /// The container has ended: others may have its addresses.
    pub(in crate::plugin) fn let_go(&mut self, attachment: &Attachment) {
        if let Some(there) = self.attached.iter_mut().find(|there| *there == attachment && there.kept) {
            there.kept = false;
            self.give_back(attachment);
        }
    }

    /// The container runs again: the same addresses, or others if these are gone and it does not matter.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(in crate::plugin) fn resume(&mut self, world: World<'_>, old: &Attachment) -> Result<Attachment, Refusal> {
        let mut next = Attachment { kept: true, ..old.clone() };
        if let (false, Some(id)) = (old.kept, old.network()) {
            let Some(held) = world.held.network(id) else { return never("its network is gone") };
            let former = old.addresses.first().map(IpNet::addr);
            let again = self.take_beside(held, former);
            next.addresses = if old.fixed { again? } else { again.or_else(|_| self.take_beside(held, None))? };
        }
        if let Some(there) = self.attached.iter_mut().find(|there| *there == old) {
            *there = next.clone();
        }
        Ok(next)
    }

    fn give_back(&mut self, attachment: &Attachment) {
        if attachment.network().is_none() {
            return;
        }
        for address in &attachment.addresses {
            let of = self.pools.iter_mut().find(|(subnet, _)| subnet.contains(&address.addr()));
            if let Some((_, pool)) = of {
                pool.addresses.release(address.addr());
            }
        }
    }

    /// Addresses of a network: what was asked for of its family, any of the other.
    fn take_beside(&mut self, held: &HeldNetwork, wanted: Option<IpAddr>) -> Result<Vec<IpNet>, Refusal> {
        let (v4, v6) = (IpNet::V4(held.network.subnet), IpNet::V6(held.network.subnet6));
        if held.blocks.is_empty() {
            let why = format!("this host has no block of {v4} yet: the registry gives it one; `overlay status` tells");
            return Err(Refusal::NotYet(why));
        }
        let mut next = self.clone();
        // A network of the driver's may be without IPv6.
        let made = self.networks.values().find(|made| made.pools.contains(&v4));
        let has = |family: &IpNet| made.is_none_or(|made| made.pools.contains(family));
        let families: Vec<_> = [v4, v6].into_iter().filter(has).collect();
        let mut taken = Vec::new();
        for family in families {
            let wanted = wanted.filter(|ip| family.contains(ip));
            taken.push(next.take_one(family, &super::blocks(held, family), wanted)?);
        }
        *self = next;
        Ok(taken)
    }

    fn take_one(&mut self, family: IpNet, blocks: &[IpNet], wanted: Option<IpAddr>) -> Result<IpNet, Refusal> {
        // What Docker has given by itself in a network of the driver's, and what the host has in each block.
        let ends = self.endpoints.values().flat_map(|end| &end.addresses).map(IpNet::addr);
        let gateways = blocks.iter().filter_map(|block| addresses::first(*block));
        let others: Vec<_> = ends.chain(gateways).filter(|ip| family.contains(ip)).collect();
        let pool = self.pools.entry(family).or_insert_with(|| Pool::new(family, None));
        let ours = pool.gateway.is_some();
        let ranges: Vec<_> = blocks.iter().map(|block| if ours { *block } else { beside(*block) }).collect();
        pool.addresses.set_ranges(ranges.clone());
        let reserved: Vec<_> = others.into_iter().filter(|ip| pool.addresses.reserve(*ip).is_ok()).collect();
        let given = match wanted {
            Some(ip) => pool.addresses.take(ip).map(|()| ip).map_err(|why| match why {
                addresses::Refusal::Elsewhere if blocks.iter().any(|block| block.contains(&ip)) => {
                    let given = list(&ranges);
                    Refusal::Never(format!(
                        "{ip} cannot be given: Docker gives it itself; what is attached has {given}"
                    ))
                }
                other => super::pools::elsewhere(ip, other, &ranges),
            }),
            None => pool
                .addresses
                .take_any()
                .map_err(|why| Refusal::Never(format!("no address of {}: {why}", list(&ranges)))),
        };
        for ip in reserved {
            pool.addresses.release(ip);
        }
        let ip = given?;
        let length = blocks.iter().find(|block| block.contains(&ip)).map_or(family.prefix_len(), IpNet::prefix_len);
        Ok(IpNet::new(ip, length).expect("the length of a subnet of its family"))
    }

    /// An address is free; whether it was taken.
    ///
    /// # Errors
    /// For a gateway's.
    pub(in crate::plugin) fn release(&mut self, address: IpAddr) -> Result<bool, Refusal> {
        if self.networks.values().any(|network| network.gateways.contains(&address)) {
            return never(format!("{address} is the gateway's of a network of Docker's"));
        }
        let of = self.pools.iter_mut().find(|(subnet, _)| subnet.contains(&address));
        Ok(of.is_some_and(|(_, pool)| pool.gateway != Some(address) && pool.addresses.release(address)))
    }

    /// Whether a pool is of use to what is attached.
    pub(super) fn has_attached(&self, pool: IpNet) -> bool {
        let inside = |there: &Attachment| there.kept && there.addresses.iter().any(|a| pool.contains(&a.addr()));
        self.attached.iter().any(|there| there.network().is_some() && inside(there))
    }

    /// This host's own addresses in a network.
    pub(in crate::plugin) fn exposed(&self, network: NetworkId) -> impl Iterator<Item = IpNet> {
        let ours = move |there: &&Attachment| there.holder == Holder::Host && there.network() == Some(network);
        self.attached.iter().filter(ours).flat_map(|there| &there.addresses).map(|a| IpNet::from(a.addr()))
    }

    /// The bridge of a network of the mesh, as it should be now, and whether Docker was told of it by the driver: else
    /// Docker keeps addresses there, too.
    pub(in crate::plugin) fn bridge_to(&self, world: World<'_>, held: &HeldNetwork) -> Option<(Bridge, bool)> {
        let made = self.networks.iter().find(|(_, made)| made.pools.contains(&IpNet::V4(held.network.subnet)));
        if let Some((id, _)) = made {
            return self.bridge(world, id).map(|bridge| (bridge, true));
        }
        let first = held.blocks.first()?;
        let around = |block: &Block| {
            [(IpAddr::from(block.gateway()), block.v4.prefix_len()), (block.gateway6().into(), block.v6.prefix_len())]
        };
        let gateways = around(first).map(|(ip, length)| IpNet::new(ip, length).expect("a block of its family"));
        let others = held.blocks.iter().skip(1).flat_map(|block| [IpNet::V4(block.v4), IpNet::V6(block.v6)]);
        let bridge = Bridge {
            name: bridge_name(held.network.id),
            alias: format!("overlay: network {}", held.network.name),
            mtu: held.mtu,
            mac: mac_of(first.gateway().into()),
            addresses: gateways.into_iter().chain(self.exposed(held.network.id)).collect(),
            routes: others.collect(),
        };
        Some((bridge, false))
    }

    /// Where containers of a network send what is not right behind their link: the gateways, of each family.
    pub(in crate::plugin) fn gateways(&self, held: &HeldNetwork) -> Vec<IpAddr> {
        let made = self.networks.values().find(|made| made.pools.contains(&IpNet::V4(held.network.subnet)));
        match (made, held.blocks.first()) {
            (Some(made), _) => made.gateways.clone(),
            (None, Some(block)) => vec![block.gateway().into(), block.gateway6().into()],
            (None, None) => Vec::new(),
        }
    }
}

impl Pool {
    pub(super) fn new(subnet: IpNet, range: Option<IpNet>) -> Self {
        Self { addresses: Addresses::new(subnet), range, gateway: None, asked: false }
    }
}

/// The network that is meant, and the address there.
fn find<'a>(world: World<'a>, place: &Place) -> Result<(&'a HeldNetwork, Option<IpAddr>), Refusal> {
    let all = &world.held.networks;
    let names = || all.iter().map(|held| held.network.name.to_string()).collect::<Vec<_>>().join(", ");
    match place {
        Place::Only => match &all[..] {
            [only] => Ok((only, None)),
            [] => never("there is no network yet; `overlay network create` makes one"),
            _ => never(format!("there are several networks; say which: {}", names())),
        },
        Place::Network(name) => match world.held.named(name) {
            Some(held) => Ok((held, None)),
            None => never(format!("there is no network {name} on this host; `overlay network ls` shows them")),
        },
        Place::Address(ip, length) => {
            let has = |held: &&HeldNetwork| nets(held).iter().any(|net| net.contains(ip));
            let Some(held) = all.iter().find(has) else {
                return never(format!(
                    "no network of the overlay has {ip} (`overlay network ls` shows them); where it leads elsewhere, say \
                     so by --bridge or --parent"
                ));
            };
            let net = nets(held).into_iter().find(|net| net.contains(ip)).expect("it has it");
            let block = if ip.is_ipv4() { held.network.block_bits } else { 64 };
            match length {
                Some(length) if *length == net.prefix_len() && net.network() == *ip => Ok((held, None)),
                Some(length) if ![net.prefix_len(), block, net.max_prefix_len()].contains(length) => never(format!(
                    "{ip}/{length} is not how the network {} ({net}) is split; give {ip} alone",
                    held.network.name
                )),
                _ => Ok((held, Some(*ip))),
            }
        }
        Place::Outside(..) => never("it is in no network of the overlay"),
    }
}

fn nets(held: &HeldNetwork) -> [IpNet; 2] {
    [IpNet::V4(held.network.subnet), IpNet::V6(held.network.subnet6)]
}

/// What the host's end of a container's link is called, and the container's own while it is still here.
pub(crate) fn ends(id: &str, number: u8) -> (String, String) {
    let short = id.get(..8).unwrap_or(id);
    (format!("ova-{short}-{number}"), format!("ovt-{short}-{number}"))
}

#[cfg(test)]
mod tests;
