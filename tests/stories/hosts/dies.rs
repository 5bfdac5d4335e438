//! A host dies with all that is on it. The others miss it within its lease, which etcd counts; it takes twice as long where
//! it held the leader of etcd, since a new one gives every lease its whole time anew.

use std::time::{Duration, Instant};

use flotilla_tests::{bed::Cut, eventually, program::Program};
use tokio::time::sleep;

use super::{
    LEASE, Lab, by,
    site::{Front, in_dns, passing, register, serve},
};

/// From its coming back to its being found again.
const BACK: Duration = Duration::from_secs(2);

pub(crate) async fn story() {
    let mut lab = Lab::start(3, 3).await;
    let leader = lab.cluster.leader(&lab.bed).await;
    let (observer, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut servers: Vec<_> = (0..3).map(|host| serve(&lab, host)).collect();
    for host in 0..3 {
        register(&lab, host).await;
    }
    let site = Site { observer, front: Front::start(&lab, observer).await };
    site.agrees(&lab).await;

    println!("a host dies that has a follower of etcd:");
    site.dies_and_returns(&mut lab, other, &mut servers, LEASE + Duration::from_secs(1)).await;
    println!("a host dies that has etcd's leader:");
    lab.cluster.lead(&lab.bed, leader).await;
    site.dies_and_returns(&mut lab, leader, &mut servers, 2 * LEASE + Duration::from_secs(3)).await;
}

struct Site {
    observer: usize,
    front: Front,
}

impl Site {
    /// All three are in DNS, passing, and behind HAProxy.
    async fn agrees(&self, lab: &Lab) {
        eventually!("all are found", Duration::from_secs(20), async {
            let (dns, passing) = (in_dns(lab, self.observer).await?, passing(lab, self.observer).await?);
            if dns.len() == 3 && passing.len() == 3 { Ok(()) } else { Err(format!("{dns:?} {passing:?}")) }
        });
        let since = Instant::now();
        eventually!("all serve", Duration::from_secs(20), async {
            let visits = self.front.visits(since);
            let missing = lab.bed.hosts().iter().find(|host| visits.iter().all(|v| v.who.as_ref() != Some(&host.name)));
            missing.map_or(Ok(()), |host| Err(format!("{} does not", host.name)))
        });
    }

    async fn dies_and_returns(&self, lab: &mut Lab, host: usize, servers: &mut [Program], limit: Duration) {
        let (name, address) = (lab.bed.host(host).name.clone(), lab.bed.host(host).address.to_string());
        let start = Instant::now();
        // First the link, so that nobody is told that anything ends.
        lab.bed.cut(Cut::Host(host));
        lab.agents[host].kill();
        lab.cluster.members[host].kill();
        servers[host].kill();
        self.is_missed(lab, &name, &address, start, limit).await;

        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        servers[host] = serve(lab, host);
        lab.cluster.members[host].start_again(&lab.bed);
        lab.agents[host].begin(&lab.bed);
        lab.bed.mend(Cut::Host(host));
        self.is_back(lab, &name, &address, start).await;
        lab.cluster.ready(&lab.bed).await;
    }

    async fn is_missed(&self, lab: &Lab, name: &str, address: &str, start: Instant, limit: Duration) {
        let gone = |seen: Vec<String>, one: &str| {
            if seen.iter().any(|s| s == one) { Err(format!("{seen:?}")) } else { Ok(seen) }
        };
        let dns = by("out of DNS", start, limit, async || gone(in_dns(lab, self.observer).await?, address));
        let passing = by("out of ?passing", start, limit, async || gone(passing(lab, self.observer).await?, name));
        tokio::join!(dns, passing);
        // Nobody is sent to it any more: everybody gets an answer for longer than a round of all takes.
        sleep(Duration::from_secs(1)).await;
        let failed: Vec<_> = self.front.visits(start).into_iter().filter(|visit| visit.who.is_none()).collect();
        let last = failed.last().expect("visitors were sent to it before it was missed").at - start;
        println!("  out of HAProxy: {:.2} s, after {} failed visits", last.as_secs_f64(), failed.len());
        assert!(last <= limit, "a visitor was sent to it after {last:?}");
    }

    async fn is_back(&self, lab: &Lab, name: &str, address: &str, start: Instant) {
        let there = |seen: Vec<String>, one: &str| {
            if seen.iter().any(|s| s == one) { Ok(()) } else { Err(format!("{seen:?}")) }
        };
        let dns = by("back in DNS", start, BACK, async || there(in_dns(lab, self.observer).await?, address));
        let passing = by("back in ?passing", start, BACK, async || there(passing(lab, self.observer).await?, name));
        let haproxy = by("back behind HAProxy", start, BACK, async || {
            let visits = self.front.visits(start);
            if visits.iter().any(|visit| visit.who.as_deref() == Some(name)) {
                Ok(())
            } else {
                Err("nobody is sent to it")
            }
        });
        tokio::join!(dns, passing, haproxy);
    }
}
