//! Many keys at once, by `/v1/txn`.
#![allow(clippy::missing_errors_doc)] // said in the parent

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Call, Client};
use crate::{
    Error,
    types::{KvEntry, base64_or_null},
};

/// The most keys of one transaction that every Consul takes.
pub const MAX_KEYS: usize = 64;

/// A key to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWrite {
    /// Its name.
    pub key: String,
    /// All of it.
    pub value: Bytes,
    /// As the application likes.
    pub flags: u64,
    /// The modify index that it must have; 0: it must not be there.
    pub cas: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step<'a> {
    #[serde(rename = "KV")]
    kv: Kv<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kv<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(with = "base64_or_null")]
    value: Bytes,
    flags: u64,
    index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Results {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "KV")]
    kv: KvEntry,
}

impl Client {
    /// `PUT /v1/txn`: these keys, [`MAX_KEYS`] at the most, as they are at one moment; `None` if one of them is not there.
    pub async fn kv_read_all(&self, keys: &[String]) -> Result<Option<Vec<KvEntry>>, Error> {
        let get = |key: &'_ String| serde_json::json!({"KV": {"Verb": "get", "Key": key}});
        let steps: Vec<_> = keys.iter().map(get).collect();
        match self.read::<Results>(Call::put(&["txn"]).json(&steps)).await {
            Ok(read) => Ok(Some(read.value.results.into_iter().map(|found| found.kv).collect())),
            Err(error) if error.status() == Some(409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PUT /v1/txn`: writes all of these keys, [`MAX_KEYS`] at the most; false, and none, if one has another index.
    pub async fn kv_write_all(&self, writes: &[KvWrite]) -> Result<bool, Error> {
        let steps = writes.iter().map(|write| Step {
            kv: Kv { verb: "cas", key: &write.key, value: write.value.clone(), flags: write.flags, index: write.cas },
        });
        match self.write(Call::put(&["txn"]).json(&steps.collect::<Vec<_>>())).await {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
