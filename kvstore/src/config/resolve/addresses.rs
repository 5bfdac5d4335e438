//! Where HTTP and DNS are served, and by which address others reach this host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Remarks;
use crate::config::{HttpAddr, Layer, host::Facts, layer::AddressOrPath};

const HTTP_PORT: i64 = 8500;
const DNS_PORT: i64 = 8600;

/// What was said, else the address bound, else the one that packets to the world leave from.
pub(super) fn advertise(layer: &Layer, facts: &Facts, remarks: &mut Remarks<'_>) -> IpAddr {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(address) = layer.advertise {
        if address.is_unspecified() {
            remarks.fault("advertise_addr", format!("{address} is nobody's address; give the one others reach"));
        }
        return address;
    }
    if let Some(bind) = layer.bind.filter(|bind| !bind.is_unspecified()) {
        return bind;
    }
    if layer.dev == Some(true) && layer.bind.is_none() {
        return local;
    }
    if let Some(address) = facts.route_address {
        remarks.note(format!("this host is advertised as {address}, where its default route leaves from"));
        return address;
    }
    remarks.warn(format!("there is no default route; this host is advertised as {local}; see --bind"));
    local
}

/// The port to serve on; none if it is switched off, as Consul does with a negative one.
fn port(key: &str, given: Option<i64>, default: i64, remarks: &mut Remarks<'_>) -> Option<u16> {
    let port = given.unwrap_or(default);
    if port <= 0 {
        return None;
    }
    let checked = u16::try_from(port).ok();
    if checked.is_none() {
        remarks.fault(key, format!("{port} is no port"));
    }
    checked
}

fn client(layer: &Layer) -> Vec<IpAddr> {
    layer.client.clone().unwrap_or_else(|| vec![Ipv4Addr::LOCALHOST.into()])
}

pub(super) fn http(layer: &Layer, remarks: &mut Remarks<'_>) -> Vec<HttpAddr> {
    let plain = if layer.http_addr.is_empty() { plain_http(layer, remarks) } else { layer.http_addr.clone() };
    plain.into_iter().chain(https(layer, remarks).into_iter().map(HttpAddr::Tls)).collect()
}

fn plain_http(layer: &Layer, remarks: &mut Remarks<'_>) -> Vec<HttpAddr> {
    let port = port("ports.http", layer.http_port, HTTP_PORT, remarks);
    let given = layer.addresses_http.clone();
    let addresses = given.unwrap_or_else(|| client(layer).into_iter().map(AddressOrPath::Ip).collect());
    let with_port = |address| match address {
        AddressOrPath::Unix(path) => Some(HttpAddr::Unix(path)),
        AddressOrPath::Ip(ip) => port.map(|port| HttpAddr::Tcp(SocketAddr::new(ip, port))),
    };
    addresses.into_iter().filter_map(with_port).collect()
}

/// Nowhere unless asked for, as in Consul.
fn https(layer: &Layer, remarks: &mut Remarks<'_>) -> Vec<SocketAddr> {
    if !layer.https_addr.is_empty() {
        return layer.https_addr.clone();
    }
    let Some(port) = port("ports.https", layer.https_port, -1, remarks) else { return Vec::new() };
    let addresses = layer.addresses_https.clone().unwrap_or_else(|| client(layer));
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

pub(super) fn dns(layer: &Layer, remarks: &mut Remarks<'_>) -> Vec<SocketAddr> {
    if !layer.dns_addr.is_empty() {
        return layer.dns_addr.clone();
    }
    let Some(port) = port("ports.dns", layer.dns_port, DNS_PORT, remarks) else { return Vec::new() };
    let addresses = layer.addresses_dns.clone().unwrap_or_else(|| client(layer));
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}
