//! Subnets beside the mesh, and through which of the hosts that say to have one it is reached. Pure. All hosts decide alike,
//! as far as they reach the same ones: the host of the least id that is reached carries it, and the next one when that is
//! gone. When it is back it carries it again, so what is decided follows from what is so, not from what was before.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::{
    network::NodeId,
    overlap::{may_be_lan, overlap},
    world::{Now, World},
};

/// What is believed to be behind hosts, and behind which, the least id first. Nobody takes an address of a network by saying
/// that it is in his LAN, or what is everybody's; and of two subnets that overlap only that of the lesser id counts.
pub fn offered(world: &World, now: Now) -> BTreeMap<Ipv4Net, Vec<NodeId>> {
    let networks: Vec<Ipv4Net> = world.networks().iter().map(|network| network.subnet).collect();
    let mut offered: BTreeMap<Ipv4Net, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in world.members(now) {
        for lan in &node.lan {
            let meets = networks.iter().any(|network| overlap(*network, *lan))
                || offered.keys().any(|other| other != lan && overlap(*other, *lan));
            let hosts = if may_be_lan(*lan) && !meets { offered.entry(*lan).or_default() } else { continue };
            if !hosts.contains(&id) {
                hosts.push(id);
            }
        }
    }
    offered
}

/// Through whom `me` sends to each of them: itself, where it has the subnet itself; else the first host that is `reached`;
/// the first of all where none is.
pub fn carriers(
    offered: &BTreeMap<Ipv4Net, Vec<NodeId>>,
    me: NodeId,
    reached: impl Fn(NodeId) -> bool,
) -> BTreeMap<Ipv4Net, NodeId> {
    let carrier = |hosts: &[NodeId]| {
        let own = hosts.iter().find(|id| **id == me);
        own.or_else(|| hosts.iter().find(|id| reached(**id))).or(hosts.first()).copied()
    };
    offered.iter().filter_map(|(lan, hosts)| Some((*lan, carrier(hosts)?))).collect()
}

/// What somebody says to have that overlaps with `subnet` and is not the same, and who.
pub fn other_than(world: &World, subnet: Ipv4Net, now: Now) -> Option<(Ipv4Net, NodeId)> {
    let all = world.members(now).flat_map(|(id, node)| node.lan.iter().map(move |lan| (*lan, id)));
    all.into_iter().find(|(lan, _)| *lan != subnet && overlap(*lan, subnet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Body, Key, NodeRecord},
        world::tests::{Hosts, NOW, ring, web},
    };

    /// Five hosts, of which these say so; `gone` are evicted.
    fn world(lans: &[(usize, &[&str])], gone: &[usize]) -> (Hosts, World) {
        let mut hosts = Hosts::new(5);
        hosts.network(0, 1, Some(web()));
        (0..5).for_each(|n| hosts.publish(n, 10, &[]));
        for (n, lan) in lans {
            let lan = lan.iter().map(|lan| lan.parse().unwrap()).collect();
            let record = NodeRecord { name: format!("h{n}"), lan, ..NodeRecord::default() };
            hosts.write(*n, &Key::Node(hosts.id(*n)), 20, Body::Node(Box::new(record)));
        }
        for n in gone {
            hosts.evict(4, *n, 5_000_000);
        }
        let mut world = World::default();
        world.absorb(&ring(), &hosts.registry.all(), NOW.seconds);
        (hosts, world)
    }

    /// Who carries the LAN, as `me` sees it that reaches all but `silent`.
    fn carrier(lans: &[(usize, &[&str])], gone: &[usize], me: usize, silent: &[usize]) -> Option<usize> {
        let (hosts, world) = world(lans, gone);
        let number = |id: NodeId| (0..5).find(|n| hosts.id(*n) == id).unwrap();
        let carriers = carriers(&offered(&world, NOW), hosts.id(me), |id| !silent.contains(&number(id)));
        carriers.get(&LAN.parse().unwrap()).map(|id| number(*id))
    }

    const LAN: &str = "192.168.7.0/24";

    #[test]
    fn the_first_that_is_reached_carries_it_for_all() {
        let twice: &[(usize, &[&str])] = &[(1, &[LAN]), (3, &[LAN, "192.168.8.0/24"])];
        for me in [0, 2, 4] {
            for (lans, gone, silent, wanted) in [
                (twice, &[][..], &[][..], Some(1)),
                (twice, &[], &[1], Some(3)),
                (twice, &[], &[3], Some(1)),
                // Whoever hears nobody goes on as if it did.
                (twice, &[], &[0, 1, 2, 3, 4], Some(1)),
                (twice, &[1], &[], Some(3)),
                (twice, &[1, 3], &[], None),
                // It is hidden, or was never there.
                (&[(1, &["192.168.9.0/24"]), (3, &[LAN])], &[], &[], Some(3)),
                (&[], &[], &[], None),
            ] {
                assert_eq!(carrier(lans, gone, me, silent), wanted, "{me} {gone:?} {silent:?}");
            }
        }
        assert_eq!(carrier(twice, &[], 3, &[]), Some(3), "who has it needs nobody");
        assert_eq!(carrier(twice, &[], 1, &[3]), Some(1));
    }

    #[test]
    fn of_two_that_overlap_one_counts_whoever_is_reached() {
        let (hosts, world) =
            world(&[(1, &[LAN]), (2, &["192.168.0.0/16"]), (3, &["10.210.1.0/24", "8.8.8.0/24"])], &[]);
        let lan = LAN.parse().unwrap();
        assert_eq!(offered(&world, NOW), [(lan, vec![hosts.id(1)])].into());
        // Whoever comes later is refused beforehand.
        let met = |subnet: &str| other_than(&world, subnet.parse().unwrap(), NOW).map(|(_, id)| id);
        assert_eq!(met("192.168.7.128/25"), Some(hosts.id(1)));
        assert_eq!(met("192.168.9.0/24"), Some(hosts.id(2)));
        assert_eq!(met(LAN), Some(hosts.id(2)), "another one, not the same");
        assert_eq!(met("172.16.0.0/16"), None);
    }
}
