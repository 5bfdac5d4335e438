//! A replica on another host than its hub: whatever becomes of the hub, whoever asks the replica is answered.

use std::{fs, process::Stdio, time::Duration};

use flotilla_tests::{eventually, needs::Need, registry::Registry};
use kvstore_client::{
    Client, KvPut,
    types::{CatalogRegistration, NodeService},
};
use nix::sys::signal::Signal;
use tokio::{process::Command, time::Instant};

/// Asked of the replica each time.
const QUESTIONS: usize = 100_000;

/// So fast, so that what happens meanwhile happens meanwhile.
const A_SECOND: usize = 20_000;

const SERVICES: usize = 50;

/// For one step on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn needs() -> Vec<Need> {
    vec![Need::Program("dnsperf")]
}

pub(crate) async fn story() {
    let mut hub = Registry::on_disk_beyond_consul().await;
    for number in 0..SERVICES {
        register(&hub.client, number, "192.0.2.1").await;
    }
    let mut replica = Registry::replica_of(&hub).await;

    let (asked, ()) = tokio::join!(ask(&replica), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        hub.kill();
    });
    println!("hub killed -9 meanwhile: {asked}");
    asked.without_a_failure();
    refuses_writes(&replica.client).await;

    replica.kill();
    replica.start_again().await;
    let (asked, back) = tokio::join!(ask(&replica), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        hub.start_again().await;
        let back = Instant::now();
        register(&hub.client, SERVICES, "192.0.2.2").await;
        eventually!("the replica has what is new", LIMIT, has(&replica.client, SERVICES));
        back.elapsed()
    });
    println!(
        "replica killed -9 and started again without its hub, which came back meanwhile: {asked}; caught up after {back:?}"
    );
    asked.without_a_failure();

    hub.program().signal(Signal::SIGSTOP);
    let (asked, ()) = tokio::join!(ask(&replica), async {
        let frozen = Instant::now();
        eventually!("the replica notices", LIMIT, async {
            match replica.client.kv_put("a", "", KvPut::default()).await {
                Err(error) if error.status() == Some(503) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        println!("a hub that is frozen is noticed within {:?}", frozen.elapsed());
    });
    println!("hub frozen: {asked}");
    asked.without_a_failure();
    hub.program().signal(Signal::SIGCONT);
    register(&hub.client, SERVICES + 1, "192.0.2.3").await;
    eventually!("the replica follows again", LIMIT, has(&replica.client, SERVICES + 1));
}

async fn register(hub: &Client, number: usize, address: &str) {
    let service = NodeService { service: format!("web-{number}"), port: 80, ..NodeService::default() };
    let registration = CatalogRegistration {
        node: format!("host-{number}"),
        address: address.into(),
        service: Some(service),
        ..CatalogRegistration::default()
    };
    hub.catalog_register(&registration).await.expect("the hub takes it");
}

async fn has(replica: &Client, number: usize) -> Result<(), String> {
    let found = replica.catalog_service(&format!("web-{number}"), None).await.map_err(|e| e.to_string())?;
    if found.value.is_empty() { Err("it is not there".into()) } else { Ok(()) }
}

async fn refuses_writes(replica: &Client) {
    let start = Instant::now();
    let refused = replica.kv_put("a", "", KvPut::default()).await.expect_err("nobody can take it");
    assert_eq!(refused.status(), Some(503), "{refused}");
    assert!(refused.to_string().contains("the hub is away"), "{refused}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// What came of the questions.
struct Asked {
    sent: usize,
    /// Answered, with an address.
    found: usize,
    said: String,
}

impl Asked {
    fn without_a_failure(&self) {
        assert_eq!((self.sent, self.found), (QUESTIONS, QUESTIONS), "{}", self.said);
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} questions, {} failed", self.sent, self.sent - self.found)
    }
}

/// Asks for one service after the other by dnsperf.
async fn ask(replica: &Registry) -> Asked {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let names: Vec<_> = (0..SERVICES).map(|number| format!("web-{number}.service.consul A")).collect();
    fs::write(file.path(), names.join("\n")).expect("our own file");
    let (port, rate) = (replica.dns_port().to_string(), A_SECOND.to_string());
    let rounds = (QUESTIONS / SERVICES).to_string();
    let asking = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &port, "-n", &rounds, "-Q", &rate, "-t", "5", "-d"])
        .arg(file.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = asking.await.expect("dnsperf runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |before: &str| {
        let rest = said.split_once(before)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Asked { sent: number("Queries sent:").unwrap_or(0), found: number("NOERROR").unwrap_or(0), said }
}
