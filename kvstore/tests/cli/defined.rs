//! Services and checks in configuration files, and checks over a restart of the agent.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::*;

fn write(directory: &Path, file: &str, content: &Value) {
    fs::write(directory.join(file), content.to_string()).unwrap();
}

/// Ids of the agent's own instances and of its checks, in order.
fn shown(agent: &Agent) -> String {
    let ids = |path| {
        let all: Value = serde_json::from_str(&agent.send("GET", path).1).unwrap();
        all.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    format!("{} | {}", ids("/v1/agent/services"), ids("/v1/agent/checks"))
}

#[test]
fn what_files_define_comes_changes_and_goes_with_them() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, config) = (dir.path().join("data"), files.path().to_str().unwrap());
    let ttl = |id: &str| json!({"id": id, "ttl": "1h"});
    write(files.path(), "1.json", &json!({"service": {"name": "web", "port": 80, "checks": [ttl("a"), ttl("b")]}}));
    fs::write(
        files.path().join("2.yaml"),
        "services:\n- name: db\n  tags: [primary]\n- {name: cache, id: cache-1}\nchecks:\n- {name: disk, ttl: 1h}\n",
    )
    .unwrap();
    let agent = Agent::on(&data, &["--config", config]);
    assert_eq!(shown(&agent), "cache-1 db web | a b disk");
    agent.put("/v1/agent/service/register", r#"{"Name": "by-hand", "Check": {"TTL": "1h"}}"#);
    agent.put("/v1/agent/check/pass/a?note=fine", "");

    // Changed, added and removed, by signal.
    write(files.path(), "1.json", &json!({"service": {"name": "web", "port": 81, "check": ttl("a")}}));
    fs::remove_file(files.path().join("2.yaml")).unwrap();
    write(
        files.path(),
        "3.json",
        &json!({"service": {"name": "new"}, "check": {"name": "own", "service_id": "by-hand",
        "ttl": "1h"}}),
    );
    agent.signal(Signal::SIGHUP);
    eventually("the new definitions", || shown(&agent) == "by-hand new web | a own service:by-hand");
    let (_, web) = agent.send("GET", "/v1/health/service/web");
    assert!(web.contains("\"Port\":81") && web.contains("\"Output\":\"fine\""), "{web}");

    // A file that is wrong changes nothing, and says where; by request.
    write(files.path(), "3.json", &json!({"services": [{"name": "new", "check": {"interval": "10s"}}]}));
    let (status, why) = agent.send("PUT", "/v1/agent/reload");
    assert!(status == 500 && why.contains("3.json:1  services[0]: Invalid check: TTL must be > 0"), "{why}");
    assert_eq!(shown(&agent), "by-hand new web | a own service:by-hand");
    write(files.path(), "3.json", &json!({"check": {"name": "orphan", "service_id": "none", "ttl": "1h"}}));
    let (status, why) = agent.send("PUT", "/v1/agent/reload");
    assert!(status == 500 && why.contains("\"orphan\" of a file: ServiceID \"none\" does not exist"), "{why}");
    assert_eq!(shown(&agent), "by-hand web | a service:by-hand");
    assert_eq!(agent.stop().0, Some(0));

    // What vanished while the agent was away goes at its start.
    fs::remove_file(files.path().join("1.json")).unwrap();
    write(files.path(), "3.json", &json!({"service": {"name": "late"}}));
    let agent = Agent::on(&data, &["--config", config]);
    assert_eq!(shown(&agent), "by-hand late | service:by-hand");
}

#[test]
fn validate_looks_at_definitions_too() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
    let validate = || run(&["validate", file.to_str().unwrap()]);
    let mut config = json!({"data_dir": data, "service": {"name": "web", "check": {"args": ["x"], "interval": "9s"}}});
    fs::write(&file, config.to_string()).unwrap();
    refused(&validate(), 1, &["agent.json:1  service: Scripts are disabled on this agent"]);
    config["enable_local_script_checks"] = true.into();
    fs::write(&file, config.to_string()).unwrap();
    assert!(validate().status.success());
    config["check"] = json!([{"ttl": "9s", "id": "a"}, {"ttl": "9s", "id": "a", "nmae": "x"}]);
    fs::write(&file, config.to_string()).unwrap();
    refused(&validate(), 1, &["check[1].nmae: unknown key; did you mean \"name\"?"]);
    config["check"] = json!([{"ttl": "9s", "id": "a"}, {"ttl": "9s", "id": "a"}]);
    fs::write(&file, config.to_string()).unwrap();
    let said = text(&validate().stdout);
    assert!(said.contains("check[1]: the check \"a\" is defined twice; this one counts"), "{said}");
}

/// A script of a file runs where files alone may have them; the API may not register one.
#[test]
fn a_script_of_a_file_runs_and_the_api_takes_none() {
    let (dir, marks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mark = marks.path().join("ran");
    let args = ["touch", mark.to_str().unwrap()];
    let config = json!({"enable_local_script_checks": true, "check": {"name": "c", "args": args, "interval": "1s"}});
    write(dir.path(), "agent.json", &config);
    let file = dir.path().join("agent.json");
    let agent = Agent::on(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    eventually("the script runs", || mark.exists());
    let body = r#"{"Name": "x", "Args": ["true"], "Interval": "1s"}"#;
    assert_eq!(agent.try_put("/v1/agent/check/register", body), 400);
}

/// A report stands over a restart, with a full TTL from then on; what was registered goes on being probed.
#[test]
fn checks_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let agent = Agent::on(&data, &[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap();
    agent.put("/v1/agent/check/register", r#"{"Name": "report", "TTL": "2s"}"#);
    agent.put("/v1/agent/check/register", &format!(r#"{{"Name": "port", "TCP": "{tcp}", "Interval": "1s"}}"#));
    let check = |agent: &Agent, id: &str| {
        let all: Value = serde_json::from_str(&agent.send("GET", "/v1/agent/checks").1).unwrap();
        (all[id]["Status"].as_str().unwrap().to_owned(), all[id]["Output"].as_str().unwrap().to_owned())
    };
    eventually("the port is probed", || check(&agent, "port").0 == "passing");
    agent.put("/v1/agent/check/warn/report?note=so+so", "");
    assert_eq!(agent.stop().0, Some(0));
    // Away for longer than the TTL, which does not count: nobody could report.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    drop(listener);
    let agent = Agent::on(&data, &[]);
    let started = std::time::Instant::now();
    assert_eq!(check(&agent, "report"), ("warning".into(), "so so".into()));
    eventually("the port is probed again", || check(&agent, "port").0 == "critical");
    eventually("silence since the start", || check(&agent, "report").0 == "critical");
    assert!(started.elapsed().as_secs_f64() > 1.5, "{:?}", started.elapsed());
    assert_eq!(check(&agent, "report").1, "TTL expired (last output before timeout follows): so so");
}
