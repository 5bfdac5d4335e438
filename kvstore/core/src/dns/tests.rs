//! Questions asked as packets, replies read by another library's decoder.

mod forms;
mod hostile;
mod networks;
mod queries;
mod recorded;
mod replies;
mod tricks;
mod versions;

use hickory_proto::{
    op::{Edns, Message, MessageType, Query},
    rr::{Name, Record, RecordType},
};
use serde_json::{Value, json};

use super::{Asked, DnsConfig, Reaction, Transport, Zone, respond};
use crate::{
    Command, Index, State, decide,
    names::NodeKey,
    row::{Check, Instance, Node, Row, Stamped},
};

/// The state that registrations leave; separated by commas, each one of:
///
/// - `node alpha 10.5.0.1 rack=r1 v6=2001:db8::1 critical`: a host with metadata, a tagged address, a failing check
/// - `web 10.0.0.1:80 warning #v1`: an instance on a host of its own, `n1`, `n2`..., that has the address
/// - `web 10.0.0.1:80 passing @alpha`: an instance with its own address on a host; `:80` has its host's
///
/// An instance may have `weight=5/2` (passing, warning) too, `v6=...`, and metadata such as `team=a`.
fn catalog(text: &str) -> State {
    let mut state = State::empty(Index(1000));
    for (i, entry) in text.split(',').map(str::trim).filter(|e| !e.is_empty()).enumerate() {
        let command = register(entry, i + 1, &state);
        apply(&mut state, &command);
    }
    state
}

fn apply(state: &mut State, command: &Command) {
    let decision = decide(state, command).expect("the catalog of a test fits");
    if !decision.changes.is_empty() {
        state.apply(state.index().next(), &decision.changes);
    }
}

fn register(entry: &str, number: usize, state: &State) -> Command {
    let words: Vec<&str> = entry.split_whitespace().collect();
    if let ["node", name, address, rest @ ..] = &words[..] {
        let mut node = json!({"name": name, "address": address});
        for (key, value) in rest.iter().filter_map(|word| word.split_once('=')) {
            match key {
                "v6" => node["tagged_addresses"]["lan_ipv6"] = json!(value),
                _ => node["meta"][key] = json!(value),
            }
        }
        let critical = rest.contains(&"critical").then(|| json!({"id": "alive", "status": "critical"}));
        return command(node, None, critical);
    }
    let [service, place, status, rest @ ..] = &words[..] else { panic!("{entry}") };
    let (address, port) = place.rsplit_once(':').expect(entry);
    let id = format!("{service}-{number}");
    let tags: Vec<&str> = rest.iter().filter_map(|word| word.strip_prefix('#')).collect();
    let port: u16 = port.parse().expect(entry);
    let mut instance = json!({"id": id, "service": service, "port": port, "tags": tags});
    for (key, value) in rest.iter().filter_map(|word| word.split_once('=')) {
        match (key, value.split_once('/')) {
            ("weight", Some((passing, warning))) => {
                let (passing, warning): (u16, u16) = (passing.parse().unwrap(), warning.parse().unwrap());
                instance["weights"] = json!({"passing": passing, "warning": warning});
            }
            ("v6", _) => instance["tagged_addresses"]["lan_ipv6"] = json!({"address": value, "port": port}),
            _ => instance["meta"][key] = json!(value),
        }
    }
    let node = match rest.iter().find_map(|word| word.strip_prefix('@')) {
        Some(name) => {
            instance["address"] = json!(address);
            let node = state.node(&NodeKey::new(name).unwrap()).expect(entry);
            serde_json::to_value(&node.value).unwrap()
        }
        None => json!({"name": format!("n{number}"), "address": address}),
    };
    let check = json!({"id": format!("service:{id}"), "status": status, "service": id});
    command(node, Some(instance), Some(check))
}

/// Keeps a prepared query; `definition` has the fields of its row but the id.
fn keep(state: &mut State, mut definition: Value) {
    let number = state.queries().count();
    definition["id"] = json!(format!("{number:08x}-0000-4000-8000-000000000000"));
    let value = Row::Query(serde_json::from_value(definition).expect("a query"));
    state.insert(Stamped { created: state.index(), modified: state.index(), value });
}

/// Registers rows given as JSON; the node's key is filled in.
fn command(node: Value, instance: Option<Value>, check: Option<Value>) -> Command {
    let node: Node = serde_json::from_value(node).unwrap();
    let on_node = |mut row: Value| {
        row["node"] = json!(node.key());
        row
    };
    let instance = instance.map(|row| serde_json::from_value::<Instance>(on_node(row)).unwrap());
    let checks = check.map(|row| serde_json::from_value::<Check>(on_node(row)).unwrap());
    Command::Register { keep_node: false, instance: instance.map(Box::new), checks: checks.into_iter().collect(), node }
}

fn config() -> DnsConfig {
    DnsConfig {
        node: "registry".into(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        ..DnsConfig::default()
    }
}

fn asked(by: Transport) -> Asked<'static> {
    Asked { from: "127.0.0.1".parse().unwrap(), by, seed: 1, unix_seconds: 1_700_000_000, distances: &() }
}

/// A question such as `web.service.consul. A`.
fn question(text: &str) -> Message {
    let (name, qtype) = text.split_once(' ').expect("name and type");
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    let qtype: RecordType = qtype.parse().expect(text);
    message.add_query(Query::query(Name::from_ascii(name).expect(text), qtype));
    message
}

/// Offers `bytes` by EDNS.
fn with_edns(mut message: Message, bytes: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(bytes);
    message.set_edns(edns);
    message
}

/// What comes back, and how many bytes it had; `None` if nothing does or the name is in other hands.
fn reply(state: &State, config: DnsConfig, packet: &[u8], asked: &Asked<'_>) -> Option<(Message, usize)> {
    let zone = Zone::new(config).unwrap();
    let mut out = b"left from before".to_vec();
    match respond(packet, asked, state, &zone, &mut out) {
        Reaction::Reply => Some((Message::from_vec(&out).expect("a reply that others can read"), out.len())),
        Reaction::Ignore | Reaction::Forward(_) => None,
    }
}

fn ask_over(by: Transport, state: &State, config: DnsConfig, message: &Message) -> (Message, usize) {
    let found = reply(state, config, &message.to_vec().unwrap(), &asked(by));
    let (reply, bytes) = found.expect("a reply");
    assert_eq!(reply.metadata.id, message.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.queries, message.queries);
    (reply, bytes)
}

fn ask(state: &State, config: DnsConfig, text: &str) -> Message {
    ask_over(Transport::Tcp, state, config, &question(text)).0
}

fn sorted(records: &[Record], show: impl Fn(&Record) -> String) -> String {
    let mut all: Vec<String> = records.iter().map(show).collect();
    all.sort();
    all.join(", ")
}
