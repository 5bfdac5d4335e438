//! Where records stand: the keys of the overlay in the registry.

use std::{fmt, str::FromStr};

use ipnet::Ipv4Net;
use uuid::Uuid;

use super::RecordError;
use crate::{
    network::{NetworkId, NetworkName, NodeId},
    secret::Epoch,
};

/// Where all keys begin.
pub const PREFIX: &str = "overlay/v1/";

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

impl Key {
    /// The host that alone may write it; `None`: every member may.
    pub(super) fn speaker(&self) -> Option<NodeId> {
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
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written_and_in_no_other_way() {
        let id = NodeId([7; 16]);
        let network = NetworkId(Uuid::from_u128(9));
        for key in [
            Key::Network("web".parse().unwrap()),
            Key::Node(id),
            Key::Live(id),
            Key::Block(network, "10.210.7.0/24".parse().unwrap()),
            Key::Links(id),
            Key::Seen(id, NodeId([8; 16])),
            Key::Gone(id),
            Key::Sealed(2, id),
        ] {
            assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }
        for bad in
            ["", "nets/", "nets/a/b", "nodes/07", "blocks/x/10.0.0.0-24", "secrets/02/07070707070707070707070707070707"]
        {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
        let written = Key::Block(network, "10.210.7.0/24".parse().unwrap()).to_string();
        assert!(written.replace('-', "/").parse::<Key>().is_err());
    }
}
