//! Only what carries our mark is ever removed.

use registrar::config::Config;
use serde_json::json;

use crate::host::{Host, Registrar, eventually};

const WEB: &str = "vm:web:80";

#[test]
fn registrator_cleanup_removed_what_others_had_registered() {
    let mut host = Host::new();
    // looks like one of ours, and is not
    host.registry.register(&json!({"ID": "vm:by-hand:80", "Name": "by-hand", "Port": 80}));
    host.registry.register(&json!({"ID": "other", "Name": "x", "Meta": {"registrar": "OTHER:DOCK:ER/uuid"}}));
    host.registry.register(&json!({"ID": "near", "Name": "x", "Meta": {"registrar": "FAKE:DOCK:ERS/uuid"}}));
    host.start(|s| s.resync = Some("100ms".into()));
    host.docker.run("web", 1, &json!({}));
    host.knows("web");
    host.docker.remove("web");
    eventually("ours is removed", || host.registry.service(WEB).is_none());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(host.registry.ids(), ["near", "other", "vm:by-hand:80"]);
}

#[test]
fn an_id_of_others_is_not_overwritten() {
    let mut host = Host::new();
    host.registry.register(&json!({"ID": "db", "Name": "theirs", "Port": 9}));
    host.start(|_| ());
    host.docker.run("web", 1, &json!({"Config": {"Env": ["SERVICE_ID=db"]}}));
    host.docker.run("free", 2, &json!({}));
    host.knows("free");
    assert_eq!(host.registry.service("db").unwrap()["Service"], "theirs");
    host.registry.deregister("db");
    eventually("once it is free it is ours", || host.registry.service("db").is_some_and(|s| s["Port"] == 1));
}

#[test]
fn what_registrator_registered_for_a_running_container_is_taken_over() {
    let mut host = Host::new();
    host.docker.run("web", 1, &json!({}));
    host.registry.register(&json!({"ID": WEB, "Name": "hello", "Port": 1, "Address": "127.0.0.1"}));
    host.start(|_| ());
    eventually("it is ours", || host.registry.service(WEB).unwrap()["Address"] == "10.0.0.1");
    host.docker.remove("web");
    host.has(&[]);
}

#[test]
fn a_lost_state_directory_costs_nothing_that_runs() {
    let mut host = Host::started();
    host.run("web", 1);
    host.crash();
    std::fs::remove_dir_all(host.dir.path().join("state")).unwrap();
    let before = host.registry.service(WEB).unwrap()["Meta"]["registrar"].clone();
    host.start(|_| ());
    eventually("the entry has the new mark", || host.registry.service(WEB).unwrap()["Meta"]["registrar"] != before);
    host.docker.remove("web");
    host.has(&[]);
}

#[test]
fn two_registrars_on_two_dockers_leave_each_other_alone() {
    let mut first = Host::new();
    let second = Host::new();
    first.start(|_| ());
    let mut settings = second.settings(&second.dir.path().join("state"));
    settings.registry = vec![first.registry.address()];
    settings.host_id = Some("vm2".into());
    let other = Registrar::start(Config::new(settings, None).unwrap());
    first.docker.run("web", 1, &json!({}));
    second.docker.run("web", 1, &json!({}));
    eventually("both are registered", || first.registry.ids() == ["vm2:web:80", WEB]);
    // the fake Dockers have one ID, as clones have: the state directories tell them apart
    second.docker.remove("web");
    first.has(&["web"]);
    first.docker.remove("web");
    first.has(&[]);
    other.stop();
}

#[test]
fn a_node_that_another_registrar_keeps_alive_is_left_to_it() {
    let mut host = Host::new();
    let keeper = |status: &str| json!({"CheckID": "registrar", "Name": "Registrar", "Status": status, "Notes": "OTHER:DOCK:ER/uuid"});
    host.registry.put_check("box", &keeper("passing"));
    host.docker.run("web", 1, &json!({}));
    host.start(|s| s.node = Some("box".into()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(host.registry.ids().is_empty());
    host.registry.put_check("box", &keeper("critical"));
    host.has(&["web"]);
}

#[test]
fn podman_is_followed_though_it_has_another_id_each_time() {
    let mut host = Host::new();
    host.docker.become_podman();
    host.start(|_| ());
    host.run("web", 1);
    let mark = |host: &Host| host.registry.service(WEB).unwrap()["Meta"]["registrar"].clone();
    let before = mark(&host);
    assert!(before.as_str().unwrap().starts_with("vm/"), "{before}");
    host.docker.break_streams();
    eventually("it listens again", || host.docker.is_listened_to());
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
    host.crash();
    host.docker.remove("db");
    host.start(|_| ());
    host.has(&["web"]);
    assert_eq!(mark(&host), before);
    host.docker.kill("web", 9);
    host.docker.remove("web");
    host.has(&[]);
}
