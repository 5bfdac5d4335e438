//! What answers look like, changed while the agent runs; and DNS that cannot be had.

use std::collections::BTreeMap;

use kvstore::config::{self, DnsSettings, Soa};
use kvstore_client::names::in_network;
use serde_json::json;

use super::*;
use crate::common::settings;

/// `web` on four hosts, the last with a warning; `api` on one.
async fn fill(agent: &Agent) {
    for (n, service, status) in [
        (1, "web", "passing"),
        (2, "web", "passing"),
        (3, "web", "passing"),
        (4, "web", "warning"),
        (5, "api", "passing"),
    ] {
        let (node, address) = (format!("n{n}"), format!("10.0.0.{n}"));
        let check = json!({"Node": node, "CheckID": "c", "Status": status, "ServiceID": service});
        let service = json!({"Service": service, "Port": 80});
        let body = json!({"Node": node, "Address": address, "Service": service, "Check": check,
                          "NodeMeta": {"rack": "r1"}});
        call(agent, Method::PUT, "/v1/catalog/register", &body).await;
    }
}

/// Number of answers, TTL of the first, TC, number of additionals.
async fn shape(agent: &Agent, name: &str, qtype: RecordType) -> (usize, u32, bool, usize) {
    let reply = ask(agent, name, qtype).await;
    let first = reply.answers.first().or(reply.authorities.first()).expect("a record");
    (reply.answers.len(), first.ttl, reply.metadata.truncation, reply.additionals.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_answers_look_like() {
    let (agent, kept) = Agent::with_reread(settings("n")).await;
    fill(&agent).await;
    let seconds = Duration::from_secs;
    let ttls = |pairs: &[(&str, u64)]| -> BTreeMap<String, Duration> {
        pairs.iter().map(|(name, ttl)| ((*name).to_owned(), seconds(*ttl))).collect()
    };
    let (plain, a, srv) = (DnsSettings::default(), RecordType::A, RecordType::SRV);
    let soa = Soa { min_ttl: seconds(9), ..Soa::default() };
    for (what, dns_settings, name, qtype, want) in [
        ("none", plain.clone(), "web.service.consul.", a, (4, 0, false, 0)),
        (
            "only_passing",
            DnsSettings { only_passing: true, ..plain.clone() },
            "web.service.consul.",
            a,
            (3, 0, false, 0),
        ),
        (
            "a_record_limit",
            DnsSettings { a_record_limit: 2, ..plain.clone() },
            "web.service.consul.",
            a,
            (2, 0, false, 0),
        ),
        (
            "udp_answer_limit",
            DnsSettings { udp_answer_limit: 1, ..plain.clone() },
            "web.service.consul.",
            a,
            (1, 0, true, 0),
        ),
        (
            "enable_truncate",
            DnsSettings { udp_answer_limit: 1, truncate: false, ..plain.clone() },
            "web.service.consul.",
            a,
            (1, 0, false, 0),
        ),
        (
            "service_ttl",
            DnsSettings { service_ttl: ttls(&[("w*", 7), ("*", 8)]), ..plain.clone() },
            "web.service.consul.",
            a,
            (4, 7, false, 0),
        ),
        (
            "service_ttl of all",
            DnsSettings { service_ttl: ttls(&[("w*", 7), ("*", 8)]), ..plain.clone() },
            "api.service.consul.",
            a,
            (1, 8, false, 0),
        ),
        ("node_ttl", DnsSettings { node_ttl: seconds(6), ..plain.clone() }, "n1.node.consul.", a, (1, 6, false, 1)),
        (
            "enable_additional_node_meta_txt",
            DnsSettings { node_meta_txt: false, ..plain.clone() },
            "n1.node.consul.",
            a,
            (1, 0, false, 0),
        ),
        ("soa", DnsSettings { soa, ..plain.clone() }, "none.service.consul.", a, (0, 9, false, 0)),
        ("all as before", plain.clone(), "api.service.consul.", srv, (1, 0, false, 2)),
    ] {
        // Asked before too, so that a reply made under the old settings is at hand.
        ask(&agent, name, qtype).await;
        kept.lock().unwrap().dns_settings = dns_settings;
        call(&agent, Method::PUT, "/v1/agent/reload", &Value::Null).await;
        assert_eq!(shape(&agent, name, qtype).await, want, "{what}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_aliases() {
    let (agent, kept) = Agent::with_reread(settings("n")).await;
    fill(&agent).await;
    assert_eq!(shown(&ask(&agent, "www.apps.example.", RecordType::A).await), "Refused");
    kept.lock().unwrap().aliases.insert("*.apps.example".into(), "api".into());
    call(&agent, Method::PUT, "/v1/agent/reload", &Value::Null).await;
    assert_eq!(shown(&ask(&agent, "www.apps.example.", RecordType::A).await), "10.0.0.5");
    agent.stop().await;
}

/// The core reads what other programs write and depends on none of their code; this holds the two ends together.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_network_is_answered_as_programs_write_it() {
    let agent = Agent::with(settings("n")).await;
    let network = json!({"name": "app", "subnet": "127.0.0.0/8", "subnet6": "fd00:1::/48"});
    call(&agent, Method::PUT, "/v1/kv/overlay/v1/nets/app", &json!({"body": {"network": network}})).await;
    let service = in_network("cache", "app");
    let body = json!({"Node": "n1", "Address": "10.0.0.1", "Service": {"Service": service, "Address": "127.1.7.2"}});
    call(&agent, Method::PUT, "/v1/catalog/register", &body).await;
    for name in ["cache.", &format!("{service}.")] {
        assert_eq!(shown(&ask(&agent, name, RecordType::A).await), "127.1.7.2", "{name}");
    }
    agent.stop().await;
}

/// HTTP, and the addresses of DNS that can be had, are served.
#[tokio::test(flavor = "multi_thread")]
async fn dns_that_cannot_listen_stops_nothing_else() {
    let dns = vec!["192.0.2.1:53".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    let agent = Agent::with(config::Agent { dns, ..settings("n") }).await;
    fill(&agent).await;
    assert_eq!(shown(&ask(&agent, "api.service.consul.", RecordType::A).await), "10.0.0.5", "on the second address");
    agent.stop().await;

    let agent = Agent::with(config::Agent { dns: vec!["192.0.2.1:53".parse().unwrap()], ..settings("n") }).await;
    fill(&agent).await;
    let body = reqwest::get(format!("{}/v1/catalog/service/api", agent.base)).await.unwrap().text().await.unwrap();
    assert!(body.contains("10.0.0.5"), "{body}");
    agent.stop().await;
}
