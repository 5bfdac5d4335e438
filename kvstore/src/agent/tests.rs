//! Probes as they come and go with their rows, on a store in memory.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use kvstore_core::{Index, Target, row::Node};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::*;
use crate::{engine::Memory, store::Writer};

const PATIENCE: Duration = Duration::from_secs(20);

struct Agent {
    store: Store,
    writer: Writer,
    node: NodeKey,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    async fn start() -> Self {
        let (store, writer) = Store::start(Box::new(Memory::new(Index(1000)))).unwrap();
        let node = NodeKey::new("n").unwrap();
        let row = Node {
            name: "n".into(),
            id: String::new(),
            address: "127.0.0.1".into(),
            tagged_addresses: None,
            meta: None,
        };
        let command = Command::Register { node: row, keep_node: false, instance: None, checks: vec![] };
        store.submit(command).await.unwrap();
        let shutdown = CancellationToken::new();
        let every = Duration::from_secs(30);
        let running = tokio::spawn(run(store.clone(), node.clone(), every, shutdown.clone()));
        Self { store, writer, node, shutdown, running }
    }

    /// A check of the node by itself, with `interval` in milliseconds.
    async fn check(&self, id: &str, kind: ProbeKind, interval: u64) {
        self.named_check(id, id, kind, interval).await;
    }

    async fn named_check(&self, id: &str, name: &str, kind: ProbeKind, interval: u64) {
        let probe = Probe::new(kind, Duration::from_millis(interval), Duration::from_secs(1));
        let check = Check {
            node: self.node.clone(),
            id: CheckId::new(id).unwrap(),
            name: name.into(),
            status: Status::Critical,
            notes: String::new(),
            output: String::new(),
            service: None,
            kind: probe.kind.name().into(),
            probe: Some(Arc::new(probe)),
            interval: String::new(),
            timeout: String::new(),
            definition: serde_json::Value::Null,
            owner: Owner::Agent,
        };
        self.store.submit(Command::RegisterCheck { check: Box::new(check) }).await.unwrap();
    }

    async fn remove(&self, id: &str) {
        let target = Target::Check(CheckId::new(id).unwrap());
        self.store.submit(Command::DeregisterOwn { node: self.node.clone(), target }).await.unwrap();
    }

    /// Waits until the check has this status, and gives its output.
    async fn becomes(&self, id: &str, status: Status) -> String {
        let id = CheckId::new(id).unwrap();
        let seen = async {
            loop {
                let state = self.store.state();
                match state.check(&self.node, &id) {
                    Some(row) if row.status == status => return row.output.clone(),
                    _ => self.store.wait_past(&[WatchKey::NodeChecks(self.node.clone())], state.index()).await,
                };
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{id} never became {status}"))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.running).await.expect("it ends").unwrap().unwrap();
        self.writer.stop();
    }
}

fn tcp(address: &str) -> ProbeKind {
    ProbeKind::Tcp { address: address.into() }
}

/// A port that counts who connects.
async fn counting() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_check_follows_what_it_probes() {
    let agent = Agent::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    agent.check("c", tcp(&address.to_string()), 50).await;
    assert_eq!(agent.becomes("c", Status::Passing).await, format!("TCP connect {address}: Success"));
    drop(listener);
    assert!(agent.becomes("c", Status::Critical).await.contains("refused"));
    let _again = TcpListener::bind(address).await.unwrap();
    agent.becomes("c", Status::Passing).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_removed_check_is_probed_no_more() {
    let agent = Agent::start().await;
    let (address, count) = counting().await;
    agent.check("c", tcp(&address), 20).await;
    agent.becomes("c", Status::Passing).await;
    agent.remove("c").await;
    // Another check's result shows that the removal was seen: both come by the same look at the rows.
    agent.check("d", tcp(&address), 60_000).await;
    agent.becomes("d", Status::Passing).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = count.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count.load(Ordering::SeqCst), before);
    agent.stop().await;
}

#[tokio::test]
async fn a_check_registered_anew_with_another_probe_gets_it() {
    let agent = Agent::start().await;
    let (old, _) = counting().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    agent.check("c", tcp(&old), 50).await;
    agent.becomes("c", Status::Passing).await;
    agent.check("c", tcp(&closed.to_string()), 50).await;
    assert!(agent.becomes("c", Status::Critical).await.contains(&closed.to_string()));
    agent.stop().await;
}

#[tokio::test]
async fn a_check_changed_in_other_ways_is_probed_on_as_it_was() {
    const HOURS: u64 = 100 * 3600 * 1000;
    let agent = Agent::start().await;
    let (address, count) = counting().await;
    agent.named_check("c", "old", tcp(&address), HOURS).await;
    agent.becomes("c", Status::Passing).await;
    agent.named_check("c", "new", tcp(&address), HOURS).await;
    // A probe that were started again would run once more within a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    agent.stop().await;
}

#[tokio::test]
async fn ttl_checks_and_checks_of_others_are_left_alone() {
    let agent = Agent::start().await;
    agent.check("ttl", ProbeKind::Ttl { ttl: Duration::from_secs(1) }, 0).await;
    let (address, _) = counting().await;
    agent.check("own", tcp(&address), 50).await;
    agent.becomes("own", Status::Passing).await;
    let state = agent.store.state();
    let row = state.check(&agent.node, &CheckId::new("ttl").unwrap()).unwrap();
    assert_eq!((row.status, row.output.as_str()), (Status::Critical, ""));
    agent.stop().await;
}

/// 2,000 HTTP checks against one small server: every one gets its turn, nothing is left when the agent stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_checks_all_pass() {
    let agent = Agent::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            });
        }
    });
    for n in 0..2000 {
        let kind = ProbeKind::Http {
            url: format!("http://{address}/{n}"),
            method: "GET".into(),
            header: BTreeMap::new(),
            body: String::new(),
            no_redirects: false,
            tls_skip_verify: false,
            tls_server_name: String::new(),
        };
        agent.check(&format!("c{n}"), kind, 10_000).await;
    }
    for n in 0..2000 {
        agent.becomes(&format!("c{n}"), Status::Passing).await;
    }
    agent.stop().await;
}
