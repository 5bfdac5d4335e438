//! What a tunnel with many peers, all of whom talked to it, has in memory.

use std::{thread::sleep, time::Duration};

use flotilla_tests::{held::Held, switch::Switch};
use overlay::{
    device::{self, Choice, Peer, Plane, Settings},
    keys::{PresharedKey, PrivateKey},
};

use super::{
    kinds::Program,
    ours::{self, MTU},
};
use crate::{figures::Row, peers};

const PEERS: u8 = 50;
const LIMIT_MIB: f64 = 20.0;

pub(super) fn with_peers() -> Vec<Row> {
    let (switch, dir) = (Switch::cable(), peers::dir());
    let hub = dir.path().join("hub");
    let hub_key = PrivateKey::load_or_make(&hub).expect("our own directory");
    let keys: Vec<_> = (0..PEERS).map(|_| PrivateKey::generate().expect("the system has randomness")).collect();
    // All on the second host, each with a port of its own.
    let known = (0..PEERS).zip(&keys).map(|(n, key)| {
        let mut peer = ours::peer(2, key, &format!("10.217.{n}.0/24"));
        peer["endpoint"] = format!("{}:{}", Switch::address(2), port(n)).into();
        peer
    });
    let asked = ours::asked("ovl0", 1, &hub, &known.collect::<Vec<_>>());
    let program = Program::ours(&switch, 1, dir.path(), &asked);
    let spokes: Vec<_> = (0..PEERS)
        .zip(keys)
        .map(|(n, key)| {
            let settings = Settings { interface: format!("spoke{n}"), key, port: port(n), mtu: MTU };
            let tunnel =
                switch.on(2, || device::open(&settings, Choice::Only(Plane::User))).expect("root may make it").tunnel;
            let peer = Peer {
                key: hub_key.public(),
                preshared: PresharedKey::new([7; 32]),
                endpoint: Some((Switch::address(1), 51_001).into()),
                allowed: ["10.217.0.0/16".parse().expect("a prefix")].into(),
                keepalive: Some(Duration::from_secs(1)),
            };
            tunnel.set_peers(&[peer]).expect("one peer");
            tunnel
        })
        .collect();
    let shaken = || spokes.iter().filter(|spoke| spoke.peers()[0].handshake.is_some()).count();
    for _ in 0..100 {
        if shaken() == spokes.len() {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    assert_eq!(shaken(), spokes.len(), "all have shaken hands");
    let mib = Held::by(program.pid()).mib;
    let bound = Some((format!("under {LIMIT_MIB} MiB"), mib < LIMIT_MIB));
    vec![Row { what: "memory of a tunnel with 50 peers", found: format!("{mib:.1} MiB"), bound }]
}

fn port(n: u8) -> u16 {
    52_000 + u16::from(n)
}
