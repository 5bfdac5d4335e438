//! What a host of the overlay computes, by itself: when it reads what the registry has, and for each plan that it makes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use overlay::{
    blocks,
    identity::Identity,
    keys::PrivateKey,
    network::{Network, NetworkId},
    peers::{self, View},
    record::{Body, Candidate, Holding, Key, LinksRecord, NetworkRecord, NodeRecord, Record, Source},
    secret::{Keyring, Secret},
    world::{Entry, Now, World},
};

use crate::figures::{Row, Times};

const NOW: Now = Now { seconds: 5000, grace: 1000 };
const TIMES: usize = 20;

/// For 50 and for 200 hosts; where all reach each other, and where this one does not reach every tenth.
pub(super) fn made() -> Vec<Row> {
    let names = [
        ["50 records verified for the first time", "200 records verified for the first time"],
        ["50 records read again", "200 records read again"],
        ["a plan for 50 hosts", "a plan for 200 hosts"],
        ["  where it does not reach every tenth", "  where it does not reach every tenth"],
    ];
    let mut rows = Vec::new();
    for (column, count) in [50_u8, 200].into_iter().enumerate() {
        let ring = Keyring::new(Secret::new(1, [7; 32]));
        let (hosts, entries) = mesh(count, &ring);
        let mut world = World::default();
        let started = Instant::now();
        world.absorb(&ring, &entries, NOW.seconds);
        rows.push(Row::told(names[0][column], &Times::from_iter([started.elapsed()])));
        rows.push(Row::told(names[1][column], &times(|| drop(world.absorb(&ring, &entries, NOW.seconds)))));
        for (name, silent) in [(names[2][column], usize::MAX), (names[3][column], 10)] {
            rows.push(Row::told(name, &times(|| plan(&world, &ring, &hosts, silent))));
        }
    }
    rows
}

fn times(what: impl FnMut()) -> Times {
    let mut what = what;
    let time = |_| {
        let started = Instant::now();
        what();
        started.elapsed()
    };
    (0..TIMES).map(time).collect::<Vec<Duration>>().into_iter().collect()
}

/// As the daemon has it made, of the first host, which does not hear every `silent`th.
fn plan(world: &World, ring: &Keyring, hosts: &[Identity], silent: usize) {
    let me = hosts[0].node();
    let others = hosts.iter().skip(1).map(Identity::node);
    let heard: BTreeMap<_, _> = others.enumerate().map(|(n, id)| (id, (n + 1) % silent != 0)).collect();
    let endpoint = |id: &_| Some((*id, peers::candidates(world, *id, NOW).first()?.address));
    let endpoints = heard.keys().filter_map(endpoint).collect();
    let plan = peers::plan(world, ring, &View { me, heard: &heard, endpoints: &endpoints }, NOW);
    assert_eq!(plan.peers.len(), hosts.len() - 1);
    assert_eq!(plan.relayed.len(), heard.values().filter(|heard| !**heard).count());
    let held = &world.node(me).expect("it is in it").blocks;
    let _ = blocks::plan(world, blocks::Me { node: me, name: "h0", held, apart: &[] }, &BTreeMap::new(), NOW);
    let _ = (world.missing(), blocks::left_over(world, me, NOW));
}

/// What the registry has of so many hosts with a block each.
fn mesh(count: u8, ring: &Keyring) -> (Vec<Identity>, Vec<Entry>) {
    let key = || PrivateKey::generate().expect("the system has randomness");
    let hosts: Vec<_> = (0..count).map(|_| Identity::new(key())).collect();
    let network = Network::new(
        "app".parse().expect("a name"),
        serde_json::from_str::<NetworkId>("\"0f0e0d0c-0b0a-4908-8706-050403020100\"").expect("an id"),
        "10.99.0.0/16".parse().expect("a subnet"),
        24,
        1,
    );
    let network = network.expect("it can be");
    let mut entries = Vec::new();
    let record = |key: &Key, author: &Identity, body| Entry {
        key: key.path(),
        value: Record::write(author, ring, key, 10, body).text.into(),
        modify_index: 1,
        locked: false,
    };
    let of_network = Body::Network(NetworkRecord { network: Some(network.clone()) });
    entries.push(record(&Key::Network(network.name.clone()), &hosts[0], of_network));
    for (n, host) in hosts.iter().enumerate() {
        let block = network.block(u32::try_from(n).expect("few")).v4;
        let holding = Holding { network: network.id, block, since: 5 };
        let address = format!("10.216.0.{n}:51820").parse().expect("an address");
        let node = NodeRecord {
            name: format!("h{n}"),
            relay: true,
            mtu: 1420,
            blocks: vec![holding],
            endpoints: vec![Candidate { source: Source::Local, address }],
            ..NodeRecord::default()
        };
        entries.push(record(&Key::Node(host.node()), host, Body::Node(Box::new(node))));
        entries.push(record(&Key::Links(host.node()), host, Body::Links(LinksRecord::default())));
        entries.push(Entry { key: Key::Live(host.node()).path(), value: Vec::new(), modify_index: 1, locked: true });
    }
    (hosts, entries)
}
