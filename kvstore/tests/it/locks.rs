//! Sessions, locks, keys that end and transactions, as clients use them.

use std::time::{Duration, Instant};

use kvstore_client::{Client, ClientConfig, GoDuration, KvPut, Wait, types};
use serde_json::{Value, json};

use crate::common::{Agent, settings};

/// An agent that takes sessions as short as a test.
async fn agent() -> (Agent, Client) {
    let agent =
        Agent::with(kvstore::config::Agent { session_ttl_min: Duration::from_millis(100), ..settings("here") }).await;
    let client = client(&agent);
    (agent, client)
}

fn client(agent: &Agent) -> Client {
    Client::new(&ClientConfig { addresses: vec![agent.base.clone()], ..ClientConfig::default() }).unwrap()
}

fn session(lock_delay: u64) -> types::SessionRequest {
    let lock_delay = Some(GoDuration(Duration::from_millis(lock_delay)));
    types::SessionRequest { lock_delay, ..types::SessionRequest::default() }
}

fn short(ttl: u64) -> types::SessionRequest {
    types::SessionRequest { ttl: Some(GoDuration(Duration::from_millis(ttl))), ..session(0) }
}

async fn put_json(agent: &Agent, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().put(format!("{}{path}", agent.base)).body(body.to_string());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn of_two_one_has_the_lock_and_the_other_gets_it_after_the_delay() {
    let (_agent, client) = agent().await;
    let (one, other) = (session(400), session(0));
    let (one, other) = (client.session_create(&one).await.unwrap(), client.session_create(&other).await.unwrap());
    assert!(client.kv_acquire("lock", "one", 7, &one).await.unwrap());
    assert!(!client.kv_acquire("lock", "other", 0, &other).await.unwrap());
    let held = client.kv_get("lock", None).await.unwrap().value.unwrap();
    assert_eq!((held.session.as_str(), held.lock_index, held.flags, &held.value[..]), (&*one, 1, 7, &b"one"[..]));

    let torn = Instant::now();
    client.session_destroy(&one).await.unwrap();
    let free = client.kv_get("lock", None).await.unwrap().value.unwrap();
    assert_eq!((free.session.as_str(), free.lock_index), ("", 1));
    assert!(!client.kv_acquire("lock", "other", 0, &other).await.unwrap(), "so soon after the holder was cut off");
    while !client.kv_acquire("lock", "other", 0, &other).await.unwrap() {
        assert!(torn.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(torn.elapsed() >= Duration::from_millis(400));
    let held = client.kv_get("lock", None).await.unwrap().value.unwrap();
    assert_eq!((held.session.as_str(), held.lock_index), (&*other, 2));
    assert!(client.kv_release("lock", "free", 0, &other).await.unwrap());
}

#[tokio::test]
async fn a_session_that_nobody_renews_ends_soon_after_its_ttl() {
    let (_agent, client) = agent().await;
    let kept = client.session_create(&short(1000)).await.unwrap();
    let left = client.session_create(&short(1000)).await.unwrap();
    assert!(client.kv_acquire("a", "", 0, &left).await.unwrap());
    let index = client.kv_get("a", None).await.unwrap().index;
    let (began, renewing) = (Instant::now(), client.clone());
    let kept_alive = tokio::spawn({
        let kept = kept.clone();
        async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert!(renewing.session_renew(&kept).await.unwrap().is_some());
            }
        }
    });
    let wait = Wait { index, wait: Duration::from_secs(10) };
    let freed = client.kv_get("a", Some(wait)).await.unwrap().value.unwrap();
    let lived = began.elapsed();
    assert_eq!(freed.session, "");
    // Consul lets it live for twice its TTL.
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&lived), "{lived:?}");
    assert_eq!(client.session_renew(&left).await.unwrap(), None);
    kept_alive.await.unwrap();
    assert!(client.session_info(&kept, None).await.unwrap().value.is_some(), "renewed in time, it lives");
}

#[tokio::test]
async fn who_waits_for_a_session_is_woken_by_its_end_and_no_others() {
    let (_agent, client) = agent().await;
    let mine = client.session_create(&session(0)).await.unwrap();
    let other = client.session_create(&session(0)).await.unwrap();
    let index = client.session_info(&mine, None).await.unwrap().index;
    let wait = Wait { index, wait: Duration::from_secs(10) };
    let waiting = tokio::spawn({
        let (client, mine) = (client.clone(), mine.clone());
        async move { client.session_info(&mine, Some(wait)).await.unwrap().value }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.session_destroy(&other).await.unwrap();
    client.session_create(&session(0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    client.session_destroy(&mine).await.unwrap();
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn a_session_ends_with_the_check_it_depends_on() {
    let (_agent, client) = agent().await;
    let check = types::CheckRegistration {
        id: "alive".into(),
        name: "alive".into(),
        status: Some("passing".into()),
        ..types::CheckRegistration::ttl(Duration::from_mins(1))
    };
    client.register_check(&check).await.unwrap();
    let bound = types::SessionRequest {
        node_checks: Some(vec!["serfHealth".into(), "alive".into()]),
        behavior: "delete".into(),
        ..session(0)
    };
    let id = client.session_create(&bound).await.unwrap();
    assert!(client.kv_acquire("leader", "me", 0, &id).await.unwrap());
    let shown = client.session_node("HERE", None).await.unwrap().value;
    assert_eq!((shown.len(), &*shown[0].node, &shown[0].node_checks.len()), (1, "here", &2));
    let update = |status: &str| types::CheckUpdate { status: status.into(), output: String::new() };
    client.update_check("alive", &update("warning")).await.unwrap();
    assert!(client.session_info(&id, None).await.unwrap().value.is_some(), "a warning ends nothing");
    client.update_check("alive", &update("critical")).await.unwrap();
    assert_eq!(client.session_info(&id, None).await.unwrap().value, None);
    assert_eq!(client.kv_get("leader", None).await.unwrap().value, None, "its keys go with it");
    let refused = client.session_create(&bound).await.unwrap_err().to_string();
    assert!(refused.contains("Check 'alive' is in critical state"), "{refused}");
}

#[tokio::test]
async fn a_key_with_a_ttl_ends_unless_it_is_put_again() {
    let (agent, client) = agent().await;
    let put = |key: &'static str, ttl: &'static str| {
        let url = format!("{}/v1/kv/{key}?ttl={ttl}", agent.base);
        async move { reqwest::Client::new().put(url).body("x").send().await.unwrap().status().as_u16() }
    };
    for bad in ["0s", "-1s", "soon", "999ms", ""] {
        assert_eq!(put("a", bad).await, 400, "{bad}");
    }
    assert_eq!((put("short", "1s").await, put("renewed", "1s").await, put("freed", "1s").await), (200, 200, 200));
    assert!(client.kv_put("freed", "x", KvPut::default()).await.unwrap());
    let before = client.kv_get("renewed", None).await.unwrap().value.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(put("renewed", "1s").await, 200);
    }
    assert_eq!(client.kv_get("short", None).await.unwrap().value, None);
    let renewed = client.kv_get("renewed", None).await.unwrap().value.unwrap();
    assert_eq!(renewed.modify_index, before.modify_index, "a renewal changes nothing and wakes nobody");
    assert!(client.kv_get("freed", None).await.unwrap().value.is_some(), "put without a TTL since");
    assert_eq!(put("a", "30s&acquire=x").await, 400);
}

#[tokio::test]
async fn a_transaction_is_made_whole_or_not_at_all() {
    let (agent, client) = agent().await;
    let id = client.session_create(&session(0)).await.unwrap();
    let steps = json!([
        {"KV": {"Verb": "lock", "Key": "lock", "Value": "bWU=", "Session": id}},
        {"KV": {"Verb": "set", "Key": "a", "Value": "MQ==", "Flags": u64::MAX}},
        {"KV": {"Verb": "get", "Key": "a"}},
        {"KV": {"Verb": "get-or-empty", "Key": "none"}},
        {"Node": {"Verb": "set", "Node": {"Node": "there", "Address": "10.0.0.2", "Bogus": 1}}},
        {"service": {"verb": "set", "node": "there", "service": {"Service": "db", "Port": 5432, "Tags": ["x"]}}},
    ]);
    let (status, body) = put_json(&agent, "/v1/txn", steps).await;
    assert_eq!((status, &body["Errors"]), (200, &Value::Null), "{body}");
    let results = body["Results"].as_array().unwrap();
    assert_eq!(results.len(), 6);
    assert_eq!(results[0]["KV"]["Session"], id.as_str());
    assert_eq!((&results[1]["KV"]["Value"], &results[2]["KV"]["Value"]), (&Value::Null, &json!("MQ==")));
    assert_eq!(results[2]["KV"]["Flags"], u64::MAX);
    assert_eq!(results[3]["KV"]["ModifyIndex"], 0);
    let stored = client.kv_get("a", None).await.unwrap().value.unwrap();
    assert_eq!(results[1]["KV"]["ModifyIndex"], stored.modify_index);
    assert_eq!(client.catalog_service("db", None).await.unwrap().value[0].service_port, 5432);

    let steps = json!([
        {"KV": {"Verb": "set", "Key": "b", "Value": "MQ=="}},
        {"KV": {"Verb": "cas", "Key": "a", "Value": "Mg==", "Index": 1}},
        {"KV": {"Verb": "unlock", "Key": "a", "Session": id}},
    ]);
    let (status, body) = put_json(&agent, "/v1/txn", steps).await;
    let failed: Vec<_> = body["Errors"].as_array().unwrap().iter().map(|error| error["OpIndex"].clone()).collect();
    assert_eq!((status, failed), (409, vec![json!(1), json!(2)]), "{body}");
    assert_eq!(client.kv_get("b", None).await.unwrap().value, None);

    for (body, expected) in [(json!([{}]), 400), (json!({}), 400), (json!([{"KV": {"Verb": 1}}]), 400)] {
        assert_eq!(put_json(&agent, "/v1/txn", body.clone()).await.0, expected, "{body}");
    }
    let large = json!([{"KV": {"Verb": "set", "Key": "c", "Value": "x".repeat(600_000)}}]);
    assert_eq!(put_json(&agent, "/v1/txn", large).await.0, 413);
}

#[tokio::test]
async fn locks_and_what_ends_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || kvstore::config::Agent {
        engine: kvstore::config::Engine::Embedded { data_dir: dir.path().into() },
        session_ttl_min: Duration::from_millis(100),
        ..settings("here")
    };
    let agent = Agent::with(settings()).await;
    let first = client(&agent);
    let id = first.session_create(&short(1500)).await.unwrap();
    assert!(first.kv_acquire("lock", "", 0, &id).await.unwrap());
    agent.stop().await;

    let agent = Agent::with(settings()).await;
    let client = client(&agent);
    let held = client.kv_get("lock", None).await.unwrap();
    assert_eq!(held.value.unwrap().session, id, "nobody could renew it while the registry was away");
    let wait = Wait { index: held.index, wait: Duration::from_secs(10) };
    assert_eq!(client.kv_get("lock", Some(wait)).await.unwrap().value.unwrap().session, "");
}
