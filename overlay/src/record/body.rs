//! What records say.

use std::net::SocketAddr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Key, RecordError};
use crate::{
    device::Plane,
    network::{Network, NetworkId, NodeId},
};

/// No list in a record is longer.
const MAX_ITEMS: usize = 1024;
/// A host tells this many places where it might be.
const MAX_ENDPOINTS: usize = 32;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // see the types
pub enum Body {
    Network(NetworkRecord),
    Node(Box<NodeRecord>),
    Block(BlockRecord),
    Links(LinksRecord),
    Seen(SeenRecord),
    Gone(GoneRecord),
    Sealed(SealedRecord),
}

/// A network, or that there is none of this name any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Which.
    pub network: Option<Network>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// What it is called.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// Its data plane.
    pub plane: Option<Plane>,
    /// Where it might be found.
    pub endpoints: Vec<Candidate>,
    /// The largest packet that goes into its tunnel, in bytes.
    pub mtu: u16,
    /// It passes on what others send each other.
    pub relay: bool,
    /// The blocks it holds.
    pub blocks: Vec<Holding>,
    /// Subnets behind it that are not the mesh's.
    pub lan: Vec<Ipv4Net>,
    /// Registries it uses that others may reach.
    pub registries: Vec<String>,
    /// It has left; what it held is free.
    pub left: bool,
}

/// A place where a host might be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// How it is known.
    pub source: Source,
    /// Where.
    pub address: SocketAddr,
}

/// How a place is known; the most likely first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Its operator said so.
    Set,
    /// It is an address of the host.
    Local,
    /// Somebody hears it from there.
    Observed,
}

/// That a host holds a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holding {
    /// Of which network.
    pub network: NetworkId,
    /// Which.
    pub block: Ipv4Net,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
}

/// Who was the first to ask for a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// When, in milliseconds since 1970.
    pub since: u64,
}

/// Whom a host does not reach without another one between. Where all reach each other that is nobody, however many they
/// are; a host that says nothing is taken to reach all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinksRecord {
    /// These.
    pub not_to: Vec<NodeId>,
}

/// Where a host is heard from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRecord {
    /// There.
    pub address: SocketAddr,
}

/// A host is out for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRecord {
    /// What it was called.
    pub name: String,
}

/// The secret of an epoch, for one host's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRecord {
    /// Encrypted; see [`crate::seal`].
    pub sealed: String,
}

impl Body {
    /// What a record at `key` says.
    ///
    /// # Errors
    /// [`RecordError::Malformed`]
    pub fn read(key: &Key, text: &str) -> Result<Self, RecordError> {
        fn parse<T: DeserializeOwned>(text: &str) -> Result<T, RecordError> {
            serde_json::from_str(text).map_err(|e| RecordError::Malformed(e.to_string()))
        }
        let body = match key {
            Key::Network(_) => Self::Network(parse(text)?),
            Key::Node(_) => Self::Node(parse(text)?),
            Key::Block(..) => Self::Block(parse(text)?),
            Key::Links(_) => Self::Links(parse(text)?),
            Key::Seen(..) => Self::Seen(parse(text)?),
            Key::Gone(_) => Self::Gone(parse(text)?),
            Key::Sealed(..) => Self::Sealed(parse(text)?),
            Key::Live(_) => return Err(RecordError::Malformed("it is no record".into())),
        };
        body.check(key).map_err(RecordError::Malformed).map(|()| body)
    }

    /// What the types do not say.
    fn check(&self, key: &Key) -> Result<(), String> {
        match (self, key) {
            (Self::Network(NetworkRecord { network: Some(network) }), Key::Network(name)) => {
                network.check().map_err(|e| e.to_string())?;
                if network.name != *name || network.local {
                    return Err(format!("it has another network, {}", network.name));
                }
            }
            (Self::Node(node), _) => {
                let lists = [node.blocks.len(), node.lan.len(), node.registries.len()];
                if node.endpoints.len() > MAX_ENDPOINTS || lists.into_iter().any(|n| n > MAX_ITEMS) {
                    return Err("it has more items than a host has".into());
                }
                if node.name.len() > 64 || node.name.chars().any(char::is_control) {
                    return Err("its host has no name that can be".into());
                }
            }
            (Self::Links(links), _) if links.not_to.len() > MAX_ITEMS => return Err("it has too many links".into()),
            _ => {}
        }
        Ok(())
    }
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Network(body) => body.serialize(serializer),
            Self::Node(body) => body.serialize(serializer),
            Self::Block(body) => body.serialize(serializer),
            Self::Links(body) => body.serialize(serializer),
            Self::Seen(body) => body.serialize(serializer),
            Self::Gone(body) => body.serialize(serializer),
            Self::Sealed(body) => body.serialize(serializer),
        }
    }
}
