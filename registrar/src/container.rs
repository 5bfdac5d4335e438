//! Facts of one container. Pure: what they mean for the registry is decided in [`mapping`](crate::mapping).

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

pub use answer::{nanoseconds, signal};

/// A container as far as the registry is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// As given at creation: `reg.example:5000/acme/web:2.1`.
    pub image: String,
    /// `-h`, with the domain name if there is one; `None` if Docker made it up.
    pub hostname: Option<String>,
    /// `SERVICE_*` variables, in order; those of the image included.
    pub env: Vec<(String, String)>,
    /// All labels; those of the image included.
    pub labels: BTreeMap<String, String>,
    /// A process is there; paused counts, waiting for a restart does not.
    pub running: bool,
    /// Frozen by `docker pause`.
    pub paused: bool,
    /// Start of the present life, in nanoseconds since 1970 by Docker's clock; 0 if unknown.
    pub started: i64,
    /// End of the last life, likewise; 0 if there was none.
    pub finished: i64,
    /// What the last process ended with; 128 more than the signal if one ended it.
    pub exit_code: i64,
    /// The kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// Only with a HEALTHCHECK.
    pub health: Option<Health>,
    /// Sent by `docker stop`.
    pub stop_signal: i32,
    /// From the stop signal to KILL.
    pub stop_timeout: Duration,
    /// Whose network it lives in.
    pub network_mode: NetworkMode,
    /// `EXPOSE` and `--expose`.
    pub exposed: BTreeSet<Port>,
    /// `-p`, lowest host port first.
    pub bindings: BTreeMap<Port, Vec<Binding>>,
    /// Attached networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// What it is called on each of them.
    pub attachments: BTreeMap<String, Attachment>,
    /// What Docker said that cannot be used.
    pub problems: Vec<String>,
}

/// State of a HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What Docker makes of the last probes.
    pub state: HealthState,
    /// What the last probe printed.
    pub output: String,
}

/// What a HEALTHCHECK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// No probe has counted yet.
    Starting,
    /// The last probes succeeded.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

/// `--network`, as far as it decides about addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The host's own.
    Host,
    /// None at all.
    None,
    /// That of another container, by id or name.
    Container(String),
    /// Bridges, overlays and the like: see [`Container::networks`].
    Networks,
}

/// The transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port inside the container: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Never 0.
    pub number: u16,
    /// tcp if Docker says nothing.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = port_number(number).ok_or_else(|| format!("{text:?} is no port"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(format!("{text:?} has an unknown protocol")),
        };
        Ok(Self { number, protocol })
    }
}

fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|n| *n != 0)
}

/// Where a port is published on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The host's port.
    pub port: u16,
    /// `0.0.0.0` or `::` for all addresses of the host.
    pub address: IpAddr,
}

/// The container's own addresses on one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Endpoint {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl Endpoint {
    /// Both, where there are two.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Beside the addresses on a network: what the network is, and what the container is called there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Docker's id for the network.
    pub network: String,
    /// Names beside the container's own, but for the beginning of its id.
    pub aliases: BTreeSet<String>,
    /// The network is one of the overlay's, which spans hosts. Docker tells that of networks, not of containers.
    pub spans_hosts: bool,
}

impl Container {
    /// As `docker ps` shows it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// The beginning of an id, as `docker ps` shows it.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
pub(crate) mod tests;
