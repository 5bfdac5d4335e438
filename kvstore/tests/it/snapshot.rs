//! Snapshots over HTTP: all that was there comes back, in one step, and damage changes nothing.

use std::time::{Duration, Instant};

use kvstore::config::Engine;
use serde_json::{Value, json};

use crate::common::{Agent, settings};

/// A stack of every table: what is put, and the path of each list it shows in.
const PUTS: &[(&str, &str)] = &[
    ("/v1/kv/plain?flags=7", "text"),
    ("/v1/kv/tree/%2F%25%C3%A4%22", ""),
    ("/v1/kv/tree/b", "\u{fffd}\u{0}binary"),
    (
        "/v1/catalog/register",
        r#"{"Node": "db-1", "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Address": "10.0.0.9", "NodeMeta": {"a": "b"},
            "Service": {"ID": "pg/1", "Service": "pg", "Tags": ["x"], "Port": 5432, "Meta": {"v": "1"}},
            "Check": {"CheckID": "disk", "Name": "disk", "Status": "warning", "Output": "hot"}}"#,
    ),
    (
        "/v1/agent/service/register",
        r#"{"ID": "web-1", "Name": "web", "Port": 80, "Tags": ["v2"],
            "Checks": [{"CheckID": "ttl", "TTL": "10m", "Status": "passing"}, {"TCP": "127.0.0.1:1", "Interval": "1h"}]}"#,
    ),
];

const LISTS: &[&str] = &[
    "/v1/kv/?recurse",
    "/v1/catalog/nodes",
    "/v1/catalog/services",
    "/v1/catalog/node/db-1",
    "/v1/health/state/any",
    "/v1/health/service/web",
    "/v1/agent/services",
    "/v1/agent/checks",
];

struct Reply {
    status: u16,
    index: u64,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn send(agent: &Agent, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
    let request = reqwest::Client::new().request(method.parse().unwrap(), format!("{}{path}", agent.base)).body(body);
    let response = request.send().await.unwrap();
    let index = response.headers().get("x-consul-index").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
    Reply { status: response.status().as_u16(), index, body: response.bytes().await.unwrap().to_vec() }
}

async fn get(agent: &Agent, path: &str) -> Reply {
    send(agent, "GET", path, "").await
}

async fn fill(agent: &Agent) {
    for (path, body) in PUTS {
        let reply = send(agent, "PUT", path, *body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
}

/// Everything that the lists show, but for when it was modified and what probes say.
async fn shown(agent: &Agent) -> Vec<(&'static str, Value)> {
    fn without_modified(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("ModifyIndex");
                if fields.get("Type").is_some_and(|kind| kind == "tcp") {
                    // A probe may run at any time.
                    fields.remove("Output");
                }
                fields.values_mut().for_each(without_modified);
            }
            Value::Array(items) => items.iter_mut().for_each(without_modified),
            _ => {}
        }
    }
    let mut all = Vec::new();
    for path in LISTS {
        let mut list: Value = serde_json::from_slice(&get(agent, path).await.body).unwrap();
        without_modified(&mut list);
        all.push((*path, list));
    }
    all
}

fn kept(dir: &tempfile::TempDir) -> kvstore::config::Agent {
    let mut settings = settings("n");
    settings.engine = Engine::Embedded { data_dir: dir.path().into() };
    settings
}

#[tokio::test]
async fn a_snapshot_brings_back_every_table_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::with(kept(&dir)).await;
    fill(&agent).await;
    let before = shown(&agent).await;
    let snapshot = get(&agent, "/v1/snapshot").await;
    assert_eq!((snapshot.status, &snapshot.body[..2]), (200, &[0x1f, 0x8b][..]));

    send(&agent, "DELETE", "/v1/kv/?recurse", "").await;
    send(&agent, "PUT", "/v1/kv/later", "x").await;
    send(&agent, "PUT", "/v1/catalog/deregister", r#"{"Node": "db-1"}"#).await;
    send(&agent, "PUT", "/v1/agent/service/deregister/web-1", "").await;
    let changed = get(&agent, "/v1/kv/later").await.index;
    assert!(changed > snapshot.index, "the snapshot says at which index it is");
    let restored = send(&agent, "PUT", "/v1/snapshot", snapshot.body.clone()).await;
    assert_eq!((restored.status, restored.text()), (200, String::new()));
    assert_eq!(shown(&agent).await, before);
    let late = get(&agent, "/v1/kv/later").await;
    assert!(late.status == 404 && late.index > changed, "indexes never go back");
    assert!(get(&agent, "/v1/kv/plain").await.index > changed);
    agent.stop().await;

    let again = Agent::with(kept(&dir)).await;
    assert_eq!(shown(&again).await, before);
    again.stop().await;

    let other = Agent::start("other").await;
    assert_eq!(send(&other, "PUT", "/v1/snapshot", snapshot.body.clone()).await.status, 200);
    let nodes: Value = serde_json::from_slice(&get(&other, "/v1/catalog/nodes").await.body).unwrap();
    let names: Vec<_> = nodes.as_array().unwrap().iter().map(|node| node["Node"].as_str().unwrap()).collect();
    assert_eq!(names, ["db-1", "other"], "the same host, by its id, has a new name there");
}

#[tokio::test]
async fn this_node_is_there_again_and_its_checks_run_after_a_restore() {
    let empty = get(&Agent::start("elsewhere").await, "/v1/snapshot").await.body;
    let mut settings = settings("n");
    settings.node_id = "22222222-2222-4222-8222-222222222222".into();
    let agent = Agent::with(settings).await;
    let lapsing = json!({"Name": "lapsing", "Check": {"CheckID": "t", "TTL": "1s", "Status": "passing"}});
    let probed = json!({"Name": "probed", "Check": {"CheckID": "p", "TCP": agent.base.trim_start_matches("http://"),
        "Interval": "1s"}});
    for body in [&lapsing, &probed] {
        assert_eq!(send(&agent, "PUT", "/v1/agent/service/register", body.to_string()).await.status, 200);
    }
    let snapshot = get(&agent, "/v1/snapshot").await.body;
    assert_eq!(send(&agent, "PUT", "/v1/snapshot", empty).await.status, 200);
    let own: Value = serde_json::from_slice(&get(&agent, "/v1/health/node/n").await.body).unwrap();
    assert_eq!(
        (own.as_array().unwrap().len(), &own[0]["CheckID"], &own[0]["Status"]),
        (1, &json!("serfHealth"), &json!("passing"))
    );
    assert_eq!(get(&agent, "/v1/agent/services").await.text(), "{}");

    assert_eq!(send(&agent, "PUT", "/v1/snapshot", snapshot).await.status, 200);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let checks: Value = serde_json::from_slice(&get(&agent, "/v1/agent/checks").await.body).unwrap();
        if (&checks["t"]["Status"], &checks["p"]["Status"]) == (&json!("critical"), &json!("passing")) {
            return;
        }
        assert!(Instant::now() < until, "a TTL lapses and a probe runs: {checks}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_restore_wakes_who_waits() {
    let agent = Agent::start("n").await;
    fill(&agent).await;
    let snapshot = get(&agent, "/v1/snapshot").await.body;
    assert_eq!(send(&agent, "PUT", "/v1/kv/plain", "changed").await.status, 200);
    let mut waiting = Vec::new();
    for path in ["/v1/kv/plain", "/v1/kv/tree?recurse", "/v1/health/service/web", "/v1/catalog/nodes", "/v1/kv/absent"]
    {
        let index = get(&agent, path).await.index;
        let and = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{and}index={index}&wait=30s", agent.base);
        waiting.push((path, index, tokio::spawn(async move { reqwest::get(url).await.unwrap() })));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.iter().all(|(_, _, task)| !task.is_finished()));
    let started = Instant::now();
    assert_eq!(send(&agent, "PUT", "/v1/snapshot", snapshot).await.status, 200);
    for (path, index, task) in waiting {
        if path == "/v1/kv/absent" {
            task.abort();
            continue;
        }
        let reply = task.await.unwrap();
        let new: u64 = reply.headers()["x-consul-index"].to_str().unwrap().parse().unwrap();
        assert!(new > index, "{path}");
        if path == "/v1/kv/plain" {
            assert!(reply.text().await.unwrap().contains("dGV4dA=="), "the value is the snapshot's");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let mut settings = settings("n");
    settings.limits.snapshot_bytes = 64 << 10;
    let agent = Agent::with(settings).await;
    fill(&agent).await;
    let snapshot = get(&agent, "/v1/snapshot").await.body;
    let (before, index) = (shown(&agent).await, get(&agent, "/v1/kv/plain").await.index);
    let mut flipped = snapshot.clone();
    flipped[snapshot.len() / 2] ^= 0x40;
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &vec![0; 16 << 20]).unwrap();
        gzip.finish().unwrap()
    };
    for (what, body, status, says) in [
        ("nothing", Vec::new(), 500, "failed to decompress snapshot: "),
        ("junk", b"junk".to_vec(), 500, "failed to decompress snapshot: "),
        ("half of it", snapshot[..snapshot.len() / 2].to_vec(), 500, "failed to decompress snapshot: "),
        ("another byte", flipped, 500, "failed to "),
        ("a bomb", bomb, 500, "unpacks to more than 65536 bytes"),
        ("too much", vec![0; 65537], 413, "too large"),
    ] {
        let reply = send(&agent, "PUT", "/v1/snapshot", body).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(reply.text().contains(says), "{what}: {}", reply.text());
    }
    assert_eq!(get(&agent, "/v1/kv/plain").await.index, index);
    assert_eq!(shown(&agent).await, before);
    assert_eq!(send(&agent, "PUT", "/v1/snapshot", snapshot).await.status, 200, "the whole one is taken");
}

#[tokio::test]
async fn a_reader_who_leaves_and_many_at_once_do_no_harm() {
    let agent = Agent::start("n").await;
    for i in 0..24 {
        // What hardly packs, so that an archive is longer than all that is buffered on its way.
        let value: Vec<u8> = std::iter::repeat_with(rand::random).take(500 << 10).collect();
        assert_eq!(send(&agent, "PUT", &format!("/v1/kv/{i}"), value).await.status, 200);
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(reqwest::get(format!("{}/v1/snapshot", agent.base)).await.unwrap());
    }
    let reply = get(&agent, "/v1/snapshot").await;
    assert_eq!(reply.status, 503, "no more than four at a time");
    drop(held);
    let until = Instant::now() + Duration::from_secs(20);
    while get(&agent, "/v1/snapshot").await.status != 200 {
        assert!(Instant::now() < until, "those who left make room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
