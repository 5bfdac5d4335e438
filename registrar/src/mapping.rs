//! One container and the policy -> what the registry should say about it. Pure.
//!
//! Compatible with Registrator in names, ids, tags and metadata; an address is always one that the port answers on:
//! the host's with the host's port, or the container's with the container's port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use kvstore_client::types::{CheckRegistration, CheckStatus, ServiceAddress, ServiceRegistration, Weights};
use serde::Serialize;

use crate::{
    checks,
    container::{Binding, Container, Endpoint, NetworkMode, Port, Protocol},
    plan::{META_CHECKS, META_CONTAINER, META_MARK, Mark},
    variables::{Variables, list},
};

/// Limits of a genuine Consul for metadata.
const MAX_META_PAIRS: usize = 64;
const MAX_META_KEY_BYTES: usize = 128;
const MAX_META_VALUE_BYTES: usize = 512;
/// Of names, ids and tags: above this nobody can have meant it.
const MAX_TEXT_BYTES: usize = 255;

/// How this host wants its containers registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // flags are
pub struct Policy {
    /// First part of generated ids: Docker's name for the host.
    pub host: String,
    /// Where published ports are reached.
    pub address: IpAddr,
    /// `address` was configured, so it also stands for ports published on another address of the host.
    pub address_is_forced: bool,
    /// Register container address and container port instead of the published ones.
    pub internal: bool,
    /// Only containers that have a `SERVICE_NAME`.
    pub explicit: bool,
    /// With `internal`: the network whose address counts.
    pub network: Option<String>,
    /// Where a name comes from when there is no `SERVICE_NAME`.
    pub name_from: NameFrom,
    /// Added to every instance.
    pub tags: Vec<String>,
    /// The registry runs no probes for us (`--node`).
    pub probes_are_run: bool,
    /// Written into every instance: what carries it is ours.
    pub mark: Mark,
}

/// The name of a service when no `SERVICE_NAME` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NameFrom {
    /// The last part of the image's name, without its tag.
    #[default]
    Image,
    /// `docker run -h NAME`; the image where none was given.
    Hostname,
    /// The container's name.
    Container,
    /// Compose's service; the image outside of a compose project.
    ComposeService,
}

/// What a container gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped {
    /// One per port.
    pub instances: Vec<Instance>,
    /// Ports (or the whole container) that are not registered, and why.
    pub skipped: Vec<Skipped>,
    /// Settings that could not be used as given.
    pub warnings: Vec<String>,
}

/// One port as it should stand in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// With every check but the one that follows Docker's.
    pub service: ServiceRegistration,
    /// Whether the container's HEALTHCHECK is a check of this instance, and what `starting` counts as.
    pub follows_docker: Option<CheckStatus>,
    /// No `SERVICE_ID` gave it, so an entry of this id can only be about this container.
    pub id_is_generated: bool,
}

/// Something that is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// `80/tcp`, or `-` for the whole container.
    pub port: String,
    /// For `registrar explain`.
    pub why: String,
}

/// The container whose network a container uses.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// Its own.
    Own,
    /// That of another one, `--network container:X`.
    Of(&'a Container),
    /// That of another one that is not running.
    Missing(&'a str),
}

/// A port with the address it answers on.
struct Candidate {
    port: Port,
    address: SocketAddr,
    tagged: BTreeMap<String, ServiceAddress>,
    extra_meta: Vec<(&'static str, String)>,
}

/// What the registry should say about `container`, which must be running.
pub fn map(container: &Container, network: Network<'_>, policy: &Policy) -> Mapped {
    let mut mapped = Mapped::default();
    mapped.warnings.extend(container.problems.iter().map(|p| format!("{p}; that port is left out")));
    let candidates = candidates(container, network, policy, &mut mapped);
    let wanted: Vec<_> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let variables = Variables::of(container, Some(candidate.port));
            match unwanted(&variables, policy, &mut mapped.warnings) {
                Some(why) => {
                    mapped.skip(&candidate.port, why);
                    None
                }
                None => Some((candidate, variables)),
            }
        })
        .collect();
    let several = wanted.len() > 1;
    for (candidate, variables) in wanted {
        let port = candidate.port;
        match instance(container, policy, candidate, &variables, several, &mut mapped.warnings) {
            Ok(instance) => mapped.instances.push(instance),
            Err(why) => {
                mapped.warnings.push(format!("port {port} is not registered: {why}"));
                mapped.skip(&port, why);
            }
        }
    }
    let mut seen = BTreeSet::new();
    mapped.warnings.retain(|warning| seen.insert(warning.clone()));
    mapped
}

impl Mapped {
    fn skip(&mut self, port: &(impl ToString + ?Sized), why: impl Into<String>) {
        let (port, why) = (port.to_string(), why.into());
        self.skipped.push(Skipped { port, why });
    }
}

fn unwanted(variables: &Variables, policy: &Policy, warnings: &mut Vec<String>) -> Option<&'static str> {
    if variables.flag("ignore", warnings) == Some(true) {
        Some("SERVICE_IGNORE is set")
    } else if policy.explicit && variables.get("name").is_none() {
        Some("it has no SERVICE_NAME, and --explicit asks for one")
    } else {
        None
    }
}

/// Every port that could be registered, lowest first.
fn candidates(container: &Container, network: Network<'_>, policy: &Policy, mapped: &mut Mapped) -> Vec<Candidate> {
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

/// The lowest host port; IPv4 rather than IPv6 where both are bound.
fn at_binding(home: &Container, port: Port, bindings: &[Binding], policy: &Policy) -> Option<Candidate> {
    let first = bindings.first()?;
    let mut extra_meta = Vec::new();
    let ports: BTreeSet<u16> = bindings.iter().map(|b| b.port).collect();
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

fn instance(
    container: &Container,
    policy: &Policy,
    candidate: Candidate,
    variables: &Variables,
    several: bool,
    warnings: &mut Vec<String>,
) -> Result<Instance, String> {
    let port = candidate.port;
    let name = service_name(container, policy, variables, port, several)?;
    if !is_dns_name(&name) {
        warnings.push(format!("service name {name:?} is no DNS name: it is registered, but DNS cannot find it"));
    }
    let id = match variables.get("id") {
        Some(id) => id.to_owned(),
        None => generated_id(&policy.host, &container.name, port),
    };
    usable("id", &id)?;
    let subject = checks::Subject { id: &id, name: &name, address: candidate.address };
    let mut probes = checks::probes(variables, subject, warnings);
    if !policy.probes_are_run && !probes.is_empty() {
        warnings.push("nobody would run SERVICE_CHECK_* probes with --node; left out: use a HEALTHCHECK".into());
        probes.clear();
    }
    let follows = container.health.is_some() && checks::follows_docker(variables, warnings);
    let follows_docker = follows.then(|| checks::initial_status(variables, warnings).unwrap_or(CheckStatus::Critical));
    let meta = meta(container, policy, variables, &candidate.extra_meta, &probes, warnings);
    Ok(Instance {
        service: ServiceRegistration {
            tags: tags(variables, policy, port, warnings),
            port: candidate.address.port(),
            address: candidate.address.ip().to_string(),
            tagged_addresses: candidate.tagged,
            meta,
            weights: weights(variables, warnings),
            checks: probes,
            id,
            name,
            ..ServiceRegistration::default()
        },
        follows_docker,
        id_is_generated: variables.get("id").is_none(),
    })
}

/// `HOST:CONTAINER:PORT`, with `:udp` where it applies: Registrator's.
pub fn generated_id(host: &str, container: &str, port: Port) -> String {
    let id = format!("{host}:{container}:{}", port.number);
    match port.protocol {
        Protocol::Tcp => id,
        other => format!("{id}:{}", other.as_str()),
    }
}

fn service_name(
    container: &Container,
    policy: &Policy,
    variables: &Variables,
    port: Port,
    several: bool,
) -> Result<String, String> {
    let base = variables.get("name").map(str::to_owned);
    let mut name = base.unwrap_or_else(|| default_name(container, policy.name_from));
    if several && !variables.is_for_port("name") {
        name = format!("{name}-{}", port.number);
    }
    usable("name", &name)?;
    Ok(name)
}

fn default_name(container: &Container, from: NameFrom) -> String {
    let found = match from {
        NameFrom::Image => None,
        NameFrom::Hostname => container.hostname.clone(),
        NameFrom::Container => Some(container.name.clone()),
        NameFrom::ComposeService => container.labels.get("com.docker.compose.service").cloned(),
    };
    found.unwrap_or_else(|| {
        let last = container.image.rsplit('/').next().unwrap_or_default();
        let base = last.split([':', '@']).next().unwrap_or_default();
        // an image without a name is known by its digest only
        if base.is_empty() || base == "sha256" { container.name.clone() } else { base.to_owned() }
    })
}

fn usable(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("its {what} has {} bytes; {MAX_TEXT_BYTES} are allowed", text.len()));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("its {what} {text:?} is empty or has control characters"));
    }
    Ok(())
}

fn is_dns_name(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(good))
}

fn tags(variables: &Variables, policy: &Policy, port: Port, warnings: &mut Vec<String>) -> Vec<String> {
    let mut tags = list(variables.get("tags").unwrap_or_default());
    tags.extend(policy.tags.iter().cloned());
    if port.protocol != Protocol::Tcp {
        tags.push(port.protocol.as_str().into());
    }
    tags.retain(|tag| match usable("tag", tag) {
        Ok(()) => true,
        Err(why) => {
            warnings.push(format!("a tag is left out: {why}"));
            false
        }
    });
    tags
}

fn weights(variables: &Variables, warnings: &mut Vec<String>) -> Option<Weights> {
    let mut read = |key: &str| {
        let text = variables.get(key)?;
        let weight = text.parse::<u16>().ok().filter(|w| *w > 0);
        if weight.is_none() {
            warnings.push(format!("SERVICE_{}: {text:?} is no weight (1 to 65535); ignored", key.to_uppercase()));
        }
        weight
    };
    let (passing, warning) = (read("weight"), read("warning_weight"));
    (passing.is_some() || warning.is_some())
        .then(|| Weights { passing: passing.unwrap_or(1), warning: warning.unwrap_or(1) })
}

/// Keys that are settings, not facts for others.
fn is_setting(key: &str) -> bool {
    ["name", "id", "tags", "ignore", "ports", "network", "weight", "warning_weight"].contains(&key)
        || key.starts_with("check_")
}

fn meta(
    container: &Container,
    policy: &Policy,
    variables: &Variables,
    extra: &[(&'static str, String)],
    probes: &[CheckRegistration],
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut meta: BTreeMap<String, String> = extra.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
    meta.insert(META_MARK.into(), policy.mark.to_string());
    meta.insert(META_CONTAINER.into(), container.short_id().into());
    if !probes.is_empty() {
        meta.insert(META_CHECKS.into(), fingerprint(probes));
    }
    for (key, value) in variables.iter().filter(|(key, _)| !is_setting(key)) {
        let key = meta_key(key, warnings);
        if key.is_empty() || meta.contains_key(&key) {
            warnings.push(format!("SERVICE_{} is left out of the metadata: the key is taken", key.to_uppercase()));
        } else if meta.len() == MAX_META_PAIRS {
            warnings.push(format!("only {MAX_META_PAIRS} pairs of metadata are possible; {key} is left out"));
        } else {
            let value = meta_value(&key, value, warnings);
            meta.insert(key, value);
        }
    }
    meta
}

fn meta_key(key: &str, warnings: &mut Vec<String>) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fixed: String = key.chars().map(|c| if good(c) { c } else { '_' }).take(MAX_META_KEY_BYTES).collect();
    if fixed != key {
        warnings
            .push(format!("metadata key {key:?} has characters that are not allowed or is too long; it is {fixed:?}"));
    }
    fixed
}

fn meta_value(key: &str, value: &str, warnings: &mut Vec<String>) -> String {
    let mut fixed: String = value.chars().filter(|c| !c.is_control()).collect();
    if fixed.len() > MAX_META_VALUE_BYTES {
        fixed.truncate(fixed.floor_char_boundary(MAX_META_VALUE_BYTES));
    }
    if fixed != value {
        warnings.push(format!("the value of metadata {key} has control characters or is too long; it was cut"));
    }
    fixed
}

/// The registry does not tell how it probes, so this says whether the checks that it has are these: FNV-1a, which
/// gives the same in every version of this program.
fn fingerprint(checks: &[CheckRegistration]) -> String {
    let text = serde_json::to_vec(checks).expect("API types have string keys only");
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
pub(crate) mod tests;
