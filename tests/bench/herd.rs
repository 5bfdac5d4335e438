//! 5,000 blocking queries on one service: how soon all are answered after a change of it, beside the time that bare
//! writes to as many sockets take; and that a change of another service wakes none.
//!
//! All reading is done by one thread, the same for both; the bare writes are made by another one, in a plain loop.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::{held::Held, registry::Registry};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{
    catalog,
    figures::{Row, Times},
    wire::{self, Wire},
};

const WATCHERS: usize = 5000;
const ROUNDS: u16 = 9;
const LIMIT: f64 = 2.0;
const PATH: &str = "/v1/health/service/service-0500?passing";
/// Until all who read are asleep again.
const SETTLE: Duration = Duration::from_millis(300);
/// Who is woken in error is answered long before this.
const UNWOKEN: Duration = Duration::from_secs(1);
const START_LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn answered() -> Vec<Row> {
    allow_many_files();
    let mut registry = Registry::in_memory().await;
    catalog::fill(&registry.client).await;
    let (address, pid) = (wire::address(&registry.url()), registry.program().pid());
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a thread can be made");
        runtime.block_on(measure(address, pid))
    });
    let Measured { ours, bare, woken, kib_each } = measured.await.expect("it does not panic");
    let mut ratios: Vec<f64> =
        ours.iter().zip(&bare).map(|(ours, bare)| ours.as_secs_f64() / bare.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    vec![
        Row::at_most("5,000 blocking queries answered, p99", ratio, "bare writes to as many sockets", LIMIT),
        Row::told("  kvstore, change sent -> p99 answered", &ours.into_iter().collect::<Times>()),
        Row::told("  bare writes of the same bytes, p99", &bare.into_iter().collect::<Times>()),
        Row::none("  woken by a change of another service", woken),
        Row::told("  memory that each of them takes", &format!("{kib_each:.1} KiB")),
    ]
}

/// For connections of which both ends are ours.
fn allow_many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the kernel tells it");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the hard limit it is allowed");
}

/// From a change until 99 % of so many who wait for it have their answers, again and again.
pub(crate) async fn waited(registry: &Registry, watchers: usize, rounds: u16) -> Times {
    allow_many_files();
    let address = wire::address(&registry.url());
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a thread can be made");
        runtime.block_on(async {
            let (mut one, mut herd) = (Wire::to(address).await, connected(address, watchers).await);
            let mut index = one.ask(&wire::get(PATH)).await.index;
            let mut times = Times::default();
            for round in 0..rounds {
                wait_all(&mut herd, index, &mut one).await;
                let answers = reading(herd).await;
                let sent = Instant::now();
                one.ask(&change(catalog::SMALL, round + 1)).await;
                let read = collected(answers).await;
                times.push(read.times_since(sent).at(99));
                (herd, index) = (read.herd, read.index);
            }
            times
        })
    });
    measured.await.expect("it does not panic")
}

#[derive(Default)]
struct Measured {
    /// Of each round, the time at which 99 % had their answers.
    ours: Vec<Duration>,
    bare: Vec<Duration>,
    woken: usize,
    kib_each: f64,
}

async fn measure(address: SocketAddr, pid: Pid) -> Measured {
    let before = Held::by(pid).mib;
    let (mut one, mut herd) = (Wire::to(address).await, connected(address, WATCHERS).await);
    let first = one.ask(&wire::get(PATH)).await;
    let (mut index, mut measured) = (first.index, Measured::default());
    let mut bare = Bare::new(first.whole).await;
    for round in 0..ROUNDS {
        wait_all(&mut herd, index, &mut one).await;
        if round == 0 {
            let kib = (Held::by(pid).mib - before) * 1024.0;
            measured.kib_each = kib / f64::from(u32::try_from(WATCHERS).expect("it fits"));
            one.ask(&change("service-0501", 1)).await;
            sleep(UNWOKEN).await;
            measured.woken = WATCHERS.saturating_sub(waiting(&mut one).await);
        }
        let answers = reading(herd).await;
        let sent = Instant::now();
        one.ask(&change(catalog::SMALL, round + 1)).await;
        let read = collected(answers).await;
        measured.ours.push(read.times_since(sent).at(99));
        (herd, index) = (read.herd, read.index);
        measured.bare.push(bare.round().await);
    }
    measured
}

async fn connected(address: SocketAddr, count: usize) -> Vec<Wire> {
    let mut herd = Vec::with_capacity(count);
    for _ in 0..count {
        herd.push(Wire::to(address).await);
    }
    herd
}

/// Another port for one instance.
fn change(service: &str, by: u16) -> Vec<u8> {
    let mut registration = catalog::registration(service, 1, 37);
    if let Some(instance) = &mut registration.service {
        instance.port = 1000 + by;
    }
    wire::put("/v1/catalog/register", &serde_json::to_string(&registration).expect("keys are strings"))
}

/// Has the whole herd wait for what comes after `index`.
async fn wait_all(herd: &mut [Wire], index: u64, one: &mut Wire) {
    let request = wire::get(&format!("{PATH}&index={index}&wait=10m"));
    for wire in &mut *herd {
        wire.send(&request).await;
    }
    let start = Instant::now();
    while waiting(one).await < herd.len() {
        assert!(start.elapsed() < START_LIMIT, "only {} wait", waiting(one).await);
        sleep(SETTLE).await;
    }
}

/// How many the registry says wait.
async fn waiting(one: &mut Wire) -> usize {
    let metrics = one.ask(&wire::get("/v1/agent/metrics?format=prometheus")).await.whole;
    let text = String::from_utf8(metrics).expect("it is text");
    let of = |line: &str| line.strip_prefix("consul_rpc_queries_blocking ")?.split('.').next()?.trim().parse().ok();
    let found = text.lines().find_map(of);
    found.unwrap_or_else(|| panic!("no number of waiting queries in {text}"))
}

/// The herd, each with the time at which it had its answer and the index there.
struct Read {
    herd: Vec<Wire>,
    when: Vec<Instant>,
    index: u64,
}

impl Read {
    fn times_since(&self, sent: Instant) -> Times {
        self.when.iter().map(|when| *when - sent).collect()
    }
}

type Answers = JoinSet<(Wire, Instant, u64)>;

/// Has each of the herd wait for bytes.
async fn reading(herd: Vec<Wire>) -> Answers {
    let mut answers = JoinSet::new();
    for mut wire in herd {
        answers.spawn(async move {
            let answer = wire.answer().await;
            (wire, Instant::now(), answer.index)
        });
    }
    sleep(SETTLE).await;
    answers
}

async fn collected(answers: Answers) -> Read {
    let mut read = Read { herd: Vec::new(), when: Vec::new(), index: 0 };
    for (wire, when, index) in answers.join_all().await {
        read.herd.push(wire);
        read.when.push(when);
        read.index = index;
    }
    read
}

/// As many connections, with both ends here.
struct Bare {
    bytes: Arc<[u8]>,
    streams: Vec<TcpStream>,
    herd: Vec<Wire>,
}

impl Bare {
    async fn new(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let accept = thread::spawn(move || {
            let accepted = (0..WATCHERS).map(|_| listener.accept().map(|(stream, _)| stream));
            accepted.collect::<Result<Vec<_>, _>>().expect("they come")
        });
        let herd = connected(address, WATCHERS).await;
        Self { bytes: answer.into(), streams: accept.join().expect("it does not panic"), herd }
    }

    /// Writes the answer to each; the time at which 99 % had it.
    async fn round(&mut self) -> Duration {
        let answers = reading(std::mem::take(&mut self.herd)).await;
        let (bytes, mut streams) = (self.bytes.clone(), std::mem::take(&mut self.streams));
        let writes = thread::spawn(move || {
            let start = Instant::now();
            for stream in &mut streams {
                stream.write_all(&bytes).expect("the other end reads");
            }
            (streams, start)
        });
        let read = collected(answers).await;
        let (streams, start) = writes.join().expect("it does not panic");
        let took = read.times_since(start).at(99);
        (self.streams, self.herd) = (streams, read.herd);
        took
    }
}
