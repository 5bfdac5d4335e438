//! Beginnings and ends of containers: what crashes, what is kept, and what is drained before it is stopped.

use std::time::Duration;

use registrar::{drain, dry_run::dry_run};
use serde_json::json;

use crate::host::{Host, command, eventually};

const WEB: &str = "vm:web:80";
const EXITED: &str = "_exited:vm:web:80";

fn on_success(settings: &mut registrar::config::Settings) {
    settings.deregister = Some("on-success".into());
}

#[test]
fn registrator_offered_what_crashes_again_and_again() {
    let mut host = Host::new();
    host.start(|s| s.min_uptime = Some("3s".into()));
    host.docker.run("web", 1, &json!({}));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(100));
        host.docker.exit("web", 1);
        host.docker.start_container("web", 1);
    }
    assert!(host.registry.writes().is_empty(), "{:#?}", host.registry.writes());
    host.has(&["web"]);
    assert!(host.registry.is_passing(WEB));
    host.docker.exit("web", 1);
    host.has(&[]);
}

#[test]
fn what_failed_is_kept_as_critical_until_it_starts_again_or_is_removed() {
    let mut host = Host::new();
    host.start(on_success);
    host.run("web", 1);
    host.docker.exit("web", 3);
    let is_kept = |host: &Host| host.registry.checks(WEB).contains_key(EXITED);
    eventually("it is kept, and critical", || is_kept(&host));
    host.docker.start_container("web", 1);
    eventually("it is back in use", || host.registry.is_passing(WEB));
    host.docker.exit("web", 3);
    eventually("it is kept again", || is_kept(&host));
    host.crash();
    host.start(on_success);
    host.docker.run("db", 2, &json!({}));
    host.has(&["db", "web"]);
    assert!(is_kept(&host), "also by the next run of the registrar");
    host.docker.remove("web");
    host.has(&["db"]);
}

#[test]
fn what_ended_well_or_was_told_to_is_removed() {
    let mut host = Host::new();
    host.start(on_success);
    host.run("web", 1);
    host.docker.die("web");
    host.has(&[]);
    host.docker.run("db", 2, &json!({}));
    host.has(&["db"]);
    host.docker.kill("db", 15);
    host.docker.exit("db", 143);
    host.has(&[]);
}

#[test]
fn what_is_kept_is_reaped() {
    let mut host = Host::new();
    host.start(|s| (s.deregister, s.reap) = (Some("never".into()), Some("3s".into())));
    host.run("web", 1);
    host.docker.die("web");
    eventually("it is kept", || host.registry.checks(WEB).contains_key(EXITED));
    host.has(&[]);
}

#[test]
fn a_drain_before_the_stop() {
    let host = Host::started();
    host.docker.run("web", 1, &json!({"State": {"Health": {"Status": "healthy"}}}));
    host.has(&["web"]);
    let asked = command(drain::ask(&host.config(), "web", false)).unwrap();
    assert_eq!(asked.instances.iter().collect::<Vec<_>>(), [WEB]);
    assert!(!host.registry.is_passing(WEB), "when the command is over it takes no new work");
    host.stays_quiet();
    for (docker, registry) in [("unhealthy", "critical"), ("healthy", "passing")] {
        host.docker.health("web", docker);
        let told = || host.registry.checks(WEB)["docker-health:vm:web:80"] == registry;
        eventually("its health is told", told);
    }
    assert!(!host.registry.is_passing(WEB), "whatever the registrar hears meanwhile");
    command(drain::ask(&host.config(), "web", true)).unwrap();
    assert!(host.registry.is_passing(WEB), "and takes it again");
    let asked = command(drain::ask(&host.config(), "web", false)).unwrap();
    host.docker.die("web");
    command(asked.wait(Duration::from_hours(1))).unwrap(); // ends with the container
    host.has(&[]);
    host.docker.start_container("web", 1);
    host.has(&["web"]);
    assert!(host.registry.is_passing(WEB), "the next life begins anew");
}

#[test]
fn nothing_to_drain_is_an_error() {
    let host = Host::started();
    host.docker.run("mute", 1, &json!({"Config": {"Env": ["SERVICE_IGNORE=1"]}}));
    for (name, words) in [("mute", "nothing is registered for container mute"), ("nosuch", "no running container")] {
        let error = command(drain::ask(&host.config(), name, false)).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_dry_run_tells_all_and_changes_nothing() {
    let mut host = Host::new();
    host.docker.run("web", 1, &json!({}));
    let told = |host: &Host| command(dry_run(&host.config())).unwrap();
    let register = "register vm:web:80 as hello at 10.0.0.1:1, container web";
    assert_eq!(told(&host), [register]);
    assert!(host.registry.writes().is_empty() && !host.dir.path().join("state").exists());
    host.start(|_| ());
    host.has(&["web"]);
    assert!(told(&host).is_empty());
    host.crash();
    host.docker.remove("web");
    assert_eq!(told(&host), ["remove   vm:web:80 (hello)"]);
    assert_eq!(host.registry.ids(), [WEB]);
}
