//! What Docker asks for.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::{Id, PoolId};
use crate::link::Mac;

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
