//! What the first release wrote is read by every later one. `tests/fixtures/registry` has a registry of each format, as an
//! agent that was killed left it.

use std::{fs, path::Path, process::Command};

use kvstore::config;
use serde_json::{Value, json};

use crate::common::{Agent, settings};

#[tokio::test]
async fn what_every_format_held_is_there() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/registry");
    let found = fs::read_dir(&fixtures).unwrap().flatten().map(|entry| entry.path());
    let archives: Vec<_> = found.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect();
    assert!(!archives.is_empty(), "{}", fixtures.display());
    for archive in archives {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success(), "{}", archive.display());
        opens(&dir.path().join("data")).await;
    }
}

async fn opens(data_dir: &Path) {
    let node_id = fs::read_to_string(data_dir.join("node-id")).unwrap();
    let engine = config::Engine::Embedded { data_dir: data_dir.into() };
    let agent = Agent::with(config::Agent { engine, node_id, ..settings("fixture") }).await;
    let get = async |path: &str| -> Value {
        let answer = reqwest::get(format!("{}/v1/{path}", agent.base)).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    assert_eq!(get("kv/?keys").await, json!(["held", "plain", "release/web", "with/flags"]));
    assert_eq!(get("kv/plain").await[0]["Value"], "YSB2YWx1ZQ==");
    assert_eq!(get("kv/with/flags").await[0]["Flags"], 42);
    let sessions = get("session/list").await;
    assert_eq!((&sessions[0]["Name"], &sessions[0]["TTL"]), (&json!("holder"), &json!("86400s")));
    assert_eq!(get("kv/held").await[0]["Session"], sessions[0]["ID"]);
    let web = &get("health/service/web?passing").await[0];
    assert_eq!((&web["Service"]["ID"], &web["Service"]["Tags"]), (&json!("web-1"), &json!(["a", "b"])));
    assert_eq!(web["Service"]["Meta"]["version"], "v1");
    let db = &get("health/service/db").await[0];
    assert_eq!((&db["Node"]["Address"], &db["Node"]["Meta"]["external"]), (&json!("192.0.2.7"), &json!("yes")));
    assert_eq!(db["Checks"][0]["Status"], "warning");
    assert_eq!(get("query").await[0]["Name"], "nearest");

    // Indexes go on from where they were.
    let newest = get("kv/release/web").await[0]["ModifyIndex"].as_u64().unwrap();
    let write = reqwest::Client::new().put(format!("{}/v1/kv/new", agent.base)).body("x");
    assert_eq!(write.send().await.unwrap().text().await.unwrap(), "true");
    assert!(get("kv/new").await[0]["ModifyIndex"].as_u64().unwrap() > newest);
    agent.stop().await;
}
