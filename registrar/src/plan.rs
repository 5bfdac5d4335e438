//! Desired against registered -> the next thing to do about one id, and only on what is ours. Pure.

mod hold;

use std::{collections::BTreeMap, fmt};

pub use hold::{Hold, asked_check, asked_check_id};

use kvstore_client::types::{
    AgentService, CheckRegistration, CheckStatus, CheckUpdate, HealthCheck, Meta, NodeService, ServiceAddress,
    ServiceRegistration, Weights,
};

use crate::{
    checks::{MESSENGER_TTL, docker_check_id},
    mapping::Instance,
};

/// Metadata: whose entry it is.
pub const META_MARK: &str = "registrar";
/// Metadata: which container it is about.
pub const META_CONTAINER: &str = "registrar-container";
/// Metadata: in which boot of the host, where that is known.
pub const META_BOOT: &str = "registrar-boot";
/// Metadata: which probes it was registered with.
pub const META_CHECKS: &str = "registrar-checks";

/// Addresses that a registry adds by itself.
const ADDED_BY_REGISTRY: [&str; 4] = ["lan_ipv4", "lan_ipv6", "wan_ipv4", "wan_ipv6"];

/// Who made an entry: a Docker and a registrar's own state. Both, since cloned machines share Docker's ID and a state
/// directory may be shared by the registrars of two Dockers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Docker's own ID.
    pub docker: String,
    /// The UUID in the state directory.
    pub state: String,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.docker, self.state)
    }
}

impl Mark {
    /// Whose entry `meta` belongs to, as seen from this mark.
    pub fn judge(&self, meta: &Meta) -> Owner {
        match meta.get(META_MARK) {
            None => Owner::Nobody,
            Some(mark) if *mark == self.to_string() => Owner::Us,
            Some(mark) if mark.strip_prefix(&self.docker).is_some_and(|rest| rest.starts_with('/')) => Owner::Forgotten,
            Some(_) => Owner::Other,
        }
    }
}

/// The owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It carries our mark.
    Us,
    /// A registrar of the same Docker with another state: most likely ours, before the state was lost.
    Forgotten,
    /// It has no mark: another program's, or a person's.
    Nobody,
    /// A registrar of another Docker.
    Other,
}

/// What an id should be.
#[derive(Clone, Debug)]
pub struct Desired<'a> {
    /// The registration, without the checks that follow Docker.
    pub instance: &'a Instance,
    /// What the container's HEALTHCHECK says, if it is followed.
    pub health: Option<CheckUpdate>,
    /// Whether it is kept out of use.
    pub hold: Option<Hold>,
}

/// What the registry says about an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the API's
pub struct Actual {
    pub name: String,
    pub tags: Vec<String>,
    pub meta: Meta,
    pub port: u16,
    pub address: String,
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    pub weights: Weights,
    pub checks: BTreeMap<String, CheckStatus>,
}

impl From<AgentService> for Actual {
    fn from(service: AgentService) -> Self {
        Self {
            name: service.service,
            tags: service.tags,
            meta: service.meta,
            port: service.port,
            address: service.address,
            tagged_addresses: service.tagged_addresses,
            weights: service.weights,
            checks: BTreeMap::new(),
        }
    }
}

impl From<NodeService> for Actual {
    fn from(service: NodeService) -> Self {
        Self {
            name: service.service,
            tags: service.tags,
            meta: service.meta.unwrap_or_default(),
            port: service.port,
            address: service.address,
            tagged_addresses: service.tagged_addresses,
            weights: service.weights.unwrap_or_default(),
            checks: BTreeMap::new(),
        }
    }
}

/// All instances of a node by id.
pub type Registered = BTreeMap<String, Actual>;

/// Puts each check to its instance; checks of the node itself are none of ours.
pub fn registered(
    services: impl IntoIterator<Item = (String, Actual)>,
    checks: impl IntoIterator<Item = HealthCheck>,
) -> Registered {
    let mut all: Registered = services.into_iter().collect();
    for check in checks {
        if let Some(instance) = all.get_mut(&check.service_id) {
            instance.checks.insert(check.check_id, check.status);
        }
    }
    all
}

/// One call to the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Puts the instance with exactly these checks.
    Register(Box<ServiceRegistration>),
    /// Tells what a HEALTHCHECK says.
    Report(CheckUpdate),
    /// Keeps the instance out of use.
    Hold(Hold),
    /// Keeps the instance out of use for as long as the container with this short id lives: somebody asked for it.
    Ask(String),
    /// Removes a check of ours that should no longer be there.
    DropCheck(String),
    /// Removes the instance and its checks.
    Deregister,
}

impl Action {
    /// For those who count.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Report(_) => "report",
            Self::Hold(_) | Self::Ask(_) => "hold",
            Self::DropCheck(_) => "release",
            Self::Deregister => "deregister",
        }
    }
}

/// What is to be done about an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: it is as it should be.
    Settled,
    /// This, and then look again.
    Do(Action),
    /// The id is taken by an entry that is not ours; nothing is touched.
    Taken(String),
}

/// Circumstances that are not about one id.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Ours.
    pub mark: &'a Mark,
    /// Every container has been seen, so what is missing is gone.
    pub all_seen: bool,
    /// The container that the id was registered for has ended, and the entry is to stay for a while.
    pub kept: bool,
    /// It is time to repeat what a HEALTHCHECK says, lest the registry forgets it.
    pub renew: bool,
}

/// The next step for `id`.
pub fn step(id: &str, desired: Option<&Desired<'_>>, actual: Option<&Actual>, now: Circumstances<'_>) -> Step {
    match (desired, actual) {
        (None, Some(actual)) if now.kept && now.mark.judge(&actual.meta) == Owner::Us => {
            let known = actual.checks.contains_key(&Hold::Exited.check_id(id));
            if known { Step::Settled } else { Step::Do(Action::Hold(Hold::Exited)) }
        }
        (None, Some(actual)) if now.all_seen && now.mark.judge(&actual.meta) == Owner::Us => {
            Step::Do(Action::Deregister)
        }
        (None, _) => Step::Settled,
        // Too late to introduce it.
        (Some(desired), None) if desired.hold == Some(Hold::Draining) => Step::Settled,
        (Some(desired), None) => Step::Do(Action::Register(Box::new(body(id, desired)))),
        (Some(desired), Some(actual)) => match taken(id, desired, actual, now.mark) {
            Some(why) => Step::Taken(why),
            None => correction(id, desired, actual, now.renew).map_or(Step::Settled, Step::Do),
        },
    }
}

fn taken(id: &str, desired: &Desired<'_>, actual: &Actual, mark: &Mark) -> Option<String> {
    match mark.judge(&actual.meta) {
        Owner::Us | Owner::Forgotten => None,
        Owner::Nobody if desired.instance.id_is_generated => None,
        Owner::Nobody => Some(format!("id {id:?} is taken by an entry that is not from a registrar")),
        Owner::Other => Some(format!("id {id:?} is taken by the registrar {}", actual.meta[META_MARK])),
    }
}

fn correction(id: &str, desired: &Desired<'_>, actual: &Actual, renew: bool) -> Option<Action> {
    if let Some(hold) = desired.hold
        && !actual.checks.contains_key(&hold.check_id(id))
    {
        return Some(Action::Hold(hold));
    }
    let draining = desired.hold == Some(Hold::Draining);
    let mut wanted = body(id, desired);
    wanted.checks.extend(still_asked(id, &wanted, actual));
    if !draining && !matches(&wanted, actual) {
        return Some(Action::Register(Box::new(wanted)));
    }
    if let Some(health) = &desired.health {
        let known = actual.checks.get(&docker_check_id(id)).map(|status| status.as_str());
        if known.is_some_and(|known| renew || known != health.status) {
            return Some(Action::Report(health.clone()));
        }
    }
    let is_wanted = |check: &String| wanted.checks.iter().any(|w| w.check_id == *check);
    let stray = actual.checks.keys().find(|check| hold::is_ours(id, check) && !is_wanted(check));
    stray.filter(|_| !draining).map(|check| Action::DropCheck(check.clone()))
}

/// What somebody asked for stays until the end of that life of the container.
fn still_asked(id: &str, wanted: &ServiceRegistration, actual: &Actual) -> Option<CheckRegistration> {
    let check = asked_check(id, wanted.meta.get(META_CONTAINER)?);
    let new_life = actual.checks.contains_key(&Hold::Exited.check_id(id));
    (actual.checks.contains_key(&check.check_id) && !new_life).then_some(check)
}

/// The whole registration: the instance, its probes, what Docker says, and why it is kept out of use.
fn body(id: &str, desired: &Desired<'_>) -> ServiceRegistration {
    let mut service = desired.instance.service.clone();
    if let Some(health) = &desired.health {
        service.checks.push(CheckRegistration {
            check_id: docker_check_id(id),
            name: "Docker HEALTHCHECK".into(),
            status: Some(health.status.clone()),
            ..CheckRegistration::ttl(MESSENGER_TTL)
        });
    }
    service.checks.extend(desired.hold.map(|hold| hold.check(id)));
    service
}

fn matches(wanted: &ServiceRegistration, actual: &Actual) -> bool {
    let tagged = &wanted.tagged_addresses;
    let added = |name: &String| tagged.contains_key(name) || ADDED_BY_REGISTRY.contains(&name.as_str());
    wanted.name == actual.name
        && wanted.tags == actual.tags
        && wanted.meta == actual.meta
        && wanted.port == actual.port
        && wanted.address == actual.address
        && wanted.weights.unwrap_or_default() == actual.weights
        && tagged.iter().all(|(name, address)| actual.tagged_addresses.get(name) == Some(address))
        && actual.tagged_addresses.keys().all(added)
        && wanted.checks.iter().all(|check| actual.checks.contains_key(&check.check_id))
}

/// What the registry says after `action` succeeded.
pub fn apply(id: &str, action: &Action, registered: &mut Registered) {
    match action {
        Action::Register(service) => {
            let old = registered.remove(id).unwrap_or_default().checks;
            registered.insert(id.to_owned(), after_register(service, &old));
        }
        Action::Deregister => drop(registered.remove(id)),
        Action::Report(update) => set_check(id, docker_check_id(id), Some(parse_status(&update.status)), registered),
        Action::Hold(hold) => set_check(id, hold.check_id(id), Some(CheckStatus::Critical), registered),
        Action::Ask(container) => set_check(id, asked_check_id(id, container), Some(CheckStatus::Critical), registered),
        Action::DropCheck(check) => set_check(id, check.clone(), None, registered),
    }
}

fn set_check(id: &str, check: String, status: Option<CheckStatus>, registered: &mut Registered) {
    let Some(instance) = registered.get_mut(id) else { return };
    match status {
        Some(status) => drop(instance.checks.insert(check, status)),
        None => drop(instance.checks.remove(&check)),
    }
}

/// A check that was there before keeps its status.
fn after_register(service: &ServiceRegistration, old: &BTreeMap<String, CheckStatus>) -> Actual {
    let status = |check: &CheckRegistration| {
        let initial = || check.status.as_deref().map_or(CheckStatus::Critical, parse_status);
        old.get(&check.check_id).copied().unwrap_or_else(initial)
    };
    Actual {
        name: service.name.clone(),
        tags: service.tags.clone(),
        meta: service.meta.clone(),
        port: service.port,
        address: service.address.clone(),
        tagged_addresses: service.tagged_addresses.clone(),
        weights: service.weights.unwrap_or_default(),
        checks: service.checks.iter().map(|check| (check.check_id.clone(), status(check))).collect(),
    }
}

fn parse_status(text: &str) -> CheckStatus {
    match text {
        "passing" => CheckStatus::Passing,
        "warning" => CheckStatus::Warning,
        _ => CheckStatus::Critical,
    }
}

#[cfg(test)]
mod tests;
