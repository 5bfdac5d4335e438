//! What Docker is answered.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{NAME, PoolId};
use crate::link::Mac;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
