//! The questions that a genuine Consul was asked, with its replies, and what ours are held against.
//!
//! Compiled into the core's tests, which ask the core itself, and into those of a started agent, which ask its sockets.

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, Record, RecordType},
};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../../../../../tests/fixtures/consul/dns.json");

/// Where we answer otherwise: name, type (`*` for all others of that name), our reply of a registry that is reached at
/// the addresses 192.0.2.1 and `2001:db8::53`, and why.
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

/// One question, with its reply.
pub(super) struct Recorded {
    name: String,
    qtype: String,
    edns_bytes: Option<u16>,
    pub(super) over_tcp: bool,
    reply: Value,
    /// Consul is wrong, or ours is better.
    may_differ: bool,
}

/// All that were recorded.
pub(super) fn recorded() -> Vec<Recorded> {
    let file: Value = serde_json::from_str(RECORDED).unwrap();
    file["queries"].as_array().unwrap().iter().map(Recorded::read).collect()
}

impl Recorded {
    fn read(row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let options = &row["options"];
        Self {
            name: text("name"),
            qtype: text("type"),
            edns_bytes: options["edns"].as_u64().map(|bytes| bytes.try_into().unwrap()),
            over_tcp: options["tcp"] == true,
            reply: sorted_sections(row["reply"].clone()),
            may_differ: row["may_differ"] == true,
        }
    }

    pub(super) fn question(&self) -> Message {
        let mut message = Message::query();
        message.metadata.id = 0x1234;
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii(format!("{}.", self.name)).unwrap();
        message.add_query(Query::query(name, self.qtype.parse().unwrap()));
        if let Some(bytes) = self.edns_bytes {
            let mut edns = Edns::new();
            edns.set_max_payload(bytes);
            message.set_edns(edns);
        }
        message
    }

    /// Whether `reply` is what was recorded.
    pub(super) fn is(&self, reply: &Message) -> bool {
        sorted_sections(summary(reply, &self.name)) == self.reply
    }

    /// What we reply where that is not what was recorded, as [`in_short`] says it.
    pub(super) fn otherwise(&self, reply: &Message) -> &'static str {
        let entry = |qtype: &str| OTHERWISE.iter().find(|(n, t, ..)| *n == self.name && *t == qtype);
        let plain = self.edns_bytes.is_none() && !self.over_tcp;
        let Some((.., ours, _)) = entry(&self.qtype).or_else(|| entry("*")).filter(|_| plain) else {
            panic!("{self}\nwant {}\n got {}", self.reply, summary(reply, &self.name));
        };
        assert!(self.may_differ, "{self}: differs although Consul is right");
        ours
    }
}

impl std::fmt::Display for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} edns={:?} tcp={}", self.name, self.qtype, self.edns_bytes, self.over_tcp)
    }
}

/// A reply in the form of the file: for `many` only the number of records.
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
pub(super) fn in_short(reply: &Message) -> String {
    let meta = &reply.metadata;
    match (reply.answers.len(), meta.truncation) {
        (0, _) if meta.response_code == ResponseCode::NoError && reply.authorities.len() == 1 => "NODATA".into(),
        (n, true) => format!("{n} cut"),
        _ => {
            let mut all: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
            all.sort();
            all.join(", ")
        }
    }
}
