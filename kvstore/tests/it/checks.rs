//! Health checks from outside: whom a change of one wakes, who owns it, and what becomes of its instance.

use std::time::{Duration, Instant};

use crate::common::{Agent, settings};
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
pub(crate) async fn eventually(agent: &Agent, path: &str, found: impl Fn(&Value) -> bool) -> Value {
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
    let settings = kvstore::config::Agent { check_output_interval: Duration::ZERO, ..settings("n") };
    let agent = Agent::with(settings).await;
    done(&agent, "/v1/agent/service/register", &json!({"Name": "web", "Check": {"TTL": "1h", "Status": "passing"}}))
        .await;
    let probed = probed().await;
    let http = json!({"HTTP": format!("http://{probed}/"), "Interval": "1s", "Status": "passing"});
    done(&agent, "/v1/agent/service/register", &json!({"Name": "api", "Check": http})).await;
    eventually(&agent, "/v1/agent/checks", |all| all["service:api"]["Output"] != "").await;

    let (mut on_status, mut on_output) = (Vec::new(), Vec::new());
    for path in ON_STATUS.iter().chain(ON_LISTS) {
        on_status.push((*path, watch(&agent, path, "60s").await));
    }
    for path in ON_OUTPUT {
        on_output.push((*path, watch(&agent, path, "60s").await));
    }
    let report = |status: &str, n: u32| json!({"Status": status, "Output": format!("report {n}")});
    for n in 0..20 {
        done(&agent, "/v1/agent/check/update/service:web", &report("passing", n)).await;
    }
    for (path, woken) in on_output {
        timeout(PATIENCE, woken).await.unwrap_or_else(|_| panic!("an output wakes {path}")).unwrap();
    }
    // Two more runs of the probe, each with another output.
    for _ in 0..2 {
        let seen = get(&agent, "/v1/agent/checks").await["service:api"]["Output"].clone();
        eventually(&agent, "/v1/agent/checks", |all| all["service:api"]["Output"] != seen).await;
    }
    for (path, woken) in &on_status {
        assert!(!woken.is_finished(), "{path}");
    }
    let shown = &get(&agent, "/v1/health/checks/web").await[0]["Output"];
    assert_eq!(shown, "report 19", "who looks sees what is said now");
    done(&agent, "/v1/agent/check/update/service:web", &report("critical", 20)).await;
    done(&agent, "/v1/agent/service/deregister/api", &Value::Null).await;
    for (path, woken) in on_status.into_iter().filter(|(path, _)| ON_STATUS.contains(path)) {
        assert!(timeout(PATIENCE, woken).await.expect(path).unwrap() < PATIENCE, "a status wakes {path}");
    }
    agent.stop().await;
}

/// What is woken by states, of a service whose client reports and one that is probed.
const ON_STATUS: &[&str] = &[
    "/v1/health/service/web?passing",
    "/v1/health/service/web?",
    "/v1/health/service/api?passing",
    "/v1/health/service/api?",
    "/v1/health/checks/web?",
    "/v1/health/checks/api?",
    "/v1/health/state/any?",
    "/v1/health/state/passing?",
    "/v1/health/state/any?filter=Status+!=+maintenance",
];

/// What shows no state at all.
const ON_LISTS: &[&str] = &["/v1/catalog/service/web?", "/v1/catalog/nodes?"];

/// For who wants to see what is said as it is said.
const ON_OUTPUT: &[&str] = &[
    "/v1/health/node/n?",
    "/v1/health/checks/web?filter=Output+!=+x",
    "/v1/health/service/web?filter=Checks.Output+!=+x",
    "/v1/health/state/any?filter=Output+!=+x",
];

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
    let agent = Agent::with(kvstore::config::Agent { strict_consul: true, ..settings("n") }).await;
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
    let agent = Agent::with(kvstore::config::Agent { check_outputs: outputs, ..settings("n") }).await;
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

/// What clients said stays said while the agent is away, and silence counts from when it is back.
#[tokio::test]
async fn ttl_checks_keep_their_state_over_a_restart_and_lapse_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || kvstore::config::Agent {
        engine: kvstore::config::Engine::Embedded { data_dir: dir.path().into() },
        ..settings("n")
    };
    let agent = Agent::with(settings()).await;
    for (word, ttl) in [("pass", "3s"), ("warn", "1h"), ("fail", "1h")] {
        done(&agent, "/v1/agent/check/register", &json!({"Name": word, "TTL": ttl})).await;
        done(&agent, &format!("/v1/agent/check/{word}/{word}?note={word}ed"), &Value::Null).await;
    }
    let external = json!({"Node": "far", "Address": "10.0.0.9", "Check": {"CheckID": "alive", "Status": "passing",
        "Definition": {"TTL": "3s"}}});
    done(&agent, "/v1/catalog/register", &external).await;
    let states = |checks: &Value| {
        ["pass", "warn", "fail"].map(|id| format!("{} {}", checks[id]["Status"], checks[id]["Output"]).replace('"', ""))
    };
    let before = states(&get(&agent, "/v1/agent/checks").await);
    assert_eq!(before, ["passing passed", "warning warned", "critical failed"]);
    agent.stop().await;
    // Longer than the silence that is left; nobody could report meanwhile.
    sleep(Duration::from_millis(3200)).await;

    let agent = Agent::with(settings()).await;
    let back = Instant::now();
    assert_eq!(states(&get(&agent, "/v1/agent/checks").await), before);
    assert_eq!(get(&agent, "/v1/health/node/far").await[0]["Status"], "passing");
    let lapsed = eventually(&agent, "/v1/agent/checks", |all| all["pass"]["Status"] == "critical").await;
    let waited = back.elapsed();
    assert!(waited > Duration::from_millis(2500), "it got its whole TTL, and not {waited:?}");
    assert_eq!(lapsed["pass"]["Output"], "TTL expired (last output before timeout follows): passed");
    assert_eq!(states(&lapsed)[1..], before[1..], "the others have an hour");
    eventually(&agent, "/v1/health/node/far", |all| all[0]["Status"] == "critical").await;
    done(&agent, "/v1/agent/check/pass/pass", &Value::Null).await;
    done(&agent, "/v1/catalog/register", &external).await;
    assert_eq!(get(&agent, "/v1/agent/checks").await["pass"]["Status"], "passing");
    assert_eq!(get(&agent, "/v1/health/node/far").await[0]["Status"], "passing");
    agent.stop().await;
}

#[tokio::test]
async fn an_own_instance_goes_when_one_of_its_checks_stays_critical() {
    let agent = Agent::start("n").await;
    let refusing = closed_port().await;
    let after = "DeregisterCriticalServiceAfter";
    for (name, check) in [
        ("silent", json!({"TTL": "1s", "Status": "passing", after: "1s"})),
        ("refusing", json!({"TCP": refusing, "Interval": "1s", after: "1s"})),
        ("stays", json!({"TCP": refusing, "Interval": "1s"})),
        ("reports", json!({"TTL": "1h", "Status": "passing", after: "1s"})),
    ] {
        done(&agent, "/v1/agent/service/register", &json!({"Name": name, "Check": check})).await;
    }
    let names = |all: &Value| all.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let left = eventually(&agent, "/v1/agent/services", |all| all.as_object().unwrap().len() <= 2).await;
    assert_eq!(names(&left), "reports stays");
    assert_eq!(names(&get(&agent, "/v1/agent/checks").await), "service:reports service:stays");
    assert_eq!(names(&get(&agent, "/v1/catalog/services").await), "consul reports stays");
    agent.stop().await;
}

/// Nobody listens there.
async fn closed_port() -> String {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Three results of one kind in a row, as registered, before the state follows; two before it warns.
#[tokio::test]
async fn a_state_follows_as_many_results_as_registered() {
    let agent = Agent::start("n").await;
    let (address, answers) = switched().await;
    let check = json!({"CheckID": "c", "Name": "c", "HTTP": format!("http://{address}/"), "Interval": "1s",
        "SuccessBeforePassing": 2, "FailuresBeforeWarning": 2, "FailuresBeforeCritical": 3});
    done(&agent, "/v1/agent/check/register", &check).await;
    let becomes = async |status: &'static str| {
        let from = answers.asked();
        eventually(&agent, "/v1/agent/checks", |all| all["c"]["Status"] == status).await;
        answers.asked() - from
    };
    assert_eq!(becomes("passing").await, 1, "the first result counts whatever it is");
    answers.well(false);
    assert_eq!((becomes("warning").await, becomes("critical").await), (2, 1));
    answers.well(true);
    assert_eq!(becomes("passing").await, 2);
    agent.stop().await;
}

/// A server that is well or not, and counts who asks.
#[derive(Clone, Default)]
struct Switched {
    ill: std::sync::Arc<std::sync::atomic::AtomicBool>,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Switched {
    fn well(&self, well: bool) {
        self.ill.store(!well, std::sync::atomic::Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn switched() -> (std::net::SocketAddr, Switched) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, switched) = (listener.local_addr().unwrap(), Switched::default());
    let own = switched.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            own.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let word = if own.ill.load(std::sync::atomic::Ordering::SeqCst) { "503 x" } else { "200 OK" };
            let _ = stream.write_all(format!("HTTP/1.1 {word}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    (address, switched)
}
