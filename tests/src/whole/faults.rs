//! What is changed on purpose and what goes wrong, by a seed. Pure.

use std::{fmt, time::Duration};

use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};

use crate::bed::faults;

/// Each with all programs and a Docker; the first has the registry, the second a replica of it.
pub const HOSTS: usize = 2;
/// So many containers are on each host before things go wrong.
pub const USUAL: usize = 3;
/// Nobody takes away more than this leaves, and nobody adds more than that.
const FEWEST: usize = 2;
const MOST: usize = 4;
/// Who goes wrong after another has been mended leaves it so much time.
const SLACK: Duration = Duration::from_millis(500);

/// A kind of change or fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container is started, and another one of its host stopped.
    Replace,
    /// A container more.
    Add,
    /// A container is drained or just stopped, and removed.
    Remove,
    /// A container is stopped and started again.
    Restart,
    /// Services come and go, one after the other, so that proxies are reloaded again and again.
    Storm,
    /// The process of a container is killed; Docker starts it again.
    Crash,
    /// `docker kill`: it stays dead.
    Kill,
    /// `kill -9` of Docker's daemon. The next one kills what ran under it, and starts it again.
    Dockerd,
    /// `kill -9` of the registry.
    Registry,
    /// `kill -9` of its replica.
    Replica,
    /// `kill -9` of a registrar.
    Registrar,
    /// `kill -9` of a templater.
    Templater,
    /// `kill -9` of the overlay, which carries the packets itself, too.
    Overlay,
    /// The link between the hosts is cut.
    Cut,
    /// A template is edited so that its proxy would refuse what comes of it.
    Template,
}

impl Kind {
    /// What is done on purpose, and must be noticed by nobody.
    pub const CHANGES: [Self; 5] = [Self::Replace, Self::Add, Self::Remove, Self::Restart, Self::Storm];
    /// What goes wrong.
    pub const FAULTS: [Self; 10] = [
        Self::Crash,
        Self::Kill,
        Self::Dockerd,
        Self::Registry,
        Self::Replica,
        Self::Registrar,
        Self::Templater,
        Self::Overlay,
        Self::Cut,
        Self::Template,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::CHANGES.into_iter().chain(Self::FAULTS)
    }
}

/// One change or fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// On which host, counted from 0.
    pub host: usize,
    /// Says which container it is, or which of several ways is taken: any number.
    pub pick: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Cut => write!(f, "cut the hosts apart"),
            kind => write!(f, "{} on h{}", format!("{kind:?}").to_lowercase(), self.host + 1),
        }
    }
}

/// A fault of a bout.
pub type Planned = faults::Planned<Fault>;

impl Planned {
    fn meets(&self, other: &Self) -> bool {
        self.at < other.ends() + SLACK && other.at < self.ends() + SLACK
    }
}

/// What is done on purpose: for each host a list, whose items come one after the other. `running` says how many containers
/// the hosts have; each kind comes once, and `more` of them again.
pub fn changes(rng: &mut StdRng, mut running: [usize; HOSTS], more: usize) -> [Vec<Fault>; HOSTS] {
    let mut kinds = Kind::CHANGES.to_vec();
    kinds.extend((0..more).map(|_| Kind::CHANGES[rng.random_range(0..Kind::CHANGES.len())]));
    let surplus: usize = running.iter().map(|n| n.saturating_sub(MOST)).sum();
    kinds.extend((0..surplus).map(|_| Kind::Remove));
    kinds.shuffle(rng);
    let mut lists: [Vec<Fault>; HOSTS] = [const { Vec::new() }; HOSTS];
    for kind in kinds {
        // So that neither waits long for the other.
        let mut host = (0..HOSTS).min_by_key(|&host| lists[host].len()).expect("there are two");
        match kind {
            Kind::Add => {
                host = (0..HOSTS).min_by_key(|&host| running[host]).expect("there are two");
                running[host] += 1;
            }
            Kind::Remove => {
                host = (0..HOSTS).max_by_key(|&host| running[host]).expect("there are two");
                if running[host] <= FEWEST {
                    continue;
                }
                running[host] -= 1;
            }
            _ => {}
        }
        lists[host].push(Fault { kind, host, pick: rng.random() });
    }
    lists
}

/// What goes wrong in a round: two bouts, each of which is over before the other begins.
///
/// In the first, Docker's daemon is killed with all that runs under it; in the second, the hosts lose each other. Both at
/// once would leave a proxy without any server that it could reach, and then of course requests fail. Everything else is
/// in one of the two, as it comes, and something of it in both. `long` has the hosts lose each other for so long, now and
/// then, that one is taken for dead.
pub fn bouts(rng: &mut StdRng, long: bool) -> [Vec<Planned>; 2] {
    let mut kinds = [vec![Kind::Dockerd], vec![Kind::Cut, Kind::Overlay]];
    let elsewhere = |kind: &Kind| !matches!(kind, Kind::Dockerd | Kind::Cut | Kind::Overlay);
    let others: Vec<_> = Kind::FAULTS.into_iter().filter(elsewhere).collect();
    for kind in &others {
        kinds[rng.random_range(0..2)].push(*kind);
    }
    for bout in &mut kinds {
        bout.push(others[rng.random_range(0..others.len())]);
    }
    kinds.map(|mut kinds| {
        kinds.shuffle(rng);
        bout(rng, &kinds, long)
    })
}

fn bout(rng: &mut StdRng, kinds: &[Kind], long: bool) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = Duration::from_millis(300);
    for &kind in kinds {
        let lasts = Duration::from_millis(match kind {
            Kind::Crash | Kind::Kill => 0,
            Kind::Dockerd => rng.random_range(100..2000),
            // The registry believes in a host for 15 seconds after its registrar's last word.
            Kind::Cut if long && rng.random_bool(0.2) => rng.random_range(18_000..22_000),
            _ => rng.random_range(400..4000),
        });
        let mut one = Planned { fault: draw(rng, kind), at, lasts };
        // What does not go with something else that is planned comes later.
        while plan.iter().any(|other| excludes(other, &one) || excludes(&one, other)) || too_many_die(&plan, &one) {
            one = Planned { fault: draw(rng, kind), at: one.at + Duration::from_millis(300), lasts };
            if one.at > at + Duration::from_mins(1) {
                break;
            }
        }
        plan.push(one);
        at += Duration::from_millis(rng.random_range(200..1200));
    }
    plan.sort_by_key(|one| one.at);
    plan
}

fn draw(rng: &mut StdRng, kind: Kind) -> Fault {
    let host = match kind {
        Kind::Registry | Kind::Cut => 0,
        Kind::Replica => 1,
        _ => rng.random_range(0..HOSTS),
    };
    Fault { kind, host, pick: rng.random() }
}

/// Whether `one` may not be under way together with `other`.
fn excludes(one: &Planned, other: &Planned) -> bool {
    let here = one.fault.host == other.fault.host;
    let excluded = match one.fault.kind {
        // Nobody can ask Docker for anything meanwhile: it is away, or waits for its driver, half a minute for each call.
        Kind::Dockerd | Kind::Overlay if here && other.fault.kind == one.fault.kind => true,
        Kind::Dockerd | Kind::Overlay => here && matches!(other.fault.kind, Kind::Crash | Kind::Kill),
        kind => here && kind == other.fault.kind && !one.lasts.is_zero(),
    };
    excluded && one.meets(other)
}

/// One of each host's containers lives to the end.
fn too_many_die(plan: &[Planned], one: &Planned) -> bool {
    let dies = |other: &Planned| matches!(other.fault.kind, Kind::Crash | Kind::Kill);
    let dead = plan.iter().filter(|other| dies(other) && other.fault.host == one.fault.host).count();
    dies(one) && dead + 1 >= USUAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn a_seed_gives_the_same_again_and_others_give_others() {
        let planned = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (changes(&mut rng, [3, 3], 2), bouts(&mut rng, true))
        };
        assert_eq!(planned(1), planned(1));
        assert_ne!(planned(1), planned(2));
    }

    #[test]
    fn each_round_has_every_kind() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..300 {
            let all: Vec<_> = changes(&mut rng, [3, 3], 2).concat().iter().map(|fault| fault.kind).collect();
            assert!(Kind::CHANGES.iter().all(|kind| all.contains(kind)), "{all:?}");
            let all: Vec<_> = bouts(&mut rng, true).concat().iter().map(|one| one.fault.kind).collect();
            assert!(Kind::FAULTS.iter().all(|kind| all.contains(kind)), "{all:?}");
        }
    }

    #[test]
    fn the_number_of_containers_stays_within_bounds() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut running = [3, 3];
        for _ in 0..300 {
            for fault in changes(&mut rng, running, 2).concat() {
                match fault.kind {
                    Kind::Add => running[fault.host] += 1,
                    Kind::Remove => running[fault.host] -= 1,
                    _ => {}
                }
            }
            assert!(running.iter().all(|n| (FEWEST..=MOST + 1).contains(n)), "{running:?}");
        }
    }

    #[test]
    fn faults_go_together_but_for_those_that_would_leave_nobody() {
        let mut rng = StdRng::seed_from_u64(5);
        let (mut together, mut longest) = (0, Duration::ZERO);
        for _ in 0..300 {
            let bouts = bouts(&mut rng, false);
            for plan in &bouts {
                for (n, one) in plan.iter().enumerate() {
                    longest = longest.max(one.ends());
                    for other in &plan[n + 1..] {
                        assert!(!excludes(one, other) && !excludes(other, one), "{one:?} {other:?}");
                        together += usize::from(one.meets(other));
                    }
                }
                for host in 0..HOSTS {
                    let dies =
                        |one: &&Planned| one.fault.host == host && matches!(one.fault.kind, Kind::Crash | Kind::Kill);
                    assert!(plan.iter().filter(dies).count() < USUAL, "{plan:?}");
                }
            }
            let has = |bout: usize, kind| bouts[bout].iter().any(|one| one.fault.kind == kind);
            assert!(!has(0, Kind::Cut) && !has(0, Kind::Overlay) && !has(1, Kind::Dockerd));
        }
        assert!(together > 2000 && longest < Duration::from_secs(20), "{together}, {longest:?}");
    }
}
