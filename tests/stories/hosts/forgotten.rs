//! Whoever holds a lock dies without a word: when another has it. Its session's time is counted by etcd; it begins anew with
//! a new leader of etcd, and where all kvstores stood still when it was over.

use std::time::{Duration, Instant};

use flotilla_tests::{eventually, wait::poll};
use kvstore_client::{GoDuration, types::SessionRequest};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Lab, by};

/// Of the session; the least that there is.
const TTL: Duration = Duration::from_secs(10);
/// A session lives a tenth longer than its TTL.
pub(crate) const LIFETIME: Duration = Duration::from_secs(11);
/// Nobody may have a lock for so long after it was torn from a session.
const LOCK_DELAY: Duration = Duration::from_secs(1);
/// Etcd looks twice a second whether a lease is over; then somebody has to hear it, to end the session and to lock, on a
/// machine that does much else.
const NOTICE: Duration = Duration::from_secs(4);
/// Until another member leads.
const ELECTION: Duration = Duration::from_secs(3);
/// Whose kvstore dies, or stands still, with it.
const HOLDER: usize = 1;

pub(crate) async fn story() {
    let mut lab = Lab::start(3, 3).await;

    let taken = Taken::take(&lab, "alone").await;
    lab.agents[HOLDER].kill();
    taken.is_handed_on(&lab, "with its kvstore", LIFETIME).await;
    lab.agents[HOLDER].start_again(&lab.bed).await;

    let taken = Taken::take(&lab, "leader").await;
    let leader = lab.cluster.leader(&lab.bed).await;
    sleep(TTL / 2).await;
    lab.cluster.members[leader].kill();
    let (killed, before) = (Instant::now(), taken.since.elapsed());
    poll("another leads", ELECTION * 10, async || match lab.cluster.leader(&lab.bed).await {
        old if old == leader => Err("nobody else"),
        _ => Ok(()),
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    println!("  another member leads {:.2} s later", killed.elapsed().as_secs_f64());
    taken.is_handed_on(&lab, "and etcd's leader half way", before + ELECTION + LIFETIME).await;
    lab.cluster.members[leader].start_again(&lab.bed);
    lab.cluster.ready(&lab.bed).await;

    let taken = Taken::take(&lab, "frozen").await;
    sleep(TTL).await;
    let all = |signal| lab.agents.iter().for_each(|agent| agent.signal(signal));
    all(Signal::SIGSTOP);
    sleep(Duration::from_secs(4)).await;
    all(Signal::SIGCONT);
    let thawed = taken.since.elapsed();
    taken.is_handed_on(&lab, "and all kvstores stood still as its time was over", thawed + LIFETIME).await;
}

/// A lock whose holder will never be heard again.
pub(crate) struct Taken {
    key: &'static str,
    since: Instant,
}

impl Taken {
    /// Has it locked through the holder's host by who will never be heard again.
    pub(crate) async fn take(lab: &Lab, key: &'static str) -> Self {
        let client = lab.agents[HOLDER].client.clone();
        let since = Instant::now();
        let taken = async move {
            let session = SessionRequest { ttl: Some(GoDuration(TTL)), ..with_delay() };
            let id = client.session_create(&session).await?;
            client.kv_acquire(key, "", 0, &id).await
        };
        let taken = lab.bed.host(HOLDER).run(taken).await;
        assert!(taken.expect("all is well"), "{key} is nobody's");
        Self { key, since }
    }

    /// Another wants it, through another host, and has it in time, and not before.
    pub(crate) async fn is_handed_on(&self, lab: &Lab, died: &str, within: Duration) {
        let (key, client) = (self.key, lab.agents[0].client.clone());
        // Its kvstore may have to find another etcd first.
        let id = eventually!("a session for another", within, async {
            let (client, session) = (client.clone(), with_delay());
            lab.bed.host(0).run(async move { client.session_create(&session).await }).await
        });
        let limit = within + LOCK_DELAY + NOTICE;
        let what = format!("its holder dies {died}: handed on");
        let took = by(&what, self.since, limit, async || {
            let (client, id) = (client.clone(), id.clone());
            match lab.bed.host(0).run(async move { client.kv_acquire(key, "", 0, &id).await }).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("it is another's".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        let took = took.await;
        assert!(took >= LIFETIME + LOCK_DELAY, "{key} is handed on after {took:?}, while its holder may live");
    }
}

fn with_delay() -> SessionRequest {
    SessionRequest {
        lock_delay: Some(GoDuration(LOCK_DELAY)),
        node_checks: Some(Vec::new()),
        ..SessionRequest::default()
    }
}
