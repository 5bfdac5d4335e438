//! Pools and addresses: what the IPAM driver is asked for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Book, Done, Pool, Refusal, World, blocks, held, never, overlap};
use crate::{
    addresses,
    network::NetworkId,
    plugin::protocol::{Answer, PoolId, PoolRef, ReleaseAddress, RequestAddress, RequestPool},
    state::{HeldNetwork, Usage},
};

/// Where subnets are taken from that nobody has chosen: the middle of what RFC 1918 leaves to everybody, where neither
/// Docker's nor most people's own are.
pub const OFFERED: &str = "10.192.0.0/11";
/// Their size.
const OFFERED_BITS: u8 = 16;

impl Book {
    pub(super) fn request_pool(&mut self, world: World<'_>, asked: &RequestPool) -> Result<Done, Refusal> {
        let subnet = match asked.pool {
            Some(subnet) => self.check_pool(world, subnet, asked)?,
            None if asked.v6 => IpNet::V6(unique_local(world.random)),
            None => IpNet::V4(self.free_subnet(world).ok_or_else(|| {
                Refusal::Never(format!("all of {OFFERED} is in use; choose a subnet yourself, by --subnet"))
            })?),
        };
        let pool = self.pools.entry(subnet).or_insert_with(|| Pool::new(subnet, asked.sub_pool));
        (pool.asked, pool.range) = (true, asked.sub_pool);
        Ok(Done::answer(Answer::Pool(PoolId(subnet))))
    }

    /// A subnet that was chosen, if it can be had.
    fn check_pool(&self, world: World<'_>, subnet: IpNet, asked: &RequestPool) -> Result<IpNet, Refusal> {
        if subnet != subnet.trunc() {
            return never(format!("{subnet} is no subnet, but an address in {}", subnet.trunc()));
        }
        if matches!(subnet, IpNet::V6(_)) != asked.v6 {
            return never(format!("{subnet} is not of the family that is asked for"));
        }
        if let Some(range) = asked.sub_pool.filter(|range| !subnet.contains(range)) {
            return never(format!("the range {range} is not in {subnet}"));
        }
        if self.pools.get(&subnet).is_some_and(|pool| pool.asked) {
            return never(self.in_the_way(world, subnet, subnet, "another network of this Docker"));
        }
        self.check_overlap(world, subnet).map(|()| subnet)
    }

    /// Whether `subnet` is in nobody's way, but for a network of exactly these addresses.
    pub(super) fn check_overlap(&self, world: World<'_>, subnet: IpNet) -> Result<(), Refusal> {
        if let Some(other) = self.pools.keys().find(|other| **other != subnet && overlap(**other, subnet)) {
            return never(self.in_the_way(world, subnet, *other, "another network of this Docker"));
        }
        for network in world.held.networks.iter().map(|held| &held.network) {
            for other in [IpNet::V4(network.subnet), IpNet::V6(network.subnet6)] {
                if other != subnet && overlap(other, subnet) {
                    return never(self.in_the_way(world, subnet, other, &format!("the network {}", network.name)));
                }
            }
        }
        Ok(())
    }

    fn in_the_way(&self, world: World<'_>, subnet: IpNet, other: IpNet, whose: &str) -> String {
        let free = self.free_subnet(world).map(|free| format!("; {free} is free")).unwrap_or_default();
        format!("{subnet} overlaps {other}, which {whose} has{free}")
    }

    /// The first that is in nobody's way; a different one each time, until it is given back. Each host begins elsewhere, so
    /// that networks made at the same time on different hosts seldom meet.
    fn free_subnet(&self, world: World<'_>) -> Option<Ipv4Net> {
        let offered: Ipv4Net = OFFERED.parse().expect("a subnet");
        let all: Vec<_> = offered.subnets(OFFERED_BITS).expect("it is larger than each").collect();
        let (before, first) = all.split_at(usize::from(world.held.node.0[0]) % all.len());
        let taken = |subnet: IpNet| {
            let networks = world.held.networks.iter().map(|held| IpNet::V4(held.network.subnet));
            let mut all = self.pools.keys().copied().chain(world.busy.iter().copied()).chain(networks);
            all.any(|other| overlap(other, subnet))
        };
        first.iter().chain(before).copied().find(|subnet| !taken(IpNet::V4(*subnet)))
    }

    pub(super) fn release_pool(&mut self, of: &PoolRef) -> Done {
        self.forget_pool(of.pool.0);
        Done::answer(Answer::Nothing)
    }

    /// What is attached keeps its addresses.
    pub(super) fn forget_pool(&mut self, subnet: IpNet) {
        if !self.has_attached(subnet) {
            self.pools.remove(&subnet);
        } else if let Some(pool) = self.pools.get_mut(&subnet) {
            (pool.asked, pool.range) = (false, None);
            if let Some(gateway) = pool.gateway.take() {
                pool.addresses.release(gateway);
            }
        }
    }

    pub(super) fn request_address(&mut self, world: World<'_>, asked: &RequestAddress) -> Result<Done, Refusal> {
        let subnet = asked.pool.0;
        let ranges = self.ranges(world, subnet);
        let own = held(world, subnet).map(|held| blocks(held, subnet)).unwrap_or_default();
        let Some(pool) = self.pools.get_mut(&subnet) else {
            return never(format!("there is no pool {}", asked.pool));
        };
        let address = if asked.is_for_gateway() {
            pool.gateway(world, asked.address)?
        } else {
            // This host has the first address of each block for itself, wherever the gateway is.
            for address in own.into_iter().filter_map(addresses::first) {
                let _ = pool.addresses.reserve(address);
            }
            pool.container(ranges, asked.address)?
        };
        let address = IpNet::new(address, subnet.prefix_len()).expect("the length of a subnet of its family");
        Ok(Done::answer(Answer::Address(address)))
    }

    /// What containers may get of a pool; None if that is yet to be told.
    fn ranges(&self, world: World<'_>, subnet: IpNet) -> Option<Vec<IpNet>> {
        let shared = held(world, subnet);
        let ours = self.networks.values().any(|network| network.pools.contains(&subnet) && !network.local);
        match shared {
            Some(held) if held.blocks.is_empty() => None,
            Some(held) => Some(blocks(held, subnet)),
            None if ours => None,
            // Nobody else knows of it: a network of Docker's own with our addresses, or one for this host alone.
            None => Some(vec![subnet]),
        }
    }

    /// The subnets that Docker has from us, for our networks or for its own.
    pub(in crate::plugin) fn given(&self) -> BTreeSet<IpNet> {
        let asked = self.pools.iter().filter(|(_, pool)| pool.asked).map(|(subnet, _)| subnet);
        asked.chain(self.networks.values().flat_map(|network| &network.pools)).copied().collect()
    }

    /// How much is given of each network of the mesh.
    pub(in crate::plugin) fn usage(&self, world: World<'_>) -> Vec<(NetworkId, Usage)> {
        let of = |held: &HeldNetwork| {
            let pool = self.pools.get(&IpNet::V4(held.network.subnet))?;
            let all = held.blocks.iter().map(|block| (1_u64 << (32 - block.v4.prefix_len())) - 2).sum();
            // Docker gives the other half itself, and does not tell.
            let capacity = if pool.gateway.is_some() { all } else { pool.addresses.capacity() };
            Some((held.network.id, Usage { used: pool.addresses.taken().len() as u64, capacity }))
        };
        world.held.networks.iter().filter_map(of).collect()
    }

    pub(super) fn release_address(&mut self, given: &ReleaseAddress) -> Done {
        if let Some(pool) = self.pools.get_mut(&given.pool.0) {
            pool.addresses.release(given.address);
            pool.gateway = pool.gateway.filter(|gateway| *gateway != given.address);
        }
        Done::answer(Answer::Nothing)
    }
}

impl Pool {
    /// The same again for whoever asks again.
    fn gateway(&mut self, world: World<'_>, wanted: Option<IpAddr>) -> Result<IpAddr, Refusal> {
        let subnet = self.addresses.subnet();
        if let Some(gateway) = self.gateway.filter(|gateway| wanted.is_none_or(|wanted| wanted == *gateway)) {
            return Ok(gateway);
        }
        // On every host the same, where this one has no part of the network yet: nobody asks others for it.
        let block = held(world, subnet).and_then(|held| blocks(held, subnet).first().copied());
        let gateway = wanted.or_else(|| addresses::first(block.unwrap_or(subnet)));
        let Some(gateway) = gateway else {
            return never(format!("{subnet} is too small for a gateway and containers"));
        };
        match self.addresses.reserve(gateway) {
            Err(addresses::Refusal::Taken) if own_addresses(world, subnet).contains(&gateway) => {}
            other => other.map_err(|e| refused(gateway, e))?,
        }
        if let Some(former) = self.gateway.replace(gateway) {
            self.addresses.release(former);
        }
        Ok(gateway)
    }

    fn container(&mut self, ranges: Option<Vec<IpNet>>, wanted: Option<IpAddr>) -> Result<IpAddr, Refusal> {
        let subnet = self.addresses.subnet();
        let Some(ranges) = ranges else {
            let why =
                format!("this host has no block of {subnet} yet: the registry gives it one; `overlay status` tells");
            return Err(Refusal::NotYet(why));
        };
        let mine = ranges.clone();
        self.addresses.set_ranges(ranges);
        if let Some(wanted) = wanted {
            return self.addresses.take(wanted).map(|()| wanted).map_err(|e| elsewhere(wanted, e, &mine));
        }
        if let Some(range) = self.range {
            // Where they overlap, the smaller of the two.
            let within = |block: &IpNet| {
                if range.contains(block) { Some(*block) } else { block.contains(&range).then_some(range) }
            };
            let narrowed: Vec<_> = mine.iter().filter_map(within).collect();
            if narrowed.is_empty() {
                return never(format!("the range {range} is in none of this host's blocks: {}", list(&mine)));
            }
            self.addresses.set_ranges(narrowed);
        }
        let given = self.addresses.take_any();
        given.map_err(|e| Refusal::Never(format!("no address of {}: {e}", list(self.addresses.ranges()))))
    }
}

/// What the host itself has in its blocks.
pub(super) fn own_addresses(world: World<'_>, pool: IpNet) -> Vec<IpAddr> {
    let shared = held(world, pool).filter(|held| !held.network.local);
    shared.map(|held| blocks(held, pool)).unwrap_or_default().into_iter().filter_map(addresses::first).collect()
}

fn refused(address: IpAddr, why: addresses::Refusal) -> Refusal {
    Refusal::Never(format!("{address} cannot be given: {why}"))
}

pub(super) fn elsewhere(address: IpAddr, why: addresses::Refusal, mine: &[IpNet]) -> Refusal {
    match why {
        addresses::Refusal::Elsewhere => Refusal::Never(format!(
            "{address} cannot be given: it is in the block of another host, or of none; this one gives {}",
            list(mine)
        )),
        other => refused(address, other),
    }
}

pub(super) fn list(nets: &[IpNet]) -> String {
    nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

/// RFC 4193: fd and 40 bits that nobody else is likely to have.
fn unique_local(random: u64) -> Ipv6Net {
    let prefix = (0xfd << 40) | (u128::from(random) & 0xff_ffff_ffff);
    Ipv6Net::new(Ipv6Addr::from(prefix << 80), 48).expect("at most 128 bits")
}
