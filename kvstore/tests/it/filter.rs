//! `?filter=` from outside: on every list, in waits, and when it is wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::Agent;

async fn put(agent: &Agent, path: &str, body: Value) {
    let response = reqwest::Client::new().put(format!("{}{path}", agent.base)).body(body.to_string()).send().await;
    let response = response.unwrap();
    assert!(response.status().is_success(), "{path}: {:?}", response.text().await);
}

/// The answer to a GET with `filter`, and its index.
async fn get(agent: &Agent, path: &str, filter: &str, more: &[(&str, &str)]) -> (u16, String, String) {
    let pairs =
        form_urlencoded::Serializer::new(String::new()).append_pair("filter", filter).extend_pairs(more).finish();
    let response = reqwest::get(format!("{}{path}?{pairs}", agent.base)).await.unwrap();
    let index = response.headers().get("x-consul-index").map(|v| v.to_str().unwrap().to_owned());
    (response.status().as_u16(), index.unwrap_or_default(), response.text().await.unwrap())
}

fn web(id: &str, port: u16, tag: &str, status: &str) -> Value {
    json!({"ID": id, "Name": "web", "Port": port, "Tags": [tag], "Check": {"TTL": "1h", "Status": status, "Notes": tag}})
}

/// Two instances of `web` here, and one of `db` on a host elsewhere.
async fn filled() -> Agent {
    let agent = Agent::start("here").await;
    put(&agent, "/v1/agent/service/register", web("w1", 81, "v1", "passing")).await;
    put(&agent, "/v1/agent/service/register", web("w2", 82, "v2", "critical")).await;
    let check = json!({"CheckID": "alive", "Name": "alive", "Status": "passing", "ServiceID": "d1"});
    let elsewhere = json!({
        "Node": "there", "Address": "10.0.0.2", "NodeMeta": {"rack": "r2"}, "Check": check,
        "Service": {"ID": "d1", "Service": "db", "Port": 5432, "Meta": {"version": "15"}},
    });
    put(&agent, "/v1/catalog/register", elsewhere).await;
    agent
}

/// What is left of each list: the answer has the first word and not the second, and one with the opposite filter has it
/// the other way round.
#[tokio::test]
async fn a_filter_narrows_every_list() {
    let agent = filled().await;
    for (path, filter, stays, goes) in [
        ("/v1/catalog/nodes", "Meta.rack == r2", "\"there\"", "\"here\""),
        ("/v1/catalog/services", "ServiceName == db and ServicePort == 5432", "\"db\"", "\"web\""),
        ("/v1/catalog/services", "v2 in ServiceTags", "\"v2\"", "\"v1\""),
        ("/v1/catalog/service/web", "ServicePort == 82", "\"w2\"", "\"w1\""),
        ("/v1/catalog/node/here", "v1 in Tags", "\"w1\"", "\"w2\""),
        ("/v1/catalog/node-services/here", "v1 in Tags", "\"w1\"", "\"w2\""),
        ("/v1/agent/services", "Port == 82", "\"w2\"", "\"w1\""),
        ("/v1/agent/checks", "ServiceID == w2", "\"service:w2\"", "\"service:w1\""),
        ("/v1/health/node/here", "Status == critical", "\"service:w2\"", "\"service:w1\""),
        ("/v1/health/checks/web", "Notes matches `1$`", "\"service:w1\"", "\"service:w2\""),
        ("/v1/health/state/any", "ServiceName == db", "\"alive\"", "\"service:w1\""),
        ("/v1/health/service/web", "Checks.Status == critical and Service.Port != 0", "\"w2\"", "\"w1\""),
    ] {
        let (status, _, body) = get(&agent, path, filter, &[]).await;
        assert!(status == 200 && body.contains(stays) && !body.contains(goes), "{path} {filter}: {body}");
        let (status, _, body) = get(&agent, path, &format!("not ({filter})"), &[]).await;
        assert!(status == 200 && body.contains(goes) && !body.contains(stays), "{path} not {filter}: {body}");
        let (status, _, body) = get(&agent, path, "", &[]).await;
        assert!(status == 200 && body.contains(goes) && body.contains(stays), "{path} without filter: {body}");
        let (status, _, body) = get(&agent, path, "bad filter here", &[]).await;
        let wanted = "Failed to create boolean expression evaluator: 1:5 (4): expected an operator";
        assert!(status == 500 && body.starts_with(wanted), "{path}: {status} {body}");
        let (status, _, body) = get(&agent, path, "x in Nope.x", &[]).await;
        assert!(
            status == 500 && body.contains("Selector \"Nope\" is not valid; available: "),
            "{path}: {status} {body}"
        );
    }
    let (_, _, body) = get(&agent, "/v1/catalog/node/nowhere", "Port == 1", &[]).await;
    assert_eq!(body, "null");
    let (_, _, body) = get(&agent, "/v1/catalog/nodes", "Node == nobody", &[]).await;
    assert_eq!(body, "[]");
}

/// A reader of the filtered list of services hears of changes that the whole list does not show.
#[tokio::test]
async fn a_filtered_wait_ends_with_what_the_filter_asks_for() {
    let agent = filled().await;
    let wait = async |path: &'static str, filter: &'static str, more: &[(&str, &str)], change: Value| {
        let (_, index, before) = get(&agent, path, filter, more).await;
        let more = [more, &[("index", &index), ("wait", "30s")]].concat();
        let asked = get(&agent, path, filter, &more);
        let changed = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            put(&agent, change["path"].as_str().unwrap(), change["body"].clone()).await;
        };
        let (answer, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(asked, changed) })
            .await
            .unwrap_or_else(|_| panic!("{path} {filter} never heard of {change}"));
        assert_ne!(answer.2, before, "{path} {filter}");
    };
    let listed = "ServicePort == 83 or NodeMeta.rack == r3 or ServiceAddress == \"10.0.0.9\"";
    let register = |body: Value| json!({"path": "/v1/agent/service/register", "body": body});
    wait("/v1/catalog/services", listed, &[], register(web("w1", 83, "v1", "passing"))).await;
    wait("/v1/catalog/services", listed, &[], register(web("w1", 81, "v1", "passing"))).await;
    let moved = json!({"Node": "there", "Address": "10.0.0.2", "NodeMeta": {"rack": "r3"}});
    wait("/v1/catalog/services", listed, &[], json!({"path": "/v1/catalog/register", "body": moved})).await;
    let new = json!({"Node": "new", "Address": "10.0.0.3", "Service": {"Service": "mq", "Address": "10.0.0.9"}});
    wait("/v1/catalog/services", listed, &[], json!({"path": "/v1/catalog/register", "body": new})).await;
    let said = json!({"Status": "passing", "Output": "slow"});
    let report = json!({"path": "/v1/agent/check/update/service:w1", "body": said});
    wait("/v1/health/service/web", "Checks.Output == slow", &[("passing", "")], report).await;
}
