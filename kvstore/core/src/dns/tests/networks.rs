//! Names in networks of the overlay: each means something in its own network, and nothing in another.

use super::*;
use crate::{dns::Replies, names::Key};

/// `redis` is in two networks, twice in one of them; `down` is there and does not pass; `db` has both families.
const ROWS: &str = "node one 10.0.0.1, node two 10.0.0.2, \
    redis.dev.overlay 10.1.7.2:0 passing @one, redis.dev.overlay 10.1.8.2:0 passing @two, \
    redis.prod.overlay 10.2.7.2:0 passing @one, only.prod.overlay 10.2.7.3:0 passing @one, \
    down.dev.overlay 10.1.7.4:0 critical @one, db.dev.overlay 10.1.7.5:0 passing @one v6=fd00:1::5, \
    redis 10.0.0.9:6379 passing @two, stray.dev.overlay 10.2.7.9:0 passing @one, \
    redis.a.prod.overlay 10.2.7.8:0 passing @one";

fn state() -> State {
    let mut state = catalog(ROWS);
    for (name, number) in [("dev", 1), ("prod", 2), ("a.prod", 3)] {
        let network =
            json!({"name": name, "subnet": format!("10.{number}.0.0/16"), "subnet6": format!("fd00:{number}::/48")});
        let value = json!({"body": {"network": network}}).to_string().into_bytes().into();
        let key = Key::new(&format!("overlay/v1/nets/{name}")).unwrap();
        apply(&mut state, &Command::KvPut { key, value, flags: 0, cas: None, ttl: std::time::Duration::ZERO });
    }
    state
}

/// What `from` gets: a code, or the addresses; "forward" if others are asked. Twice, by the same memory of replies.
fn seen(state: &State, config: DnsConfig, from: &str, text: &str) -> String {
    let zone = Zone::new(config).unwrap();
    let mut replies = Replies::new(1 << 20);
    let mut ask = |from: &str| {
        let (packet, mut out) = (question(text).to_vec().unwrap(), Vec::new());
        let asked = Asked { from: from.parse().unwrap(), ..asked(Transport::Udp) };
        match replies.respond(&packet, &asked, state, &zone, &mut out) {
            Reaction::Reply => {
                let reply = Message::from_vec(&out).unwrap();
                match sorted(&reply.answers, |r| r.data.to_string()) {
                    none if none.is_empty() => format!("{:?}", reply.metadata.response_code),
                    found => found,
                }
            }
            Reaction::Forward(_) => "forward".into(),
            Reaction::Ignore => "ignored".into(),
        }
    };
    let first = ask(from);
    // Whatever others were told in between.
    for other in ["10.1.0.9", "10.2.0.9", "192.168.0.1"] {
        ask(other);
    }
    assert_eq!(ask(from), first, "{from} {text}");
    first
}

#[test]
fn who_asks_decides_in_which_network_a_name_is() {
    let state = state();
    for (from, text, want) in [
        ("10.1.0.9", "redis. A", "10.1.7.2, 10.1.8.2"),
        ("10.1.0.9", "REDIS. A", "10.1.7.2, 10.1.8.2"),
        ("::ffff:10.1.0.9", "redis. A", "10.1.7.2, 10.1.8.2"),
        ("fd00:1::9", "redis. A", "10.1.7.2, 10.1.8.2"),
        ("10.2.0.9", "redis. A", "10.2.7.2"),
        ("10.1.0.9", "redis.dev.overlay. A", "10.1.7.2, 10.1.8.2"),
        ("10.1.0.9", "Redis.Dev.Overlay. A", "10.1.7.2, 10.1.8.2"),
        ("10.1.0.9", "redis.prod.overlay. A", "NXDomain"),
        ("10.1.0.9", "only. A", "NXDomain"),
        ("10.1.0.9", "only.prod. A", "Refused"),
        ("10.2.0.9", "only. A", "10.2.7.3"),
        ("10.1.0.9", "redis. AAAA", "NoError"),
        ("10.1.0.9", "db. AAAA", "fd00:1::5"),
        ("10.1.0.9", "down. A", "NoError"),
        ("10.1.0.9", "nosuch. AAAA", "NXDomain"),
        ("10.1.0.9", "stray. A", "NoError"),
        // `redis.a` in `prod` is not `redis` in `a.prod`.
        ("10.3.0.9", "redis. A", "NoError"),
        ("10.2.0.9", "redis.a.prod.overlay. A", "10.2.7.8"),
        ("10.1.0.9", "overlay. A", "NXDomain"),
        ("10.1.0.9", "dev.overlay. A", "NXDomain"),
        // The service of that name is something else.
        ("10.1.0.9", "redis.service.consul. A", "10.0.0.9"),
        ("10.1.0.9", "redis.consul. A", "10.0.0.9"),
        ("10.1.0.9", "redis.prod.overlay.service.consul. A", "NXDomain"),
        ("10.1.0.9", "2.7.2.10.in-addr.arpa. PTR", "NXDomain"),
        // In no network.
        ("192.168.0.1", "redis. A", "Refused"),
        ("192.168.0.1", "redis.dev.overlay. A", "NXDomain"),
    ] {
        assert_eq!(seen(&state, config(), from, text), want, "{from} {text}");
    }
}

#[test]
fn of_other_names_others_are_asked_and_not_of_these() {
    let state = state();
    let recursing = || DnsConfig { recursion: vec![".".into()], ..config() };
    for (from, text, want) in [
        ("10.1.0.9", "redis. A", "10.1.7.2, 10.1.8.2"),
        ("10.1.0.9", "nosuch. A", "NXDomain"),
        ("10.1.0.9", "redis.prod.overlay. A", "NXDomain"),
        ("192.168.0.1", "redis.prod.overlay. A", "NXDomain"),
        ("10.1.0.9", "www.example. A", "forward"),
        // A resolver would take a no for one about all below.
        ("10.1.0.9", "com. DS", "forward"),
        ("10.1.0.9", ". NS", "forward"),
        ("192.168.0.1", "nosuch. A", "forward"),
    ] {
        assert_eq!(seen(&state, recursing(), from, text), want, "{from} {text}");
    }
    // Where there is no overlay all is as it was.
    let without = catalog(ROWS);
    assert_eq!(seen(&without, recursing(), "10.1.0.9", "redis. A"), "forward");
    assert_eq!(seen(&without, recursing(), "10.1.0.9", "redis.dev.overlay. A"), "forward");
}
