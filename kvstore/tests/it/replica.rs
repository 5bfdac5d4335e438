//! A replica and its hub: what one has the other shows, whatever becomes of either.

mod secured;
mod watched;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use kvstore::{
    config::{self, HttpAddr},
    http::{Acl, AgentTokens, digest},
    server, snapshot,
};
use kvstore_client::{Client, ClientConfig, KvPut, Wait, types};
use kvstore_core::acl::DefaultPolicy;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    common::{Agent, settings},
    dns,
};

const LIMIT: Duration = Duration::from_secs(20);

const MANAGEMENT: &str = "11111111-2222-4333-8444-555555555555";

/// The settings of a replica of those that answer there.
pub(crate) fn replica_of(hubs: &[&str]) -> config::Agent {
    let addresses = hubs.iter().map(|hub| (*hub).to_owned()).collect();
    let hub = ClientConfig { addresses, ..ClientConfig::default() };
    config::Agent { replica_of: Some(hub), node_meta: BTreeMap::new(), ..settings("edge") }
}

/// The same settings with what is kept in `dir`.
fn kept_in(dir: &Path, settings: config::Agent) -> config::Agent {
    config::Agent { engine: config::Engine::Embedded { data_dir: dir.to_owned() }, ..settings }
}

/// The same settings at the address that another agent had.
pub(crate) fn at(base: &str, settings: config::Agent) -> config::Agent {
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    config::Agent { http: vec![HttpAddr::Tcp(address)], ..settings }
}

/// The same settings at a host of this test's own, so that nobody else takes the port of an agent that is to come back.
pub(crate) fn apart(host: u8, settings: config::Agent) -> config::Agent {
    config::Agent { http: vec![HttpAddr::Tcp(([127, 0, 77, host], 0).into())], ..settings }
}

pub(crate) fn client(agent: &Agent) -> Client {
    with_token(&agent.base, None)
}

fn with_token(base: &str, token: Option<&str>) -> Client {
    let token = token.map(ToOwned::to_owned);
    Client::new(&ClientConfig { addresses: vec![base.into()], token, ..ClientConfig::default() }).unwrap()
}

pub(crate) async fn put(client: &Client, key: &str, value: &str) {
    assert!(client.kv_put(key, value.to_owned(), KvPut::default()).await.unwrap(), "{key}");
}

pub(crate) async fn value(client: &Client, key: &str) -> Option<String> {
    let entry = client.kv_get(key, None).await.unwrap().value?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn get(agent: &Agent, path: &str) -> Response {
    reqwest::get(format!("{}{path}", agent.base)).await.unwrap()
}

async fn ask(base: &str, method: Method, path: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = reqwest::Client::new().request(method, format!("{base}{path}")).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Whether the agent says that it hears of its hub.
pub(crate) async fn has_contact(agent: &Agent) -> bool {
    header(&get(agent, "/v1/catalog/nodes").await, "x-consul-knownleader") == "true"
}

/// Every row of an agent with its indexes, as a snapshot has it, and the index of all.
pub(crate) async fn everything(agent: &Agent, token: Option<&str>) -> (u64, BTreeMap<String, Vec<u8>>) {
    let mut download = with_token(&agent.base, token).snapshot_save().await.unwrap();
    let mut archive = Vec::new();
    while let Some(piece) = download.next().await.unwrap() {
        archive.extend_from_slice(&piece);
    }
    let (meta, rows) = snapshot::read(&archive[..], 1 << 30).unwrap();
    let encoded = rows.into_iter().map(|row| (row.value.key().encode(), row.value.encode(row.created, row.modified)));
    (meta.index, encoded.collect())
}

/// How many wait for a change.
async fn waiting(agent: &Agent) -> f64 {
    let shown = get(agent, "/v1/agent/metrics?format=prometheus").await.text().await.unwrap();
    let gauge = shown.lines().find_map(|line| line.strip_prefix("consul_rpc_queries_blocking "));
    gauge.unwrap().parse().unwrap()
}

pub(crate) async fn web_of(agent: &Agent) -> String {
    dns::shown(&dns::ask(agent, "web.service.consul.", RecordType::A).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_through_a_replica_reads_it_there_at_once() {
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let (at_hub, at_edge) = (client(&hub), client(&edge));
    for n in 0..50 {
        put(&at_edge, "a", &n.to_string()).await;
        assert_eq!(value(&at_edge, "a").await, Some(n.to_string()));
    }
    let (there, here) = (at_hub.kv_get("a", None).await.unwrap(), at_edge.kv_get("a", None).await.unwrap());
    assert_eq!(there, here, "value and indexes are the hub's");
    let entry = here.value.unwrap();
    let cas = |index| KvPut { cas: Some(index), ..KvPut::default() };
    assert!(!at_edge.kv_put("a", "no", cas(entry.modify_index - 1)).await.unwrap());
    assert!(at_edge.kv_put("a", "yes", cas(entry.modify_index)).await.unwrap());

    // Locks.
    let session = at_edge.session_create(&types::SessionRequest::default()).await.unwrap();
    assert!(at_edge.kv_acquire("lock", "edge", 0, &session).await.unwrap());
    let other = at_hub.session_create(&types::SessionRequest::default()).await.unwrap();
    assert!(!at_hub.kv_acquire("lock", "hub", 0, &other).await.unwrap());
    assert_eq!(at_edge.kv_get("lock", None).await.unwrap().value.unwrap().session, session);
    assert!(at_edge.kv_release("lock", "free", 0, &session).await.unwrap());
    assert!(at_edge.kv_acquire("lock", "other", 0, &other).await.unwrap());

    // Transactions, also those that only read, and deletions.
    let steps = json!([{"KV": {"Verb": "set", "Key": "t", "Value": "dA=="}}, {"KV": {"Verb": "get", "Key": "a"}}]);
    let (status, told) = ask(&edge.base, Method::PUT, "/v1/txn", &steps).await;
    assert!(status == 200 && told.contains(r#""Key":"a""#), "{status} {told}");
    assert_eq!(value(&at_edge, "t").await.as_deref(), Some("t"));
    at_edge.kv_delete("t", false, None).await.unwrap();
    assert_eq!(value(&at_edge, "t").await, None);

    // The catalog, by which a registrar registers, and the agent of the hub.
    let web = json!({"Node": "h1", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}});
    assert_eq!(ask(&edge.base, Method::PUT, "/v1/catalog/register", &web).await.0, 200);
    assert_eq!(web_of(&edge).await, "10.0.0.1");
    let api = json!({"Name": "api", "Port": 81});
    assert_eq!(ask(&edge.base, Method::PUT, "/v1/agent/service/register", &api).await.0, 200);
    let of_agent = at_edge.agent_services().await.unwrap();
    assert_eq!(of_agent, at_hub.agent_services().await.unwrap());
    assert_eq!(of_agent["api"].port, 81);
    assert_eq!(at_edge.catalog_service("api", None).await.unwrap().value[0].node, "hub");

    // What its hub refuses, it refuses alike.
    for path in ["/v1/agent/check/pass/none", "/v1/kv/k?acquire=none", "/v1/session/renew/none"] {
        let refused = ask(&edge.base, Method::PUT, path, &Value::Null).await;
        assert_eq!(refused, ask(&hub.base, Method::PUT, path, &Value::Null).await, "{path}");
        assert!(refused.0 >= 400, "{path}");
    }
    assert_eq!(everything(&edge, None).await, everything(&hub, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_says_what_it_is() {
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let facts = client(&edge).agent_self().await.unwrap();
    assert_eq!((&facts["Config"]["Server"], &facts["Config"]["NodeName"]), (&json!(false), &json!("edge")));
    let replica = &facts["Stats"]["replica"];
    assert_eq!((&replica["of"], &replica["contact"]), (&json!(hub.base), &json!("true")));
    assert_eq!(facts["Stats"]["raft"]["state"], "Follower");
    assert_eq!(client(&edge).leader().await.unwrap(), client(&hub).leader().await.unwrap());
    let members = client(&edge).members(false, None).await.unwrap();
    assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["hub"]);
    let metrics = get(&edge, "/v1/agent/metrics?format=prometheus").await.text().await.unwrap();
    assert!(metrics.contains("kvstore_silence_seconds 0"), "{metrics}");
    // Neither a node of its own nor a check that nobody runs comes of it.
    let nodes = client(&hub).catalog_nodes(None).await.unwrap().value;
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["hub"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_a_replica_is_woken_by_a_write_at_the_hub() {
    const ROUNDS: u32 = 100;
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let (at_hub, at_edge) = (client(&hub), client(&edge));
    put(&at_hub, "a", "").await;
    let (mut told, mut woken) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let index = at_hub.kv_get("a", None).await.unwrap().index;
        let wait = Wait { index, wait: Duration::from_mins(1) };
        let (before, watcher) = (waiting(&edge).await, at_edge.clone());
        let waited = tokio::spawn(async move { (watcher.kv_get("a", Some(wait)).await.unwrap(), Instant::now()) });
        eventually("the wait begins", async || waiting(&edge).await > before).await;
        let sent = Instant::now();
        put(&at_hub, "a", &round.to_string()).await;
        told.push(sent.elapsed());
        let (read, at) = waited.await.unwrap();
        assert_eq!(read.value.unwrap().value, round.to_string());
        woken.push(at - sent);
    }
    told.sort();
    woken.sort();
    let (half, last) = (woken.len() / 2, woken.len() - 1);
    println!(
        "replica: a write sent to the hub wakes a reader at the replica after {:?} (median), {:?} (most); its writer is \
         answered after {:?} (median)",
        woken[half], woken[last], told[half]
    );
    assert!(woken[half] < Duration::from_millis(250), "{woken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_from_its_last_state_while_the_hub_is_away_also_after_a_restart() {
    let (hub_dir, edge_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = Agent::with(apart(1, kept_in(hub_dir.path(), settings("hub")))).await;
    let (base, of_hub) = (hub.base.clone(), || replica_of(&[&hub.base]));
    let edge_settings = kept_in(edge_dir.path(), of_hub());
    let edge = Agent::with(edge_settings.clone()).await;
    let at_edge = client(&edge);
    put(&at_edge, "a", "1").await;
    let web = json!({"Node": "h1", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}});
    assert_eq!(ask(&edge.base, Method::PUT, "/v1/catalog/register", &web).await.0, 200);
    let before = everything(&edge, None).await;
    let index = before.0;

    hub.stop().await;
    eventually("it notices", async || !has_contact(&edge).await).await;
    let read = get(&edge, "/v1/kv/a?raw").await;
    assert_eq!((header(&read, "x-consul-knownleader").as_str(), read.status().as_u16()), ("false", 200));
    assert!(header(&read, "x-consul-lastcontact").parse::<u64>().is_ok_and(|ms| ms < 60_000));
    assert_eq!(web_of(&edge).await, "10.0.0.1");
    // Writes, and what must be new, are refused soon, and clearly.
    let start = Instant::now();
    for (method, path) in [(Method::PUT, "/v1/kv/a"), (Method::GET, "/v1/kv/a?consistent"), (Method::PUT, "/v1/txn")] {
        let (status, why) = ask(&edge.base, method.clone(), path, &json!([])).await;
        assert!(
            status == 503 && why.contains("the hub is away") && why.contains(&base),
            "{method} {path}: {status} {why}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Who waits waits here.
    let wait = Wait { index, wait: Duration::from_millis(200) };
    assert_eq!(at_edge.kv_get("a", Some(wait)).await.unwrap().value.unwrap().value, "1");

    edge.stop().await;
    let edge = Agent::with(edge_settings).await;
    assert_eq!(everything(&edge, None).await, before, "the same rows at the same index");
    assert_eq!(web_of(&edge).await, "10.0.0.1");
    assert!(!has_contact(&edge).await);

    let hub = Agent::with(at(&base, kept_in(hub_dir.path(), settings("hub")))).await;
    put(&client(&hub), "a", "2").await;
    let at_edge = client(&edge);
    let took =
        eventually("it has what came meanwhile", async || value(&at_edge, "a").await.as_deref() == Some("2")).await;
    println!("replica: caught up {took:?} after its hub was back");
    put(&at_edge, "a", "3").await;
    assert_eq!(everything(&edge, None).await, everything(&hub, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_life_is_noticed_and_readers_are_told() {
    let (old_dir, new_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Made first, so that its indexes are lower.
    let other = Agent::with(kept_in(old_dir.path(), settings("hub"))).await;
    put(&client(&other), "a", "other").await;
    let web = |address: &str| json!({"Node": "h1", "Address": address, "Service": {"Service": "web", "Port": 80}});
    assert_eq!(ask(&other.base, Method::PUT, "/v1/catalog/register", &web("10.0.0.2")).await.0, 200);
    let lower = everything(&other, None).await.0;
    other.stop().await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let hub = Agent::with(apart(2, kept_in(new_dir.path(), settings("hub")))).await;
    let base = hub.base.clone();
    let edge = Agent::with(replica_of(&[&base])).await;
    let at_edge = client(&edge);
    put(&at_edge, "a", "1").await;
    assert_eq!(ask(&edge.base, Method::PUT, "/v1/catalog/register", &web("10.0.0.1")).await.0, 200);
    let read = at_edge.kv_get("a", None).await.unwrap();
    assert!(read.index > lower, "{} {lower}", read.index);
    assert_eq!(web_of(&edge).await, "10.0.0.1");
    let (before, watcher, index) = (waiting(&edge).await, at_edge.clone(), read.index);
    let waited = tokio::spawn(async move {
        let wait = Wait { index, wait: Duration::from_mins(1) };
        watcher.kv_get("a", Some(wait)).await.unwrap()
    });
    eventually("the wait begins", async || waiting(&edge).await > before).await;

    hub.stop().await;
    let hub = Agent::with(at(&base, kept_in(old_dir.path(), settings("hub")))).await;
    let read = waited.await.unwrap();
    assert_eq!(read.value.unwrap().value, "other");
    assert!(read.index < index, "the index goes back, by which clients know");
    assert_eq!(web_of(&edge).await, "10.0.0.2", "no reply of the life before is given again");
    assert_eq!(everything(&edge, None).await, everything(&hub, None).await);
    put(&at_edge, "a", "goes on").await;
    assert_eq!(value(&at_edge, "a").await.as_deref(), Some("goes on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_for_long_fetches_everything() {
    let edge_dir = tempfile::tempdir().unwrap();
    let hub = Agent::start("hub").await;
    let at_hub = client(&hub);
    put(&at_hub, "gone", "soon").await;
    let edge = Agent::with(kept_in(edge_dir.path(), replica_of(&[&hub.base]))).await;
    edge.stop().await;
    at_hub.kv_delete("gone", false, None).await.unwrap();
    let large = "x".repeat(400_000);
    for n in 0..20 {
        put(&at_hub, &format!("large/{n}"), &large).await;
    }
    let edge = Agent::with(kept_in(edge_dir.path(), replica_of(&[&hub.base]))).await;
    eventually("it has everything", async || everything(&edge, None).await == everything(&hub, None).await).await;
    assert_eq!(value(&client(&edge), "gone").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_hub_cannot_be_followed_the_next_is() {
    let hub = Agent::start("hub").await;
    let middle = Agent::with(replica_of(&[&hub.base])).await;
    let edge = Agent::with(replica_of(&[&middle.base, &hub.base])).await;
    let at_edge = client(&edge);
    // Through a chain.
    put(&at_edge, "a", "by two").await;
    assert_eq!(value(&at_edge, "a").await.as_deref(), Some("by two"));
    assert_eq!(everything(&edge, None).await, everything(&hub, None).await);
    middle.stop().await;
    eventually("it follows the hub itself", async || {
        at_edge.kv_put("a", "by one", KvPut::default()).await.is_ok_and(|done| done)
    })
    .await;
    assert_eq!(value(&at_edge, "a").await.as_deref(), Some("by one"));
    assert_eq!(client(&edge).agent_self().await.unwrap()["Stats"]["replica"]["follows"], hub.base);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_each_other_know_that_they_have_no_hub() {
    let hub = Agent::start("hub").await;
    let base = hub.base.clone();
    let (one_dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Agent::with(apart(3, kept_in(one_dir.path(), replica_of(&[&base])))).await;
    let other = Agent::with(kept_in(other_dir.path(), replica_of(&[&base, &first.base]))).await;
    put(&client(&other), "a", "1").await;
    let one_base = first.base.clone();
    first.stop().await;
    let one = Agent::with(at(&one_base, kept_in(one_dir.path(), replica_of(&[&base, &other.base])))).await;
    eventually("both follow", async || has_contact(&one).await && has_contact(&other).await).await;

    hub.stop().await;
    eventually("neither believes the other", async || !has_contact(&one).await && !has_contact(&other).await).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!has_contact(&one).await && !has_contact(&other).await, "they have found a hub in each other");
    }
    for agent in [&one, &other] {
        assert_eq!(value(&client(agent), "a").await.as_deref(), Some("1"));
        assert_eq!(ask(&agent.base, Method::PUT, "/v1/kv/a", &json!(2)).await.0, 503);
    }
}

#[tokio::test]
async fn what_goes_round_is_refused() {
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let many = (1..=8).map(|n| format!("{n:016x}")).collect::<Vec<_>>().join(",");
    let request = reqwest::Client::new().put(format!("{}/v1/kv/a", edge.base)).header("X-Flotilla-Via", many);
    let refused = request.send().await.unwrap();
    assert_eq!(refused.status(), 508);
    assert!(refused.text().await.unwrap().contains("in a circle"));
    // Such paths would be others once they are passed on.
    for path in ["/v1/kv/a%2F..%2Fb", "/v1/kv/a//b", "/v1/kv/%E4%B8%AD%20x?flags=7"] {
        let there = ask(&edge.base, Method::PUT, path, &json!(path)).await;
        assert_eq!(there, (200, "true".into()), "{path}");
        let [here, hubs] = [&edge, &hub].map(|agent| async move { get(agent, path).await.text().await.unwrap() });
        assert_eq!(here.await, hubs.await, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_hub_is_not_followed() {
    let edge_dir = tempfile::tempdir().unwrap();
    let hub = Agent::with(apart(4, settings("hub"))).await;
    let base = hub.base.clone();
    put(&client(&hub), "a", "1").await;
    let edge = Agent::with(kept_in(edge_dir.path(), replica_of(&[&base]))).await;
    hub.stop().await;
    // In its place there is somebody who knows nothing of changes, or does not tell them to anybody.
    let strict = config::Agent { strict_consul: true, ..settings("hub") };
    let mut guarded = settings("hub");
    guarded.guard.access.acl = Some(Acl { default_policy: DefaultPolicy::Deny, tokens: AgentTokens::default() });
    for (other, why) in [(strict, "404"), (guarded, "403")] {
        let other = Agent::with(at(&base, other)).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!has_contact(&edge).await);
        let (status, told) = ask(&edge.base, Method::PUT, "/v1/kv/a", &Value::Null).await;
        assert!(status == 503 && told.contains(why), "{status} {told}");
        assert_eq!(value(&client(&edge), "a").await.as_deref(), Some("1"), "it keeps what it had");
        other.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_place_of_changes_changes_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let edge_dir = tempfile::tempdir().unwrap();
    let hub = Agent::with(apart(5, settings("hub"))).await;
    let base = hub.base.clone();
    put(&client(&hub), "a", "1").await;
    let edge = Agent::with(kept_in(edge_dir.path(), replica_of(&[&base]))).await;
    let before = everything(&edge, None).await;
    hub.stop().await;
    let listener = tokio::net::TcpListener::bind(base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = r#"{"flotilla-changes":1,"life":"0000000000000007","index":9000000000000000,"path":[],"guarded":false}"#;
    let answers = [
        "<html>".to_owned(),
        r#"{"flotilla-changes":99}"#.to_owned(),
        format!("{head}\n{}\n", r#"{"index":8000000000000000,"steps":[{"delete":"k/a"}]}"#),
        format!("{head}\n{}\n", r#"{"index":8000000000000000,"steps":[{"delete":"#),
    ];
    for answer in answers.iter().cycle().take(8) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len());
        let _ = stream.write_all(text.as_bytes()).await;
        assert!(!has_contact(&edge).await);
    }
    assert_eq!(everything(&edge, None).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_policies_count_at_a_replica_as_at_its_hub() {
    let guarded = |mut settings: config::Agent| {
        settings.guard.access.acl = Some(Acl { default_policy: DefaultPolicy::Deny, tokens: AgentTokens::default() });
        settings
    };
    let hub_settings = config::Agent { acl_management: Some(digest(MANAGEMENT)), ..guarded(settings("hub")) };
    let hub = Agent::with(hub_settings).await;
    let follow = |token: Option<&str>| {
        let mut settings = replica_of(&[&hub.base]);
        settings.replica_of = settings.replica_of.map(|hub| ClientConfig { token: token.map(Into::into), ..hub });
        settings
    };
    // One that would show everything to everybody, and one that may not see everything, never begin.
    for settings in [follow(Some(MANAGEMENT)), guarded(follow(None))] {
        let stop = CancellationToken::new();
        let started = tokio::time::timeout(Duration::from_secs(1), server::start(settings, stop.clone())).await;
        stop.cancel();
        assert!(started.is_err(), "it shows something");
    }
    let edge = Agent::with(guarded(follow(Some(MANAGEMENT)))).await;
    let root = with_token(&edge.base, Some(MANAGEMENT));
    put(&root, "a/1", "shown").await;
    put(&root, "b/1", "hidden").await;
    let rules = r#"key_prefix "a/" { policy = "write" }"#;
    let policy = types::AclPolicy { name: "a".into(), rules: Some(rules.into()), ..types::AclPolicy::default() };
    root.acl_policy_create(&policy).await.unwrap();
    let policies = vec![types::AclLink { name: "a".into(), ..types::AclLink::default() }];
    let token = root.acl_token_create(&types::AclToken { policies, ..types::AclToken::default() }).await.unwrap();
    let some = with_token(&edge.base, Some(&token.secret_id));
    let keys = async |client: &Client| client.kv_keys("", None).await.map(|keys| keys.value);
    assert_eq!(keys(&some).await.unwrap(), ["a/1"], "it counts as soon as it is made");
    put(&some, "a/2", "2").await;
    let denied = some.kv_put("b/2", "", KvPut::default()).await.unwrap_err();
    assert_eq!(denied.status(), Some(403));
    let changes = get(&edge, "/v1/internal/flotilla/changes").await;
    assert_eq!(changes.status(), 403, "changes tell everything");
    assert_eq!(everything(&edge, Some(MANAGEMENT)).await, everything(&hub, Some(MANAGEMENT)).await);

    hub.stop().await;
    eventually("it notices", async || some.kv_put("a/3", "", KvPut::default()).await.is_err()).await;
    assert_eq!(keys(&some).await.unwrap(), ["a/1", "a/2"]);
    assert_eq!(keys(&with_token(&edge.base, None)).await.unwrap_or_default(), [""; 0]);
    let unknown = with_token(&edge.base, Some("00000000-0000-4000-8000-000000000000"));
    assert_eq!(keys(&unknown).await.unwrap_err().status(), Some(403));
}

/// Random requests to one or the other; then both have the same, and the hub never had anything else.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_of_either_both_have_the_same() {
    let new = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| u64::from(now.subsec_nanos()));
    let seed = std::env::var("SEED").map_or(new, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let mut sessions = vec!["none".to_owned()];
    for _ in 0..300 {
        let asked = [&hub, &edge][rng.random_range(0..2)];
        let (key, node) = (["a", "a/b", "c"][rng.random_range(0..3)], ["h1", "h2"][rng.random_range(0..2)]);
        let session = &sessions[rng.random_range(0..sessions.len())];
        let status = ["passing", "critical"][rng.random_range(0..2)];
        let registration = json!({"Node": node, "Address": format!("10.0.0.{}", rng.random_range(1..9)),
            "Service": {"Service": "web", "Port": rng.random_range(1..9)},
            "Checks": [{"Name": "c", "Status": status}]});
        let (method, path, body) = match rng.random_range(0..9) {
            0 | 1 => (Method::PUT, format!("/v1/kv/{key}"), json!(rng.random_range(0..9))),
            2 => (Method::DELETE, format!("/v1/kv/{key}?recurse"), Value::Null),
            3 => (Method::PUT, "/v1/catalog/register".into(), registration),
            4 => (Method::PUT, "/v1/catalog/deregister".into(), json!({"Node": node})),
            5 => (Method::PUT, "/v1/session/create".into(), json!({"LockDelay": "0s"})),
            6 => (Method::PUT, format!("/v1/kv/{key}?acquire={session}"), json!("held")),
            7 => (Method::PUT, format!("/v1/session/destroy/{session}"), Value::Null),
            _ => (
                Method::PUT,
                "/v1/txn".into(),
                json!([{"KV": {"Verb": "set", "Key": key, "Value": "eA=="}},
                {"KV": {"Verb": "delete", "Key": "c"}}]),
            ),
        };
        let (status, told) = ask(&asked.base, method.clone(), &path, &body).await;
        assert_ne!(status, 503, "{method} {path}: {told}");
        if path == "/v1/session/create" {
            let made: Value = serde_json::from_str(&told).unwrap();
            sessions.push(made["ID"].as_str().unwrap().to_owned());
        }
    }
    eventually("both have the same", async || everything(&edge, None).await == everything(&hub, None).await).await;
}
