//! The data plane: carries packets between hosts, by WireGuard and nothing else. Knows peers, not where they are written
//! down; [`Dataplane`] has one battery of tests for all its kinds.

mod kernel;
mod user;

#[cfg(any(test, fuzzing))]
pub use user::fuzzed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::keys::{PresharedKey, PrivateKey, PublicKey};

/// Another host, as this one is to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub key: PublicKey,
    /// What both mix into the handshake.
    pub preshared: PresharedKey,
    /// Where it was last known to be; WireGuard follows it when it moves. None: it will come to us.
    pub endpoint: Option<SocketAddr>,
    /// The addresses behind it: what may come from it, and what is sent to it. No prefix is given to two peers.
    pub allowed: BTreeSet<IpNet>,
    /// How often it hears from us when there is nothing to say, so that a NAT in between keeps the way open.
    pub keepalive: Option<Duration>,
}

/// What a tunnel needs before it has peers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the interface; at most 15 bytes.
    pub interface: String,
    /// This host's key.
    pub key: PrivateKey,
    /// The UDP port on all addresses.
    pub port: u16,
    /// The largest packet that goes in, in bytes.
    pub mtu: u16,
}

/// How it goes with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub key: PublicKey,
    /// Where it was last heard from, or is tried.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake succeeded.
    pub handshake: Option<Duration>,
    /// Bytes of packets that came from it.
    pub received_bytes: u64,
    /// Bytes of packets sent to it.
    pub sent_bytes: u64,
}

/// What has been dropped since the start, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Datagrams that are no WireGuard, or not for this key.
    pub malformed: u64,
    /// Seen before.
    pub replayed: u64,
    /// From an address that is not behind the peer who sent it.
    pub spoofed: u64,
    /// To an address that is behind nobody, or behind a peer with no known place.
    pub unroutable: u64,
    /// Packets of this host that are no IP, or not what the kernel said of them.
    pub unfit: u64,
    /// Datagrams and packets that the system did not take: its queue was full, or there was no way.
    pub unsent: u64,
}

/// The kinds of data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// The kernel's WireGuard; it goes on while this program is down.
    Kernel,
    /// WireGuard in this process, behind a TUN device.
    User,
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        })
    }
}

/// Why there is no data plane, or it does not take what it is told. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: {why}")]
pub struct DeviceError {
    /// Which interface.
    pub interface: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Settings {
    fn error(&self, why: &str) -> DeviceError {
        DeviceError { interface: self.interface.clone(), why: why.into() }
    }
}

/// There is something else under the name.
const TAKEN: &str = "there is an interface of this name already, which this program did not make: remove it (ip link delete), or choose another name";
/// The capability is missing.
const NO_RIGHT: &str = "it is not permitted; what is missing is the capability CAP_NET_ADMIN: run as root, or give it by AmbientCapabilities=CAP_NET_ADMIN in the systemd unit, by --cap-add NET_ADMIN to docker run";

/// Which kind is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The kernel's, and where it has none, our own.
    #[default]
    Auto,
    /// This, or none.
    Only(Plane),
}

/// A data plane, and why it is this.
pub struct Opened {
    /// The tunnel.
    pub tunnel: Box<dyn Dataplane>,
    /// For a person to read.
    pub why: String,
}

/// Makes the interface, up but without addresses and routes, and starts the tunnel, without peers; an interface that an
/// earlier life of this program left in the kernel is taken over with those it has. What comes and goes by it is WireGuard,
/// never clear text.
///
/// # Errors
/// [`DeviceError`], which says what this machine lacks; nothing is left behind then.
pub fn open(settings: &Settings, choice: Choice) -> Result<Opened, DeviceError> {
    let user = |why: String| {
        kernel::Kernel::remove_leftover(settings).map_err(|e| settings.error(&format!("cannot look for it: {e}")))?;
        Ok(Opened { tunnel: Box::new(user::User::open(settings)?), why })
    };
    if settings.interface.is_empty() || settings.interface.len() > 15 {
        return Err(settings.error("the name of an interface has 1 to 15 bytes"));
    }
    if choice == Choice::Only(Plane::User) {
        return user("it was asked for".into());
    }
    match kernel::Kernel::open(settings) {
        Ok(kernel) => {
            let why = if choice == Choice::Auto { "the kernel has WireGuard" } else { "it was asked for" };
            Ok(Opened { tunnel: Box::new(kernel), why: why.into() })
        }
        Err(kernel::Refused::Absent(why)) if choice == Choice::Auto => user(why),
        Err(kernel::Refused::Absent(why)) => Err(settings.error(&why)),
        Err(kernel::Refused::Failed(error)) => Err(error),
    }
}

/// Refuses peers that are to have one prefix both.
fn disjoint(settings: &Settings, peers: &[Peer]) -> Result<(), DeviceError> {
    let mut owners = BTreeMap::new();
    for (net, key) in peers.iter().flat_map(|peer| peer.allowed.iter().map(|net| (net.trunc(), peer.key))) {
        if let Some(first) = owners.insert(net, key).filter(|first| *first != key) {
            let why = format!("{net} is given to two peers, {first} and {key}; the peers stay as they were");
            return Err(settings.error(&why));
        }
    }
    Ok(())
}

/// A tunnel that is up. Dropping a [`Plane::User`] one ends it and removes its interface; a [`Plane::Kernel`] one stays.
pub trait Dataplane: Send + Sync {
    /// Its kind.
    fn plane(&self) -> Plane;

    /// Makes these its peers. Sessions with those that stay go on without a lost packet; an endpoint is taken over only
    /// where it differs from the one given before, so that what WireGuard learned by itself is kept.
    ///
    /// # Errors
    /// [`DeviceError`]
    fn set_peers(&self, peers: &[Peer]) -> Result<(), DeviceError>;

    /// How it goes with each of them.
    fn peers(&self) -> Vec<PeerStatus>;

    /// What it has dropped.
    fn dropped(&self) -> Dropped;
}
