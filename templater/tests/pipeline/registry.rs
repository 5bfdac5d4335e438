//! The real registry in this process, taking nothing that Consul does not have.

use kvstore::{
    config::{Agent, HttpAddr},
    server::Running,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Serves until it is dropped; may be stopped, and started again, empty, on the same port.
pub(crate) struct Registry {
    address: HttpAddr,
    running: Option<(Running, CancellationToken)>,
    client: reqwest::Client,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        kvstore_client::choose_crypto();
        let address = HttpAddr::Tcp("127.0.0.1:0".parse().unwrap());
        let mut registry = Self { address, running: None, client: reqwest::Client::new() };
        registry.serve().await;
        registry
    }

    pub(crate) async fn serve(&mut self) {
        let settings = Agent { strict_consul: true, http: vec![self.address.clone()], ..Agent::in_memory("registry") };
        let stop = CancellationToken::new();
        let running = kvstore::server::start(settings, stop.clone()).await.unwrap();
        self.address = running.http[0].clone();
        self.running = Some((running, stop));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((running, stop)) = self.running.take() {
            stop.cancel();
            running.wait().await;
        }
    }

    pub(crate) fn url(&self) -> String {
        self.address.to_string()
    }

    async fn put_body(&self, path: &str, body: String) {
        let request = self.client.put(format!("{}{path}", self.url())).body(body);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// `web/web1 10.0.0.1:80`
    pub(crate) async fn register(&self, instance: &str) {
        self.register_with(instance, &json!({})).await;
    }

    /// The same, with a version that it says it has.
    pub(crate) async fn register_version(&self, instance: &str, version: &str) {
        self.register_with(instance, &json!({"version": version})).await;
    }

    async fn register_with(&self, instance: &str, meta: &Value) {
        let (name, address) = instance.split_once(' ').unwrap();
        let (service, id) = name.split_once('/').unwrap();
        let (address, port) = address.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let service = json!({"ID": id, "Service": service, "Address": address, "Port": port, "Meta": meta});
        self.catalog("register", &json!({"Node": "n1", "Address": "10.9.9.9", "Service": service})).await;
    }

    pub(crate) async fn deregister(&self, name: &str) {
        let (_, id) = name.split_once('/').unwrap();
        self.catalog("deregister", &json!({"Node": "n1", "ServiceID": id})).await;
    }

    /// With all that is on it.
    pub(crate) async fn deregister_node(&self) {
        self.catalog("deregister", &json!({"Node": "n1"})).await;
    }

    async fn catalog(&self, what: &str, body: &Value) {
        self.put_body(&format!("/v1/catalog/{what}"), body.to_string()).await;
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        self.put_body(&format!("/v1/kv/{key}"), value.into()).await;
    }
}
