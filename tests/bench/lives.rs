//! Real Docker, a registry and the registrar between them; when Docker itself says that something happened to a container,
//! and when a reader of the catalog knew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_tests::{
    docker::{Dockerd, HELLO_WEB},
    eventually,
    program::{Launch, Program},
    registry::Registry,
};
use kvstore_client::{Client, Wait};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Between an event and the moment at which Docker's client has printed it.
const PRINTED: Duration = Duration::from_secs(10);
/// Until a reader's query waits in the registry for sure.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) struct Lives {
    pub(crate) dockerd: &'static Dockerd,
    pub(crate) registry: Registry,
    events: Program,
    _registrar: Program,
    _state: TempDir,
}

impl Lives {
    /// With a registrar that has these arguments beside the usual ones.
    pub(crate) async fn begin(args: &[&str]) -> Self {
        let (dockerd, registry) = (Dockerd::shared(), Registry::in_memory().await);
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let (url, host, path) = (registry.url(), dockerd.host(), state.path().display().to_string());
        let usual = ["--registry", &url, "--docker", &host, "--state-dir", &path];
        let mut registrar = Launch::ours("registrar").args(usual).args(args).start();
        registrar.wait_for_log("following Docker and the registry", PRINTED).await;
        let format = ["--format", "{{.Actor.ID}} {{.Action}} {{.TimeNano}}"];
        let events = Launch::new("docker").env("DOCKER_HOST", &host).args(["events", "--filter", "type=container"]);
        Self { dockerd, registry, events: events.args(format).start(), _registrar: registrar, _state: state }
    }

    /// Makes a container of `service` that drains for so long when it is stopped; its id.
    pub(crate) async fn create(&self, service: &str, drain_ms: u16, args: &[&str]) -> String {
        let (name, drain) = (format!("SERVICE_NAME={service}"), format!("DRAIN_MS={drain_ms}"));
        let usual = ["create", "--env", &name, "--env", &drain];
        self.dockerd.docker(&[&usual[..], args, &[HELLO_WEB]].concat()).await
    }

    /// When Docker first did this to the container, since 1970 and by Docker's clock, which is ours.
    pub(crate) async fn time_of(&self, action: &str, id: &str) -> Duration {
        let line = format!("{id} {action} ");
        let nanos: u64 = eventually!(format!("Docker tells of the {action}"), PRINTED, async {
            let log = self.events.log();
            let found = log.lines().find_map(|l| l.strip_prefix(&line)?.trim().parse().ok());
            found.ok_or_else(|| format!("{id} is not in {} lines", log.lines().count()))
        });
        Duration::from_nanos(nanos)
    }

    /// A reader who waits until the catalog has `count` passing instances of `service`; gives the time, since 1970.
    pub(crate) async fn reader(&self, service: &str, count: usize) -> JoinHandle<Duration> {
        let (client, service) = (self.registry.client.clone(), service.to_owned());
        let reader = tokio::spawn(async move { has(&client, &service, count).await });
        tokio::time::sleep(SETTLE).await;
        reader
    }
}

async fn has(client: &Client, service: &str, count: usize) -> Duration {
    let mut index = 0;
    loop {
        let wait = (index > 0).then_some(Wait { index, wait: Duration::from_secs(30) });
        let read = client.health_service(service, true, wait).await.expect("the registry answers");
        if read.value.len() == count {
            return SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
        }
        index = read.index;
    }
}
