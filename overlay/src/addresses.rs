//! Which address a container gets, of those that this host may give. Pure.
//!
//! Addresses that were never given come first, then those that have been free for the longest: whoever still believes in
//! an old one has all the time there is to learn better.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Of a larger range only the first so many are given by themselves; others have to be asked for.
const LARGEST: u32 = 1 << 16;

/// The addresses of one family that this host gives in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The network's own, all of it; what an address has to be in.
    subnet: IpNet,
    /// What may be given of it, in this order.
    ranges: Vec<IpNet>,
    taken: BTreeSet<IpAddr>,
    /// What is free again; the latest last.
    freed: VecDeque<IpAddr>,
}

/// Why there is no address; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none of the network's.
    #[error("it is not in {0}")]
    Outside(IpNet),
    /// It is the network's, but not given here.
    #[error("it is not among the addresses that this host gives")]
    Elsewhere,
    /// It stands for the network itself, or for all in it.
    #[error("no host can have it")]
    Reserved,
    /// Somebody has it.
    #[error("it is in use")]
    Taken,
    /// All are given.
    #[error("all addresses are in use")]
    Full,
}

impl Addresses {
    /// Those of a network that gives all of them here.
    pub fn new(subnet: IpNet) -> Self {
        let subnet = subnet.trunc();
        Self { subnet, ranges: vec![subnet], taken: BTreeSet::new(), freed: VecDeque::new() }
    }

    /// The network.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Gives only these from now on. What was given stays so.
    pub fn set_ranges(&mut self, ranges: impl IntoIterator<Item = IpNet>) {
        self.ranges = ranges.into_iter().map(|range| range.trunc()).collect();
    }

    /// What may be given.
    pub fn ranges(&self) -> &[IpNet] {
        &self.ranges
    }

    /// What is given.
    pub fn taken(&self) -> &BTreeSet<IpAddr> {
        &self.taken
    }

    /// How many can be given, in all.
    pub fn capacity(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(count(*range))).sum()
    }

    /// Gives an address.
    ///
    /// # Errors
    /// [`Refusal::Full`]
    pub fn take_any(&mut self) -> Result<IpAddr, Refusal> {
        let address = self.next().ok_or(Refusal::Full)?;
        self.taken.insert(address);
        self.freed.retain(|freed| *freed != address);
        Ok(address)
    }

    /// Gives this very address, out of the ranges.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn take(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if self.subnet.contains(&address) && !self.ranges.iter().any(|range| range.contains(&address)) {
            return Err(Refusal::Elsewhere);
        }
        self.reserve(address)
    }

    /// Has nobody given this address, be it in the ranges or not: the gateway has it, or something beside the containers.
    ///
    /// # Errors
    /// [`Refusal`], but [`Refusal::Elsewhere`].
    pub fn reserve(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if !self.subnet.contains(&address) {
            return Err(Refusal::Outside(self.subnet));
        }
        if !usable(self.subnet, address) {
            return Err(Refusal::Reserved);
        }
        if !self.taken.insert(address) {
            return Err(Refusal::Taken);
        }
        self.freed.retain(|freed| *freed != address);
        Ok(())
    }

    /// It is free again; whether it was given.
    pub fn release(&mut self, address: IpAddr) -> bool {
        let given = self.taken.remove(&address);
        if given {
            self.freed.push_back(address);
            if self.freed.len() > LARGEST as usize {
                self.freed.pop_front();
            }
        }
        given
    }

    fn next(&self) -> Option<IpAddr> {
        let freed: BTreeSet<_> = self.freed.iter().collect();
        let all = || self.ranges.iter().flat_map(|range| candidates(*range));
        let free = |address: &IpAddr| usable(self.subnet, *address) && !self.taken.contains(address);
        let new = all().find(|address| free(address) && !freed.contains(address));
        new.or_else(|| self.freed.iter().copied().find(|address| free(address) && self.offers(*address)))
    }

    fn offers(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// How many [`candidates`] there are.
fn count(range: IpNet) -> u32 {
    let bits = range.max_prefix_len() - range.prefix_len();
    let all = if bits >= 16 { LARGEST } else { 1 << bits };
    // The first and the last, as below.
    if bits > 1 { all - 2 } else { all }
}

/// The addresses that are given by themselves, but for the first and the last: of a host's block they look like those of
/// the network itself and of all in it to whoever takes the block for a network.
fn candidates(range: IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, skip) = (number(range.network()), u32::from(range.max_prefix_len() - range.prefix_len() > 1));
    (skip..count(range) + skip).map(move |n| address(range, first + u128::from(n)))
}

/// Whether a host may have the address, by the rules of its family.
fn usable(subnet: IpNet, address: IpAddr) -> bool {
    match subnet {
        IpNet::V4(net) => net.prefix_len() > 30 || (address != net.network() && address != net.broadcast()),
        // RFC 4291, section 2.6.1: the first is any router's.
        IpNet::V6(net) => net.prefix_len() > 126 || address != net.network(),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(family: IpNet, number: u128) -> IpAddr {
    match family {
        IpNet::V4(_) => IpAddr::V4(u32::try_from(number).expect("it is in a net of IPv4").into()),
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}

/// The first address of a network that a host can have: where its gateway is unless told otherwise.
pub fn first(net: IpNet) -> Option<IpAddr> {
    let host_bits = net.max_prefix_len() - net.prefix_len();
    (host_bits > 1).then(|| address(net, number(net.network()) + 1))
}

#[cfg(test)]
mod tests;
