use super::*;
use crate::{
    record::{BlockRecord, Body},
    world::tests::{GRACE, Hosts, NOW, ring, web},
};

mod simulation;

fn world(hosts: &Hosts) -> World {
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), NOW.seconds);
    world
}

fn holding(n: u32, since: u64) -> Holding {
    Holding { network: web().id, block: web().block(n).v4, since }
}

fn steps(hosts: &Hosts, n: usize, held: &[Holding], usage: Option<(u64, u64)>) -> Vec<Step> {
    let name = format!("h{n}");
    let usage = usage.map(|(used, capacity)| (web().id, Usage { used, capacity })).into_iter().collect();
    plan(&world(hosts), Me { node: hosts.id(n), name: &name, held, apart: &[] }, &usage, NOW)
}

fn claim(hosts: &mut Hosts, n: usize, block: u32, rev: u64) {
    let key = Key::Block(web().id, web().block(block).v4);
    hosts.write(n, &key, rev, Body::Block(BlockRecord { since: rev }));
}

#[test]
fn a_host_claims_one_block_by_the_hash_of_its_id() {
    let mut hosts = Hosts::new(2);
    assert_eq!(steps(&hosts, 0, &[], None), [], "there is no network");
    hosts.network(0, 1, Some(web()));
    let [Step::Claim { block, cas: 0 }] = steps(&hosts, 0, &[], None)[..] else { panic!() };
    let other = steps(&hosts, 1, &[], None);
    assert_ne!(
        other,
        [Step::Claim { block, cas: 0 }],
        "another host looks elsewhere first (or ids collided: 1 in 256)"
    );
    let first = (0..256).find(|n| web().block(*n) == block).unwrap();
    // Taken, asked for just now, or kept back: the next one.
    let next = web().block((first + 1) % 256);
    let mut taken = Hosts { identities: hosts.identities.split_off(0), registry: hosts.registry.clone() };
    taken.publish(1, 10, &[(first, 9)]);
    assert_eq!(steps(&taken, 0, &[], None), [Step::Claim { block: next, cas: 0 }]);
    taken.evict(0, 1, NOW.seconds * 1000);
    assert_eq!(steps(&taken, 0, &[], None), [Step::Claim { block: next, cas: 0 }], "kept back");
    taken.evict(0, 1, (NOW.seconds - GRACE) * 1000);
    assert_eq!(steps(&taken, 0, &[], None), [Step::Claim { block, cas: 0 }], "the grace time is over");
    taken.registry.entries.clear();
    taken.network(0, 1, Some(web()));
    claim(&mut taken, 1, first, NOW.seconds * 1000 - 1);
    assert_eq!(steps(&taken, 0, &[], None), [Step::Claim { block: next, cas: 0 }], "asked for just now");
    claim(&mut taken, 1, first, NOW.seconds * 1000 - CLAIM_LASTS_MS);
    assert!(matches!(steps(&taken, 0, &[], None)[..], [Step::Claim { block: b, cas: 1.. }] if b == block), "left over");
}

#[test]
fn blocks_are_added_when_they_are_needed_and_let_go_when_they_are_not() {
    let mut hosts = Hosts::new(2);
    hosts.network(0, 1, Some(web()));
    hosts.publish(0, 10, &[(7, 9)]);
    claim(&mut hosts, 0, 7, 9);
    let held = [holding(7, 9)];
    for (used, claims) in [(0, 0), (203, 0), (204, 1), (254, 1)] {
        assert_eq!(steps(&hosts, 0, &held, Some((used, 254))).len(), claims, "{used} of 254");
    }
    assert_eq!(steps(&hosts, 0, &held, None), []);
    hosts.registry.entries.remove(&Key::Block(web().id, held[0].block).path());
    assert_eq!(steps(&hosts, 0, &held, None), [Step::Restore(web().block(7))]);
    hosts.network(0, 2, None);
    assert_eq!(steps(&hosts, 0, &held, None), [Step::Release(held[0])]);
}

#[test]
fn the_later_of_two_gives_way() {
    let mut hosts = Hosts::new(2);
    hosts.network(0, 1, Some(web()));
    hosts.publish(0, 10, &[(7, 9)]);
    hosts.publish(1, 30, &[(7, 20)]);
    claim(&mut hosts, 1, 7, 20);
    assert_eq!(steps(&hosts, 0, &[holding(7, 9)], None), []);
    let second = steps(&hosts, 1, &[holding(7, 20)], None);
    assert_eq!(second[0], Step::Yield(holding(7, 20)));
    assert!(matches!(second[1], Step::Claim { block, .. } if block != web().block(7)), "{second:?}");
}

#[test]
fn one_member_clears_up() {
    let mut hosts = Hosts::new(3);
    hosts.network(0, 1, Some(web()));
    (0..3).for_each(|n| hosts.publish(n, 10, &[(u32::try_from(n).unwrap(), 9)]));
    (0..3).for_each(|n| claim(&mut hosts, n, u32::try_from(n).unwrap(), 9));
    let gone = Key::Live(hosts.id(2));
    hosts.registry.entries.remove(&gone.path());
    let mut world = world(&hosts);
    let later = Now { seconds: NOW.seconds + GRACE, ..NOW };
    world.absorb(&ring(), &hosts.registry.all(), later.seconds);
    assert_eq!(left_over(&world, hosts.id(0), NOW), []);
    let keys = |n| left_over(&world, hosts.id(n), later).into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
    let wanted = [Key::Node(hosts.id(2)), Key::Block(web().id, web().block(2).v4)];
    assert_eq!(keys(0), wanted.into());
    assert_eq!(keys(1), [].into(), "only the first of those who live");
}
