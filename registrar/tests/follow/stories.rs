//! The usual life of containers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    host::{Host, eventually, eventually_equal},
    registry::Registry,
};

const WEB: &str = "vm:web:80";

fn status(host: &Host, check: &str) -> Option<String> {
    host.registry.checks(WEB).get(check).cloned()
}

#[test]
fn containers_come_and_go() {
    let host = Host::started();
    host.docker.run("web", 18080, &json!({"Config": {"Env": ["SERVICE_NAME=shop", "SERVICE_TAGS=b,a"]}}));
    host.has(&["web"]);
    let service = host.registry.service(WEB).unwrap();
    assert_eq!(service["Service"], "shop");
    assert_eq!((&service["Address"], &service["Port"]), (&json!("10.0.0.1"), &json!(18080)));
    assert_eq!(service["Tags"], json!(["b", "a"]));
    host.stays_quiet();
    host.docker.kill("web", 15);
    eventually("it drains", || status(&host, "_draining:vm:web:80").is_some());
    host.docker.die("web");
    host.has(&[]);
    host.docker.start_container("web", 18080);
    host.has(&["web"]);
    assert!(host.registry.is_passing(WEB), "the drain is over with the life");
    host.docker.remove("web");
    host.has(&[]);
}

#[test]
fn what_runs_already_is_registered_at_start() {
    let mut host = Host::new();
    host.docker.run("web", 1, &json!({}));
    host.docker.run("db", 2, &json!({}));
    host.start(|_| ());
    host.has(&["db", "web"]);
    assert_eq!(host.registry.writes().len(), 2);
}

#[test]
fn registrator_waited_for_the_end_to_deregister() {
    let host = Host::started();
    host.run("web", 1);
    for signal in [1, 10] {
        host.docker.kill("web", signal);
    }
    host.stays_quiet();
    assert!(host.registry.is_passing(WEB), "registrator deregistered at HUP");
    let start = Instant::now();
    host.docker.kill("web", 15);
    eventually("it takes no new work", || !host.registry.is_passing(WEB));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // still registered, and nothing that Docker says meanwhile brings it back
    host.docker.health("web", "healthy");
    host.stays_quiet();
    assert!(!host.registry.is_passing(WEB));
}

#[test]
fn registrator_brought_a_draining_one_back() {
    let host = Host::started();
    host.docker.run("web", 1, &json!({"State": {"Health": {"Status": "starting"}}}));
    host.knows("web");
    host.docker.kill("web", 15);
    eventually("it drains", || status(&host, "_draining:vm:web:80").is_some());
    host.docker.health("web", "healthy");
    eventually("its health is told", || status(&host, "docker-health:vm:web:80").as_deref() == Some("passing"));
    assert!(!host.registry.is_passing(WEB));
}

#[test]
fn the_healthcheck_is_the_check() {
    let host = Host::started();
    host.docker.run("web", 1, &json!({"State": {"Health": {"Status": "starting"}}}));
    host.knows("web");
    let check = "docker-health:vm:web:80";
    assert_eq!(status(&host, check).as_deref(), Some("critical"), "starting is not ready");
    for (docker, registry) in [("healthy", "passing"), ("unhealthy", "critical"), ("healthy", "passing")] {
        host.docker.health("web", docker);
        eventually_equal(docker, || (status(&host, check), Some(registry.to_owned())));
    }
    host.stays_quiet();
}

#[test]
fn registrator_left_the_paused_in_use() {
    let host = Host::started();
    host.run("web", 1);
    host.docker.patch("web", &json!({"State": {"Paused": true}}));
    host.docker.event("web", "pause", &json!({}));
    eventually("it is out of use", || !host.registry.is_passing(WEB));
    host.docker.patch("web", &json!({"State": {"Paused": false}}));
    host.docker.event("web", "unpause", &json!({}));
    eventually("it is back", || host.registry.is_passing(WEB));
}

#[test]
fn registrator_ignored_rename_and_networks() {
    let mut host = Host::new();
    host.start(|s| s.internal = true);
    host.run("web", 1);
    assert_eq!(host.registry.service(WEB).unwrap()["Address"], "172.17.0.2");
    host.docker.patch("web", &json!({"NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.9"}}}}));
    host.docker.event("web", "rename", &json!({}));
    eventually("its address follows", || host.registry.service(WEB).unwrap()["Address"] == "172.17.0.9");
    host.docker.patch("web", &json!({"Name": "/shop"}));
    host.docker.event("web", "rename", &json!({"oldName": "/web"}));
    host.has(&["shop"]);
}

#[test]
fn registrator_lost_ten_at_once() {
    let host = Host::started();
    let names: Vec<String> = (0..10).map(|n| format!("w{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for round in 0..10 {
        for (port, name) in (1000 + round * 10..).zip(&all) {
            host.docker.run(name, port, &json!({}));
        }
        host.has(&all);
        for name in &all {
            host.docker.remove(name);
        }
        host.has(&[]);
    }
}

#[test]
fn flapping_ends_as_it_ends() {
    let host = Host::started();
    host.docker.run("web", 1, &json!({}));
    host.docker.run("other", 2, &json!({}));
    for _ in 0..50 {
        host.docker.die("web");
        host.docker.start_container("web", 18080);
        host.docker.die("other");
        host.docker.start_container("other", 2);
    }
    host.docker.die("other");
    host.has(&["web"]);
    host.settles();
    host.has(&["web"]);
}

#[test]
fn from_start_event_to_the_call_in_milliseconds() {
    let host = Host::started();
    let mut times: Vec<Duration> = (0..40)
        .map(|n| {
            let name = format!("w{n}");
            let start = Instant::now();
            host.docker.run(&name, 1000 + n, &json!({}));
            host.knows(&name);
            let arrived = host.registry.writes().last().unwrap().0;
            arrived.saturating_duration_since(start)
        })
        .collect();
    times.sort_unstable();
    let (median, worst) = (times[20], times[39]);
    println!("start event -> registration arrived: median {median:?}, worst {worst:?}");
    assert!(median < Duration::from_secs(5), "median {median:?}: something waits that should not");
}

#[test]
fn registrator_resync_woke_every_watcher() {
    let mut host = Host::new();
    for n in 0..500 {
        host.docker.run(&format!("w{n}"), 1000 + n, &json!({"State": {"Health": {"Status": "healthy"}}}));
    }
    let start = Instant::now();
    host.start(|s| s.resync = Some("100ms".into()));
    eventually("all are registered", || host.registry.ids().len() == 500);
    println!("500 containers are registered in {:?}", start.elapsed());
    assert_eq!(host.registry.writes().len(), 500);
    host.settles();
    let (looks, lists) = (host.docker.inspected(), host.docker.listed());
    host.registry.forget_writes();
    let watcher = host.registry.watcher("/v1/health/service/hello");
    eventually("all is compared, again and again", || host.docker.listed() >= lists + 5);
    let writes = host.registry.writes();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(host.docker.inspected(), looks, "no container was looked at");
    assert!(!watcher.is_finished(), "nobody was woken");
    host.docker.run("another", 9, &json!({}));
    eventually("what does change wakes", || watcher.is_finished());
}

#[test]
fn one_look_per_start() {
    let host = Host::started();
    for n in 0..3 {
        host.docker.run(&format!("w{n}"), 1000 + n, &json!({}));
        host.knows(&format!("w{n}"));
    }
    host.stays_quiet();
    assert_eq!(host.docker.inspected(), 3);
}

#[test]
fn deregister_on_exit_takes_only_ours() {
    let mut host = Host::new();
    host.registry.register(&json!({"ID": "theirs", "Name": "theirs"}));
    host.start(|s| s.deregister_on_exit = true);
    host.docker.run("web", 1, &json!({}));
    host.knows("web");
    host.stop();
    assert_eq!(host.registry.ids(), ["theirs"]);
}

#[test]
fn everything_stays_when_the_registrar_ends() {
    let mut host = Host::started();
    host.run("web", 1);
    host.stop();
    assert_eq!(host.registry.ids(), [WEB]);
}

#[test]
fn a_host_under_its_own_node() {
    let mut host = Host::new();
    let node = |s: &mut registrar::config::Settings| {
        (s.node, s.node_ttl, s.deregister_on_exit) = (Some("box".into()), Some("1s".into()), true);
    };
    host.start(node);
    host.docker.run("web", 1, &json!({"State": {"Health": {"Status": "healthy"}}}));
    host.knows("web");
    let alive = |host: &Host| host.registry.node_check("box", "registrar");
    eventually("the node is kept alive", || alive(&host).is_some_and(|check| check["Status"] == "passing"));
    assert!(host.registry.is_passing(WEB));
    host.docker.health("web", "unhealthy");
    eventually("its health is told", || !host.registry.is_passing(WEB));
    host.docker.health("web", "healthy");
    host.docker.kill("web", 15);
    eventually("it drains", || status(&host, "_draining:vm:web:80").is_some());
    host.registry.forget_writes();
    let words = || host.registry.writes().iter().filter(|(_, write)| write.contains("\"registrar\"")).count();
    eventually("the word is repeated in time", || words() >= 3);
    host.stop();
    assert!(host.registry.ids().is_empty() && alive(&host).is_none());
}

#[test]
fn a_host_that_vanishes_is_seen_to_where_the_registry_keeps_the_time() {
    let mut host = Host::with(Registry::beyond_consul());
    host.start(|s| (s.node, s.node_ttl) = (Some("box".into()), Some("1s".into())));
    let alive = |host: &Host| host.registry.node_check("box", "registrar").unwrap_or_default();
    eventually("the node is kept alive", || alive(&host)["Status"] == "passing");
    assert_eq!(alive(&host)["Definition"]["TTL"], "1s");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(alive(&host)["Status"], "passing", "the word is repeated in time");
    host.crash();
    eventually("nobody speaks for it", || alive(&host)["Status"] == "critical");
}
