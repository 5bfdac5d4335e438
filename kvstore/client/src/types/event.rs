//! `/v1/event`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kv::base64_or_null;

/// What somebody has told all who listen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs)] // the names are the API's
pub struct UserEvent {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    /// Travels as base64, an empty one as `null`.
    #[serde(with = "base64_or_null")]
    pub payload: Bytes,
    pub node_filter: String,
    pub service_filter: String,
    pub tag_filter: String,
    pub version: u32,
    #[serde(rename = "LTime")]
    pub time: u64,
}
