//! `/v1/agent`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CheckStatus, HealthCheck, Meta, ServiceAddress, ServicePort, Weights, is_false, is_zero, null_as_default};
use crate::GoDuration;

/// Body of `PUT /v1/agent/service/register`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct ServiceRegistration {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub port: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// Sent by newer clients: of these the default one counts, where `port` is not given.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub ports: Vec<ServicePort>,
    #[serde(
        alias = "tagged_addresses",
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub meta: Meta,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckRegistration>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub checks: Vec<CheckRegistration>,
    #[serde(alias = "enable_tag_override", skip_serializing_if = "is_false")]
    pub enable_tag_override: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub proxy: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub connect: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// Sent by newer clients, as what follows; ignored.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub locality: Value,
    #[serde(rename = "AI", skip_serializing_if = "Value::is_null")]
    pub ai: Value,
}

/// A check to be run by the agent: stand-alone (`PUT /v1/agent/check/register`) or within a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // the names are the API's
pub struct CheckRegistration {
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "CheckID", skip_serializing_if = "String::is_empty")]
    pub check_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "ServiceID", alias = "service_id", skip_serializing_if = "String::is_empty")]
    pub service_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
    #[serde(
        alias = "ScriptArgs",
        alias = "script_args",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub args: Vec<String>,
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub header: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    #[serde(alias = "disable_redirects", skip_serializing_if = "is_false")]
    pub disable_redirects: bool,
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    #[serde(rename = "TCPUseTLS", alias = "tcp_use_tls", skip_serializing_if = "is_false")]
    pub tcp_use_tls: bool,
    #[serde(rename = "UDP", skip_serializing_if = "String::is_empty")]
    pub udp: String,
    #[serde(rename = "GRPC", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    #[serde(rename = "GRPCUseTLS", alias = "grpc_use_tls", skip_serializing_if = "is_false")]
    pub grpc_use_tls: bool,
    #[serde(rename = "H2PING", skip_serializing_if = "String::is_empty")]
    pub h2ping: String,
    #[serde(rename = "H2PingUseTLS", alias = "h2ping_use_tls", skip_serializing_if = "Option::is_none")]
    pub h2ping_use_tls: Option<bool>,
    #[serde(rename = "TLSServerName", alias = "tls_server_name", skip_serializing_if = "String::is_empty")]
    pub tls_server_name: String,
    #[serde(rename = "TLSSkipVerify", alias = "tls_skip_verify", skip_serializing_if = "is_false")]
    pub tls_skip_verify: bool,
    #[serde(rename = "DockerContainerID", alias = "docker_container_id", skip_serializing_if = "String::is_empty")]
    pub docker_container_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shell: String,
    #[serde(alias = "alias_node", skip_serializing_if = "String::is_empty")]
    pub alias_node: String,
    #[serde(alias = "alias_service", skip_serializing_if = "String::is_empty")]
    pub alias_service: String,
    #[serde(rename = "OSService", alias = "os_service", skip_serializing_if = "String::is_empty")]
    pub os_service: String,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    #[serde(alias = "success_before_passing", skip_serializing_if = "Option::is_none")]
    pub success_before_passing: Option<u32>,
    #[serde(alias = "failures_before_warning", skip_serializing_if = "Option::is_none")]
    pub failures_before_warning: Option<u32>,
    #[serde(alias = "failures_before_critical", skip_serializing_if = "Option::is_none")]
    pub failures_before_critical: Option<u32>,
    #[serde(alias = "output_max_size", skip_serializing_if = "Option::is_none")]
    pub output_max_size: Option<u32>,
    #[serde(alias = "deregister_critical_service_after", skip_serializing_if = "Option::is_none")]
    pub deregister_critical_service_after: Option<GoDuration>,
    /// Sent by newer clients; ignored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
}

/// Body of `PUT /v1/agent/check/update/ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct CheckUpdate {
    pub status: String,
    pub output: String,
}

/// An instance of the agent's own node, as in `GET /v1/agent/services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct AgentService {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "ID")]
    pub id: String,
    pub service: String,
    #[serde(deserialize_with = "null_as_default")]
    pub tags: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub meta: Meta,
    pub port: u16,
    pub address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    pub weights: Weights,
    pub enable_tag_override: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_hash: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub proxy: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub connect: Value,
    pub datacenter: String,
}

/// A check of the agent's own node, as in `GET /v1/agent/checks`.
pub type AgentCheck = HealthCheck;

impl CheckRegistration {
    /// A check kept alive by its client: silence for longer than `ttl` is critical.
    pub fn ttl(ttl: std::time::Duration) -> Self {
        Self { ttl: Some(GoDuration(ttl)), ..Self::default() }
    }

    /// The initial status `status` instead of critical.
    pub fn starting_as(mut self, status: CheckStatus) -> Self {
        self.status = Some(status.to_string());
        self
    }
}
