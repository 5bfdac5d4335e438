//! `/v1/kv`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One key of `GET /v1/kv/KEY`; the value travels as base64, an empty one as `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the names are the API's
pub struct KvEntry {
    #[serde(default)]
    pub lock_index: u64,
    pub key: String,
    #[serde(default)]
    pub flags: u64,
    #[serde(with = "base64_or_null", default)]
    pub value: Bytes,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    pub create_index: u64,
    pub modify_index: u64,
}

/// Bytes as base64 text; nothing as `null`.
pub mod base64_or_null {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// For `serialize_with`.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(&STANDARD.encode(value)) }
    }

    /// For `deserialize_with`.
    ///
    /// # Errors
    /// What is neither null nor base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}
