//! What templates can ask for ([`Dependency`]), and the answers in the shape that templates see. Pure.
//!
//! This is also the border where foreign text is checked, in `safe`.

mod safe;
mod shapes;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use kvstore_client::types::{CatalogNode, CatalogServices, CheckStatus, HealthCheck, KvEntry, Node, ServiceEntry};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tera::Value;

use safe::{is_safe_address, is_safe_name, sorted_tags};
pub use shapes::{
    Check, Instance, NodeFacts, NodeInstance, NodeWithServices, Pair, ServiceName, Status, TaggedAddress, Weights,
};
use shapes::{instance, node_facts, node_instance, pair, text};

/// One thing a template reads; each is kept fresh by one blocking query, files by the system's notices.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// The instances of a service, with their checks.
    Service(ServiceQuery),
    /// The names and tags of all services.
    Services,
    /// One node and what is registered on it.
    Node(String),
    /// All nodes; nearest to `near` first, if it is given.
    Nodes {
        /// The name of a node.
        near: Option<String>,
    },
    /// The worst check of each node that has checks of its own.
    NodeHealth,
    /// The names of all datacenters.
    Datacenters,
    /// The value of one key.
    Key(String),
    /// Every key that begins so.
    Prefix(String),
    /// A file of this host.
    File {
        /// It lies below this directory, wherever symlinks lead.
        root: PathBuf,
        /// From there.
        path: PathBuf,
    },
    /// The same of another datacenter.
    In {
        /// Its name.
        dc: String,
        /// What is asked there.
        what: Box<Dependency>,
    },
}

/// Which instances of a service are asked for; what the registry does not know is narrowed later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceQuery {
    /// The service's name.
    pub name: String,
    /// Only instances all of whose checks pass.
    pub passing: bool,
    /// Nearest to this node first.
    pub near: Option<String>,
    /// Only those of which this expression of the registry's is true.
    pub filter: Option<String>,
}

impl Dependency {
    /// The instances of `name`; only those that pass, or all.
    pub fn service(name: impl Into<String>, passing: bool) -> Self {
        Self::Service(ServiceQuery { name: name.into(), passing, ..ServiceQuery::default() })
    }

    /// The same, of the datacenter `dc` if one is given.
    pub fn in_datacenter(self, dc: Option<String>) -> Self {
        match dc {
            Some(dc) => Self::In { dc, what: Box::new(self) },
            None => self,
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(query) => {
                let state = if query.passing { "" } else { " in any state" };
                write!(f, "service {}{state}", query.name)?;
                query.filter.iter().try_for_each(|filter| write!(f, " where {filter}"))?;
                query.near.iter().try_for_each(|near| write!(f, " near {near}"))
            }
            Self::Services => f.write_str("the list of services"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Nodes { near: None } => f.write_str("the list of nodes"),
            Self::Nodes { near: Some(near) } => write!(f, "the list of nodes near {near}"),
            Self::NodeHealth => f.write_str("the checks of nodes"),
            Self::Datacenters => f.write_str("the list of datacenters"),
            Self::Key(path) => write!(f, "key {path}"),
            Self::Prefix(prefix) => write!(f, "the keys below {prefix}"),
            Self::File { root, path } => write!(f, "file {}", root.join(path).display()),
            Self::In { dc, what } => write!(f, "{what} in datacenter {dc}"),
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
    /// Both of `data`.
    pub fn new(data: T) -> Self {
        let value = Value::from_serializable(&data);
        Self { data, value }
    }
}

impl<T: PartialEq> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

/// As its datum alone; the value is made again.
impl<T: Serialize> Serialize for Item<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.data.serialize(serializer)
    }
}

impl<'de, T: Serialize + Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

/// What the registry answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Dependency::Service`]: sorted by node, then id, unless by nearness. Those with unsafe text are apart.
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
    /// To [`Dependency::Nodes`], sorted by name unless by nearness; unsafe ones are left out.
    Nodes(Vec<Item<NodeFacts>>),
    /// To [`Dependency::NodeHealth`], by the node's name.
    NodeHealth(BTreeMap<String, CheckStatus>),
    /// To [`Dependency::Datacenters`], as the registry sorts them.
    Datacenters(Vec<String>),
    /// To [`Dependency::Key`]; `None` if the key is absent.
    Key(Option<String>),
    /// To [`Dependency::Prefix`], sorted by path.
    Pairs(Vec<Pair>),
    /// To [`Dependency::File`]; or why there is no content, in words that follow its path.
    File(Result<String, String>),
}

/// The newest answers, by what was asked; a dependency without an answer has no entry.
pub type Values = HashMap<Arc<Dependency>, Arc<Answer>>;

/// Answers built from what the client gives.
impl Answer {
    /// To [`Dependency::Service`].
    pub fn instances(entries: Vec<ServiceEntry>) -> Self {
        let mut all: Vec<Instance> = entries.into_iter().map(instance).collect();
        all.sort_by(|a, b| (&a.node.name, &a.id).cmp(&(&b.node.name, &b.id)));
        Self::of(all)
    }

    /// To [`Dependency::Service`] with `near`: in the registry's order.
    pub fn nearest(entries: Vec<ServiceEntry>) -> Self {
        Self::of(entries.into_iter().map(instance).collect())
    }

    /// These instances in this order, those with unsafe text apart.
    pub fn of(all: Vec<Instance>) -> Self {
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
    pub fn nodes(mut nodes: Vec<Node>) -> Self {
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Self::nearest_nodes(nodes)
    }

    /// To [`Dependency::Nodes`] with `near`: in the registry's order.
    pub fn nearest_nodes(nodes: Vec<Node>) -> Self {
        let facts = nodes.into_iter().map(node_facts);
        let safe = facts.filter(|n| is_safe_name(&n.name) && is_safe_address(&n.address));
        Self::Nodes(safe.map(Item::new).collect())
    }

    /// To [`Dependency::NodeHealth`]: of the checks of nodes themselves, the worst of each.
    pub fn node_health(checks: Vec<HealthCheck>) -> Self {
        let mut worst = BTreeMap::new();
        for check in checks.into_iter().filter(|c| c.service_id.is_empty()) {
            let status = worst.entry(check.node).or_insert(check.status);
            *status = check.status.max(*status);
        }
        Self::NodeHealth(worst)
    }

    /// To [`Dependency::Datacenters`].
    pub fn datacenters(names: Vec<String>) -> Self {
        Self::Datacenters(names.into_iter().filter(|name| is_safe_name(name)).collect())
    }

    /// To [`Dependency::Key`].
    pub fn key(entry: Option<KvEntry>) -> Self {
        Self::Key(entry.map(|e| text(&e.value)))
    }

    /// To [`Dependency::Prefix`].
    pub fn pairs(entries: Vec<KvEntry>) -> Self {
        Self::Pairs(entries.into_iter().map(pair).collect())
    }

    /// How much there is, for who asks whether much of it is gone.
    pub fn len(&self) -> usize {
        match self {
            Self::Instances { safe, unsafe_ } => safe.len() + unsafe_.len(),
            // The registry's own is there even if it has lost everything.
            Self::Services(services) => services.iter().filter(|s| s.data.name != "consul").count(),
            Self::Node(node) => usize::from(node.is_some()),
            Self::Nodes(nodes) => nodes.len(),
            Self::NodeHealth(nodes) => nodes.len(),
            Self::Datacenters(names) => names.len(),
            Self::Key(value) => usize::from(value.is_some()),
            Self::Pairs(pairs) => pairs.len(),
            Self::File(content) => usize::from(content.is_ok()),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

#[cfg(test)]
pub(crate) mod tests;
