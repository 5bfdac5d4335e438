//! Everything known about this host's containers, and what follows from it for each id of the registry. Pure: facts
//! and times come in as arguments; every change answers with the ids that may have changed.

mod lives;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

pub use lives::{DEFAULT_REAP, Deregister, Lives, Moment};

use kvstore_client::types::{CheckStatus, CheckUpdate};
use nix::sys::signal::Signal;

use crate::{
    callers::{self, Wanted},
    container::{Container, Endpoint, HealthState, NetworkMode, short_id},
    mapping::{Instance, Mapped, Network, Policy, map},
    plan::{Desired, Hold, Owner, Registered},
};

/// How much longer than its stop timeout a container may take to end before it is clear that it will not.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// Longest chain of `--network container:X` that is followed.
const MAX_NETWORK_HOPS: usize = 8;

/// Ids of the registry about which something may have changed.
pub type Touched = BTreeSet<String>;

/// What a change brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Look at these again.
    pub touched: Touched,
    /// New complaints about a container's settings, `NAME: complaint`.
    pub warnings: Vec<String>,
}

impl Change {
    fn merge(&mut self, other: Self) {
        self.touched.extend(other.touched);
        self.warnings.extend(other.warnings);
    }
}

/// What has come to its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Ids of containers that have run for long enough to take work.
    pub grown: Touched,
    /// Ids of containers that were told to stop and did not; they are back in service.
    pub back: Touched,
    /// The names of those containers.
    pub did_not_stop: Vec<String>,
    /// Short ids of containers whose entries have been kept for long enough after their end.
    pub reaped: Vec<String>,
}

/// The running containers of this host.
#[derive(Debug, Default)]
pub struct World {
    lives: Lives,
    policy: Option<Policy>,
    containers: BTreeMap<String, Entry>,
    /// Which containers want an id of the registry; usually one.
    claims: BTreeMap<String, BTreeSet<String>>,
    /// Stop signals for containers that are not known yet.
    early_stops: BTreeMap<String, Stop>,
    /// Short ids of containers about which Docker said what cannot be read: their entries stay.
    unreadable: BTreeSet<String>,
    /// Short ids of containers that have ended and whose entries stay until then.
    ended: BTreeMap<String, Instant>,
    all_seen: bool,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    mapped: Mapped,
    /// The container whose network it uses, if that runs.
    home: Option<String>,
    /// Set from the stop signal on.
    drain: Option<Instant>,
    /// Until then it has not run for long enough to take work.
    young: Option<Instant>,
}

/// A stop signal, on its way.
#[derive(Clone, Copy, Debug)]
struct Stop {
    signal: i32,
    time: i64,
    seen: Instant,
}

impl World {
    /// A host that treats beginnings and ends this way.
    pub fn new(lives: Lives) -> Self {
        Self { lives, ..Self::default() }
    }

    /// Under which policy containers are registered; changes what follows from every one of them.
    pub fn set_policy(&mut self, policy: Policy) -> Change {
        let mut change = Change::default();
        if self.policy.as_ref() != Some(&policy) {
            self.policy = Some(policy);
            for id in self.containers.keys().cloned().collect::<Vec<_>>() {
                change.merge(self.remap(&id));
            }
        }
        change
    }

    /// The policy, once it is known.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// From now on what is not here does not run.
    pub fn set_all_seen(&mut self) {
        self.all_seen = true;
    }

    /// Whether every container has been seen once.
    pub fn all_seen(&self) -> bool {
        self.all_seen
    }

    /// Docker's word on one container, as it is `now`.
    pub fn observe(&mut self, container: Container, now: Moment) -> Change {
        let (id, short) = (container.id.clone(), container.short_id().to_owned());
        if !container.running {
            let change = self.gone(&id);
            self.ended.extend(self.lives.kept_until(&container, now).map(|until| (short, until)));
            return change;
        }
        self.unreadable.remove(&short);
        let old = self.containers.remove(&id);
        let same_life = old.as_ref().filter(|old| old.container.started == container.started);
        let (drain, young) = match same_life {
            Some(old) => (old.drain, old.young),
            None => (None, self.lives.young_until(&container, now)),
        };
        if young.is_none() {
            self.ended.remove(&short);
        }
        let early = self.early_stops.remove(&id);
        let entry =
            Entry { container, mapped: old.map(|old| old.mapped).unwrap_or_default(), home: None, drain, young };
        self.containers.insert(id.clone(), entry);
        let mut change = self.remap(&id);
        change.touched.extend(self.ids_of(&id)); // its health, pause or drain may be new
        change.merge(self.remap_guests(&id));
        if let Some(stop) = early {
            change.touched.extend(self.stop(&id, stop));
        }
        change
    }

    /// The container does not run, or is no more.
    pub fn gone(&mut self, id: &str) -> Change {
        self.early_stops.remove(id);
        self.ended.remove(short_id(id));
        self.unreadable.remove(short_id(id));
        let mut change = Change::default();
        if let Some(entry) = self.containers.remove(id) {
            change.touched = ids(&entry.mapped);
            self.unclaim(id, &change.touched);
            change.merge(self.remap_guests(id));
        }
        change
    }

    /// Docker's event: a process ended at `time`. News of a former life are none. Whether its entries stay is seen with
    /// the next look at it; until then they are out of use.
    pub fn died(&mut self, id: &str, time: i64, now: Instant) -> Change {
        match self.containers.get_mut(id) {
            Some(entry) if entry.container.started > time => Change::default(),
            Some(_) if self.lives.deregister == Deregister::Always => self.gone(id),
            Some(entry) => {
                entry.drain.get_or_insert(now + DRAIN_GRACE);
                Change { touched: ids(&entry.mapped), ..Change::default() }
            }
            None => Change::default(),
        }
    }

    /// Docker's event: `signal` was sent at `time`. Only those that end a container count.
    pub fn killed(&mut self, id: &str, signal: i32, time: i64, seen: Instant) -> Touched {
        self.stop(id, Stop { signal, time, seen })
    }

    fn stop(&mut self, id: &str, stop: Stop) -> Touched {
        let Some(entry) = self.containers.get_mut(id) else {
            self.early_stops.insert(id.to_owned(), stop);
            return Touched::new();
        };
        let container = &entry.container;
        let ends = [container.stop_signal, Signal::SIGTERM as i32, Signal::SIGKILL as i32].contains(&stop.signal);
        if !ends || stop.time < container.started || entry.drain.is_some() {
            return Touched::new();
        }
        entry.drain = Some(stop.seen + container.stop_timeout + DRAIN_GRACE);
        ids(&entry.mapped)
    }

    /// Docker's word on a container makes no sense: what is registered for it stays as it is.
    pub fn unreadable(&mut self, id: &str) {
        self.unreadable.insert(short_id(id).to_owned());
    }

    /// Whether the container with this short id could not be read.
    pub fn is_unreadable(&self, short_id: &str) -> bool {
        self.unreadable.contains(short_id)
    }

    /// Whether what is registered for the container with this short id stays although it has ended.
    pub fn is_kept(&self, short_id: &str) -> bool {
        self.ended.contains_key(short_id)
    }

    /// Takes over the drains of a former run of this program.
    pub fn resume_drains(&mut self, registered: &Registered, now: Instant) -> Touched {
        let Some(mark) = self.policy.as_ref().map(|policy| policy.mark.clone()) else { return Touched::new() };
        let draining = registered.iter().filter(|(id, actual)| {
            mark.judge(&actual.meta) == Owner::Us && actual.checks.contains_key(&Hold::Draining.check_id(id))
        });
        let mut touched = Touched::new();
        for (id, _) in draining {
            for container in self.claims.get(id).into_iter().flatten() {
                let entry = self.containers.get_mut(container).expect("only what is here has claims");
                let until = now + entry.container.stop_timeout + DRAIN_GRACE;
                entry.drain.get_or_insert(until);
                touched.insert(id.clone());
            }
        }
        touched
    }

    /// When [`World::pass`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_entry = |entry: &Entry| entry.drain.into_iter().chain(entry.young).min();
        self.containers.values().filter_map(of_entry).chain(self.ended.values().copied()).min()
    }

    /// What time alone brings by `now`.
    pub fn pass(&mut self, now: Instant) -> Passed {
        let mut passed = Passed::default();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        for entry in self.containers.values_mut() {
            if is_over(entry.young) {
                entry.young = None;
                self.ended.remove(entry.container.short_id());
                passed.grown.extend(ids(&entry.mapped));
            }
            if is_over(entry.drain) {
                entry.drain = None;
                passed.back.extend(ids(&entry.mapped));
                passed.did_not_stop.push(entry.container.name.clone());
            }
        }
        passed.reaped = self.ended.extract_if(.., |_, until| *until <= now).map(|(id, _)| id).collect();
        passed
    }

    /// All running containers.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = &Container> {
        self.containers.values().map(|entry| &entry.container)
    }

    /// What is to be known about containers that ask; `None` as long as not everything has been seen.
    pub fn callers(&self) -> Option<Wanted> {
        let policy = self.policy.as_ref().filter(|_| self.all_seen)?;
        let mut wanted = Wanted { unreadable: self.unreadable.clone(), ..Wanted::nothing(&policy.mark) };
        for Entry { container, mapped, .. } in self.containers.values() {
            let home = match self.network(container).0 {
                Network::Own => container,
                Network::Of(other) => other,
                Network::Missing(_) => continue,
            };
            let Some(version) = callers::version(container, &mapped.instances, policy) else { continue };
            let addresses = home.networks.values().flat_map(Endpoint::addresses);
            let known = addresses.map(|address| ((address, container.short_id().to_owned()), version.clone()));
            wanted.versions.extend(known);
        }
        Some(wanted)
    }

    /// All ids that any container wants.
    pub fn wanted_ids(&self) -> impl ExactSizeIterator<Item = &String> {
        self.claims.keys()
    }

    /// What `id` should be, and which container wants it. Of several the one that takes work, then the oldest, wins.
    pub fn desired(&self, id: &str) -> Option<(Desired<'_>, &Container)> {
        let rank = |entry: &&Entry| (entry.drain.is_some(), entry.container.started, entry.container.id.clone());
        let claims = self.claims.get(id)?.iter().filter_map(|c| self.containers.get(c));
        let entry = claims.filter(|entry| entry.young.is_none()).min_by_key(rank)?;
        let instance = entry.mapped.instances.iter().find(|instance| instance.service.id == id)?;
        let desired = Desired { instance, health: health(instance, &entry.container), hold: hold(entry) };
        Some((desired, &entry.container))
    }

    /// Ids that more than one container wants, with their names.
    pub fn rivals(&self, id: &str) -> Vec<&str> {
        let all = self.claims.get(id).into_iter().flatten().filter_map(|c| self.containers.get(c));
        let names: Vec<_> = all.map(|entry| entry.container.name.as_str()).collect();
        if names.len() > 1 { names } else { Vec::new() }
    }

    fn ids_of(&self, container: &str) -> Touched {
        self.containers.get(container).map(|entry| ids(&entry.mapped)).unwrap_or_default()
    }

    /// Works out anew what follows from one container.
    fn remap(&mut self, id: &str) -> Change {
        let (Some(policy), Some(entry)) = (&self.policy, self.containers.get(id)) else { return Change::default() };
        let (network, home) = self.network(&entry.container);
        let mapped = map(&entry.container, network, policy);
        let name = &entry.container.name;
        let old = &entry.mapped;
        let warnings = mapped.warnings.iter().filter(|w| !old.warnings.contains(w));
        let warnings = warnings.map(|warning| format!("{name}: {warning}")).collect();
        let touched = if mapped.instances == old.instances { Touched::new() } else { &ids(old) | &ids(&mapped) };
        let (before, after) = (ids(old), ids(&mapped));
        self.unclaim(id, &before);
        for service in after {
            self.claims.entry(service).or_default().insert(id.to_owned());
        }
        let entry = self.containers.get_mut(id).expect("found above");
        (entry.mapped, entry.home) = (mapped, home);
        Change { touched, warnings }
    }

    fn unclaim(&mut self, container: &str, services: &Touched) {
        for service in services {
            if let Some(claims) = self.claims.get_mut(service) {
                claims.remove(container);
                if claims.is_empty() {
                    self.claims.remove(service);
                }
            }
        }
    }

    /// Those that use the network of `id`, or look for a network.
    fn remap_guests(&mut self, id: &str) -> Change {
        let is_guest = |entry: &Entry| {
            matches!(entry.container.network_mode, NetworkMode::Container(_))
                && entry.home.as_deref().is_none_or(|home| home == id)
        };
        let guests: Vec<_> = self.containers.iter().filter(|(_, e)| is_guest(e)).map(|(id, _)| id.clone()).collect();
        let mut change = Change::default();
        for guest in guests.iter().filter(|guest| *guest != id) {
            change.merge(self.remap(guest));
        }
        change
    }

    /// Whose network `container` uses, at the end of the chain.
    pub(crate) fn network<'a>(&'a self, container: &'a Container) -> (Network<'a>, Option<String>) {
        let mut at = container;
        for _ in 0..MAX_NETWORK_HOPS {
            let NetworkMode::Container(name) = &at.network_mode else {
                let own = std::ptr::eq(at, container);
                return (if own { Network::Own } else { Network::Of(at) }, Some(at.id.clone()));
            };
            match self.find(name) {
                Some(next) => at = next,
                None => return (Network::Missing(name), None),
            }
        }
        (Network::Missing("of a circle"), None)
    }

    fn find(&self, name: &str) -> Option<&Container> {
        let by_id = self.containers.get(name);
        let entry = by_id.or_else(|| self.containers.values().find(|entry| entry.container.name == name));
        entry.map(|entry| &entry.container)
    }
}

fn ids(mapped: &Mapped) -> Touched {
    mapped.instances.iter().map(|instance| instance.service.id.clone()).collect()
}

fn hold(entry: &Entry) -> Option<Hold> {
    if entry.drain.is_some() { Some(Hold::Draining) } else { entry.container.paused.then_some(Hold::Paused) }
}

fn health(instance: &Instance, container: &Container) -> Option<CheckUpdate> {
    let starting = instance.follows_docker?;
    let health = container.health.as_ref()?;
    let (status, word) = match health.state {
        HealthState::Starting => (starting, "starting"),
        HealthState::Healthy => (CheckStatus::Passing, "healthy"),
        HealthState::Unhealthy => (CheckStatus::Critical, "unhealthy"),
    };
    let output = if health.output.is_empty() { word.to_owned() } else { format!("{word}: {}", health.output) };
    Some(CheckUpdate { status: status.to_string(), output })
}

#[cfg(test)]
pub(crate) mod tests;
