//! What the program says: in its log a line for each change and a warning for each input that is of no use; and what its
//! commands and its metrics tell.

use std::time::Duration;

use flotilla_tests::program::{Launch, Program, Ran};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::host::{Host, command, eventually, eventually_equal};

const LIMIT: Duration = Duration::from_secs(30);

/// The program itself, on this host.
fn launch(host: &Host, args: &[&str]) -> Launch {
    let (registry, docker) = (host.registry.address(), host.docker.address());
    let state = host.dir.path().join("state").display().to_string();
    let usual = ["--registry", &registry, "--docker", &docker, "--state-dir", &state, "--ip", "10.0.0.1"];
    Launch::ours("registrar").args(usual).args(args)
}

fn started(host: &Host, args: &[&str]) -> Program {
    let program = launch(host, &[&["--log-format", "json"], args].concat()).start();
    eventually("it follows both sides", || program.log().contains("following Docker and the registry"));
    program
}

fn ran(host: &Host, args: &[&str]) -> Ran {
    command(launch(host, args).run(LIMIT))
}

fn lines(program: &Program) -> Vec<Value> {
    program.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// `WHAT, CONTAINER, SERVICE, CAUSE` of each change.
fn changes(program: &Program) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let change = |line: &Value| ["message", "container", "service", "cause"].map(|key| text(&line[key])).join(", ");
    lines(program).iter().filter(|line| line.get("cause").is_some()).map(change).collect()
}

#[test]
fn each_change_is_one_line_with_container_service_and_cause() {
    let host = Host::new();
    let named = |name: &str| json!({"Config": {"Env": [format!("SERVICE_NAME={name}")]}});
    host.docker.run("first", 1, &named("shop"));
    let program = started(&host, &["--deregister-on-exit"]);
    let mut told = Vec::new();
    let mut says = |change: &str| {
        told.push(change.to_owned());
        eventually_equal(change, || (changes(&program), told.clone()));
    };
    says("registered, first, shop, first look");
    host.docker.run("web", 2, &json!({"State": {"Health": {"Status": "starting"}}}));
    says("registered, web, hello, start");
    host.docker.health("web", "healthy");
    says("health reported, web, hello, health");
    host.docker.patch("web", &json!({"State": {"Paused": true}}));
    host.docker.event("web", "pause", &json!({}));
    says("paused, web, hello, pause");
    host.docker.patch("web", &json!({"State": {"Paused": false}}));
    host.docker.event("web", "unpause", &json!({}));
    says("check removed, web, hello, unpause");
    host.docker.patch("web", &json!({"NetworkSettings": {"Networks": {"front": {"IPAddress": "172.18.0.2"}}}}));
    host.docker.event("web", "connect", &json!({}));
    says("updated, web, hello, network");
    host.docker.kill("web", 15);
    says("draining, web, hello, stop signal");
    host.docker.die("web");
    says("deregistered, web, hello, die");
    program.signal(Signal::SIGTERM);
    says("deregistered, first, shop, shutdown");
}

/// Each with the word that its warning must have, beside its name.
fn bad() -> Vec<(&'static str, Value, &'static str)> {
    let env = |text: String| json!({"Config": {"Env": [text]}});
    vec![
        ("control", env("SERVICE_NAME=a\u{7}b".into()), "control characters"),
        ("tag", env("SERVICE_TAGS=a\nb".into()), "a tag is left out"),
        ("probe", env("SERVICE_CHECK_HTTP=/\r\nX-Y: z".into()), "is no path"),
        ("long", env(format!("SERVICE_NAME={}", "x".repeat(1 << 20))), "1048576 bytes"),
        ("long-id", env(format!("SERVICE_ID={}", "x".repeat(300))), "300 bytes"),
        ("port", json!({"Config": {"ExposedPorts": {"70000/tcp": {}}}}), "70000/tcp"),
        ("binding", json!({"NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "", "HostPort": "99999"}]}}}), "99999"),
        ("own-port", env("SERVICE_PORTS=65536".into()), "65536"),
        ("label", env("SERVICE_NAME=no dns name".into()), "DNS"),
        ("labels", env("SERVICE_NAME=a..b".into()), "DNS"),
    ]
}

#[test]
fn bad_input_is_a_warning_that_names_container_and_rule_and_the_rest_goes_on() {
    let host = Host::new();
    for (port, (name, patch, _)) in (100..).zip(bad()) {
        host.docker.run(name, port, &patch);
    }
    for (name, body) in [("mad", r#"{"Id": 7, "State": "what?"}"#), ("cut", r#"{"Id": "c0ffee", "Na"#), ("empty", "")] {
        host.docker.run(name, 1, &json!({}));
        host.docker.go_mad_about(name, body);
    }
    for name in ["one", "two"] {
        host.docker.run(name, 2, &json!({"Config": {"Env": ["SERVICE_ID=same"]}}));
    }
    host.docker.run("good", 3, &json!({}));
    let program = started(&host, &[]);
    host.knows("good");
    let warned = |words: &[&str]| {
        let holds = |line: &Value| line["level"] == "WARN" && words.iter().all(|word| line.to_string().contains(word));
        eventually(&format!("a warning with {words:?}"), || lines(&program).iter().any(holds));
    };
    for (name, _, word) in bad() {
        warned(&[&format!("{name}: "), word]);
    }
    for name in ["mad", "cut", "empty"] {
        warned(&[&flotilla_tests::fake_docker::id(name), "cannot be used"]);
    }
    warned(&["one, two claim one id", "same"]);
    host.docker.run("later", 4, &json!({}));
    host.knows("later");
}

#[test]
fn what_would_be_registered_is_told_as_json() {
    let host = Host::new();
    let env = json!(["SERVICE_NAME=shop", "SERVICE_TAGS=a,b", "SERVICE_CHECK_TCP=1", "SERVICE_REGION=eu"]);
    host.docker.run("web", 1, &json!({"Config": {"Env": env, "ExposedPorts": {"9000/tcp": {}}}}));
    host.docker.run("mute", 2, &json!({"Config": {"Env": ["SERVICE_IGNORE=maybe"]}}));
    let told = ran(&host, &["list", "--format", "json"]).ok().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let short = |name: &str| flotilla_tests::fake_docker::id(name)[..12].to_owned();
    let web = json!({
        "container": "web", "id": short("web"), "warnings": [],
        "instances": [{"id": "vm:web:80", "service": "shop", "address": "10.0.0.1", "port": 1, "tags": ["a", "b"],
            "checks": ["TCP 10.0.0.1:1 every 10s"], "meta": {"region": "eu"}}],
        "skipped": [{"port": "9000/tcp", "why": "it is not published on the host (-p), and --internal is off"}],
    });
    let mute = json!({
        "container": "mute", "id": short("mute"), "instances": [],
        "skipped": [{"port": "80/tcp", "why": "SERVICE_IGNORE is set"}],
        "warnings": ["SERVICE_IGNORE: \"maybe\" is neither yes nor no; taken as yes"],
    });
    assert_eq!(told, json!([mute, web]));
    let explained: Value = serde_json::from_str(&ran(&host, &["explain", "web", "--format", "json"]).out).unwrap();
    assert_eq!(explained, json!([web]));
    assert!(host.registry.writes().is_empty() && !host.dir.path().join("state").exists(), "nothing was changed");
}

#[test]
fn a_dry_run_tells_what_would_change() {
    let host = Host::new();
    host.docker.run("web", 1, &json!({}));
    let told = ran(&host, &["--dry-run"]).ok().unwrap();
    assert_eq!(told, "register vm:web:80 as hello at 10.0.0.1:1, container web\n");
    assert!(host.registry.writes().is_empty() && !host.dir.path().join("state").exists(), "nothing was changed");
    let _program = started(&host, &[]);
    host.has(&["web"]);
    assert_eq!(ran(&host, &["--dry-run"]).ok().unwrap(), "nothing: the registry says what runs here\n");
}

#[test]
fn health_and_metrics_follow_what_happens() {
    let mut host = Host::new();
    host.docker.run("web", 1, &json!({}));
    host.docker.run("mute", 2, &json!({"Config": {"Env": ["SERVICE_IGNORE=1"]}}));
    let program = started(&host, &["--http-addr", "127.0.0.1:0"]);
    host.has(&["web"]);
    let address = lines(&program).iter().find_map(|line| {
        let (_, address) = line["message"].as_str()?.split_once("metrics at http://")?;
        Some(address.to_owned())
    });
    let address = address.unwrap();
    let health = || ran(&host, &["health", "--http-addr", &address]);
    eventually("it is well", || health().status.success());
    let metrics = || command(flotilla_tests::web::get(&format!("http://{address}/metrics"))).unwrap();
    let has = |line: &str| eventually(line, || metrics().lines().any(|told| told == line));
    for line in [
        "registrar_up{side=\"docker\"} 1",
        "registrar_up{side=\"registry\"} 1",
        "registrar_containers 2",
        "registrar_instances{state=\"wanted\"} 1",
        "registrar_instances{state=\"registered\"} 1",
        "registrar_instances{state=\"taken\"} 0",
        "registrar_calls_total{action=\"register\",result=\"done\"} 1",
    ] {
        has(line);
    }
    host.registry.stop();
    let health = || command(launch(&host, &["health", "--http-addr", &address]).run(LIMIT));
    eventually("it is not well", || health().err.contains("the registry does not answer"));
    assert_eq!(health().status.code(), Some(1));
    drop(program);
    let gone = health();
    assert!(gone.status.code() == Some(1) && gone.err.contains("tells how it does"), "{gone:?}");
    let nowhere = command(launch(&host, &["health"]).run(LIMIT));
    assert!(nowhere.status.code() == Some(1) && nowhere.err.contains("--http-addr"), "{nowhere:?}");
}
