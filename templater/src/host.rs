//! What templates may know of the host that renders them.

use std::{collections::BTreeMap, net::IpAddr};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// Variables and addresses, as they are when templater starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The addresses of each interface that is up, in the system's order.
    pub addresses: Vec<(String, IpAddr)>,
}

impl Host {
    /// Looks at this host.
    pub fn look() -> Self {
        Self { environment: environment(), addresses: addresses() }
    }
}

/// Without secrets that are meant for us: a template has no business with the registry's token.
fn environment() -> BTreeMap<String, String> {
    let all = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    all.filter(|(name, _)| name != "CONSUL_HTTP_TOKEN").collect()
}

/// Neither loopback nor link-local: nobody else reaches those.
fn addresses() -> Vec<(String, IpAddr)> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let up =
        all.filter(|i| i.flags.contains(InterfaceFlags::IFF_UP) && !i.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let address = |i: nix::ifaddrs::InterfaceAddress| {
        let storage = i.address?;
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let ip = v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
        let local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        (!local).then_some((i.interface_name, ip))
    };
    up.filter_map(address).collect()
}
