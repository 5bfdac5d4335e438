//! `kvstore release`: what is live, since when, and who gets it.

use std::fs;

use crate::harness::*;

fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn a_version_is_made_live_and_its_history_is_kept() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json");
    let service = |n: u8| {
        format!(
            r#"{{"id": "web-{n}", "name": "web", "address": "172.17.0.{n}", "port": 80, "meta": {{"version": "v{n}"}}}}"#
        )
    };
    fs::write(&file, format!(r#"{{"services": [{}, {}]}}"#, service(1), service(2))).unwrap();
    agent.ok(&["services", "register", file.to_str().unwrap()]);

    assert_eq!(rows(&agent.ok(&["release", "web"])), [["v1", "1", "1"], ["v2", "1", "1"]]);
    assert_eq!(agent.ok(&["release", "Web", "v2"]), "v2 of web is live, one instance of it passes\n");
    assert_eq!(rows(&agent.ok(&["release"])), [["web", "v2"]]);
    assert_eq!(rows(&agent.ok(&["release", "web"]))[1], ["v2", "1", "1", "yes"]);
    assert_eq!(agent.ok(&["kv", "get", "release/web"]).trim_end(), "v2");
    assert!(agent.ok(&["release", "web", "v3"]).contains("no instance of it passes yet"));
    agent.ok(&["release", "web", "--clear"]);
    assert_eq!(rows(&agent.ok(&["release"])), Vec::<Vec<&str>>::new());

    let history = agent.ok(&["release", "web", "--history"]);
    let versions: Vec<_> = rows(&history).into_iter().map(|row| row[1]).collect();
    assert_eq!(versions, ["-", "v3", "v2"]);
    let json: serde_json::Value =
        serde_json::from_str(&agent.ok(&["release", "web", "--history", "--format=json"])).unwrap();
    assert_eq!((&json[0]["Version"], &json[2]["Version"]), (&serde_json::Value::Null, &"v2".into()));

    let lost = agent.run(&["release", "web", "v1", "--clear"]);
    assert_eq!(lost.status.code(), Some(2));
    agent.ok(&["kv", "put", "release-history/web", "junk"]);
    let junk = agent.run(&["release", "web", "v1"]);
    assert!(String::from_utf8_lossy(&junk.stderr).contains("is not a history"), "{junk:?}");
}
