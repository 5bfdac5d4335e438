//! `/v1/session`.

use serde::{Deserialize, Serialize};

use super::null_as_default;
use crate::GoDuration;

/// A session, as in `GET /v1/session/info/ID`; the lock delay travels as nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct Session {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    pub node: String,
    #[serde(serialize_with = "nanoseconds")]
    pub lock_delay: GoDuration,
    pub behavior: String,
    #[serde(rename = "TTL")]
    pub ttl: String,
    #[serde(deserialize_with = "null_as_default")]
    pub node_checks: Vec<String>,
    pub service_checks: Option<Vec<SessionServiceCheck>>,
    pub create_index: u64,
    pub modify_index: u64,
}

/// A check of an instance that a session depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct SessionServiceCheck {
    #[serde(rename = "ID")]
    pub id: String,
    pub namespace: String,
}

/// The body of `PUT /v1/session/create`; what is `None` or empty has the registry's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct SessionRequest {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_delay: Option<GoDuration>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub behavior: String,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_checks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_checks: Option<Vec<SessionServiceCheck>>,
}

fn nanoseconds<S: serde::Serializer>(delay: &GoDuration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(delay.0.as_nanos()).unwrap_or(u64::MAX))
}
