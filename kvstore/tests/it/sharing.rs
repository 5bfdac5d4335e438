//! Answers are shared between those who ask the same, and a wait ends only with a change that shows; from outside:
//! never with bytes of other rows, and never without a change that the client should have seen.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::Agent;

const STEPS: usize = 120;

/// Nobody waits as long as this in a test that passes.
const LONG: Duration = Duration::from_secs(20);

/// Every kind of answer that is shared.
const PATHS: &[&str] = &[
    "/v1/health/service/a?",
    "/v1/health/service/a?passing&",
    "/v1/health/service/b?tag=x&",
    "/v1/health/service/b?node-meta=rack:1&",
    "/v1/health/service/b?filter=Service.Port==1&",
    "/v1/health/service/never?",
    "/v1/health/checks/a?",
    "/v1/health/node/one?",
    "/v1/health/state/any?",
    "/v1/health/state/passing?node-meta=rack:1&",
    "/v1/catalog/nodes?",
    "/v1/catalog/services?",
    "/v1/catalog/services?node-meta=rack:1&",
    "/v1/catalog/services?filter=ServicePort==1&",
    "/v1/catalog/service/a?",
    "/v1/catalog/service/b?tag=x&",
    "/v1/catalog/node/one?",
    "/v1/catalog/node-services/two?",
    "/v1/internal/ui/nodes?",
    "/v1/kv/k?recurse&",
    "/v1/kv/k?keys&",
    "/v1/kv/k?keys&separator=/&",
    "/v1/kv/k/1?",
];

struct Answer {
    status: u16,
    index: u64,
    body: String,
}

async fn get(client: &Client, url: &str) -> Answer {
    let response = client.get(url).send().await.unwrap();
    let status = response.status().as_u16();
    let index = response.headers()["x-consul-index"].to_str().unwrap().parse().unwrap();
    Answer { status, index, body: response.text().await.unwrap() }
}

async fn send(client: &Client, method: Method, url: &str, body: &Value) {
    let response = client.request(method, url).body(body.to_string()).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{url}: {status} {text}");
}

/// An instance with a check, on a host.
fn instance(node: &str, service: &str, n: u32, port: u16, tag: &str, status: &str, output: &str) -> Value {
    let id = format!("{service}{n}");
    json!({"Node": node, "Address": "10.0.0.1", "NodeMeta": {"rack": n.to_string()},
        "Service": {"ID": id, "Service": service, "Port": port, "Tags": [tag]},
        "Check": {"CheckID": format!("{id}-c"), "ServiceID": id, "Status": status, "Output": output}})
}

async fn change(agent: &Agent, client: &Client, rng: &mut StdRng) {
    let (node, service, n) =
        (["one", "two"][rng.random_range(0..2)], ["a", "b"][rng.random_range(0..2)], rng.random_range(0..3));
    let (method, path, body) = match rng.random_range(0..8) {
        0..4 => {
            let (port, tag) = (rng.random_range(1..3), ["x", "y"][rng.random_range(0..2)]);
            let (status, output) = (["passing", "critical"][rng.random_range(0..2)], ["", "o"][rng.random_range(0..2)]);
            (Method::PUT, "/v1/catalog/register".to_owned(), instance(node, service, n, port, tag, status, output))
        }
        4 => {
            let body = json!({"Node": node, "ServiceID": format!("{service}{n}")});
            (Method::PUT, "/v1/catalog/deregister".to_owned(), body)
        }
        5 => (Method::PUT, "/v1/catalog/deregister".to_owned(), json!({"Node": node})),
        6 => (Method::PUT, format!("/v1/kv/k/{n}"), json!(rng.random_range(0..2))),
        _ => (Method::DELETE, format!("/v1/kv/k/{n}"), Value::Null),
    };
    send(client, method, &format!("{}{path}", agent.base), &body).await;
}

#[tokio::test]
async fn a_shared_answer_is_what_would_be_rendered_now() {
    let seed = rand::random();
    println!("seed {seed}");
    let (agent, client, mut rng) = (Agent::start("n").await, Client::new(), StdRng::seed_from_u64(seed));
    for step in 0..STEPS {
        change(&agent, &client, &mut rng).await;
        for path in PATHS {
            let shared = get(&client, &format!("{}{path}", agent.base)).await;
            // Nobody asked for this before, so it is rendered anew.
            let fresh = get(&client, &format!("{}{path}never-asked={step}", agent.base)).await;
            let (got, want) = ((shared.status, shared.index, shared.body), (fresh.status, fresh.index, fresh.body));
            assert_eq!(got, want, "step {step}, {path}");
        }
    }
}

#[tokio::test]
async fn a_wait_ends_whenever_what_it_shows_changes() {
    let seed = rand::random();
    println!("seed {seed}");
    let (agent, client, mut rng) = (Agent::start("n").await, Client::new(), StdRng::seed_from_u64(seed));
    let mut followed = Vec::new();
    for path in PATHS {
        let (client, url) = (client.clone(), format!("{}{path}", agent.base));
        let (told, seen) = tokio::sync::watch::channel(String::new());
        let task: JoinHandle<()> = tokio::spawn(async move {
            let mut index = 0;
            while !told.is_closed() {
                let answer = get(&client, &format!("{url}index={index}&wait=10m")).await;
                assert!(answer.index >= index, "{url}");
                index = answer.index;
                told.send_replace(answer.body);
            }
        });
        followed.push((path, seen, task));
    }
    for step in 0..STEPS {
        change(&agent, &client, &mut rng).await;
        for (path, seen, _) in &mut followed {
            let want = get(&client, &format!("{}{path}", agent.base)).await.body;
            let came = tokio::time::timeout(LONG, seen.wait_for(|body| same(path, body, &want))).await;
            assert!(came.is_ok(), "step {step}: who waits on {path} never gets {want}");
        }
    }
    agent.stop().await;
    for (_, seen, task) in followed {
        drop(seen);
        task.abort();
    }
}

/// Whether who waits on `path` need not be told of the second body after the first: what checks say ends no wait there
/// but on the checks of a host.
fn same(path: &str, seen: &str, now: &str) -> bool {
    let states = |body: &str| {
        let mut body: Value = serde_json::from_str(body).unwrap_or_default();
        silence(&mut body);
        body
    };
    let is_silent = path.starts_with("/v1/internal/") || path.starts_with("/v1/health/") && !path.contains("/node/");
    seen == now || is_silent && states(seen) == states(now)
}

/// Takes away what checks say, and when they said it.
fn silence(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(silence),
        Value::Object(fields) => {
            if fields.remove("Output").is_some() {
                fields.remove("ModifyIndex");
            }
            fields.values_mut().for_each(silence);
        }
        _ => {}
    }
}

/// A wait on `path` from its present index on.
async fn wait_on(agent: &Agent, client: &Client, path: &str, wait: &str) -> (Answer, JoinHandle<Answer>) {
    let now = get(client, &format!("{}{path}", agent.base)).await;
    let url = format!("{}{path}index={}&wait={wait}", agent.base, now.index);
    let client = client.clone();
    let waiting = tokio::spawn(async move { get(&client, &url).await });
    // Until it has its place; a change before that would be answered too.
    let metrics = format!("{}/v1/agent/metrics", agent.base);
    let start = Instant::now();
    loop {
        let shown: Value = serde_json::from_str(&client_text(&metrics).await).unwrap();
        let gauges = shown["Gauges"].as_array().unwrap();
        let blocking = gauges.iter().find(|g| g["Name"] == "consul.rpc.queries_blocking").unwrap();
        if blocking["Value"].as_f64().unwrap() > 0.0 {
            return (now, waiting);
        }
        assert!(start.elapsed() < LONG, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn client_text(url: &str) -> String {
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn register(agent: &Agent, client: &Client, instance: &Value) {
    send(client, Method::PUT, &format!("{}/v1/catalog/register", agent.base), instance).await;
}

#[tokio::test]
async fn a_change_that_does_not_show_ends_no_wait() {
    for (path, unseen, seen) in [
        (
            "/v1/health/service/a?passing&",
            instance("two", "a", 1, 2, "x", "critical", ""),
            instance("two", "a", 1, 2, "x", "passing", ""),
        ),
        (
            "/v1/health/service/a?tag=x&",
            instance("two", "a", 1, 1, "y", "passing", ""),
            instance("two", "a", 1, 1, "x", "passing", ""),
        ),
        (
            "/v1/health/service/a?filter=Service.Port==1&",
            instance("two", "a", 1, 2, "x", "passing", ""),
            instance("two", "a", 1, 1, "x", "passing", ""),
        ),
        (
            "/v1/catalog/services?",
            instance("two", "a", 1, 1, "x", "passing", ""),
            instance("two", "a", 1, 1, "z", "passing", ""),
        ),
        (
            "/v1/catalog/service/a?node-meta=rack:2&",
            instance("two", "a", 1, 1, "x", "passing", ""),
            instance("three", "a", 2, 1, "x", "passing", ""),
        ),
    ] {
        let (agent, client) = (Agent::start("n").await, Client::new());
        register(&agent, &client, &instance("one", "a", 0, 1, "x", "passing", "")).await;
        let (before, waiting) = wait_on(&agent, &client, path, "5m").await;
        register(&agent, &client, &unseen).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished(), "{path}");
        // Who comes with the older index is answered at once: the server does not know what he has.
        let again = get(&client, &format!("{}{path}index={}&wait=5m", agent.base, before.index)).await;
        assert!(again.index > before.index && again.body == before.body, "{path}");
        register(&agent, &client, &seen).await;
        let after = tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{path}")).unwrap();
        assert!(after.index > again.index && after.body != before.body, "{path}");
    }
}

#[tokio::test]
async fn a_wait_without_a_change_that_shows_ends_with_its_time_and_the_newest_index() {
    let (agent, client) = (Agent::start("n").await, Client::new());
    register(&agent, &client, &instance("one", "a", 0, 1, "x", "passing", "")).await;
    let (before, waiting) = wait_on(&agent, &client, "/v1/health/service/a?passing&", "2s").await;
    let start = Instant::now();
    register(&agent, &client, &instance("two", "a", 1, 1, "x", "critical", "")).await;
    let after = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(after.index > before.index && after.body == before.body);
}
