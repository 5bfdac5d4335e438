//! What goes wrong in a round, by a seed. Pure.

use std::{fmt, time::Duration};

use rand::{RngExt as _, rngs::StdRng};

use super::Cut;

/// One thing that goes wrong. Hosts are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a kvstore; later it is started again.
    KillAgent(usize),
    /// SIGSTOP, and later SIGCONT.
    FreezeAgent(usize),
    /// `kill -9` of a member of etcd; later it is started again.
    KillEtcd(usize),
    /// SIGSTOP, and later SIGCONT.
    FreezeEtcd(usize),
    /// Every process of a host is killed, and its link cut.
    KillHost(usize),
    /// A link.
    Cut(Cut),
    /// Of a thousand frames to and from the host so many are lost.
    Lose(usize, u32),
    /// Each frame to and from the host takes so many milliseconds, up to twice as many, and is overtaken by others.
    Slow(usize, u64),
    /// Nothing more fits on the disks of a host's programs.
    FillDisks(usize),
    /// Whoever holds a lock on this host, and renews it, dies without a word; later another comes.
    KillHolder(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |host: usize| format!("h{}", host + 1);
        match *self {
            Self::KillAgent(host) => write!(f, "kill kvstore on {}", name(host)),
            Self::FreezeAgent(host) => write!(f, "freeze kvstore on {}", name(host)),
            Self::KillEtcd(host) => write!(f, "kill etcd on {}", name(host)),
            Self::FreezeEtcd(host) => write!(f, "freeze etcd on {}", name(host)),
            Self::KillHost(host) => write!(f, "kill all of {}", name(host)),
            Self::Cut(Cut::Host(host)) => write!(f, "cut {} off", name(host)),
            Self::Cut(Cut::Between(one, other)) => write!(f, "cut {} from {}", name(one), name(other)),
            Self::Cut(Cut::From(from, to)) => write!(f, "cut what {} sends to {}", name(from), name(to)),
            Self::Lose(host, permille) => write!(f, "lose {} % to and from {}", permille / 10, name(host)),
            Self::Slow(host, millis) => write!(f, "delay what is to and from {} by {millis} ms or more", name(host)),
            Self::FillDisks(host) => write!(f, "fill the disks of {}", name(host)),
            Self::KillHolder(host) => write!(f, "kill who may hold a lock on {}", name(host)),
        }
    }
}

/// A fault, when it begins after the round did, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned<F = Fault> {
    /// What goes wrong.
    pub fault: F,
    /// When it begins.
    pub at: Duration,
    /// For how long; zero for what is over at once.
    pub lasts: Duration,
}

impl<F> Planned<F> {
    /// When it ends.
    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// The faults of a round of `length` on so many hosts, in order: one after the other, two at a time now and then, and a
/// moment without any between them.
pub fn plan(rng: &mut StdRng, hosts: usize, length: Duration) -> Vec<Planned> {
    let mut plan = Vec::new();
    let mut at = Duration::from_millis(500);
    loop {
        let lasts = Duration::from_millis(rng.random_range(500..4000));
        if at + lasts > length {
            return plan;
        }
        let first = fault(rng, hosts);
        plan.push(Planned { fault: first, at, lasts });
        if rng.random_bool(0.3) {
            // Both end together.
            let left = lasts.mul_f64(rng.random_range(0.2..1.0));
            let second = Planned { fault: fault(rng, hosts), at: at + lasts.saturating_sub(left), lasts: left };
            if touches(second.fault) != touches(first) {
                plan.push(second);
            }
        }
        at += lasts + Duration::from_millis(rng.random_range(200..1500));
    }
}

fn fault(rng: &mut StdRng, hosts: usize) -> Fault {
    let host = rng.random_range(0..hosts);
    let other = (host + rng.random_range(1..hosts)) % hosts;
    match rng.random_range(0..12) {
        0 => Fault::KillAgent(host),
        1 => Fault::FreezeAgent(host),
        2 => Fault::KillEtcd(host),
        3 => Fault::FreezeEtcd(host),
        4 => Fault::KillHost(host),
        5 => Fault::Cut(Cut::Host(host)),
        6 => Fault::Cut(Cut::Between(host, other)),
        7 => Fault::Cut(Cut::From(host, other)),
        8 => Fault::Lose(host, rng.random_range(50..400)),
        9 => Fault::Slow(host, rng.random_range(10..150)),
        10 => Fault::FillDisks(host),
        _ => Fault::KillHolder(host),
    }
}

/// The host whose processes it is about, or none if it is about links. Two about one host would mend each other.
fn touches(fault: Fault) -> Option<usize> {
    match fault {
        Fault::KillAgent(host)
        | Fault::FreezeAgent(host)
        | Fault::KillEtcd(host)
        | Fault::FreezeEtcd(host)
        | Fault::KillHost(host)
        | Fault::FillDisks(host) => Some(host),
        Fault::Cut(_) | Fault::Lose(..) | Fault::Slow(..) | Fault::KillHolder(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn a_seed_gives_the_same_faults_again_and_others_give_others() {
        let planned = |seed| plan(&mut StdRng::seed_from_u64(seed), 3, Duration::from_secs(20));
        assert_eq!(planned(1), planned(1));
        assert_ne!(planned(1), planned(2));
    }

    #[test]
    fn all_kinds_come_all_end_in_time_and_no_two_are_about_one_host() {
        let length = Duration::from_secs(12);
        let mut rng = StdRng::seed_from_u64(3);
        let mut kinds = std::collections::BTreeSet::new();
        let mut together = 0;
        for _ in 0..200 {
            let plan = plan(&mut rng, 3, length);
            assert!(!plan.is_empty() && plan.iter().all(|one| one.ends() <= length), "{plan:?}");
            kinds.extend(plan.iter().map(|one| format!("{:?}", one.fault).split('(').next().unwrap().to_owned()));
            for two in plan.windows(2).filter(|two| two[1].at < two[0].ends()) {
                together += 1;
                assert_ne!(touches(two[0].fault), touches(two[1].fault), "{two:?}");
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        assert!(together > 50, "{together}");
    }
}
