//! Which ports of a container could be registered, and the address that each answers on: the host's with the host's port,
//! or the container's with the container's port, never mixed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use kvstore_client::types::ServiceAddress;

use super::{Mapped, Network, Policy};
use crate::{
    container::{Binding, Container, Endpoint, NetworkMode, Port},
    variables::{Variables, list},
};

/// A port with the address it answers on.
pub(super) struct Candidate {
    pub(super) port: Port,
    pub(super) address: SocketAddr,
    pub(super) tagged: BTreeMap<String, ServiceAddress>,
    pub(super) extra_meta: Vec<(&'static str, String)>,
}

/// Every port that could be registered, lowest first.
pub(super) fn candidates(
    container: &Container,
    network: Network<'_>,
    policy: &Policy,
    mapped: &mut Mapped,
) -> Vec<Candidate> {
    let home = match network {
        Network::Own => container,
        Network::Of(other) => other,
        Network::Missing(name) => {
            mapped.skip("-", format!("it uses the network of container {name}, which does not run"));
            return Vec::new();
        }
    };
    let general = Variables::of(container, None);
    let mut exposed = container.exposed.clone();
    for text in list(general.get("ports").unwrap_or_default()) {
        match text.parse() {
            Ok(port) => drop(exposed.insert(port)),
            Err(why) => mapped.warnings.push(format!("SERVICE_PORTS: {why}; left out")),
        }
    }
    match &home.network_mode {
        NetworkMode::None => {
            mapped.skip("-", "it has no network");
            Vec::new()
        }
        NetworkMode::Container(name) => {
            mapped.skip("-", format!("it uses the network of container {name}, which does not run"));
            Vec::new()
        }
        NetworkMode::Host => of_host(&exposed, policy, mapped),
        NetworkMode::Networks if policy.internal => of_network(container, home, exposed, &general, policy, mapped),
        NetworkMode::Networks => published(container, home, &exposed, policy, mapped),
    }
}

fn of_host(exposed: &BTreeSet<Port>, policy: &Policy, mapped: &mut Mapped) -> Vec<Candidate> {
    if exposed.is_empty() {
        mapped.skip("-", "host network, and no port is exposed: name them with EXPOSE or SERVICE_PORTS");
    }
    let at_host = |port: &Port| Candidate {
        port: *port,
        address: SocketAddr::new(policy.address, port.number),
        tagged: BTreeMap::new(),
        extra_meta: Vec::new(),
    };
    exposed.iter().map(at_host).collect()
}

fn of_network(
    container: &Container,
    home: &Container,
    mut ports: BTreeSet<Port>,
    general: &Variables,
    policy: &Policy,
    mapped: &mut Mapped,
) -> Vec<Candidate> {
    if std::ptr::eq(container, home) {
        ports.extend(home.bindings.keys());
    }
    let wanted = general.get("network").or(policy.network.as_deref());
    let endpoint = match choose(&home.networks, wanted) {
        Ok(endpoint) => endpoint,
        Err(why) => {
            mapped.skip("-", why);
            return Vec::new();
        }
    };
    if ports.is_empty() {
        mapped.skip("-", "no port is exposed");
    }
    let reach = |port: Port| {
        let mut tagged = on_networks(home, port);
        if let (Some(_), Some(v6)) = (endpoint.ipv4, endpoint.ipv6) {
            tagged.insert("lan_ipv6".into(), service_address(v6.into(), port));
        }
        Some(Candidate {
            port,
            address: SocketAddr::new(endpoint.address()?, port.number),
            tagged,
            extra_meta: Vec::new(),
        })
    };
    ports.into_iter().filter_map(reach).collect()
}

/// The network that was asked for; else Docker's default one; else the first by name.
fn choose<'a>(networks: &'a BTreeMap<String, Endpoint>, wanted: Option<&str>) -> Result<&'a Endpoint, String> {
    if let Some(name) = wanted {
        let endpoint = networks.get(name).ok_or_else(|| {
            let all = networks.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("it is not on network {name}, but on: {all}")
        })?;
        let unready = || format!("it has no address on network {name}");
        return endpoint.address().map(|_| endpoint).ok_or_else(unready);
    }
    let usable = |name: &&String| networks[*name].address().is_some();
    let default = networks.get_key_value("bridge").map(|(name, _)| name).filter(usable);
    let name = default.or_else(|| networks.keys().find(usable));
    name.map(|name| &networks[name]).ok_or_else(|| "it has no address on any network".into())
}

/// Published ports, at the host's address.
fn published(
    container: &Container,
    home: &Container,
    exposed: &BTreeSet<Port>,
    policy: &Policy,
    mapped: &mut Mapped,
) -> Vec<Candidate> {
    let own = std::ptr::eq(container, home);
    for port in exposed {
        if home.bindings.get(port).is_none_or(Vec::is_empty) {
            mapped.skip(port, "it is not published on the host (-p), and --internal is off");
        }
    }
    if exposed.is_empty() && home.bindings.is_empty() {
        mapped.skip("-", "it publishes no port");
    }
    let bound = home.bindings.iter().filter(|(port, _)| own || exposed.contains(*port));
    bound.filter_map(|(port, bindings)| at_binding(home, *port, bindings, policy)).collect()
}

/// The lowest host port of those that others can best reach: Docker may give IPv4 and IPv6 different ports, and a port
/// on loopback is worth little beside another one.
fn at_binding(home: &Container, port: Port, bindings: &[Binding], policy: &Policy) -> Option<Candidate> {
    let farness = |b: &Binding| (b.address.is_ipv4() != policy.address.is_ipv4(), b.address.is_loopback());
    let best = bindings.iter().map(farness).min()?;
    let usable: Vec<_> = bindings.iter().filter(|b| farness(b) == best).collect();
    let first = usable.first()?;
    let mut extra_meta = Vec::new();
    let ports: BTreeSet<u16> = usable.iter().map(|b| b.port).collect();
    if ports.len() > 1 {
        let all: Vec<_> = ports.iter().map(u16::to_string).collect();
        extra_meta.push(("bindings", all.join(",")));
    }
    if first.address.is_loopback() {
        // nobody else reaches it; saying another address would be a lie
        extra_meta.push(("scope", "host-only".into()));
    }
    let everywhere = first.address.is_unspecified();
    let moved = policy.address_is_forced && !first.address.is_loopback();
    let address = if everywhere || moved { policy.address } else { first.address };
    Some(Candidate { port, address: SocketAddr::new(address, first.port), tagged: on_networks(home, port), extra_meta })
}

/// The container's own addresses, as `net.NAME`: who shares a network can go there directly.
fn on_networks(home: &Container, port: Port) -> BTreeMap<String, ServiceAddress> {
    let reach = |(name, endpoint): (&String, &Endpoint)| {
        Some((format!("net.{name}"), service_address(endpoint.address()?, port)))
    };
    home.networks.iter().filter_map(reach).collect()
}

fn service_address(address: IpAddr, port: Port) -> ServiceAddress {
    ServiceAddress { address: address.to_string(), port: port.number }
}
