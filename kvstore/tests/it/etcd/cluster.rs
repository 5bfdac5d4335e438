//! Three members of etcd under two kvstores: one after the other dies, and what was acknowledged is there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kvstore::config;
use kvstore_client::types::KvEntry;

use super::{IDS, server::Cluster};
use crate::common::{Agent, settings};

/// How many write at the same time.
const WRITERS: usize = 4;

/// A member that died is replaced within this, on a machine that does much else.
const FAIL_OVER: Duration = Duration::from_secs(10);

fn of(cluster: &Cluster, node: &str, id: &str) -> config::Agent {
    let address = Box::new(cluster.address().parse().unwrap());
    let engine = config::Engine::Etcd { address, data_dir: cluster.place(node) };
    config::Agent { engine, node_id: id.into(), ..settings(node) }
}

/// What was acknowledged, key by key, and when the last was.
#[derive(Default)]
struct Acknowledged {
    values: Mutex<BTreeMap<String, String>>,
    refused: Mutex<usize>,
    stop: AtomicBool,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    /// Waits until `more` were acknowledged from now on; for how long.
    async fn grows(&self, more: usize) -> Duration {
        let (start, wanted) = (Instant::now(), self.count() + more);
        while self.count() < wanted {
            assert!(start.elapsed() < FAIL_OVER, "nothing is written any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

/// Puts one key after the other through the agents in turn.
async fn write(acknowledged: Arc<Acknowledged>, writer: usize, bases: Vec<String>) {
    let client = reqwest::Client::new();
    for n in 0.. {
        if acknowledged.stop.load(Ordering::Relaxed) {
            return;
        }
        let (key, value) = (format!("w/{writer}/{n}"), format!("{writer}-{n}"));
        let url = format!("{}/v1/kv/{key}", bases[n % bases.len()]);
        let put = client.put(url).body(value.clone()).send().await.unwrap();
        match put.status().as_u16() {
            200 => drop(acknowledged.values.lock().unwrap().insert(key, value)),
            503 => {
                *acknowledged.refused.lock().unwrap() += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other}: {}", put.text().await.unwrap()),
        }
    }
}

/// What is read once this kvstore has etcd's majority again.
async fn consistent(url: &str) -> Vec<KvEntry> {
    let start = Instant::now();
    loop {
        let read = reqwest::get(url).await.unwrap();
        if read.status() == 200 {
            return serde_json::from_str(&read.text().await.unwrap()).unwrap();
        }
        assert!(start.elapsed() < FAIL_OVER, "{}", read.text().await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_after_the_other_dies_and_no_acknowledged_write_is_lost() {
    let Some(mut cluster) = Cluster::start() else { return };
    let agents = [Agent::with(of(&cluster, "one", IDS[0])).await, Agent::with(of(&cluster, "other", IDS[1])).await];
    let bases: Vec<_> = agents.iter().map(|agent| agent.base.clone()).collect();
    let acknowledged = Arc::<Acknowledged>::default();
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(acknowledged.clone(), n, bases.clone()))).collect();
    acknowledged.grows(20).await;
    for member in 0..3 {
        cluster.kill(member);
        let without = acknowledged.grows(2 * WRITERS).await;
        cluster.start_again(member);
        acknowledged.grows(2 * WRITERS).await;
        println!("without member {member} writes go on after {without:?}");
    }
    // A write that comes while two are dead is refused, and not lost.
    cluster.kill(0);
    cluster.kill(1);
    let refused = *acknowledged.refused.lock().unwrap();
    let start = Instant::now();
    while *acknowledged.refused.lock().unwrap() < refused + WRITERS {
        assert!(start.elapsed() < FAIL_OVER, "no majority, and no refusal");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.start_again_together(&[0, 1]);
    acknowledged.grows(2 * WRITERS).await;
    acknowledged.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let wanted = acknowledged.values.lock().unwrap().clone();
    println!("{} writes acknowledged, {} refused", wanted.len(), acknowledged.refused.lock().unwrap());
    for agent in agents {
        let url = format!("{}/v1/kv/w/?recurse&consistent", agent.base);
        let there: BTreeMap<_, _> = consistent(&url).await.into_iter().map(|entry| (entry.key, entry.value)).collect();
        for (key, value) in &wanted {
            assert_eq!(there.get(key).map(AsRef::as_ref), Some(value.as_bytes()), "{key}");
        }
        agent.stop().await;
    }
}
