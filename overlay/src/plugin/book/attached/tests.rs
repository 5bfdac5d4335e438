use serde_json::json;

use super::*;
use crate::{
    plugin::book::tests::{Host, NET},
    state::Held,
};

fn container(id: &str) -> Holder {
    Holder::Container { id: id.repeat(64), name: id.into(), number: 0 }
}

fn place(text: &str) -> Place {
    match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(ip), _) => Place::Address(ip, None),
        (_, Ok(net)) => Place::Address(net.addr(), Some(net.prefix_len())),
        _ if text.is_empty() => Place::Only,
        _ => Place::Network(text.parse().unwrap()),
    }
}

impl Host {
    fn change<T>(&mut self, change: impl Fn(&mut Book, World<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut next = self.book.clone();
        let done = change(&mut next, World { held: &self.held, busy: &self.busy, random: 0 })?;
        // As after a restart, each time.
        self.book = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        assert_eq!(self.book, next);
        Ok(done)
    }

    fn note(&mut self, change: impl Fn(&mut Book)) {
        let noted = self.change(|book, _| {
            change(book);
            Ok(())
        });
        noted.unwrap();
    }

    fn attach(&mut self, holder: &Holder, at: &str) -> Result<Attachment, Refusal> {
        let asked = Asked { holder: holder.clone(), place: place(at), gateway: None, mac: None };
        self.change(|book, world| book.attach(world, &asked))
    }

    /// The first address that is given, or the refusal.
    fn first(&mut self, holder: &Holder, at: &str) -> String {
        self.attach(holder, at).map_or_else(|why| why.to_string(), |made| made.addresses[0].to_string())
    }
}

#[test]
fn what_is_attached_shares_a_block_with_docker_and_both_families() {
    let mut host = Host::new(&[("app", "10.1.0.0/16", &[7])]);
    let made = host.attach(&container("a"), "").unwrap();
    let texts: Vec<_> = made.addresses.iter().map(ToString::to_string).collect();
    // Docker gives the first half by itself; the first and the last of a range are given last.
    assert_eq!(texts[0], "10.1.7.129/24");
    assert!(texts[1].ends_with("/64") && texts[1].starts_with("fd"), "{texts:?}");
    assert_eq!(host.attach(&container("a"), "app").unwrap(), made, "once more is the same");
    assert_eq!(host.first(&container("b"), "10.1.0.0/16"), "10.1.7.130/24");
    assert_eq!(host.first(&container("a"), "10.1.7.200/24"), "10.1.7.200/24");
    let numbers = host.book.attached.iter().map(|there| match there.holder {
        Holder::Container { number, .. } => number,
        Holder::Host => 255,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn what_cannot_be_is_refused_with_words() {
    let mut host = Host::new(&[("app", "10.1.0.0/16", &[7]), ("new", "10.2.0.0/16", &[])]);
    host.attach(&container("a"), "10.1.7.200").unwrap();
    let before = host.book.clone();
    for (at, words) in [
        ("", "several networks; say which: app, new"),
        ("nosuch", "no network nosuch"),
        ("10.1.7.200", "in use"),
        ("10.1.7.9", "Docker gives it itself; what is attached has 10.1.7.128/25"),
        ("10.1.8.200", "block of another host"),
        ("10.1.7.201/17", "is not how the network app (10.1.0.0/16) is split"),
        ("10.9.0.1", "no network of the overlay has 10.9.0.1"),
    ] {
        let refused = host.first(&container("b"), at);
        assert!(refused.contains(words), "{at}: {refused}");
    }
    assert!(matches!(host.attach(&container("b"), "new"), Err(Refusal::NotYet(_))), "its block may be on its way");
    assert_eq!(host.book, before);
}

/// A network of the driver's, with its addresses by ours or by Docker's own driver.
fn driven(ours: bool) -> Host {
    let mut host = Host::new(&[("app", "10.1.0.0/16", &[7])]);
    if ours {
        host.pool("10.1.0.0/16", "");
        host.gateway("10.1.0.0/16", "");
    }
    host.network(NET, "10.1.0.0/16", "10.1.7.1/16", json!({})).unwrap();
    host
}

#[test]
fn a_network_of_the_driver_has_one_allocator() {
    let mut host = driven(true);
    assert_eq!(host.address("10.1.0.0/16", ""), "10.1.7.2/16");
    assert_eq!(host.first(&container("a"), "app"), "10.1.7.3/24");
    assert_eq!(host.address("10.1.0.0/16", ""), "10.1.7.4/16");
    assert!(host.first(&container("b"), "10.1.7.4").contains("in use"));
    assert!(host.address("10.1.0.0/16", "10.1.7.3").contains("in use"));
    assert!(host.change(|book, _| book.release("10.1.7.1".parse().unwrap())).is_err(), "the gateway's");
    assert!(host.change(|book, _| book.release("10.1.7.4".parse().unwrap())).unwrap());
    assert!(!host.change(|book, _| book.release("10.1.7.4".parse().unwrap())).unwrap());
    // Docker gives the network back; the link keeps its address.
    host.call("IpamDriver.ReleasePool", json!({ "PoolID": "flotilla/10.1.0.0/16" }));
    host.call("NetworkDriver.DeleteNetwork", json!({ "NetworkID": NET }));
    assert!(host.first(&container("b"), "10.1.7.3").contains("Docker gives it itself"));
    let attached = host.book.attached[0].clone();
    host.note(|book| book.detach(&attached));
    assert_eq!(host.book.attached, []);
}

#[test]
fn what_the_host_has_in_its_blocks_is_not_given_and_ipv6_where_the_network_has_it() {
    let mut host = Host::new(&[("app", "10.1.0.0/16", &[7, 9])]);
    let v6 = host.held.networks[0].network.subnet6.to_string();
    let pool = |pool: &str| json!([{ "AddressSpace": "x", "Pool": pool }]);
    for subnet in ["10.1.0.0/16", &*v6] {
        host.pool(subnet, "");
        host.gateway(subnet, "");
    }
    let asked = json!({ "NetworkID": NET, "Options": {}, "IPv4Data": pool("10.1.0.0/16"), "IPv6Data": pool(&v6) });
    host.call("NetworkDriver.CreateNetwork", asked);
    for gateway in ["10.1.7.1", "10.1.9.1"] {
        assert!(host.first(&container("a"), gateway).contains("in use"), "{gateway}");
    }
    let made = host.attach(&container("a"), "10.1.9.2").unwrap();
    let texts: Vec<_> = made.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], "10.1.9.2/24");
    assert!(texts[1].ends_with(":7::2/64"), "{texts:?}");
    assert_eq!(host.address("10.1.0.0/16", "10.1.9.3"), "10.1.9.3/16");
}

#[test]
fn what_docker_gives_by_itself_is_not_given_twice() {
    let mut host = driven(false);
    host.endpoint("ee00000000001", "10.1.7.129/16");
    assert_eq!(host.first(&container("a"), "app"), "10.1.7.130/24");
    assert!(host.endpoint("ee00000000002", "10.1.7.130/16").contains("overlay ps"));
}

#[test]
fn whoever_has_ended_has_the_same_again_if_nobody_took_it() {
    let mut host = Host::new(&[("app", "10.1.0.0/16", &[7])]);
    for (at, taken, wanted) in [
        ("app", false, "10.1.7.129/24"),
        ("app", true, "other"),
        ("10.1.7.200", false, "10.1.7.200/24"),
        ("10.1.7.200", true, "in use"),
    ] {
        let made = host.attach(&container("a"), at).unwrap();
        let first = made.addresses[0].addr().to_string();
        host.note(|book| book.let_go(&made));
        let ended = host.book.attached[0].clone();
        let other = taken.then(|| host.attach(&container("b"), &first).unwrap());
        let again = host.change(|book, world| book.resume(world, &ended));
        let again = again.map_or_else(|why| why.to_string(), |there| there.addresses[0].to_string());
        let fits = if wanted == "other" { !again.contains(&first) } else { again.contains(wanted) };
        assert!(fits, "{at} {taken}: {again}");
        let all = host.book.attached.clone();
        for there in all {
            host.note(|book| book.detach(&there));
        }
        let kept = host.book.pools.values().map(|pool| pool.addresses.taken().len()).sum::<usize>();
        assert_eq!(kept, 0, "{at} {taken}: all is given back, of {other:?}");
        host.book.pools.clear();
    }
}

#[test]
fn the_bridge_has_this_hosts_addresses() {
    for (mut host, drivers) in [(driven(true), true), (Host::new(&[("app", "10.1.0.0/16", &[7, 9])]), false)] {
        let made = host.first(&Holder::Host, "10.1.7.200");
        assert_eq!(made, "10.1.7.200/24");
        let held: Held = host.held.clone();
        let world = World { held: &host.held, busy: &host.busy, random: 0 };
        let (bridge, driven) = host.book.bridge_to(world, &held.networks[0]).unwrap();
        assert_eq!(driven, drivers);
        assert!(bridge.addresses.contains(&"10.1.7.200/32".parse().unwrap()), "{bridge:?}");
        assert!(
            bridge.routes.contains(&if drivers { "10.1.7.0/24" } else { "10.1.9.0/24" }.parse().unwrap()),
            "{bridge:?}"
        );
    }
}
