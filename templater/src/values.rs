//! What templates can ask the registry for ([`Dependency`]), and the answers in the shape that templates see.
//!
//! Pure. This is also the border where foreign text is checked: names, ids and addresses come from whoever may start a
//! container and end up in files owned by root, so what could break out of a configuration line never gets past here.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use kvstore_client::types::{
    CatalogNode, CatalogServices, CheckStatus, HealthCheck, KvEntry, Meta, Node, NodeService, ServiceEntry,
};
use serde::Serialize;
use tera::Value;

/// One thing a template reads; each is kept fresh by one blocking query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependency {
    /// The instances of a service, with their checks.
    Service {
        /// The service's name.
        name: String,
        /// Only instances all of whose checks pass.
        passing: bool,
    },
    /// The names and tags of all services.
    Services,
    /// One node and what is registered on it.
    Node(String),
    /// All nodes.
    Nodes,
    /// The value of one key.
    Key(String),
    /// Every key that begins so.
    Prefix(String),
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name, passing: true } => write!(f, "service {name}"),
            Self::Service { name, passing: false } => write!(f, "service {name} in any state"),
            Self::Services => f.write_str("the list of services"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Nodes => f.write_str("the list of nodes"),
            Self::Key(path) => write!(f, "key {path}"),
            Self::Prefix(prefix) => write!(f, "the keys below {prefix}"),
        }
    }
}

/// A datum and the value that templates get for it; equal if the data are.
#[derive(Clone, Debug)]
pub struct Item<T> {
    /// The datum.
    pub data: T,
    /// The same as a template's value; cheap to clone.
    pub value: Value,
}

impl<T: Serialize> Item<T> {
    fn new(data: T) -> Self {
        let value = Value::from_serializable(&data);
        Self { data, value }
    }
}

impl<T: PartialEq> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

/// What the registry answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Dependency::Service`]: sorted by node, then id. Those with unsafe text are apart.
    Instances {
        /// Safe to print.
        safe: Vec<Item<Instance>>,
        /// With an id, a name or an address that could break out of a configuration line.
        unsafe_: Vec<Item<Instance>>,
    },
    /// To [`Dependency::Services`], sorted by name; unsafe names are left out.
    Services(Vec<Item<ServiceName>>),
    /// To [`Dependency::Node`]; `None` if there is no such node.
    Node(Option<Item<NodeWithServices>>),
    /// To [`Dependency::Nodes`], sorted by name; unsafe ones are left out.
    Nodes(Vec<Item<NodeFacts>>),
    /// To [`Dependency::Key`]; `None` if the key is absent.
    Key(Option<String>),
    /// To [`Dependency::Prefix`], sorted by path.
    Pairs(Vec<Pair>),
}

/// The newest answers, by what was asked; a dependency without an answer has no entry.
pub type Values = HashMap<Arc<Dependency>, Arc<Answer>>;

/// One registration of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // the fields that templates see; `functions` documents them
pub struct Instance {
    pub id: String,
    pub name: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: Meta,
    pub status: &'static str,
    pub checks: Vec<Check>,
    pub weights: Weights,
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    pub node: NodeFacts,
    pub dc: String,
    pub create_index: u64,
    pub modify_index: u64,
}

/// A check of an instance or of its node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Check {
    pub id: String,
    pub name: String,
    pub status: &'static str,
    pub output: String,
    pub notes: String,
    pub kind: String,
    pub service_id: String,
}

/// How much load an instance takes, by its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Weights {
    pub passing: u16,
    pub warning: u16,
}

/// One more address of an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct TaggedAddress {
    pub address: String,
    pub port: u16,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct NodeWithServices {
    #[serde(flatten)]
    pub node: NodeFacts,
    pub services: Vec<NodeInstance>,
}

/// An instance as its node lists it: without health.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ServiceName {
    pub name: String,
    pub tags: Vec<String>,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
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

/// Answers built from what the client gives.
impl Answer {
    /// To [`Dependency::Service`].
    pub fn instances(entries: Vec<ServiceEntry>) -> Self {
        let mut all: Vec<Instance> = entries.into_iter().map(instance).collect();
        all.sort_by(|a, b| (&a.node.name, &a.id).cmp(&(&b.node.name, &b.id)));
        let (safe, unsafe_): (Vec<_>, Vec<_>) = all.into_iter().partition(Instance::is_safe);
        let items = |list: Vec<Instance>| list.into_iter().map(Item::new).collect();
        Self::Instances { safe: items(safe), unsafe_: items(unsafe_) }
    }

    /// To [`Dependency::Services`].
    pub fn services(services: CatalogServices) -> Self {
        let names = services.into_iter().filter(|(name, _)| is_safe_name(name));
        Self::Services(
            names
                .map(|(name, tags)| {
                    let tags = sorted_tags(tags);
                    Item::new(ServiceName { name, tags })
                })
                .collect(),
        )
    }

    /// To [`Dependency::Node`].
    pub fn node(node: Option<CatalogNode>) -> Self {
        let safe = node.filter(|n| is_safe_name(&n.node.node) && is_safe_address(&n.node.address));
        Self::Node(safe.map(|n| {
            let address = n.node.address.clone();
            let services = n.services.into_values().map(|s| node_instance(s, &address));
            Item::new(NodeWithServices {
                services: services.filter(NodeInstance::is_safe).collect(),
                node: node_facts(n.node),
            })
        }))
    }

    /// To [`Dependency::Nodes`].
    pub fn nodes(nodes: Vec<Node>) -> Self {
        let mut nodes: Vec<_> = nodes
            .into_iter()
            .map(node_facts)
            .filter(|n| is_safe_name(&n.name) && is_safe_address(&n.address))
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Self::Nodes(nodes.into_iter().map(Item::new).collect())
    }

    /// To [`Dependency::Key`].
    pub fn key(entry: Option<KvEntry>) -> Self {
        Self::Key(entry.map(|e| text(&e.value)))
    }

    /// To [`Dependency::Prefix`].
    pub fn pairs(entries: Vec<KvEntry>) -> Self {
        Self::Pairs(entries.into_iter().map(pair).collect())
    }

    /// What was kept from templates, in words; empty when all is well.
    pub fn rejected(&self) -> Vec<String> {
        let Self::Instances { unsafe_, .. } = self else {
            return Vec::new();
        };
        unsafe_
            .iter()
            .map(|i| format!("id {:?}, address {:?}, node {:?}", i.data.id, i.data.address, i.data.node.name))
            .collect()
    }
}

impl Instance {
    fn is_safe(&self) -> bool {
        let mut tagged = self.tagged_addresses.values();
        is_safe_name(&self.id)
            && is_safe_name(&self.name)
            && is_safe_name(&self.node.name)
            && is_safe_address(&self.address)
            && is_safe_address(&self.node.address)
            && tagged.all(|t| is_safe_address(&t.address))
    }
}

impl NodeInstance {
    fn is_safe(&self) -> bool {
        is_safe_name(&self.id) && is_safe_name(&self.name) && is_safe_address(&self.address)
    }
}

/// Whether `name` stays one word in nginx's, HAProxy's and a shell's eyes: no white space, quote, comment, brace,
/// semicolon, variable or control character.
fn is_safe_name(name: &str) -> bool {
    !name.chars().any(|c| c.is_control() || c.is_whitespace() || ";{}\"'`#$\\<>|&".contains(c))
}

/// Whether `address` is an IP address or looks like a host name.
fn is_safe_address(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok()
        || address.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        || is_socket_path(address)
}

/// An instance may listen on a Unix socket instead of an address.
fn is_socket_path(address: &str) -> bool {
    address.starts_with('/') && is_safe_name(address)
}

fn instance(entry: ServiceEntry) -> Instance {
    let ServiceEntry { node, service, checks } = entry;
    let node = node_facts(node);
    let weights = service.weights.unwrap_or_default();
    Instance {
        address: first_filled(service.address, service.socket_path, &node.address),
        id: service.id,
        name: service.service,
        port: service.port,
        tags: sorted_tags(service.tags),
        meta: safe_meta(service.meta.unwrap_or_default()),
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

fn node_instance(service: NodeService, node_address: &str) -> NodeInstance {
    NodeInstance {
        address: first_filled(service.address, service.socket_path, node_address),
        id: service.id,
        name: service.service,
        port: service.port,
        tags: sorted_tags(service.tags),
        meta: safe_meta(service.meta.unwrap_or_default()),
    }
}

fn node_facts(node: Node) -> NodeFacts {
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
        status: check.status.as_str(),
        output: check.output,
        notes: check.notes,
        kind: check.kind,
        service_id: check.service_id,
    }
}

/// The worst state that any check of an instance tells: maintenance, draining, critical, warning, passing.
fn overall_status(checks: &[HealthCheck]) -> &'static str {
    let any = |is: fn(&HealthCheck) -> bool| checks.iter().any(is);
    if any(|c| c.check_id == "_node_maintenance" || c.check_id.starts_with("_service_maintenance:")) {
        "maintenance"
    } else if any(|c| c.check_id.starts_with("_draining:")) {
        "draining"
    } else {
        let worst = checks.iter().map(|c| c.status).max();
        worst.unwrap_or(CheckStatus::Passing).as_str()
    }
}

/// Sorted, so that the same set prints the same text; a tag with control characters is left out.
fn sorted_tags(mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|t| !t.contains(char::is_control));
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Without the entries that have control characters: a newline would end the line of any configuration.
fn safe_meta(mut meta: Meta) -> Meta {
    meta.retain(|k, v| !k.contains(char::is_control) && !v.contains(char::is_control));
    meta
}

fn pair(entry: KvEntry) -> Pair {
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
#[path = "values/tests.rs"]
pub(crate) mod tests;
