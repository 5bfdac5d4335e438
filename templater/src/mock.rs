//! Made-up data, in place of a registry and of the host: for trying templates out. Pure.
//!
//! YAML or JSON; everything may be left out:
//!
//! ```yaml
//! services:
//!   web:
//!     - {id: web-1, address: 10.0.0.1, port: 8080, tags: [v1], meta: {version: v1}, status: passing, node: {name: n1}}
//! nodes: [{name: n1, address: 10.9.9.9}]
//! keys: {app/name: shop}
//! datacenters: [dc1]
//! env: {HTTP_PORT: "80"}
//! addresses: {eth0: [10.1.2.3]}
//! now: 2024-05-06T07:08:09Z
//! ```
//!
//! It is the same in every datacenter.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    host::Host,
    values::{
        Answer, Dependency, Instance, Item, NodeFacts, NodeInstance, NodeWithServices, Pair, ServiceName, Status,
    },
};

/// A whole file of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mock {
    services: BTreeMap<String, Vec<Instance>>,
    nodes: Vec<NodeFacts>,
    keys: BTreeMap<String, String>,
    datacenters: Vec<String>,
    env: BTreeMap<String, String>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    now: Option<String>,
}

impl Mock {
    /// Reads YAML, of which JSON is a part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut mock: Self = match text.trim() {
            "" => Self::default(),
            _ => serde_yaml::from_str(text).map_err(|e| e.to_string())?,
        };
        for (name, instances) in &mut mock.services {
            for (n, instance) in instances.iter_mut().enumerate() {
                complete(instance, name, n);
            }
        }
        mock.now()?;
        Ok(mock)
    }

    /// The time that the data have.
    pub(crate) fn now(&self) -> Result<Timestamp, String> {
        let text = self.now.as_deref().unwrap_or("1970-01-01T00:00:00Z");
        text.parse().map_err(|e| format!("now: {e}"))
    }

    /// The host that renders.
    pub(crate) fn host(&self) -> Host {
        let each =
            |(name, list): (&String, &Vec<IpAddr>)| list.iter().map(|ip| (name.clone(), *ip)).collect::<Vec<_>>();
        Host { environment: self.env.clone(), addresses: self.addresses.iter().flat_map(each).collect() }
    }

    /// What a registry with these data answers; nothing about files, which are real.
    pub(crate) fn answer(&self, dependency: &Dependency) -> Result<Answer, String> {
        Ok(match dependency {
            Dependency::Service(query) if query.filter.is_some() => {
                return Err(format!(
                    "{dependency}: only a registry knows filters; leave it out, or try it with --dry-run"
                ));
            }
            Dependency::Service(query) => {
                let all = self.services.get(&query.name).into_iter().flatten();
                Answer::of(all.filter(|i| !query.passing || i.status == Status::Passing).cloned().collect())
            }
            Dependency::Services => Answer::Services(self.services.iter().map(service_name).collect()),
            Dependency::Node(name) => Answer::Node(self.node(name)),
            Dependency::Nodes { .. } => Answer::Nodes(self.nodes.iter().cloned().map(Item::new).collect()),
            Dependency::NodeHealth => Answer::NodeHealth(BTreeMap::new()),
            Dependency::Datacenters => Answer::Datacenters(self.datacenters.clone()),
            Dependency::Key(path) => Answer::Key(self.keys.get(path).cloned()),
            Dependency::Prefix(prefix) => {
                let below = self.keys.iter().filter(|(path, _)| path.starts_with(prefix));
                let pair = |(path, value): (&String, &String)| Pair {
                    path: path.clone(),
                    value: value.clone(),
                    ..Pair::default()
                };
                Answer::Pairs(below.map(pair).collect())
            }
            Dependency::In { what, .. } => self.answer(what)?,
            Dependency::File { .. } => unreachable!("files are read from disk"),
        })
    }

    fn node(&self, name: &str) -> Option<Item<NodeWithServices>> {
        let node = self.nodes.iter().find(|node| node.name == name)?.clone();
        let here = self.services.values().flatten().filter(|i| i.node.name == name);
        let services = here.map(|i| NodeInstance {
            id: i.id.clone(),
            name: i.name.clone(),
            address: i.address.clone(),
            port: i.port,
            tags: i.tags.clone(),
            meta: i.meta.clone(),
        });
        Some(Item::new(NodeWithServices { services: services.collect(), node }))
    }
}

/// What is left out is made up, in the same way each time.
fn complete(instance: &mut Instance, service: &str, n: usize) {
    let fill = |text: &mut String, with: String| {
        if text.is_empty() {
            *text = with;
        }
    };
    fill(&mut instance.name, service.to_owned());
    fill(&mut instance.id, format!("{service}-{}", n + 1));
    fill(&mut instance.node.name, "node".to_owned());
    fill(&mut instance.node.address, "127.0.0.1".to_owned());
    let of_node = instance.node.address.clone();
    fill(&mut instance.address, of_node);
    instance.tags.sort_unstable();
}

fn service_name((name, instances): (&String, &Vec<Instance>)) -> Item<ServiceName> {
    let tags: BTreeSet<_> = instances.iter().flat_map(|i| i.tags.clone()).collect();
    Item::new(ServiceName { name: name.clone(), tags: tags.into_iter().collect() })
}
