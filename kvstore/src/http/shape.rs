//! Rows as the JSON of the API.

use kvstore_client::types::{
    AgentService, CatalogService, CheckStatus, HealthCheck, KvEntry, Meta, Node, NodeService, ServiceAddress,
    ServiceEntry, Weights,
};
use kvstore_core::{
    InstanceView, State,
    health::Status,
    row::{self, Stamped},
};
use serde_json::{Value, json};

use std::collections::BTreeMap;

/// Shapes rows of one datacenter.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) datacenter: String,
}

pub(super) fn kv(entry: &Stamped<row::KvEntry>) -> KvEntry {
    KvEntry {
        lock_index: entry.lock_index,
        key: entry.key.as_str().to_owned(),
        flags: entry.flags,
        value: entry.value.value.clone(),
        session: entry.session.as_ref().map(ToString::to_string).unwrap_or_default(),
        create_index: entry.created.0,
        modify_index: entry.modified.0,
    }
}

pub(super) fn status(status: Status) -> CheckStatus {
    match status {
        Status::Passing => CheckStatus::Passing,
        Status::Warning => CheckStatus::Warning,
        Status::Critical => CheckStatus::Critical,
    }
}

fn weights(weights: row::Weights) -> Weights {
    Weights { passing: weights.passing, warning: weights.warning }
}

fn tagged(addresses: &BTreeMap<String, row::TaggedAddress>) -> BTreeMap<String, ServiceAddress> {
    let address = |a: &row::TaggedAddress| ServiceAddress { address: a.address.clone(), port: a.port };
    addresses.iter().map(|(name, a)| (name.clone(), address(a))).collect()
}

fn proxy(proxy: &Value) -> Value {
    if proxy.is_null() { json!({"Mode": "", "MeshGateway": {}, "Expose": {}}) } else { proxy.clone() }
}

fn connect(connect: &Value) -> Value {
    if connect.is_null() { json!({}) } else { connect.clone() }
}

impl Shape {
    pub(super) fn node(&self, node: &Stamped<row::Node>) -> Node {
        Node {
            id: node.id.clone(),
            node: node.name.clone(),
            address: node.address.clone(),
            datacenter: self.datacenter.clone(),
            tagged_addresses: node.tagged_addresses.clone(),
            meta: node.meta.clone(),
            create_index: node.created.0,
            modify_index: node.modified.0,
        }
    }

    pub(super) fn catalog_service(&self, view: &InstanceView<'_>) -> CatalogService {
        let (node, instance) = (view.node, view.instance);
        CatalogService {
            id: node.id.clone(),
            node: node.name.clone(),
            address: node.address.clone(),
            datacenter: self.datacenter.clone(),
            tagged_addresses: node.tagged_addresses.clone(),
            node_meta: node.meta.clone(),
            service_kind: instance.kind.clone(),
            service_id: instance.id.to_string(),
            service_name: instance.service.clone(),
            service_tags: instance.tags.clone(),
            service_address: instance.address.clone(),
            service_tagged_addresses: tagged(&instance.tagged_addresses),
            service_weights: weights(instance.weights),
            service_meta: instance.meta.clone().unwrap_or_default(),
            service_port: instance.port,
            service_socket_path: instance.socket_path.clone(),
            service_enable_tag_override: instance.enable_tag_override,
            service_proxy: proxy(&instance.proxy),
            service_connect: connect(&instance.connect),
            create_index: instance.created.0,
            modify_index: instance.modified.0,
        }
    }

    pub(super) fn entry(&self, state: &State, view: &InstanceView<'_>) -> ServiceEntry {
        ServiceEntry {
            node: self.node(view.node),
            service: node_service(view.instance),
            checks: view.checks().map(|c| check(state, c)).collect(),
        }
    }

    pub(super) fn agent_service(&self, instance: &Stamped<row::Instance>) -> AgentService {
        AgentService {
            kind: instance.kind.clone(),
            id: instance.id.to_string(),
            service: instance.service.clone(),
            tags: instance.tags.clone(),
            meta: instance.meta.clone().unwrap_or_default(),
            port: instance.port,
            address: instance.address.clone(),
            socket_path: instance.socket_path.clone(),
            tagged_addresses: tagged(&instance.tagged_addresses),
            weights: weights(instance.weights),
            enable_tag_override: instance.enable_tag_override,
            content_hash: String::new(),
            proxy: instance.proxy.clone(),
            connect: instance.connect.clone(),
            datacenter: self.datacenter.clone(),
        }
    }
}

pub(super) fn node_service(instance: &Stamped<row::Instance>) -> NodeService {
    NodeService {
        kind: instance.kind.clone(),
        id: instance.id.to_string(),
        service: instance.service.clone(),
        tags: instance.tags.clone(),
        address: instance.address.clone(),
        tagged_addresses: tagged(&instance.tagged_addresses),
        meta: instance.meta.clone(),
        port: instance.port,
        socket_path: instance.socket_path.clone(),
        weights: Some(weights(instance.weights)),
        enable_tag_override: instance.enable_tag_override,
        proxy: proxy(&instance.proxy),
        connect: connect(&instance.connect),
        peer_name: String::new(),
        create_index: instance.created.0,
        modify_index: instance.modified.0,
        ..NodeService::default()
    }
}

/// A check with the name and tags of its instance.
pub(super) fn check(state: &State, check: &Stamped<row::Check>) -> HealthCheck {
    let instance = state.instance_of(check);
    HealthCheck {
        node: state.node(&check.node).map_or_else(|| check.node.to_string(), |node| node.name.clone()),
        check_id: check.id.to_string(),
        name: check.name.clone(),
        status: status(check.status),
        notes: check.notes.clone(),
        output: check.output.clone(),
        service_id: check.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        service_name: instance.map(|i| i.service.clone()).unwrap_or_default(),
        service_tags: Some(instance.map(|i| i.tags.clone()).unwrap_or_default()),
        kind: check.kind.clone(),
        interval: check.interval.clone(),
        timeout: check.timeout.clone(),
        exposed_port: 0,
        // What was put in was of this type.
        definition: serde_json::from_value(check.definition.clone()).unwrap_or_default(),
        create_index: check.created.0,
        modify_index: check.modified.0,
        ..HealthCheck::default()
    }
}

/// Every tag of the instances, once, in the order in which they first appear.
pub(super) fn service_tags<'a>(instances: impl Iterator<Item = InstanceView<'a>>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let tags = instances.flat_map(|view| view.instance.tags.iter());
    tags.filter(|tag| seen.insert(*tag)).cloned().collect()
}

/// Whether `meta` has every pair of `wanted`, each `key:value` or `key`.
pub(super) fn has_meta(meta: Option<&Meta>, wanted: &[String]) -> bool {
    wanted.iter().all(|pair| {
        let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
        meta.and_then(|m| m.get(key)).is_some_and(|v| v == value)
    })
}
