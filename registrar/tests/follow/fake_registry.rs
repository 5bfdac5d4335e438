//! The registry's API as far as the registrar uses it, with Consul's manners: it adds tagged addresses, keeps the status
//! of a check that is registered again, and knows nothing of what it did not get. Keeps nothing over a restart.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

/// The node of the fake agent.
const NODE: &str = "agent-node";

/// A registry whose insides can be looked into.
pub(crate) struct FakeRegistry {
    at: SocketAddr,
    state: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    registry: Mutex<Registry>,
    index: watch::Sender<u64>,
}

#[derive(Default)]
struct Registry {
    /// By node and id.
    services: BTreeMap<(String, String), Value>,
    checks: BTreeMap<(String, String), Value>,
    writes: Vec<(Instant, String)>,
    /// Every write is answered by this.
    refuse: Option<u16>,
    /// As `refuse`, but only writes whose path or body has this in it.
    refuse_only: Option<String>,
}

impl FakeRegistry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut registry = Self {
            at: listener.local_addr().unwrap(),
            state: Arc::new(Shared { registry: Mutex::default(), index: watch::Sender::new(100) }),
            runtime: None,
        };
        registry.serve(listener);
        registry
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.at)
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).unwrap()
        };
        let app = Router::new().fallback(answer).with_state(self.state.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.runtime = Some(runtime);
    }

    /// Ends it, and every connection to it.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// At the same port, with what it held.
    pub(crate) fn start_again(&mut self) {
        let listener = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            TcpListener::bind(self.at).ok()
        });
        self.serve(listener.expect("our own port is free again"));
    }

    /// Everything is forgotten, and the index starts anew.
    pub(crate) fn forget(&self) {
        let mut registry = self.state.registry.lock().unwrap();
        registry.services.clear();
        registry.checks.clear();
        registry.writes.clear();
        self.state.index.send_replace(1);
    }

    pub(crate) fn refuse(&self, status: Option<u16>) {
        self.state.registry.lock().unwrap().refuse = status;
    }

    pub(crate) fn refuse_only(&self, status: u16, part: &str) {
        let mut registry = self.state.registry.lock().unwrap();
        (registry.refuse, registry.refuse_only) = (Some(status), Some(part.to_owned()));
    }

    /// Ids of all instances, of any node.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.state.registry.lock().unwrap().services.keys().map(|(_, id)| id.clone()).collect()
    }

    pub(crate) fn service(&self, id: &str) -> Option<Value> {
        let registry = self.state.registry.lock().unwrap();
        registry.services.iter().find(|((_, i), _)| i == id).map(|(_, service)| service.clone())
    }

    /// Check ids of an instance, with their status.
    pub(crate) fn checks(&self, id: &str) -> BTreeMap<String, String> {
        let registry = self.state.registry.lock().unwrap();
        let of = registry.checks.iter().filter(|(_, check)| check["ServiceID"] == id);
        of.map(|((_, check_id), check)| (check_id.clone(), check["Status"].as_str().unwrap().to_owned())).collect()
    }

    /// A check of a node itself.
    pub(crate) fn node_check(&self, node: &str, id: &str) -> Option<Value> {
        self.state.registry.lock().unwrap().checks.get(&(node.to_owned(), id.to_owned())).cloned()
    }

    /// All checks of the instance pass.
    pub(crate) fn is_passing(&self, id: &str) -> bool {
        self.service(id).is_some() && self.checks(id).values().all(|status| status == "passing")
    }

    /// `METHOD-less path` of every write, with its time.
    pub(crate) fn writes(&self) -> Vec<(Instant, String)> {
        self.state.registry.lock().unwrap().writes.clone()
    }

    pub(crate) fn forget_writes(&self) {
        self.state.registry.lock().unwrap().writes.clear();
    }

    /// What somebody else registers.
    pub(crate) fn register(&self, service: &Value) {
        self.change(|registry| registry.register(NODE, service));
    }

    /// What somebody else removes.
    pub(crate) fn deregister(&self, id: &str) {
        self.change(|registry| {
            registry.deregister(NODE, id);
        });
    }

    /// A catalog check that somebody else puts, or a status that time brings.
    pub(crate) fn put_check(&self, node: &str, check: &Value) {
        self.change(|registry| registry.put_check(node, check));
    }

    fn change(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.state.registry.lock().unwrap());
        self.state.index.send_modify(|index| *index += 1);
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches("/v1/").replace("%3A", ":");
    let query = request.uri().query().unwrap_or_default().to_owned();
    if request.method() == "GET" {
        return read(&shared, &path, &query).await;
    }
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let body: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    let (status, answer) = {
        let mut registry = shared.registry.lock().unwrap();
        let concerned = registry.refuse_only.as_ref().is_none_or(|part| path.contains(part) || text.contains(part));
        match registry.refuse.filter(|_| concerned) {
            Some(status) => (status, "refused".to_owned()),
            None => registry.write(&path, &body),
        }
    };
    if status == 200 {
        shared.index.send_modify(|index| *index += 1);
    }
    (StatusCode::from_u16(status).unwrap(), answer).into_response()
}

async fn read(shared: &Shared, path: &str, query: &str) -> Response {
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).map(str::to_owned);
    if let Some(index) = parameter("index=").and_then(|index| index.parse::<u64>().ok()) {
        let mut moved = shared.index.subscribe();
        let _ = tokio::time::timeout(Duration::from_mins(1), moved.wait_for(|now| *now != index)).await;
    }
    let index = *shared.index.borrow();
    let registry = shared.registry.lock().unwrap();
    let (status, body) = registry.read(path);
    (StatusCode::from_u16(status).unwrap(), [("X-Consul-Index", index.to_string())], body.to_string()).into_response()
}

impl Registry {
    fn read(&self, path: &str) -> (u16, Value) {
        let parts: Vec<&str> = path.split('/').collect();
        let of = |node: &str, all: &BTreeMap<(String, String), Value>| -> serde_json::Map<String, Value> {
            all.iter().filter(|((n, _), _)| n == node).map(|((_, id), v)| (id.clone(), v.clone())).collect()
        };
        match parts[..] {
            ["agent", "self"] => (200, json!({"Config": {"NodeName": NODE}})),
            ["agent", "services"] => (200, Value::Object(of(NODE, &self.services))),
            ["agent", "checks"] => (200, Value::Object(of(NODE, &self.checks))),
            ["catalog", "node", node] => (200, json!({"Node": {"Node": node}, "Services": of(node, &self.services)})),
            ["health", "node", node] => (200, of(node, &self.checks).into_iter().map(|(_, check)| check).collect()),
            _ => (404, json!("no such endpoint")),
        }
    }

    fn write(&mut self, path: &str, body: &Value) -> (u16, String) {
        self.writes.push((Instant::now(), format!("{path} {body}")));
        let ok = || (200, String::new());
        if let Some(id) = path.strip_prefix("agent/service/deregister/") {
            return if self.deregister(NODE, id) { ok() } else { (404, format!("Unknown service ID {id:?}")) };
        }
        if let Some(id) = path.strip_prefix("agent/check/deregister/") {
            let gone = self.checks.remove(&(NODE.to_owned(), id.to_owned()));
            return if gone.is_some() { ok() } else { (404, format!("Unknown check ID {id:?}")) };
        }
        if let Some(id) = path.strip_prefix("agent/check/update/") {
            return match self.checks.get_mut(&(NODE.to_owned(), id.to_owned())) {
                Some(check) => {
                    check["Status"] = body["Status"].clone();
                    check["Output"] = body["Output"].clone();
                    ok()
                }
                None => (404, format!("Unknown check ID {id:?}")),
            };
        }
        match path {
            "agent/service/register" => self.register(NODE, body),
            "agent/check/register" => {
                let service = (NODE.to_owned(), text(&body["ServiceID"]));
                if !self.services.contains_key(&service) {
                    return (404, format!("ServiceID {:?} does not exist", service.1));
                }
                if body["TTL"].is_null() {
                    return (400, "Invalid check: TTL must be > 0 for TTL checks".to_owned());
                }
                self.put_check(NODE, body);
            }
            "catalog/register" => {
                let node = text(&body["Node"]);
                if let Value::Object(service) = &body["Service"] {
                    let mut service = Value::Object(service.clone());
                    service["Name"] = service["Service"].clone();
                    service["Checks"] = body["Checks"].clone();
                    self.put_service(&node, &service);
                }
                for check in body["Checks"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .chain(body["Check"].as_object().map(|_| &body["Check"]))
                {
                    self.put_check(&node, check);
                }
            }
            "catalog/deregister" => {
                let node = text(&body["Node"]);
                if let Some(id) = body["ServiceID"].as_str() {
                    self.deregister(&node, id);
                } else if let Some(id) = body["CheckID"].as_str() {
                    self.checks.remove(&(node, id.to_owned()));
                } else {
                    self.services.retain(|(n, _), _| *n != node);
                    self.checks.retain(|(n, _), _| *n != node);
                }
            }
            other => return (404, format!("no such endpoint: {other}")),
        }
        ok()
    }

    /// With replace-existing-checks.
    fn register(&mut self, node: &str, body: &Value) {
        let id = text(&body["ID"]);
        let named = |check: &String| body["Checks"].as_array().into_iter().flatten().any(|c| c["CheckID"] == **check);
        self.checks.retain(|(n, check), old| n != node || old["ServiceID"] != id || named(check));
        self.put_service(node, body);
        for check in body["Checks"].as_array().into_iter().flatten() {
            let mut check = check.clone();
            check["ServiceID"] = id.clone().into();
            if let Some(old) = self.checks.get(&(node.to_owned(), text(&check["CheckID"]))) {
                check["Status"] = old["Status"].clone();
            }
            self.put_check(node, &check);
        }
    }

    fn put_service(&mut self, node: &str, body: &Value) {
        let or = |key: &str, default: Value| if body[key].is_null() { default } else { body[key].clone() };
        let (address, port) = (or("Address", json!("")), or("Port", json!(0)));
        let mut tagged = or("TaggedAddresses", json!({}));
        for name in ["lan_ipv4", "wan_ipv4"] {
            if tagged[name].is_null() {
                tagged[name] = json!({"Address": address, "Port": port});
            }
        }
        let service = json!({"ID": body["ID"], "Service": body["Name"], "Tags": or("Tags", json!([])),
            "Meta": or("Meta", json!({})), "Port": port, "Address": address,
            "TaggedAddresses": tagged, "Weights": or("Weights", json!({"Passing": 1, "Warning": 1})),
            "EnableTagOverride": false, "Datacenter": "dc1"});
        self.services.insert((node.to_owned(), text(&body["ID"])), service);
    }

    fn put_check(&mut self, node: &str, check: &Value) {
        let mut check = check.clone();
        if check["Status"].is_null() {
            check["Status"] = "critical".into();
        }
        // An answer has no place for these, and their absence is what a reader must cope with.
        for key in ["TTL", "Interval", "HTTP", "TCP"] {
            check.as_object_mut().unwrap().remove(key);
        }
        self.checks.insert((node.to_owned(), text(&check["CheckID"])), check);
    }

    fn deregister(&mut self, node: &str, id: &str) -> bool {
        self.checks.retain(|(n, _), check| n != node || check["ServiceID"] != id);
        self.services.remove(&(node.to_owned(), id.to_owned())).is_some()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
