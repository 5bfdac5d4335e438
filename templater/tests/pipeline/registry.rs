//! A registry of a few lines: instances and keys held in memory, blocking queries, on a port of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

#[derive(Default)]
struct Data {
    /// (service, id) to (address, port, passing)
    instances: BTreeMap<(String, String), (String, u16, bool)>,
    keys: BTreeMap<String, String>,
}

struct Inner {
    data: Mutex<Data>,
    index: watch::Sender<u64>,
}

/// Serves until it is dropped; may be stopped and started again on the same port.
pub(crate) struct Registry {
    inner: Arc<Inner>,
    port: u16,
    server: Option<JoinHandle<()>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Inner { data: Mutex::default(), index: watch::channel(10).0 });
        let mut registry = Self { inner, port: 0, server: None };
        registry.serve().await;
        registry
    }

    pub(crate) async fn serve(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let app = Router::new()
            .route("/v1/health/service/{name}", get(health))
            .route("/v1/catalog/services", get(services))
            .route("/v1/kv/{*key}", get(key))
            .with_state(self.inner.clone());
        self.server = Some(tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        }));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
        // Connections live on in tasks of their own; a wake ends their waiting.
        self.change(|_| {});
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn change(&self, change: impl FnOnce(&mut Data)) {
        change(&mut self.inner.data.lock().unwrap());
        self.inner.index.send_modify(|index| *index += 1);
    }

    /// `web/web1 10.0.0.1:80`
    pub(crate) fn register(&self, instance: &str) {
        let (name, address) = instance.split_once(' ').unwrap();
        let (service, id) = name.split_once('/').unwrap();
        let (address, port) = address.rsplit_once(':').unwrap();
        let entry = (address.to_owned(), port.parse().unwrap(), true);
        self.change(|data| {
            data.instances.insert((service.into(), id.into()), entry);
        });
    }

    pub(crate) fn deregister(&self, name: &str) {
        let (service, id) = name.split_once('/').unwrap();
        self.change(|data| {
            data.instances.remove(&(service.into(), id.into()));
        });
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.change(|data| {
            data.keys.insert(key.into(), value.into());
        });
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

type Asked = (State<Arc<Inner>>, RawQuery);

/// Waits as `index` and `wait` say, then answers what `read` gives.
async fn answer((State(inner), RawQuery(query)): Asked, read: impl Fn(&Data) -> Option<Value>) -> Response {
    let after: u64 =
        query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("index=")?.parse().ok()).unwrap_or(0);
    let mut index = inner.index.subscribe();
    let _ = tokio::time::timeout(Duration::from_mins(1), index.wait_for(|index| *index > after)).await;
    let now = *index.borrow();
    let headers = [("X-Consul-Index", now.to_string())];
    match read(&inner.data.lock().unwrap()) {
        Some(value) => (headers, value.to_string()).into_response(),
        None => (StatusCode::NOT_FOUND, headers).into_response(),
    }
}

async fn health(Path(name): Path<String>, state: State<Arc<Inner>>, query: RawQuery) -> Response {
    answer((state, query), |data| {
        let of_service = data.instances.iter().filter(|((service, _), (.., passing))| *service == name && *passing);
        let entries = of_service.map(|((service, id), (address, port, _))| {
            json!({
                "Node": {"Node": "n1", "Address": "10.9.9.9"},
                "Service": {"ID": id, "Service": service, "Address": address, "Port": port, "Tags": []},
                "Checks": [],
            })
        });
        Some(entries.collect())
    })
    .await
}

async fn services(state: State<Arc<Inner>>, query: RawQuery) -> Response {
    answer((state, query), |data| {
        let names = data.instances.keys().map(|(service, _)| (service.clone(), json!([])));
        Some(names.collect())
    })
    .await
}

async fn key(Path(key): Path<String>, state: State<Arc<Inner>>, query: RawQuery) -> Response {
    answer((state, query), |data| {
        let value = base64(data.keys.get(&key)?.as_bytes());
        Some(json!([{"Key": key, "Value": value, "CreateIndex": 1, "ModifyIndex": 1}]))
    })
    .await
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(*chunk.get(at).unwrap_or(&0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63] as char;
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}
