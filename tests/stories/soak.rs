//! A steady load of everything at once, for as long as one likes: what the programs hold does not grow.
//!
//! `SOAK_SECONDS` says how long; `make soak` takes half an hour.

use std::{
    fmt::Write as _,
    fs,
    ops::Range,
    time::{Duration, Instant},
};

use flotilla_tests::{
    docker::{Dockerd, HELLO_WEB},
    held::Held,
    needs::Need,
    program::Launch,
    proxy::Kind,
    registry::Registry,
    story::number,
    wait::poll,
    web,
};
use kvstore_client::{
    Client, Error, KvPut, Watch,
    types::{ServiceRegistration, SessionRequest},
};
use nix::unistd::Pid;
use tokio::{task::JoinSet, time::interval};

use crate::stage::{self, Front, Registrar};

/// The story without `SOAK_SECONDS`.
const SHORT: u64 = 24;
/// Between two turns, each of which does a bit of everything.
const TURN: Duration = Duration::from_millis(20);
const KEYS: u64 = 1000;
const WATCHERS: usize = 20;
/// So many times what it was, and so much more: a program's memory is not the same from one moment to the next.
const MEMORY: (f64, f64) = (1.1, 6.0);
const OTHERS: (f64, f64) = (1.0, 10.0);
const QUESTIONS: &str =
    "web.service.consul A\nweb.service.consul SRV\ntest.node.consul A\n_web._tcp.service.consul SRV\n";

pub(crate) fn needs() -> Vec<Need> {
    let mut needs = stage::needs();
    needs.push(Need::Program("dnsperf"));
    needs
}

pub(crate) fn limit() -> Duration {
    length() + Duration::from_mins(3)
}

fn length() -> Duration {
    Duration::from_secs(number("SOAK_SECONDS").unwrap_or(SHORT))
}

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut registry = Registry::on_disk_in(dir.path()).await;
    let mut registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1", "--explicit"]);
    let mut front = Front::process(Kind::Haproxy, &registry).await;
    let _web = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    let client = registry.client.clone();
    let there = async || match client.health_service("web", true, None).await {
        Ok(found) if !found.value.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    poll("web is there", stage::AGREE_LIMIT, there).await.unwrap_or_else(|e| panic!("{e}"));

    let programs = [
        ("kvstore", registry.program().pid()),
        ("registrar", registrar.program().pid()),
        ("templater", front.templater().pid()),
    ];
    let (mut load, length) = (JoinSet::new(), length());
    for n in 0..WATCHERS {
        load.spawn(watch(client.clone(), n));
    }
    let file = dir.path().join("questions");
    fs::write(&file, QUESTIONS).expect("our own directory");
    let (port, seconds) = (registry.dns_port().to_string(), length.as_secs().to_string());
    let asking = ["-s", "127.0.0.1", "-p", &port, "-Q", "300", "-l", &seconds, "-d"];
    let _asking = Launch::new("dnsperf").args(asking).args([&file]).start();
    load.spawn(turns(client.clone(), registry.url()));
    let replaced = async {
        // One after the other starts, serves, and goes.
        loop {
            let container = dockerd.run(&["--publish", "8080", "--env", "SERVICE_NAME=brief", HELLO_WEB]).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            container.remove().await;
        }
    };
    let watched = sample(&programs, length);
    let samples = tokio::select! { samples = watched => samples, () = replaced => unreachable!("it has no end") };
    let ended = load.try_join_next();
    assert!(ended.is_none(), "the load has ended: {ended:?}");
    let mut grown = Vec::new();
    for ((name, _), samples) in programs.iter().zip(&samples) {
        grown.extend(told(name, samples));
    }
    assert!(grown.is_empty(), "{grown:#?}");
}

/// A bit of everything, again and again.
async fn turns(client: Client, url: String) -> Result<(), Error> {
    let mut turn = interval(TURN);
    for n in 0_u64.. {
        turn.tick().await;
        let key = format!("soak/{}", n % KEYS);
        client.kv_put(&key, format!("value {n}"), KvPut::default()).await?;
        client.kv_get(&key, None).await?;
        if n % 7 == 0 {
            client.kv_delete(&key, false, None).await?;
        }
        if n % 10 == 0 {
            let session = client.session_create(&SessionRequest::default()).await?;
            client.kv_acquire("soak-lock", session.clone(), 0, &session).await?;
            client.session_destroy(&session).await?;
        }
        if n % 50 == 0 {
            let id = |n: u64| format!("job-{}", n / 50 % 20);
            let job = ServiceRegistration { id: id(n), name: "job".into(), port: 1, ..ServiceRegistration::default() };
            client.register_service(&job).await?;
            if n >= 500 {
                client.deregister_service(&id(n - 500)).await?;
            }
        }
        // Each a connection of its own.
        if n % 25 == 0 {
            web::get(&format!("{url}/v1/catalog/nodes")).await.expect("the registry answers");
        }
    }
    Ok(())
}

async fn watch(client: Client, n: usize) -> Result<(), Error> {
    let prefix = format!("soak/{n}");
    let mut keys = Watch::new(Duration::from_secs(5));
    loop {
        keys.next(|wait| client.kv_list(&prefix, wait)).await?;
    }
}

/// A number of what a process holds, its name, and by how much it may grow: so many times, and so much more.
type Figure = (&'static str, fn(&Held) -> f64, (f64, f64));

const FIGURES: [Figure; 3] =
    [("MiB", |held| held.mib, MEMORY), ("files", |held| held.files, OTHERS), ("threads", |held| held.threads, OTHERS)];

/// What each holds, second by second.
async fn sample(programs: &[(&str, Pid)], length: Duration) -> Vec<Vec<Held>> {
    let (begun, mut second) = (Instant::now(), interval(Duration::from_secs(1)));
    let mut samples = vec![Vec::new(); programs.len()];
    while begun.elapsed() < length {
        second.tick().await;
        for ((_, pid), samples) in programs.iter().zip(&mut samples) {
            samples.push(Held::by(*pid));
        }
    }
    samples
}

/// Prints the middle of the second quarter and of the last one; tells what is more by then.
fn told(program: &str, samples: &[Held]) -> Vec<String> {
    let (quarter, mut grown) = (samples.len() / 4, Vec::new());
    let mut line = format!("  {program}:");
    for (what, of, (times, more)) in FIGURES {
        let at = |range: Range<usize>| {
            let mut all: Vec<_> = samples[range].iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let (first, last) = (at(quarter..2 * quarter), at(3 * quarter..samples.len()));
        write!(line, " {what} {first:.1} -> {last:.1};").expect("a text grows");
        if last > first * times + more {
            grown.push(format!("{program}: {first:.1} {what} became {last:.1}"));
        }
    }
    println!("{line} over {} s", samples.len());
    grown
}
