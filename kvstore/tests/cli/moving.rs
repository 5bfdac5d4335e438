//! `kvstore migrate` between a data directory and an etcd, with agents before and after it.

#[path = "../../src/engine/tests/etcd/server.rs"]
pub(crate) mod server;

use std::{
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::*;
use server::Server;

fn address(server: &Server) -> String {
    format!("etcd://127.0.0.1:{}", server.port)
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The index under which `path` is shown, which changed after `after`, and what is shown.
fn read(agent: &Agent, path: &str, after: u64) -> (u64, Value) {
    let start = Instant::now();
    let url = format!("{path}{}index={after}&wait=60s", if path.contains('?') { '&' } else { '?' });
    let mut answer = String::new();
    agent.request("GET", &url).read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(start.elapsed() < Duration::from_secs(30), "{path} after {after} is told at once");
    let index = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("x-consul-index: ")?.parse().ok());
    (index.expect("an index"), serde_json::from_str(body).expect("JSON"))
}

/// Without what is another for each change.
fn content(mut shown: Value) -> Value {
    for item in shown.as_array_mut().into_iter().flatten() {
        for part in ["", "/Service", "/Node"] {
            if let Some(part) = item.pointer_mut(part).and_then(Value::as_object_mut) {
                part.remove("ModifyIndex");
            }
        }
        item.as_object_mut().map(|item| item.remove("Checks"));
    }
    shown
}

#[test]
fn a_registry_moves_to_etcd_and_back_and_nobody_misses_a_change() {
    let Some(server) = Server::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let (old, new) = (dirs.path().join("old"), dirs.path().join("new"));
    let paths = ["/v1/kv/?recurse", "/v1/health/service/web", "/v1/session/list"];
    let agent = Agent::on(&old, &[]);
    agent.put("/v1/kv/colour?flags=7", "blue");
    agent.put("/v1/kv/gone", "x");
    agent.put("/v1/agent/service/register", r#"{"Name": "web", "ID": "web-1", "Port": 80}"#);
    let session: Value = serde_json::from_str(&agent.send("PUT", "/v1/session/create").1).unwrap();
    agent.put(&format!("/v1/kv/lock?acquire={}", session["ID"].as_str().unwrap()), "held");
    let before = paths.map(|path| read(&agent, path, 0));

    let from = ["migrate", "--from-data-dir", text_of(&old), "--to", &address(&server)];
    refused(&run(&from), 1, &["another kvstore (process ", text_of(&old)]);
    agent.stop();
    let would = text(&done(&[&from[..], &["--dry-run"]].concat()));
    assert!(would.contains("Would move"), "{would}");
    assert_eq!(server.ctl(&["get", "--prefix", "/"]), "");
    let told = text(&done(&from));
    assert!(told.contains("Moved and verified") && told.contains("keys       3"), "{told}");
    refused(&run(&from), 1, &["there is a registry below /flotilla/ already"]);

    // The host is known by this.
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(old.join("node-id"), new.join("node-id")).unwrap();
    let agent = Agent::on(&new, &["--engine", &address(&server)]);
    for (path, (index, shown)) in paths.iter().zip(&before) {
        let (now, there) = read(&agent, path, *index);
        assert!(now > *index, "{path}: {now} after {index}");
        assert_eq!(content(there), content(shown.clone()), "{path}");
    }
    agent.put("/v1/kv/colour?flags=7", "red");
    agent.send("DELETE", "/v1/kv/gone");
    let before = paths.map(|path| read(&agent, path, 0));
    agent.stop();

    let back = ["migrate", "--from", &address(&server), "--to-data-dir", text_of(&new), "--format", "json"];
    let report: Value = serde_json::from_slice(&done(&back)).unwrap();
    assert_eq!((&report["Rows"]["keys"], &report["Left"]), (&2.into(), &serde_json::json!([])), "{report}");
    refused(
        &run(&["agent", "--data-dir", text_of(&old), "--engine", &address(&server), "--http-addr", "127.0.0.1:0"]),
        1,
        &["its registry was moved to", text_of(&new)],
    );
    let agent = Agent::on(&new, &[]);
    for (path, (index, shown)) in paths.iter().zip(&before) {
        // Whoever waits with an index of before the last change is told at once.
        let (now, there) = read(&agent, path, index - 1);
        assert!(now >= *index, "{path}: {now} after {index}");
        assert_eq!(content(there), content(shown.clone()), "{path}");
    }
    agent.put("/v1/kv/colour", "green");
    assert!(read(&agent, "/v1/kv/colour", 0).0 > before[0].0, "and no index is given out twice");
}

fn done(args: &[&str]) -> Vec<u8> {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    output.stdout
}

#[test]
fn what_cannot_be_moved_is_said() {
    let data = tempfile::tempdir().unwrap();
    let data = text_of(data.path());
    for (args, words) in [
        (&["--from-data-dir", data][..], &["it was not said where to", "--to etcd://"][..]),
        (&["--from-data-dir", data, "--to", "http://127.0.0.1:1"], &["it was not said where to"]),
        (
            &["--from", "http://127.0.0.1:1", "--to-data-dir", data],
            &["takes a whole registry", "run kvstore agent there"],
        ),
        (&["--from", "etcd://h", "--to-data-dir", data], &["\"h\" is not HOST:PORT of an etcd"]),
        (&["--from-data-dir", data, "--to", "etcd://h:1", "--overwrite"], &["--overwrite is for --from"]),
        (&["--from-data-dir", data, "--from", "http://127.0.0.1:1"], &["cannot be used with"]),
        (&["--to", "etcd://h:1"], &["--from <ADDRESS>"]),
    ] {
        refused(&run(&[&["migrate"], args].concat()), 2, words);
    }
    let nowhere = run(&["migrate", "--from-data-dir", data, "--to", "etcd://127.0.0.1:1"]);
    refused(&nowhere, 1, &["etcd://127.0.0.1:1?prefix=/flotilla", "127.0.0.1:1: "]);
}
