//! The agent's own endpoints from outside: what they do, and what they say when asked for nonsense.

mod common;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use common::Agent;

/// An answer: status, headers, body.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(agent: &Agent, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.request(method, format!("{}{path}", agent.base)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

async fn get(agent: &Agent, path: &str) -> Reply {
    send(agent, Method::GET, path, &[], "").await
}

async fn put(agent: &Agent, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(agent, Method::PUT, path, &[], &body).await
}

/// A success without a body.
async fn done(agent: &Agent, path: &str, body: &Value) {
    let reply = put(agent, path, body).await;
    assert!(reply.status == 200 && reply.body.is_empty(), "{path}: {} {}", reply.status, reply.text());
}

async fn register(agent: &Agent, service: &Value) {
    done(agent, "/v1/agent/service/register", service).await;
}

/// Wrong requests and what they get.
async fn refused(agent: &Agent, cases: &[(&str, &str, &str, u16, &str)]) {
    for (method, path, body, status, says) in cases {
        let reply = send(agent, method.parse().unwrap(), path, &[], body).await;
        let got = (reply.status.as_u16(), reply.text());
        assert!(got.0 == *status && got.1.contains(says), "{method} {path}: {status} {says:?} wanted, got {got:?}");
    }
}

#[tokio::test]
async fn maintenance_takes_an_instance_or_the_node_out_of_use_and_gives_it_back() {
    let agent = Agent::start("n").await;
    register(&agent, &json!({"Name": "web", "ID": "web/1", "Check": {"TTL": "1m", "Status": "passing"}})).await;
    register(&agent, &json!({"Name": "db"})).await;
    let passing = async |service: &str| {
        get(&agent, &format!("/v1/health/service/{service}?passing")).await.json().as_array().unwrap().len()
    };
    let health = async || {
        let reply = get(&agent, "/v1/agent/health/service/id/web/1").await;
        (reply.status.as_u16(), reply.json()["AggregatedStatus"].clone(), reply.header("x-consul-reason").to_owned())
    };
    assert_eq!(health().await, (200, json!("passing"), "passing".into()));

    done(&agent, "/v1/agent/service/maintenance/web%2F1?enable=true&reason=a+b", &Value::Null).await;
    done(&agent, "/v1/agent/service/maintenance/web%2F1?enable=1&reason=other", &Value::Null).await;
    assert_eq!(health().await, (503, json!("maintenance"), "maintenance".into()));
    assert_eq!((passing("web").await, passing("db").await), (0, 1));
    let checks = get(&agent, "/v1/health/checks/web").await.json();
    assert_eq!(checks[0]["CheckID"], "_service_maintenance:web/1");
    assert_eq!((&checks[0]["Notes"], &checks[0]["Type"]), (&json!("a b"), &json!("maintenance")), "the first reason");
    // Registered again, it is still in maintenance.
    register(&agent, &json!({"Name": "web", "ID": "web/1", "Check": {"TTL": "1m", "Status": "passing"}})).await;
    assert_eq!(passing("web").await, 0);
    done(&agent, "/v1/agent/service/maintenance/web/1?enable=false", &Value::Null).await;
    done(&agent, "/v1/agent/service/maintenance/web/1?enable=0", &Value::Null).await;
    assert_eq!((health().await.0, passing("web").await), (200, 1));

    done(&agent, "/v1/agent/maintenance?enable=true", &Value::Null).await;
    assert_eq!(health().await.1, "maintenance");
    assert_eq!((passing("web").await, passing("db").await), (0, 0));
    let checks = get(&agent, "/v1/agent/checks").await.json();
    let notes = checks["_node_maintenance"]["Notes"].as_str().unwrap();
    assert!(notes.starts_with("Maintenance mode is enabled for this node, but no reason was provided."), "{notes}");
    let by_name = send(&agent, Method::GET, "/v1/agent/health/service/name/db", &[("accept", "text/plain")], "").await;
    assert_eq!((by_name.status.as_u16(), by_name.text()), (503, "maintenance"));
    done(&agent, "/v1/agent/maintenance?enable=false", &Value::Null).await;
    assert_eq!((passing("web").await, passing("db").await), (1, 1));

    let unknown = "Unknown service ID \"nope\". Ensure that the service ID is passed, not the service name.";
    refused(
        &agent,
        &[
            ("PUT", "/v1/agent/service/maintenance/", "", 400, "Missing service ID"),
            ("PUT", "/v1/agent/service/maintenance/db", "", 400, "Missing value for enable"),
            ("PUT", "/v1/agent/service/maintenance/db?enable=maybe", "", 400, "Invalid value for enable: \"maybe\""),
            ("PUT", "/v1/agent/service/maintenance/nope?enable=true", "", 404, unknown),
            ("PUT", "/v1/agent/service/maintenance/nope?enable=false", "", 404, unknown),
            ("PUT", "/v1/agent/service/maintenance/consul?enable=true", "", 404, "Unknown service ID \"consul\""),
            ("PUT", "/v1/agent/maintenance", "", 400, "Missing value for enable"),
            ("PUT", "/v1/agent/maintenance?enable=", "", 400, "Invalid value for enable: \"\""),
            ("GET", "/v1/agent/maintenance?enable=true", "", 405, "method GET not allowed"),
        ],
    )
    .await;
}

#[tokio::test]
async fn events_are_listed_and_waited_for() {
    let agent = Agent::start("n").await;
    register(&agent, &json!({"Name": "web", "Tags": ["v1"]})).await;
    let empty = get(&agent, "/v1/event/list").await;
    assert_eq!((empty.json(), empty.header("x-consul-index")), (json!([]), "1"));

    let fired = send(&agent, Method::PUT, "/v1/event/fire/deploy?service=^web$&tag=v", &[], "now").await.json();
    assert_eq!((&fired["Payload"], &fired["LTime"], &fired["Version"]), (&json!("bm93"), &json!(0), &json!(1)));
    let elsewhere = put(&agent, "/v1/event/fire/deploy?node=other", &Value::Null).await.json();
    assert_eq!(elsewhere["Payload"], Value::Null);
    let listed = get(&agent, "/v1/event/list").await;
    assert_eq!(listed.json().as_array().unwrap().len(), 1, "the other one is for another node");
    assert_eq!((&listed.json()[0]["ID"], &listed.json()[0]["LTime"]), (&fired["ID"], &json!(1)));

    let id: String = fired["ID"].as_str().unwrap().replace('-', "");
    let half = |range| u64::from_str_radix(&id[range], 16).unwrap();
    let index = (half(0..16) ^ half(16..32)).to_string();
    assert_eq!(listed.header("x-consul-index"), index, "as clients compute it from the id");

    let path = format!("/v1/event/list?name=deploy&index={index}&wait=30s");
    let started = Instant::now();
    let (waited, _) = tokio::join!(get(&agent, &path), async {
        put(&agent, "/v1/event/fire/other", &Value::Null).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        put(&agent, "/v1/event/fire/deploy", &Value::Null).await;
    });
    assert_eq!(waited.json().as_array().unwrap().len(), 2);
    assert!((100..20_000).contains(&started.elapsed().as_millis()), "an event of another name is none");
    let timed_out = get(&agent, "/v1/event/list?name=none&index=1&wait=50ms").await;
    assert_eq!((timed_out.json(), timed_out.header("x-consul-index")), (json!([]), "1"));

    let long = "x".repeat(20_000);
    refused(
        &agent,
        &[
            ("PUT", "/v1/event/fire/", "", 400, "Missing name"),
            ("PUT", "/v1/event/fire/e?tag=t", "", 500, "Cannot provide tag filter without service filter"),
            ("PUT", "/v1/event/fire/e?node=(", "", 500, "Invalid node filter: "),
            ("PUT", "/v1/event/fire/e", &long, 500, "user event exceeds sane limit of 16384 bytes"),
            ("GET", "/v1/event/list?wait=10", "", 400, "Invalid wait time"),
            ("GET", "/v1/event/list?index=x", "", 400, "Invalid index"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_instance_is_watched_by_its_hash() {
    let agent = Agent::start("n").await;
    register(&agent, &json!({"Name": "web", "Port": 80})).await;
    let first = get(&agent, "/v1/agent/service/web").await;
    let hash = first.json()["ContentHash"].as_str().unwrap().to_owned();
    assert_eq!(first.header("x-consul-contenthash"), hash);
    let same = get(&agent, &format!("/v1/agent/service/web?hash={hash}&wait=50ms")).await;
    assert_eq!(same.header("x-consul-contenthash"), hash, "the wait ends without a change");
    let other = get(&agent, "/v1/agent/service/web?hash=0&wait=30s").await;
    assert_eq!(other.header("x-consul-contenthash"), hash, "another hash is answered at once");

    let path = format!("/v1/agent/service/web?hash={hash}&wait=30s");
    let (changed, ()) = tokio::join!(get(&agent, &path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        register(&agent, &json!({"Name": "web", "Port": 81})).await;
    });
    assert_eq!((&changed.json()["Port"], changed.status.as_u16()), (&json!(81), 200));
    let path = format!("/v1/agent/service/web?hash={}&wait=30s", changed.header("x-consul-contenthash"));
    let (gone, ()) = tokio::join!(get(&agent, &path), done(&agent, "/v1/agent/service/deregister/web", &Value::Null));
    assert_eq!((gone.status.as_u16(), gone.text()), (404, "unknown service ID: web"));
    register(&agent, &json!({"Name": "web"})).await;
    refused(&agent, &[("GET", "/v1/agent/service/web?hash=1&wait=x", "", 400, "Invalid wait time")]).await;
}

#[tokio::test]
async fn long_answers_are_packed_for_who_takes_it() {
    let agent = Agent::start("n").await;
    register(&agent, &json!({"Name": "web", "Meta": {"long": "x".repeat(500)}, "Tags": ["y".repeat(1000)]})).await;
    let packed = send(&agent, Method::GET, "/v1/catalog/service/web", &[("accept-encoding", "gzip")], "").await;
    let plain = get(&agent, "/v1/catalog/service/web").await;
    assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
    assert_eq!((packed.header("vary"), plain.header("vary")), ("Accept-Encoding", "Accept-Encoding"));
    assert_eq!(packed.header("content-length"), packed.body.len().to_string());
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.text());
    let short = send(&agent, Method::GET, "/v1/status/leader", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(short.header("content-encoding"), "");
}

#[tokio::test]
async fn cached_answers_are_told_as_an_agents_cache_would() {
    let agent = Agent::start("n").await;
    let said = async |path: &str, control: &str| {
        let reply = send(&agent, Method::GET, path, &[("cache-control", control)], "").await;
        assert_eq!(reply.status, 200, "{path}");
        (reply.header("x-cache").to_owned(), reply.header("age").to_owned())
    };
    let (miss, hit, none) =
        (("MISS".into(), String::new()), ("HIT".into(), "0".into()), (String::new(), String::new()));
    for path in
        ["/v1/catalog/services", "/v1/catalog/service/consul", "/v1/health/service/consul", "/v1/catalog/datacenters"]
    {
        assert_eq!(said(path, "max-age=30").await, none, "{path}");
        assert_eq!(said(&format!("{path}?cached"), "max-age=30, stale-if-error=3").await, miss, "{path}");
        assert_eq!(said(&format!("{path}?cached"), "max-age=30").await, hit, "{path}");
        assert_eq!(said(&format!("{path}?cached"), "must-revalidate").await, miss, "{path}");
        assert_eq!(said(&format!("{path}?cached&stale"), "").await, miss, "{path}");
        let bad = send(&agent, Method::GET, path, &[("cache-control", "max-age=x")], "").await;
        assert_eq!((bad.status.as_u16(), bad.text()), (400, "Invalid Cache-Control header."));
    }
    assert_eq!(said("/v1/catalog/nodes?cached", "").await, none);
}

#[tokio::test]
async fn crooked_paths_lead_reads_to_the_straight_one() {
    let agent = Agent::start("n").await;
    let moved = get(&agent, "//v1/catalog//nodes?a=1").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "/v1/catalog/nodes?a=1"));
    let away = get(&agent, "//evil.example/x").await;
    assert_eq!((away.status.as_u16(), away.header("location")), (301, "/evil.example/x"));
    done(&agent, "/v1//agent/service/register", &json!({"Name": "web", "ID": "a//b"})).await;
    assert_eq!(get(&agent, "/v1/agent/services").await.json()["a//b"]["Service"], "web");
    done(&agent, "/v1/agent/service/deregister/a//b", &Value::Null).await;
    assert_eq!(put(&agent, "/v1/kv//a//b", &json!(1)).await.json(), true);
    assert_eq!(get(&agent, "/v1/kv//a//b?raw").await.text(), "1");
    assert_eq!(send(&agent, Method::HEAD, "/v1/kv//a//b", &[], "").await.status, 200);
    assert_eq!(send(&agent, Method::HEAD, "/v1/agent/maintenance", &[], "").await.status, 405);
    refused(
        &agent,
        &[
            ("GET", "/", "", 200, "API"),
            ("GET", "/v1/kv/a%0Ab", "", 400, ""),
            ("GET", "/v1/nope", "", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"),
            (
                "GET",
                "/nope",
                "",
                404,
                "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n",
            ),
        ],
    )
    .await;
}
