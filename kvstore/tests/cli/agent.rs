//! `kvstore agent`: what it starts from, keeps, reads again and logs.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use nix::sys::signal::Signal;

use crate::harness::*;

#[test]
fn a_configuration_of_consul_starts_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let config = serde_json::json!({
        "server": true, "bootstrap": true, "node_name": "wire-node",
        "node_id": "11111111-1111-4111-8111-111111111111", "datacenter": "dc1",
        "data_dir": dir.path().join("data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
        "addresses": {"http": format!("unix://{}", socket.display())},
        "ports": {"dns": -1, "server": 39300, "serf_lan": 39301},
        "enable_script_checks": true, "node_meta": {"wire": "yes"},
    });
    let file = dir.path().join("agent.json");
    fs::write(&file, config.to_string()).unwrap();
    let agent = Agent::start(&["-config-file", file.to_str().unwrap()]);
    assert_eq!(agent.address, format!("unix://{}", socket.display()));
    let nodes = agent.ok(&["catalog", "nodes", "-detailed"]);
    for word in ["wire-node", "11111111-1111-4111-8111-111111111111", "127.0.0.1", "wire=yes"] {
        assert!(nodes.contains(word), "{word} in {nodes}");
    }
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains("ports.serf_lan, bootstrap"), "{log}");
}

#[test]
fn data_and_identity_outlive_a_stop_and_one_directory_has_one_agent() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let agent = Agent::on(&data, &[]);
    agent.ok(&["kv", "put", "a", "kept"]);
    let id = fs::read_to_string(data.join("node-id")).unwrap();

    let second =
        ["agent", "--data-dir", data.to_str().unwrap(), "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"];
    refused(&run(&second), 1, &[data.to_str().unwrap()]);
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");

    let again = Agent::on(&data, &["--log-format", "text"]);
    assert_eq!(again.ok(&["kv", "get", "a"]), "kept");
    assert_eq!(fs::read_to_string(data.join("node-id")).unwrap(), id);
}

#[test]
fn the_configuration_is_read_again_by_signal_and_by_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    let write = |rack: &str, more: &str| fs::write(&file, format!("node_meta: {{rack: {rack}}}\n{more}")).unwrap();
    write("r1", "log_level: info");
    let agent = Agent::on(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    let rack = || agent.send("GET", "/v1/catalog/nodes").1;
    assert!(rack().contains("r1"));

    write("r2", "log_level: info\ndatacenter: elsewhere");
    agent.signal(Signal::SIGHUP);
    eventually("the new metadata", || rack().contains("r2"));
    write("r3", "log_level: debug");
    assert_eq!(agent.send("PUT", "/v1/agent/reload"), (200, String::new()));
    assert!(rack().contains("r3"));
    write("r4", "no_such_key: 1");
    let (status, why) = agent.send("PUT", "/v1/agent/reload");
    assert!(status == 500 && why.contains("agent.yaml:2  no_such_key: unknown key"), "{status} {why}");
    agent.signal(Signal::SIGHUP);
    assert!(rack().contains("r3"), "a wrong file changes nothing");
    // Signals are handled in order; the debug log shows every request after the reload.
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("settings=\"datacenter\""), "{log}");
    assert!(log.contains("path=\"/v1/catalog/nodes\""), "{log}");
}

#[test]
fn the_log_is_followed_from_outside_at_a_level_of_its_own() {
    let agent = Agent::dev();
    let mut follow = agent.request("GET", "/v1/agent/monitor?loglevel=debug");
    let mut as_json = agent.request("GET", "/v1/agent/monitor?logjson");
    let mut found = |start: &str, want: &str| loop {
        let mut line = String::new();
        let reader = if start.is_empty() { &mut as_json } else { &mut follow };
        assert!(reader.read_line(&mut line).unwrap() > 0, "no line has {want:?}");
        if line.contains(want) && line.contains(start) {
            return line;
        }
    };
    agent.ok(&["kv", "put", "secret/name", "x"]);
    let line = found("[DEBUG]", "/v1/kv/secret/name");
    assert!(line.contains("kvstore::http::answer: request: method=PUT path=/v1/kv/secret/name status=200"), "{line}");
    assert!(line.contains(" request="), "it has an id: {line}");
    agent.send("PUT", "/v1/agent/maintenance?enable=true&reason=why&token=hidden");
    let line: serde_json::Value = serde_json::from_str(&found("", "maintenance is switched")).unwrap();
    assert_eq!((&line["@level"], &line["reason"]), (&"info".into(), &"why".into()));
    assert!(!found("[DEBUG]", "/v1/agent/maintenance").contains("hidden"));
    assert_eq!(agent.send("GET", "/v1/agent/monitor?loglevel=zzz"), (400, "Unknown log level: zzz".into()));

    assert_eq!(agent.send("PUT", "/v1/agent/leave").0, 200);
    let mut rest = String::new();
    follow.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("told this agent to leave"), "{rest}");
    let mut agent = agent;
    let code = agent.child.wait().unwrap().code();
    assert_eq!(code, Some(0), "it has left in order");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&["agent", "--dev", "--http-addr", &address, "--dns-addr", "127.0.0.1:0"]), 1, &[&address, "in use"]);
}

#[test]
fn the_log_can_be_json() {
    let mut child = kvstore(&["agent", "-dev", "-log-json", "-http-addr=127.0.0.1:0", "-dns-addr=127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let read = BufReader::new(child.stderr.take().unwrap()).read_line(&mut line);
    let _ = child.kill();
    let _ = child.wait();
    read.unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO", "{line}");
}
