//! `kvstore snapshot`: out of one registry and into another, and what is refused.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::harness::*;

#[test]
fn a_snapshot_is_saved_inspected_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.snap");
    let file = path.to_str().unwrap();
    let agent = Agent::dev();
    agent.ok(&["kv", "put", "a", "kept"]);
    agent.ok(&["services", "register", "-name=web", "-port=80"]);
    let said = agent.ok(&["snapshot", "save", file]);
    assert!(said.starts_with("Saved and verified snapshot to index ") && said.contains(file), "{said}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");

    let shown = text(&run(&["snapshot", "inspect", file]).stdout);
    let cell = |name: &str| shown.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned())).unwrap();
    assert_eq!((cell("keys"), cell("instances"), cell("Version")), ("1".into(), "2".into(), "1".into()), "{shown}");
    assert!(said.contains(&format!("index {}:", cell("Index"))), "{said} {shown}");
    let json: Value = serde_json::from_str(&text(&run(&["snapshot", "inspect", "-format=json", file]).stdout)).unwrap();
    assert_eq!(json["Rows"]["keys"], 1);
    assert_eq!(json["Index"].to_string(), cell("Index"));

    let other = Agent::dev();
    other.ok(&["kv", "put", "b", "goes"]);
    assert!(other.ok(&["snapshot", "restore", file]).starts_with("Restored snapshot of index "));
    assert_eq!(other.ok(&["kv", "get", "-keys"]), "a\n");
    assert_eq!(other.ok(&["catalog", "services"]), "consul\nweb\n");
}

#[test]
fn an_agent_takes_snapshots_by_itself_that_can_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let files = || {
        let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|kind| kind == "snap"));
        files.sort();
        files
    };
    let place = dir.path().to_str().unwrap();
    let often = ["--snapshot-dir", place, "--snapshot-every=1s", "--snapshot-keep=2"];
    let local = ["--dev", "--http-addr=127.0.0.1:0", "--dns-addr=127.0.0.1:0"];
    let agent = Agent::start(&[&local[..], &often[..]].concat());
    agent.ok(&["kv", "put", "a", "kept"]);
    let metrics = || agent.send("GET", "/v1/agent/metrics?format=prometheus").1;
    eventually("four are taken", || {
        let metrics = metrics();
        let taken = metrics.lines().find_map(|line| line.strip_prefix("kvstore_snapshots_taken"));
        taken.and_then(|line| line.split(' ').next_back()?.parse::<u32>().ok()) >= Some(4)
    });
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(files().len(), 2, "{:?}", files());
    let other = Agent::dev();
    other.ok(&["snapshot", "restore", files()[1].to_str().unwrap()]);
    assert_eq!(other.ok(&["kv", "get", "a"]), "kept");
}

#[test]
fn a_damaged_file_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.snap");
    let file = path.to_str().unwrap();
    let agent = Agent::dev();
    agent.ok(&["kv", "put", "a", "x"]);
    agent.ok(&["snapshot", "save", file]);
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"junk", b""] {
        fs::write(&path, damaged).unwrap();
        refused(&run(&["snapshot", "inspect", file]), 1, &["no whole snapshot", file, "cause:"]);
        refused(&agent.run(&["snapshot", "restore", file]), 1, &["no whole snapshot", file]);
    }
    assert_eq!(agent.ok(&["kv", "get", "a"]), "x");
    refused(&run(&["snapshot", "inspect", "/no/such/file"]), 1, &["/no/such/file", "No such file"]);
    refused(&agent.run(&["snapshot", "save", "/no/such/dir/file"]), 1, &["/no/such/dir/file", "No such file"]);
    refused(&run(&["snapshot", "save"]), 2, &["FILE"]);
}

#[test]
fn what_the_registry_sends_is_verified() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent = heads_of(listener, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\njunk");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.snap");
    fs::write(&path, "the last good one").unwrap();
    let output = run(&["snapshot", "save", path.to_str().unwrap(), "-http-addr", &address]);
    refused(&output, 1, &["damaged snapshot", "decompress"]);
    sent.join().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "the last good one");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}
