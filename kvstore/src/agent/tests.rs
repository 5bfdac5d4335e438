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
    running: JoinHandle<()>,
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
        let settings = Settings {
            output_every: Duration::from_secs(30),
            programs: Programs::All,
            outputs: Outputs::default(),
            trust: Trust::default(),
            runs: CheckMetrics::default(),
        };
        let running = tokio::spawn(run(store.clone(), node.clone(), settings, shutdown.clone()));
        Self { store, writer, node, shutdown, running }
    }

    /// A check of the node by itself, with `interval` in milliseconds.
    async fn check(&self, id: &str, kind: ProbeKind, interval: u64) {
        self.named_check(id, id, kind, interval).await;
    }

    async fn named_check(&self, id: &str, name: &str, kind: ProbeKind, interval: u64) {
        let probe = Probe::new(kind, Duration::from_millis(interval), Duration::from_secs(1));
        let check = Check { name: name.into(), ..self.row(id, probe, None) };
        self.store.submit(Command::RegisterCheck { check: Box::new(check) }).await.unwrap();
    }

    fn row(&self, id: &str, probe: Probe, service: Option<&InstanceId>) -> Check {
        Check {
            node: self.node.clone(),
            id: CheckId::new(id).unwrap(),
            name: id.into(),
            status: Status::Critical,
            notes: String::new(),
            output: String::new(),
            service: service.cloned(),
            kind: probe.kind.name().into(),
            probe: Some(Arc::new(probe)),
            interval: String::new(),
            timeout: String::new(),
            definition: serde_json::Value::Null,
            owner: Owner::Agent,
            from_file: false,
        }
    }

    /// An instance with one check, `ID-check`.
    async fn instance(&self, id: &str, probe: Probe) {
        let row = serde_json::json!({"node": "n", "id": id, "service": id, "owner": Owner::Agent});
        let instance: kvstore_core::row::Instance = serde_json::from_value(row).unwrap();
        let checks = vec![self.row(&format!("{id}-check"), probe, Some(&instance.id))];
        let command = Command::RegisterInstance { instance: instance.into(), checks, replace_checks: true };
        self.store.submit(command).await.unwrap();
    }

    fn has(&self, id: &str) -> bool {
        self.store.state().instance(&self.node, &InstanceId::new(id).unwrap()).is_some()
    }

    /// Waits until the instance is gone.
    async fn loses(&self, id: &str) {
        let gone = async {
            while self.has(id) {
                let index = self.store.state().index();
                if self.has(id) {
                    self.store.wait_past(&[WatchKey::Node(self.node.clone())], index).await;
                }
            }
        };
        timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{id} stays"));
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
        timeout(PATIENCE, self.running).await.expect("it ends").unwrap();
        self.writer.stop();
    }
}

fn tcp(address: &str) -> ProbeKind {
    ProbeKind::Tcp { address: address.into(), tls: None }
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

#[tokio::test]
async fn an_instance_goes_when_its_check_stays_critical() {
    let agent = Agent::start().await;
    let (open, _) = counting().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let after = |kind, after: u64| Probe {
        deregister_after: Duration::from_millis(after),
        ..Probe::new(kind, Duration::from_millis(50), Duration::from_secs(1))
    };
    agent.instance("dead", after(tcp(&closed), 300)).await;
    agent.instance("alive", after(tcp(&open), 300)).await;
    agent.instance("patient", after(tcp(&closed), 3_600_000)).await;
    agent.instance("ttl", after(ProbeKind::Ttl { ttl: Duration::from_hours(1) }, 300)).await;
    agent.becomes("dead-check", Status::Critical).await;
    assert!(agent.has("dead") && agent.has("ttl"), "not before its time");
    agent.loses("dead").await;
    agent.loses("ttl").await;
    agent.becomes("alive-check", Status::Passing).await;
    assert!(agent.has("alive") && agent.has("patient"));
    agent.stop().await;
}

#[tokio::test]
async fn an_alias_follows_what_it_stands_for() {
    let agent = Agent::start().await;
    let own = agent.node.clone();
    let alias = ProbeKind::Alias { node: own.clone(), service: InstanceId::new("web").ok() };
    agent.check("alias", alias, 0).await;
    let missing = async {
        while agent.store.state().check(&own, &CheckId::new("alias").unwrap()).unwrap().output.is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, missing).await.unwrap();
    assert_eq!(agent.becomes("alias", Status::Critical).await, "Service web could not be found on node n");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probe = Probe::new(tcp(&address.to_string()), Duration::from_millis(50), Duration::from_secs(1));
    agent.instance("web", probe).await;
    assert_eq!(agent.becomes("alias", Status::Passing).await, "All checks passing.");
    drop(listener);
    let output = agent.becomes("alias", Status::Critical).await;
    assert!(output.starts_with("Aliased check \"web-check\" failing: TCP connect"), "{output}");
    agent.stop().await;
}

#[tokio::test]
async fn a_check_fails_only_after_as_many_failures_as_registered() {
    use kvstore_core::health::Thresholds;

    let agent = Agent::start().await;
    let thresholds = Thresholds { failures_before_warning: 2, failures_before_critical: 3, ..Thresholds::default() };
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    // The first run passes, the others fail.
    let line = format!("echo >> {0}; n=$(wc -l < {0}); echo $n; [ $n = 1 ] || exit 2", runs.display());
    let kind = ProbeKind::Script { args: vec!["sh".into(), "-c".into(), line] };
    let probe = Probe { thresholds, ..Probe::new(kind, Duration::from_millis(200), Duration::from_secs(5)) };
    agent.instance("web", probe).await;
    assert_eq!(agent.becomes("web-check", Status::Passing).await, "1\n");
    assert_eq!(agent.becomes("web-check", Status::Warning).await, "3\n");
    assert_eq!(agent.becomes("web-check", Status::Critical).await, "4\n");
    agent.stop().await;
}
