//! 2,000 HTTP checks at 10 s on one agent: what of a core the agent takes for them, with an answer that is always the same
//! and with one that is another each time, and how often that wakes who waits on states.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::{eventually, registry::Registry};
use futures_util::{StreamExt, TryStreamExt, stream};
use kvstore_client::{
    Client, GoDuration,
    types::{CheckRegistration, ServiceRegistration},
};
use nix::unistd::Pid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinHandle,
    time::sleep,
};

use crate::{
    cpu,
    figures::Row,
    peers,
    wire::{self, Wire},
};

const CHECKS: usize = 2000;
const EVERY: Duration = Duration::from_secs(10);
const LIMIT_PERCENT: f64 = 5.0;
/// Each check has its turn several times.
const MEASURED: Duration = Duration::from_secs(30);
/// Until the last of them passes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Of a wait for a state, none of which changes.
const WATCHED: &str = "/v1/health/state/any";

pub(crate) async fn run() -> Vec<Row> {
    let (address, server) = serve();
    let dir = peers::dir();
    let mut registry = Registry::on_disk_in(dir.path()).await;
    let pid = registry.program().pid();
    let idle = cpu_of(pid, Duration::from_secs(5)).await;
    register(&registry.client, address).await;
    eventually!("every check passes", PATIENCE, async {
        match registry.client.health_state("passing", None).await {
            Ok(checks) if checks.value.len() >= CHECKS => Ok(()),
            Ok(checks) => Err(format!("{} do", checks.value.len())),
            Err(e) => Err(e.to_string()),
        }
    });
    // The second run of each sets its place for good.
    sleep(EVERY).await;
    let same = measure(pid, &server).await;
    server.varies.store(true, Ordering::Relaxed);
    let (woken, watching) = watch(wire::address(&registry.url()));
    let varied = measure(pid, &server).await;
    watching.abort();
    let woken = woken.load(Ordering::Relaxed);
    let row = |what, measured: &Measured| Row {
        what,
        found: format!("{:.1} % of a core ({} probes in {} s)", measured.percent, measured.probes, MEASURED.as_secs()),
        bound: Some((format!("under {LIMIT_PERCENT} %"), measured.percent < LIMIT_PERCENT)),
    };
    vec![
        row("2,000 HTTP checks at 10 s", &same),
        row("  with another output each time", &varied),
        Row {
            what: "  who waits on states, woken by outputs",
            found: woken.to_string(),
            bound: Some(("never".into(), woken == 0)),
        },
        Row::told("  without checks", &format!("{idle:.1} %")),
    ]
}

struct Measured {
    percent: f64,
    probes: usize,
}

async fn measure(pid: Pid, server: &Server) -> Measured {
    let before = server.asked.load(Ordering::Relaxed);
    let percent = cpu_of(pid, MEASURED).await;
    let probes = server.asked.load(Ordering::Relaxed) - before;
    let due = CHECKS * usize::try_from(MEASURED.as_secs() / EVERY.as_secs()).expect("it fits");
    assert!(probes.abs_diff(due) < due / 20, "{probes} probes where {due} are due");
    Measured { percent, probes }
}

/// What of a core a process uses in the next `time`, in percent.
async fn cpu_of(pid: Pid, time: Duration) -> f64 {
    let (before, start) = (cpu::of(pid), Instant::now());
    sleep(time).await;
    cpu::of(pid).saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0
}

async fn register(client: &Client, address: SocketAddr) {
    let all = stream::iter(0..CHECKS).map(|n| {
        let check = CheckRegistration {
            http: format!("http://{address}/{n}"),
            interval: Some(GoDuration(EVERY)),
            ..CheckRegistration::default()
        };
        let service = ServiceRegistration {
            id: format!("web-{n}"),
            name: "web".into(),
            port: 1024 + u16::try_from(n).expect("there are few"),
            check: Some(check),
            ..ServiceRegistration::default()
        };
        async move { client.register_service(&service).await }
    });
    let done: Result<Vec<()>, _> = all.buffer_unordered(8).try_collect().await;
    done.unwrap_or_else(|e| panic!("the registry refuses a service: {e}"));
}

/// How often who waits on states has an answer from now on.
fn watch(address: SocketAddr) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = woken.clone();
    let watching = tokio::spawn(async move {
        let mut wire = Wire::to(address).await;
        let mut index = wire.ask(&wire::get(WATCHED)).await.index;
        loop {
            index = wire.ask(&wire::get(&format!("{WATCHED}?index={index}&wait=5m"))).await.index;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (woken, watching)
}

/// What is probed.
#[derive(Default)]
struct Server {
    asked: AtomicUsize,
    varies: AtomicBool,
}

/// Serves on a thread of its own, so that the probes are not what its answers wait for.
fn serve() -> (SocketAddr, Arc<Server>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("sockets can be");
    let address = listener.local_addr().expect("it is bound");
    let server = Arc::new(Server::default());
    let own = server.clone();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a thread can be made");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("it is nonblocking");
            loop {
                let (stream, _) = listener.accept().await.expect("descriptors are left");
                tokio::spawn(answer(stream, own.clone()));
            }
        });
    });
    (address, server)
}

/// One request on one connection, as a service without keep-alive has it.
async fn answer(mut stream: TcpStream, server: Arc<Server>) {
    let _ = stream.read(&mut [0; 1024]).await;
    let asked = server.asked.fetch_add(1, Ordering::Relaxed);
    let number = if server.varies.load(Ordering::Relaxed) { asked } else { 0 };
    let body = format!("well since {number:010}\n");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    // Who asked may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}
