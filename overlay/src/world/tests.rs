use uuid::Uuid;

use super::*;
use crate::{
    identity::Identity,
    keys::PrivateKey,
    record::{GoneRecord, LinksRecord, NetworkRecord, SeenRecord},
    secret::Secret,
};

pub(crate) const GRACE: u64 = 1000;
pub(crate) const NOW: Now = Now { seconds: 5000, grace: GRACE };

pub(crate) fn ring() -> Keyring {
    Keyring::new(Secret::new(1, [7; 32]))
}

/// A registry, as bare as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) entries: BTreeMap<String, Entry>,
    index: u64,
}

impl Registry {
    /// Compare-and-set; true if it was set.
    pub(crate) fn put(&mut self, key: &Key, text: &str, cas: Option<u64>) -> bool {
        let path = key.path();
        let there = self.entries.get(&path).map_or(0, |entry| entry.modify_index);
        if cas.is_some_and(|cas| cas != there) {
            return false;
        }
        self.index += 1;
        let locked = matches!(key, Key::Live(_));
        let entry = Entry { key: path.clone(), value: text.into(), modify_index: self.index, locked };
        self.entries.insert(path, entry);
        true
    }

    pub(crate) fn delete(&mut self, key: &Key, cas: u64) -> bool {
        let path = key.path();
        let there = self.entries.get(&path).is_some_and(|entry| entry.modify_index == cas);
        there && self.entries.remove(&path).is_some()
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.entries.values().cloned().collect()
    }
}

/// Hosts that know the secret, and the registry they write to.
pub(crate) struct Hosts {
    pub(crate) identities: Vec<Identity>,
    pub(crate) registry: Registry,
}

impl Hosts {
    pub(crate) fn new(count: usize) -> Self {
        let mut identities: Vec<_> = (0..count).map(|_| Identity::new(PrivateKey::generate().unwrap())).collect();
        identities.sort_by_key(Identity::node);
        Self { identities, registry: Registry::default() }
    }

    pub(crate) fn id(&self, n: usize) -> NodeId {
        self.identities[n].node()
    }

    pub(crate) fn write(&mut self, n: usize, key: &Key, rev: u64, body: Body) {
        let text = Record::write(&self.identities[n], &ring(), key, rev, body).text;
        self.registry.put(key, &text, None);
    }

    /// The host says that it is there, with `blocks` of the network "web" as `N since T`.
    pub(crate) fn publish(&mut self, n: usize, rev: u64, blocks: &[(u32, u64)]) {
        let holding =
            |(block, since): &(u32, u64)| Holding { network: web().id, block: web().block(*block).v4, since: *since };
        let blocks = blocks.iter().map(holding).collect();
        let record = NodeRecord { name: format!("h{n}"), blocks, relay: true, ..NodeRecord::default() };
        self.write(n, &Key::Node(self.id(n)), rev, Body::Node(Box::new(record)));
        self.registry.put(&Key::Live(self.id(n)), "", None);
    }

    pub(crate) fn network(&mut self, n: usize, rev: u64, network: Option<Network>) {
        let key = Key::Network("web".parse().unwrap());
        self.write(n, &key, rev, Body::Network(NetworkRecord { network }));
    }

    pub(crate) fn evict(&mut self, by: usize, who: usize, rev: u64) {
        let name = format!("h{who}");
        self.write(by, &Key::Gone(self.id(who)), rev, Body::Gone(GoneRecord { name }));
    }
}

pub(crate) fn web() -> Network {
    let id = NetworkId(Uuid::from_u128(1));
    Network::new("web".parse().unwrap(), id, "10.210.0.0/16".parse().unwrap(), 24, 1).unwrap()
}

/// Who holds which block of "web".
fn holders(world: &World, now: Now) -> Vec<(u32, NodeId)> {
    let number = |block: &Block| (0..256).find(|n| web().block(*n) == *block).unwrap();
    world.holders(now).iter().map(|(block, (_, id))| (number(block), *id)).collect()
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.doubts.iter().map(|(_, doubt)| doubt.kind()).collect()
}

#[test]
fn what_is_lost_is_still_believed_and_what_is_old_is_not() {
    let mut hosts = Hosts::new(2);
    hosts.network(0, 10, Some(web()));
    hosts.publish(0, 10, &[(3, 9)]);
    let old = hosts.registry.clone();
    hosts.publish(0, 20, &[(4, 19)]);
    let mut world = World::default();
    assert!(world.absorb(&ring(), &hosts.registry.all(), 5000).changed);
    assert!(!world.absorb(&ring(), &hosts.registry.all(), 5000).changed, "nothing new");
    let after = vec![(4, hosts.id(0))];
    assert_eq!(holders(&world, NOW), after);
    let report = world.absorb(&ring(), &old.all(), 5000);
    assert_eq!((kinds(&report), report.changed), (vec!["old"], false), "from a snapshot");
    assert!(world.missing().contains(&Key::Node(hosts.id(0))));
    let report = world.absorb(&ring(), &[], 5000);
    assert_eq!((kinds(&report).len(), world.missing().len()), (0, 2), "empty");
    assert_eq!(holders(&world, NOW), after);
    let (records, alive) = world.to_remember();
    assert_eq!(holders(&World::remembered(&ring(), &records, alive), NOW), after, "after a restart");
}

#[test]
fn hosts_go_by_tombstone_leave_or_grace_only() {
    let mut hosts = Hosts::new(4);
    hosts.network(0, 10, Some(web()));
    (0..4).for_each(|n| hosts.publish(n, 10, &[(u32::try_from(n).unwrap(), 9)]));
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    hosts.evict(0, 1, 5_000_000);
    let left = NodeRecord { name: "h2".into(), left: true, ..NodeRecord::default() };
    hosts.write(2, &Key::Node(hosts.id(2)), 20, Body::Node(Box::new(left)));
    for n in [2, 3] {
        let key = Key::Live(hosts.id(n));
        hosts.registry.entries.remove(&key.path());
    }
    world.absorb(&ring(), &hosts.registry.all(), 5001);
    assert_eq!(holders(&world, Now { seconds: 5999, ..NOW }), [(0, hosts.id(0)), (3, hosts.id(3))]);
    assert_eq!(world.kept_back(NOW).into_iter().collect::<Vec<_>>(), [web().block(1)], "not to be given away yet");
    let later = Now { seconds: 6000, ..NOW };
    assert_eq!(holders(&world, later), [(0, hosts.id(0))], "away since 5000");
    // The evicted host comes back as it was, and says more; also the registry's memory of the tombstone is gone.
    hosts.registry.entries.remove(&Key::Gone(hosts.id(1)).path());
    hosts.publish(1, 6_000_000, &[(9, 5_999_000)]);
    let report = world.absorb(&ring(), &hosts.registry.all(), 5002);
    assert_eq!(kinds(&report), ["evicted"]);
    assert!(world.missing().contains(&Key::Gone(hosts.id(1))), "to be put back");
    assert!(world.members(NOW).all(|(id, _)| id != hosts.id(1)));
    // Forgotten only when the registry does not have it any more.
    assert!(!world.forget(later));
    hosts.registry.entries.remove(&Key::Node(hosts.id(3)).path());
    world.absorb(&ring(), &hosts.registry.all(), 6000);
    assert!(world.forget(later) && world.node(hosts.id(3)).is_none());
}

#[test]
fn a_block_has_the_holder_who_said_so_first() {
    let mut hosts = Hosts::new(3);
    hosts.network(0, 1, Some(web()));
    hosts.publish(0, 10, &[(3, 9)]);
    hosts.publish(1, 30, &[(3, 20), (4, 20)]);
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert_eq!(holders(&world, NOW), [(3, hosts.id(0)), (4, hosts.id(1))]);
    assert_eq!(world.double_claims(NOW), 1);
    // One that was here before cannot say that it had it all the time.
    hosts.publish(1, 40, &[(3, 5), (4, 20)]);
    let report = world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert_eq!(kinds(&report), ["backdated"]);
    assert_eq!(holders(&world, NOW), [(3, hosts.id(0)), (4, hosts.id(1))]);
    // The same time: the lower id.
    hosts.publish(2, 50, &[(7, 45)]);
    hosts.publish(1, 50, &[(4, 20), (7, 45)]);
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert_eq!(holders(&world, NOW)[2], (7, hosts.id(1)));
}

#[test]
fn addresses_outside_of_a_network_or_of_one_for_others_are_nobody_s() {
    let mut hosts = Hosts::new(2);
    hosts.network(0, 1, Some(Network { hosts: crate::network::Hosts::List(["h0".into()].into()), ..web() }));
    hosts.publish(1, 10, &[(3, 9)]);
    let stray = Holding { network: web().id, block: "10.99.0.0/24".parse().unwrap(), since: 9 };
    let record = NodeRecord { name: "h0".into(), blocks: vec![stray], ..NodeRecord::default() };
    hosts.write(0, &Key::Node(hosts.id(0)), 10, Body::Node(Box::new(record)));
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert_eq!(holders(&world, NOW), []);
    // The network goes, and comes back under another id.
    hosts.network(0, 20, None);
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert!(world.networks().is_empty());
}

#[test]
fn networks_never_overlap() {
    let mut hosts = Hosts::new(1);
    let other = |name: &str, id, subnet: &str, since| {
        let id = NetworkId(Uuid::from_u128(id));
        Network::new(name.parse().unwrap(), id, subnet.parse().unwrap(), 24, since).unwrap()
    };
    for network in [other("b", 2, "10.0.0.0/8", 2), other("a", 3, "10.1.0.0/16", 1), other("c", 4, "11.0.0.0/16", 3)] {
        let key = Key::Network(network.name.clone());
        hosts.write(0, &key, 1, Body::Network(NetworkRecord { network: Some(network) }));
    }
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    let names: Vec<_> = world.networks().iter().map(|network| network.name.to_string()).collect();
    assert_eq!(names, ["a", "c"], "the older one stays");
    let left: Vec<_> = world.left_out().iter().map(|(left, by)| format!("{} by {}", left.name, by.name)).collect();
    assert_eq!(left, ["b by a"]);
    assert_eq!(["a", "b", "d"].map(|name| world.has_network(&name.parse().unwrap())), [true, true, false]);
}

#[test]
fn what_was_verified_once_is_not_verified_again() {
    let mut hosts = Hosts::new(3);
    hosts.network(0, 10, Some(web()));
    (0..3).for_each(|n| hosts.publish(n, 10, &[(u32::try_from(n).unwrap(), 9)]));
    let mut world = World::default();
    let mut read = |entries: &[Entry]| {
        let before = (crate::record::verified(), world.changes());
        world.absorb(&ring(), entries, 5000);
        let after = world.changes();
        (crate::record::verified() - before.0, after.all - before.1.all, after.shared - before.1.shared)
    };
    assert_eq!(read(&hosts.registry.all()), (4, 4, 1));
    for _ in 0..100 {
        assert_eq!(read(&hosts.registry.all()), (0, 0, 0));
    }
    hosts.publish(1, 20, &[(7, 15)]);
    assert_eq!(read(&hosts.registry.all()), (1, 1, 0), "of many the one that is new");
    hosts.evict(0, 2, 5_000_000);
    assert_eq!(read(&hosts.registry.all()), (1, 1, 1), "what must not be lost is told apart");
}

#[test]
fn what_is_said_of_a_host_is_found_by_it() {
    let mut hosts = Hosts::new(3);
    let ids: Vec<_> = (0..3).map(|n| hosts.id(n)).collect();
    (0..3).for_each(|n| hosts.publish(n, 10, &[]));
    let address = "192.0.2.7:4000".parse().unwrap();
    for (of, by) in [(1, 0), (1, 2), (2, 0)] {
        hosts.write(by, &Key::Seen(ids[of], ids[by]), 1, Body::Seen(SeenRecord { address }));
    }
    hosts.write(0, &Key::Links(ids[0]), 1, Body::Links(LinksRecord { not_to: vec![ids[2]] }));
    let mut world = World::default();
    world.absorb(&ring(), &hosts.registry.all(), 5000);
    assert_eq!(world.seen(ids[1]).collect::<Vec<_>>(), [(ids[0], address), (ids[2], address)]);
    assert_eq!(world.seen(ids[0]).count(), 0);
    assert_eq!(world.cut_off().collect::<Vec<_>>(), [(ids[0], &ids[2..])]);
    assert_eq!(world.nodes().map(|(id, _)| id).collect::<Vec<_>>(), ids);
    assert!(world.is_member(ids[0], NOW) && !world.is_member(NodeId::MAX, NOW));
}
