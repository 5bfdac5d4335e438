//! Keys of the KV store.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::millis;
use crate::names::{Key, SessionId};

/// A key of the KV store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// Its name.
    pub key: Key,
    /// Its content.
    #[serde(with = "text_or_base64")]
    pub value: Bytes,
    /// Kept for the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flags: u64,
    /// How often its lock was taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lock_index: u64,
    /// The session that holds its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// It goes when it was not put again for this long; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub ttl: Duration,
}

impl KvEntry {
    /// How long after it was put it goes; none if it stays.
    pub fn lifetime(&self) -> Option<Duration> {
        Some(self.ttl).filter(|ttl| !ttl.is_zero())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Bytes as text where they are text, so that a person can read the row; else as `{"base64": "..."}`.
mod text_or_base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeMap};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Binary { base64: String },
    }

    pub(super) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(value) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(value))?;
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        match Content::deserialize(deserializer)? {
            Content::Text(text) => Ok(text.into()),
            Content::Binary { base64 } => STANDARD.decode(base64).map(Bytes::from).map_err(D::Error::custom),
        }
    }
}
