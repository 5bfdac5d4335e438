//! Old programs keep talking to old ones, new ones to new.

use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use super::*;
use crate::{
    dns::Replies,
    names::{Key, ServiceKey},
    version::{Callers, release_key},
};

/// Two versions of `web` and of `api` on this host, a client without a version, and a host elsewhere.
const ROWS: &str = "node here 10.0.0.1, node there 10.0.0.2, \
    web 172.17.0.2:80 passing @here version=v1, web 172.17.0.3:80 passing @here version=v2, \
    api 172.17.0.4:80 passing @here version=v1, api 172.17.0.5:80 passing @here version=v2, \
    job 172.17.0.6:80 passing @here, \
    web 172.17.0.6:80 passing @there version=v1, web 10.40.0.9:80 passing @there version=v2, \
    plain 172.17.0.7:80 passing @here, plain 172.17.0.8:80 passing @here";

fn zone() -> Zone {
    let callers = Callers { here: NodeKey::new("here").ok(), routable: vec!["10.40.0.0/16".parse().unwrap()] };
    let trusted_resolvers = vec!["127.0.0.53/32".parse().unwrap()];
    let service_ttl = crate::dns::ServiceTtls([("*".to_owned(), std::time::Duration::from_secs(9))].into());
    Zone::new(DnsConfig { callers: Some(callers), trusted_resolvers, service_ttl, ..config() }).unwrap()
}

fn release(state: &mut State, service: &str, version: &str) {
    let key: Key = release_key(&ServiceKey::new(service).unwrap());
    let value = version.to_owned().into_bytes().into();
    let command = Command::KvPut { key, value, flags: 0, cas: None, ttl: std::time::Duration::ZERO };
    apply(state, &command);
}

/// What `from` gets: the last numbers of the addresses.
fn seen(state: &State, from: &str, text: &str) -> String {
    seen_by(&mut Replies::new(1 << 20), state, from, &question(text))
}

fn seen_by(replies: &mut Replies, state: &State, from: &str, message: &Message) -> String {
    let (packet, mut out) = (message.to_vec().unwrap(), Vec::new());
    let asked = Asked { from: from.parse().unwrap(), ..asked(Transport::Udp) };
    let mut once = || {
        replies.respond(&packet, &asked, state, &zone(), &mut out);
        let reply = Message::from_vec(&out).unwrap();
        sorted(&reply.answers, |r| r.data.to_string().rsplit('.').next().unwrap().to_owned())
    };
    let first = once();
    assert_eq!(once(), first, "the same again");
    first
}

const API: &str = "api.service.consul. A";

#[test]
fn a_caller_gets_instances_of_its_own_version() {
    let mut state = catalog(ROWS);
    for (from, want) in [
        ("172.17.0.2", "4"),
        ("172.17.0.3", "5"),
        ("::ffff:172.17.0.3", "5"),
        // Known, without a version.
        ("172.17.0.7", "4, 5"),
        // On this host without one; on another host it is somebody else.
        ("172.17.0.6", "4, 5"),
        // On another host, by an address that is routed.
        ("10.40.0.9", "5"),
        // Nobody.
        ("192.0.2.1", "4, 5"),
        ("10.0.0.1", "4, 5"),
    ] {
        assert_eq!(seen(&state, from, API), want, "{from}");
    }
    assert_eq!(seen(&state, "172.17.0.2", "plain.service.consul. A"), "7, 8", "a service without versions");

    release(&mut state, "api", "v2\n");
    assert_eq!(seen(&state, "172.17.0.2", API), "4", "an old caller still gets old ones");
    assert_eq!(seen(&state, "192.0.2.1", API), "5", "others get the live version");
    release(&mut state, "api", "v3");
    assert_eq!(seen(&state, "192.0.2.1", API), "4, 5", "a live version without an instance is none");
    let command = register("api 172.17.0.4:80 critical @here version=v1", 5, &state);
    apply(&mut state, &command);
    release(&mut state, "api", "v2");
    assert_eq!(seen(&state, "172.17.0.2", API), "5", "better a new one than none");
}

#[test]
fn an_address_of_several_versions_is_nobodys() {
    let mut state = catalog(ROWS);
    let command = register("web 172.17.0.2:81 passing @here version=v2", 20, &state);
    apply(&mut state, &command);
    assert_eq!(seen(&state, "172.17.0.2", "api.service.consul. A"), "4, 5");
}

#[test]
fn a_container_is_known_by_its_networks_and_not_by_its_published_port() {
    let mut state = catalog(
        "node here 10.0.0.1, api 172.17.0.4:80 passing @here version=v1, api 172.17.0.5:80 passing @here version=v2",
    );
    let mut instance = json!({"id": "web", "service": "web", "port": 32768, "address": "10.0.0.1"});
    instance["meta"]["version"] = json!("v1");
    instance["tagged_addresses"] = json!({"net.app": {"address": "172.20.0.9", "port": 80}});
    let node = serde_json::to_value(&state.node(&NodeKey::new("here").unwrap()).unwrap().value).unwrap();
    apply(&mut state, &command(node, Some(instance), None));
    assert_eq!(seen(&state, "172.20.0.9", "api.service.consul. A"), "4");
    assert_eq!(seen(&state, "10.0.0.1", "api.service.consul. A"), "4, 5", "anything on the host has that address");
}

fn tell(state: &mut State, key: &str, version: &str) {
    let (key, value) = (Key::new(key).unwrap(), version.to_owned().into_bytes().into());
    apply(state, &Command::KvPut { key, value, flags: 0, cas: None, ttl: std::time::Duration::ZERO });
}

#[test]
fn a_container_without_an_instance_is_known_by_a_key() {
    let mut state = catalog(ROWS);
    for (key, version) in [
        ("callers/Here/172.17.0.9/job", "v1\n"),
        ("callers/there/172.17.0.9/job", "v2"),
        ("callers/there/10.40.0.7/job", "v2"),
        ("callers/here/fd00::9/job", "v2"),
        ("callers/here/172.17.0.10/job", "v1"),
        ("callers/here/172.17.0.10/other", "v2"),
        // It says what the instance says, and the opposite.
        ("callers/here/172.17.0.2/web", "v1"),
        ("callers/here/172.17.0.3/web", "v1"),
        ("callers/here/172.17.0.11", "v1"),
        ("callers/here/somewhere/job", "v1"),
        ("callers/here/172.17.0.12/job", ""),
    ] {
        tell(&mut state, key, version);
    }
    for (from, want) in [
        ("172.17.0.9", "4"),
        ("10.40.0.7", "5"),
        ("fd00::9", "5"),
        ("172.17.0.10", "4, 5"),
        ("172.17.0.2", "4"),
        ("172.17.0.3", "4, 5"),
        ("172.17.0.11", "4, 5"),
        ("172.17.0.12", "4, 5"),
    ] {
        assert_eq!(seen(&state, from, API), want, "{from}");
    }
    let mut replies = Replies::new(1 << 20);
    assert_eq!(seen_by(&mut replies, &state, "172.17.0.9", &question(API)), "4");
    tell(&mut state, "callers/Here/172.17.0.9/job", "v2");
    assert_eq!(seen_by(&mut replies, &state, "172.17.0.9", &question(API)), "5", "at once");
    let key = Key::new("callers/Here/172.17.0.9/job").unwrap();
    apply(&mut state, &Command::KvDelete { key, cas: None });
    assert_eq!(seen_by(&mut replies, &state, "172.17.0.9", &question(API)), "4, 5", "gone");
}

/// A registry that all hosts share: who asks it through its host's resolver is looked for on that host.
#[test]
fn a_resolver_asks_for_containers_of_its_own_host() {
    let mut state = catalog(
        "node here 10.0.0.1, node beside 10.0.0.1, node a 10.0.0.2, node b 10.0.0.3, \
         api 172.17.0.4:80 passing @a version=v1, api 172.17.0.5:80 passing @b version=v2",
    );
    tell(&mut state, "callers/a/172.17.0.2/web", "v1");
    tell(&mut state, "callers/b/172.17.0.2/web", "v2");
    tell(&mut state, "callers/beside/172.17.0.3/web", "v2");
    let trusted_resolvers = vec!["10.0.0.0/24".parse().unwrap(), "127.0.0.1/32".parse().unwrap()];
    let callers = Callers { here: NodeKey::new("here").ok(), routable: Vec::new() };
    let zone = Zone::new(DnsConfig { callers: Some(callers), trusted_resolvers, ..config() }).unwrap();
    for (resolver, subnet, want) in [
        ("10.0.0.2", "172.17.0.2/32", "4"),
        ("10.0.0.3", "172.17.0.2/32", "5"),
        ("::ffff:10.0.0.3", "172.17.0.2/32", "5"),
        // No host has this address, or it is our own: then it is one of ours.
        ("10.0.0.9", "172.17.0.2/32", "4, 5"),
        ("10.0.0.9", "172.17.0.3/32", "5"),
        ("10.0.0.1", "172.17.0.3/32", "5"),
        ("127.0.0.1", "172.17.0.3/32", "5"),
    ] {
        let packet = on_behalf(API, subnet).to_vec().unwrap();
        let mut out = Vec::new();
        let asked = Asked { from: resolver.parse().unwrap(), ..asked(Transport::Udp) };
        respond(&packet, &asked, &state, &zone, &mut out);
        let reply = Message::from_vec(&out).unwrap();
        let got = sorted(&reply.answers, |r| r.data.to_string().rsplit('.').next().unwrap().to_owned());
        assert_eq!(got, want, "{subnet} through {resolver}");
    }
}

/// The question of a resolver on behalf of `subnet`.
fn on_behalf(text: &str, subnet: &str) -> Message {
    let mut message = with_edns(question(text), 1232);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Subnet(subnet.parse().unwrap()));
    message
}

#[test]
fn only_trusted_resolvers_are_believed_and_only_about_one_host() {
    let state = catalog(ROWS);
    for (from, subnet, want) in [
        ("127.0.0.53", "172.17.0.2/32", "4"),
        ("127.0.0.53", "172.17.0.2/24", "4, 5"),
        ("127.0.0.54", "172.17.0.2/32", "4, 5"),
        ("172.17.0.3", "172.17.0.2/32", "5"),
    ] {
        let message = on_behalf("api.service.consul. A", subnet);
        assert_eq!(seen_by(&mut Replies::new(1 << 20), &state, from, &message), want, "{subnet} from {from}");
    }
    let packet = on_behalf("api.service.consul. A", "172.17.0.2/32").to_vec().unwrap();
    let mut out = Vec::new();
    let asked = Asked { from: "127.0.0.53".parse().unwrap(), ..asked(Transport::Udp) };
    respond(&packet, &asked, &state, &zone(), &mut out);
    let reply = Message::from_vec(&out).unwrap();
    assert_eq!(reply.answers[0].ttl, 0, "a cache must not give it to others");
    let Some(EdnsOption::Subnet(subnet)) = reply.edns.as_ref().unwrap().option(EdnsCode::Subnet) else { panic!() };
    assert_eq!(subnet.scope_prefix(), 32);
}

/// One socket's replies, asked by turns: nobody gets another's.
#[test]
fn replies_at_hand_are_kept_apart_by_version() {
    let (mut state, mut replies) = (catalog(ROWS), Replies::new(1 << 20));
    let message = question("api.service.consul. A");
    for _ in 0..3 {
        for (from, want) in [("172.17.0.2", "4"), ("172.17.0.3", "5"), ("192.0.2.1", "4, 5")] {
            assert_eq!(seen_by(&mut replies, &state, from, &message), want, "{from}");
        }
    }
    assert!(replies.take_hits() >= 15);
    release(&mut state, "api", "v1");
    assert_eq!(seen_by(&mut replies, &state, "192.0.2.1", &message), "4", "a release counts at once");
    let command = register("web 172.17.0.2:80 passing @here version=v2", 3, &state);
    apply(&mut state, &command);
    assert_eq!(seen_by(&mut replies, &state, "172.17.0.2", &message), "5", "and so does a caller's new version");
}
