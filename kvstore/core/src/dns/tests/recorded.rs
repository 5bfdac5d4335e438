//! The questions that a genuine Consul was asked, with its replies: `tests/fixtures/consul/dns.json`.

mod compare;

use super::*;
use compare::{in_short, recorded};

/// What the recorder registered before it asked.
fn seeded() -> State {
    let rows = "node wire-node 127.0.0.1,
         node alpha 10.5.0.1 rack=r1, node beta 10.5.0.2 rack=r1, node gamma 10.5.0.3 rack=r1,
         node delta 10.5.0.4 rack=r1, node six 2001:db8::6 rack=r1, node cname-host ext.example.com rack=r1,
         node mixed 10.5.0.9 rack=r1, node Up-Per 10.5.0.10 rack=r1,
         web :80 passing @alpha #v1 #primary weight=5/1, web 10.6.0.2:81 passing @beta #v2,
         web :82 critical @gamma #v2, web :83 warning @delta #v3 weight=5/2, web6 :90 passing @six,
         ext :443 passing @cname-host, cname-svc alpha.node.consul:443 passing @mixed, down :1 critical @alpha,
         MixedCase :2 passing @Up-Per, under_score :3 passing @alpha";
    let many = |i| format!("node many{i} 10.7.0.{} rack=r1, many :{} passing @many{i}", i + 1, 7000 + i);
    let mut state = catalog(&[rows.to_owned()].into_iter().chain((0..40).map(many)).collect::<Vec<_>>().join(","));
    let (service, ttl) = (json!({"service": "web", "only_passing": true}), json!({"spelled": "9s", "seconds": 9}));
    keep(&mut state, json!({"name": "wq", "service": service, "dns_ttl": ttl}));
    state
}

/// The agent that was recorded.
fn recorded_config(addresses: &[&str]) -> DnsConfig {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    DnsConfig { node: "wire-node".into(), addresses, ..DnsConfig::default() }
}

#[test]
fn questions_are_answered_as_recorded() {
    let state = seeded();
    let (mut same, mut otherwise) = (0, 0);
    for row in recorded() {
        let message = row.question();
        let by = if row.over_tcp { Transport::Tcp } else { Transport::Udp };
        let (reply, _) = ask_over(by, &state, recorded_config(&["127.0.0.1"]), &message);
        if row.is(&reply) {
            same += 1;
            continue;
        }
        let two = recorded_config(&["192.0.2.1", "2001:db8::53"]);
        assert_eq!(in_short(&ask_over(by, &state, two, &message).0), row.otherwise(&reply), "{row}");
        otherwise += 1;
    }
    assert_eq!((same, otherwise), (81, 14), "every row is accounted for");
}
