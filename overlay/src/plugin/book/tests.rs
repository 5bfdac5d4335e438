use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    network::{self, Hosts, NetworkId, NodeId},
    plugin::protocol::{Sandbox, read},
};

/// This host, as it is told to hold these networks: name, subnet, and which of its blocks.
fn held(networks: &[(&str, &str, &[u32])]) -> Held {
    let network = |(name, subnet, blocks): &(&str, &str, &[u32])| {
        let id = NetworkId(Uuid::from_u128(name.bytes().map(u128::from).sum()));
        let network = network::Network::new(name.parse().unwrap(), id, subnet.parse().unwrap(), 24, 1).unwrap();
        let network = network::Network { hosts: Hosts::All, ..network };
        HeldNetwork { blocks: blocks.iter().map(|n| network.block(*n)).collect(), network, mtu: 1380 }
    };
    Held {
        node: NodeId([1; 16]),
        host: "a".into(),
        tunnel: "wg7".into(),
        networks: networks.iter().map(network).collect(),
    }
}

pub(super) struct Host {
    pub(super) book: Book,
    pub(super) held: Held,
    pub(super) busy: BTreeSet<IpNet>,
}

pub(super) const NET: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbb";

#[allow(clippy::needless_pass_by_value)] // JSON reads best where it is meant
impl Host {
    pub(super) fn new(networks: &[(&str, &str, &[u32])]) -> Self {
        Self { book: Book::default(), held: held(networks), busy: BTreeSet::new() }
    }

    fn enter(&mut self, method: &str, body: &Value) -> Result<Done, Refusal> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let call = read(method, &body).map_err(|e| Refusal::Never(e.to_string()))?;
        let (next, done) = self.book.enter(World { held: &self.held, busy: &self.busy, random: 7 }, &call)?;
        // As after a restart, each time.
        self.book = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        assert_eq!(self.book, next);
        Ok(done)
    }

    /// What Docker is answered: the value of interest, or the refusal.
    pub(super) fn call(&mut self, method: &str, body: Value) -> String {
        match self.enter(method, &body) {
            Ok(done) => match done.answer {
                Answer::Address(address) => address.to_string(),
                Answer::Pool(pool) => pool.to_string(),
                Answer::Endpoint(mac) => mac.map(|mac| mac.to_string()).unwrap_or_default(),
                other => other.body().to_string(),
            },
            Err(refusal) => refusal.to_string(),
        }
    }

    pub(super) fn pool(&mut self, subnet: &str, range: &str) -> String {
        self.call("IpamDriver.RequestPool", json!({ "Pool": subnet, "SubPool": range, "V6": subnet.contains(':') }))
    }

    pub(super) fn gateway(&mut self, subnet: &str, address: &str) -> String {
        let options = json!({ "RequestAddressType": "com.docker.network.gateway" });
        self.call(
            "IpamDriver.RequestAddress",
            json!({ "PoolID": format!("flotilla/{subnet}"), "Address": address, "Options": options }),
        )
    }

    pub(super) fn address(&mut self, subnet: &str, address: &str) -> String {
        self.call(
            "IpamDriver.RequestAddress",
            json!({ "PoolID": format!("flotilla/{subnet}"), "Address": address, "Options": null }),
        )
    }

    pub(super) fn network(&mut self, id: &str, subnet: &str, gateway: &str, options: Value) -> Result<Done, Refusal> {
        let generic = json!({ "com.docker.network.generic": options });
        let v4 = json!([{ "AddressSpace": "x", "Pool": subnet, "Gateway": gateway }]);
        self.enter(
            "NetworkDriver.CreateNetwork",
            &json!({ "NetworkID": id, "Options": generic, "IPv4Data": v4, "IPv6Data": null }),
        )
    }

    pub(super) fn endpoint(&mut self, id: &str, address: &str) -> String {
        let interface = json!({ "Address": address, "AddressIPv6": "", "MacAddress": "" });
        self.call(
            "NetworkDriver.CreateEndpoint",
            json!({ "NetworkID": NET, "EndpointID": id, "Interface": interface, "Options": {} }),
        )
    }

    fn join(&mut self, id: &str) -> Done {
        let of = json!({ "NetworkID": NET, "EndpointID": id, "SandboxKey": "/var/run/docker/netns/1", "Options": {} });
        self.enter("NetworkDriver.Join", &of).unwrap()
    }

    fn publish(&mut self, id: &str, ports: Value) -> String {
        let options = json!({ "com.docker.network.portmap": ports });
        self.call(
            "NetworkDriver.ProgramExternalConnectivity",
            json!({ "NetworkID": NET, "EndpointID": id, "Options": options }),
        )
    }
}

#[test]
fn a_shared_network_gives_addresses_of_this_hosts_blocks() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7])]);
    assert_eq!(host.pool("10.77.0.0/16", ""), "flotilla/10.77.0.0/16");
    assert_eq!(host.gateway("10.77.0.0/16", ""), "10.77.7.1/16");
    host.network(NET, "10.77.0.0/16", "10.77.7.1/16", json!({})).unwrap();
    assert_eq!(host.address("10.77.0.0/16", ""), "10.77.7.2/16");
    assert_eq!(host.address("10.77.0.0/16", "10.77.7.9"), "10.77.7.9/16");
    assert!(host.address("10.77.0.0/16", "10.77.8.9").contains("another host"));
    assert!(host.address("10.77.0.0/16", "10.77.7.1").contains("in use"));
    assert_eq!(host.endpoint("ee00000000001", "10.77.7.2/16"), "02:42:0a:4d:07:02");
    let joined = host.join("ee00000000001");
    let Step::Bridge(bridge) = &joined.steps[0] else { panic!("{joined:?}") };
    assert_eq!(
        (bridge.name.as_str(), bridge.mtu, bridge.alias.as_str()),
        ("ovb-aaaaaaaaaaa", 1380, "overlay: network app")
    );
    assert_eq!(bridge.routes, ["10.77.7.0/24".parse().unwrap()].into());
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let gateway: IpAddr = "10.77.7.1".parse().unwrap();
    let Answer::Sandbox(sandbox) = joined.answer else { panic!("{joined:?}") };
    let halves = nets(&["10.77.0.0/17", "10.77.128.0/17"]).into_iter().map(|half| (half, gateway)).collect();
    let connected = nets(&["10.77.7.1/32", "10.77.7.0/24"]);
    assert_eq!(sandbox, Sandbox { link: "ovt-ee000000000".into(), gateways: vec![gateway], connected, routed: halves });
}

#[test]
fn a_network_that_the_mesh_does_not_know_yet_has_its_gateway_and_waits_for_a_block() {
    let mut host = Host::new(&[]);
    host.pool("10.77.0.0/16", "");
    assert_eq!(host.gateway("10.77.0.0/16", ""), "10.77.0.1/16");
    host.network(NET, "10.77.0.0/16", "10.77.0.1/16", json!({})).unwrap();
    let asked = json!({ "PoolID": "flotilla/10.77.0.0/16", "Address": "", "Options": {} });
    let refused = host.enter("IpamDriver.RequestAddress", &asked);
    assert!(matches!(refused, Err(Refusal::NotYet(_))), "{refused:?}");
    host.held = held(&[("app", "10.77.0.0/16", &[7])]);
    assert_eq!(host.address("10.77.0.0/16", ""), "10.77.7.2/16", "the first is this host's");
    assert!(host.address("10.77.0.0/16", "10.77.7.1").contains("in use"));
    let made = host.book.made();
    assert_eq!((made.len(), made[0].subnet.to_string(), made[0].local), (1, "10.77.0.0/16".into(), false));
}

#[test]
fn addresses_alone_serve_networks_of_docker_and_local_ones() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7])]);
    host.pool("10.80.0.0/24", "10.80.0.64/26");
    assert_eq!(host.gateway("10.80.0.0/24", "10.80.0.254"), "10.80.0.254/24");
    assert_eq!(host.address("10.80.0.0/24", ""), "10.80.0.65/24");
    assert_eq!(host.address("10.80.0.0/24", "10.80.0.2"), "10.80.0.2/24", "an address may be beside the range");
    host.pool("10.81.0.0/24", "");
    host.gateway("10.81.0.0/24", "");
    let done = host.network(NET, "10.81.0.0/24", "10.81.0.1/24", json!({ "local": "true", "mtu": "9000" })).unwrap();
    let [Step::Bridge(bridge), Step::Nat] = &done.steps[..] else { panic!("{done:?}") };
    assert_eq!((bridge.mtu, &bridge.routes), (9000, &["10.81.0.0/24".parse().unwrap()].into()));
    assert_eq!(host.address("10.81.0.0/24", ""), "10.81.0.2/24");
    host.endpoint("ee00000000001", "10.81.0.2/24");
    let Answer::Sandbox(sandbox) = host.join("ee00000000001").answer else { panic!() };
    assert!(sandbox.routed.is_empty() && sandbox.connected.is_empty(), "all of it is right behind the link");
}

#[test]
fn a_range_narrows_the_blocks_and_must_meet_one() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7, 9])]);
    host.pool("10.77.0.0/16", "10.77.9.128/25");
    assert_eq!(host.address("10.77.0.0/16", ""), "10.77.9.129/16");
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7])]);
    host.pool("10.77.0.0/16", "10.77.8.0/24");
    assert!(host.address("10.77.0.0/16", "").contains("10.77.7.0/24"));
}

#[test]
fn subnets_that_nobody_chose_differ_and_are_in_nobodys_way() {
    let mut host = Host::new(&[("app", "10.193.0.0/16", &[7])]);
    host.busy = ["10.192.7.0/24".parse().unwrap()].into();
    assert_eq!(host.pool("", ""), "flotilla/10.194.0.0/16");
    assert_eq!(host.pool("", ""), "flotilla/10.195.0.0/16", "the first is held while Docker asks again");
    host.call("IpamDriver.ReleasePool", json!({ "PoolID": "flotilla/10.194.0.0/16" }));
    assert_eq!(host.pool("", ""), "flotilla/10.194.0.0/16");
    let six = host.call("IpamDriver.RequestPool", json!({ "Pool": "", "V6": true }));
    assert!(six.starts_with("flotilla/fd") && six.ends_with("::/48"), "{six}");
}

#[test]
fn overlaps_are_refused_and_a_free_subnet_is_proposed() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7])]);
    for subnet in ["10.77.7.0/24", "10.0.0.0/8"] {
        let refusal = host.pool(subnet, "");
        assert!(refusal.contains("the network app") && refusal.contains("10.193.0.0/16 is free"), "{refusal}");
    }
    host.pool("10.90.0.0/16", "");
    for subnet in ["10.90.0.0/16", "10.90.1.0/24"] {
        assert!(host.pool(subnet, "").contains("another network of this Docker"));
    }
    assert!(host.pool("10.90.0.1/16", "").contains("no subnet"));
    assert!(host.pool("10.91.0.0/16", "10.92.0.0/24").contains("not in"));
    host.network(NET, "10.90.0.0/16", "10.90.0.1/16", json!({})).unwrap();
    assert!(host.network(OTHER, "10.90.0.0/16", "10.90.0.1/16", json!({})).is_err());
}

#[test]
fn after_a_restart_docker_asks_again_and_gets_the_same() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[7])]);
    host.pool("10.77.0.0/16", "");
    host.gateway("10.77.0.0/16", "");
    host.network(NET, "10.77.0.0/16", "10.77.7.1/16", json!({})).unwrap();
    assert_eq!(host.address("10.77.0.0/16", ""), "10.77.7.2/16");
    // Another block is the first by now.
    host.held = held(&[("app", "10.77.0.0/16", &[3, 7])]);
    for _ in 0..2 {
        host.call("Plugin.Activate", Value::Null);
        assert_eq!(host.pool("10.77.0.0/16", ""), "flotilla/10.77.0.0/16");
        assert_eq!(host.gateway("10.77.0.0/16", "10.77.7.1"), "10.77.7.1/16");
    }
    assert_ne!(host.address("10.77.0.0/16", ""), "10.77.7.2/16", "the container that ran has it still");
}

#[test]
fn what_is_released_twice_or_was_never_given_is_no_fault() {
    let mut host = Host::new(&[]);
    for (method, body) in [
        ("IpamDriver.ReleasePool", json!({ "PoolID": "flotilla/10.9.0.0/16" })),
        ("IpamDriver.ReleaseAddress", json!({ "PoolID": "flotilla/10.9.0.0/16", "Address": "10.9.0.1" })),
        ("NetworkDriver.DeleteNetwork", json!({ "NetworkID": NET })),
        ("NetworkDriver.DeleteEndpoint", json!({ "NetworkID": NET, "EndpointID": OTHER })),
        ("NetworkDriver.Leave", json!({ "NetworkID": NET, "EndpointID": OTHER })),
        ("NetworkDriver.RevokeExternalConnectivity", json!({ "NetworkID": NET, "EndpointID": OTHER })),
    ] {
        assert_eq!(host.call(method, body), "{}", "{method}");
    }
}

#[test]
fn containers_with_addresses_of_docker_are_checked() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[0])]);
    host.network(NET, "10.77.0.0/16", "10.77.0.1/16", json!({})).unwrap();
    assert_eq!(host.endpoint("ee00000000001", "10.77.0.2/16"), "02:42:0a:4d:00:02");
    assert_eq!(host.endpoint("ee00000000001", "10.77.0.2/16"), "02:42:0a:4d:00:02", "the same once more");
    for (address, why) in [
        ("10.77.0.2/16", "another container's"),
        ("10.77.0.1/16", "the gateway's"),
        ("10.77.1.2/16", "--ipam-driver flotilla"),
        ("10.78.0.2/16", "is not in"),
        ("", "is wanted"),
    ] {
        let refusal = host.endpoint("ee00000000002", address);
        assert!(refusal.contains(why), "{address}: {refusal}");
    }
    for (options, why) in
        [(json!({ "mtu": "12" }), "mtu"), (json!({ "loca": "1" }), "no --opt loca"), (json!({ "local": "x" }), "local")]
    {
        let refusal = host.network(OTHER, "10.99.0.0/16", "10.99.0.1/16", options).unwrap_err().to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
}

#[test]
fn steps_that_do_not_count_are_taken_back() {
    let mut host = Host::new(&[]);
    let before = host.book.clone();
    let made = host.network(NET, "10.90.0.0/24", "10.90.0.1/24", json!({ "local": "true" })).unwrap();
    assert_eq!(before.instead_of(&made.steps), [Step::NoBridge("ovb-aaaaaaaaaaa".into())]);
    host.endpoint("ee00000000001", "10.90.0.2/24");
    let joined = host.join("ee00000000001");
    let back = host.book.instead_of(&joined.steps);
    assert_eq!(back, [Step::NoPair("ovp-ee000000000".into())], "others are in the network");
}

#[test]
fn ports_are_published_once_and_go_with_their_container() {
    let mut host = Host::new(&[("app", "10.77.0.0/16", &[0])]);
    host.network(NET, "10.77.0.0/16", "10.77.0.1/16", json!({})).unwrap();
    host.endpoint("ee00000000001", "10.77.0.2/16");
    host.endpoint("ee00000000002", "10.77.0.3/16");
    let port = |host_ip: &str, first: u16, last: u16| json!([{ "Proto": 6, "IP": "", "Port": 80, "HostIP": host_ip, "HostPort": first, "HostPortEnd": last }]);
    assert_eq!(host.publish("ee00000000001", port("", 8080, 8080)), "{}");
    assert!(host.publish("ee00000000002", port("127.0.0.1", 8080, 8080)).contains("8080"));
    assert_eq!(host.publish("ee00000000002", port("", 8080, 8081)), "{}");
    let published: Vec<u16> = host.book.published().map(|(port, _)| port.host_port).collect();
    assert_eq!(published, [8080, 8081]);
    host.call("NetworkDriver.DeleteEndpoint", json!({ "NetworkID": NET, "EndpointID": "ee00000000001" }));
    assert_eq!(host.publish("ee00000000002", port("", 0, 0)), "{}");
    let published: Vec<u16> = host.book.published().map(|(port, _)| port.host_port).collect();
    assert_eq!(published, [61_000]);
}

#[test]
fn what_docker_removed_unseen_is_forgotten() {
    let mut host = Host::new(&[]);
    for (id, subnet, gateway) in [(NET, "10.90.0.0/24", "10.90.0.1/24"), (OTHER, "10.91.0.0/24", "10.91.0.1/24")] {
        host.pool(subnet, "");
        host.network(id, subnet, gateway, json!({ "local": "true" })).unwrap();
    }
    host.pool("10.92.0.0/24", "");
    host.pool("10.93.0.0/24", "");
    host.endpoint("ee00000000001", "10.90.0.2/24");
    let steps = host.book.forget(&[Id::try_from(NET.to_owned()).unwrap()].into());
    let gone = [Step::NoPair("ovp-ee000000000".into()), Step::NoBridge("ovb-aaaaaaaaaaa".into()), Step::Nat];
    assert_eq!(steps, gone);
    // Another life of Docker's, which has one of the others.
    host.call("Plugin.Activate", Value::Null);
    host.pool("10.93.0.0/24", "");
    host.book.forget_unasked();
    let pools: Vec<_> = host.book.pools.keys().map(IpNet::to_string).collect();
    assert_eq!(pools, ["10.91.0.0/24", "10.93.0.0/24"]);
    assert!(host.book.endpoints.is_empty());
}

/// What Docker 20.10 once asked a driver that answered otherwise, with that driver's answers replaced by ours.
#[test]
fn a_recorded_session_is_answered_from_begin_to_end() {
    let nets = [
        ("app", "10.77.0.0/16", &[0, 9][..]),
        ("other", "10.78.0.0/16", &[3]),
        ("third", "10.80.0.0/16", &[0]),
        ("fourth", "10.81.0.0/16", &[0]),
    ];
    let mut host = Host::new(&nets);
    let mut ours: BTreeMap<String, String> = BTreeMap::new();
    let session = include_str!("../../../tests/fixtures/docker-20.10-plugin-session.jsonl");
    let mut calls = 0;
    for line in session.lines().filter(|line| line.contains("\"m\"")) {
        let record: Value = serde_json::from_str(line).unwrap();
        let (method, theirs) = (record["m"].as_str().unwrap(), &record["resp"]);
        let mut request = replaced(&record["req"], &ours);
        // An option that only the other driver had.
        if let Some(options) = request.pointer_mut("/Options/com.docker.network.generic").and_then(Value::as_object_mut)
        {
            options.remove("secure");
        }
        let done = host.enter(method, &request).unwrap_or_else(|e| panic!("{method} {request}: {e}"));
        let answer = done.answer.body();
        for (field, value) in theirs.as_object().unwrap() {
            if let (Some(old), Some(new)) = (value.as_str(), answer[field].as_str()) {
                ours.insert(old.to_owned(), new.to_owned());
                let bare = |text: &str| text.split('/').next().unwrap().to_owned();
                if field == "Address" {
                    ours.insert(bare(old), bare(new));
                }
            }
        }
        calls += 1;
    }
    assert_eq!(calls, 111);
    assert!(host.book.endpoints.is_empty() && host.book.published().next().is_none(), "all have left");
}

fn replaced(value: &Value, by: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(by.get(text).unwrap_or(text).clone()),
        Value::Array(all) => all.iter().map(|value| replaced(value, by)).collect(),
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), replaced(value, by))).collect(),
        other => other.clone(),
    }
}

#[test]
fn bytes_of_strangers_are_refused_and_nothing_breaks() {
    let session = include_str!("../../../tests/fixtures/docker-20.10-plugin-session.jsonl");
    let records: Vec<Value> = session.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: Vec<&Value> = records.iter().filter(|record| record["m"].is_string()).collect();
    for seed in 0..200 {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut host = Host::new(&[("app", "10.77.0.0/16", &[0])]);
        for _ in 0..100 {
            let record = records[rng.random_range(0..records.len())];
            let mut body = record["req"].to_string().into_bytes();
            for _ in 0..rng.random_range(0..4) {
                let at = rng.random_range(0..body.len());
                match rng.random_range(0..3) {
                    0 => body[at] = rng.random(),
                    1 => body.truncate(at + 1),
                    _ => body.insert(at, b"\"{}[],:09/"[rng.random_range(0..10)]),
                }
            }
            if let Ok(call) = read(record["m"].as_str().unwrap(), &body) {
                let world = World { held: &host.held, busy: &host.busy, random: seed };
                if let Ok((next, done)) = host.book.enter(world, &call) {
                    done.answer.body();
                    host.book = next;
                }
            }
        }
        assert!(
            host.book
                .bridges(World { held: &host.held, busy: &host.busy, random: 0 })
                .iter()
                .all(|b| b.name.len() <= 15)
        );
    }
}

#[test]
fn what_the_host_has_itself_no_container_gets() {
    // The network was made before this host had a part of it, or with a gateway of the user's own.
    let mut host = Host::new(&[]);
    host.pool("10.77.0.0/16", "");
    assert_eq!(host.gateway("10.77.0.0/16", ""), "10.77.0.1/16");
    host.network(NET, "10.77.0.0/16", "10.77.0.1/16", json!({})).unwrap();
    host.held = held(&[("app", "10.77.0.0/16", &[7, 9])]);
    assert_eq!(host.address("10.77.0.0/16", ""), "10.77.7.2/16");
    assert!(host.address("10.77.0.0/16", "10.77.9.1").contains("in use"));
    assert!(host.endpoint("ee00000000001", "10.77.9.1/16").contains("gateway"));
    assert_eq!(host.gateway("10.77.0.0/16", "10.77.7.1"), "10.77.7.1/16", "a gateway it may be");
}

#[test]
fn both_families_come_out_of_this_hosts_blocks() {
    let mut host = Host::new(&[("six", "10.78.0.0/16", &[3])]);
    let v6 = host.held.networks[0].network.subnet6.to_string();
    let block = host.held.networks[0].blocks[0];
    assert_eq!(host.pool(&v6, ""), format!("flotilla/{v6}"));
    assert_eq!(host.gateway(&v6, ""), format!("{}/48", block.gateway6()));
    let given: IpNet = host.address(&v6, "").parse().unwrap();
    assert!(IpNet::V6(block.v6).contains(&given.addr()) && given.prefix_len() == 48, "{given}");
    let make = |host: &mut Host, v6: &str, options: Value| {
        let pool = |pool: &str| json!([{ "AddressSpace": "x", "Pool": pool }]);
        let options = json!({ "com.docker.network.generic": options, "com.docker.network.enable_ipv6": true });
        let asked =
            json!({ "NetworkID": NET, "Options": options, "IPv4Data": pool("10.79.0.0/16"), "IPv6Data": pool(v6) });
        host.enter("NetworkDriver.CreateNetwork", &asked)
    };
    for other in ["fd00:1::/64", "2001:db8::/48"] {
        let refused = make(&mut host, other, json!({})).unwrap_err().to_string();
        assert!(refused.contains("/48 of fd00::/8"), "{refused}");
        make(&mut host, other, json!({ "local": "true" })).unwrap();
        host.enter("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": NET })).unwrap();
    }
}
