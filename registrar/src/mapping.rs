//! One container and the policy -> what the registry should say about it. Pure.
//!
//! Compatible with Registrator in names, ids, tags and metadata; an address is always one that the port answers on:
//! the host's with the host's port, or the container's with the container's port.

mod meta;
mod names;
mod ports;
mod tags;

use std::{collections::BTreeSet, net::IpAddr};

use kvstore_client::{
    names::is_dns_name,
    types::{CheckStatus, ServiceRegistration, Weights},
};
use serde::Serialize;

use crate::{
    address::Family,
    checks,
    container::{Container, Port, Protocol},
    plan::Mark,
    variables::Variables,
};
use meta::{COMPOSE_SERVICE, SWARM_SERVICE};
pub(crate) use meta::{fnv, named_version};
use ports::{Candidate, candidates};

pub use tags::TagTemplates;

/// Of names, ids and tags: above this nobody can have meant it.
const MAX_TEXT_BYTES: usize = 255;
/// Of one container: more are a range that nobody asks for one by one, or a mistake.
const MAX_PORTS: usize = 1024;
/// Of one container.
const MAX_WARNINGS: usize = 20;
const MAX_WARNING_BYTES: usize = 500;

/// What whoever runs a registrar chooses for all its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // flags are
pub struct Choices {
    /// Register container address and container port instead of the published ones.
    pub internal: bool,
    /// Only containers that have a `SERVICE_NAME`.
    pub explicit: bool,
    /// With `internal`: the network whose address counts.
    pub network: Option<String>,
    /// Which of a container's own addresses count.
    pub family: Family,
    /// The label whose value is the address of a container's ports.
    pub ip_label: Option<String>,
    /// Where a name comes from when there is no `SERVICE_NAME`.
    pub name_from: NameFrom,
    /// Where several ports are registered, the port is no part of the name.
    pub no_port_suffix: bool,
    /// The tag of the image stands for a missing `SERVICE_VERSION`.
    pub version_from_tag: bool,
    /// Added to every instance.
    pub tags: TagTemplates,
    /// The registry's agent may run scripts in containers.
    pub script_checks: bool,
}

/// How this host wants its containers registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// First part of generated ids: Docker's name for the host.
    pub host: String,
    /// Where published ports are reached.
    pub address: IpAddr,
    /// Where those of the other family reach them.
    pub other_address: Option<IpAddr>,
    /// `address` was configured, so it also stands for ports published on another address of the host.
    pub address_is_forced: bool,
    /// What holds for all containers.
    pub choices: Choices,
    /// The registry runs no probes for us (`--node`).
    pub probes_are_run: bool,
    /// Written into every instance, if it is known: the boot of the host, which no container outlives.
    pub boot: Option<String>,
    /// Written into every instance: what carries it is ours.
    pub mark: Mark,
}

/// The name of a service when no `SERVICE_NAME` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NameFrom {
    /// The last part of the image's name, without its tag; of a swarm's task, the swarm's service.
    #[default]
    Image,
    /// `docker run -h NAME`; the image where none was given.
    Hostname,
    /// The container's name.
    Container,
    /// Compose's or the swarm's service; the image elsewhere.
    ComposeService,
}

/// What a container gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped {
    /// One per port, and per name in a network that spans hosts.
    pub instances: Vec<Instance>,
    /// Ports (or the whole container) that are not registered, and why.
    pub skipped: Vec<Skipped>,
    /// Settings that could not be used as given.
    pub warnings: Vec<String>,
}

/// One port, or one name, as it should stand in the registry.
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

/// What the registry should say about `container`, which must be running.
pub fn map(container: &Container, network: Network<'_>, policy: &Policy) -> Mapped {
    let mut mapped = Mapped::default();
    mapped.warnings.extend(container.problems.iter().map(|p| format!("{p}; that port is left out")));
    let mut candidates = candidates(container, network, policy, &mut mapped);
    if candidates.len() > MAX_PORTS {
        mapped.warnings.push(format!("of its {} ports only the lowest {MAX_PORTS} are registered", candidates.len()));
        candidates.truncate(MAX_PORTS);
    }
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
    let several = wanted.len() > 1 && !policy.choices.no_port_suffix;
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
    if matches!(network, Network::Own) {
        names::add(container, policy, &mut mapped);
    }
    mapped.warnings = bounded(mapped.warnings);
    mapped
}

/// Each once, and no more than somebody wants to read: who starts containers must not fill the log.
fn bounded(warnings: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut warnings: Vec<_> = warnings.into_iter().filter(|warning| seen.insert(warning.clone())).collect();
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    for long in warnings.iter_mut().filter(|warning| warning.len() > MAX_WARNING_BYTES) {
        long.truncate(long.floor_char_boundary(MAX_WARNING_BYTES));
        long.push_str("...");
    }
    warnings.extend((more > 0).then(|| format!("and {more} warnings more")));
    warnings
}

impl Mapped {
    fn skip(&mut self, port: &(impl ToString + ?Sized), why: impl Into<String>) {
        let (port, why) = (port.to_string(), why.into());
        self.skipped.push(Skipped { port, why });
    }
}

fn unwanted(variables: &Variables<'_>, policy: &Policy, warnings: &mut Vec<String>) -> Option<&'static str> {
    if variables.flag("ignore", warnings) == Some(true) {
        Some("SERVICE_IGNORE is set")
    } else if policy.choices.explicit && variables.get("name").is_none() {
        Some("it has no SERVICE_NAME, and --explicit asks for one")
    } else {
        None
    }
}

fn instance(
    container: &Container,
    policy: &Policy,
    candidate: Candidate,
    variables: &Variables<'_>,
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
    let scripts_in = policy.choices.script_checks.then_some(container.id.as_str());
    let subject = checks::Subject { id: &id, name: &name, address: candidate.address, scripts_in };
    let mut probes = checks::probes(variables, subject, warnings);
    if !policy.probes_are_run && !probes.is_empty() {
        warnings.push("nobody would run SERVICE_CHECK_* probes with --node; left out: use a HEALTHCHECK".into());
        probes.clear();
    }
    let follows = container.health.is_some() && checks::follows_docker(variables, warnings);
    let follows_docker = follows.then(|| checks::initial_status(variables, warnings).unwrap_or(CheckStatus::Critical));
    let meta = meta::meta(container, policy, variables, &candidate.extra_meta, &probes, warnings);
    Ok(Instance {
        service: ServiceRegistration {
            tags: tags::tags(container, variables, &policy.choices.tags, port, warnings),
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
fn generated_id(host: &str, container: &str, port: Port) -> String {
    let id = format!("{host}:{container}:{}", port.number);
    match port.protocol {
        Protocol::Tcp => id,
        other => format!("{id}:{}", other.as_str()),
    }
}

fn service_name(
    container: &Container,
    policy: &Policy,
    variables: &Variables<'_>,
    port: Port,
    several: bool,
) -> Result<String, String> {
    let base = variables.get("name").map(str::to_owned);
    let mut name = base.unwrap_or_else(|| default_name(container, policy.choices.name_from));
    if several && !variables.is_for_port("name") {
        name = format!("{name}-{}", port.number);
    }
    usable("name", &name)?;
    Ok(name)
}

fn default_name(container: &Container, from: NameFrom) -> String {
    let found = match from {
        // the image of a task says less than the swarm's own name for it
        NameFrom::Image => container.labels.get(SWARM_SERVICE).cloned(),
        NameFrom::Hostname => container.hostname.clone(),
        NameFrom::Container => Some(container.name.clone()),
        NameFrom::ComposeService => {
            container.labels.get(COMPOSE_SERVICE).or(container.labels.get(SWARM_SERVICE)).cloned()
        }
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

fn weights(variables: &Variables<'_>, warnings: &mut Vec<String>) -> Option<Weights> {
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

#[cfg(test)]
pub(crate) mod tests;
