//! Snapshots: the whole state as one file that says by itself whether it is whole.
//!
//! Outside it is Consul's: a gzip of a tar of `meta.json`, `state.bin` and `SHA256SUMS` (a line `HEX  NAME` for each of
//! the two others), so `consul snapshot save` and `inspect` take it. Inside, `state.bin` is ours, lines of JSON:
//!
//! ```text
//! {"flotilla-rows":1,"rows":2}                                      the format, and how many lines follow
//! ["n/host-1",{"created":1001,"modified":1004,"name":"host-1",...}] key and content of a row, as an engine keeps them
//! ["k/greeting",{"created":1002,"modified":1002,"key":"greeting","value":"hello"}]
//! ```
//!
//! Nothing is taken from an archive before all of it was read, its sums were right and every row was one. What it may
//! unpack to is bounded. Events and coordinates are of the moment and not in it.

mod read;
mod regular;
mod schedule;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Damage, read};
pub(crate) use regular::Regular;
pub use write::Archive;

use std::time::Duration;

use kvstore_core::Index;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The names in the archive, and their order.
const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// The format of `state.bin` that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// The id of a snapshot of the state at `index`, unlike that of any other.
pub(crate) fn id(index: Index, since_1970: Duration) -> String {
    format!("1-{}-{}", index.0, since_1970.as_millis())
}

/// `meta.json`, in the words of the Raft library that Consul uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// Of this description: always 1.
    pub version: u32,
    /// Unlike that of any other snapshot.
    #[serde(rename = "ID")]
    pub id: String,
    /// The index of the state.
    pub index: u64,
    /// There are no terms here: always 1.
    pub term: u64,
    /// There are no peers here.
    #[serde(default)]
    pub peers: Value,
    /// Who keeps the state.
    #[serde(default)]
    pub configuration: Value,
    /// As `index`.
    #[serde(default)]
    pub configuration_index: u64,
    /// Of `state.bin`, in bytes.
    pub size: u64,
}

/// The first line of `state.bin`.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    #[serde(rename = "flotilla-rows")]
    format: u32,
    rows: usize,
}
