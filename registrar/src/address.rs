//! Which addresses of this host others reach: by default the one on the way to the registry.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use clap::ValueEnum;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use tokio::net::{UdpSocket, lookup_host};

/// Which kinds of addresses are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// IPv4 only.
    #[value(name = "4")]
    Ipv4,
    /// IPv6 only.
    #[value(name = "6")]
    Ipv6,
    /// Whatever there is; where there are both, IPv4 and beside it IPv6 as `lan_ipv6`.
    #[default]
    Both,
}

impl Family {
    /// Whether `address` is of this kind.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// Where this host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// By everybody.
    pub main: IpAddr,
    /// By those of the other family.
    pub other: Option<IpAddr>,
}

impl HostAddress {
    /// The first of `addresses` that fits, and the first of the other family if that fits, too.
    pub fn of(addresses: &[IpAddr], family: Family) -> Option<Self> {
        let mut fitting = addresses.iter().copied().filter(|address| family.has(*address));
        let main = fitting.next()?;
        Some(Self { main, other: fitting.find(|address| address.is_ipv4() != main.is_ipv4()) })
    }
}

/// How this host learns its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is configured.
    Given(HostAddress),
    /// From a network interface, each time anew.
    Interface(String),
    /// It is where packets to the registry leave from.
    Route,
}

impl Source {
    /// The address just now.
    ///
    /// # Errors
    /// If there is none of this family.
    pub async fn resolve(&self, family: Family, registry: &str) -> io::Result<HostAddress> {
        match self {
            Self::Given(address) => Ok(*address),
            Self::Interface(name) => of_interface(name, family),
            Self::Route => {
                let main = toward(registry, family).await?;
                Ok(HostAddress { main, other: None })
            }
        }
    }

    /// Somebody chose the address, so it also stands for ports published on another one of the host.
    pub fn is_forced(&self) -> bool {
        *self != Self::Route
    }
}

fn of_interface(name: &str, family: Family) -> io::Result<HostAddress> {
    let all = getifaddrs()?.filter(|interface| interface.interface_name == name);
    let usable: Vec<_> = all.filter_map(|interface| ip(&interface.address?)).filter(|ip| !is_link_local(*ip)).collect();
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("interface {name} has no such address"));
    HostAddress::of(&usable, family).ok_or_else(missing)
}

/// Whether an interface of this host has `address`.
pub fn is_of_this_host(address: IpAddr) -> bool {
    let mut all = getifaddrs().into_iter().flatten().filter_map(|interface| ip(&interface.address?));
    all.any(|ip| ip == address)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Of use on one link only.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The address of this host that packets to `registry` (`http://HOST:PORT`, `HOST:PORT`, `unix://PATH`) leave from.
/// None is sent: connecting a UDP socket only asks the kernel for the route. A registry behind a socket file is on
/// this host.
///
/// # Errors
/// If the registry's name cannot be resolved, or no route of this family leads there.
async fn toward(registry: &str, family: Family) -> io::Result<IpAddr> {
    let Some(place) = host_and_port(registry) else {
        let v6 = family == Family::Ipv6;
        return Ok(if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{place} has no such address"));
    for target in lookup_host(&place).await?.filter(|target| family.has(target.ip())) {
        match local_address(target).await {
            Ok(address) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn local_address(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// `HOST:PORT` of an address of the registry; `None` for a socket file.
fn host_and_port(registry: &str) -> Option<String> {
    let (scheme, rest) = registry.split_once("://").unwrap_or(("http", registry));
    if scheme == "unix" {
        return None;
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    Some(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_registries() {
        for (registry, place) in [
            ("http://10.0.0.1:8500", Some("10.0.0.1:8500")),
            ("http://user:pw@kv.example/x", Some("kv.example:80")),
            ("kv:8500", Some("kv:8500")),
            ("http://[::1]:8500/", Some("[::1]:8500")),
            ("http://[::1]", Some("[::1]:80")),
            ("unix:///run/kvstore.sock", None),
        ] {
            assert_eq!(host_and_port(registry).as_deref(), place, "{registry}");
        }
    }

    #[tokio::test]
    async fn loopback_only_toward_loopback() {
        for registry in ["http://127.0.0.1:1", "http://localhost:1", "unix:///x"] {
            assert!(toward(registry, Family::Both).await.unwrap().is_loopback(), "{registry}");
        }
        // 192.0.2.0/24 is documentation: nobody is asked. A machine without a route says so.
        if let Ok(address) = toward("http://192.0.2.1:8500", Family::Both).await {
            assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
        }
    }

    #[tokio::test]
    async fn the_family_that_was_asked_for() {
        assert!(toward("unix:///x", Family::Ipv6).await.unwrap().is_ipv6());
        let error = toward("http://127.0.0.1:1", Family::Ipv6).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:1 has no such address"), "{error}");
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let all = parse(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
        for (family, expected) in [
            (Family::Ipv4, Some(("10.0.0.1", None))),
            (Family::Ipv6, Some(("fd00::1", None))),
            (Family::Both, Some(("10.0.0.1", Some("fd00::1")))),
        ] {
            let found = HostAddress::of(&all, family);
            let text = found.map(|a| (a.main.to_string(), a.other.map(|o| o.to_string())));
            let expected = expected.map(|(main, other)| (main.to_owned(), other.map(str::to_owned)));
            assert_eq!(text, expected, "{family:?}");
        }
        assert_eq!(HostAddress::of(&all[..2], Family::Ipv6), None);
    }

    #[test]
    fn the_address_of_an_interface() {
        let found = of_interface("lo", Family::Ipv4).unwrap();
        assert_eq!((found.main, found.other), (Ipv4Addr::LOCALHOST.into(), None));
        assert!(is_of_this_host(found.main) && !is_of_this_host("192.0.2.1".parse().unwrap()));
        let error = of_interface("nosuch0", Family::Both).unwrap_err();
        assert!(error.to_string().contains("nosuch0"), "{error}");
    }
}
