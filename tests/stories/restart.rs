//! Whatever is killed or restarted, the registry says what runs and nothing else; nobody has to lend a hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flotilla_tests::{
    docker::{Container, Dockerd, HELLO_WEB},
    registry::Registry,
};
use futures_util::future::join_all;
use kvstore_client::{Client, KvPut};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use crate::stage::{Registrar, View};

const WEB: [&str; 1] = ["SERVICE_NAME=web"];

fn view(registry: &Registry) -> View<'_> {
    View { service: "web", registry, fronts: &[] }
}

/// `kill -9` of the registrar; containers come and go before its next life.
pub(crate) async fn registrar_killed() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let mut registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let (removed, stopped) = (dockerd.run_web(&WEB).await, dockerd.run_web(&WEB).await);
    let kept = dockerd.run_web(&WEB).await;
    view(&registry).agrees("three run", &[&removed, &stopped, &kept]).await;

    registrar.kill();
    removed.remove().await;
    stopped.signal(Signal::SIGKILL).await;
    let added = dockerd.run_web(&WEB).await;
    registrar.start_again();
    view(&registry).agrees("the registrar is back", &[&kept, &added]).await;
}

/// Many containers are started and removed as fast as Docker can.
pub(crate) async fn burst() {
    const ROUNDS: usize = 2;
    const CONTAINERS: usize = 20;
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    for round in 1..=ROUNDS {
        let mut containers = Vec::new();
        for _ in 0..CONTAINERS {
            containers.push(dockerd.create(&["--publish", "8080", "--env", "SERVICE_NAME=web", HELLO_WEB]).await);
        }
        // Docker's client starts one after the other, so several of it have Docker at work all the time.
        join_all(containers.chunks(CONTAINERS / 4).map(|some| all(dockerd, &["start"], some))).await;
        let wanted: Vec<_> = containers.iter().collect();
        view(&registry).agrees(&format!("round {round}: {CONTAINERS} started at once"), &wanted).await;
        all(dockerd, &["rm", "--force"], &containers).await;
        view(&registry).agrees(&format!("round {round}: removed at once"), &[]).await;
    }
}

/// One of Docker's commands for several containers.
async fn all(dockerd: &Dockerd, command: &[&str], containers: &[Container<'_>]) {
    let ids = containers.iter().map(|container| container.id.as_str());
    dockerd.docker(&command.iter().copied().chain(ids).collect::<Vec<_>>()).await;
}

/// The Docker daemon is stopped, and killed; each time only what it starts again by itself comes back.
pub(crate) async fn dockerd_restarted() {
    let dockerd = Dockerd::start();
    let registry = Registry::in_memory().await;
    let mut registrar = Registrar::start(&registry, &dockerd, &["--ip", "127.0.0.1"]);
    let args = ["--publish", "8080", "--env", "SERVICE_NAME=web", "--env", "DRAIN_MS=100"];
    let always = dockerd.run(&[&args[..], &["--restart", "always", HELLO_WEB]].concat()).await;
    let once = dockerd.run(&[&args[..], &[HELLO_WEB]].concat()).await;
    view(&registry).agrees("two run", &[&always, &once]).await;

    dockerd.halt(Signal::SIGTERM);
    dockerd.start_again();
    view(&registry).agrees("Docker was restarted", &[&always]).await;
    let again = dockerd.run(&[&args[..], &[HELLO_WEB]].concat()).await;
    view(&registry).agrees("the registrar still listens to it", &[&always, &again]).await;

    dockerd.halt(Signal::SIGKILL);
    dockerd.start_again();
    view(&registry).agrees("Docker was killed", &[&always]).await;
    dockerd.docker(&["rm", "--force", &always.id, &again.id]).await;
    view(&registry).agrees("all are removed", &[]).await;
    assert!(registrar.is_running(), "it outlives Docker:\n{}", registrar.log());
}

/// A registry that lost everything is filled again by the registrar alone.
pub(crate) async fn registry_restarted_empty() {
    let dockerd = Dockerd::shared();
    let mut registry = Registry::in_memory().await;
    let mut registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let (one, two) = (dockerd.run_web(&WEB).await, dockerd.run_web(&WEB).await);
    view(&registry).agrees("two run", &[&one, &two]).await;

    registry.kill();
    registry.start_again().await;
    view(&registry).agrees("the registry came back empty", &[&one, &two]).await;

    registry.kill();
    two.stop().await;
    let three = dockerd.run_web(&WEB).await;
    registry.start_again().await;
    view(&registry).agrees("containers came and went while it was away", &[&one, &three]).await;
    assert!(registrar.is_running(), "it outlives the registry:\n{}", registrar.log());
}

/// `kill -9` of the registry in the middle of writes, several times: what it acknowledged is there.
pub(crate) async fn registry_killed_amid_writes() {
    const ROUNDS: usize = 4;
    const WRITERS: usize = 8;
    let mut registry = Registry::on_disk().await;
    let mut acknowledged = BTreeMap::new();
    let mut highest = 0;
    for round in 1..=ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let name = format!("round{round}/writer{writer}");
            writers.spawn(write(registry.client.clone(), name, Arc::clone(&stop)));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        registry.kill();
        stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        while let Some(written) = writers.join_next().await {
            let written = written.expect("a writer does not panic");
            count += written.len();
            acknowledged.extend(written);
        }
        assert!(count > WRITERS, "each writer writes more than once before the kill: {count}");

        registry.start_again().await;
        let read = registry.client.kv_list("", None).await.expect("the registry answers");
        let found: BTreeMap<_, _> = read.value.into_iter().map(|e| (e.key.clone(), e.modify_index)).collect();
        let lost: BTreeSet<_> = acknowledged.keys().filter(|key| !found.contains_key(*key)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let last = found.values().copied().max().unwrap_or_default();
        assert!(last > highest && read.index >= last, "the index goes forward: {highest}, {last}, {}", read.index);
        highest = read.index;
        println!("  killed after {count} acknowledged writes: all {} are there", acknowledged.len());
    }
}

/// Writes key after key; those that were acknowledged.
async fn write(client: Client, name: String, stop: Arc<AtomicBool>) -> BTreeMap<String, usize> {
    let mut acknowledged = BTreeMap::new();
    for n in 0.. {
        let key = format!("{name}/{n}");
        match client.kv_put(&key, format!("value {n}"), KvPut::default()).await {
            Ok(true) => acknowledged.insert(key, n),
            Ok(false) => panic!("a plain put cannot fail to match"),
            Err(_) => break,
        };
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}
