//! Containers that name a version are known by their addresses when they ask, registered or not.

use flotilla_tests::fake_docker::id;
use serde_json::{Value, json};

use crate::host::{Host, eventually, eventually_equal};

const PREFIX: &str = "callers/";

/// Without any port, so that nothing of it is registered.
fn portless(version: &str, address: &str) -> Value {
    json!({"Config": {"Env": [format!("SERVICE_VERSION={version}")], "ExposedPorts": null},
        "NetworkSettings": {"Ports": null, "Networks": {"bridge": {"IPAddress": address}}}})
}

fn key(node: &str, address: &str, name: &str) -> String {
    format!("{PREFIX}{node}/{address}/{}", &id(name)[..12])
}

fn are(host: &Host, want: &[(String, &str)]) {
    let mut want: Vec<_> = want.iter().map(|(key, version)| (key.clone(), Some((*version).to_owned()))).collect();
    want.sort();
    eventually_equal("exactly these callers are told", || {
        let keys = host.registry.keys(PREFIX);
        (keys.into_iter().map(|key| (key.clone(), host.registry.key(&key))).collect(), want.clone())
    });
}

#[test]
fn a_container_without_ports_is_told_for_as_long_as_it_runs() {
    let host = Host::started();
    host.docker.run("plain", 1, &json!({}));
    host.docker.run("job", 2, &portless("v1", "172.17.0.3"));
    let both = json!({"Networks": {"back": {"IPAddress": "172.20.0.2", "GlobalIPv6Address": "fd00::2"}}});
    host.docker.run("web", 3, &json!({"Config": {"Env": ["SERVICE_VERSION=v2"]}, "NetworkSettings": both}));
    let web = ["172.17.0.2", "172.20.0.2", "fd00::2"].map(|address| (key("agent-node", address, "web"), "v2"));
    let with_web = |job| [&[(job, "v1")][..], &web].concat();
    are(&host, &with_web(key("agent-node", "172.17.0.3", "job")));
    assert_eq!(host.registry.ids().len(), 2, "the job is in no catalog");
    host.stays_quiet();

    host.docker.patch("job", &portless("v1", "172.17.0.9"));
    host.docker.event("job", "rename", &json!({}));
    are(&host, &with_web(key("agent-node", "172.17.0.9", "job")));
    host.docker.die("job");
    are(&host, &web);
    host.docker.remove("web");
    are(&host, &[]);
}

#[test]
fn who_shares_a_network_has_its_addresses() {
    let host = Host::started();
    host.docker.run("home", 1, &json!({}));
    let mut guest = portless("v3", "");
    guest["HostConfig"]["NetworkMode"] = json!(format!("container:{}", id("home")));
    guest["NetworkSettings"]["Networks"] = json!(null);
    host.docker.run("guest", 2, &guest);
    are(&host, &[(key("agent-node", "172.17.0.2", "guest"), "v3")]);
}

#[test]
fn only_our_own_keys_are_changed() {
    let mut host = Host::new();
    let by_hand = key("agent-node", "172.17.0.3", "job");
    host.registry.put_key(&by_hand, "mine");
    host.registry.put_key("callers/elsewhere/172.17.0.3/job", "theirs");
    host.start(|s| s.resync = Some("100ms".into()));
    host.docker.run("job", 1, &portless("v1", "172.17.0.3"));
    host.docker.run("other", 2, &portless("v2", "172.17.0.4"));
    let ours = (key("agent-node", "172.17.0.4", "other"), "v2");
    let theirs = ("callers/elsewhere/172.17.0.3/job".to_owned(), "theirs");
    are(&host, &[(by_hand.clone(), "mine"), theirs.clone(), ours.clone()]);
    host.docker.remove("job");
    host.registry.put_key(&ours.0, "");
    // Flags are 0 now: a person has taken it over.
    are(&host, &[(by_hand.clone(), "mine"), theirs.clone(), (ours.0, "")]);
}

#[test]
fn what_is_lost_is_told_again_and_what_is_over_is_removed() {
    let mut host = Host::started();
    host.docker.run("job", 1, &portless("v1", "172.17.0.3"));
    let job = (key("agent-node", "172.17.0.3", "job"), "v1");
    are(&host, std::slice::from_ref(&job));
    host.registry.stop();
    host.registry.forget();
    host.registry.start_again();
    are(&host, std::slice::from_ref(&job));
    host.crash();
    host.docker.remove("job");
    host.docker.run("next", 2, &portless("v2", "172.17.0.3"));
    host.start(|_| ());
    are(&host, &[(key("agent-node", "172.17.0.3", "next"), "v2")]);
    host.stop();
    are(&host, &[(key("agent-node", "172.17.0.3", "next"), "v2")]);
}

#[test]
fn a_node_of_its_own_is_named_and_left_empty() {
    let mut host = Host::new();
    host.start(|s| (s.node, s.deregister_on_exit) = (Some("box".into()), true));
    host.docker.run("job", 1, &portless("v1", "172.17.0.3"));
    are(&host, &[(key("box", "172.17.0.3", "job"), "v1")]);
    host.stop();
    are(&host, &[]);
}

#[test]
fn a_refusal_is_repeated_until_it_ends() {
    let host = Host::started();
    host.registry.refuse_only(403, "kv/callers");
    host.docker.run("job", 1, &portless("v1", "172.17.0.3"));
    host.run("web", 2);
    assert!(host.registry.keys(PREFIX).is_empty());
    host.registry.refuse(None);
    eventually("it is told", || !host.registry.keys(PREFIX).is_empty());
}
