//! The agent's own endpoints from outside: what they do, and what they say when asked for nonsense.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::common::Agent;

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
    let (waited, ()) = tokio::join!(get(&agent, &path), async {
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
            ("GET", "/", "", 302, ""),
            ("GET", "/ui/", "", 200, "<!doctype html>"),
            ("GET", "/ui/%2e%2e/%2e%2e/etc/passwd", "", 404, "Invalid URL path"),
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

#[tokio::test]
async fn members_are_those_who_show_that_they_live() {
    let agent = Agent::start("n").await;
    let host = |name: &str, address: &str, checks: Value| json!({"Node": name, "Address": address, "Checks": checks});
    let alive = |status: &str| json!([{"CheckID": "serfHealth", "Status": status}]);
    for body in [
        host("peer", "10.0.0.2", alive("passing")),
        host("gone", "10.0.0.3", alive("critical")),
        host("hub-host", "10.0.0.4", json!([{"CheckID": "ttl", "Status": "critical"}])),
        host("external", "10.0.0.5", json!([])),
    ] {
        assert_eq!(put(&agent, "/v1/catalog/register", &body).await.json(), true);
    }
    let members = async |path: &str| {
        let listed = get(&agent, path).await.json();
        let one =
            |m: &Value| format!("{} {} {}", m["Name"].as_str().unwrap(), m["Addr"].as_str().unwrap(), m["Status"]);
        listed.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(
        members("/v1/agent/members?segment=_all").await,
        ["gone 10.0.0.3 4", "n 127.0.0.1 1", "peer 10.0.0.2 1"]
    );
    assert_eq!(members("/v1/agent/members?wan=1").await[1], "n.dc1 127.0.0.1 1");
    let own = &get(&agent, "/v1/agent/members").await.json()[1];
    assert_eq!((&own["Tags"]["role"], &own["Tags"]["dc"]), (&json!("consul"), &json!("dc1")));
    assert_eq!(*own, get(&agent, "/v1/agent/self").await.json()["Member"]);

    for address in ["127.0.0.1", "127.0.0.1:8301", "[::1]:8301", "peer", "10.0.0.2:8301", "PEER:1"] {
        done(&agent, &format!("/v1/agent/join/{address}"), &Value::Null).await;
    }
    for name in ["n", "peer"] {
        let reply = put(&agent, &format!("/v1/agent/force-leave/{name}?prune"), &Value::Null).await;
        assert!(reply.status == 200 && reply.header("x-consul-reason").contains("alive"), "{name} stays");
    }
    done(&agent, "/v1/agent/force-leave/gone", &Value::Null).await;
    done(&agent, "/v1/agent/force-leave/hub-host?prune", &Value::Null).await;
    assert_eq!(members("/v1/agent/members").await, ["n 127.0.0.1 1", "peer 10.0.0.2 1"]);
    assert_eq!(get(&agent, "/v1/catalog/nodes").await.json().as_array().unwrap().len(), 3);
    refused(
        &agent,
        &[
            ("PUT", "/v1/agent/force-leave/none", "", 500, "agent: No node found with name 'none'"),
            ("PUT", "/v1/agent/force-leave/external", "", 500, "agent: No node found with name 'external'"),
            ("PUT", "/v1/agent/force-leave/", "", 500, "No node found"),
            ("PUT", "/v1/agent/join/10.9.9.9:8301", "", 500, "Failed to join 10.9.9.9:8301: "),
            ("GET", "/v1/agent/members?wan=1&segment=a", "", 400, "Cannot provide a segment with wan=true"),
            ("GET", "/v1/agent/members?segment=a", "", 500, "Network segments are not supported"),
            ("PUT", "/v1/agent/reload", "", 500, "no configuration to read again"),
        ],
    )
    .await;
    done(&agent, "/v1/agent/leave", &Value::Null).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_agent_tells_what_it_measures_and_where_it_runs() {
    let agent = Agent::start("n").await;
    register(&agent, &json!({"Name": "web", "Check": {"TTL": "1m", "Status": "warning"}})).await;
    let index = get(&agent, "/v1/kv/a").await.header("x-consul-index").to_owned();
    get(&agent, &format!("/v1/kv/a?index={index}&wait=10ms")).await;
    put(&agent, "/v1/agent/check/pass/none", &Value::Null).await;
    register(&agent, &json!({"Name": "a \"b\", c", "Check": {"TCP": "127.0.0.1:1", "Interval": "1ms"}})).await;
    let dns = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01";
    for packet in [&question[..], b"no question", question] {
        dns.send_to(packet, agent.dns()).await.unwrap();
    }
    for _ in 0..2 {
        let reply = tokio::time::timeout(Duration::from_secs(20), dns.recv(&mut [0; 512])).await;
        reply.expect("an answer in time").unwrap();
    }

    let is_run = |counter: &Value| counter["Name"] == "kvstore.check.runs" && counter["Labels"]["result"] == "critical";
    let any_is_run = |shown: &Value| shown["Counters"].as_array().is_some_and(|all| all.iter().any(is_run));
    crate::checks::eventually(&agent, "/v1/agent/metrics", any_is_run).await;
    let text = get(&agent, "/v1/agent/metrics?format=prometheus").await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE consul_api_http histogram",
        "consul_api_http_count{method=\"GET\",path=\"v1_kv_\"} 1",
        "kvstore_http_waits_total{method=\"GET\",path=\"v1_kv_\"} 1",
        "kvstore_http_answers_total{code=\"4xx\"} 3",
        "kvstore_store_refused_total 1",
        "kvstore_dns_questions_udp_total 3",
        "kvstore_dns_ignored_total 1",
        "kvstore_checks{status=\"warning\"} 1",
        "kvstore_service_passing{service=\"web\"} 0",
        "kvstore_service_passing{service=\"consul\"} 1",
        r#"kvstore_service_passing{service="a \"b\", c"} 0"#,
        "kvstore_store_failed_total 0",
        "consul_state_services 3.0",
        "consul_state_service_instances 3.0",
    ] {
        assert!(text.text().lines().any(|l| l == line), "{line} in\n{}", text.text());
    }
    let open = [("accept", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")];
    let open = send(&agent, Method::GET, "/v1/agent/metrics?format=prometheus", &open, "").await;
    assert!(
        open.header("content-type").starts_with("application/openmetrics-text") && open.text().ends_with("# EOF\n")
    );

    let shown = get(&agent, "/v1/agent/metrics").await.json();
    let gauge = |name: &str| {
        let gauges = shown["Gauges"].as_array().unwrap().iter();
        gauges.filter(|gauge| gauge["Name"] == name).map(|gauge| gauge["Value"].as_f64().unwrap()).next().unwrap()
    };
    let gauges = shown["Gauges"].as_array().unwrap();
    assert!(gauges.iter().any(|gauge| gauge["Labels"]["service"] == "a \"b\", c"), "{gauges:?}");
    assert!(gauge("consul.runtime.alloc_bytes") > 100_000.0);
    assert!(gauge("consul.runtime.num_goroutines") >= 1.0 && gauge("kvstore.uptime_seconds") > 0.0);
    #[allow(clippy::cast_precision_loss)]
    let index = index.parse::<u64>().unwrap() as f64;
    assert!(gauge("kvstore.index") >= index);
    let sample = shown["Samples"].as_array().unwrap().iter().find(|s| s["Name"] == "kvstore.store.commit_seconds");
    assert!(sample.unwrap()["Count"].as_u64().unwrap() >= 2);

    let host = get(&agent, "/v1/agent/host").await.json();
    assert!(host["CollectionTime"].as_u64().unwrap() > 1_600_000_000_000_000_000);
    assert!(host["Memory"]["total"].as_u64().unwrap() > 0 && !host["CPU"].as_array().unwrap().is_empty());
    assert_eq!(host["Host"]["os"], "linux");
    let version = get(&agent, "/v1/agent/version").await.json()["HumanVersion"].clone();
    assert_eq!(version, get(&agent, "/v1/agent/self").await.json()["Config"]["Version"]);
    assert!(get(&agent, "/v1/agent/self").await.body.len() < 4096, "it is asked often");
}

#[tokio::test]
async fn operators_find_stand_ins_and_what_is_not_here_says_so() {
    let agent = Agent::start("n").await;
    let servers = get(&agent, "/v1/operator/raft/configuration").await.json();
    let own = json!({"ID": "11111111-1111-4111-8111-111111111111", "Node": "n", "Address": "127.0.0.1:39300",
                     "Leader": true, "ProtocolVersion": "3", "Voter": true});
    assert_eq!(servers, json!({"Servers": [own], "Index": 0}));
    let health = get(&agent, "/v1/operator/autopilot/health").await.json();
    assert_eq!((&health["Healthy"], &health["FailureTolerance"]), (&json!(true), &json!(0)));
    let failed =
        json!({"Node": "gone", "Address": "10.0.0.3", "Check": {"CheckID": "serfHealth", "Status": "critical"}});
    put(&agent, "/v1/catalog/register", &failed).await;
    assert_eq!(get(&agent, "/v1/operator/autopilot/health").await.status, 429);

    for (path, answer) in [
        ("/v1/config/service-defaults", json!([])),
        ("/v1/connect/intentions", json!([])),
        ("/v1/connect/intentions/check?source=a&destination=b", json!({"Allowed": true})),
        ("/v1/connect/intentions/match?by=source&name=web", json!({"web": null})),
        ("/v1/peerings", json!([])),
        ("/v1/catalog/connect/web", json!([])),
        ("/v1/health/connect/web", json!([])),
        ("/v1/health/ingress/web", json!([])),
    ] {
        assert_eq!(get(&agent, path).await.json(), answer, "{path}");
    }
    let started = Instant::now();
    let list = get(&agent, "/v1/config/proxy-defaults").await;
    let again = format!("/v1/config/proxy-defaults?index={}&wait=200ms", list.header("x-consul-index"));
    assert_eq!(get(&agent, &again).await.json(), json!([]));
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "who waits for what never changes does not ask at once again"
    );
    assert_eq!(send(&agent, Method::DELETE, "/v1/config/mesh/mesh", &[], "").await.json(), json!({}));

    let off = "Connect must be enabled in order to use this endpoint";
    let unknown = "Invalid URL path: not a recognized HTTP API endpoint";
    refused(
        &agent,
        &[
            ("GET", "/v1/connect/ca/roots", "", 500, off),
            ("GET", "/v1/connect/ca/configuration", "", 500, off),
            ("GET", "/v1/agent/connect/ca/roots", "", 500, off),
            ("GET", "/v1/agent/connect/ca/leaf/web", "", 500, off),
            ("POST", "/v1/agent/connect/authorize", "{}", 500, off),
            ("GET", "/v1/discovery-chain/web", "", 500, off),
            ("GET", "/v1/config/mesh/mesh", "", 404, "Config entry not found for \"mesh\" / \"mesh\""),
            ("GET", "/v1/config/", "", 404, "Must provide either a kind or both kind and name"),
            ("GET", "/v1/config/nope", "", 500, "invalid config entry kind: nope"),
            ("DELETE", "/v1/config/mesh", "", 404, "Must provide both a kind and name to delete"),
            ("PUT", "/v1/config", "{}", 501, "config entries are not kept here"),
            ("POST", "/v1/connect/intentions", "{}", 501, "intentions are not kept here"),
            ("PUT", "/v1/connect/intentions/exact?source=a&destination=b", "{}", 501, "intentions are not kept"),
            ("GET", "/v1/connect/intentions/exact?source=a&destination=b", "", 404, "Intention not found"),
            ("GET", "/v1/connect/intentions/check?source=a", "", 400, "parameter 'destination' not set"),
            ("GET", "/v1/connect/intentions/match?by=x&name=web", "", 400, "'by' parameter must be one of"),
            ("GET", "/v1/peering/other", "", 404, "Peering not found for \"other\""),
            ("POST", "/v1/peering/token", "{}", 501, "no peerings here"),
            ("DELETE", "/v1/operator/raft/peer?id=x", "", 501, "/v1/agent/force-leave/NAME"),
            ("POST", "/v1/operator/raft/transfer-leader", "", 501, "no leader here"),
            ("GET", "/v1/operator/autopilot/configuration", "", 501, "no Raft here"),
            ("GET", "/v1/operator/keyring", "", 501, "no gossip here"),
            ("GET", "/v1/operator/license", "", 404, unknown),
            ("GET", "/v1/namespaces", "", 404, unknown),
            ("GET", "/v1/partitions", "", 404, unknown),
            ("GET", "/v1/internal/ui/services", "", 404, unknown),
            ("PUT", "/v1/acl/bootstrap", "", 401, "ACL support disabled"),
            ("GET", "/v1/acl/token/self", "", 401, "ACL support disabled"),
            ("PUT", "/v1/acl/token", "{}", 401, "ACL support disabled"),
            ("DELETE", "/v1/acl/policy/x", "", 401, "ACL support disabled"),
            ("PUT", "/v1/agent/token/default", "{}", 401, "ACL support disabled"),
            (
                "GET",
                "/v1/acl/list",
                "",
                410,
                "Endpoint /v1/acl/list for the legacy ACL system was removed in Consul 1.11.",
            ),
            ("PUT", "/v1/acl/destroy/x", "", 410, "Endpoint /v1/acl/destroy/x for the legacy"),
            ("GET", "/v1/acl/token", "", 405, "method GET not allowed"),
        ],
    )
    .await;
}

#[tokio::test]
async fn coordinates_are_kept_and_lists_sorted_by_them() {
    let agent = Agent::start("n").await;
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        let body = json!({"Node": name, "Address": address, "Service": {"Service": "web"}});
        assert_eq!(put(&agent, "/v1/catalog/register", &body).await.json(), true);
    }
    let coord =
        |x: f64| json!({"Vec": [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "Error": 1.5, "Adjustment": 0.0, "Height": 0.5});
    let update = async |node: &str, x: f64| {
        let body = json!({"Node": node, "Segment": "", "Coord": coord(x)});
        done(&agent, "/v1/coordinate/update", &body).await;
    };
    assert_eq!(get(&agent, "/v1/coordinate/datacenters").await.json(), json!([]));
    let missing = get(&agent, "/v1/coordinate/node/a").await;
    assert!(missing.status == 404 && missing.body.is_empty() && !missing.header("x-consul-index").is_empty());
    update("b", 0.0).await;
    update("unknown", 0.0).await;
    let only = get(&agent, "/v1/coordinate/nodes").await;
    assert_eq!(only.json(), json!([{"Node": "b", "Segment": "", "Coord": coord(0.0)}]));
    assert_eq!(get(&agent, "/v1/coordinate/node/b").await.json(), only.json());
    assert_eq!(get(&agent, "/v1/coordinate/node/b?segment=x").await.status, 404);

    let path = format!("/v1/coordinate/nodes?index={}&wait=30s", only.header("x-consul-index"));
    let (waited, ()) = tokio::join!(get(&agent, &path), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        update("c", 1.0).await;
    });
    assert_eq!(waited.json().as_array().unwrap().len(), 2);
    update("n", 2.0).await;
    assert_eq!(get(&agent, "/v1/coordinate/datacenters").await.json()[0]["Coordinates"][0]["Node"], "n.dc1");

    let sorted = async |path: &str| {
        let listed = get(&agent, path).await.json();
        let name = |row: &Value| row["Node"]["Node"].as_str().or(row["Node"].as_str()).unwrap().to_owned();
        listed.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(sorted("/v1/catalog/nodes?near=_agent").await, "n c b a");
    assert_eq!(sorted("/v1/catalog/service/web?near=b").await, "b c a");
    assert_eq!(sorted("/v1/health/service/web?near=c").await, "c b a");
    assert_eq!(sorted("/v1/health/service/web?near=nobody").await, "a b c");

    let body = |coord: &str| format!(r#"{{"Node":"a","Coord":{coord}}}"#);
    refused(
        &agent,
        &[
            ("PUT", "/v1/coordinate/update", &body(r#"{"Vec":[0.0]}"#), 500, "incompatible coordinate"),
            ("PUT", "/v1/coordinate/update", &body(r#"{"Vec":[1e999]}"#), 400, "Request decode failed"),
            ("PUT", "/v1/coordinate/update", "{", 400, "Request decode failed: unexpected EOF"),
            ("PUT", "/v1/coordinate/update", r#"{"Datacenter":"x"}"#, 500, "No path to datacenter"),
        ],
    )
    .await;
}
