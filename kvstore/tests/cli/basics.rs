//! Help, flags, files, which registry, and exit codes.

use std::{fs, process::Command};

use crate::harness::*;

#[test]
fn help_and_version_are_no_failure() {
    for args in [&["--help"][..], &["agent", "--help"], &["kv", "put", "-help"], &["help", "catalog"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}");
        assert!(text(&output.stdout).contains("Examples:"), "{args:?}");
    }
    let version = format!("kvstore {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&run(&["version"]).stdout), version);
    assert_eq!(text(&run(&["--version"]).stdout), version);
}

#[test]
fn wrong_flags_are_named() {
    refused(&run(&["agent", "--no-such-flag"]), 2, &["--no-such-flag", "--help"]);
    refused(&run(&["frobnicate"]), 2, &["frobnicate"]);
    refused(&run(&[]), 2, &["agent"]);
    refused(&run(&["agent", "--http-addr", "localhost"]), 2, &["localhost", "IP:PORT"]);
    refused(&run(&["agent", "--engine", "raft"]), 2, &["there is no engine \"raft\""]);
    #[cfg(not(feature = "etcd"))]
    refused(&run(&["agent", "--engine", "etcd://127.0.0.1:2379"]), 2, &["built without etcd"]);
    refused(
        &run(&["agent", "--engine", "memory", "--https-addr", "127.0.0.1:0", "--replica-of", "http://127.0.0.1:1"]),
        2,
        &["2 faults", "HTTPS needs a certificate", "a replica has the state of its hub"],
    );
    refused(&run(&["kv", "delete", "--cas", "k"]), 2, &["--modify-index"]);
    refused(&run(&["services", "register"]), 2, &["--name"]);
}

#[test]
fn every_fault_of_all_files_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("a.yaml"), "node: n1\ndata_dri: /x\n").unwrap();
    fs::write(path("b.json"), "{\n \"ports\": {\"http\": \"x\"}\n}").unwrap();
    fs::write(path("c.hcl"), "node_nmae = \"x\"").unwrap();
    fs::write(path("notes.txt"), "not read").unwrap();
    let all = [
        "3 faults",
        "a.yaml:2  data_dri: unknown key; did you mean \"data_dir\"?",
        "b.json:2  ports.http:",
        "c.hcl  node_nmae: unknown key; did you mean \"node_name\"?",
    ];
    let directory = dir.path().display().to_string();
    refused(&run(&["agent", "--dev", "--config", &directory]), 2, &all);
    refused(&run(&["agent", "-dev", "-config-dir", &directory]), 2, &all);
    refused(&run(&["validate", &directory]), 1, &all);
    refused(&run(&["agent", "--dev", "--config", &path("absent.yaml")]), 2, &["absent.yaml", "No such file"]);
    let mut local = kvstore(&["agent", "--dev"]);
    let output = local.env("CONSUL_LOCAL_CONFIG", "{\"htp\": 1}").output().unwrap();
    refused(&output, 2, &["$CONSUL_LOCAL_CONFIG:1  htp: unknown key"]);
}

#[test]
fn local_scripts_alone_open_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
    fs::write(&file, serde_json::json!({"data_dir": data, "enable_local_script_checks": true}).to_string()).unwrap();
    let output = run(&["validate", file.to_str().unwrap()]);
    assert_eq!(text(&output.stdout), "Configuration is valid!\n");
}

#[test]
fn validate_starts_nothing_and_shows_the_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
    fs::write(&file, serde_json::json!({"data_dir": data, "bootstrap": true, "server": true}).to_string()).unwrap();
    let output = run(&["validate", file.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("bootstrap") && said.ends_with("Configuration is valid!\n"),
        "{said}"
    );
    assert!(!data.exists());
}

#[test]
fn a_registry_that_is_away_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    refused(&run(&["kv", "get", "a", "-http-addr", &closed]), 1, &[&closed, "refused", "--http-addr"]);
    refused(&run(&["kv", "get", "a", "-http-addr=https://x", "-ca-file", "/no/ca"]), 1, &["cannot read /no/ca: "]);
    refused(&run(&["kv", "get", "a", "--token-file", "/no/such/file"]), 1, &["/no/such/file"]);
}

#[test]
fn the_token_is_sent_and_never_printed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = heads_of(listener, 3, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "s3cret\n").unwrap();
    let with = |command: &mut Command| {
        let output = command.env("CONSUL_HTTP_ADDR", &address).output().unwrap();
        refused(&output, 1, &["403", "no", "--token"]);
        assert!(!text(&output.stderr).contains("s3cret"));
    };
    with(&mut kvstore(&["kv", "get", "a", "-token=s3cret"]));
    with(kvstore(&["kv", "get", "a"]).env("CONSUL_HTTP_TOKEN", "s3cret"));
    with(kvstore(&["kv", "get", "a"]).env("CONSUL_HTTP_TOKEN_FILE", &file));
    for head in heads.join().unwrap() {
        assert!(head.contains("x-consul-token: s3cret\r\n"), "{head}");
    }
    let help = kvstore(&["kv", "--help"]).env("CONSUL_HTTP_TOKEN", "s3cret").output().unwrap();
    assert!(!text(&help.stdout).contains("s3cret"));
}
