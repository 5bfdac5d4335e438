//! A host comes back with another address: what is known of it follows, and nobody takes it for another host.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use flotilla_tests::dig::dig_from;

use super::{
    Lab, by,
    site::{passing, register, serve},
};

/// From its kvstore's answering to all others' knowing.
const FOLLOWS: Duration = Duration::from_secs(1);

pub(crate) async fn story() {
    let mut lab = Lab::start(2, 1).await;
    let _server = serve(&lab, 1);
    register(&lab, 1).await;
    let before = node(&lab).await;
    let old = lab.bed.host(1).address;
    known_as(&lab, old).await.expect("it is known");

    lab.agents[1].kill();
    let new = Ipv4Addr::new(10, 77, 0, 112);
    lab.bed.host_mut(1).move_to(new);
    let started = Instant::now();
    lab.agents[1].start_again(&lab.bed).await;
    println!("  it answers {:.2} s after its start", started.elapsed().as_secs_f64());
    by("known by its new address", Instant::now(), FOLLOWS, async || known_as(&lab, new).await).await;

    let stale = dig_from(lab.bed.host(0), lab.agents[0].dns(), &reverse(old), "PTR").await.expect("it is answered");
    assert_eq!((stale.status.as_str(), stale.records.len()), ("NXDOMAIN", 0), "nobody has the old address");
    assert_eq!(node(&lab).await, before, "the same host, and no other");
    assert_eq!(passing(&lab, 0).await.expect("it is read"), ["h2"]);
}

/// Each node's name and id, as the first host's kvstore knows them.
async fn node(lab: &Lab) -> Vec<(String, String)> {
    let client = lab.agents[0].client.clone();
    let read = lab.bed.host(0).run(async move { client.catalog_nodes(None).await }).await.expect("it is read");
    let mut nodes: Vec<_> = read.value.into_iter().map(|node| (node.node, node.id)).collect();
    nodes.sort();
    assert_eq!(nodes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["h1", "h2"]);
    nodes
}

/// The second host, its instance and the name of its address are told alike by the first host's kvstore.
async fn known_as(lab: &Lab, address: Ipv4Addr) -> Result<(), String> {
    let ask = async |name: &str, kind: &str| dig_from(lab.bed.host(0), lab.agents[0].dns(), name, kind).await;
    let wanted = [address.to_string()];
    for name in ["h2.node.consul", "web.service.consul"] {
        let found = ask(name, "A").await?.records;
        if found != wanted {
            return Err(format!("{name} is {found:?}"));
        }
    }
    let names = ask(&reverse(address), "PTR").await?.records;
    if names.iter().any(|name| name.starts_with("h2.node.")) { Ok(()) } else { Err(format!("PTR: {names:?}")) }
}

fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}
