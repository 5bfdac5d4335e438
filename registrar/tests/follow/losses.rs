//! Docker, the registry or the registrar itself go away and come back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, eventually};

const WEB: &str = "vm:web:80";

#[test]
fn registrator_exited_when_the_event_stream_closed() {
    let host = Host::started();
    host.run("web", 1);
    host.docker.break_streams();
    eventually("it listens again", || host.docker.is_listened_to());
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
}

#[test]
fn an_event_that_is_no_json_costs_no_other() {
    let host = Host::started();
    host.run("web", 1);
    for nonsense in ["{\"Type\": \n", "what?\n", "{\"Actor\": 7}\n", "\u{7}\n"] {
        let lists = host.docker.listed();
        host.docker.send_to_followers(nonsense);
        host.docker.kill("web", 1);
        eventually("it asks and listens anew", || host.docker.listed() > lists && host.docker.is_listened_to());
    }
    host.docker.run("db", 2, &json!({}));
    host.docker.remove("web");
    host.has(&["db"]);
}

#[test]
fn what_happens_while_docker_restarts_is_found() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.run("old", 2, &json!({}));
    host.has(&["old", "web"]);
    host.docker.stop();
    host.docker.die("old");
    host.docker
        .patch("web", &json!({"NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9"}]}}}));
    host.docker.set_deaf(true);
    host.docker.run("new", 3, &json!({}));
    host.docker.set_deaf(false);
    assert_eq!(host.registry.ids().len(), 2, "entries stay while Docker is away");
    host.docker.start_again();
    host.has(&["new", "web"]);
    eventually("changes are found, too", || host.registry.service(WEB).unwrap()["Port"] == 9);
}

#[test]
fn a_stop_signal_sent_while_the_stream_was_down_counts() {
    let host = Host::started();
    host.run("web", 1);
    host.docker.break_streams();
    host.docker.kill("web", 15);
    eventually("it drains", || !host.registry.is_passing(WEB));
}

#[test]
fn a_clock_that_is_set_back_loses_no_stop_signal() {
    let host = Host::started();
    host.run("web", 1);
    host.docker.set_clock_back();
    host.docker.kill("web", 15);
    eventually("it drains", || !host.registry.is_passing(WEB));
    host.docker.die("web");
    host.has(&[]);
    host.docker.start_container("web", 1);
    host.has(&["web"]);
    assert!(host.registry.is_passing(WEB));
}

#[test]
fn events_that_docker_lost_are_repaired_by_the_list() {
    let mut host = Host::new();
    host.start(|s| s.resync = Some("300ms".into()));
    host.run("web", 1);
    host.docker.set_deaf(true);
    host.docker.run("missed", 2, &json!({}));
    host.has(&["missed", "web"]);
    host.docker.remove("web");
    host.has(&["missed"]);
}

#[test]
fn a_burst_is_followed_by_a_look_at_the_list() {
    let host = Host::started(); // resync is a minute away
    for n in 0..6 {
        host.docker.run(&format!("w{n}"), 1000 + n, &json!({}));
    }
    host.docker.set_deaf(true);
    host.docker.run("missed", 2, &json!({}));
    host.docker.remove("w0");
    host.has(&["w1", "w2", "w3", "w4", "w5", "missed"]);
}

#[test]
fn docker_that_is_not_there_yet_is_waited_for() {
    let mut host = Host::new();
    host.docker.stop();
    host.start(|_| ());
    host.docker.run("web", 1, &json!({}));
    std::thread::sleep(Duration::from_millis(300));
    host.docker.start_again();
    host.has(&["web"]);
}

#[test]
fn registrator_never_tried_again_when_the_registry_was_down() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.run("gone", 2, &json!({}));
    host.has(&["gone", "web"]);
    host.registry.stop();
    host.docker.run("new", 3, &json!({}));
    host.docker.remove("gone");
    std::thread::sleep(Duration::from_millis(500));
    host.registry.start_again();
    host.has(&["new", "web"]);
}

#[test]
fn a_registry_that_is_not_there_yet_is_waited_for() {
    let mut host = Host::new();
    host.registry.stop();
    host.docker.run("web", 1, &json!({}));
    host.start(|_| ());
    host.docker.run("db", 2, &json!({}));
    std::thread::sleep(Duration::from_millis(300));
    host.registry.start_again();
    host.has(&["db", "web"]);
}

#[test]
fn registrator_left_a_registry_empty_after_its_restart() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.run("db", 2, &json!({"State": {"Health": {"Status": "healthy"}}}));
    host.has(&["db", "web"]);
    host.registry.stop();
    host.registry.forget();
    host.registry.start_again();
    let start = Instant::now();
    host.has(&["db", "web"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(host.registry.is_passing("vm:db:80"));
}

#[test]
fn a_registry_that_forgets_without_a_restart_is_filled_again() {
    let host = Host::started();
    host.run("web", 1);
    host.registry.forget();
    host.has(&["web"]);
    host.registry.deregister(WEB);
    host.has(&["web"]);
    host.registry.register(&json!({"ID": WEB, "Name": "hello", "Port": 4}));
    eventually("what others spoil is corrected", || host.registry.service(WEB).unwrap()["Port"] == 1);
}

#[test]
fn a_registry_that_takes_no_writes_is_asked_until_it_does() {
    let host = Host::started();
    host.registry.refuse(Some(503));
    host.docker.run("web", 1, &json!({}));
    host.docker.run("db", 2, &json!({}));
    std::thread::sleep(Duration::from_millis(300));
    assert!(host.registry.ids().is_empty());
    host.registry.refuse(None);
    host.has(&["db", "web"]);
}

#[test]
fn one_refusal_does_not_hold_up_the_others() {
    let host = Host::started();
    host.registry.refuse_only(400, "vm:bad:80");
    host.docker.run("bad", 1, &json!({}));
    for n in 0..20 {
        host.docker.run(&format!("w{n}"), 1000 + n, &json!({}));
    }
    eventually("the others are registered", || host.registry.ids().len() == 20);
    host.registry.refuse(None);
    eventually("in the end that one, too", || host.registry.ids().len() == 21);
}

/// Docker itself does not come up after the host did.
#[test]
fn registrator_left_ghosts_of_a_former_boot() {
    let mut host = Host::started();
    for (name, port) in [("now", 1), ("before", 2), ("theirs", 3)] {
        host.docker.run(name, port, &json!({}));
    }
    host.has(&["before", "now", "theirs"]);
    host.crash();
    host.docker.stop();
    for (id, change) in [
        ("vm:before:80", json!({"registrar-boot": "another"})),
        ("vm:theirs:80", json!({"registrar-boot": "another", "registrar": "OTHER:DOCK:ER/uuid"})),
    ] {
        let service = host.registry.service(id).unwrap();
        let mut meta = service["Meta"].clone();
        assert_eq!(meta["registrar-boot"].as_str().unwrap().len(), 36, "{meta}");
        meta.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        host.registry.register(&json!({"ID": id, "Name": service["Service"], "Port": service["Port"], "Meta": meta}));
    }
    host.start(|_| ());
    host.has(&["now", "theirs"]);
    host.registry.deregister("vm:theirs:80");
    host.docker.start_again();
    host.has(&["before", "now", "theirs"]);
}

#[test]
fn registrator_left_ghosts_after_a_crash() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.run("ghost", 2, &json!({"Config": {"Env": ["SERVICE_ID=my.own.id"]}}));
    eventually("both are registered", || host.registry.ids().len() == 2);
    host.crash();
    host.docker.remove("ghost");
    host.docker.run("new", 3, &json!({}));
    host.start(|_| ());
    host.has(&["new", "web"]);
}

#[test]
fn a_restart_of_the_registrar_changes_nothing() {
    let mut host = Host::started();
    let patch = json!({"State": {"Health": {"Status": "healthy"}},
        "Config": {"Env": ["SERVICE_CHECK_TCP=1", "SERVICE_TAGS=a,b", "SERVICE_WEIGHT=3"]}});
    host.docker.run("web", 1, &patch);
    host.has(&["web"]);
    host.crash();
    host.registry.forget_writes();
    host.start(|_| ());
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
    assert_eq!(host.registry.writes().len(), 1, "{:#?}", host.registry.writes());
}

#[test]
fn a_drain_outlives_a_crash_of_the_registrar() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.kill("web", 15);
    eventually("it drains", || !host.registry.is_passing(WEB));
    host.crash();
    host.docker.break_streams();
    host.start(|_| ());
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!host.registry.is_passing(WEB));
    host.docker.die("web");
    host.has(&["db"]);
}

#[test]
fn nonsense_about_one_container_leaves_the_others_and_its_own_entry() {
    let mut host = Host::started();
    host.run("web", 1);
    host.docker.go_mad_about("web", r#"{"Id": 7, "State": "what?"}"#);
    host.docker.event("web", "rename", &json!({}));
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
    host.crash();
    host.start(|_| ());
    host.docker.run("more", 3, &json!({}));
    host.has(&["db", "more", "web"]);
    host.stays_quiet();
    host.has(&["db", "more", "web"]);
}
