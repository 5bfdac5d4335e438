//! What hosts write into the registry: records, each signed by its author and authenticated with the mesh's secret, so
//! that a registry can keep one back, but make, change or move none. Whoever decodes takes nothing for granted.

use std::{fmt, net::SocketAddr, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    device::Plane,
    identity::{Identity, Keys},
    network::{Network, NetworkId, NetworkName, NodeId},
    secret::{Epoch, Keyring},
};

/// Where all keys begin.
pub const PREFIX: &str = "overlay/v1/";
/// The form of records.
const VERSION: u32 = 1;
/// No record is longer.
const MAX_BYTES: usize = 64 << 10;
/// No list in a record is longer.
const MAX_ITEMS: usize = 1024;
/// A host tells this many places where it might be.
const MAX_ENDPOINTS: usize = 32;

/// A key below [`PREFIX`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `nets/NAME`
    Network(NetworkName),
    /// `nodes/ID`
    Node(NodeId),
    /// `live/ID`: held by the host's session; its value says nothing.
    Live(NodeId),
    /// `blocks/NETWORK/ADDRESS-BITS`
    Block(NetworkId, Ipv4Net),
    /// `links/ID`
    Links(NodeId),
    /// `seen/ID/BY`
    Seen(NodeId, NodeId),
    /// `gone/ID`
    Gone(NodeId),
    /// `secrets/EPOCH/ID`
    Sealed(Epoch, NodeId),
}

/// A record that is authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// With which secret.
    pub epoch: Epoch,
    /// Higher than that of the record before it: milliseconds since 1970, or one more than that.
    pub rev: u64,
    /// Who wrote it.
    pub by: Keys,
    /// What it says.
    pub body: Body,
    /// As it was written.
    pub text: String,
}

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

/// Why a value is no record; nothing of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is something else.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// A later version wrote it.
    #[error("it is of a later version ({0})")]
    Newer(u32),
    /// Its secret is not known here.
    #[error("it is of epoch {0}, whose secret this host does not have")]
    Epoch(Epoch),
    /// Whoever wrote it does not have the mesh's secret.
    #[error("it was not written with this mesh's secret")]
    Forged,
    /// It was not written by the one who it says wrote it.
    #[error("its signature is not that of its author")]
    Signature,
    /// Its author may not say this.
    #[error("it speaks for {speaks_for}, but is by {by}")]
    Author {
        /// The host it is about.
        speaks_for: NodeId,
        /// The one who wrote it.
        by: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    v: u32,
    epoch: Epoch,
    rev: u64,
    by: Keys,
    #[serde(borrow)]
    body: &'a RawValue,
    sig: String,
    mac: String,
}

impl Record {
    /// Writes `body` for `key`.
    pub fn write(identity: &Identity, keyring: &Keyring, key: &Key, rev: u64, body: Body) -> Self {
        let raw = serde_json::value::to_raw_value(&body).expect("plain data");
        let (epoch, by) = (keyring.current().epoch(), identity.keys());
        let mut message = message(key, epoch, rev, &by, raw.get());
        let signature = identity.sign(&message);
        message.extend_from_slice(&signature);
        let envelope = Envelope {
            v: VERSION,
            epoch,
            rev,
            by,
            body: &raw,
            sig: BASE64_STANDARD.encode(signature),
            mac: BASE64_STANDARD.encode(keyring.authenticate(&message)),
        };
        let text = serde_json::to_string(&envelope).expect("plain data");
        Self { epoch, rev, by, body, text }
    }

    /// Reads what the registry has at `key`.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn read(keyring: &Keyring, key: &Key, text: &[u8]) -> Result<Self, RecordError> {
        #[cfg(test)]
        VERIFIED.set(VERIFIED.get() + 1);
        let malformed = |why: &dyn fmt::Display| RecordError::Malformed(why.to_string());
        if text.len() > MAX_BYTES {
            return Err(malformed(&format!("it is over {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(text).map_err(|e| malformed(&e))?;
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|e| malformed(&e))?;
        let Envelope { v, epoch, rev, by, body, sig, mac } = envelope;
        if v != VERSION {
            return Err(RecordError::Newer(v));
        }
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|e| malformed(&e));
        let (signature, mac) = (decode(&sig)?, decode(&mac)?);
        let mut message = message(key, epoch, rev, &by, body.get());
        let signed = message.len();
        message.extend_from_slice(&signature);
        match keyring.verify(epoch, &message, &mac) {
            None => return Err(RecordError::Epoch(epoch)),
            Some(false) => return Err(RecordError::Forged),
            Some(true) => {}
        }
        if !by.signed(&message[..signed], &signature) {
            return Err(RecordError::Signature);
        }
        let body = Body::read(key, body.get())?;
        match key.speaker() {
            Some(speaks_for) if speaks_for != by.node() => Err(RecordError::Author { speaks_for, by: by.node() }),
            _ => Ok(Self { epoch, rev, by, body, text: text.to_owned() }),
        }
    }

    /// Who wrote it.
    pub fn author(&self) -> NodeId {
        self.by.node()
    }
}

/// What is signed and authenticated: everything, and where it stands.
fn message(key: &Key, epoch: Epoch, rev: u64, by: &Keys, body: &str) -> Vec<u8> {
    // None of the parts but the last has a length of its own choosing and a zero byte in it.
    [
        PREFIX.as_bytes(),
        key.to_string().as_bytes(),
        &[0],
        &epoch.to_be_bytes(),
        &rev.to_be_bytes(),
        by.wireguard.as_bytes(),
        by.signing.as_bytes(),
        body.as_bytes(),
    ]
    .concat()
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

impl Key {
    /// The host that alone may write it; `None`: every member may.
    fn speaker(&self) -> Option<NodeId> {
        match self {
            Self::Node(id) | Self::Live(id) | Self::Links(id) | Self::Seen(_, id) => Some(*id),
            Self::Network(_) | Self::Block(..) | Self::Gone(_) | Self::Sealed(..) => None,
        }
    }

    /// The whole key, as the registry has it.
    pub fn path(&self) -> String {
        format!("{PREFIX}{self}")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(name) => write!(f, "nets/{name}"),
            Self::Node(id) => write!(f, "nodes/{id}"),
            Self::Live(id) => write!(f, "live/{id}"),
            Self::Block(network, block) => write!(f, "blocks/{network}/{}-{}", block.addr(), block.prefix_len()),
            Self::Links(id) => write!(f, "links/{id}"),
            Self::Seen(id, by) => write!(f, "seen/{id}/{by}"),
            Self::Gone(id) => write!(f, "gone/{id}"),
            Self::Sealed(epoch, id) => write!(f, "secrets/{epoch}/{id}"),
        }
    }
}

impl FromStr for Key {
    type Err = RecordError;

    /// A key without [`PREFIX`], written as [`Display`](fmt::Display) writes it and in no other way.
    fn from_str(text: &str) -> Result<Self, RecordError> {
        let key = parse_key(text).filter(|key| key.to_string() == text);
        key.ok_or_else(|| RecordError::Malformed(format!("{text:?} is no key of the overlay")))
    }
}

fn parse_key(text: &str) -> Option<Key> {
    let (kind, rest) = text.split_once('/')?;
    let pair = || rest.split_once('/');
    Some(match kind {
        "nets" => Key::Network(rest.parse().ok()?),
        "nodes" => Key::Node(rest.parse().ok()?),
        "live" => Key::Live(rest.parse().ok()?),
        "links" => Key::Links(rest.parse().ok()?),
        "gone" => Key::Gone(rest.parse().ok()?),
        "blocks" => {
            let (network, block) = pair()?;
            Key::Block(NetworkId(Uuid::try_parse(network).ok()?), block.replace('-', "/").parse().ok()?)
        }
        "seen" => pair().and_then(|(id, by)| Some(Key::Seen(id.parse().ok()?, by.parse().ok()?)))?,
        "secrets" => pair().and_then(|(epoch, id)| Some(Key::Sealed(epoch.parse().ok()?, id.parse().ok()?)))?,
        _ => return None,
    })
}

#[cfg(test)]
thread_local!(static VERIFIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// How many records this thread has verified.
#[cfg(test)]
pub(crate) fn verified() -> usize {
    VERIFIED.get()
}

#[cfg(test)]
mod tests;
