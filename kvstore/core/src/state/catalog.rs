//! Reads of hosts, instances and checks.

use std::sync::Arc;

use imbl::OrdMap;

use super::State;
use crate::{
    health::Status,
    names::{CheckId, Empty, InstanceId, NodeKey, ServiceKey},
    row::{Check, Instance, Node, Stamped},
};

/// An instance with its host and what its checks make of it.
#[derive(Clone, Copy, Debug)]
pub struct InstanceView<'a> {
    state: &'a State,
    /// Its host.
    pub node: &'a Arc<Stamped<Node>>,
    /// The instance.
    pub instance: &'a Arc<Stamped<Instance>>,
}

impl<'a> InstanceView<'a> {
    /// The checks of its host, then its own, each set by id.
    pub fn checks(&self) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        let (state, instance) = (self.state, self.instance);
        state.node_level_checks(&instance.node).chain(state.checks_of(&instance.node, Some(&instance.id)))
    }

    /// The worst state of all its checks, the host's included; passing without any.
    pub fn status(&self) -> Status {
        Status::worst(self.checks().map(|check| check.status))
    }

    /// Where it is reached: its own address, else its host's.
    pub fn address(&self) -> &'a str {
        if self.instance.address.is_empty() { &self.node.address } else { &self.instance.address }
    }
}

impl State {
    /// A host.
    pub fn node(&self, node: &NodeKey) -> Option<&Arc<Stamped<Node>>> {
        self.nodes.get(node)
    }

    /// All hosts, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeKey, &Arc<Stamped<Node>>)> {
        self.nodes.iter()
    }

    /// An instance.
    pub fn instance(&self, node: &NodeKey, id: &InstanceId) -> Option<&Arc<Stamped<Instance>>> {
        self.instances.get(&(node.clone(), id.clone()))
    }

    /// An instance with its host and health.
    pub fn instance_view(&self, node: &NodeKey, id: &InstanceId) -> Option<InstanceView<'_>> {
        let instance = self.instance(node, id)?;
        Some(InstanceView { state: self, node: self.nodes.get(node)?, instance })
    }

    /// The instances of a service, by node name, then id; empty if there is no such service.
    pub fn instances_of<'a>(&'a self, service: &ServiceKey) -> impl Iterator<Item = InstanceView<'a>> + use<'a> {
        let found = self.by_service.get(service);
        found.into_iter().flatten().filter_map(|(node, id)| self.instance_view(node, id))
    }

    /// Whether the service has an instance.
    pub fn has_service(&self, service: &ServiceKey) -> bool {
        self.by_service.contains_key(service)
    }

    /// Every service that has an instance.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_service.keys()
    }

    /// The instances on a host, by id.
    pub fn instances_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Instance>>> + use<'a> {
        of_node(&self.instances, node)
    }

    /// A check.
    pub fn check(&self, node: &NodeKey, id: &CheckId) -> Option<&Arc<Stamped<Check>>> {
        self.checks.get(&(node.clone(), id.clone()))
    }

    /// Every check of a host and its instances, by id.
    pub fn checks_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        of_node(&self.checks, node)
    }

    /// The checks of a host as a whole, by id.
    pub fn node_level_checks<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        self.checks_of(node, None)
    }

    /// The checks of one instance without its host's, or with `None` the host's; by id.
    pub fn checks_of<'a>(
        &'a self,
        node: &NodeKey,
        instance: Option<&InstanceId>,
    ) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        let found = self.checks_of.get_key_value(&(node.clone(), instance.cloned()));
        found.into_iter().flat_map(|((node, _), ids)| ids.iter().filter_map(|id| self.check(node, id)))
    }

    /// Every check there is, by node, then id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Stamped<Check>>> {
        self.checks.values()
    }

    /// The instance a check belongs to; none for a check of a host.
    pub fn instance_of(&self, check: &Check) -> Option<&Arc<Stamped<Instance>>> {
        self.instance(&check.node, check.service.as_ref()?)
    }
}

/// The rows of one host in a table keyed by host and id.
fn of_node<'a, I: Ord + Clone + From<Empty>, T>(
    table: &'a OrdMap<(NodeKey, I), Arc<Stamped<T>>>,
    node: &NodeKey,
) -> impl Iterator<Item = &'a Arc<Stamped<T>>> + use<'a, I, T> {
    let node = node.clone();
    table.range((node.clone(), I::from(Empty))..).take_while(move |((of, _), _)| *of == node).map(|(_, row)| row)
}
