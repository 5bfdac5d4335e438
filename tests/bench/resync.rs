//! A host with 500 containers of which none changes: what it costs that all is compared again and again, and how much
//! memory the registrar has. Docker is played, since a real one takes minutes to start so many.

use std::time::Duration;

use flotilla_tests::{
    eventually,
    fake_docker::FakeDocker,
    held::Held,
    program::{Launch, Program},
    registry::Registry,
};
use kvstore_client::{Client, Wait};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{cpu, figures::Row, metrics};

const CONTAINERS: u16 = 500;
const SERVICES: u16 = 50;
const EVERY: &str = "200ms";
const RESYNCS: usize = 20;
const LIMIT_MIB: f64 = 20.0;
/// For anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn of_what_is_unchanged() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (docker, registry) = (FakeDocker::start(dir.path()), Registry::in_memory().await);
    for n in 0..CONTAINERS {
        docker.run(&format!("web-{n}"), 10_000 + n, &container(n));
    }
    let registrar = start(&docker, &registry, &dir);
    all_pass(&registry.client).await;
    resyncs(&docker, 2).await;

    let watchers: Vec<_> = (0..SERVICES).map(|n| watcher(&registry.client, &service(n))).collect();
    let before = (batches(&registry).await, cpu::of(registrar.pid()));
    resyncs(&docker, RESYNCS).await;
    let written = batches(&registry).await - before.0;
    let used = cpu::of(registrar.pid()).saturating_sub(before.1);
    let woken = watchers.iter().filter(|watcher| watcher.is_finished()).count();
    let each = used / u32::try_from(RESYNCS).expect("they are few");
    vec![
        Row {
            what: "resync of 500 unchanged containers, writes",
            found: format!("{written} in {RESYNCS}"),
            bound: Some(("none; Registrator 500 each".into(), written == 0.0)),
        },
        Row::none("  watchers woken", woken).note(format!("of {}", watchers.len())),
        Row::told("  the registrar's time on a core for each", &format!("{:.1} ms", each.as_secs_f64() * 1000.0)),
        memory_row(registrar.pid()),
    ]
}

fn memory_row(registrar: Pid) -> Row {
    let mib = Held::by(registrar).mib;
    Row {
        what: "registrar's resident memory, 500 containers",
        found: format!("{mib:.1} MiB"),
        bound: Some((format!("under {LIMIT_MIB} MiB"), mib < LIMIT_MIB)),
    }
}

/// With a HEALTHCHECK, and what compose says of it.
fn container(n: u16) -> Value {
    let (service, number) = (service(n), (n / SERVICES + 1).to_string());
    let labels = json!({
        "com.docker.compose.config-hash": "5e1f8a0f6a3b3c8a4f5b0c2d9e7a6b1c0d3e2f4a5b6c7d8e9f0a1b2c3d4e5f60",
        "com.docker.compose.container-number": number,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.project": "shop",
        "com.docker.compose.project.working_dir": "/srv/shop",
        "com.docker.compose.service": service,
        "org.opencontainers.image.version": "1.4.2",
    });
    let env = json!([
        "PATH=/usr/local/bin:/usr/bin:/bin",
        format!("SERVICE_NAME={service}"),
        "SERVICE_TAGS=http,blue",
        "SERVICE_VERSION=1.4.2",
    ]);
    json!({"State": {"Health": {"Status": "healthy"}}, "Config": {"Env": env, "Labels": labels}})
}

fn service(n: u16) -> String {
    format!("service-{:02}", n % SERVICES)
}

fn start(docker: &FakeDocker, registry: &Registry, dir: &TempDir) -> Program {
    let (url, host, state) = (registry.url(), docker.address(), dir.path().join("state").display().to_string());
    let args = ["--registry", &url, "--docker", &host, "--state-dir", &state, "--ip", "10.0.0.1", "--resync", EVERY];
    Launch::ours("registrar").args(args).start()
}

async fn all_pass(client: &Client) {
    eventually!("all are in the catalog and pass", LIMIT, async {
        for n in 0..SERVICES {
            let read = client.health_service(&service(n), true, None).await.map_err(|e| e.to_string())?;
            if read.value.len() != usize::from(CONTAINERS / SERVICES) {
                return Err(format!("{} has {}", service(n), read.value.len()));
            }
        }
        Ok(())
    });
}

/// Waits until Docker was asked for its list so many times more.
async fn resyncs(docker: &FakeDocker, count: usize) {
    let before = docker.listed();
    eventually!("all is compared again", LIMIT, async {
        let more = docker.listed() - before;
        if more >= count { Ok(()) } else { Err(format!("{more} times")) }
    });
}

/// Somebody who waits for the next change of the instances of `service`; done when woken.
fn watcher(client: &Client, service: &str) -> JoinHandle<()> {
    let (client, service) = (client.clone(), service.to_owned());
    tokio::spawn(async move {
        let first = client.health_service(&service, true, None).await.expect("the registry answers");
        let wait = Wait { index: first.index, wait: Duration::from_mins(10) };
        let _ = client.health_service(&service, true, Some(wait)).await;
    })
}

/// How many times the registry has written.
async fn batches(registry: &Registry) -> f64 {
    metrics::of(registry, "kvstore_store_batch_count").await
}
