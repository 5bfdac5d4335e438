//! Prepared queries from outside: kept, refused, resolved, executed, waited for, and what strangers make of them.

use std::time::Duration;

use kvstore_client::{Client, ClientConfig, ExecuteQuery, Wait, types};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::Agent;

fn client(agent: &Agent) -> Client {
    Client::new(&ClientConfig { addresses: vec![agent.base.clone()], ..ClientConfig::default() }).unwrap()
}

struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

async fn send(agent: &Agent, method: &str, path: &str, body: &str) -> Reply {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = reqwest::Client::new().request(method, format!("{}{path}", agent.base)).body(body.to_owned());
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}

/// Keeps a query and gives its id.
async fn keep(agent: &Agent, body: Value) -> String {
    let reply = send(agent, "POST", "/v1/query", &body.to_string()).await;
    assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    serde_json::from_str::<Value>(&reply.text).unwrap()["ID"].as_str().unwrap().to_owned()
}

#[allow(clippy::needless_pass_by_value)] // as json! makes it
fn template(name: &str, regexp: &str, service: Value) -> Value {
    json!({"Name": name, "Template": {"Type": "name_prefix_match", "Regexp": regexp}, "Service": service})
}

/// Instances of `web` on hosts `a`, `b` and `c` at 10.0.0.1 to 3, `c` in the middle.
async fn filled() -> Agent {
    let agent = Agent::start("here").await;
    for (number, (node, place)) in [("a", 0.0), ("b", 0.2), ("c", 0.1)].into_iter().enumerate() {
        let row = json!({
            "Node": node, "Address": format!("10.0.0.{}", number + 1), "NodeMeta": {"rack": node},
            "Service": {"ID": "web", "Service": "web", "Port": 80, "Tags": [format!("Tag-{node}")]},
        });
        assert_eq!(send(&agent, "PUT", "/v1/catalog/register", &row.to_string()).await.text, "true");
        let point = json!({"Vec": [place, 0, 0, 0, 0, 0, 0, 0], "Error": 0.1, "Adjustment": 0, "Height": 0.001});
        let update = json!({"Node": node, "Coord": point}).to_string();
        assert_eq!(send(&agent, "PUT", "/v1/coordinate/update", &update).await.status, 200);
    }
    agent
}

/// The hosts of an execution in their order; or the status and text of what is none.
async fn executed(agent: &Agent, name_and_parameters: &str) -> String {
    let (name, parameters) = name_and_parameters.split_once('?').unwrap_or((name_and_parameters, ""));
    let reply = send(agent, "GET", &format!("/v1/query/{name}/execute?{parameters}"), "").await;
    if reply.status != 200 {
        return format!("{} {}", reply.status, reply.text);
    }
    let json: Value = serde_json::from_str(&reply.text).unwrap();
    json["Nodes"].as_array().unwrap().iter().map(|row| row["Node"]["Node"].as_str().unwrap()).collect()
}

fn sorted(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

#[tokio::test]
async fn what_is_no_query_is_refused_in_consuls_words() {
    let agent = Agent::start("here").await;
    let id = keep(&agent, json!({"Name": "q", "Service": {"Service": "web"}})).await;
    let catch_all = template("", "", json!({"Service": "${name.full}"}));
    let catch_all_id = keep(&agent, catch_all.clone()).await;
    let (own, other, unknown) = (
        format!("/v1/query/{id}"),
        format!("/v1/query/{catch_all_id}"),
        "/v1/query/00000000-0000-4000-8000-000000000000",
    );
    let named = |name: &str| json!({"Name": name, "Service": {"Service": "web"}});
    let with = |field: &str, value: Value| {
        let mut body = named("new");
        body[field] = value;
        body
    };
    let service = |fields: Value| {
        let mut service = fields;
        service["Service"] = json!("web");
        with("Service", service)
    };
    for (method, path, body, status, text) in [
        (
            "POST",
            "/v1/query",
            json!({"Service": {"Service": "web"}}),
            500,
            "Invalid prepared query: Must be bound to a session",
        ),
        ("POST", "/v1/query", with("ID", json!(id)), 500, "ID must be empty when creating a new prepared query"),
        ("POST", "/v1/query", named("Q"), 500, "raft apply failed: name 'Q' aliases an existing query name"),
        ("POST", "/v1/query", named(&id.to_uppercase()), 500, "aliases an existing query ID"),
        ("POST", "/v1/query", catch_all, 500, "raft apply failed: a query template with an empty name already exists"),
        (
            "POST",
            "/v1/query",
            with("Service", json!({})),
            500,
            "Invalid prepared query: Must provide a Service name to query",
        ),
        ("POST", "/v1/query", with("Session", json!("nope")), 500, "raft apply failed: invalid session"),
        ("POST", "/v1/query", with("Token", json!("<hidden>")), 500, "Invalid prepared query: Bad Token '<hidden>'"),
        (
            "POST",
            "/v1/query",
            with("DNS", json!({"TTL": "10 parsecs"})),
            500,
            "Invalid prepared query: Bad DNS TTL '10 parsecs'",
        ),
        ("POST", "/v1/query", with("DNS", json!({"TTL": "-1s"})), 500, "Invalid prepared query: Bad DNS TTL '-1s'"),
        ("POST", "/v1/query", service(json!({"Failover": {"NearestN": -1}})), 500, "Bad NearestN '-1', must be >= 0"),
        ("POST", "/v1/query", service(json!({"NodeMeta": {"a b": "c"}})), 500, "Invalid node metadata filters"),
        ("POST", "/v1/query", service(json!({"SamenessGroup": "x"})), 400, "Enterprise"),
        (
            "POST",
            "/v1/query",
            service(json!({"Failover": {"Targets": [{"Peer": "p", "Partition": "x"}]}})),
            400,
            "Enterprise",
        ),
        (
            "POST",
            "/v1/query",
            with("Template", json!({"Type": "x"})),
            500,
            "failed compiling template: Bad Template.Type 'x'",
        ),
        (
            "POST",
            "/v1/query",
            template("t", "(", json!({"Service": "x"})),
            500,
            "failed compiling template: Bad Regexp",
        ),
        (
            "POST",
            "/v1/query",
            template("t", "", json!({"Service": "${name.nope}"})),
            500,
            "failed compiling template: Bad format",
        ),
        ("POST", "/v1/query", with("Bogus", json!(1)), 400, "Request decode failed: json: unknown field \"Bogus\""),
        ("POST", "/v1/query", json!([]), 400, "Request decode failed"),
        ("POST", "/v1/query", Value::Null, 400, "Request decode failed"),
        ("PUT", own.as_str(), json!({"Service": {"Service": "web"}}), 500, "Must be bound to a session"),
        ("PUT", other.as_str(), named("q"), 500, "aliases an existing query name"),
        (
            "PUT",
            unknown,
            named("new"),
            500,
            "Cannot modify non-existent prepared query: '00000000-0000-4000-8000-000000000000'",
        ),
        ("PUT", "/v1/query/q", named("new"), 500, "prepared query lookup failed"),
        ("DELETE", unknown, json!({}), 500, "Cannot modify non-existent prepared query"),
        ("DELETE", "/v1/query/q", json!({}), 500, "prepared query lookup failed"),
        ("GET", unknown, json!({}), 404, "Query not found"),
        ("GET", "/v1/query/q", json!({}), 500, "prepared query lookup failed"),
        ("GET", "/v1/query/", json!({}), 500, "prepared query lookup failed"),
        ("GET", "/v1/query/q/execute?limit=x", json!({}), 500, "Bad limit"),
        ("GET", "/v1/query/q/execute?connect=maybe", json!({}), 500, "Error parsing 'connect' value"),
        ("GET", "/v1/query/q/execute?stale&consistent", json!({}), 400, "conflicting semantics"),
        ("GET", "/v1/query/q/execute?dc=dc9", json!({}), 500, "No path to datacenter"),
        (
            "GET",
            &format!("{other}/execute"),
            json!({}),
            500,
            "prepared query templates can only be resolved up by name, not by ID",
        ),
        (
            "GET",
            &format!("{other}/explain"),
            json!({}),
            500,
            "prepared query templates can only be resolved up by name, not by ID",
        ),
    ] {
        let reply = send(&agent, method, path, &body.to_string()).await;
        assert!(
            reply.status == status && reply.text.contains(text),
            "{method} {path} {body}: {} {}",
            reply.status,
            reply.text
        );
    }
    let empty = send(&agent, "POST", "/v1/query", "").await;
    assert_eq!((empty.status, empty.text.as_str()), (400, "Request decode failed: EOF"));
    let empty = send(&agent, "PUT", &own, "").await;
    assert_eq!((empty.status, empty.text.as_str()), (500, "Invalid prepared query: Must be bound to a session"));
    assert_eq!(client(&agent).query_list(None).await.unwrap().value.len(), 2, "nothing was kept");
}

#[tokio::test]
async fn what_was_put_comes_back() {
    let (agent, service) = (
        Agent::start("here").await,
        json!({
            "Service": "web", "OnlyPassing": true, "IgnoreCheckIDs": ["c1"], "Near": "_agent", "Tags": ["a", "!b"],
            "NodeMeta": {"rack": "1"}, "ServiceMeta": {"team": "x"}, "Connect": false, "Peer": "",
            "Failover": {"NearestN": 0, "Datacenters": null, "Targets": [{"Peer": "p", "Datacenter": ""}, {"Peer": "", "Datacenter": "dc2"}]},
        }),
    );
    let body = json!({"Name": "Whole", "Session": "", "Token": "t", "Service": service, "DNS": {"TTL": "1m30s"},
                      "Template": {"Type": "name_prefix_match", "Regexp": "^w(.*)$", "RemoveEmptyTags": true}});
    let id = keep(&agent, body.clone()).await;
    let listed: Value = serde_json::from_str(&send(&agent, "GET", "/v1/query", "").await.text).unwrap();
    let mut got = listed[0].clone();
    let fields = got.as_object_mut().unwrap();
    assert_eq!(fields.remove("ID"), Some(json!(id)));
    assert_eq!(fields.remove("CreateIndex"), fields.remove("ModifyIndex"));
    assert_eq!(got, body);

    // An update keeps what it was created at; the id of its body does not count.
    let client = client(&agent);
    let update = types::PreparedQuery {
        id: "other".into(),
        name: "less".into(),
        ..client.query_get(&id, None).await.unwrap().value.unwrap()
    };
    client.query_update(&id.to_uppercase(), &update).await.unwrap();
    let after = client.query_get(&id, None).await.unwrap().value.unwrap();
    assert_eq!(
        (after.id.as_str(), after.name.as_str(), after.create_index),
        (id.as_str(), "less", update.create_index)
    );
    assert!(after.modify_index > update.modify_index);
    client.query_delete(&id).await.unwrap();
    assert_eq!(client.query_get(&id, None).await.unwrap().value, None);
    assert_eq!(client.query_execute("less-x", &ExecuteQuery::default()).await.unwrap(), None);
}

#[tokio::test]
async fn names_ids_and_templates_are_executed() {
    let agent = filled().await;
    let id = keep(&agent, json!({"Name": "All", "Service": {"Service": "WEB"}})).await;
    keep(&agent, json!({"Name": "with/slash", "Service": {"Service": "web", "Tags": ["!tag-c"]}})).await;
    keep(&agent, template("web-", "", json!({"Service": "web", "Tags": ["TAG-${name.suffix}"]}))).await;
    keep(
        &agent,
        template("web-rack-", "^web-rack-(.)$", json!({"Service": "web", "NodeMeta": {"rack": "${match(1)}"}})),
    )
    .await;
    for (asked, want) in [
        ("all", "abc"),
        (id.as_str(), "abc"),
        ("with/slash", "ab"),
        ("web-b", "b"),
        ("WEB-C", "c"),
        ("web-rack-a", "a"),
        ("web-rack-zz", ""),
        ("web-none", ""),
        ("nope", "404 Query not found"),
        ("all?connect=true", ""),
        ("all?limit=-1", "abc"),
        ("all?limit=0", "abc"),
        ("all?limit=99", "abc"),
    ] {
        let got = executed(&agent, asked).await;
        assert_eq!(if got.starts_with("404") { got } else { sorted(&got) }, want, "{asked}");
    }
    assert_eq!(executed(&agent, "all?limit=2").await.len(), 2);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..60 {
        first.insert(executed(&agent, "all?limit=1").await);
    }
    assert_eq!(first.len(), 3, "each is first now and then");
    // What is kept under the name stays as it was; what is explained is rendered.
    let explained = client(&agent).query_explain("web-rack-a").await.unwrap().unwrap();
    assert_eq!(explained.query.service.node_meta, Some([("rack".to_owned(), "a".to_owned())].into()));
    assert_eq!((explained.query.name.as_str(), explained.meta.index), ("web-rack-", 1));
    assert_eq!(client(&agent).query_explain("nope").await.unwrap(), None);
}

#[tokio::test]
async fn the_nearest_come_first() {
    let agent = filled().await;
    keep(&agent, json!({"Name": "any", "Service": {"Service": "web"}})).await;
    keep(&agent, json!({"Name": "near-b", "Service": {"Service": "web", "Near": "B"}})).await;
    keep(&agent, json!({"Name": "near-ip", "Service": {"Service": "web", "Near": "_ip"}})).await;
    for (asked, want) in [("near-b", "bca"), ("any?near=a", "acb"), ("near-b?near=c&limit=1", "c")] {
        assert_eq!(executed(&agent, asked).await, want, "{asked}");
    }
    assert_eq!(sorted(&executed(&agent, "any?near=nobody").await), "abc");
    assert_eq!(sorted(&executed(&agent, "near-ip").await), "abc", "nobody is at 127.0.0.1");
    // The registry's own host is the nearest to itself, though its place is not known.
    let own = json!({"Name": "web", "Port": 1}).to_string();
    assert_eq!(send(&agent, "PUT", "/v1/agent/service/register", &own).await.status, 200);
    for asked in ["any?near=_agent", "near-ip"] {
        assert!(executed(&agent, asked).await.starts_with("here"), "{asked}");
    }
    let proxied = reqwest::Client::new().get(format!("{}/v1/query/near-ip/execute", agent.base));
    let reply = proxied.header("X-Forwarded-For", "10.0.0.2, 192.0.2.1").send().await.unwrap();
    let json: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(json["Nodes"][0]["Node"]["Node"], "b");
}

#[tokio::test]
async fn waits_end_with_changes_of_queries_only() {
    let agent = Agent::start("here").await;
    let client = client(&agent);
    let query = |name: &str| types::PreparedQuery {
        name: name.into(),
        service: types::ServiceQuery { service: "web".into(), ..types::ServiceQuery::default() },
        ..types::PreparedQuery::default()
    };
    let id = client.query_create(&query("one")).await.unwrap();
    let list = client.query_list(None).await.unwrap();
    let one = client.query_get(&id, None).await.unwrap();
    let after = |index, millis| Some(Wait { index, wait: Duration::from_millis(millis) });
    client.kv_put("k", "v", kvstore_client::KvPut::default()).await.unwrap();
    assert_eq!(client.query_list(after(list.index, 50)).await.unwrap(), list);

    let (waiting, asking) = (client.clone(), id.clone());
    let of_one = tokio::spawn(async move { waiting.query_get(&asking, after(one.index, 20_000)).await.unwrap() });
    let waiting = client.clone();
    let of_all = tokio::spawn(async move { waiting.query_list(after(list.index, 20_000)).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let other = client.query_create(&query("two")).await.unwrap();
    let of_all = of_all.await.unwrap();
    assert_eq!(of_all.value.len(), 2);
    assert!(!of_one.is_finished(), "another query is none of its business");
    client.query_delete(&id).await.unwrap();
    assert_eq!(of_one.await.unwrap().value, None);
    let last = client.query_list(after(of_all.index, 20_000)).await.unwrap();
    assert_eq!(last.value.iter().map(|q| &q.id).collect::<Vec<_>>(), [&other]);
    // Nobody waits for a query to come.
    assert_eq!(client.query_get(&id, after(u64::MAX >> 12, 20_000)).await.unwrap().value, None);
}

#[tokio::test]
async fn methods_and_the_cache() {
    let agent = filled().await;
    let id = keep(&agent, json!({"Name": "q", "Service": {"Service": "web"}})).await;
    for (path, allowed) in [
        ("/v1/query", "OPTIONS,POST,GET"),
        ("/v1/query/x", "OPTIONS,GET,PUT,DELETE"),
        ("/v1/query/x/execute", "OPTIONS,GET"),
        ("/v1/query/x/explain", "OPTIONS,GET"),
    ] {
        let options = send(&agent, "OPTIONS", path, "").await;
        let body = if path == "/v1/query" { "" } else { "{}" };
        assert_eq!((options.status, options.header("allow"), options.text.as_str()), (200, allowed, body), "{path}");
        assert_eq!(send(&agent, "PATCH", path, "").await.status, 405, "{path}");
    }
    assert_eq!(send(&agent, "PUT", "/v1/query/q/execute", "").await.status, 405);
    for want in ["MISS", "HIT"] {
        assert_eq!(send(&agent, "GET", "/v1/query/q/execute?cached", "").await.header("x-cache"), want);
        assert_eq!(send(&agent, "GET", &format!("/v1/query/{id}?cached"), "").await.header("x-cache"), "");
    }
    let stale = send(&agent, "GET", "/v1/query/q/execute?stale", "").await;
    assert_eq!(stale.header("x-consul-effective-consistency"), "stale");
    assert!(stale.text.contains(r#""ConsistencyLevel":"stale""#), "{}", stale.text);
}

/// Texts of the 500s that Consul has too; the rest is ours and would be a fault.
const CONSULS: &[&str] = &[
    "Invalid prepared query: ",
    "raft apply failed: ",
    "ID must be empty",
    "prepared query lookup failed",
    "Missing Query ID",
    "Bad evaluation",
];

/// A definition that is right here and there, and names that fit it now and then.
fn random_body(rng: &mut StdRng) -> String {
    const TEXTS: &[&str] = &[
        "",
        "web",
        "${name.full}",
        "${match(1)}",
        "${",
        "$${",
        "${match(${",
        "\u{0}",
        "\u{1F980}",
        "%2F",
        "a.b",
        "<hidden>",
        "!",
        "!x",
        "9s",
        "-9s",
        "name_prefix_match",
        "^web-(.*)$",
        "(",
        "(a{1000}){1000}",
        "\\Q",
        "_agent",
        "_ip",
        "00000000-0000-4000-8000-000000000000",
    ];
    const FIELDS: &[&str] = &["Name", "Session", "Token", "Template", "Service", "DNS", "ID", "Bogus", "CreateIndex"];
    const INNER: &[&str] = &[
        "Service",
        "Near",
        "Tags",
        "NodeMeta",
        "ServiceMeta",
        "Failover",
        "OnlyPassing",
        "IgnoreCheckIDs",
        "Type",
        "Regexp",
        "TTL",
        "Peer",
        "RemoveEmptyTags",
        "NearestN",
        "Targets",
        "Datacenters",
        "Connect",
        "x",
    ];
    fn value(rng: &mut StdRng, depth: usize) -> Value {
        match rng.random_range(0..10) {
            0 => Value::Null,
            1 => json!(rng.random_bool(0.5)),
            2 => json!(rng.random_range(-3..3)),
            3 if depth < 4 => (0..rng.random_range(0..3)).map(|_| value(rng, depth + 1)).collect(),
            4 | 5 if depth < 4 => {
                let pairs = (0..rng.random_range(0..4))
                    .map(|_| ((*INNER.choose(rng).unwrap()).to_owned(), value(rng, depth + 1)));
                Value::Object(pairs.collect())
            }
            _ => json!(TEXTS.choose(rng).unwrap()),
        }
    }
    let mut body = json!({});
    if rng.random_bool(0.7) {
        let kind = if rng.random_bool(0.5) { "name_prefix_match" } else { "" };
        let texts: Vec<_> = (0..6).map(|_| TEXTS.choose(rng).unwrap()).collect();
        body = json!({"Name": texts[0], "Template": {"Type": kind, "Regexp": texts[1]},
                      "Service": {"Service": texts[2], "Tags": [texts[3]], "Near": texts[4], "NodeMeta": {"k": texts[5]}}});
    }
    for _ in 0..rng.random_range(0..3) {
        body[*FIELDS.choose(rng).unwrap()] = value(rng, 0);
    }
    let mut text = body.to_string();
    if rng.random_bool(0.1) {
        text = text.chars().take(rng.random_range(0..=20)).collect();
    }
    text
}

fn random_name(rng: &mut StdRng) -> String {
    const PARTS: &[&str] = &[
        "web",
        "web-",
        "Web-x",
        "%00",
        "%ff",
        "%C3%A4",
        "a/b",
        "..",
        "%2F",
        "*",
        "execute",
        "9",
        "%F0%9F%A6%80",
        "-",
        ".",
    ];
    (0..rng.random_range(0..4)).map(|_| *PARTS.choose(rng).unwrap()).collect()
}

/// SEED=n does a failing run again.
#[tokio::test]
async fn no_definition_and_no_name_makes_a_fault_of_ours() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let (agent, rng) = (filled().await, &mut StdRng::seed_from_u64(seed));
    let (mut kept, mut found) = (Vec::new(), 0);
    for _ in 0..400 {
        let body = random_body(rng);
        let (method, path) = match kept.choose(rng) {
            Some(id) if rng.random_bool(0.3) => ("PUT", format!("/v1/query/{id}")),
            _ => ("POST", "/v1/query".to_owned()),
        };
        let reply = send(&agent, method, &path, &body).await;
        assert!(is_consuls(&reply), "{method} {path} {body}: {} {}", reply.status, reply.text);
        if let Ok(types::QueryCreated { id }) = serde_json::from_str(&reply.text) {
            kept.push(id);
        }
        let tail = ["/execute", "/explain", "", "/execute?near=_ip", "/execute?limit=1&near=x"].choose(rng).unwrap();
        let path = format!("/v1/query/{}{tail}", random_name(rng));
        let reply = send(&agent, "GET", &path, "").await;
        assert!(is_consuls(&reply), "{path}: {} {}", reply.status, reply.text);
        found += usize::from(reply.status == 200);
    }
    // About twenty and fourteen, as chance has it.
    assert!(kept.len() > 2 && found > 0, "{} kept, {found} found", kept.len());
    let listed = client(&agent).query_list(None).await.unwrap().value;
    assert_eq!(listed.len(), kept.len());
}

fn is_consuls(reply: &Reply) -> bool {
    reply.status < 500 || reply.status == 500 && CONSULS.iter().any(|text| reply.text.contains(text))
}
