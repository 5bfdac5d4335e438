//! Which address of this host others reach: by default the one on the way to the registry.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{UdpSocket, lookup_host};

/// The address of this host that packets to `registry` (`http://HOST:PORT`, `HOST:PORT`, `unix://PATH`) leave from.
/// None is sent: connecting a UDP socket only asks the kernel for the route. A registry behind a socket file is on
/// this host.
///
/// # Errors
/// If the registry's name cannot be resolved, or no route leads there.
pub async fn toward(registry: &str) -> io::Result<IpAddr> {
    let Some(place) = host_and_port(registry) else { return Ok(Ipv4Addr::LOCALHOST.into()) };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{place} has no address"));
    for target in lookup_host(&place).await? {
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
            assert!(toward(registry).await.unwrap().is_loopback(), "{registry}");
        }
        // 192.0.2.0/24 is documentation: nobody is asked. A machine without a route says so.
        if let Ok(address) = toward("http://192.0.2.1:8500").await {
            assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
        }
    }
}
