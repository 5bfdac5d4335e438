//! The recorded questions, over UDP and TCP, to an agent that was filled over HTTP as Consul was.

#[path = "../../../core/src/dns/tests/recorded/compare.rs"]
mod compare;

use compare::{in_short, recorded};
use serde_json::json;

use super::*;
use crate::common::settings;

/// Registers a host and, where given, an instance on it, as the recorder did.
async fn register(agent: &Agent, node: &str, address: &str, service: Option<(Value, &str)>) {
    let mut body = json!({"Node": node, "Address": address, "NodeMeta": {"rack": "r1"}});
    if let Some((mut service, status)) = service {
        let id = format!("{}-{node}", service["Service"].as_str().unwrap());
        let check_id = format!("service:{id}");
        body["Checks"] = json!([{"Node": node, "CheckID": check_id, "Name": "c", "Status": status, "ServiceID": id}]);
        service["ID"] = id.into();
        body["Service"] = service;
    }
    call(agent, Method::PUT, "/v1/catalog/register", &body).await;
}

/// What the recorder registered before it asked.
async fn seed(agent: &Agent) {
    let weights = |warning: u16| json!({"Passing": 5, "Warning": warning});
    let (ok, bad) = ("passing", "critical");
    for (node, address, service, status) in [
        (
            "alpha",
            "10.5.0.1",
            json!({"Service": "web", "Port": 80, "Tags": ["v1", "primary"], "Weights": weights(1)}),
            ok,
        ),
        ("beta", "10.5.0.2", json!({"Service": "web", "Port": 81, "Tags": ["v2"], "Address": "10.6.0.2"}), ok),
        ("gamma", "10.5.0.3", json!({"Service": "web", "Port": 82, "Tags": ["v2"]}), bad),
        ("delta", "10.5.0.4", json!({"Service": "web", "Port": 83, "Tags": ["v3"], "Weights": weights(2)}), "warning"),
        ("six", "2001:db8::6", json!({"Service": "web6", "Port": 90}), ok),
        ("cname-host", "ext.example.com", json!({"Service": "ext", "Port": 443}), ok),
        ("mixed", "10.5.0.9", json!({"Service": "cname-svc", "Port": 443, "Address": "alpha.node.consul"}), ok),
        ("alpha", "10.5.0.1", json!({"Service": "down", "Port": 1}), bad),
        ("Up-Per", "10.5.0.10", json!({"Service": "MixedCase", "Port": 2}), ok),
        ("alpha", "10.5.0.1", json!({"Service": "under_score", "Port": 3}), ok),
    ] {
        register(agent, node, address, Some((service, status))).await;
    }
    for i in 0..40 {
        let service = json!({"Service": "many", "Port": 7000 + i});
        register(agent, &format!("many{i}"), &format!("10.7.0.{}", i + 1), Some((service, ok))).await;
    }
    let service = json!({"Service": "web", "OnlyPassing": true});
    call(agent, Method::POST, "/v1/query", &json!({"Name": "wq", "Service": service, "DNS": {"TTL": "9s"}})).await;
}

/// [`compare`] speaks of a registry with two addresses, and the core's tests have one; an agent has this one only, and
/// itself as a service.
fn of_one_address(ours: &str) -> String {
    match ours {
        "2001:db8::53" => "NODATA".into(),
        names if names.starts_with("cname-svc") => names.replace("cname-svc,", "cname-svc, consul,"),
        ours => ours.replace("192.0.2.1, 2001:db8::53", "192.0.2.1").replace("192.0.2.1", "127.0.0.1"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_as_recorded() {
    let agent = Agent::with(settings("wire-node")).await;
    seed(&agent).await;
    // Twice: the second time replies come from those that are kept.
    for round in 0..2 {
        let (mut same, mut otherwise) = (0, 0);
        for row in recorded() {
            let question = row.question();
            let udp = async { over_udp(agent.dns(), &question).await };
            let reply = if row.over_tcp { over_tcp(agent.dns(), &question).await } else { udp.await };
            if row.is(&reply) {
                same += 1;
            } else {
                assert_eq!(in_short(&reply), of_one_address(row.otherwise(&reply)), "{row}, round {round}");
                otherwise += 1;
            }
        }
        assert_eq!((same, otherwise), (81, 14), "every row is accounted for");
    }
    agent.stop().await;
}

/// What is asked over UDP gets the same over TCP, where it was not cut.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_answers_what_udp_does() {
    let agent = Agent::with(settings("wire-node")).await;
    seed(&agent).await;
    let sections = |reply: &Message| {
        let all = [&reply.answers, &reply.authorities, &reply.additionals];
        let text = |record: &hickory_proto::rr::Record| match record.record_type() {
            // Its serial number is the time.
            hickory_proto::rr::RecordType::SOA => format!("{} {} SOA", record.name, record.ttl),
            _ => record.to_string(),
        };
        all.map(|records| {
            let mut texts: Vec<String> = records.iter().map(text).collect();
            texts.sort();
            texts
        })
    };
    let mut compared = 0;
    for row in recorded().iter().filter(|row| !row.over_tcp) {
        let question = row.question();
        let (udp, tcp) = (over_udp(agent.dns(), &question).await, over_tcp(agent.dns(), &question).await);
        assert!(!tcp.metadata.truncation, "{row}");
        if udp.metadata.truncation {
            assert!(tcp.answers.len() > udp.answers.len(), "{row}");
            continue;
        }
        // Additionals are what goes first when space is short.
        let (udp_sections, tcp_sections) = (sections(&udp), sections(&tcp));
        assert_eq!(udp_sections[..2], tcp_sections[..2], "{row}");
        assert!(udp_sections[2].iter().all(|record| tcp_sections[2].contains(record)), "{row}");
        assert_eq!(udp.metadata, tcp.metadata, "{row}");
        compared += 1;
    }
    assert!(compared > 80, "only {compared} were whole over UDP");
    agent.stop().await;
}
