//! Several agents on one etcd.

#[path = "../../src/engine/tests/etcd/server.rs"]
mod server;

mod cluster;
mod refused;
mod replicas;
mod secured;
mod together;

use std::time::{Duration, Instant};

use kvstore::{config, server as agent};
use kvstore_client::with_causes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::common::{Agent, settings};
use server::Server;

const IDS: [&str; 2] = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];

/// Seconds.
const LEASE: u64 = 3;

fn of(server: &Server, node: &str, id: &str) -> config::Agent {
    let address = format!("etcd://127.0.0.1:{}?lease={LEASE}s", server.port).parse().unwrap();
    let engine = config::Engine::Etcd { address: Box::new(address), data_dir: server.place(&format!("{node}-{id}")) };
    config::Agent { engine, node_id: id.into(), ..settings(node) }
}

async fn json(url: String) -> Value {
    let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{url}: {text}"))
}

async fn alive(agent: &Agent, node: &str) -> String {
    let checks = json(format!("{}/v1/health/node/{node}?consistent", agent.base)).await;
    let alive = checks.as_array().unwrap().iter().find(|check| check["CheckID"] == "serfHealth");
    alive.expect("an agent's node shows whether it lives")["Status"].as_str().unwrap().into()
}

async fn get_index(agent: &Agent, path: &str) -> String {
    let answer = reqwest::get(format!("{}{path}", agent.base)).await.unwrap();
    answer.headers()["x-consul-index"].to_str().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_agents_show_one_catalog_and_who_of_them_lives() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (Agent::with(of(&server, "one", IDS[0])).await, Agent::with(of(&server, "other", IDS[1])).await);
    let body = r#"{"Name":"web","ID":"web-1","Port":80}"#;
    let client = reqwest::Client::new();
    let put = client.put(format!("{}/v1/agent/service/register", one.base)).body(body).send().await.unwrap();
    assert_eq!(put.status(), 200);
    let web = json(format!("{}/v1/health/service/web?passing&consistent", other.base)).await;
    assert_eq!((&web[0]["Node"]["Node"], &web[0]["Service"]["ID"]), (&"one".into(), &"web-1".into()));
    for node in ["one", "other"] {
        assert_eq!((alive(&one, node).await, alive(&other, node).await), ("passing".into(), "passing".into()));
    }

    let taken = agent::start(of(&server, "one", IDS[1]), CancellationToken::new()).await;
    let why = taken.map(drop).map_err(|error| with_causes(&error)).unwrap_err();
    assert!(why.contains(&format!("reserved by node {} with name one", IDS[0])), "{why}");

    // The same host starts anew, at once.
    one.stop().await;
    let one = Agent::with(of(&server, "one", IDS[0])).await;
    assert_eq!(json(format!("{}/v1/agent/services", one.base)).await["web-1"]["Port"], 80, "it has its services again");

    // Life alone changes nothing that anybody could see.
    let index = async || get_index(&other, "/v1/health/state/any").await;
    let before = index().await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2 * LEASE) {
        assert_eq!(alive(&other, "one").await, "passing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(index().await, before);

    one.stop().await;
    let start = Instant::now();
    while alive(&other, "one").await != "critical" {
        assert!(start.elapsed() < Duration::from_secs(LEASE + 1), "it is not missed in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let web = json(format!("{}/v1/health/service/web?passing", other.base)).await;
    assert_eq!(web, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_reads_say_how_old_they_may_be() {
    let Some(mut server) = Server::start() else { return };
    let agent = Agent::with(of(&server, "one", IDS[0])).await;
    let client = reqwest::Client::new();
    let key = format!("{}/v1/kv/a", agent.base);
    assert_eq!(client.put(&key).body("1").send().await.unwrap().status(), 200);
    let get = async |url: &str| client.get(url).send().await.unwrap();
    assert_eq!(get(&key).await.headers()["x-consul-knownleader"], "true");
    server.stop();
    let refused = client.put(&key).body("2").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("etcd"));
    let start = Instant::now();
    let read = loop {
        let read = get(&key).await;
        assert_eq!(read.status(), 200);
        if read.headers()["x-consul-knownleader"] == "false" {
            break read;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "it does not notice");
    };
    assert!(read.headers()["x-consul-lastcontact"].to_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(get(&format!("{key}?consistent")).await.status(), 503);
}
