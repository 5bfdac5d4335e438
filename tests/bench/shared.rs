//! Five kvstores on one etcd, with a catalog that changes: what a change costs a host that only hears of it, and when it
//! shows there, beside etcd's own client that watches the same rows; what a host has in memory, and how soon it is there
//! again. Then writes through one of them beside writes to that etcd.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flotilla_tests::{
    eventually,
    held::Held,
    ports::free_port,
    program::{Launch, Program},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use kvstore_client::{Client, ClientConfig, Wait};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    catalog, cpu,
    figures::{Row, Times},
    peers::{self, Etcd},
    wrk::{self, Rates},
};

const HOSTS: usize = 5;
const INSTANCES: usize = 20_000;
const CHANGES_A_SECOND: u64 = 200;
const CHANGES: usize = 4000;

/// One in so many changes is one that both wait for.
const MARKED: usize = 20;

/// The service whose port tells how many marked changes there were.
const MARK: &str = "marked";

/// How much more than for etcd's client a change may cost, and how much later it may show.
const AT_MOST: f64 = 1.5;

const LIMIT_MIB: f64 = 120.0;
const START: Duration = Duration::from_secs(5);

/// Long enough for anything here.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn by_five() -> Vec<Row> {
    let etcd = Etcd::start().await;
    let mut hosts = Vec::new();
    for n in 0..HOSTS {
        hosts.push(Host::start(&etcd, n).await);
    }
    fill(&hosts).await;
    let mut watch = Watch::start(&etcd);
    let marked = Marked::default();
    let shown = tokio::spawn(marked.clone().shown_at(hosts[4].client.clone()));
    let told = watch.tells(&marked);
    // One that nobody asks anything.
    let quiet = hosts[3].program.pid();
    let before = (cpu::of(quiet), cpu::of(watch.pid()));
    change(&hosts[0].client, &marked).await;
    let (shown, told) = (shown.await.expect("it does not panic"), told.await.expect("it does not panic"));
    let after = (cpu::of(quiet), cpu::of(watch.pid()));
    drop(watch);
    let mib = hosts[3].mib();
    let started = hosts[2].start_again(&etcd).await;
    let (ours, theirs) = writes(&hosts[0], &etcd).await;
    let each = |before, after: Duration| after.saturating_sub(before) / u32::try_from(CHANGES).expect("it is small");
    let costs = (each(before.0, after.0), each(before.1, after.1));
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64().max(1e-9);
    let micros = |what, time: Duration| Row::told(what, &format!("{:.0} µs", time.as_secs_f64() * 1e6));
    vec![
        Row::at_most(
            "a change until a 5th host shows it",
            ratio(shown.median(), told.median()),
            "a bare watch",
            AT_MOST,
        )
        .note(format!("{INSTANCES} instances, {CHANGES_A_SECOND} changes a second")),
        Row::told("  kvstore, write -> answered wait", &shown),
        Row::told("  etcdctl watch, write -> told", &told),
        Row::at_most("processor of a host for a change", ratio(costs.0, costs.1), "a bare watch", AT_MOST),
        micros("  kvstore", costs.0),
        micros("  etcdctl watch", costs.1),
        Row {
            what: "resident memory of a host",
            found: format!("{mib:.1} MiB"),
            bound: Some((format!("under {LIMIT_MIB} MiB"), mib < LIMIT_MIB)),
        },
        Row::within("start until all is shown", &Times::from_iter([started]), START, "read from etcd"),
        Row::told("writes through etcd, 32 connections", &format!("{:.2} of bare etcd", ours / theirs)),
        Row::rate("  kvstore, writes a second", ours),
        Row::rate("  etcd", theirs),
    ]
}

/// One of the kvstores.
pub(crate) struct Host {
    number: usize,
    http: u16,
    dir: TempDir,
    program: Program,
    pub(crate) client: Client,
}

impl Host {
    pub(crate) async fn start(etcd: &Etcd, number: usize) -> Self {
        let (http, dir) = (free_port(), tempfile::tempdir().expect("a temporary directory can be made"));
        let config = ClientConfig {
            addresses: vec![format!("http://127.0.0.1:{http}")],
            timeout: Duration::from_secs(10),
            ..ClientConfig::default()
        };
        let client = Client::new(&config).expect("the address is well formed");
        let program = launch(etcd, number, http, &dir).start();
        let host = Self { number, http, dir, program, client };
        host.is_there().await;
        host
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// What it has in memory.
    pub(crate) fn mib(&self) -> f64 {
        Held::by(self.program.pid()).mib
    }

    async fn is_there(&self) {
        eventually!("the kvstore answers", LIMIT, async {
            self.client.catalog_services(None).await.map(|read| read.value.len()).map_err(|error| error.to_string())
        });
    }

    /// Kills it; gives how long the next one takes until it shows all.
    async fn start_again(&mut self, etcd: &Etcd) -> Duration {
        self.program.kill();
        let start = Instant::now();
        self.program = launch(etcd, self.number, self.http, &self.dir).start();
        self.is_there().await;
        let took = start.elapsed();
        let services = self.client.catalog_services(None).await.expect("it answers").value.len();
        assert!(services > INSTANCES / 10, "{services}");
        took
    }
}

fn launch(etcd: &Etcd, number: usize, http: u16, dir: &TempDir) -> Launch {
    let (engine, node) = (etcd.url.replace("http://", "etcd://"), format!("node-{number}"));
    let (http, dns) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{}", free_port()));
    let data = dir.path().display().to_string();
    let args = ["--node", &node, "--engine", &engine, "--data-dir", &data, "--http-addr", &http, "--dns-addr", &dns];
    Launch::ours("kvstore").args(["agent"]).args(args)
}

/// Ten instances of each service, on 200 machines.
fn instance(number: usize) -> kvstore_client::types::CatalogRegistration {
    catalog::registration(&format!("service-{:04}", number / 10), number % 10, number % 200)
}

async fn fill(hosts: &[Host]) {
    let all = stream::iter(0..INSTANCES).map(|n| {
        let client = &hosts[n % HOSTS].client;
        async move { client.catalog_register(&instance(n)).await }
    });
    let done: Result<Vec<()>, _> = all.buffer_unordered(64).try_collect().await;
    done.unwrap_or_else(|error| panic!("a kvstore refuses an instance: {error}"));
    for host in hosts {
        eventually!("all hosts show all", LIMIT, async {
            let listed = host.client.catalog_services(None).await.map_err(|error| error.to_string())?.value.len();
            if listed > INSTANCES / 10 { Ok(()) } else { Err(listed.to_string()) }
        });
    }
}

/// Changes the port of one instance after the other, at an even pace.
async fn change(client: &Client, marked: &Marked) {
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(CHANGES_A_SECOND).expect("it is small"));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let writes = (0..CHANGES).map(async |n| {
        let registration = if n % MARKED == 0 {
            marked.next()
        } else {
            let mut other = instance(n * 7919 % INSTANCES);
            if let Some(service) = &mut other.service {
                service.port = 30_000;
            }
            other
        };
        client.catalog_register(&registration).await.expect("it is taken");
    });
    let mut running = stream::FuturesUnordered::new();
    for write in writes {
        pace.tick().await;
        running.push(write);
        while let Some(Some(())) = futures_util::FutureExt::now_or_never(running.next()) {}
    }
    while running.next().await.is_some() {}
}

/// Changes that are waited for: each has the next port.
#[derive(Clone)]
struct Marked {
    sent: Arc<[AtomicU64]>,
    count: Arc<AtomicU64>,
    start: Instant,
}

impl Default for Marked {
    fn default() -> Self {
        let sent = (0..CHANGES.div_ceil(MARKED)).map(|_| AtomicU64::new(0)).collect();
        Self { sent, count: Arc::default(), start: Instant::now() }
    }
}

impl Marked {
    /// Sent from now on.
    fn next(&self) -> kvstore_client::types::CatalogRegistration {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut registration = catalog::registration(MARK, 0, 0);
        if let Some(service) = &mut registration.service {
            service.port = u16::try_from(number + 1).expect("there are few");
        }
        let at = u64::try_from(self.start.elapsed().as_micros()).expect("it is not long");
        self.sent[usize::try_from(number).expect("there are few")].store(at, Ordering::Relaxed);
        registration
    }

    /// How long it took until now since the change to `port` was sent.
    fn since(&self, port: u16) -> Duration {
        let sent = self.sent[usize::from(port) - 1].load(Ordering::Relaxed);
        self.start.elapsed().saturating_sub(Duration::from_micros(sent))
    }

    fn is_last(&self, port: u16) -> bool {
        usize::from(port) == self.sent.len()
    }

    /// When a waiting query was answered with each.
    async fn shown_at(self, client: Client) -> Times {
        let (mut index, mut times) = (0, BTreeMap::new());
        loop {
            let wait = (index > 0).then_some(Wait { index, wait: Duration::from_secs(5) });
            let read = client.health_service(MARK, true, wait).await.expect("the kvstore answers");
            index = read.index;
            let Some(port) = read.value.first().map(|entry| entry.service.port) else { continue };
            times.entry(port).or_insert_with(|| self.since(port));
            if self.is_last(port) {
                return times.into_values().collect();
            }
        }
    }
}

/// Etcd's own client, which prints every row that changes.
struct Watch {
    child: Child,
}

impl Watch {
    fn start(etcd: &Etcd) -> Self {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.url, "watch", "--prefix", "/flotilla/"]);
        let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("etcdctl is installed");
        Self { child }
    }

    fn pid(&self) -> Pid {
        let id = self.child.id().expect("it runs");
        Pid::from_raw(i32::try_from(id).expect("the kernel's ids fit"))
    }

    /// When it told of each marked change.
    fn tells(&mut self, marked: &Marked) -> JoinHandle<Times> {
        let out = self.child.stdout.take().expect("it is piped");
        let marked = marked.clone();
        let mut lines = BufReader::with_capacity(1 << 20, out).lines();
        tokio::spawn(async move {
            let mut times = BTreeMap::new();
            while let Some(line) = lines.next_line().await.expect("a pipe can be read") {
                let port = line.split_once(&format!("\"service\":\"{MARK}\"")).and_then(|_| {
                    line.split_once("\"port\":")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
                });
                let Some(port) = port else { continue };
                times.entry(port).or_insert_with(|| marked.since(port));
                if marked.is_last(port) {
                    break;
                }
            }
            times.into_values().collect()
        })
    }
}

/// Writes a second through a kvstore, and to its etcd by the same program over as many connections.
async fn writes(host: &Host, etcd: &Etcd) -> (f64, f64) {
    let script = peers::file("put.lua");
    let ours = host.url();
    let rates = Rates::in_turns(&[0, 1], async |server| match server {
        0 => wrk::scripted(&script, &ours, "kvstore").await.rate,
        _ => wrk::scripted(&script, &etcd.url, "etcd").await.rate,
    });
    let rates = rates.await;
    (rates.of(0), rates.of(1))
}
