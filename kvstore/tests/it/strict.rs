//! `--strict-consul`: each extension of ours is taken without it and refused with it.

use crate::common::{Agent, settings};

const CATALOG_TTL: &str = r#"{"Node": "host", "Address": "10.0.0.1",
    "Checks": [{"CheckID": "alive", "Name": "alive", "Status": "passing", "Definition": {"TTL": "15s"}}]}"#;

const TXN_TTL: &str = r#"[{"Node": {"Verb": "set", "Node": {"Node": "host", "Address": "10.0.0.1"}}},
    {"Check": {"Verb": "set", "Check": {"Node": "host", "CheckID": "beats", "Name": "beats", "Definition": {"TTL": "15s"}}}}]"#;

/// Method, path, body; the statuses without the flag and with it, and what the refusal says.
const EXTENSIONS: &[(&str, &str, &str, u16, u16, &str)] = &[
    ("PUT", "/v1/kv/a?ttl=30s", "x", 200, 400, "a key with ?ttl= is not in Consul"),
    ("GET", "/v1/health/service/web?for=10.0.0.1", "", 200, 400, "?for= on the instances of a service"),
    ("PUT", "/v1/catalog/register", CATALOG_TTL, 200, 400, "Definition.TTL on a check of the catalog"),
    ("PUT", "/v1/txn", TXN_TTL, 200, 400, "Definition.TTL on a check of the catalog"),
    ("GET", "/v1/agent/check/pass/t", "", 200, 405, "method GET not allowed"),
    ("GET", "/v1/agent/check/warn/t", "", 200, 405, "method GET not allowed"),
    ("GET", "/v1/agent/check/fail/t", "", 200, 405, "method GET not allowed"),
    ("HEAD", "/v1/kv/b", "", 200, 405, ""),
    ("PUT", "/v1/kv/a//b", "x", 200, 301, ""),
    ("DELETE", "/v1/kv//b", "", 200, 301, ""),
];

async fn send(agent: &Agent, method: &str, path: &str, body: &'static str) -> (u16, String) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = client.request(method.parse().unwrap(), format!("{}{path}", agent.base)).body(body);
    let response = request.send().await.unwrap();
    let allow = response.headers().get("allow").map(|v| v.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    if status == 405 {
        assert!(!allow.unwrap_or_default().contains(method), "{method} {path}: what is refused is not offered");
    }
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn the_id_of_a_request_comes_back_unless_consul_is_meant_strictly() {
    for strict in [false, true] {
        let agent = Agent::with(kvstore::config::Agent { strict_consul: strict, ..settings("n") }).await;
        for (given, comes_back) in [(Some("trace-7.a"), !strict), (Some("a b"), false), (None, false)] {
            let request = reqwest::Client::new().get(format!("{}/v1/catalog/nodes", agent.base));
            let request = given.into_iter().fold(request, |request, id| request.header("X-Request-Id", id));
            let answer = request.send().await.unwrap();
            let id = answer.headers().get("x-request-id").map(|id| id.to_str().unwrap());
            assert_eq!(id, given.filter(|_| comes_back), "strict: {strict}");
        }
    }
}

#[tokio::test]
async fn each_extension_is_taken_unless_consul_is_meant_strictly() {
    for strict in [false, true] {
        let mut settings = settings("n");
        settings.strict_consul = strict;
        let agent = Agent::with(settings).await;
        let check = r#"{"CheckID": "t", "Name": "t", "TTL": "1h"}"#;
        assert_eq!(send(&agent, "PUT", "/v1/agent/check/register", check).await.0, 200);
        assert_eq!(send(&agent, "PUT", "/v1/kv/b", "x").await.0, 200);
        for (method, path, body, taken, refused, says) in EXTENSIONS {
            let (status, text) = send(&agent, method, path, body).await;
            let wanted = if strict { refused } else { taken };
            assert_eq!(status, *wanted, "{method} {path}, strict: {strict}: {text}");
            assert!(!strict || text.contains(says), "{method} {path}: {text}");
        }
        if strict {
            assert_eq!(send(&agent, "GET", "/v1/kv/a", "").await.0, 404, "what is refused changes nothing");
            assert_eq!(send(&agent, "GET", "/v1/health/node/host", "").await.1, "[]");
        }
    }
}

#[tokio::test]
async fn a_quick_deregistration_is_raised_to_consul_s_minute() {
    let body =
        r#"{"Name": "web", "Check": {"TTL": "1h", "DeregisterCriticalServiceAfter": "1s", "Status": "critical"}}"#;
    for (strict, stays) in [(false, false), (true, true)] {
        let mut settings = settings("n");
        settings.strict_consul = strict;
        let agent = Agent::with(settings).await;
        assert_eq!(send(&agent, "PUT", "/v1/agent/service/register", body).await.0, 200);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(if strict { 4 } else { 20 });
        let mut there = true;
        while there && std::time::Instant::now() < until {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            there = send(&agent, "GET", "/v1/agent/service/web", "").await.0 == 200;
        }
        assert_eq!(there, stays, "strict: {strict}");
    }
}
