//! Health checks from outside: whom a change of one wakes, who owns it, and what becomes of its instance.

mod common;

use std::time::{Duration, Instant};

use common::Agent;
use kvstore::agent::Outputs;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

async fn put(agent: &Agent, path: &str, body: &Value) -> Response {
    let request = Client::new().put(format!("{}{path}", agent.base)).body(body.to_string());
    request.send().await.expect("it answers")
}

/// A request that is carried out.
async fn done(agent: &Agent, path: &str, body: &Value) {
    let response = put(agent, path, body).await;
    assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
}

async fn get(agent: &Agent, path: &str) -> Value {
    let response = reqwest::get(format!("{}{path}", agent.base)).await.expect("it answers");
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

/// What `path` answers once `found` likes it.
async fn eventually(agent: &Agent, path: &str, found: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let value = get(agent, path).await;
            if found(&value) {
                return value;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{path} is not as it should be"))
}

async fn index(agent: &Agent, path: &str) -> String {
    let response = reqwest::get(format!("{}{path}", agent.base)).await.expect("it answers");
    response.headers()["x-consul-index"].to_str().unwrap().to_owned()
}

/// Waits on `path` for a change, and gives how long it took.
async fn watch(agent: &Agent, path: &str, wait: &str) -> tokio::task::JoinHandle<Duration> {
    let url = format!("{}{path}&index={}&wait={wait}", agent.base, index(agent, path).await);
    tokio::spawn(async move {
        let start = Instant::now();
        reqwest::get(url).await.expect("it answers").bytes().await.expect("a body");
        start.elapsed()
    })
}

/// Outputs are written at once here, so that only the watch itself can keep them from waking anybody.
#[tokio::test]
async fn an_output_alone_wakes_nobody_who_waits_on_status() {
    let settings = kvstore::config::Agent { check_output_interval: Duration::ZERO, ..common::settings("n") };
    let agent = Agent::with(settings).await;
    done(&agent, "/v1/agent/service/register", &json!({"Name": "web", "Check": {"TTL": "1h", "Status": "passing"}}))
        .await;
    let probed = probed().await;
    let http = json!({"HTTP": format!("http://{probed}/"), "Interval": "1s", "Status": "passing"});
    done(&agent, "/v1/agent/service/register", &json!({"Name": "api", "Check": http})).await;
    eventually(&agent, "/v1/agent/checks", |all| all["service:api"]["Output"] != "").await;

    let mut on_status = Vec::new();
    for path in ["/v1/health/service/web?passing", "/v1/catalog/service/web?", "/v1/health/service/api?passing"] {
        on_status.push((path, watch(&agent, path, "60s").await));
    }
    let on_output =
        [watch(&agent, "/v1/health/service/web?", "60s").await, watch(&agent, "/v1/health/checks/api?", "60s").await];
    let report = |status: &str, n: u32| json!({"Status": status, "Output": format!("report {n}")});
    for n in 0..20 {
        done(&agent, "/v1/agent/check/update/service:web", &report("passing", n)).await;
    }
    for woken in on_output {
        timeout(PATIENCE, woken).await.expect("an output wakes who reads it").unwrap();
    }
    // Two more runs of the probe, each with another output.
    let seen = get(&agent, "/v1/agent/checks").await["service:api"]["Output"].clone();
    let next = eventually(&agent, "/v1/agent/checks", |all| all["service:api"]["Output"] != seen).await;
    let seen = next["service:api"]["Output"].clone();
    eventually(&agent, "/v1/agent/checks", |all| all["service:api"]["Output"] != seen).await;
    for (path, woken) in &on_status {
        assert!(!woken.is_finished(), "{path}");
    }
    done(&agent, "/v1/agent/check/update/service:web", &report("critical", 20)).await;
    done(&agent, "/v1/agent/service/deregister/api", &Value::Null).await;
    for (path, woken) in on_status.into_iter().filter(|(path, _)| !path.contains("catalog")) {
        assert!(timeout(PATIENCE, woken).await.expect(path).unwrap() < PATIENCE, "a status wakes {path}");
    }
    agent.stop().await;
}

/// Answers every request with another body; gives its address.
async fn probed() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for n in 1000.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{n}").as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn what_the_catalog_says_of_an_agents_own_is_kept_and_stays_its_own() {
    let agent = Agent::start("n").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    let service = json!({"Name": "web", "Port": 1, "Check": {"CheckID": "c", "TCP": tcp, "Interval": "1s"}});
    done(&agent, "/v1/agent/service/register", &service).await;
    eventually(&agent, "/v1/agent/checks", |all| all["c"]["Status"] == "passing").await;
    let from_outside = json!({"Node": "n", "SkipNodeUpdate": true, "Service": {"Service": "web", "Port": 2},
        "Check": {"CheckID": "c", "ServiceID": "web", "Status": "critical", "Output": "said from outside"}});
    done(&agent, "/v1/catalog/register", &from_outside).await;
    assert_eq!(get(&agent, "/v1/agent/services").await["web"]["Port"], 2);
    // The probe goes on, and says what it finds.
    let checks = eventually(&agent, "/v1/agent/checks", |all| all["c"]["Status"] == "passing").await;
    assert_eq!(checks["c"]["Type"], "tcp");
    // Taking it away through the catalog sticks.
    done(&agent, "/v1/catalog/deregister", &json!({"Node": "n", "ServiceID": "web"})).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(get(&agent, "/v1/agent/services").await, json!({}));
    assert_eq!(get(&agent, "/v1/agent/checks").await, json!({}));
    agent.stop().await;
}

#[tokio::test]
async fn an_external_instance_goes_when_its_check_stays_critical() {
    let agent = Agent::start("n").await;
    let register = |service: &str, status: &str| {
        json!({"Node": "far", "Address": "10.0.0.9", "Service": {"Service": service}, "Check": {
            "CheckID": service, "ServiceID": service, "Status": status,
            "Definition": {"HTTP": "http://10.0.0.9/", "DeregisterCriticalServiceAfter": "2s"}}})
    };
    for (service, status) in [("dead", "critical"), ("alive", "passing"), ("recovers", "critical")] {
        done(&agent, "/v1/catalog/register", &register(service, status)).await;
    }
    done(&agent, "/v1/catalog/register", &register("recovers", "passing")).await;
    let names = |node: &Value| node["Services"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&get(&agent, "/v1/catalog/node/far").await), "alive dead recovers", "not before its time");
    let node = eventually(&agent, "/v1/catalog/node/far", |node| !names(node).contains("dead")).await;
    assert_eq!(names(&node), "alive recovers");
    let shown = &get(&agent, "/v1/health/checks/alive").await[0]["Definition"];
    assert_eq!(shown["DeregisterCriticalServiceAfter"], "2s");
    agent.stop().await;
}

#[tokio::test]
async fn strictly_an_external_instance_stays() {
    let agent = Agent::with(kvstore::config::Agent { strict_consul: true, ..common::settings("n") }).await;
    let body = json!({"Node": "far", "Address": "10.0.0.9", "Service": {"Service": "dead"}, "Check": {
        "CheckID": "c", "ServiceID": "dead", "Definition": {"DeregisterCriticalServiceAfter": "1s"}}});
    done(&agent, "/v1/catalog/register", &body).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(get(&agent, "/v1/catalog/service/dead").await.as_array().unwrap().len(), 1);
    agent.stop().await;
}

/// What today's clients may send though no instance here has it; what nobody sends stays refused.
#[tokio::test]
async fn fields_of_newer_clients_are_taken() {
    let agent = Agent::start("n").await;
    let service = json!({"Name": "web", "Ports": [{"Name": "a", "Port": 1}, {"Name": "b", "Port": 2, "Default": true}],
        "Locality": {"Region": "r", "Zone": "z"}, "AI": {"Role": "agent"}, "Namespace": "default", "Check": null,
        "Checks": [{"OSService": "cron", "Interval": "1s", "CheckID": "os"}, {"TTL": "1h", "SessionName": "s"}]});
    done(&agent, "/v1/agent/service/register", &service).await;
    assert_eq!(get(&agent, "/v1/agent/service/web").await["Port"], 2);
    let checks = eventually(&agent, "/v1/agent/checks", |all| all["os"]["Output"] != "").await;
    let output = checks["os"]["Output"].as_str().unwrap();
    assert!(checks["os"]["Status"] == "critical" && output.contains("unsupported"), "{output}");
    for body in [json!({"Name": "web", "Lokality": {}}), json!({"Name": "web", "Ports": [{"Prot": 1}]})] {
        let response = put(&agent, "/v1/agent/service/register", &body).await;
        assert_eq!(response.status(), 400, "{body}");
        assert!(response.text().await.unwrap().contains("json: unknown field"), "{body}");
    }
    let catalog = json!({"Node": "far", "Address": "", "Namespace": "default", "Datacenter": ""});
    done(&agent, "/v1/catalog/deregister", &catalog).await;
    agent.stop().await;
}

#[tokio::test]
async fn reports_are_cut_to_what_the_agent_and_the_check_allow() {
    let outputs = Outputs { max_bytes: 10, discard: false };
    let agent = Agent::with(kvstore::config::Agent { check_outputs: outputs, ..common::settings("n") }).await;
    done(&agent, "/v1/agent/check/register", &json!({"Name": "wide", "TTL": "1h"})).await;
    done(&agent, "/v1/agent/check/register", &json!({"Name": "narrow", "TTL": "1h", "OutputMaxSize": 3})).await;
    for check in ["wide", "narrow"] {
        done(&agent, &format!("/v1/agent/check/pass/{check}?note=0123456789abc"), &Value::Null).await;
    }
    let checks = get(&agent, "/v1/agent/checks").await;
    assert_eq!(checks["wide"]["Output"], "0123456789 ... (captured 10 of 13 bytes)");
    assert_eq!(checks["narrow"]["Output"], "012 ... (captured 3 of 13 bytes)");
    agent.stop().await;
}
