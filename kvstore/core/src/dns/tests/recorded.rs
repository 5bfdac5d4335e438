//! The questions that a genuine Consul was asked, with its replies: `tests/fixtures/consul/dns.json`.

use hickory_proto::op::ResponseCode;

use super::*;

const RECORDED: &str = include_str!("../../../../../tests/fixtures/consul/dns.json");

/// Where we answer otherwise: name, type (`*` for all others of that name), our reply, and why.
const OTHERWISE: [(&str, &str, &str, &str); 11] = [
    ("consul", "A", "192.0.2.1", REGISTRY),
    ("consul", "AAAA", "2001:db8::53", REGISTRY),
    ("consul", "ANY", "192.0.2.1, 2001:db8::53", REGISTRY),
    ("consul", "TXT", "cname-svc, down, ext, many, mixedcase, under_score, web, web6", REGISTRY),
    ("consul", "*", "NODATA", EXISTS),
    ("service.consul", "A", "192.0.2.1", REGISTRY),
    ("node.consul", "A", "NODATA", EXISTS),
    ("ns.consul", "A", "192.0.2.1", "the SOA says that it is the primary server, so it must be found"),
    ("web.service.consul", "TXT", "NODATA", "TXT is a service's metadata, here none; Consul sends A instead"),
    ("many.service.consul", "A", "29 cut", SIZE),
    ("many.service.consul", "SRV", "11 cut", SIZE),
];
const REGISTRY: &str = "the registry tells where it is and what it knows";
const EXISTS: &str = "resolvers that walk a name label by label would believe that nothing is below (RFC 8020)";
const SIZE: &str = "512 bytes hold more than three, and that some are missing is said by TC";

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

/// A reply in the form of the file: records sorted, and for `many` only their number.
fn summary(reply: &Message, name: &str) -> Value {
    let rows = |records: &[Record]| json!(records.iter().map(row).collect::<Vec<_>>());
    let counted = |records: &[Record]| if name.starts_with("many") { json!(records.len()) } else { rows(records) };
    let meta = &reply.metadata;
    json!({
        "rcode": format!("{:?}", meta.response_code).to_uppercase(),
        "aa": meta.authoritative, "tc": meta.truncation, "ra": meta.recursion_available,
        "edns": reply.edns.is_some(),
        "answer": counted(&reply.answers),
        "authority": rows(&reply.authorities),
        "additional": counted(&reply.additionals),
    })
}

fn row(record: &Record) -> Value {
    let text = record.data.to_string();
    let text = match record.record_type() {
        RecordType::TXT => format!("\"{text}\""),
        RecordType::SOA => format!("SOA {}", text.split(' ').take(2).collect::<Vec<_>>().join(" ")),
        _ => text.to_lowercase(),
    };
    let owner = record.name.to_ascii().to_lowercase();
    json!([owner, record.ttl, record.record_type().to_string(), text])
}

fn sorted_sections(mut reply: Value) -> Value {
    for section in ["answer", "authority", "additional"] {
        if let Some(rows) = reply[section].as_array_mut() {
            rows.sort_by_key(ToString::to_string);
        }
    }
    reply
}

/// Our reply where it differs, as [`OTHERWISE`] writes it.
fn in_short(reply: &Message) -> String {
    let meta = &reply.metadata;
    match (reply.answers.len(), meta.truncation) {
        (0, _) if meta.response_code == ResponseCode::NoError && reply.authorities.len() == 1 => "NODATA".into(),
        (n, true) => format!("{n} cut"),
        _ => sorted(&reply.answers, |r| r.data.to_string()),
    }
}

#[test]
fn questions_are_answered_as_recorded() {
    let state = seeded();
    let file: Value = serde_json::from_str(RECORDED).unwrap();
    let (mut same, mut otherwise) = (0, 0);
    for recorded in file["queries"].as_array().unwrap() {
        let (name, qtype) = (recorded["name"].as_str().unwrap(), recorded["type"].as_str().unwrap());
        let options = &recorded["options"];
        let text = format!("{name} {qtype} {options}");
        let mut message = question(&format!("{name}. {qtype}"));
        if let Some(bytes) = options["edns"].as_u64() {
            message = with_edns(message, u16::try_from(bytes).unwrap());
        }
        let by = if options["tcp"] == true { Transport::Tcp } else { Transport::Udp };
        let (reply, _) = ask_over(by, &state, recorded_config(&["127.0.0.1"]), &message);
        let ours = sorted_sections(summary(&reply, name));
        if ours == sorted_sections(recorded["reply"].clone()) {
            same += 1;
            continue;
        }
        let entry = |qtype: &str| OTHERWISE.iter().find(|(n, t, ..)| *n == name && *t == qtype);
        let plain = options.as_object().unwrap().is_empty();
        let Some((.., want, _)) = entry(qtype).or_else(|| entry("*")).filter(|_| plain) else {
            panic!("{text}\nwant {}\n got {ours}", recorded["reply"]);
        };
        assert_eq!(recorded["may_differ"], true, "{text}: differs although Consul is right");
        let two = recorded_config(&["192.0.2.1", "2001:db8::53"]);
        assert_eq!(in_short(&ask_over(by, &state, two, &message).0), *want, "{text}");
        otherwise += 1;
    }
    assert_eq!((same, otherwise), (81, 14), "every row is accounted for");
}
