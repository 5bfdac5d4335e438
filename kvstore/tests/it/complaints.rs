//! What users of Consul complain about, tried here: README's "Compared with Consul" lists these and more.

use std::{path::Path, time::Duration};

use kvstore::config::Engine;
use serde_json::Value;

use crate::common::{Agent, settings};

async fn put(agent: &Agent, path: &str, body: &str) {
    let request = reqwest::Client::new().put(format!("{}{path}", agent.base)).body(body.to_owned());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}: {}", response.text().await.unwrap());
}

async fn get(agent: &Agent, path: &str) -> Value {
    let text = reqwest::get(format!("{}{path}", agent.base)).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn kept(dir: &tempfile::TempDir) -> kvstore::config::Agent {
    let mut settings = settings("n");
    settings.engine = Engine::Embedded { data_dir: dir.path().into() };
    settings
}

/// `node/id` of each entry of a list of instances.
fn order(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |entry: &Value| match entry.get("Service") {
        Some(service) => format!("{}/{}", text(&entry["Node"]["Node"]), text(&service["ID"])),
        None => format!("{}/{}", text(&entry["Node"]), text(&entry["ServiceID"])),
    };
    list.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn a_host_with_a_new_address_goes_on_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = kept(&dir);
    let first = Agent::with(settings.clone()).await;
    put(&first, "/v1/agent/service/register", r#"{"Name": "web"}"#).await;
    put(&first, "/v1/kv/k", "v").await;
    first.stop().await;

    settings.advertise = "10.9.9.9".parse().unwrap();
    let second = Agent::with(settings).await;
    assert_eq!(get(&second, "/v1/status/leader").await, "10.9.9.9:39300", "nobody has to be elected");
    let web = get(&second, "/v1/health/service/web?passing").await;
    assert_eq!((web.as_array().unwrap().len(), &web[0]["Node"]["Address"]), (1, &"10.9.9.9".into()));
    put(&second, "/v1/kv/k", "writes are taken too").await;
    assert_eq!(get(&second, "/v1/catalog/nodes").await.as_array().unwrap().len(), 1, "and no ghost of the old one");
    second.stop().await;
}

#[tokio::test]
async fn what_was_deregistered_stays_away_and_what_the_catalog_put_stays() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::with(kept(&dir)).await;
    put(&agent, "/v1/agent/service/register", r#"{"Name": "mine", "Check": {"TTL": "1h"}}"#).await;
    put(&agent, "/v1/catalog/deregister", r#"{"Node": "n", "ServiceID": "mine"}"#).await;
    let theirs = r#"{"Node": "n", "SkipNodeUpdate": true, "Service": {"Service": "theirs"}}"#;
    put(&agent, "/v1/catalog/register", theirs).await;
    assert_eq!(get(&agent, "/v1/catalog/service/mine").await.as_array().unwrap().len(), 0);
    // No sync is waited for: there is no second copy that anything could come back from, and a restart brings none.
    agent.stop().await;
    let again = Agent::with(kept(&dir)).await;
    assert_eq!(get(&again, "/v1/catalog/service/mine").await.as_array().unwrap().len(), 0);
    assert_eq!(get(&again, "/v1/catalog/service/theirs").await.as_array().unwrap().len(), 1);
    again.stop().await;
}

#[tokio::test]
async fn hundreds_of_watchers_from_one_address_are_all_answered() {
    let agent = Agent::start("n").await;
    put(&agent, "/v1/kv/k", "1").await;
    let client = reqwest::Client::new();
    let response = client.get(format!("{}/v1/kv/k", agent.base)).send().await.unwrap();
    let index = response.headers()["x-consul-index"].to_str().unwrap().to_owned();
    let watch = || tokio::spawn(client.get(format!("{}/v1/kv/k?raw&wait=60s&index={index}", agent.base)).send());
    let watchers: Vec<_> = (0..400).map(|_| watch()).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    put(&agent, "/v1/kv/k", "2").await;
    for watcher in watchers {
        let response = watcher.await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "2"));
    }
}

#[tokio::test]
async fn instances_are_in_one_order_everywhere() {
    let agent = Agent::start("n").await;
    for (node, id, status) in
        [("b", "2", "passing"), ("a", "9", "passing"), ("b", "1", "critical"), ("B", "10", "passing")]
    {
        let service = format!(r#"{{"ID": "{id}", "Service": "web"}}"#);
        let check = format!(r#"{{"CheckID": "c{id}", "ServiceID": "{id}", "Status": "{status}"}}"#);
        let body = format!(r#"{{"Node": "{node}", "Address": "10.0.0.1", "Service": {service}, "Check": {check}}}"#);
        put(&agent, "/v1/catalog/register", &body).await;
    }
    let all = order(&get(&agent, "/v1/catalog/service/web").await);
    assert_eq!(all, ["a/9", "B/1", "B/10", "B/2"], "by node, then by id");
    assert_eq!(order(&get(&agent, "/v1/health/service/web").await), all, "old clients pair the two by position");
    let passing = order(&get(&agent, "/v1/health/service/web?passing").await);
    assert_eq!(passing, ["a/9", "B/10", "B/2"], "what is left out leaves the others where they were");
}

#[tokio::test]
async fn one_registry_serves_hosts_that_run_none() {
    let agent = Agent::start("n").await;
    for (node, address) in [("host1", "10.0.0.1"), ("host2", "10.0.0.2")] {
        let service = r#"{"Service": "web", "Port": 80}"#;
        let body = format!(r#"{{"Node": "{node}", "Address": "{address}", "Service": {service}}}"#);
        put(&agent, "/v1/catalog/register", &body).await;
    }
    let given = r#"{"Name": "web", "ID": "web-3", "Address": "10.0.0.3", "Port": 80}"#;
    put(&agent, "/v1/agent/service/register", given).await;
    let instances = get(&agent, "/v1/health/service/web?passing").await;
    let address = |entry: &Value| match entry["Service"]["Address"].as_str() {
        Some("") | None => entry["Node"]["Address"].clone(),
        Some(address) => address.into(),
    };
    let found: Vec<Value> = instances.as_array().unwrap().iter().map(address).collect();
    assert_eq!(found, ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "the addresses are those that were given");
    put(&agent, "/v1/catalog/deregister", r#"{"Node": "host1"}"#).await;
    assert_eq!(get(&agent, "/v1/health/service/web").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tags_are_listed_once_and_in_order() {
    let agent = Agent::start("n").await;
    // Registered the other way round, and again: that changes nothing.
    let instances = [("2", r#"["b", "a"]"#), ("1", r#"["v2", "a", "v10"]"#), ("2", r#"["b", "a"]"#)];
    for (id, tags) in instances {
        put(&agent, "/v1/agent/service/register", &format!(r#"{{"Name": "web", "ID": "{id}", "Tags": {tags}}}"#)).await;
    }
    assert_eq!(get(&agent, "/v1/catalog/services").await["web"], serde_json::json!(["v2", "a", "v10", "b"]));
    assert_eq!(get(&agent, "/v1/agent/service/1").await["Tags"], serde_json::json!(["v2", "a", "v10"]), "as given");
}

#[test]
fn the_licence_is_a_permissive_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(read("Cargo.toml").contains("license = \"MIT OR Apache-2.0\""));
    for krate in ["kvstore", "kvstore/core", "kvstore/client", "registrar", "templater"] {
        assert!(read(&format!("{krate}/Cargo.toml")).contains("license.workspace = true"), "{krate}");
    }
    assert!(
        read("LICENSE-MIT").contains("Permission is hereby granted") && read("LICENSE-APACHE").contains("Version 2.0")
    );
}

/// Every Rust source of the repository.
fn sources(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_comparison_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("## Compared with Consul").expect("README compares with Consul");
    let table = table.split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "the table is there");
    let mut all = String::new();
    sources(&root, &mut all);
    for row in rows {
        let tests = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let mut named = tests.split('`').skip(1).step_by(2).peekable();
        assert!(named.peek().is_some(), "no test is named in: {row}");
        for test in named {
            assert!(is_test(&all, test), "{test} is no test, but is named in: {row}");
        }
    }
}

/// Whether `sources` hold a test or a story of this name.
fn is_test(sources: &str, name: &str) -> bool {
    let attributes = |before: &str| {
        let whole_lines = &before[..before.rfind('\n').unwrap_or(0)];
        let above = whole_lines.lines().rev().map(str::trim);
        above
            .take_while(|line| line.starts_with("#["))
            .any(|line| line.starts_with("#[test") || line.contains("::test"))
    };
    sources.contains(&format!("Story::new(\"{name}\""))
        || sources.match_indices(&format!("fn {name}(")).any(|(at, _)| attributes(&sources[..at]))
}

#[test]
fn only_tests_pass_as_tests() {
    let sources =
        "#[test]\nfn a() {}\nfn b() {}\n  #[tokio::test(start_paused = true)]\n  async fn c() {}\nfn ab() {}\n";
    for (name, expected) in [("a", true), ("b", false), ("c", true), ("ab", false), ("d", false)] {
        assert_eq!(is_test(sources, name), expected, "{name}");
    }
}
