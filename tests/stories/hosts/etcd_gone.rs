//! Etcd is gone, all of it, for longer than hosts have to show that they live. Everything is answered as before, writes are
//! refused at once and in clear words, and what has happened meanwhile is known everywhere soon after its return.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flotilla_tests::{dnsperf::Ran, eventually, program::Launch};
use kvstore_client::{
    Client, GoDuration, KvPut,
    types::{CheckRegistration, ServiceRegistration},
};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{
    LEASE, Lab, by,
    site::{passing, register, serve},
};

const QUESTIONS: usize = 100_000;
/// In a second, so that they take longer than hosts have to show that they live.
const RATE: &str = "9000";
/// So long a write may take to be refused.
const REFUSED: Duration = Duration::from_secs(2);
/// From etcd's answering to everybody's knowing everything.
const CAUGHT_UP: Duration = Duration::from_secs(5);

pub(crate) async fn story() {
    let mut lab = Lab::start(3, 3).await;
    let servers: Vec<_> = (0..3).map(|host| serve(&lab, host)).collect();
    for host in 0..3 {
        register(&lab, host).await;
    }
    let client = lab.agents[1].client.clone();
    lab.bed.host(1).run(async move { check(&client).await }).await;
    put(&lab, 0, "before").await.expect("etcd is there");
    eventually!("all pass", Duration::from_secs(20), async {
        let seen = (passing(&lab, 0).await?, passing(&lab, 1).await?, passing(&lab, 2).await?);
        if [&seen.0, &seen.1, &seen.2].iter().all(|seen| seen.len() == 3) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let readers: Vec<_> = (0..3).map(|host| Reader::start(&lab, host)).collect();

    let gone = Instant::now();
    for member in &mut lab.cluster.members {
        member.kill();
    }
    // At once, before anybody has missed it, and when it is known to be away.
    let mut slowest = refused(&lab).await;
    questions(&lab).await;
    slowest = slowest.max(refused(&lab).await);
    println!("  writes: refused after {:.2} s at most", slowest.as_secs_f64());
    // What only this host can know, and the others only from etcd.
    servers[1].signal(Signal::SIGUSR1);
    sleep((LEASE + Duration::from_secs(2)).saturating_sub(gone.elapsed())).await;
    for (host, reader) in readers.into_iter().enumerate() {
        reader.stop(host).await;
    }
    println!("  etcd was gone for {:.1} s", gone.elapsed().as_secs_f64());

    for member in &mut lab.cluster.members {
        member.start_again(&lab.bed);
    }
    lab.cluster.ready(&lab.bed).await;
    let start = Instant::now();
    for host in 0..3 {
        by("caught up", start, CAUGHT_UP, async || caught_up(&lab, host).await).await;
    }
}

/// A check of the second host's server that its own kvstore runs.
async fn check(client: &Client) {
    let check = CheckRegistration {
        http: "http://127.0.0.1:8080/health".into(),
        interval: Some(GoDuration(Duration::from_secs(1))),
        ..CheckRegistration::default()
    };
    let service = ServiceRegistration {
        id: "web-h2".into(),
        name: "web".into(),
        port: 8080,
        check: Some(check),
        ..ServiceRegistration::default()
    };
    client.register_service(&service).await.expect("the registry takes it");
}

async fn put(lab: &Lab, host: usize, key: &str) -> Result<(), kvstore_client::Error> {
    let (client, key) = (lab.agents[host].client.clone(), key.to_owned());
    lab.bed.host(host).run(async move { client.kv_put(&key, "x", KvPut::default()).await }).await.map(drop)
}

/// Asks a host's kvstore for names of all kinds.
async fn questions(lab: &Lab) {
    let names = ["web.service.consul A", "web.service.consul SRV", "h3.node.consul A", "1.0.77.10.in-addr.arpa PTR"];
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), (names.join("\n") + "\n").repeat(QUESTIONS / names.len())).expect("our own file");
    let server = lab.agents[0].dns();
    let to = ["-s", &server.ip().to_string(), "-p", &server.port().to_string(), "-c", "4", "-n", "1", "-Q", RATE, "-d"];
    let launch = Launch::new("dnsperf").args(to).args([file.path()]);
    let ran = lab.bed.host(0).launch(launch).run(Duration::from_mins(2)).await;
    let ran = Ran::parse(&ran.ok().unwrap_or_else(|e| panic!("dnsperf: {e}")));
    println!("  DNS: {} questions, {} failed, {:.0} a second", QUESTIONS, ran.lost, ran.rate);
    assert_eq!((ran.replies, ran.lost), (QUESTIONS, 0));
}

/// A write through each kvstore; the longest that any took to be refused.
async fn refused(lab: &Lab) -> Duration {
    let mut slowest = Duration::ZERO;
    for host in 0..3 {
        let start = Instant::now();
        let error = put(lab, host, "meanwhile").await.expect_err("nobody can keep it");
        slowest = slowest.max(start.elapsed());
        assert_eq!(error.status(), Some(503), "{error}");
        assert!(error.to_string().contains("etcd") && error.to_string().contains("try again"), "{error}");
    }
    assert!(slowest < REFUSED, "{slowest:?}");
    slowest
}

/// Writes are taken and seen by the others, and everybody knows what the second host's check has found.
async fn caught_up(lab: &Lab, host: usize) -> Result<(), String> {
    let key = format!("after/{host}");
    put(lab, host, &key).await.map_err(|error| error.to_string())?;
    for other in 0..3 {
        let (client, key) = (lab.agents[other].client.clone(), key.clone());
        let read = lab.bed.host(other).run(async move { client.kv_get(&key, None).await }).await;
        read.map_err(|error| error.to_string())?.value.ok_or("another does not have what was written")?;
        let alive = lab.alive(other).await?;
        if alive.iter().any(|(_, alive)| !alive) {
            return Err(format!("not all live: {alive:?}"));
        }
    }
    let found = passing(lab, host).await?;
    if found == ["h1", "h3"] { Ok(()) } else { Err(format!("passing on {found:?}")) }
}

/// Reads from one kvstore all the time.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reader {
    fn start(lab: &Lab, host: usize) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (client, told, counted) = (lab.agents[host].client.clone(), stop.clone(), reads.clone());
        let task = lab.bed.host(host).spawn(async move {
            let mut failed = Vec::new();
            while !told.load(Ordering::Relaxed) {
                failed.extend(read(&client).await.err());
                counted.fetch_add(2, Ordering::Relaxed);
                sleep(Duration::from_millis(2)).await;
            }
            failed
        });
        Self { stop, reads, task }
    }

    async fn stop(self, host: usize) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.task.await.expect("it does not panic");
        println!("  h{}: {} reads, {} failed", host + 1, self.reads.load(Ordering::Relaxed), failed.len());
        assert!(failed.is_empty(), "{failed:?}");
    }
}

/// A key, and the instances: of those on other hosts nobody can know anything new, and none is given up.
async fn read(client: &Client) -> Result<(), String> {
    let key = client.kv_get("before", None).await.map_err(|error| error.to_string())?;
    key.value.ok_or("the key is gone")?;
    let found = client.health_service("web", true, None).await.map_err(|error| error.to_string())?.value;
    let others = found.iter().filter(|entry| entry.node.node != "h2").count();
    if others == 2 { Ok(()) } else { Err(format!("{} instances", found.len())) }
}
