//! Keys and services.

use std::{fs, io::Write, process::Stdio};

use crate::harness::*;

#[test]
fn keys_are_written_and_read() {
    let agent = Agent::dev();
    assert_eq!(agent.ok(&["kv", "put", "dir/a", "one"]), "Success! Data written to: dir/a\n");
    agent.ok(&["kv", "put", "-flags=42", "dir/b", "two words"]);
    agent.ok(&["kv", "put", "dir/sub/c", "-5"]);
    agent.ok(&["kv", "put", "empty"]);
    assert_eq!(agent.ok(&["kv", "get", "dir/a"]), "one");
    assert_eq!(agent.ok(&["kv", "get", "empty"]), "");
    assert_eq!(agent.ok(&["kv", "get", "-recurse", "dir/"]), "dir/a:one\ndir/b:two words\ndir/sub/c:-5\n");
    assert_eq!(agent.ok(&["kv", "get", "-keys", "dir/"]), "dir/a\ndir/b\ndir/sub/\n");
    assert_eq!(agent.ok(&["kv", "get", "-keys", "-separator=", "dir/"]), "dir/a\ndir/b\ndir/sub/c\n");
    let details = agent.ok(&["kv", "get", "-detailed", "dir/b"]);
    assert!(details.contains("Flags        42\n") && details.ends_with("Value        two words\n"), "{details}");
    refused(&agent.run(&["kv", "get", "nope"]), 1, &["there is no key \"nope\""]);
    refused(&agent.run(&["kv", "put", "-cas", "dir/a", "x"]), 1, &["\"dir/a\" was not written"]);
    assert_eq!(agent.ok(&["kv", "delete", "dir/a"]), "Success! Deleted key: dir/a\n");
    agent.ok(&["kv", "delete", "-recurse", "dir/"]);
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "empty\n");
}

#[test]
fn values_are_bytes() {
    let agent = Agent::dev();
    let bytes: Vec<u8> = (0..=255).collect();
    let mut put = agent.command(&["kv", "put", "bin", "-"]);
    let mut child = put.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(agent.run(&["kv", "get", "bin"]).stdout, bytes);

    let export = agent.ok(&["kv", "export"]);
    agent.ok(&["kv", "delete", "bin"]);
    assert_eq!(agent.ok(&["kv", "import", "-prefix", "copy/", &export]), "Imported: copy/bin\n");
    assert_eq!(agent.run(&["kv", "get", "copy/bin"]).stdout, bytes);
    refused(&agent.run(&["kv", "import", "[{"]), 1, &["no export", "nothing was written"]);
}

#[test]
fn services_are_registered_and_listed() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.yaml");
    fs::write(&file, "service:\n  name: db\n  port: 5432\n  check: {ttl: 30s}\n").unwrap();
    let file = file.to_str().unwrap();
    agent.ok(&["services", "register", "-name=web", "-id=web-1", "-port=80", "-tag=v1", "-tag=blue", "-meta=a=b"]);
    assert_eq!(agent.ok(&["services", "register", file]), "Registered service: db\n");
    assert_eq!(agent.ok(&["catalog", "services"]), "consul\ndb\nweb\n");
    assert_eq!(agent.ok(&["catalog", "services", "-tags", "-node=n1"]), "consul\ndb\nweb     blue,v1\n");
    assert!(agent.ok(&["catalog", "nodes", "-service=web"]).contains("n1 "));
    refused(&agent.run(&["catalog", "nodes", "-service=nope"]), 1, &["nope"]);
    refused(&agent.run(&["catalog", "services", "-node=nope"]), 1, &["nope"]);
    assert_eq!(agent.ok(&["services", "deregister", "-id=web-1"]), "Deregistered service: web-1\n");
    assert_eq!(agent.ok(&["services", "deregister", file]), "Deregistered service: db\n");
    refused(&agent.run(&["services", "deregister", "-id=web-1"]), 1, &["404", "web-1"]);
    assert!(agent.ok(&["info"]).contains("NodeName = n1"));
    fs::write(dir.path().join("bad.yaml"), "service:\n  nam: x\n").unwrap();
    let bad = dir.path().join("bad.yaml").display().to_string();
    refused(&agent.run(&["services", "register", &bad]), 2, &["bad.yaml:2  service.nam: unknown key"]);
}

#[test]
fn long_work_shows_how_far_it_is_to_a_terminal_only() {
    let agent = Agent::dev();
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys: Vec<_> = (0..50).map(|n| serde_json::json!({"key": format!("k{n}"), "value": "MQ=="})).collect();
    std::fs::write(&file, serde_json::to_vec(&keys).unwrap()).unwrap();
    let from = format!("@{}", file.path().display());
    let output = agent.run(&["kv", "import", &from]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));

    // `script`, which every Debian has, gives it a terminal.
    let line = format!("'{}' kv import '{from}'", env!("CARGO_BIN_EXE_kvstore"));
    let mut script = clean("script", &["--quiet", "--return", "--command", &line, "/dev/null"]);
    let output = script.env("CONSUL_HTTP_ADDR", &agent.address).env("TERM", "xterm").output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("Imported: k49"), "{shown}");
    assert!(shown.contains("keys [") && shown.contains(" of 50"), "{shown}");
    let (_, after) = shown.rsplit_once(" of 50").unwrap();
    assert!(after.contains("\x1b[2K"), "it is wiped off in the end: {shown:?}");
}
