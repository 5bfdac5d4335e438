use super::*;
use crate::{
    record::{Body, LinksRecord, NodeRecord},
    world::tests::{Hosts, NOW, ring, web},
};

fn plan_of(hosts: &Hosts, n: usize, heard: &[(usize, bool)]) -> Plan {
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), NOW.seconds);
    let heard = heard.iter().map(|(other, heard)| (hosts.id(*other), *heard)).collect();
    let endpoints = BTreeMap::new();
    plan(&world, &ring(), &View { me: hosts.id(n), heard: &heard, endpoints: &endpoints }, NOW)
}

/// Which blocks of "web" are behind each peer, and whether its own address is.
fn behind(hosts: &Hosts, plan: &Plan) -> Vec<(usize, Vec<u32>)> {
    let number = |id: &NodeId| (0..hosts.identities.len()).find(|n| hosts.id(*n) == *id).unwrap();
    let blocks = |peer: &Peer| {
        let tunnel = |id| IpNet::new(tunnel_address(id).into(), 128).unwrap();
        let own = (0..hosts.identities.len()).find(|n| peer.allowed.contains(&tunnel(hosts.id(*n))));
        assert_eq!(own.map(|n| hosts.identities[n].keys().wireguard), Some(peer.key), "each has its own address");
        let has = |n: &u32| {
            let (v4, v6) =
                (peer.allowed.contains(&web().block(*n).v4.into()), peer.allowed.contains(&web().block(*n).v6.into()));
            assert_eq!(v4, v6);
            v4
        };
        (0..256).filter(has).collect()
    };
    plan.peers.iter().map(|(id, peer)| (number(id), blocks(peer))).collect()
}

fn chain() -> Hosts {
    let mut hosts = Hosts::new(4);
    hosts.network(0, 1, Some(web()));
    (0..4).for_each(|n| hosts.publish(n, 10, &[(u32::try_from(n).unwrap(), 9)]));
    let ids: Vec<_> = (0..4).map(|n| hosts.id(n)).collect();
    // One end of a link is enough to say that it is not there.
    for (n, not_to) in [(0, vec![2, 3]), (3, vec![1])] {
        let not_to = not_to.into_iter().map(|n: usize| ids[n]).collect();
        hosts.write(n, &Key::Links(ids[n]), 1, Body::Links(LinksRecord { not_to }));
    }
    hosts
}

#[test]
fn each_block_is_behind_its_holder_and_everybody_is_a_peer() {
    let hosts = chain();
    let plan = plan_of(&hosts, 0, &[]);
    assert_eq!(behind(&hosts, &plan), [(1, vec![1]), (2, vec![2]), (3, vec![3])], "all are tried directly at first");
    let own = plan.peers[0].1.preshared.clone();
    assert_eq!(own, plan_of(&hosts, 1, &[]).peers[0].1.preshared, "both ends share a key");
}

#[test]
fn who_is_not_heard_is_reached_through_others() {
    let mut hosts = chain();
    let silent = [(1, true), (2, false), (3, false)];
    let plan = plan_of(&hosts, 0, &silent);
    assert_eq!(behind(&hosts, &plan), [(1, vec![1, 2, 3]), (2, vec![]), (3, vec![])]);
    assert_eq!(plan.relayed, [(hosts.id(2), hosts.id(1)), (hosts.id(3), hosts.id(1))].into());
    let second = plan_of(&hosts, 1, &[(0, true), (2, true), (3, false)]);
    assert_eq!(behind(&hosts, &second), [(0, vec![0]), (2, vec![2, 3]), (3, vec![])]);
    // The second passes on nothing: so the others are tried, though in vain.
    let record = NodeRecord { name: "h1".into(), relay: false, ..NodeRecord::default() };
    hosts.write(1, &Key::Node(hosts.id(1)), 20, Body::Node(Box::new(record)));
    assert_eq!(behind(&hosts, &plan_of(&hosts, 0, &silent)), [(1, vec![]), (2, vec![2]), (3, vec![3])]);
}

#[test]
fn who_is_evicted_is_nobody_s_peer_and_has_none() {
    let mut hosts = chain();
    hosts.evict(1, 2, 5_000_000);
    assert_eq!(behind(&hosts, &plan_of(&hosts, 0, &[])), [(1, vec![1]), (3, vec![3])]);
    assert_eq!(plan_of(&hosts, 2, &[]), Plan::default());
}

#[test]
fn what_another_one_announces_stays_with_its_holder() {
    let mut hosts = chain();
    hosts.publish(3, 20, &[(3, 9), (1, 15)]);
    assert_eq!(behind(&hosts, &plan_of(&hosts, 0, &[])), [(1, vec![1]), (2, vec![2]), (3, vec![3])]);
    // Nor does a LAN that is in a network, or is everything.
    let lan = ["10.210.1.0/24", "0.0.0.0/0", "192.168.7.0/24"].map(|net| net.parse().unwrap()).to_vec();
    let record = NodeRecord { name: "h3".into(), lan, ..NodeRecord::default() };
    hosts.write(3, &Key::Node(hosts.id(3)), 30, Body::Node(Box::new(record)));
    let plan = plan_of(&hosts, 0, &[]);
    let v4: Vec<_> = plan.peers[2].1.allowed.iter().filter(|net| matches!(net, IpNet::V4(_))).collect();
    assert_eq!(v4, [&"192.168.7.0/24".parse::<IpNet>().unwrap()]);
}

#[test]
fn who_says_nothing_of_links_is_taken_to_reach_all() {
    let mut hosts = Hosts::new(4);
    hosts.network(0, 1, Some(web()));
    (0..4).for_each(|n| hosts.publish(n, 10, &[(u32::try_from(n).unwrap(), 9)]));
    assert_eq!(plan_of(&hosts, 0, &[(1, true), (2, true), (3, true)]).relayed, [].into());
    let relayed = plan_of(&hosts, 0, &[(1, true), (2, true), (3, false)]).relayed;
    let hop = relayed[&hosts.id(3)];
    // Until the one it would go through says that it does not reach it either.
    let said = Body::Links(LinksRecord { not_to: vec![hosts.id(3)] });
    hosts.write(if hop == hosts.id(1) { 1 } else { 2 }, &Key::Links(hop), 1, said);
    let other = if hop == hosts.id(1) { hosts.id(2) } else { hosts.id(1) };
    assert_eq!(plan_of(&hosts, 0, &[(1, true), (2, true), (3, false)]).relayed, [(hosts.id(3), other)].into());
}
