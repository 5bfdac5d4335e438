//! Other people's clients, made for Consul, against our registry: they read, write, watch and lock as they always do.
//!
//! The programs and their packages are in `tests/clients`.

use std::{path::PathBuf, time::Duration};

use flotilla_tests::{
    needs::{Client, Need},
    program::Launch,
    registry::Registry,
    workspace,
};
use kvstore_client::{
    GoDuration,
    types::{CheckRegistration, CheckUpdate, ServiceRegistration},
};

/// What each client does, in this order; each of the programs knows every step.
const STEPS: &[&str] = &["kv", "agent", "catalog", "watch", "event", "filter", "session", "lock", "txn", "query"];

/// Whoever shows no token may do nothing, and nobody has one yet.
pub(crate) const ACL: &str = "acl: {enabled: true, default_policy: deny}";

/// With a cold compiler on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// A change is told at once, on a machine that is not busy.
const SOON: Duration = Duration::from_secs(10);

/// For the client written in Go with these packages.
pub(crate) fn go_needs(client: Client) -> [Need; 2] {
    [Need::Program("go"), Need::Client(client)]
}

/// For the npm package.
pub(crate) fn node_needs() -> [Need; 2] {
    [Need::Program("node"), Need::Client(Client::Node)]
}

/// `github.com/hashicorp/consul/api`.
pub(crate) async fn go() {
    let client = || go_program(Client::Go, "go");
    tell(client(), &Registry::in_memory().await, STEPS).await;
    tell(client(), &Registry::configured(ACL).await, &["acl"]).await;
}

/// Compiled anew where it changed, from packages that are there.
fn go_program(client: Client, folder: &str) -> Launch {
    let packages = client.packages();
    let launch = Launch::new("go").args(["run", "."]).dir(&source(folder)).env("GOPROXY", "off");
    let launch = launch.env("GOMODCACHE", packages.join("mod")).env("GOCACHE", packages.join("build"));
    launch.env("GOFLAGS", "-modcacherw")
}

/// `py-consul`.
pub(crate) async fn python() {
    let python = Client::Python.packages().join("bin/python");
    let client = || Launch::new(&python).args([source("python").join("client.py")]);
    tell(client(), &Registry::in_memory().await, STEPS).await;
    tell(client(), &Registry::configured(ACL).await, &["acl"]).await;
}

/// npm's `consul`.
pub(crate) async fn node() {
    let modules = Client::Node.packages().join("node_modules");
    let client = Launch::new("node").args([source("node").join("client.js")]).env("NODE_PATH", modules);
    tell(client, &Registry::in_memory().await, STEPS).await;
}

fn source(folder: &str) -> PathBuf {
    workspace().join("tests/clients").join(folder)
}

async fn tell(client: Launch, registry: &Registry, steps: &[&str]) {
    let ran = client.args([&host_and_port(registry)]).args(steps).run(LIMIT).await;
    let said = ran.ok().unwrap_or_else(|e| panic!("the client is not content:\n{e}"));
    let did: Vec<_> = said.lines().map(|line| line.trim_start_matches("ok ")).collect();
    assert_eq!(did, steps, "steps that it did");
}

fn host_and_port(registry: &Registry) -> String {
    registry.url().trim_start_matches("http://").to_owned()
}

/// Prometheus finds what to scrape, sees its health, and forgets it once it is deregistered.
pub(crate) async fn prometheus() {
    let registry = Registry::in_memory().await;
    let client = &registry.client;
    let mut prometheus = go_program(Client::Prometheus, "prometheus").args([host_and_port(&registry)]).start();
    client.register_service(&scraped("web-1")).await.expect("the registry answers");
    let line = |id: &str, health: &str| format!("[{id} ,metrics, x {health}] 127.0.0.1:9");
    let (first, well) = (line("web-1", "critical"), line("web-1", "passing"));
    let second = line("web-2", "critical");
    // It is compiled before that.
    prometheus.wait_for_log(&format!("web dc1: {first}\n"), LIMIT).await;
    let passing = CheckUpdate { status: "passing".into(), ..CheckUpdate::default() };
    client.update_check("service:web-1", &passing).await.expect("the registry answers");
    prometheus.wait_for_log(&format!("web dc1: {well}\n"), SOON).await;
    client.register_service(&scraped("web-2")).await.expect("the registry answers");
    prometheus.wait_for_log(&format!("web dc1: {well}, {second}\n"), SOON).await;
    client.deregister_service("web-1").await.expect("the registry answers");
    prometheus.wait_for_log(&format!("web dc1: {second}\n"), SOON).await;
    client.deregister_service("web-2").await.expect("the registry answers");
    prometheus.wait_for_log("web : \n", SOON).await;
}

fn scraped(id: &str) -> ServiceRegistration {
    let ttl = Some(GoDuration(Duration::from_mins(1)));
    ServiceRegistration {
        id: id.into(),
        name: "web".into(),
        tags: vec!["metrics".into()],
        address: "127.0.0.1".into(),
        port: 9,
        meta: [("team".to_owned(), "x".to_owned())].into(),
        check: Some(CheckRegistration { ttl, ..CheckRegistration::default() }),
        ..ServiceRegistration::default()
    }
}
