//! `/v1/query`.

use serde::{Deserialize, Serialize};

use super::{Meta, ServiceEntry, null_as_default};

/// A question about a service that is kept under a name: the body of `POST /v1/query`, and what `GET` answers.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct PreparedQuery {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    pub session: String,
    pub token: String,
    pub template: QueryTemplate,
    pub service: ServiceQuery,
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    pub create_index: u64,
    pub modify_index: u64,
}

/// Without the token, which is a secret.
impl std::fmt::Debug for PreparedQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("PreparedQuery");
        shown.field("id", &self.id).field("name", &self.name).field("session", &self.session);
        shown.field("template", &self.template).field("service", &self.service).field("dns", &self.dns);
        shown.field("modify_index", &self.modify_index).finish_non_exhaustive()
    }
}

/// How a query stands for many names: `Template` of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryTemplate {
    #[serde(rename = "Type")]
    pub kind: String,
    pub regexp: String,
    pub remove_empty_tags: bool,
}

/// Which instances a query finds: `Service` of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct ServiceQuery {
    pub service: String,
    /// Sent by clients for newer servers; only read.
    #[serde(skip_serializing)]
    pub sameness_group: String,
    /// The same.
    #[serde(skip_serializing)]
    pub namespace: String,
    /// The same.
    #[serde(skip_serializing)]
    pub partition: String,
    pub failover: QueryFailover,
    pub only_passing: bool,
    #[serde(rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Option<Vec<String>>,
    pub near: String,
    pub tags: Option<Vec<String>>,
    pub node_meta: Option<Meta>,
    pub service_meta: Option<Meta>,
    pub connect: bool,
    pub peer: String,
}

/// Where a query looks when nobody is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryFailover {
    pub nearest_n: i64,
    pub datacenters: Option<Vec<String>>,
    pub targets: Option<Vec<QueryFailoverTarget>>,
}

/// One place where a query looks when nobody is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryFailoverTarget {
    pub peer: String,
    pub datacenter: String,
    /// Sent by clients for other servers; only read.
    #[serde(skip_serializing)]
    pub partition: String,
    /// The same.
    #[serde(skip_serializing)]
    pub namespace: String,
}

/// What of a query concerns DNS only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryDns {
    #[serde(rename = "TTL")]
    pub ttl: String,
}

/// `POST /v1/query` answers with the id of the new query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryCreated {
    #[serde(rename = "ID")]
    pub id: String,
}

/// `GET /v1/query/NAME/execute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryExecution {
    pub service: String,
    #[serde(deserialize_with = "null_as_default")]
    pub nodes: Vec<ServiceEntry>,
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    pub datacenter: String,
    pub peer_name: String,
    pub failovers: u32,
    #[serde(flatten)]
    pub meta: QueryMeta,
}

/// `GET /v1/query/NAME/explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryExplanation {
    pub query: PreparedQuery,
    #[serde(flatten)]
    pub meta: QueryMeta,
}

/// What a few answers say of themselves in their body rather than in headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct QueryMeta {
    pub index: u64,
    pub last_contact: u64,
    pub known_leader: bool,
    pub consistency_level: String,
    pub not_modified: bool,
    pub backend: u8,
    #[serde(rename = "ResultsFilteredByACLs")]
    pub results_filtered_by_acls: bool,
}
