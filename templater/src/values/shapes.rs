//! What templates see of instances, nodes and keys, made from what the registry answers.

use std::collections::BTreeMap;

use kvstore_client::types::{CheckStatus, HealthCheck, KvEntry, Meta, Node, NodeService, ServiceEntry};
use serde::{Deserialize, Serialize};

use super::safe::{is_safe_name, safe_meta, sorted_tags};

/// One registration of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // the fields that templates see; `functions` documents them
pub struct Instance {
    pub id: String,
    pub name: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: Meta,
    pub status: Status,
    pub checks: Vec<Check>,
    pub weights: Weights,
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    pub node: NodeFacts,
    pub container: Option<Container>,
    pub dc: String,
    pub create_index: u64,
    pub modify_index: u64,
}

/// The metadata by which the registrar tells an instance's container.
const CONTAINER: &str = "registrar-container";

/// The container that an instance runs in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Container {
    pub id: String,
}

/// How an instance is, by the worst that any of its checks tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Status {
    #[default]
    Passing,
    Warning,
    Critical,
    Draining,
    Maintenance,
}

impl Status {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [Self::Passing, Self::Warning, Self::Critical, Self::Draining, Self::Maintenance];

    /// As templates write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A check of an instance or of its node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Check {
    pub id: String,
    pub name: String,
    pub status: CheckStatus,
    pub output: String,
    pub notes: String,
    pub kind: String,
    pub service_id: String,
}

/// How much load an instance takes, by its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Weights {
    pub passing: u16,
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// One more address of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TaggedAddress {
    pub address: String,
    pub port: u16,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct NodeFacts {
    pub name: String,
    pub id: String,
    pub address: String,
    pub meta: Meta,
    pub tagged_addresses: Meta,
    pub dc: String,
}

/// A host and the instances on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NodeWithServices {
    #[serde(flatten)]
    pub node: NodeFacts,
    pub services: Vec<NodeInstance>,
}

/// An instance as its node lists it: without health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NodeInstance {
    pub id: String,
    pub name: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: Meta,
}

/// A service's name and the union of its instances' tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ServiceName {
    pub name: String,
    pub tags: Vec<String>,
}

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Pair {
    pub path: String,
    pub value: String,
    pub flags: u64,
    pub create_index: u64,
    pub modify_index: u64,
    pub lock_index: u64,
    pub session: String,
}

pub(super) fn instance(entry: ServiceEntry) -> Instance {
    let ServiceEntry { node, service, checks } = entry;
    let node = node_facts(node);
    let weights = service.weights.unwrap_or_default();
    let meta = safe_meta(service.meta.unwrap_or_default());
    Instance {
        address: first_filled(service.address, service.socket_path, &node.address),
        id: service.id,
        name: service.service,
        port: service.port,
        tags: sorted_tags(service.tags),
        container: meta.get(CONTAINER).map(|id| Container { id: id.clone() }),
        meta,
        status: overall_status(&checks),
        checks: checks.into_iter().map(check).collect(),
        weights: Weights { passing: weights.passing, warning: weights.warning },
        tagged_addresses: service
            .tagged_addresses
            .into_iter()
            .filter(|(name, _)| is_safe_name(name))
            .map(|(name, a)| {
                let (address, port) = (a.address, a.port);
                (name, TaggedAddress { address, port })
            })
            .collect(),
        dc: node.dc.clone(),
        node,
        create_index: service.create_index,
        modify_index: service.modify_index,
    }
}

fn first_filled(address: String, socket: String, node_address: &str) -> String {
    if !address.is_empty() {
        address
    } else if !socket.is_empty() {
        socket
    } else {
        node_address.to_owned()
    }
}

pub(super) fn node_instance(service: NodeService, node_address: &str) -> NodeInstance {
    NodeInstance {
        address: first_filled(service.address, service.socket_path, node_address),
        id: service.id,
        name: service.service,
        port: service.port,
        tags: sorted_tags(service.tags),
        meta: safe_meta(service.meta.unwrap_or_default()),
    }
}

pub(super) fn node_facts(node: Node) -> NodeFacts {
    NodeFacts {
        name: node.node,
        id: node.id,
        address: node.address,
        meta: safe_meta(node.meta.unwrap_or_default()),
        tagged_addresses: safe_meta(node.tagged_addresses.unwrap_or_default()),
        dc: node.datacenter,
    }
}

fn check(check: HealthCheck) -> Check {
    Check {
        id: check.check_id,
        name: check.name,
        status: check.status,
        output: check.output,
        notes: check.notes,
        kind: check.kind,
        service_id: check.service_id,
    }
}

/// The worst state that any check of an instance tells.
fn overall_status(checks: &[HealthCheck]) -> Status {
    let any = |is: fn(&HealthCheck) -> bool| checks.iter().any(is);
    if any(|c| c.check_id == "_node_maintenance" || c.check_id.starts_with("_service_maintenance:")) {
        Status::Maintenance
    } else if any(|c| c.check_id.starts_with("_draining:")) {
        Status::Draining
    } else {
        match checks.iter().map(|c| c.status).max() {
            None | Some(CheckStatus::Passing) => Status::Passing,
            Some(CheckStatus::Warning) => Status::Warning,
            Some(CheckStatus::Critical) => Status::Critical,
        }
    }
}

pub(super) fn pair(entry: KvEntry) -> Pair {
    Pair {
        value: text(&entry.value),
        path: entry.key,
        flags: entry.flags,
        create_index: entry.create_index,
        modify_index: entry.modify_index,
        lock_index: entry.lock_index,
        session: entry.session,
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
