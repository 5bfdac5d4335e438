//! Looking after agents: members, maintenance, events, the log, distances, and what shells and manuals want.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

#[test]
fn members_are_listed_joined_and_left() {
    let agent = Agent::dev();
    let listed = agent.ok(&["members"]);
    let (head, one) = listed.split_once('\n').unwrap();
    let columns: Vec<_> = head.split_whitespace().collect();
    assert_eq!(columns, ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]);
    let cells: Vec<_> = one.split_whitespace().collect();
    assert_eq!((cells[0], cells[2], cells[3], cells[6]), ("n1", "alive", "server", "dc1"));
    assert!(agent.ok(&["members", "-detailed"]).contains("role=consul"));
    assert!(agent.ok(&["members", "-wan"]).contains("n1.dc1 "));
    assert_eq!(json(&agent.ok(&["members", "-format=json"]))[0]["Status"], 1);
    assert!(agent.ok(&["members", "-status=ali.*"]).contains("n1 "));
    refused(&agent.run(&["members", "-status", "failed"]), 2, &["no member matches"]);
    refused(&agent.run(&["members", "-status", "("]), 2, &["no regular expression"]);

    let peers = agent.ok(&["operator", "raft", "list-peers"]);
    assert!(peers.contains("leader") && peers.contains("true"), "{peers}");

    assert_eq!(agent.ok(&["join", "127.0.0.1", "n1"]), "Successfully joined cluster by contacting 2 nodes.\n");
    refused(&agent.run(&["join", "10.255.0.1"]), 1, &["10.255.0.1", "no member"]);
    refused(&agent.run(&["force-leave", "nobody"]), 1, &["nobody"]);
    refused(&agent.run(&["force-leave", "-prune", "n1"]), 1, &["n1 was not taken out", "alive"]);

    assert_eq!(agent.ok(&["leave"]), "Graceful leave complete\n");
    let mut agent = agent;
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
    refused(&agent.run(&["members"]), 1, &["cannot talk to the registry"]);
}

#[test]
fn maintenance_is_switched_and_shown_with_its_reason() {
    let agent = Agent::dev();
    agent.ok(&["services", "register", "-name=web", "-port=80"]);
    assert_eq!(agent.ok(&["maint"]), "");
    assert_eq!(agent.ok(&["maint", "-enable", "-reason=new kernel"]), "Node maintenance is now enabled\n");
    let web = ["maint", "-enable", "-service=web", "-reason", "it leaks"];
    assert_eq!(agent.ok(&web), "Service maintenance is now enabled for \"web\"\n");
    let expected = "Node:\n  Name:   n1\n  Reason: new kernel\n\nService:\n  ID:     web\n  Reason: it leaks\n";
    assert_eq!(agent.ok(&["maint"]), expected);
    assert_eq!(json(&agent.ok(&["maint", "-format", "json"]))["_node_maintenance"]["Notes"], "new kernel");
    assert_eq!(agent.ok(&["maint", "-disable", "-service=web"]), "Service maintenance is now disabled for \"web\"\n");
    assert_eq!(agent.ok(&["maint", "-disable"]), "Node maintenance is now disabled\n");
    assert_eq!(agent.ok(&["maint"]), "");
    refused(&agent.run(&["maint", "-enable", "-service=nope"]), 1, &["404", "nope"]);
    refused(&agent.run(&["maint", "-service=web"]), 2, &["--enable or --disable"]);
    refused(&agent.run(&["maint", "-enable", "-disable"]), 2, &["cannot be used with"]);
}

#[test]
fn events_are_fired_and_listed() {
    let agent = Agent::dev();
    let said = agent.ok(&["event", "-name=deploy", "v2"]);
    let id = said.strip_prefix("Event ID: ").unwrap().trim();
    agent.ok(&["event", "-name", "other"]);
    let listed = agent.ok(&["event", "-list", "-name=deploy"]);
    assert!(listed.contains(id) && listed.contains("v2") && !listed.contains("other"), "{listed}");
    let all = json(&agent.ok(&["event", "-list", "-format=json"]));
    assert_eq!((&all[0]["Payload"], &all[1]["Name"]), (&"djI=".into(), &"other".into()));
    refused(&agent.run(&["event", "payload"]), 2, &["--name"]);
    refused(&agent.run(&["event", "-name=x", "-tag=blue"]), 1, &["tag filter without service filter"]);
    refused(&agent.run(&["event", "-name=x", "@/no/such/file"]), 1, &["/no/such/file"]);
}

#[test]
fn the_log_is_printed_as_it_is_written() {
    let agent = Agent::dev();
    let mut monitor =
        agent.command(&["monitor", "-log-level=debug", "-log-json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    agent.ok(&["kv", "put", "seen", "x"]);
    let found = std::iter::once(Ok(first)).chain(&mut lines).map(Result::unwrap).find(|l| l.contains("/v1/kv/seen"));
    assert_eq!(json(&found.unwrap())["@level"], "debug");
    agent.ok(&["leave"]);
    let rest = lines.map(Result::unwrap).collect::<String>();
    assert!(rest.contains("told this agent to leave"), "{rest}");
    assert_eq!(monitor.wait().unwrap().code(), Some(0), "the agent has ended in order");
    let agent = Agent::dev();
    refused(&agent.run(&["monitor", "-log-level=loud"]), 1, &["400", "Unknown log level: loud"]);
}

#[test]
fn a_reload_says_what_is_wrong_with_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    fs::write(&file, "log_level: info").unwrap();
    let agent = Agent::on(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    assert_eq!(agent.ok(&["reload"]), "Configuration reload triggered\n");
    fs::write(&file, "no_such_key: 1").unwrap();
    refused(&agent.run(&["reload"]), 1, &["agent.yaml:1", "no_such_key"]);
}

#[test]
fn distances_come_from_coordinates() {
    let agent = Agent::dev();
    refused(&agent.run(&["rtt", "n1"]), 1, &["no coordinate of \"n1\""]);
    let far = r#"{"Node":"far","Address":"10.0.0.9"}"#;
    agent.put("/v1/catalog/register", far);
    let at = |node: &str, x: f64| {
        let body = serde_json::json!({"Node": node, "Coord": {"Vec": [x, 0, 0, 0, 0, 0, 0, 0], "Height": 0.001}});
        agent.put("/v1/coordinate/update", &body.to_string());
    };
    at("n1", 0.0);
    at("far", 0.010);
    assert_eq!(agent.ok(&["rtt", "far"]), "Estimated far <-> n1 rtt: 12.000 ms (using LAN coordinates)\n");
    assert_eq!(agent.ok(&["rtt", "n1", "FAR"]), "Estimated n1 <-> FAR rtt: 12.000 ms (using LAN coordinates)\n");
    refused(&agent.run(&["rtt", "far", "nobody"]), 1, &["\"nobody\""]);
}

#[test]
fn the_catalog_is_narrowed_and_shown_as_json() {
    let agent = Agent::dev();
    agent.put(
        "/v1/catalog/register",
        r#"{"Node":"b","Address":"10.0.0.2","NodeMeta":{"rack":"r2"},"Service":{"Service":"web","Tags":["v1"]}}"#,
    );
    assert_eq!(agent.ok(&["catalog", "datacenters"]), "dc1\n");
    let nodes = agent.ok(&["catalog", "nodes", "-node-meta=rack=r2"]);
    assert!(nodes.contains("10.0.0.2") && !nodes.contains("n1 "), "{nodes}");
    assert_eq!(json(&agent.ok(&["catalog", "nodes", "-filter", "Meta.rack == r2", "-format=json"]))[0]["Node"], "b");
    assert_eq!(agent.ok(&["catalog", "services", "-node-meta", "rack:r2"]), "web\n");
    assert_eq!(
        json(&agent.ok(&["catalog", "services", "-node=b", "-format=json"])),
        serde_json::json!({"web": ["v1"]})
    );
    assert_eq!(json(&agent.ok(&["info", "-format=json"]))["Config"]["NodeName"], "n1");
    refused(&agent.run(&["catalog", "nodes", "-filter=Bogus == 1"]), 1, &["Bogus"]);
    refused(&agent.run(&["catalog", "nodes", "-datacenter=dc9"]), 1, &["No path to datacenter"]);
    agent.ok(&["kv", "put", "a/b", "x"]);
    assert_eq!(json(&agent.ok(&["kv", "get", "-format=json", "a/b"]))["Value"], "eA==");
    assert_eq!(json(&agent.ok(&["kv", "get", "-keys", "-format=json"])), serde_json::json!(["a/"]));
    assert_eq!(json(&agent.ok(&["kv", "get", "-recurse", "-format=json", "a"]))[0]["Key"], "a/b");
}

#[test]
fn shells_and_manuals_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("force-leave"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completions");
    fs::write(&script, run(&["completions", "bash"]).stdout).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    refused(&run(&["completions", "cmd.com"]), 2, &["cmd.com"]);

    let pages = dir.path().join("man1");
    assert!(run(&["man", pages.to_str().unwrap()]).status.success());
    let page = fs::read_to_string(pages.join("kvstore-kv-get.1")).unwrap();
    assert!(page.contains(".TH kvstore-kv-get") && page.contains("kvstore kv get config/colour"), "{page}");
    assert!(pages.join("kvstore.1").exists());
    refused(&run(&["man", "/proc/nowhere"]), 1, &["/proc/nowhere"]);
}

/// Name and password, the datacenter and so on reach the registry.
#[test]
fn what_stands_before_the_registry_gets_its_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = heads_of(listener, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]");
    let mut command = kvstore(&["catalog", "nodes", "-datacenter=dc2", "-stale"]);
    let output = command.env("CONSUL_HTTP_ADDR", &address).env("CONSUL_HTTP_AUTH", "me:pass").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let head = &heads.join().unwrap()[0];
    assert!(head.contains("authorization: basic bwu6cgfzcw==\r\n") && head.contains("?dc=dc2&stale "), "{head}");
}
