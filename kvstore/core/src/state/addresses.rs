//! Who is at an IP address: by the catalog, and by what keys say.

use std::{net::IpAddr, sync::Arc};

use super::State;
use crate::{
    names::{InstanceId, NodeKey},
    row::{Instance, Stamped},
    version,
};

impl State {
    /// Who is registered with an IP address: hosts (no instance id) and instances with an address of their own.
    pub fn holders_of(&self, address: IpAddr) -> impl Iterator<Item = (&NodeKey, Option<&InstanceId>)> {
        let found = self.by_address.get(&address);
        found.into_iter().flatten().map(|(node, id)| (node, id.as_ref()))
    }

    /// Who may ask from an address: containers by their networks' addresses, and what has no such addresses by the one it
    /// is registered with.
    pub(crate) fn callers_at(&self, address: IpAddr) -> impl Iterator<Item = &Instance> {
        let containers = self.by_network.get(&address).into_iter().flatten();
        let containers = containers.filter_map(|(node, id)| self.instance(node, id));
        let registered = self.holders_of(address).flat_map(|(node, id)| {
            let own = id.and_then(|id| self.instance(node, id));
            // With an address of their own they are elsewhere.
            let of_host = id.is_none().then(|| self.instances_on(node).filter(|i| i.address.is_empty()));
            own.into_iter().chain(of_host.into_iter().flatten())
        });
        let elsewhere = |instance: &&Arc<Stamped<Instance>>| version::network_addresses(instance).next().is_none();
        containers.chain(registered.filter(elsewhere)).map(|instance| &instance.value)
    }

    /// What keys say about who asks from an address: the host it is on, and its version.
    pub(crate) fn told_callers_at(&self, address: IpAddr) -> impl Iterator<Item = (&NodeKey, Option<&str>)> {
        let found = self.told_callers.get(&address).into_iter().flatten();
        found.filter_map(|(node, key)| Some((node, version::told(&self.key(key)?.value.value))))
    }

    /// Whether a host is registered with this address.
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        self.holders_of(address).any(|(_, instance)| instance.is_none())
    }

    /// Whether the host is registered with this address.
    pub(crate) fn has_address(&self, node: &NodeKey, address: IpAddr) -> bool {
        self.by_address.get(&address).is_some_and(|holders| holders.contains(&(node.clone(), None)))
    }

    /// Whether two hosts of the catalog are one: registered with the same address, which is not everybody's own.
    pub(crate) fn share_address(&self, one: &NodeKey, other: &NodeKey) -> bool {
        let address = self.node(one).and_then(|node| node.address.parse::<IpAddr>().ok());
        address.is_some_and(|address| !address.is_loopback() && self.has_address(other, address))
    }
}
