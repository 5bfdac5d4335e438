//! `kvstore query`: from its definition to what it finds.

use std::fs;

use serde_json::Value;

use crate::harness::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn a_query_is_kept_shown_executed_and_deleted() {
    let agent = Agent::dev();
    for (id, tag) in [("web-1", "v1"), ("web-2", "v2")] {
        agent.ok(&["services", "register", "-name=web", "-id", id, "-port=80", "-tag", tag, "-address=10.0.0.1"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json");
    fs::write(&file, r#"{"Name": "new", "Service": {"Service": "web", "Tags": ["v2"]}, "DNS": {"TTL": "10s"}}"#)
        .unwrap();
    let id = agent.ok(&["query", "create", &format!("@{}", file.display())]).trim().to_owned();
    let listed = agent.ok(&["query", "list"]);
    assert_eq!(cells(listed.lines().nth(1).unwrap()), [id.as_str(), "new", "web", "-", "10s"]);
    for wanted in [&id, "new"] {
        assert!(agent.ok(&["query", "read", wanted]).contains("Tags     v2\n"));
    }
    assert_eq!(json(&agent.ok(&["query", "read", "-format=json", "new"]))["ID"], id.as_str());

    let found = agent.ok(&["query", "execute", "new"]);
    assert_eq!(cells(found.lines().nth(1).unwrap()), ["n1", "web-2", "10.0.0.1", "80", "v2"]);
    assert_eq!(found.lines().count(), 2);
    agent.ok(&["query", "update", "new", r#"{"Name": "all", "Service": {"Service": "web"}}"#]);
    assert_eq!(agent.ok(&["query", "execute", "all"]).lines().count(), 3);
    assert_eq!(agent.ok(&["query", "execute", "-limit=1", "-near=_agent", "all"]).lines().count(), 2);
    assert_eq!(json(&agent.ok(&["query", "execute", "-format", "json", "all"]))["Service"], "web");

    assert_eq!(agent.ok(&["query", "delete", "all"]), format!("Query deleted: {id}\n"));
    for command in ["read", "delete", "execute", "explain"] {
        refused(&agent.run(&["query", command, "all"]), 1, &["there is no query \"all\"", "query list"]);
    }
}

#[test]
fn a_template_is_explained_for_a_name() {
    let agent = Agent::dev();
    let template = r#"{"Name": "web-", "Template": {"Type": "name_prefix_match", "Regexp": "^web-(.*)$"},
        "Service": {"Service": "web", "Tags": ["${match(1)}"]}}"#;
    agent.ok(&["query", "create", template]);
    let shown = agent.ok(&["query", "explain", "web-v7"]);
    assert!(shown.contains("v7\n") && !shown.contains("${"), "{shown}");
    assert!(agent.ok(&["query", "read", "web-"]).contains("${match(1)}"));
}

#[test]
fn wrong_definitions_are_refused_with_the_reason() {
    let agent = Agent::dev();
    refused(&agent.run(&["query", "create", "{"]), 2, &["the definition is wrong", "--help"]);
    refused(&agent.run(&["query", "create", r#"{"Nmae": "x"}"#]), 2, &["no field Nmae"]);
    refused(&agent.run(&["query", "create", r#"{"Name": "x"}"#]), 1, &["500"]);
    refused(&agent.run(&["query", "create", "@/no/such/file"]), 1, &["/no/such/file"]);
    assert_eq!(agent.ok(&["query", "list", "-format=json"]), "[]\n");
}
