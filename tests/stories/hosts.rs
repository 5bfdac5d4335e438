//! Several hosts, each with its own kvstore, which share an etcd of three members, or with one kvstore for all: what the
//! others see when a host, a link or etcd fails, and how soon.

pub(crate) mod bed;
pub(crate) mod chaos;
pub(crate) mod clocks;
pub(crate) mod dies;
pub(crate) mod etcd_gone;
pub(crate) mod forgotten;
pub(crate) mod hub;
pub(crate) mod moves;
pub(crate) mod replaced;
mod site;

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Agent, Bed, Cluster},
    needs::Need,
    wait::poll,
};
use kvstore_client::types::CheckStatus;

/// Without a word from a host for so long, the others take it for dead (docs/engines.md).
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// What a story about hosts needs, beside these programs. Where protoc is missing, kvstore was built without etcd.
pub(crate) fn needs(programs: &[&'static str]) -> Vec<Need> {
    let programs = ["etcd", "protoc", "dig"].iter().chain(programs).copied().map(Need::Program);
    Bed::NEEDS.into_iter().chain(programs).collect()
}

/// Hosts with a kvstore on each, and an etcd with members on some.
pub(crate) struct Lab {
    /// The kvstore of each host.
    pub(crate) agents: Vec<Agent>,
    pub(crate) cluster: Cluster,
    /// The last to go.
    pub(crate) bed: Bed,
}

impl Lab {
    /// So many hosts, with members of etcd on the first few.
    pub(crate) async fn start(hosts: usize, members: usize) -> Self {
        let bed = Bed::new(hosts);
        let cluster = Cluster::start(&bed, &(0..members).collect::<Vec<_>>()).await;
        let mut agents = Vec::new();
        for host in 0..hosts {
            agents.push(Agent::start(&bed, host, &cluster.engine(&bed, host)).await);
        }
        Self { agents, cluster, bed }
    }

    /// The value of `field` of all nodes' `serfHealth`, as this host's kvstore shows it.
    pub(crate) async fn alive(&self, seen_by: usize) -> Result<Vec<(String, bool)>, String> {
        let client = self.agents[seen_by].client.clone();
        let mut names: Vec<_> = self.bed.hosts().iter().map(|host| host.name.clone()).collect();
        names.sort();
        let seen = async move {
            let mut seen = Vec::new();
            for name in names {
                let checks = client.health_node(&name, None).await?.value;
                let alive = checks.iter().find(|check| check.check_id == "serfHealth");
                seen.push((name, alive.is_some_and(|check| check.status == CheckStatus::Passing)));
            }
            Ok::<_, kvstore_client::Error>(seen)
        };
        self.bed.host(seen_by).run(seen).await.map_err(|error| error.to_string())
    }
}

/// Waits until `attempt` succeeds, at most until `limit` after `since`; how long after it that was, printed with `what`.
///
/// # Panics
/// If it does not within the limit.
pub(crate) async fn by<T, E: Display>(
    what: &str,
    since: Instant,
    limit: Duration,
    attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Duration {
    // Longer, to tell how much longer it takes.
    let patience = (limit + Duration::from_secs(30)).saturating_sub(since.elapsed());
    let done = poll(what, patience, attempt).await;
    let took = since.elapsed();
    if let Err(error) = done {
        panic!("{error}");
    }
    println!("  {what}: {:.2} s (at most {:.1} s)", took.as_secs_f64(), limit.as_secs_f64());
    assert!(took <= limit, "{what}: {took:?}, and at most {limit:?} was promised");
    took
}
