//! What follows a change: the reload after its file is live, few writes for a burst of registrations, and few reloads for a
//! storm of changes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use flotilla_tests::{
    program::{Launch, Program},
    registry::Registry,
};
use kvstore_client::{KvPut, types::ServiceRegistration};
use tempfile::TempDir;

use crate::figures::{Row, Times};

const ROUNDS: u16 = 30;
const RELOAD_LIMIT: Duration = Duration::from_millis(3);

const BURSTS: u16 = 10;
const BURST: u16 = 50;
const BURST_LIMIT: Duration = Duration::from_millis(75);
const BURST_WRITES: usize = 3;

const STORM: u32 = 1000;
const STORM_PACE: Duration = Duration::from_millis(2);
const STORM_RELOADS: usize = 6;

/// Longer than any wait for quiet, so that what comes after it is a first change.
const PAUSE: Duration = Duration::from_millis(800);
/// Whoever has not seen it by then never will.
const LOST: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_micros(200);

/// A templater that keeps one file and copies it to `loaded` each time that it is loaded.
struct Follower {
    dir: TempDir,
    registry: Registry,
    templater: Program,
}

impl Follower {
    async fn begin(template: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("our own directory");
        write("list.tmpl", template);
        // No shell: what is measured is the templater.
        let reload = "[cp, list, loaded]";
        write("config.yaml", &format!("templates:\n  - {{source: list.tmpl, reload_cmd: {reload}}}\n"));
        let registry = Registry::in_memory().await;
        let launch = Launch::ours("templater").args(["--config", "config.yaml", "--registry", &registry.url()]);
        let templater = launch.dir(dir.path()).start();
        Self { dir, registry, templater }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn register(&self, id: u16, port: u16) {
        let service = ServiceRegistration {
            id: format!("web-{id:02}"),
            name: "web".into(),
            address: "127.0.0.1".into(),
            port,
            ..ServiceRegistration::default()
        };
        self.registry.client.register_service(&service).await.expect("the registry answers");
    }
}

const LIST: &str = "{% for i in service(name=\"web\") %}{{ i.port }}\n{% endfor %}";

/// The reload command's end, which is a little after its start.
pub(crate) async fn after_a_file() -> Vec<Row> {
    let follower = Follower::begin(LIST).await;
    let mut times = Times::default();
    for round in 0..=ROUNDS {
        tokio::time::sleep(PAUSE).await;
        let (file, loaded) = (follower.at("list"), follower.at("loaded"));
        let _ = fs::remove_file(&loaded);
        let wanted = format!("{}\n", 10_000 + round);
        let seen = tokio::task::spawn_blocking(move || {
            let live = when(|| fs::read_to_string(&file).is_ok_and(|text| text == wanted))?;
            Some(when(|| loaded.exists())? - live)
        });
        follower.register(1, 10_000 + round).await;
        let seen = seen.await.expect("it does not panic");
        let seen = seen.unwrap_or_else(|| panic!("nothing is reloaded:\n{}", follower.templater.log()));
        // The first round is the first file of all.
        if round > 0 {
            times.push(seen);
        }
    }
    vec![Row::within("file live -> reload command has run", &times, RELOAD_LIMIT, "consul-template 4")]
}

/// How often the file is written for a burst, and when it is complete.
pub(crate) async fn of_a_burst() -> Vec<Row> {
    let follower = Follower::begin(LIST).await;
    let (mut most, mut times) = (0, Times::default());
    for burst in 0..=BURSTS {
        tokio::time::sleep(PAUSE).await;
        let first = 10_000 + burst * BURST;
        let file = follower.at("list");
        let watching = tokio::task::spawn_blocking(move || writes(&file, first));
        let mut sent = Instant::now();
        for n in 0..BURST {
            sent = Instant::now();
            follower.register(n, first + n).await;
        }
        let (count, complete) = watching.await.expect("it does not panic");
        let complete = complete.unwrap_or_else(|| panic!("the file stays incomplete:\n{}", follower.templater.log()));
        if burst > 0 {
            most = most.max(count);
            times.push(complete.saturating_duration_since(sent));
        }
    }
    vec![
        at_most("files written for 50 registrations, at most", most, BURST_WRITES, "consul-template 16 to 30"),
        Row::within("last of 50 sent -> file complete", &times, BURST_LIMIT, "consul-template, no wait, 16 to 24"),
    ]
}

/// How often `path` was replaced until some time after it had the whole burst, and when it had that.
fn writes(path: &Path, first: u16) -> (usize, Option<Instant>) {
    let identity = || fs::metadata(path).map(|m| (m.ino(), m.mtime(), m.mtime_nsec())).ok();
    let (start, mut last, mut count, mut complete) = (Instant::now(), identity(), 0, None);
    while complete.map_or(start.elapsed() < LOST, |at: Instant| at.elapsed() < PAUSE) {
        let now = identity();
        if now != last {
            (last, count) = (now, count + 1);
            let text = fs::read_to_string(path).unwrap_or_default();
            let new = text.lines().filter(|line| line.parse().is_ok_and(|port: u16| port >= first)).count();
            if new == usize::from(BURST) {
                complete = Some(Instant::now());
            }
        }
        std::thread::sleep(GLANCE);
    }
    (count, complete)
}

/// How many reloads a storm causes, and whether it ends right.
pub(crate) async fn of_a_storm() -> Vec<Row> {
    let follower = Follower::begin("{{ key(path=\"n\", default=\"\") }}").await;
    tokio::time::sleep(PAUSE).await;
    let before = reloads(&follower.templater.log());
    let start = Instant::now();
    let mut pace = tokio::time::interval(STORM_PACE);
    for n in 1..=STORM {
        pace.tick().await;
        follower.registry.client.kv_put("n", n.to_string(), KvPut::default()).await.expect("the registry answers");
    }
    let took = start.elapsed();
    let file = follower.at("list");
    let right = tokio::task::spawn_blocking(move || {
        when(|| fs::read_to_string(&file).is_ok_and(|text| text == STORM.to_string()))
    });
    let right = right.await.expect("it does not panic").is_some();
    tokio::time::sleep(PAUSE).await;
    let count = reloads(&follower.templater.log()) - before;
    let row =
        at_most("reloads for a storm of 1,000 changes", count, STORM_RELOADS, "consul-template, one for each write");
    vec![row.note(format!("{:.1} s", took.as_secs_f64())), Row::none("storms that ended wrong", usize::from(!right))]
}

fn reloads(log: &str) -> usize {
    log.matches("the reload command has run").count()
}

fn at_most(what: &'static str, found: usize, limit: usize, others: &str) -> Row {
    Row { what, found: found.to_string(), bound: Some((format!("at most {limit}; {others}"), found <= limit)) }
}

/// When `it` came true.
fn when(it: impl Fn() -> bool) -> Option<Instant> {
    let start = Instant::now();
    while start.elapsed() < LOST {
        if it() {
            return Some(Instant::now());
        }
        std::thread::sleep(GLANCE);
    }
    None
}
