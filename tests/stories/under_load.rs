//! Servers are replaced, and a new version released, while visitors come; no request fails, though the proxies try nothing
//! twice.

use flotilla_tests::{needs::Need, servers::Servers};

pub(crate) fn needs() -> [Need; 2] {
    ["haproxy", "nginx"].map(Need::Program)
}

/// One server after the other is replaced.
pub(crate) async fn replaced() {
    let (mut servers, mut server) = Servers::begin().await;
    servers.open();
    for n in 2..=4 {
        server = servers.replace(server, &format!("v{n}")).await;
    }
    none_failed(servers, "v4=");
}

/// Two versions stand side by side, and one release after the other decides which is live.
pub(crate) async fn released() {
    let (mut servers, old) = Servers::begin().await;
    servers.declare("v1").await;
    let _new = servers.add("v2").await;
    servers.open();
    servers.release("v2").await;
    servers.release("v1").await;
    servers.release("v2").await;
    servers.remove_idle(old).await;
    none_failed(servers, "v2=");
}

fn none_failed(servers: Servers, last_version: &str) {
    for visits in servers.close() {
        println!("  {}: {} requests, {} failed", visits.how, visits.requests, visits.failed);
        let good = visits.failed == 0 && visits.requests > 0 && visits.log.contains(last_version);
        assert!(good, "{}:\n{}", visits.how, visits.log);
    }
}
