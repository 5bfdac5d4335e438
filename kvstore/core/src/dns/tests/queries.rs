//! Names under `query`.

use hickory_proto::{
    op::ResponseCode,
    rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption},
};

use super::*;
use crate::near::Distances;

/// Hosts `a`, `b` and `c` at 10.0.0.1 to 3 with `web`, and some queries for it.
fn state() -> State {
    let mut state = catalog(
        "node a 10.0.0.1, node b 10.0.0.2, node c 10.0.0.3,
         web :80 passing @a #v1 weight=5/1, web :80 passing @b #v2, web :80 warning @c #v2 weight=3/2,
         down :80 critical @a",
    );
    let template = |name: &str, regexp: &str, service: Value| json!({"name": name, "template": {"kind": "name_prefix_match", "regexp": regexp}, "service": service});
    for definition in [
        json!({"name": "all", "service": {"service": "web"}}),
        json!({"name": "Well", "service": {"service": "WEB", "only_passing": true},
               "dns_ttl": {"spelled": "90s", "seconds": 90}}),
        json!({"name": "near", "service": {"service": "web", "near": "_ip"}}),
        json!({"name": "own", "service": {"service": "web", "near": "_agent"}}),
        json!({"name": "ignoring", "service": {"service": "down", "ignore_check_ids": ["service:down-7"]}}),
        json!({"name": "dotted.name", "service": {"service": "web", "tags": ["v1"]}}),
        json!({"name": "nobody", "service": {"service": "nope"}}),
        template("web-", "", json!({"service": "web", "tags": ["${name.suffix}"]})),
        template("web-not-", "^web-not-(.+)$", json!({"service": "web", "tags": ["!${match(1)}"]})),
        template("broken-", "", json!({"service": "${match(\"0${name.suffix}\")}"})),
    ] {
        keep(&mut state, definition);
    }
    state
}

/// The addresses of an answer, or why there is none.
fn found(state: &State, name: &str) -> String {
    let reply = ask(state, config(), &format!("{name}.consul. A"));
    match reply.metadata.response_code {
        ResponseCode::NoError if reply.answers.is_empty() => "NODATA".into(),
        ResponseCode::NoError => sorted(&reply.answers, |r| r.data.to_string()).replace("10.0.0.", ""),
        code => format!("{code:?}").to_uppercase(),
    }
}

#[test]
fn a_query_is_found_by_name_id_and_template() {
    let state = state();
    for (name, want) in [
        ("all.query", "1, 2, 3"),
        ("ALL.query.dc1", "1, 2, 3"),
        ("well.query", "1, 2"),
        ("_well._tcp.query", "1, 2"),
        ("dotted.name.query", "1"),
        ("name.query", "NODATA"),
        ("00000001-0000-4000-8000-000000000000.query", "1, 2"),
        ("web-v2.query", "2, 3"),
        ("Web-V1.query", "1"),
        ("web-v9.query", "NXDOMAIN"),
        ("web-not-v1.query", "2, 3"),
        ("ignoring.query", "1"),
        ("nobody.query", "NXDOMAIN"),
        ("nope.query", "NXDOMAIN"),
        ("all.query.dc2", "NXDOMAIN"),
        ("query", "NODATA"),
        ("_._tcp.query", "NXDOMAIN"),
        ("broken-x.query", "SERVFAIL"),
        ("00000007-0000-4000-8000-000000000000.query", "SERVFAIL"),
    ] {
        assert_eq!(found(&state, name), want, "{name}");
    }
    let reply = ask(&state, config(), "all.query.consul. AAAA");
    assert_eq!((reply.metadata.response_code, reply.authorities.len()), (ResponseCode::NoError, 1), "of another type");
}

#[test]
fn times_to_live_and_weights() {
    let state = state();
    let of_service = [("web".to_owned(), std::time::Duration::from_secs(7))].into();
    let config = DnsConfig { service_ttl: crate::dns::ServiceTtls(of_service), ..config() };
    let rows = |name: &str| {
        let reply = ask(&state, config.clone(), &format!("{name}.query.consul. SRV"));
        sorted(&reply.answers, |r| format!("{} {}", r.ttl, r.data))
    };
    assert_eq!(rows("all"), "7 1 1 80 b.node.dc1.consul., 7 1 2 80 c.node.dc1.consul., 7 1 5 80 a.node.dc1.consul.");
    assert_eq!(rows("well"), "90 1 1 80 b.node.dc1.consul., 90 1 5 80 a.node.dc1.consul.");
    assert_eq!(rows("ignoring"), "0 1 0 80 a.node.dc1.consul.", "what is critical gets no share");
}

/// The hosts on a line, `c` in the middle.
#[derive(Debug)]
struct Line;

impl Distances for Line {
    fn distances(&self, from: &NodeKey, to: &[&NodeKey]) -> Option<Vec<f64>> {
        let place = |node: &NodeKey| {
            ["a", "c", "b"]
                .iter()
                .zip([0.0, 1.0, 2.0])
                .find(|(name, _)| **name == node.as_str())
                .map_or(f64::INFINITY, |(_, at)| at)
        };
        Some(to.iter().map(|to| (place(to) - place(from)).abs()).collect())
    }
}

/// The addresses in their order, for somebody at `from` or for whom a resolver there asks.
fn in_order(state: &State, name: &str, from: &str, subnet: Option<ClientSubnet>) -> (String, Option<ClientSubnet>) {
    let mut message = question(&format!("{name}.query.consul. A"));
    if let Some(subnet) = subnet {
        message = with_edns(message, 1232);
        message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Subnet(subnet));
    }
    let asked = Asked { from: from.parse().unwrap(), distances: &Line, ..asked(Transport::Udp) };
    let config = DnsConfig { node: "b".into(), ..config() };
    let (reply, _) = reply(state, config, &message.to_vec().unwrap(), &asked).unwrap();
    let told = reply.edns.as_ref().and_then(|edns| match edns.option(EdnsCode::Subnet) {
        Some(EdnsOption::Subnet(subnet)) => Some(*subnet),
        _ => None,
    });
    let addresses: Vec<_> = reply.answers.iter().map(|r| r.data.to_string().replace("10.0.0.", "")).collect();
    (addresses.concat(), told)
}

#[test]
fn the_nearest_come_first() {
    let state = state();
    assert_eq!(in_order(&state, "near", "10.0.0.1", None).0, "132");
    assert_eq!(in_order(&state, "near", "::ffff:10.0.0.2", None).0, "231");
    assert_eq!(in_order(&state, "own", "10.0.0.1", None).0, "231");
}

#[test]
fn a_resolver_asks_on_behalf_of_a_subnet() {
    let state = state();
    let subnet = ClientSubnet::new("10.0.0.2".parse().unwrap(), 32, 0);
    let (order, told) = in_order(&state, "near", "10.0.0.1", Some(subnet));
    assert_eq!(order, "231");
    assert_eq!(told.map(|s| (s.source_prefix(), s.scope_prefix())), Some((32, 32)), "others may be answered otherwise");
    assert_eq!(in_order(&state, "nope", "10.0.0.1", Some(subnet)).1.map(|s| s.scope_prefix()), Some(32));
}
