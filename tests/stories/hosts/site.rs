//! The servers of one service, one on each host, and a HAProxy that a templater on one of the hosts keeps; with a visitor.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flotilla_tests::{
    dig::dig_from,
    eventually,
    program::{Launch, Program},
    proxy::haproxy_without_retries,
    web,
};
use kvstore_client::types::ServiceRegistration;
use tempfile::TempDir;

use super::Lab;

const LIMIT: Duration = Duration::from_secs(20);

/// Starts the server of a host: the instance `web-h1` and so on of `web`.
pub(crate) fn serve(lab: &Lab, host: usize) -> Program {
    let host = lab.bed.host(host);
    host.start(Launch::ours("hello-web").env("PORT", "8080").env("HOSTNAME", &host.name).env("DRAIN_MS", "0"))
}

/// Registers it at its host's kvstore, at the host's address and without a check of its own.
pub(crate) async fn register(lab: &Lab, host: usize) {
    let service = ServiceRegistration {
        id: format!("web-{}", lab.bed.host(host).name),
        name: "web".into(),
        port: 8080,
        ..ServiceRegistration::default()
    };
    let client = lab.agents[host].client.clone();
    let registered = lab.bed.host(host).run(async move { client.register_service(&service).await }).await;
    registered.expect("the registry takes it");
}

/// The addresses of `web` as DNS tells them, sorted.
pub(crate) async fn in_dns(lab: &Lab, asked: usize) -> Result<Vec<String>, String> {
    let answer = dig_from(lab.bed.host(asked), lab.agents[asked].dns(), "web.service.consul", "A").await?;
    Ok(answer.records)
}

/// The hosts of `web`'s passing instances, sorted.
pub(crate) async fn passing(lab: &Lab, asked: usize) -> Result<Vec<String>, String> {
    let client = lab.agents[asked].client.clone();
    let read = lab.bed.host(asked).run(async move { client.health_service("web", true, None).await }).await;
    let read = read.map_err(|error| error.to_string())?;
    let mut hosts: Vec<_> = read.value.into_iter().map(|entry| entry.node.node).collect();
    hosts.sort();
    Ok(hosts)
}

/// HAProxy on one host, and who visits it there.
pub(crate) struct Front {
    visits: Arc<Mutex<Vec<Visit>>>,
    visitor: tokio::task::JoinHandle<()>,
    _haproxy: Program,
    _templater: Program,
    _dir: TempDir,
}

/// When an answer was there, and whose; `None` for a failure.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) at: Instant,
    pub(crate) who: Option<String>,
}

impl Front {
    pub(crate) async fn start(lab: &Lab, number: usize) -> Self {
        let host = lab.bed.host(number);
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let template = dir.path().join("haproxy.tmpl");
        fs::write(&template, haproxy_without_retries("*:80", "300ms", "10s")).expect("our own directory");
        let registry = lab.agents[number].url();
        let templater = || {
            let launch = Launch::ours("templater").dir(dir.path()).args(["--registry", &registry, "--template"]);
            launch.args([&template])
        };
        let once = host.launch(templater().args(["--once"])).run(LIMIT).await;
        once.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
        let haproxy = host.start(Launch::new("haproxy").args(["-W", "-f"]).args([dir.path().join("haproxy.cfg")]));
        let templater = host.start(templater());
        let url = format!("http://{}/", host.address);
        eventually!("HAProxy serves", LIMIT, async {
            let url = url.clone();
            host.run(async move { web::get(&url).await }).await
        });
        let visits = Arc::new(Mutex::new(Vec::new()));
        let visitor = host.spawn(visit(url, visits.clone()));
        Self { visits, visitor, _haproxy: haproxy, _templater: templater, _dir: dir }
    }

    /// The visits that ended after `since`.
    pub(crate) fn visits(&self, since: Instant) -> Vec<Visit> {
        let visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        visits.iter().filter(|visit| visit.at > since).cloned().collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.visitor.abort();
    }
}

async fn visit(url: String, visits: Arc<Mutex<Vec<Visit>>>) {
    loop {
        let who = web::get(&url).await.and_then(|body| web::hello(&body)).ok().map(|hello| hello.id);
        visits.lock().unwrap_or_else(PoisonError::into_inner).push(Visit { at: Instant::now(), who });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
