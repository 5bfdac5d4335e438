//! Docker's plugin protocol, version 1: what is called, with what, and what is answered. Docker sends no type of its
//! content, an empty `Host` and no body where nothing is to be said; fields that are empty may be missing or null.

mod answer;
mod call;

use ipnet::IpNet;
use kvstore_client::names::NETWORK_DRIVER;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::{
    answer::{Answer, Published, Sandbox, refusal},
    call::{
        AddressOptions, Call, CallError, CreateEndpoint, CreateNetwork, EndpointRef, ExternalConnectivity, Interface,
        IpamData, NetworkOptions, NetworkRef, PoolRef, PortMapping, PortOptions, ReleaseAddress, RequestAddress,
        RequestPool, read,
    },
};

/// How Docker is to call us; `-d flotilla`, `--ipam-driver flotilla`.
pub const NAME: &str = NETWORK_DRIVER;
/// What it accepts, and so what it gets.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// Docker's id of something: hexadecimal digits, of which names of links and files may be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// Enough of it to tell it from all others on a host, and short enough for the name of a link.
    pub fn short(&self) -> &str {
        &self.0[..11]
    }

    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && (12..=64).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no id of Docker's"))
        }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

/// Our name for a pool: what it is a pool of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub IpNet);

impl std::fmt::Display for PoolId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{NAME}/{}", self.0)
    }
}

impl<'de> Deserialize<'de> for PoolId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pool = text.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        pool.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no pool of {NAME}'s")))
    }
}
