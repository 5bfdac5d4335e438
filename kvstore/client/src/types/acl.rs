//! `/v1/acl`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::null_as_default;
use crate::GoDuration;

/// A token: the body of `PUT /v1/acl/token`, and what answers show. Its secret is shown to who makes it and to who shows
/// it; to others as `<hidden>`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct AclToken {
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    pub description: String,
    #[serde(deserialize_with = "null_as_default")]
    pub policies: Vec<AclLink>,
    /// These four give rights in Consul; here there are policies only.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Value>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub service_identities: Vec<Value>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub node_identities: Vec<Value>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub templated_policies: Vec<Value>,
    pub local: bool,
    #[serde(rename = "ExpirationTTL", skip_serializing_if = "Option::is_none")]
    pub expiration_ttl: Option<GoDuration>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub create_time: String,
    /// Of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    pub create_index: u64,
    pub modify_index: u64,
}

impl AclToken {
    /// What gives it rights beside policies, as the API calls it.
    pub fn other_rights(&self) -> impl Iterator<Item = &'static str> {
        let lists = [
            ("Roles", &self.roles),
            ("ServiceIdentities", &self.service_identities),
            ("NodeIdentities", &self.node_identities),
            ("TemplatedPolicies", &self.templated_policies),
        ];
        lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| name)
    }
}

/// Without the secret.
impl fmt::Debug for AclToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AclToken");
        shown.field("accessor_id", &self.accessor_id).field("description", &self.description);
        shown.field("policies", &self.policies).field("local", &self.local);
        shown.field("modify_index", &self.modify_index).finish_non_exhaustive()
    }
}

/// A policy of a token: in a request, either suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct AclLink {
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A policy: the body of `PUT /v1/acl/policy`, and what answers show; lists are without the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct AclPolicy {
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub name: String,
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<String>,
    /// Of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    pub create_index: u64,
    pub modify_index: u64,
}
