//! A host stands still for longer than its lease, as a virtual machine may, and is replaced by a copy with its name and its
//! id. Then it goes on: it must not write over anything of its successor.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Agent, Bed, Cluster},
    dig::dig_from,
    eventually,
    program::Launch,
    wait::poll,
    web,
};
use kvstore_client::{Client, ClientConfig, KvPut, types::ServiceRegistration};
use nix::sys::signal::Signal;
use reqwest::Method;
use tokio::time::sleep;

use super::LEASE;

const LIMIT: Duration = Duration::from_secs(30);
/// It shows three times in its lease that it lives; so long its successor must stay what it is.
const BEATS: Duration = LEASE;

pub(crate) async fn story() {
    let bed = Bed::new(3);
    let cluster = Cluster::start(&bed, &[0]).await;
    let observer = Agent::start(&bed, 0, &cluster.engine(&bed, 0)).await;
    let old = Agent::start(&bed, 1, &cluster.engine(&bed, 1)).await;
    register(&bed, 1, &old.client, 80).await;
    let client = old.client.clone();
    let facts = bed.host(1).run(async move { client.agent_self().await }).await.expect("it answers");
    let id = facts["Config"]["NodeID"].as_str().expect("it has an id").to_owned();

    old.signal(Signal::SIGSTOP);
    let frozen = Instant::now();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    fs::write(dir.path().join("node-id"), id).expect("our own directory");
    let (name, address) = (&bed.host(1).name, bed.host(2).address);
    let launch = Launch::ours("kvstore").args(["agent", "--node", name, "--engine", &cluster.engine(&bed, 2)]);
    let launch = launch.args(["--bind", &address.to_string(), "--http-addr", "0.0.0.0:8500", "--data-dir"]);
    let _new = bed.host(2).start(launch.args([dir.path()]));
    let addresses = vec![format!("http://{address}:8500")];
    let new = Client::new(&ClientConfig { addresses, ..ClientConfig::default() }).expect("a well formed address");
    eventually!("the copy answers", LIMIT, async {
        let new = new.clone();
        bed.host(2).run(async move { new.leader().await }).await
    });
    register(&bed, 2, &new, 81).await;
    let put = { bed.host(2).run(async move { new.kv_put("a", "of the copy", KvPut::default()).await }).await };
    assert!(put.expect("the copy writes"));
    known_as(&bed, &observer, address).await.expect("the copy is known");

    sleep((LEASE + Duration::from_secs(2)).saturating_sub(frozen.elapsed())).await;
    old.signal(Signal::SIGCONT);
    let thawed = Instant::now();
    let url = format!("{}/v1/kv/a", old.url());
    let write = async || {
        let url = url.clone();
        bed.host(1).run(async move { web::send(Method::PUT, &url, "of the old one".into()).await }).await
    };
    let why = "another kvstore that was started later has this host's node-id";
    let mut refused = 0;
    while thawed.elapsed() < BEATS {
        let answer = poll("the old one answers", LIMIT, write).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status, 503, "{}", answer.body);
        refused += 1;
        known_as(&bed, &observer, address).await.expect("nothing of the copy's is written over");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(write().await.expect("it answers").body.contains(why));
    println!(
        "  after {:.1} s the old one goes on; {refused} writes refused in {BEATS:?}",
        (thawed - frozen).as_secs_f64()
    );
    assert!(old.log().contains(why), "its log tells why:\n{}", old.log());
    // What it shows is what the others show.
    known_as(&bed, &old, address).await.expect("it follows what the copy does");
    let value = bed.host(1).run(async move { web::get(&format!("{url}?raw&stale")).await }).await;
    assert_eq!(value.as_deref(), Ok("of the copy"));
}

async fn register(bed: &Bed, host: usize, through: &Client, port: u16) {
    let service =
        ServiceRegistration { id: "web-1".into(), name: "web".into(), port, ..ServiceRegistration::default() };
    let client = through.clone();
    let registered = bed.host(host).run(async move { client.register_service(&service).await }).await;
    registered.expect("the registry takes it");
}

/// The second host has this address, is alive and offers what the copy has registered.
async fn known_as(bed: &Bed, asked: &Agent, address: Ipv4Addr) -> Result<(), String> {
    let host = bed.host(asked.host);
    let found = dig_from(host, asked.dns(), "h2.node.consul", "A").await?.records;
    if found != [address.to_string()] {
        return Err(format!("its address is {found:?}"));
    }
    let client = asked.client.clone();
    let read = host.run(async move { client.health_service("web", true, None).await }).await;
    let read = read.map_err(|error| error.to_string())?;
    let ports: Vec<_> = read.value.iter().map(|entry| entry.service.port).collect();
    if ports == [81] { Ok(()) } else { Err(format!("passing on {ports:?}")) }
}
