//! Fifty hosts that do what the plans say, on registries that are split, emptied and set back, with hosts that come, go
//! and are evicted. Whatever happened: when nothing happens any more, all agree.

use super::*;
use crate::{
    identity::Identity,
    record::{BlockRecord, NodeRecord, Record},
    world::{
        World,
        tests::{Hosts, Registry, ring, web},
    },
};

const HOSTS: usize = 50;
const GRACE: u64 = 600;
/// Ticks of a second after which all must agree.
const CALM: usize = 12;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

struct Host {
    identity: Identity,
    name: String,
    world: World,
    held: Vec<Holding>,
    said: Option<Vec<Holding>>,
    rev: u64,
    up: bool,
    /// It was down, and has not looked at the registry since.
    returns: bool,
    /// Which registry it talks to, when there are two.
    side: usize,
}

struct Simulation {
    hosts: Vec<Host>,
    registries: Vec<Registry>,
    seconds: u64,
    random: Random,
    claims: usize,
    refused: usize,
}

impl Host {
    fn start(&mut self) {
        self.returns |= !self.up;
        self.up = true;
    }

    fn record(&mut self, key: &Key, body: Body, now: Now) -> String {
        self.rev = (self.rev + 1).max(now.seconds * 1000);
        let record = Record::write(&self.identity, &ring(), key, self.rev, body);
        let text = record.text.clone();
        let _ = self.world.believe(key, record);
        text
    }

    /// One round of what the daemon does; `seen` is what it read, which may be old by the time it writes.
    fn tick(&mut self, seen: &[crate::world::Entry], registry: &mut Registry, now: Now) -> (usize, usize) {
        let me = self.identity.node();
        let live = Key::Live(me);
        registry.put(&live, "", None);
        let alive = self.world.last_alive(me);
        self.world.absorb(&ring(), seen, now.seconds);
        self.world.forget(now);
        if std::mem::take(&mut self.returns) {
            let lost = lost_while_away(&self.world, me, &self.held, alive, now);
            self.held.retain(|holding| !lost.contains(holding));
        }
        if self.world.evicted(me) {
            return (0, 0);
        }
        let missing = self.world.missing();
        for key in missing.iter().filter(|key| matches!(key, Key::Network(_) | Key::Gone(_))) {
            let text = self.world.record(key).unwrap().text.clone();
            registry.put(key, &text, Some(self.world.index(key)));
        }
        let full = BTreeMap::new();
        let steps = plan(&self.world, Me { node: me, name: &self.name, held: &self.held, apart: &[] }, &full, now);
        let (mut claims, mut refused) = (0, 0);
        for step in steps {
            match step {
                Step::Claim { block, cas } => {
                    let since = (self.rev + 1).max(now.seconds * 1000);
                    let key = Key::Block(block.network, block.v4);
                    let text = self.record(&key, Body::Block(BlockRecord { since }), now);
                    claims += 1;
                    if registry.put(&key, &text, Some(cas)) {
                        self.held.push(Holding { network: block.network, block: block.v4, since });
                    } else {
                        refused += 1;
                    }
                }
                Step::Yield(holding) | Step::Release(holding) => self.held.retain(|other| *other != holding),
                Step::Restore(block) => {
                    let key = Key::Block(block.network, block.v4);
                    let text = self.record(&key, Body::Block(BlockRecord { since: 0 }), now);
                    registry.put(&key, &text, Some(0));
                }
            }
        }
        let key = Key::Node(me);
        if self.said.as_ref() != Some(&self.held) || missing.contains(&key) || self.world.index(&key) == 0 {
            let node = NodeRecord { name: self.name.clone(), blocks: self.held.clone(), ..NodeRecord::default() };
            let text = self.record(&key, Body::Node(Box::new(node)), now);
            registry.put(&key, &text, None);
            self.said = Some(self.held.clone());
        }
        for (key, cas) in left_over(&self.world, me, now) {
            registry.delete(&key, cas);
        }
        (claims, refused)
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut beginning = Hosts::new(HOSTS);
        beginning.network(0, 1, Some(web()));
        let host = |(n, identity)| Host {
            identity,
            name: format!("h{n}"),
            world: World::default(),
            held: Vec::new(),
            said: None,
            rev: 0,
            up: true,
            returns: false,
            side: n % 2,
        };
        let hosts = beginning.identities.into_iter().enumerate().map(host).collect();
        let registries = vec![beginning.registry];
        Self { hosts, registries, seconds: 10_000, random: Random(seed), claims: 0, refused: 0 }
    }

    fn now(&self) -> Now {
        Now { seconds: self.seconds, grace: GRACE }
    }

    fn tick(&mut self) {
        self.seconds += 1;
        let now = self.now();
        // All read first: then they write at the same time, in any order.
        let seen: Vec<_> = self.registries.iter().map(Registry::all).collect();
        let mut order: Vec<_> = (0..self.hosts.len()).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, self.random.below(n + 1));
        }
        for n in order {
            let host = &mut self.hosts[n];
            let side = host.side % self.registries.len();
            if host.up {
                let (claims, refused) = host.tick(&seen[side], &mut self.registries[side], now);
                self.claims += claims;
                self.refused += refused;
            }
        }
    }

    /// Ends the sessions of those who are down.
    fn expire(&mut self) {
        for host in self.hosts.iter().filter(|host| !host.up) {
            let path = Key::Live(host.identity.node()).path();
            self.registries.iter_mut().for_each(|registry| drop(registry.entries.remove(&path)));
        }
    }

    fn heal(&mut self) {
        let Some(other) = (self.registries.len() == 2).then(|| self.registries.pop().unwrap()) else { return };
        for (path, entry) in other.entries {
            // Whichever came last by some clock.
            if !self.registries[0].entries.contains_key(&path) || self.random.below(2) == 0 {
                let key: Key = path.strip_prefix(crate::record::PREFIX).unwrap().parse().unwrap();
                self.registries[0].put(&key, std::str::from_utf8(&entry.value).unwrap(), None);
            }
        }
    }

    fn something(&mut self, snapshots: &mut Vec<Registry>) {
        let any = self.random.below(HOSTS);
        match self.random.below(9) {
            0 => self.hosts[any].up = false,
            1 | 2 => self.hosts[any].start(),
            3 if self.registries.len() == 1 => self.registries.push(self.registries[0].clone()),
            4 => self.heal(),
            5 => snapshots.push(self.registries[0].clone()),
            6 if !snapshots.is_empty() => {
                let old = self.random.below(snapshots.len());
                let entries = snapshots[old].entries.clone();
                self.registries[0] = Registry::default();
                for (path, entry) in entries {
                    let key: Key = path.strip_prefix(crate::record::PREFIX).unwrap().parse().unwrap();
                    self.registries[0].put(&key, std::str::from_utf8(&entry.value).unwrap(), None);
                }
            }
            7 if self.random.below(3) == 0 => self.registries[0] = Registry::default(),
            8 if self.random.below(4) == 0 => {
                let by = (any + 1) % HOSTS;
                let (now, key) = (self.now(), Key::Gone(self.hosts[any].identity.node()));
                if self.hosts[by].up && !self.hosts[by].world.evicted(self.hosts[by].identity.node()) {
                    let body = Body::Gone(crate::record::GoneRecord { name: format!("h{any}") });
                    let text = self.hosts[by].record(&key, body, now);
                    let side = self.hosts[by].side % self.registries.len();
                    self.registries[side].put(&key, &text, None);
                }
            }
            _ => {}
        }
    }

    fn check(&self, what: &str) {
        let now = self.now();
        let up: Vec<_> = self.hosts.iter().filter(|host| host.up).collect();
        let evicted = |host: &&&Host| up.iter().any(|other| other.world.evicted(host.identity.node()));
        let members: Vec<_> = up.iter().filter(|host| !evicted(host)).collect();
        let agreed = members[0].world.holders(now);
        for host in &members {
            let (me, name) = (host.identity.node(), &host.name);
            assert!(host.world.holders(now) == agreed, "{what}: {name} does not agree with {}", members[0].name);
            assert_eq!(host.world.double_claims(now), 0, "{what}: {name} sees a double claim");
            assert!(!host.held.is_empty(), "{what}: {name} has no block");
            for holding in &host.held {
                let block = web().block_of(holding.block).unwrap();
                assert_eq!(agreed.get(&block), Some(&(holding.since, me)), "{what}: {name} gives out another's block");
            }
        }
        for host in up.iter().filter(evicted) {
            let id = host.identity.node();
            assert!(
                agreed.values().all(|(_, holder)| *holder != id),
                "{what}: {} was evicted and holds a block",
                host.name
            );
        }
    }
}

#[test]
fn fifty_hosts_that_start_at_once_agree_within_seconds() {
    let mut simulation = Simulation::new(1);
    let mut ticks = 0;
    while simulation.hosts.iter().any(|host| host.held.is_empty()) || ticks < 3 {
        simulation.tick();
        ticks += 1;
        assert!(ticks < 20, "the claims do not come to an end");
    }
    simulation.tick();
    simulation.check("after the start");
    println!(
        "50 hosts have their blocks after {ticks} rounds, {} of {} claims were refused",
        simulation.refused, simulation.claims
    );
}

#[test]
fn whatever_happens_to_the_registry_and_the_hosts_all_agree_in_the_end() {
    let seeds = std::env::var("OVERLAY_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let first = u64::from(std::process::id());
    let rounds = std::env::var("OVERLAY_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"));
    for seed in seeds.map_or_else(|| first..first + rounds, |seed: u64| seed..seed + 1) {
        println!("OVERLAY_SEED={seed}");
        let mut simulation = Simulation::new(seed << 8 | 1);
        let mut snapshots = Vec::new();
        (0..6).for_each(|_| simulation.tick());
        for _ in 0..40 {
            simulation.something(&mut snapshots);
            simulation.expire();
            (0..simulation.random.below(3)).for_each(|_| simulation.tick());
        }
        simulation.heal();
        simulation.expire();
        (0..CALM).for_each(|_| simulation.tick());
        simulation.check(&format!("OVERLAY_SEED={seed}"));
        // Those who are away lose what they had, and it can be given to others; they come back all the same.
        simulation.seconds += GRACE + 1;
        simulation.hosts.iter_mut().filter(|host| host.up).for_each(|host| host.rev += 1);
        (0..CALM).for_each(|_| simulation.tick());
        simulation.hosts.iter_mut().for_each(Host::start);
        (0..2 * CALM).for_each(|_| simulation.tick());
        simulation.check(&format!("OVERLAY_SEED={seed}, after the grace time"));
    }
}
