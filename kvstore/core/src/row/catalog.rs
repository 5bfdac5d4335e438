//! Hosts, and the instances of services on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Meta;
use crate::names::{InstanceId, NodeKey, ServiceKey};

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// As registered; [`Node::key`] folds it.
    pub name: String,
    /// A UUID that survives a change of name or address; empty for hosts nobody runs an agent on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// IP or host name.
    pub address: String,
    /// More addresses, by name (`lan`, `wan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<Meta>,
    /// Free pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

/// Who put a row, and so who may take it away by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent of the row's node: listed by `/v1/agent/*`, its checks are run by that agent.
    Agent,
    /// `/v1/catalog/register`: stays until somebody deregisters it.
    #[default]
    External,
}

/// Address and port of an instance under a name such as `lan_ipv4`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedAddress {
    /// IP or host name.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// How much load an instance takes, by its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While it passes.
    pub passing: u16,
    /// While it warns.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// One registration of a service on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The host's key.
    pub node: NodeKey,
    /// Unique on the host.
    pub id: InstanceId,
    /// As registered; [`Instance::service_key`] folds it.
    pub service: String,
    /// In the order given.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Empty: the node's address.
    #[serde(default)]
    pub address: String,
    /// 0: none.
    #[serde(default)]
    pub port: u16,
    /// A unix socket instead of a port; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// More addresses, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Free pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// Share of the load.
    #[serde(default)]
    pub weights: Weights,
    /// Kept and echoed.
    #[serde(default)]
    pub enable_tag_override: bool,
    /// Empty for an ordinary service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Kept and echoed; we run no mesh.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub proxy: Value,
    /// Kept and echoed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub connect: Value,
    /// Who put it.
    #[serde(default)]
    pub owner: Owner,
    /// Whether a configuration file of the agent defines it: it goes when the file no longer does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
}

impl Node {
    /// The key of a valid node; rows in a state are valid.
    pub fn key(&self) -> NodeKey {
        NodeKey::new(&self.name).expect("a node row has a checked name")
    }
}

impl Instance {
    /// The service's key; rows in a state are valid.
    pub fn service_key(&self) -> ServiceKey {
        ServiceKey::new(&self.service).expect("an instance row has a checked service name")
    }
}
