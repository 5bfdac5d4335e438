//! Docker's plugin protocol, version 1: what is called, with what, and what is answered. Docker sends no type of its
//! content, an empty `Host` and no body where nothing is to be said; fields that are empty may be missing or null.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::link::Mac;

/// How Docker is to call us; `-d flotilla`, `--ipam-driver flotilla`.
pub const NAME: &str = "flotilla";
/// What it accepts, and so what it gets.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// Marks the request for a gateway's address among those for containers'.
const GATEWAY: &str = "com.docker.network.gateway";

/// A call that is answered; anything else is answered with 404, which Docker takes for "there is no such thing".
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the protocol's own names
pub enum Call {
    Activate,
    NetworkCapabilities,
    GatewayAllocationCheck,
    CreateNetwork(CreateNetwork),
    DeleteNetwork(NetworkRef),
    CreateEndpoint(CreateEndpoint),
    EndpointInfo(EndpointRef),
    DeleteEndpoint(EndpointRef),
    Join(EndpointRef),
    Leave(EndpointRef),
    ProgramExternalConnectivity(ExternalConnectivity),
    RevokeExternalConnectivity(EndpointRef),
    Discover,
    IpamCapabilities,
    AddressSpaces,
    RequestPool(RequestPool),
    ReleasePool(PoolRef),
    RequestAddress(RequestAddress),
    ReleaseAddress(ReleaseAddress),
}

/// A network by Docker's id for it, 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkRef {
    #[allow(missing_docs)]
    #[serde(rename = "NetworkID")]
    pub network: Id,
}

/// A container's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct EndpointRef {
    #[serde(rename = "NetworkID")]
    pub network: Id,
    #[serde(rename = "EndpointID")]
    pub endpoint: Id,
}

/// `docker network create`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network: Id,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    pub options: NetworkOptions,
    #[serde(rename = "IPv4Data", default, deserialize_with = "or_default")]
    pub v4: Vec<IpamData>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "or_default")]
    pub v6: Vec<IpamData>,
}

/// What `docker network create` was told beside addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NetworkOptions {
    /// `--internal`
    #[serde(rename = "com.docker.network.internal", default, deserialize_with = "or_default")]
    pub internal: bool,
    /// `--opt NAME=VALUE`
    #[serde(rename = "com.docker.network.generic", default, deserialize_with = "or_default")]
    pub generic: BTreeMap<String, Value>,
}

/// The addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamData {
    /// All of them.
    pub pool: IpNet,
    /// The gateway's, if it was given one.
    #[serde(default, deserialize_with = "or_none")]
    pub gateway: Option<IpNet>,
}

/// A container is about to be attached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network: Id,
    #[serde(rename = "EndpointID")]
    pub endpoint: Id,
    #[serde(rename = "Interface", default, deserialize_with = "or_default")]
    pub interface: Interface,
}

/// What an endpoint has already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Interface {
    #[serde(rename = "Address", default, deserialize_with = "or_none")]
    pub v4: Option<IpNet>,
    #[serde(rename = "AddressIPv6", default, deserialize_with = "or_none")]
    pub v6: Option<IpNet>,
    #[serde(rename = "MacAddress", default, deserialize_with = "or_none")]
    pub mac: Option<Mac>,
}

/// Ports of the host that are to lead to a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct ExternalConnectivity {
    #[serde(flatten)]
    pub endpoint: EndpointRef,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    pub options: PortOptions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct PortOptions {
    #[serde(rename = "com.docker.network.portmap", default, deserialize_with = "or_default")]
    pub ports: Vec<PortMapping>,
}

/// `--publish [HOST_IP:][HOST_PORT[-END]:]PORT/PROTO`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct PortMapping {
    /// As IP numbers it: 6 is TCP, 17 UDP, 132 SCTP.
    pub proto: u8,
    pub port: u16,
    #[serde(rename = "HostIP", default, deserialize_with = "or_none")]
    pub host_ip: Option<IpAddr>,
    /// 0 leaves the choice to us.
    #[serde(default)]
    pub host_port: u16,
    /// The last of those that will do.
    #[serde(default)]
    pub host_port_end: u16,
}

/// A pool of addresses is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestPool {
    /// `--subnet`; none leaves the choice to us.
    #[serde(default, deserialize_with = "or_none")]
    pub pool: Option<IpNet>,
    /// `--ip-range`
    #[serde(default, deserialize_with = "or_none")]
    pub sub_pool: Option<IpNet>,
    /// Which family.
    #[serde(default)]
    pub v6: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct PoolRef {
    #[serde(rename = "PoolID")]
    pub pool: PoolId,
}

/// An address is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct RequestAddress {
    #[serde(rename = "PoolID")]
    pub pool: PoolId,
    /// `--ip`, `--gateway`, `--aux-address`; none leaves the choice to us.
    #[serde(rename = "Address", default, deserialize_with = "or_none")]
    pub address: Option<IpAddr>,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    pub options: AddressOptions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct AddressOptions {
    #[serde(rename = "RequestAddressType", default, deserialize_with = "or_default")]
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pub pool: PoolId,
    #[serde(rename = "Address")]
    pub address: IpAddr,
}

impl RequestAddress {
    /// Whether it is for the gateway.
    pub fn is_for_gateway(&self) -> bool {
        self.options.kind == GATEWAY
    }
}

/// Docker's id of something: hexadecimal digits, of which names of links and files may be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, Deserialize)]
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

/// Null is what is missing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An empty text is none, and so is null.
fn or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text: Option<String> = Option::deserialize(deserializer)?;
    let parse = |text: String| text.parse().map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}")));
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// Why bytes are no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing of that name is done here.
    #[error("there is no {0}")]
    Unknown(String),
    /// The body is none for it.
    #[error("{method}: {why}")]
    Malformed {
        /// What was called.
        method: String,
        /// What is wrong.
        why: String,
    },
}

/// Reads a call: the path without its slash, and the body.
///
/// # Errors
/// [`CallError`]
pub fn read(method: &str, body: &[u8]) -> Result<Call, CallError> {
    fn parse<T: DeserializeOwned>(method: &str, body: &[u8]) -> Result<T, CallError> {
        let body = if body.is_empty() { b"{}" } else { body };
        serde_json::from_slice(body).map_err(|e| CallError::Malformed { method: method.to_owned(), why: e.to_string() })
    }
    macro_rules! with {
        ($variant:ident) => {
            parse(method, body).map(Call::$variant)
        };
    }
    match method {
        "Plugin.Activate" => Ok(Call::Activate),
        "NetworkDriver.GetCapabilities" => Ok(Call::NetworkCapabilities),
        "NetworkDriver.GwAllocCheck" => Ok(Call::GatewayAllocationCheck),
        "NetworkDriver.CreateNetwork" => with!(CreateNetwork),
        "NetworkDriver.DeleteNetwork" => with!(DeleteNetwork),
        "NetworkDriver.CreateEndpoint" => with!(CreateEndpoint),
        "NetworkDriver.EndpointOperInfo" => with!(EndpointInfo),
        "NetworkDriver.DeleteEndpoint" => with!(DeleteEndpoint),
        "NetworkDriver.Join" => with!(Join),
        "NetworkDriver.Leave" => with!(Leave),
        "NetworkDriver.ProgramExternalConnectivity" => with!(ProgramExternalConnectivity),
        "NetworkDriver.RevokeExternalConnectivity" => with!(RevokeExternalConnectivity),
        "NetworkDriver.DiscoverNew" | "NetworkDriver.DiscoverDelete" => Ok(Call::Discover),
        "IpamDriver.GetCapabilities" => Ok(Call::IpamCapabilities),
        "IpamDriver.GetDefaultAddressSpaces" => Ok(Call::AddressSpaces),
        "IpamDriver.RequestPool" => with!(RequestPool),
        "IpamDriver.ReleasePool" => with!(ReleasePool),
        "IpamDriver.RequestAddress" => with!(RequestAddress),
        "IpamDriver.ReleaseAddress" => with!(ReleaseAddress),
        // Those of a global scope, above all.
        other => Err(CallError::Unknown(other.to_owned())),
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Answer {
    Nothing,
    Implements,
    NetworkCapabilities,
    GatewayAllocation,
    IpamCapabilities,
    AddressSpaces,
    Pool(PoolId),
    Address(IpNet),
    /// The hardware address, where it was left to us.
    Endpoint(Option<Mac>),
    EndpointInfo(Vec<Published>),
    Sandbox(Sandbox),
}

/// A port of the host that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Published {
    pub protocol: u8,
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub port: u16,
}

/// What Docker moves into a container, and which ways it makes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The link, by its name on the host.
    pub link: String,
    /// Where all else goes; none for a network that leads nowhere.
    pub gateways: Vec<IpAddr>,
    /// Destinations right behind the link.
    pub connected: Vec<IpNet>,
    /// Destinations behind a gateway.
    pub routed: Vec<(IpNet, IpAddr)>,
}

impl Answer {
    /// As JSON.
    pub fn body(&self) -> Value {
        match self {
            Self::Nothing => json!({}),
            Self::Implements => json!({ "Implements": ["NetworkDriver", "IpamDriver"] }),
            // Local: the networks of a global one are kept by a swarm, and there may be none.
            Self::NetworkCapabilities => json!({ "Scope": "local", "ConnectivityScope": "global" }),
            Self::GatewayAllocation => json!({ "SkipIPv4": false, "SkipIPv6": false }),
            Self::IpamCapabilities => json!({ "RequiresMACAddress": false, "RequiresRequestReplay": true }),
            Self::AddressSpaces => json!({
                "LocalDefaultAddressSpace": format!("{NAME}-local"),
                "GlobalDefaultAddressSpace": format!("{NAME}-global"),
            }),
            Self::Pool(pool) => json!({ "PoolID": pool.to_string(), "Pool": pool.0.to_string(), "Data": {} }),
            Self::Address(address) => json!({ "Address": address.to_string(), "Data": {} }),
            Self::Endpoint(None) => json!({ "Interface": {} }),
            Self::Endpoint(Some(mac)) => json!({ "Interface": { "MacAddress": mac.to_string() } }),
            Self::EndpointInfo(ports) => json!({
                "Value": { "com.docker.network.portmap": ports.iter().map(published).collect::<Vec<_>>() }
            }),
            Self::Sandbox(sandbox) => sandbox.body(),
        }
    }
}

fn published(port: &Published) -> Value {
    let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    json!({ "Proto": port.protocol, "Port": port.port, "HostIP": ip.to_string(), "HostPort": port.host_port })
}

impl Sandbox {
    fn body(&self) -> Value {
        let via = |(to, gateway): &(IpNet, IpAddr)| json!({ "Destination": to.to_string(), "RouteType": 0, "NextHop": gateway.to_string() });
        let connected = self.connected.iter().map(|to| json!({ "Destination": to.to_string(), "RouteType": 1 }));
        let routes: Vec<_> = connected.chain(self.routed.iter().map(via)).collect();
        let gateway = |v6: bool| {
            let found = self.gateways.iter().find(|gateway| gateway.is_ipv6() == v6);
            found.map(IpAddr::to_string).unwrap_or_default()
        };
        json!({
            "InterfaceName": { "SrcName": self.link, "DstPrefix": "eth" },
            "Gateway": gateway(false),
            "GatewayIPv6": gateway(true),
            "StaticRoutes": routes,
            // Without a gateway Docker would lead the container out by a bridge of its own.
            "DisableGatewayService": self.gateways.is_empty(),
        })
    }
}

/// A refusal; drivers of networks and of addresses look for it under different names.
pub fn refusal(why: &str) -> Value {
    json!({ "Err": why, "Error": why })
}
