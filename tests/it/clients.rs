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

/// What each client does, in this order; each of the programs knows every step.
const STEPS: &[&str] = &["kv", "agent", "catalog", "watch", "event"];

/// With a cold compiler on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// For the official Go module.
pub(crate) fn go_needs() -> [Need; 2] {
    [Need::Program("go"), Need::Client(Client::Go)]
}

/// For the npm package.
pub(crate) fn node_needs() -> [Need; 2] {
    [Need::Program("node"), Need::Client(Client::Node)]
}

/// `github.com/hashicorp/consul/api`.
pub(crate) async fn go() {
    let packages = Client::Go.packages();
    let launch = Launch::new("go").args(["run", "."]).dir(&source("go"));
    let launch = launch.env("GOMODCACHE", packages.join("mod")).env("GOCACHE", packages.join("build"));
    tell(launch.env("GOPROXY", "off").env("GOFLAGS", "-modcacherw")).await;
}

/// `py-consul`.
pub(crate) async fn python() {
    let python = Client::Python.packages().join("bin/python");
    tell(Launch::new(python).args([source("python").join("client.py")])).await;
}

/// npm's `consul`.
pub(crate) async fn node() {
    let modules = Client::Node.packages().join("node_modules");
    tell(Launch::new("node").args([source("node").join("client.js")]).env("NODE_PATH", modules)).await;
}

fn source(folder: &str) -> PathBuf {
    workspace().join("tests/clients").join(folder)
}

async fn tell(client: Launch) {
    let registry = Registry::in_memory().await;
    let ran = client.args([&host_and_port(&registry)]).args(STEPS).run(LIMIT).await;
    let said = ran.ok().unwrap_or_else(|e| panic!("the client is not content:\n{e}"));
    let did: Vec<_> = said.lines().map(|line| line.trim_start_matches("ok ")).collect();
    assert_eq!(did, STEPS, "steps that it did");
}

fn host_and_port(registry: &Registry) -> String {
    registry.url().trim_start_matches("http://").to_owned()
}
