//! Which ports of a container could be registered, and the address that each answers on: the host's with the host's port,
//! or the container's with the container's port, never mixed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use kvstore_client::types::ServiceAddress;

use super::{Mapped, Network, Policy, meta::SWARM_SERVICE};
use crate::{
    address::Family,
    container::{Binding, Container, Endpoint, NetworkMode, Port},
    variables::{Variables, list},
};

/// Docker's own network of one host.
const DEFAULT_NETWORK: &str = "bridge";
/// The network of a swarm's own load balancing: an address on it serves nobody else.
const INGRESS: &str = "ingress";

/// A port with the address it answers on.
pub(super) struct Candidate {
    pub(super) port: Port,
    pub(super) address: SocketAddr,
    pub(super) tagged: BTreeMap<String, ServiceAddress>,
    pub(super) extra_meta: Vec<(&'static str, String)>,
}

impl Candidate {
    fn new(port: Port, address: SocketAddr) -> Self {
        Self { port, address, tagged: BTreeMap::new(), extra_meta: Vec::new() }
    }
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
    Ports { container, home, exposed, general, policy }.candidates(mapped)
}

/// A container, and all that decides where its ports are reached.
struct Ports<'a> {
    container: &'a Container,
    /// Whose network it lives in; itself for most.
    home: &'a Container,
    /// Those that it has by its image, by `--expose` or by `SERVICE_PORTS`.
    exposed: BTreeSet<Port>,
    /// What it says for all of its ports.
    general: Variables<'a>,
    policy: &'a Policy,
}

impl Ports<'_> {
    fn candidates(&self, mapped: &mut Mapped) -> Vec<Candidate> {
        match &self.home.network_mode {
            NetworkMode::None => {
                mapped.skip("-", "it has no network");
                Vec::new()
            }
            NetworkMode::Container(name) => {
                mapped.skip("-", format!("it uses the network of container {name}, which does not run"));
                Vec::new()
            }
            NetworkMode::Host => self.of_host(mapped),
            NetworkMode::Networks if self.policy.choices.internal => {
                let mut ports = self.exposed.clone();
                if self.is_at_home() {
                    ports.extend(self.home.bindings.keys());
                }
                self.of_network(ports, mapped)
            }
            NetworkMode::Networks if self.is_task() => self.of_task(mapped),
            NetworkMode::Networks => self.published(&self.exposed, mapped),
        }
    }

    fn is_at_home(&self) -> bool {
        std::ptr::eq(self.container, self.home)
    }

    fn is_task(&self) -> bool {
        self.container.labels.contains_key(SWARM_SERVICE)
    }

    /// A task is reached at the ports that it publishes on its host, and at the others on its overlay network: what the
    /// swarm publishes for it leads to any task.
    fn of_task(&self, mapped: &mut Mapped) -> Vec<Candidate> {
        let is_bound = |port: &&Port| self.home.bindings.get(*port).is_some_and(|bindings| !bindings.is_empty());
        let (bound, ports): (BTreeSet<Port>, BTreeSet<Port>) = self.exposed.iter().partition(is_bound);
        let mut all = if self.home.bindings.keys().any(|port| is_bound(&port)) {
            self.published(&bound, mapped)
        } else {
            Vec::new()
        };
        if !ports.is_empty() || all.is_empty() {
            all.extend(self.of_network(ports, mapped));
        }
        all.sort_by_key(|candidate| candidate.port);
        all
    }

    fn of_host(&self, mapped: &mut Mapped) -> Vec<Candidate> {
        if self.exposed.is_empty() {
            mapped.skip("-", "host network, and no port is exposed: name them with EXPOSE or SERVICE_PORTS");
        }
        let other = self.policy.other_address;
        let beside = |port: Port| other.map(|other| (lan(other), service_address(other, port.number)));
        let address = self.labelled(mapped).unwrap_or(self.policy.address);
        let at_host = |port: &Port| Candidate {
            tagged: beside(*port).into_iter().collect(),
            ..Candidate::new(*port, SocketAddr::new(address, port.number))
        };
        self.exposed.iter().map(at_host).collect()
    }

    fn of_network(&self, ports: BTreeSet<Port>, mapped: &mut Mapped) -> Vec<Candidate> {
        if let Some(address) = self.labelled(mapped) {
            let at = |port: Port| Candidate::new(port, SocketAddr::new(address, port.number));
            return ports.into_iter().map(at).collect();
        }
        let family = self.policy.choices.family;
        let wanted = self.general.get("network").or(self.policy.choices.network.as_deref());
        let endpoint = match choose(&self.home.networks, wanted, self.policy) {
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
            let address = SocketAddr::new(address_of(endpoint, family)?, port.number);
            let mut tagged = on_networks(self.home, port, family);
            if let (Some(_), Some(v6), Family::Both) = (endpoint.ipv4, endpoint.ipv6, family) {
                tagged.insert("lan_ipv6".into(), service_address(v6.into(), port.number));
            }
            Some(Candidate { tagged, ..Candidate::new(port, address) })
        };
        ports.into_iter().filter_map(reach).collect()
    }

    /// The address that a label of the container gives, with or without a prefix length.
    fn labelled(&self, mapped: &mut Mapped) -> Option<IpAddr> {
        let label = self.policy.choices.ip_label.as_ref()?;
        let text = self.container.labels.get(label)?.trim();
        let address = text.split('/').next().and_then(|ip| ip.parse().ok());
        if address.is_none() {
            mapped.warnings.push(format!("label {label}: {text:?} is no address; ignored"));
        }
        address
    }

    /// Published ports, at the host's address.
    fn published(&self, exposed: &BTreeSet<Port>, mapped: &mut Mapped) -> Vec<Candidate> {
        let bindings = &self.home.bindings;
        for port in exposed {
            if bindings.get(port).is_none_or(Vec::is_empty) {
                mapped.skip(port, "it is not published on the host (-p), and --internal is off");
            }
        }
        if exposed.is_empty() && bindings.is_empty() {
            mapped.skip("-", "it publishes no port");
        }
        let bound = bindings.iter().filter(|(port, _)| self.is_at_home() || exposed.contains(*port));
        let labelled = self.labelled(mapped);
        bound.filter_map(|(port, bindings)| self.at_binding(*port, bindings, labelled)).collect()
    }

    /// The lowest host port of those that others can best reach: Docker may give IPv4 and IPv6 different ports, and a
    /// port on loopback is worth little beside another one.
    fn at_binding(&self, port: Port, bindings: &[Binding], labelled: Option<IpAddr>) -> Option<Candidate> {
        let policy = self.policy;
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
        let mut tagged = on_networks(self.home, port, policy.choices.family);
        tagged.extend(of_other_family(bindings, policy));
        let address = SocketAddr::new(labelled.unwrap_or(address), first.port);
        Some(Candidate { tagged, extra_meta, ..Candidate::new(port, address) })
    }
}

/// The network that was asked for; else Docker's default one; else the first by name, but none that others cannot reach.
fn choose<'a>(
    networks: &'a BTreeMap<String, Endpoint>,
    wanted: Option<&str>,
    policy: &Policy,
) -> Result<&'a Endpoint, String> {
    let family = policy.choices.family;
    if let Some(name) = wanted {
        let endpoint = networks.get(name).ok_or_else(|| {
            let all = networks.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("it is not on network {name}, but on: {all}")
        })?;
        let unready = || format!("it has no address on network {name}");
        return address_of(endpoint, family).map(|_| endpoint).ok_or_else(unready);
    }
    // without --internal it is a task, which others reach only where a network spans hosts
    let of_use = |name: &str| name != INGRESS && (policy.choices.internal || name != DEFAULT_NETWORK);
    let usable = |name: &&String| address_of(&networks[*name], family).is_some() && of_use(name);
    let default = networks.get_key_value(DEFAULT_NETWORK).map(|(name, _)| name).filter(usable);
    let name = default.or_else(|| networks.keys().find(usable));
    name.map(|name| &networks[name]).ok_or_else(|| {
        let balanced = networks.contains_key(INGRESS);
        let hint = "; a task is known by a network of its service, or by a port published with mode=host";
        format!("it has no address on any network{}", if balanced { hint } else { "" })
    })
}

/// IPv4 if there is one and it is wanted.
pub(super) fn address_of(endpoint: &Endpoint, family: Family) -> Option<IpAddr> {
    let all = [endpoint.ipv4.map(IpAddr::V4), endpoint.ipv6.map(IpAddr::V6)];
    all.into_iter().flatten().find(|address| family.has(*address))
}

/// Where those of the other family reach a port that is published for them, too.
fn of_other_family(bindings: &[Binding], policy: &Policy) -> Option<(String, ServiceAddress)> {
    let other = policy.other_address?;
    let fits =
        |b: &&Binding| b.address.is_ipv4() == other.is_ipv4() && (b.address.is_unspecified() || b.address == other);
    bindings.iter().find(fits).map(|binding| (lan(other), service_address(other, binding.port)))
}

/// The name of an address for those in reach, as registries have it.
fn lan(address: IpAddr) -> String {
    if address.is_ipv4() { "lan_ipv4".into() } else { "lan_ipv6".into() }
}

/// The container's own addresses, as `net.NAME`: who shares a network can go there directly.
fn on_networks(home: &Container, port: Port, family: Family) -> BTreeMap<String, ServiceAddress> {
    let reach = |(name, endpoint): (&String, &Endpoint)| {
        Some((format!("net.{name}"), service_address(address_of(endpoint, family)?, port.number)))
    };
    home.networks.iter().filter_map(reach).collect()
}

pub(super) fn service_address(address: IpAddr, port: u16) -> ServiceAddress {
    ServiceAddress { address: address.to_string(), port }
}
