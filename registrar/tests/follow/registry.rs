//! The real registry, taking nothing that Consul does not have, behind a door at which every write is seen and, if so
//! told, refused.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use kvstore::config;
use kvstore_client::choose_crypto;
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The agent's own node.
const NODE: &str = "agent-node";

/// A registry that is looked at from inside, past its door.
pub(crate) struct Registry {
    at: SocketAddr,
    shared: Arc<Shared>,
    door: Option<Runtime>,
    /// Where the agent runs, and what looks at it.
    inside: Runtime,
    client: reqwest::Client,
    strict: bool,
}

struct Shared {
    agent: Mutex<Agent>,
    seen: Mutex<Seen>,
}

struct Agent {
    base: String,
    stop: CancellationToken,
}

#[derive(Default)]
struct Seen {
    writes: Vec<(Instant, String)>,
    /// Every write is answered by this.
    refuse: Option<u16>,
    /// As `refuse`, but only writes whose path or body has this in it.
    refuse_only: Option<String>,
}

impl Registry {
    /// One that takes what a genuine Consul takes.
    pub(crate) fn start() -> Self {
        Self::with(true)
    }

    /// One that takes our extensions, too.
    pub(crate) fn beyond_consul() -> Self {
        Self::with(false)
    }

    fn with(strict: bool) -> Self {
        choose_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inside = runtime();
        let shared = Shared { agent: Mutex::new(agent(&inside, strict)), seen: Mutex::default() };
        let at = listener.local_addr().unwrap();
        let client = reqwest::Client::new();
        let mut registry = Self { at, shared: Arc::new(shared), door: None, inside, client, strict };
        registry.open(listener);
        registry
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.at)
    }

    fn open(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let door = runtime();
        let listener = {
            let _inside = door.enter();
            tokio::net::TcpListener::from_std(listener).unwrap()
        };
        let app = Router::new().fallback(answer).with_state((self.shared.clone(), reqwest::Client::new()));
        door.spawn(async move { axum::serve(listener, app).await });
        self.door = Some(door);
    }

    /// Nobody is let in any more, and every connection ends.
    pub(crate) fn stop(&mut self) {
        if let Some(door) = self.door.take() {
            door.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// At the same port, with what it held.
    pub(crate) fn start_again(&mut self) {
        let listener = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            TcpListener::bind(self.at).ok()
        });
        self.open(listener.expect("our own port is free again"));
    }

    /// Another agent that knows nothing takes its place.
    pub(crate) fn forget(&self) {
        let fresh = agent(&self.inside, self.strict);
        let old = std::mem::replace(&mut *self.shared.agent.lock().unwrap(), fresh);
        self.forget_writes();
        old.stop.cancel();
    }

    pub(crate) fn refuse(&self, status: Option<u16>) {
        let mut seen = self.shared.seen.lock().unwrap();
        (seen.refuse, seen.refuse_only) = (status, None);
    }

    pub(crate) fn refuse_only(&self, status: u16, part: &str) {
        let mut seen = self.shared.seen.lock().unwrap();
        (seen.refuse, seen.refuse_only) = (Some(status), Some(part.to_owned()));
    }

    /// Every instance of any node, but the registry itself.
    fn instances(&self) -> Vec<(String, Value)> {
        let of_node = |name: String| match self.get(&format!("/v1/catalog/node/{name}"))["Services"].take() {
            Value::Object(services) => services.into_iter().filter(|(id, _)| id != "consul").collect(),
            _ => Vec::new(),
        };
        self.nodes().into_iter().flat_map(of_node).collect()
    }

    /// Names of all nodes.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let nodes = self.get("/v1/catalog/nodes");
        nodes.as_array().into_iter().flatten().map(|node| text(&node["Node"])).collect()
    }

    /// Ids of all instances, of any node.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.instances().into_iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn service(&self, id: &str) -> Option<Value> {
        self.instances().into_iter().find(|(i, _)| i == id).map(|(_, service)| service)
    }

    /// Check ids of an instance, with their status.
    pub(crate) fn checks(&self, id: &str) -> BTreeMap<String, String> {
        let checks = self.get("/v1/health/state/any");
        let of = checks.as_array().into_iter().flatten().filter(|check| check["ServiceID"] == id);
        of.map(|check| (text(&check["CheckID"]), text(&check["Status"]))).collect()
    }

    /// A check of a node itself.
    pub(crate) fn node_check(&self, node: &str, id: &str) -> Option<Value> {
        let checks = self.get(&format!("/v1/health/node/{node}"));
        checks.as_array().into_iter().flatten().find(|check| check["CheckID"] == id).cloned()
    }

    /// All checks of the instance pass.
    pub(crate) fn is_passing(&self, id: &str) -> bool {
        self.service(id).is_some() && self.checks(id).values().all(|status| status == "passing")
    }

    /// `METHOD-less path` of every write that was let in, with its time.
    pub(crate) fn writes(&self) -> Vec<(Instant, String)> {
        self.shared.seen.lock().unwrap().writes.clone()
    }

    pub(crate) fn forget_writes(&self) {
        self.shared.seen.lock().unwrap().writes.clear();
    }

    /// What somebody else registers.
    pub(crate) fn register(&self, service: &Value) {
        self.put("/v1/agent/service/register", service);
    }

    /// What somebody else removes.
    pub(crate) fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null);
    }

    /// A check that somebody else puts into the catalog.
    pub(crate) fn put_check(&self, node: &str, check: &Value) {
        self.put("/v1/catalog/register", &json!({"Node": node, "Address": "10.0.0.9", "Check": check}));
    }

    /// The keys that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        serde_json::from_value(self.get(&format!("/v1/kv/{prefix}?keys"))).unwrap_or_default()
    }

    /// What a key holds.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        let request = self.client.get(format!("{}/v1/kv/{key}?raw", self.base()));
        let response = self.inside.block_on(request.send()).unwrap();
        let is_there = response.status() == StatusCode::OK;
        is_there.then(|| self.inside.block_on(response.text()).unwrap())
    }

    /// What somebody else writes.
    pub(crate) fn put_key(&self, key: &str, value: &str) {
        let request = self.client.put(format!("{}/v1/kv/{key}", self.base())).body(value.to_owned());
        assert_eq!(self.inside.block_on(request.send()).unwrap().status(), StatusCode::OK);
    }

    /// Somebody who waits for the next change of what is at `path`; done when woken.
    pub(crate) fn watcher(&self, path: &str) -> JoinHandle<()> {
        let url = format!("{}{path}", self.base());
        let first = self.inside.block_on(self.client.get(&url).send()).unwrap();
        let index = first.headers()["x-consul-index"].to_str().unwrap();
        let waiting = self.client.get(format!("{url}?index={index}&wait=10m")).send();
        self.inside.spawn(async move { assert_eq!(waiting.await.unwrap().status(), StatusCode::OK) })
    }

    fn base(&self) -> String {
        self.shared.agent.lock().unwrap().base.clone()
    }

    fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.base()));
        let body = self.inside.block_on(async { request.send().await?.bytes().await }).unwrap();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    fn put(&self, path: &str, body: &Value) {
        let request = self.client.put(format!("{}{path}", self.base())).body(body.to_string());
        let response = self.inside.block_on(request.send()).unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path} {body}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn agent(inside: &Runtime, strict: bool) -> Agent {
    let stop = CancellationToken::new();
    let settings = config::Agent { strict_consul: strict, ..config::Agent::in_memory(NODE) };
    let running = inside.block_on(kvstore::server::start(settings, stop.clone())).unwrap();
    let base = running.http[0].to_string();
    inside.spawn(running.wait());
    Agent { base, stop }
}

type Door = State<(Arc<Shared>, reqwest::Client)>;

async fn answer(State((shared, client)): Door, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    if parts.method != Method::GET
        && let Some(status) = shared.seen.lock().unwrap().write(parts.uri.path(), &body)
    {
        return (StatusCode::from_u16(status).unwrap(), "refused").into_response();
    }
    let url = format!("{}{}", shared.agent.lock().unwrap().base, parts.uri);
    let answered = client.request(parts.method, url).headers(parts.headers).body(body).send().await;
    let Ok(response) = answered else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut headers = HeaderMap::new();
    let status = response.status();
    if let Some(index) = response.headers().get("x-consul-index") {
        headers.insert("x-consul-index", index.clone());
    }
    match response.bytes().await {
        Ok(body) => (status, headers, body).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

impl Seen {
    /// Writes a write down, or tells how it is refused.
    fn write(&mut self, path: &str, body: &Bytes) -> Option<u16> {
        let path = path.trim_start_matches("/v1/").replace("%3A", ":");
        let text = String::from_utf8_lossy(body);
        let concerned = self.refuse_only.as_ref().is_none_or(|part| path.contains(part) || text.contains(part));
        let refused = self.refuse.filter(|_| concerned);
        if refused.is_none() {
            self.writes.push((Instant::now(), format!("{path} {text}")));
        }
        refused
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
