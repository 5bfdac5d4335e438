//! From the moment that Docker's own event names as a container's start, until a waiting reader of the catalog has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_tests::{
    docker::{Dockerd, HELLO_WEB},
    program::Launch,
    registry::Registry,
};
use kvstore_client::{Client, Wait};

use crate::figures::{Row, Times};

const ROUNDS: usize = 30;
const LIMIT: Duration = Duration::from_millis(10);

pub(crate) async fn to_catalog() -> Vec<Row> {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let state = tempfile::tempdir().expect("a temporary directory can be made");
    let (url, host, path) = (registry.url(), dockerd.host(), state.path().display().to_string());
    let args = ["--registry", &url, "--docker", &host, "--state-dir", &path, "--ip", "127.0.0.1"];
    let _registrar = Launch::ours("registrar").args(args).start();

    let mut times = Times::default();
    // The first round warms up, and waits for the registrar.
    for round in 0..=ROUNDS {
        let took = once(dockerd, &registry.client, &format!("bench{round}")).await;
        if round > 0 {
            times.push(took);
        }
    }
    vec![Row::within("container start -> in the catalog", &times, LIMIT, "Registrator with Consul 3.8")]
}

async fn once(dockerd: &Dockerd, client: &Client, service: &str) -> Duration {
    let name = format!("SERVICE_NAME={service}");
    let create = ["create", "--publish", "8080", "--env", &name, "--env", "DRAIN_MS=0", HELLO_WEB];
    let id = dockerd.docker(&create).await;
    let (reader, name) = (client.clone(), service.to_owned());
    let seen = tokio::spawn(async move { visible(&reader, &name).await });
    // The reader's query is on its way before Docker is asked.
    tokio::time::sleep(Duration::from_millis(100)).await;
    dockerd.docker(&["start", &id]).await;
    let seen = seen.await.expect("the reader does not panic");
    let until = now().as_secs() + 1;
    let filter = format!("container={id}");
    let until = until.to_string();
    let ask = ["events", "--since", "0", "--until", &until, "--filter", &filter, "--filter", "event=start"];
    let started = dockerd.docker(&[&ask[..], &["--format", "{{.TimeNano}}"]].concat()).await;
    dockerd.docker(&["rm", "--force", &id]).await;
    let started = Duration::from_nanos(started.parse().unwrap_or_else(|e| panic!("{started:?}: {e}")));
    seen.saturating_sub(started)
}

/// When the service has an instance.
async fn visible(client: &Client, service: &str) -> Duration {
    let mut index = 0;
    loop {
        let wait = (index > 0).then_some(Wait { index, wait: Duration::from_secs(30) });
        let read = client.health_service(service, true, wait).await.expect("the registry answers");
        if !read.value.is_empty() {
            return now();
        }
        index = read.index;
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}
