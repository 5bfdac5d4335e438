//! Every form of a name, every type, by tables.

use std::{collections::BTreeSet, time::Duration};

use domain::base::iana::OptRcode;
use hickory_proto::op::{OpCode, ResponseCode};

use super::*;
use crate::{
    Target,
    dns::{
        Answer, ServiceTtls, Soa,
        records::{address, name, record},
    },
    names::InstanceId,
};

/// A registry that asks others about `domains`.
fn recursing(domains: &[&str]) -> DnsConfig {
    DnsConfig { recursion: domains.iter().map(ToString::to_string).collect(), ..config() }
}

/// `10.0.0.1, 10.0.0.2` in any order; then ` + ` and the additional records, where they matter; `nothing` for a bare
/// NOERROR, `NODATA` with SOA, or another code.
fn check(rows: &str, asked: &str, want: &str) {
    check_with(config(), rows, asked, want);
}

fn check_with(config: DnsConfig, rows: &str, asked: &str, want: &str) {
    let reply = ask(&catalog(rows), config, asked);
    assert_eq!(show(&reply, want.contains(" + ")), want, "{asked} with {rows}");
}

fn show(reply: &Message, with_additional: bool) -> String {
    let answers = sorted(&reply.answers, |r| match r.record_type() {
        RecordType::CNAME => format!("-> {}", r.data),
        _ => r.data.to_string(),
    });
    let has_soa = reply.authorities.iter().any(|r| r.record_type() == RecordType::SOA);
    let answers = match (reply.metadata.response_code, reply.answers.is_empty()) {
        (ResponseCode::NoError, false) => answers,
        (ResponseCode::NoError, true) if has_soa => "NODATA".into(),
        (ResponseCode::NoError, true) => "nothing".into(),
        (code, _) => format!("{code:?}"),
    };
    if with_additional {
        let additional = sorted(&reply.additionals, |r| format!("{} {} {}", r.name, r.record_type(), r.data));
        return format!("{answers} + {additional}");
    }
    answers
}

#[test]
fn several_tags_are_all_wanted_unless_one_has_such_a_name() {
    let web = "web 10.0.0.1:80 passing #a #b, web 10.0.0.2:80 passing #a, web 10.0.0.3:80 passing #c.d #a";
    check(web, "a.b.web.service.consul. A", "10.0.0.1");
    check(web, "B.A.web.service.consul. SRV", "1 1 80 n1.node.dc1.consul.");
    check(web, "c.d.web.service.consul. A", "10.0.0.3");
    check(web, "a.d.web.service.consul. A", "NXDomain");
}

#[test]
fn names_of_other_domains_stand_for_services() {
    let of = |asked: &str, want: &str| {
        let pairs = [("*.apps.example", "Proxy"), ("www.example.com", "web"), ("*.deep.apps.example", "web")];
        let aliases = pairs.map(|(name, service)| (name.to_owned(), service.to_owned())).into();
        let service_ttl = ServiceTtls([("*".to_owned(), Duration::from_secs(9))].into());
        let config = DnsConfig { service_ttl, aliases, ..config() };
        let rows =
            "proxy 10.0.0.1:80 passing, proxy 10.0.0.2:80 warning, web 10.0.0.3:80 passing, x 10.0.0.4:80 passing";
        let reply = ask(&catalog(rows), config, asked);
        assert_eq!(show(&reply, false), want, "{asked}");
        assert!(reply.answers.iter().all(|record| record.ttl == 0), "{asked}");
        reply
    };
    of("shop.apps.example. A", "10.0.0.1");
    of("a.shop.APPS.example. A", "10.0.0.1");
    of("shop.apps.example. AAAA", "NODATA");
    of("x.deep.apps.example. A", "10.0.0.3");
    of("www.example.com. A", "10.0.0.3");
    of("x.www.example.com. A", "Refused");
    of("example. A", "Refused");
    let apex = of("apps.example. A", "NODATA");
    assert_eq!(apex.authorities[0].name.to_ascii(), "apps.example.", "who negates is in the domain");
    let gone = DnsConfig { aliases: [("www.example.com".to_owned(), "gone".to_owned())].into(), ..config() };
    check_with(gone, "", "www.example.com. A", "NODATA");
}

#[test]
fn services_by_health() {
    let two = "web 10.0.0.1:80 passing, web 10.0.0.2:80 critical";
    check(two, "web.service.consul. A", "10.0.0.1");
    check(two, "WEB.Service.dc1.CONSUL. A", "10.0.0.1");
    check(two, "web.consul. A", "10.0.0.1");
    check(two, "web.service.dc2.consul. A", "NXDomain");
    check("web 10.0.0.1:80 warning", "web.service.consul. A", "10.0.0.1");
    check("web 10.0.0.1:80 critical", "web.service.consul. A", "NXDomain");
    check("web 10.0.0.1:80 critical", "web.service.consul. SRV", "NXDomain");
    check("", "web.service.consul. A", "NXDomain");
    let sick_host = "node alpha 10.0.0.9 critical, web 10.0.0.1:80 passing @alpha";
    check(sick_host, "web.service.consul. A", "NXDomain");
    let only_passing = DnsConfig { only_passing: true, ..config() };
    let mixed = "web 10.0.0.1:80 warning, web 10.0.0.2:80 passing";
    check_with(only_passing, mixed, "web.service.consul. A", "10.0.0.2");
}

#[test]
fn services_by_type() {
    let web = "web 10.0.0.1:80 passing team=a, web 2001:db8::1:81 passing team=a, web 10.0.0.1:82 passing lang=rust";
    check(web, "web.service.consul. A", "10.0.0.1");
    check(web, "web.service.consul. AAAA", "2001:db8::1");
    check(web, "web.service.consul. ANY", "10.0.0.1, 2001:db8::1");
    check(web, "web.service.consul. TXT", "lang=rust, team=a");
    check(web, "web.service.consul. MX", "NODATA");
    check(web, "web.service.consul. CNAME", "NODATA");
    check("web 10.0.0.1:80 passing", "web.service.consul. AAAA", "NODATA");
    check("web 10.0.0.1:80 passing", "web.service.consul. TXT", "NODATA");
    let both = "node a 10.0.0.1 v6=2001:db8::a, web :80 passing @a, db 10.0.0.2:81 passing @a v6=2001:db8::b";
    check(both, "web.service.consul. AAAA", "2001:db8::a");
    check(both, "db.service.consul. AAAA", "2001:db8::b");
    check(both, "db.service.consul. A", "10.0.0.2");
}

#[test]
fn services_by_tag() {
    let web = "web 10.0.0.1:80 passing #v1 #Blue, web 10.0.0.2:80 passing #v2, web 10.0.0.3:80 passing #a.b";
    check(web, "v1.web.service.consul. A", "10.0.0.1");
    check(web, "BLUE.web.service.consul. A", "10.0.0.1");
    check(web, "a.b.web.service.consul. A", "10.0.0.3");
    check(web, "b.web.service.consul. A", "NODATA");
    check(web, "v9.web.service.consul. A", "NXDomain");
    check(web, "_web._v2.service.consul. A", "10.0.0.2");
    check(web, "_web._tcp.service.consul. A", "10.0.0.1, 10.0.0.2, 10.0.0.3");
    check(web, "_web._udp.service.consul. A", "NXDomain");
    check(web, "_web._v2.service.consul. SRV", "1 1 80 n2.node.dc1.consul.");
    check(web, "_web._v2.consul. SRV", "1 1 80 n2.node.dc1.consul.");
}

#[test]
fn srv_tells_where_and_how_much() {
    check(
        "node a 10.0.0.1 rack=r1, web :80 passing @a weight=5/2, web :81 warning @a weight=5/2",
        "web.service.consul. SRV",
        "1 2 81 a.node.dc1.consul., 1 5 80 a.node.dc1.consul. + \
         a.node.dc1.consul. A 10.0.0.1, a.node.dc1.consul. TXT rack=r1",
    );
    check(
        "node a 10.0.0.1 rack=r1, web 10.9.0.1:80 passing @a, web 10.9.0.1:80 passing @a",
        "web.service.consul. SRV",
        "1 1 80 0a090001.addr.dc1.consul. + \
         0a090001.addr.dc1.consul. A 10.9.0.1, a.node.dc1.consul. TXT rack=r1",
    );
    check(
        "node a 10.0.0.1 v6=2001:db8::a, web :80 passing @a",
        "web.service.consul. SRV",
        "1 1 80 a.node.dc1.consul. + a.node.dc1.consul. A 10.0.0.1, a.node.dc1.consul. AAAA 2001:db8::a",
    );
    let without_meta = DnsConfig { node_meta_txt: false, ..config() };
    check_with(
        without_meta,
        "node a 10.0.0.1 rack=r1, web :80 passing @a",
        "web.service.consul. SRV",
        "1 1 80 a.node.dc1.consul. + a.node.dc1.consul. A 10.0.0.1",
    );
    let long = "x".repeat(64);
    check(
        &format!("node {long} 10.0.0.1, web :80 passing @{long}"),
        "web.service.consul. SRV",
        "1 1 80 0a000001.addr.dc1.consul. + 0a000001.addr.dc1.consul. A 10.0.0.1",
    );
}

#[test]
fn host_names_become_aliases() {
    let ext = "node out ext.example.com, ext :443 passing @out";
    check(ext, "ext.service.consul. A", "-> ext.example.com.");
    check(ext, "ext.service.consul. TXT", "-> ext.example.com.");
    check(ext, "ext.service.consul. CNAME", "-> ext.example.com.");
    check(ext, "ext.service.consul. SRV", "1 1 443 ext.example.com. + ");
    check(ext, "out.node.consul. A", "-> ext.example.com.");
    check(ext, "out.node.consul. CNAME", "-> ext.example.com.");
    check(ext, "out.node.consul. MX", "nothing");
    let inside = "node a 10.0.0.1, web a.node.consul:80 passing @a";
    check(inside, "web.service.consul. A", "-> a.node.consul., 10.0.0.1");
    check(inside, "web.service.consul. SRV", "1 1 80 a.node.consul. + a.node.consul. A 10.0.0.1");
    let mixed = "node a 10.0.0.1, web ext.example.com:80 passing @a, web 10.0.0.7:80 passing @a";
    check(mixed, "web.service.consul. A", "10.0.0.7");
    check(mixed, "web.service.consul. AAAA", "NODATA");
    let itself = "node a 10.0.0.1, web web.service.consul:80 passing @a";
    check(itself, "web.service.consul. A", "10.0.0.1");
    check(itself, "web.service.consul. SRV", "1 1 80 a.node.dc1.consul. + a.node.dc1.consul. A 10.0.0.1");
    let circle = "node a 10.0.0.1, x y.service.consul:1 passing @a, y x.service.consul:1 passing @a";
    check(
        circle,
        "x.service.consul. A",
        "-> x.service.consul., -> x.service.consul., -> y.service.consul., -> y.service.consul.",
    );
}

#[test]
fn nodes() {
    let rows = "node Alpha 10.0.0.1 rack=r1 v6=2001:db8::a, node b.c 10.0.0.2, node d 2001:db8::d critical";
    check(rows, "alpha.node.consul. A", "10.0.0.1 + alpha.node.consul. TXT rack=r1");
    check(rows, "ALPHA.node.dc1.consul. AAAA", "2001:db8::a");
    check(rows, "alpha.node.dc2.consul. A", "NXDomain");
    check(rows, "alpha.node.consul. TXT", "rack=r1 + ");
    check(rows, "alpha.node.consul. ANY", "10.0.0.1, 2001:db8::a, rack=r1 + ");
    check(rows, "alpha.node.consul. SRV", "nothing");
    check(rows, "b.c.node.consul. A", "10.0.0.2");
    check(rows, "c.node.consul. A", "NODATA");
    check(rows, "d.node.consul. AAAA", "2001:db8::d");
    check(rows, "none.node.consul. A", "NXDomain");
    check(rows, "none.node.consul. MX", "NXDomain");
}

#[test]
fn addresses_in_names() {
    check("", "0a050001.addr.consul. A", "10.5.0.1");
    check("", "0a050001.addr.dc1.consul. ANY", "10.5.0.1");
    check("", "0a050001.addr.dc2.consul. A", "NXDomain");
    check("", "0a050001.addr.consul. AAAA", "nothing + 0a050001.addr.consul. A 10.5.0.1");
    check("", "20010db8000000000000000000000006.addr.consul. AAAA", "2001:db8::6");
    check("", "zzzz.addr.consul. A", "nothing");
}

#[test]
fn the_registry_itself() {
    let rows = "web 10.0.0.1:80 passing, Api 10.0.0.2:81 critical, a.b 10.0.0.3:1 passing";
    for name in ["consul.", "service.consul.", "service.dc1.consul.", "ns.consul."] {
        check(rows, &format!("{name} A"), "192.0.2.1");
        check(rows, &format!("{name} AAAA"), "2001:db8::53");
        check(rows, &format!("{name} ANY"), "192.0.2.1, 2001:db8::53");
        check(rows, &format!("{name} MX"), "NODATA");
    }
    check(rows, "service.consul. TXT", "a.b, api, web");
    check(rows, "consul. TXT", "a.b, api, web");
    check("", "consul. TXT", "NODATA");
    check(rows, "ns.consul. TXT", "NODATA");
    let types = "_api._tcp.service.consul., _web._tcp.service.consul.";
    check(rows, "_services._dns-sd._udp.service.consul. PTR", types);
    check(rows, "_services._dns-sd._udp.service.consul. A", "NODATA");
    check("", "_services._dns-sd._udp.service.consul. PTR", "NODATA");
    let homeless = DnsConfig { addresses: Vec::new(), ..config() };
    check_with(homeless, rows, "consul. A", "NODATA");
}

#[test]
fn steps_on_the_way_exist() {
    for name in ["node", "addr", "query", "dc1", "dc", "node.dc1", "_tcp.service", "_udp.service"] {
        check("", &format!("{name}.consul. A"), "NODATA");
    }
    for name in ["x.y", "dc2", "node.dc2", "connect", "wq.query", "web.connect"] {
        check("", &format!("{name}.consul. A"), "NXDomain");
    }
}

#[test]
fn authority() {
    let glue = "registry.node.dc1.consul. A 192.0.2.1, registry.node.dc1.consul. AAAA 2001:db8::53";
    for name in ["consul.", "none.service.consul.", "x.y.consul."] {
        check("", &format!("{name} NS"), &format!("registry.node.dc1.consul. + {glue}"));
        let soa = "ns.consul. hostmaster.consul. 1700000000 3600 600 86400 0";
        check("", &format!("{name} SOA"), &format!("{soa} + {glue}"));
    }
    let soa = Soa { refresh: 1, retry: 2, expire: 3, min_ttl: 4 };
    let own = format!("ns.consul. hostmaster.consul. 1700000000 1 2 3 4 + {glue}");
    check_with(DnsConfig { soa, ..config() }, "", "consul. SOA", &own);
    let reply = ask(&catalog(""), config(), "web.service.consul. SOA");
    assert_eq!(sorted(&reply.answers, |r| r.name.to_string()), "consul.");
    assert_eq!(sorted(&reply.authorities, |r| r.data.to_string()), "registry.node.dc1.consul.");
}

#[test]
fn reverse_names() {
    let rows = "node a 10.5.0.1, node b 10.5.0.1, web 10.6.0.2:80 passing @a, Web 10.6.0.2:81 passing @b, \
                web 10.5.0.1:82 passing @a, node six 2001:db8::6";
    check(rows, "1.0.5.10.in-addr.arpa. PTR", "a.node.dc1.consul., b.node.dc1.consul.");
    check(rows, "2.0.6.10.in-addr.arpa. PTR", "Web.service.dc1.consul.");
    check(rows, "2.0.6.10.in-addr.arpa. A", "nothing");
    let six = "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    check(rows, &format!("{six} PTR"), "six.node.dc1.consul.");
    check(rows, "3.0.6.10.in-addr.arpa. PTR", "NXDomain");
    check(rows, "9.9.9.9.in-addr.arpa. PTR", "ServFail");
    check(rows, "6.10.in-addr.arpa. PTR", "ServFail");
}

#[test]
fn the_reverse_index_follows_the_rows() {
    let mut state = catalog("node a 10.5.0.1, web 10.6.0.2:80 passing @a");
    let holder = |state: &State, name: &str| show(&ask(state, config(), &format!("{name}.in-addr.arpa. PTR")), false);
    apply(&mut state, &register("node a 10.5.0.9", 1, &State::empty(Index(1))));
    assert_eq!(holder(&state, "1.0.5.10"), "NXDomain");
    assert_eq!(holder(&state, "9.0.5.10"), "a.node.dc1.consul.");
    let node = NodeKey::new("a").unwrap();
    let instance = Target::Instance(InstanceId::new("web-2").unwrap());
    assert_eq!(holder(&state, "2.0.6.10"), "web.service.dc1.consul.");
    for target in [instance, Target::Node] {
        let node = node.clone();
        apply(&mut state, &Command::Deregister { node, target });
    }
    assert_eq!(holder(&state, "2.0.6.10"), "NXDomain");
    assert_eq!(holder(&state, "9.0.5.10"), "NXDomain");
}

#[test]
fn times_to_live() {
    let seconds = Duration::from_secs;
    let config = DnsConfig {
        node_ttl: seconds(7),
        service_ttl: ServiceTtls([("web".into(), seconds(3)), ("*".into(), seconds(4))].into()),
        soa: Soa { min_ttl: 5, ..Soa::default() },
        ..config()
    };
    let state = catalog("web 10.0.0.1:80 passing, api 10.0.0.2:80 passing");
    for (asked, answer, additional, authority) in [
        ("web.service.consul. A", Some(3), None, None),
        ("web.service.consul. SRV", Some(3), Some(3), None),
        ("API.service.consul. A", Some(4), None, None),
        ("n1.node.consul. A", Some(7), None, None),
        ("1.0.0.10.in-addr.arpa. PTR", Some(7), None, None),
        ("consul. A", Some(7), None, None),
        ("consul. NS", Some(7), Some(7), None),
        ("consul. SOA", Some(5), Some(7), Some(7)),
        ("none.service.consul. A", None, None, Some(5)),
    ] {
        let reply = ask(&state, config.clone(), asked);
        let ttl = |records: &[Record]| records.first().map(|r| r.ttl);
        let found = (ttl(&reply.answers), ttl(&reply.additionals), ttl(&reply.authorities));
        assert_eq!(found, (answer, additional, authority), "{asked}");
    }
}

#[test]
fn a_second_domain_has_the_same_answers() {
    let config = DnsConfig { alt_domain: Some("svc.example.com".into()), ..config() };
    let rows = "node a 10.0.0.1, web 10.9.0.1:80 passing @a #v1";
    for (asked, want) in [
        ("v1.web.service.svc.example.com. A", "10.9.0.1"),
        ("web.service.consul. SRV", "1 1 80 0a090001.addr.dc1.consul."),
        ("web.service.dc1.SVC.example.com. SRV", "1 1 80 0a090001.addr.dc1.svc.example.com."),
        ("svc.example.com. NS", "registry.node.dc1.svc.example.com."),
        ("svc.example.com. SOA", "ns.svc.example.com. hostmaster.svc.example.com. 1700000000 3600 600 86400 0"),
        ("none.service.svc.example.com. A", "NXDomain"),
        ("1.0.0.10.in-addr.arpa. PTR", "a.node.dc1.consul."),
        ("example.com. A", "Refused"),
    ] {
        check_with(config.clone(), rows, asked, want);
    }
    let inside = DnsConfig { alt_domain: Some("alt.consul".into()), ..config };
    check_with(inside.clone(), rows, "web.service.alt.consul. A", "10.9.0.1");
    check_with(inside, rows, "alt.consul. A", "192.0.2.1");
}

#[test]
fn limits_of_the_number_of_answers() {
    let rows: Vec<String> = (1..=9).map(|i| format!("web 10.0.0.{i}:80 passing")).collect();
    let state = catalog(&rows.join(","));
    let found = |config: &DnsConfig, text: &str, by, edns| {
        let message = if edns { with_edns(question(text), 1232) } else { question(text) };
        let (reply, _) = ask_over(by, &state, config.clone(), &message);
        (reply.answers.len(), reply.metadata.truncation)
    };
    let (a, srv) = ("web.service.consul. A", "web.service.consul. SRV");
    let few_addresses = DnsConfig { a_record_limit: 2, ..config() };
    assert_eq!(found(&few_addresses, a, Transport::Tcp, false), (2, false));
    assert_eq!(found(&few_addresses, srv, Transport::Tcp, false), (9, false));
    let few_over_udp = DnsConfig { udp_answer_limit: 3, ..config() };
    assert_eq!(found(&few_over_udp, a, Transport::Udp, false), (3, true));
    assert_eq!(found(&few_over_udp, a, Transport::Udp, true), (9, false));
    assert_eq!(found(&few_over_udp, a, Transport::Tcp, false), (9, false));
    let silent = DnsConfig { truncate: false, ..few_over_udp };
    assert_eq!(found(&silent, srv, Transport::Udp, false), (3, false));
}

#[test]
fn the_order_changes_from_question_to_question() {
    let rows: Vec<String> = (1..=5).map(|i| format!("web 10.0.0.{i}:80 passing")).collect();
    let (state, zone) = (catalog(&rows.join(",")), Zone::new(config()).unwrap());
    for text in ["web.service.consul. A", "web.service.consul. SRV"] {
        let packet = question(text).to_vec().unwrap();
        let mut first = BTreeSet::new();
        for seed in 0..50 {
            let mut out = Vec::new();
            let asked = Asked { seed, ..asked(Transport::Udp) };
            respond(&packet, &asked, &state, &zone, &mut out);
            let reply = Message::from_vec(&out).unwrap();
            assert_eq!(reply.answers.len(), 5);
            first.insert(reply.answers[0].data.to_string());
        }
        assert_eq!(first.len(), 5, "each is first now and then");
    }
}

#[test]
fn sizes() {
    let rows: Vec<String> = (1..=200).map(|i| format!("web 10.0.0.{i}:80 passing rack=r1")).collect();
    let state = catalog(&rows.join(","));
    // (question, offered by EDNS, over, answers, cut)
    for (text, edns, by, answers, cut) in [
        ("web.service.consul. A", None, Transport::Udp, 29, true),
        ("web.service.consul. A", Some(100), Transport::Udp, 29, true),
        ("web.service.consul. A", Some(1232), Transport::Udp, 74, true),
        ("web.service.consul. A", Some(4096), Transport::Udp, 200, false),
        ("web.service.consul. A", Some(65535), Transport::Udp, 200, false),
        ("web.service.consul. A", None, Transport::Tcp, 200, false),
        ("web.service.consul. SRV", None, Transport::Tcp, 200, false),
        ("web.service.consul. SRV", Some(4096), Transport::Udp, 102, true),
        ("n1.node.consul. A", None, Transport::Udp, 1, false),
    ] {
        let mut message = question(text);
        if let Some(bytes) = edns {
            message = with_edns(message, bytes);
        }
        let (reply, bytes) = ask_over(by, &state, config(), &message);
        let found = (reply.answers.len(), reply.metadata.truncation);
        assert_eq!(found, (answers, cut), "{text} {edns:?} {by:?}: {bytes} bytes");
        assert_eq!(reply.edns.is_some(), edns.is_some(), "OPT is kept, and only where it was");
        let limit = match (by, edns) {
            (Transport::Tcp, _) => 65535,
            (_, None) => 512,
            (_, Some(offered)) => usize::from(offered).clamp(512, 4096),
        };
        assert!(bytes <= limit, "{text} {edns:?}: {bytes} bytes");
    }
}

#[test]
fn what_no_message_can_hold_is_cut_over_tcp_too() {
    let rows: Vec<String> = (0..5000).map(|i| format!("web 10.0.{}.{}:80 passing", i / 250, i % 250)).collect();
    let state = catalog(&rows.join(","));
    let (reply, bytes) = ask_over(Transport::Tcp, &state, config(), &question("web.service.consul. A"));
    assert!(reply.metadata.truncation && bytes > 65_500, "{bytes} bytes");
}

#[test]
fn additionals_go_before_answers_and_without_tc() {
    let rows: Vec<String> = (1..=7).map(|i| format!("node a{i} 10.0.0.{i} rack=r1, web :80 passing @a{i}")).collect();
    let state = catalog(&rows.join(","));
    let (reply, bytes) = ask_over(Transport::Udp, &state, config(), &question("web.service.consul. SRV"));
    let addresses = reply.additionals.iter().filter(|r| r.record_type() == RecordType::A).count();
    let found = (reply.answers.len(), addresses, reply.metadata.truncation);
    assert_eq!(found, (7, 7, false), "{bytes} bytes");
    assert!(reply.additionals.len() < 14, "the metadata of some went");
}

#[test]
fn flags() {
    let state = catalog("web 10.0.0.1:80 passing");
    let (reply, _) = ask_over(Transport::Udp, &state, config(), &question("web.service.consul. A"));
    let flags = |m: &Message| {
        let m = &m.metadata;
        (m.authoritative, m.recursion_desired, m.recursion_available, m.authentic_data)
    };
    assert_eq!(flags(&reply), (true, true, false, false));
    let mut other = question("web.service.consul. A");
    other.metadata.recursion_desired = false;
    other.metadata.checking_disabled = true;
    let (reply, _) = ask_over(Transport::Udp, &state, recursing(&["."]), &other);
    assert_eq!(flags(&reply), (true, false, true, false));
    assert!(reply.metadata.checking_disabled);
    let reply = ask(&state, config(), "example.com. A");
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert_eq!(flags(&reply), (false, true, false, false));
}

#[test]
fn the_spelling_of_the_question_comes_back() {
    let state = catalog("web 10.0.0.1:80 passing");
    let reply = ask(&state, config(), "wEb.SerVice.cOnsUl. A");
    assert_eq!(reply.queries[0].name().to_ascii(), "wEb.SerVice.cOnsUl.");
    assert_eq!(reply.answers[0].name.to_ascii(), "wEb.SerVice.cOnsUl.");
}

#[test]
fn edns_is_answered() {
    let state = catalog("web 10.0.0.1:80 passing");
    let mut message = with_edns(question("web.service.consul. A"), 4096);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    let (reply, _) = ask_over(Transport::Udp, &state, config(), &message);
    let edns = reply.edns.expect("OPT");
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, true));

    message.edns.as_mut().unwrap().set_version(1);
    let (reply, _) = ask_over(Transport::Udp, &state, config(), &message);
    let edns = reply.edns.expect("OPT");
    let rcode = (u16::from(edns.rcode_high()) << 4) | (u16::from(reply.metadata.response_code) & 15);
    assert_eq!((rcode, reply.answers.len()), (16, 0), "BADVERS");
}

#[test]
fn others_names_go_to_others_only_when_we_may() {
    let state = catalog("web 10.0.0.1:80 passing");
    let zone = |recursion| Zone::new(if recursion { recursing(&["."]) } else { config() }).unwrap();
    let goes_on = |text: &str, recursion: bool, from: &str, desired: bool| {
        let mut message = question(text);
        message.metadata.recursion_desired = desired;
        let asked = Asked { from: from.parse().unwrap(), ..asked(Transport::Udp) };
        let packet = message.to_vec().unwrap();
        let reaction = respond(&packet, &asked, &state, &zone(recursion), &mut Vec::new());
        matches!(reaction, Reaction::Forward(_))
    };
    for from in ["127.0.0.1", "::1", "172.17.0.2", "fd00::2", "::ffff:10.0.0.1", "100.64.0.9"] {
        assert!(goes_on("example.com. A", true, from, true), "{from}");
    }
    for from in ["8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "100.128.0.1"] {
        assert!(!goes_on("example.com. A", true, from, true), "{from}");
    }
    assert!(goes_on("9.9.9.9.in-addr.arpa. PTR", true, "127.0.0.1", true));
    assert!(goes_on("9.9.0.10.in-addr.arpa. PTR", true, "127.0.0.1", true), "a corporate resolver may know");
    assert!(!goes_on("1.0.0.10.in-addr.arpa. PTR", true, "127.0.0.1", true), "we know");
    assert!(!goes_on("example.com. A", false, "127.0.0.1", true));
    assert!(!goes_on("example.com. A", true, "127.0.0.1", false));
    assert!(!goes_on("example.com. AXFR", true, "127.0.0.1", true));
    assert!(!goes_on("none.service.consul. A", true, "127.0.0.1", true));
    let refused = ask(&state, recursing(&["."]), "example.com. AXFR");
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(refused.metadata.recursion_available);
}

#[test]
fn others_are_asked_about_their_domains_only() {
    let state = catalog("node out ext.example.com, ext :443 passing @out, node here 10.0.0.1");
    let split = recursing(&["corp.example", "10.in-addr.arpa", "example.com"]);
    let zone = Zone::new(split.clone()).unwrap();
    for (text, goes_on) in [
        ("corp.example. A", true),
        ("a.b.Corp.Example. MX", true),
        ("notcorp.example. A", false),
        ("example. A", false),
        ("consul.example.com. A", true),
        ("ext.service.consul. A", true),
        ("9.0.0.10.in-addr.arpa. PTR", true),
        ("9.0.168.192.in-addr.arpa. PTR", false),
    ] {
        let packet = question(text).to_vec().unwrap();
        let reaction = respond(&packet, &asked(Transport::Udp), &state, &zone, &mut Vec::new());
        assert_eq!(matches!(reaction, Reaction::Forward(_)), goes_on, "{text}");
    }
    let code = |text: &str| ask(&state, split.clone(), text).metadata.response_code;
    assert_eq!(code("notcorp.example. A"), ResponseCode::Refused);
    assert_eq!(code("9.0.168.192.in-addr.arpa. PTR"), ResponseCode::NXDomain, "nobody else could know");
    assert_eq!(code("9.9.9.9.in-addr.arpa. PTR"), ResponseCode::ServFail, "as without any");
    assert!(Zone::new(recursing(&["a..b"])).is_err());
}

#[test]
fn aliases_of_others_names_are_followed_by_others() {
    let state = catalog("node out ext.example.com, ext :443 passing @out");
    let zone = Zone::new(recursing(&["."])).unwrap();
    let forward = |text: &str| {
        let packet = question(text).to_vec().unwrap();
        match respond(&packet, &asked(Transport::Udp), &state, &zone, &mut Vec::new()) {
            Reaction::Forward(forward) => Some(*forward),
            _ => None,
        }
    };
    for text in ["ext.service.consul. CNAME", "ext.service.consul. SRV", "none.service.consul. A"] {
        assert!(forward(text).is_none(), "{text}");
    }
    let upstream = name("ext.example.com").unwrap();
    let address = record(&upstream, Duration::from_mins(1), address("198.51.100.7".parse().unwrap()));
    let found = Answer { answers: vec![address], ..Answer::error(OptRcode::NOERROR) };
    for (found, want) in
        [(found, "-> ext.example.com., 198.51.100.7"), (Answer::error(OptRcode::SERVFAIL), "-> ext.example.com.")]
    {
        let forward = forward("ext.service.consul. A").expect("an alias of a foreign name");
        assert_eq!(forward.question.name.to_string(), "ext.example.com");
        let mut out = Vec::new();
        forward.finish(found, Transport::Udp, &zone, &mut out);
        let reply = Message::from_vec(&out).unwrap();
        assert_eq!(show(&reply, false), want);
        assert_eq!(reply.queries, question("ext.service.consul. A").queries);
    }
}

#[test]
fn what_is_no_plain_question_is_refused() {
    let state = catalog("web 10.0.0.1:80 passing");
    let code = |change: &dyn Fn(&mut Message)| {
        let mut message = question("web.service.consul. A");
        change(&mut message);
        let found = reply(&state, config(), &message.to_vec().unwrap(), &asked(Transport::Udp));
        found.map(|(reply, _)| (reply.metadata.response_code, reply.metadata.op_code, reply.answers.len()))
    };
    let plain = |rcode| Some((rcode, OpCode::Query, 0));
    let retype = |qtype| move |m: &mut Message| m.queries[0].query_type = qtype;
    assert_eq!(code(&retype(RecordType::AXFR)), plain(ResponseCode::NotImp));
    assert_eq!(code(&retype(RecordType::IXFR)), plain(ResponseCode::NotImp));
    let chaos = |m: &mut Message| m.queries[0].query_class = hickory_proto::rr::DNSClass::CH;
    assert_eq!(code(&chaos), plain(ResponseCode::Refused));
    for op in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        assert_eq!(code(&|m| m.metadata.op_code = op), Some((ResponseCode::NotImp, op, 0)));
    }
    assert_eq!(code(&|m| m.queries.clear()), plain(ResponseCode::FormErr));
    assert_eq!(code(&|m| m.queries.extend(m.queries.clone())), plain(ResponseCode::FormErr));
    assert_eq!(code(&|m| m.metadata.message_type = MessageType::Response), None, "no loops");
}
