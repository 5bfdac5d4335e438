//! Random commands over a few names, so that they meet.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use kvstore_core::{
    Command, KvVerb, RowVerb, Target, TxnStep,
    credentials::{ANONYMOUS, Digest, GLOBAL_MANAGEMENT, Policy, Token},
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey, PolicyId, SessionId, TokenId},
    prepared_query::{NAME_PREFIX_MATCH, PreparedQuery, QueryId},
    row::{Behavior, Check, Instance, Node, Owner, Probe, ProbeKind, ServiceCheck, Session, TaggedAddress, Weights},
};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::naive::Naive;

pub(crate) const KEYS: &[&str] =
    &["a", "a/", "a/b", "a/b/c", "ab", "b", "%2F", "\u{10FFFF}", "\n", "n/n1", "callers/N/1/10.0.0.1/c", "callers/n1/"];
pub(crate) const NODES: &[&str] = &["n1", "N1", "n", "n/1", "\u{c4}%"];
pub(crate) const SERVICES: &[&str] = &["web", "Web", "db/1"];
const INSTANCES: &[&str] = &["i1", "i/2"];
const SESSIONS: &[&str] = &["s1", "s/2"];
pub(crate) const QUERIES: &[&str] = &[QUERY, "0000000a-0000-4000-8000-000000000001"];
const QUERY: &str = "0000000a-0000-4000-8000-000000000000";
/// A name may look like an id, and be another's beginning.
pub(crate) const QUERY_NAMES: &[&str] = &["", "q", "Q", "qu", "quer", "\u{c4}", QUERY];
const TOKENS: &[&str] = &["0000000b-0000-4000-8000-000000000000", "0000000b-0000-4000-8000-000000000001", ANONYMOUS];
const POLICIES: &[&str] =
    &["0000000c-0000-4000-8000-000000000000", "0000000c-0000-4000-8000-000000000001", GLOBAL_MANAGEMENT];
const CHECKS: &[&str] = &["serfHealth", "c1", "c/2"];

fn pick<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

fn key(rng: &mut StdRng) -> Key {
    Key::new(pick(rng, KEYS)).unwrap()
}

fn node_key(rng: &mut StdRng) -> NodeKey {
    NodeKey::new(pick(rng, NODES)).unwrap()
}

fn instance_id(rng: &mut StdRng) -> InstanceId {
    InstanceId::new(pick(rng, INSTANCES)).unwrap()
}

fn check_id(rng: &mut StdRng) -> CheckId {
    CheckId::new(pick(rng, CHECKS)).unwrap()
}

fn owner(rng: &mut StdRng) -> Owner {
    pick(rng, &[Owner::Agent, Owner::External])
}

fn status(rng: &mut StdRng) -> Status {
    pick(rng, &[Status::Passing, Status::Warning, Status::Critical])
}

fn text(rng: &mut StdRng) -> String {
    pick(rng, &["", "x", "y\n\"\\\u{0}"]).into()
}

fn json(rng: &mut StdRng) -> Value {
    pick(rng, &[Value::Null, json!({"a": [1, -1, 0.5, 1e300, null, "\u{1F980}"], "created": 7, "id": {"": {}}})])
        .clone()
}

fn session_id(rng: &mut StdRng) -> SessionId {
    SessionId::new(pick(rng, SESSIONS)).unwrap()
}

fn query_id(rng: &mut StdRng) -> QueryId {
    QueryId::new(pick(rng, QUERIES)).unwrap()
}

fn query(rng: &mut StdRng, naive: &Naive) -> Box<PreparedQuery> {
    let live = naive.sessions.keys().map(SessionId::as_str);
    let sessions: Vec<&str> = ["", "never"].into_iter().chain(live.clone()).chain(live).collect();
    let kind = pick(rng, &["", "", NAME_PREFIX_MATCH, NAME_PREFIX_MATCH, "other"]);
    let service = pick(rng, &["", "web", "web", "${name.full}|${name.suffix}"]);
    let row = json!({
        "id": query_id(rng), "name": pick(rng, QUERY_NAMES), "template": {"kind": kind}, "service": {"service": service},
        "session": pick(rng, &sessions),
    });
    Box::new(serde_json::from_value(row).unwrap())
}

fn token_id(rng: &mut StdRng) -> TokenId {
    TokenId::new(pick(rng, TOKENS)).unwrap()
}

fn policy_id(rng: &mut StdRng) -> PolicyId {
    PolicyId::new(pick(rng, POLICIES)).unwrap()
}

fn token(rng: &mut StdRng) -> Box<Token> {
    let policies = (0..rng.random_range(0..3)).map(|_| policy_id(rng)).collect();
    Box::new(Token {
        accessor: token_id(rng),
        secret: Some(Digest([pick(rng, &[1, 2, 3]); 32])),
        description: text(rng),
        policies,
        local: rng.random_bool(0.5),
        made: Duration::from_secs(1),
        ends: Duration::ZERO,
    })
}

#[allow(clippy::unnecessary_box_returns)] // as the commands want it
fn policy(rng: &mut StdRng) -> Box<Policy> {
    let (id, name, rules) = (policy_id(rng), pick(rng, &["p", "q", "r", "a b"]).into(), String::new());
    Box::new(Policy { id, name, description: text(rng), rules, datacenters: vec![] })
}

fn acl_command(rng: &mut StdRng) -> Command {
    match rng.random_range(0..12) {
        0 => {
            let management = rng.random_bool(0.5).then(|| token(rng));
            Command::PrepareAcl { now: Duration::from_secs(1), management }
        }
        1 => Command::BootstrapAcl { token: token(rng), reset: None },
        2 | 3 => Command::CreateToken { token: token(rng) },
        4 | 5 => {
            let Token { accessor, description, policies, .. } = *token(rng);
            Command::UpdateToken { token: accessor, description, policies }
        }
        6 => Command::DeleteToken { token: token_id(rng) },
        7 => Command::ExpireToken { token: token_id(rng) },
        8 | 9 => Command::CreatePolicy { policy: policy(rng) },
        10 => Command::UpdatePolicy { policy: policy(rng) },
        _ => Command::DeletePolicy { policy: policy_id(rng) },
    }
}

fn value(rng: &mut StdRng) -> Bytes {
    let values: [&'static [u8]; 4] = [b"", b"text", b"{\"base64\":\"\"}", &[0, 0xff, 0xfe]];
    Bytes::from_static(pick::<&[u8]>(rng, &values))
}

/// A command, sometimes one with a compare-and-set that matches.
pub(crate) fn random(rng: &mut StdRng, naive: &Naive) -> Command {
    match rng.random_range(0..180) {
        160..180 => acl_command(rng),
        130..142 => Command::CreateQuery { query: query(rng, naive) },
        142..156 => Command::UpdateQuery { query: query(rng, naive) },
        156..160 => Command::DeleteQuery { query: query_id(rng) },
        0..16 => {
            let (key, value) = (key(rng), value(rng));
            Command::KvPut {
                cas: cas(rng, naive, &key),
                key,
                value,
                flags: pick(rng, &[0, 1, u64::MAX]),
                ttl: Duration::ZERO,
            }
        }
        16..22 => {
            let key = key(rng);
            Command::KvDelete { cas: cas(rng, naive, &key), key }
        }
        22..24 => Command::KvDeleteTree { prefix: pick(rng, &["", "a", "a/", "a/b", "x"]).into() },
        24..44 => register(rng),
        44..56 => {
            let instance = instance(rng, None);
            let checks = checks(rng, &instance.node, Some(&instance.id), Some(Owner::Agent));
            Command::RegisterInstance { instance: instance.into(), checks, replace_checks: rng.random_bool(0.5) }
        }
        56..62 => {
            let (node, of) = (node_key(rng), instance_id(rng));
            let of = rng.random_bool(0.6).then_some(of);
            Command::RegisterCheck { check: check(rng, &node, of.as_ref(), Some(Owner::Agent)).into() }
        }
        62..70 => Command::Deregister { node: node_key(rng), target: target(rng) },
        70..74 => Command::DeregisterOwn { node: node_key(rng), target: target(rng) },
        74..76 => Command::Undefine { node: node_key(rng), target: target(rng) },
        76..84 => {
            Command::ReportTtl { node: node_key(rng), check: check_id(rng), status: status(rng), output: text(rng) }
        }
        84..88 => Command::ExpireTtl { node: node_key(rng), check: check_id(rng) },
        88..91 => Command::ReapCritical { node: node_key(rng), check: check_id(rng), probe: probe(rng) },
        100..112 => session_command(rng),
        112..130 => {
            let steps = (0..rng.random_range(0..5)).map(|_| step(rng, naive)).collect();
            Command::Txn { steps }
        }
        _ => Command::ProbeResult {
            node: node_key(rng),
            check: check_id(rng),
            probe: probe(rng),
            status: status(rng),
            output: text(rng),
        },
    }
}

fn session_command(rng: &mut StdRng) -> Command {
    let session = session_id(rng);
    match rng.random_range(0..12) {
        0..4 => Command::CreateSession { session: new_session(rng, session).into() },
        4 => Command::RenewSession { session },
        5 => Command::DestroySession { session },
        6 => Command::ExpireSession { session },
        7..10 => {
            let (key, value, flags, delayed) = (key(rng), value(rng), pick(rng, &[0, 7]), rng.random_bool(0.1));
            Command::KvLock { key, value, flags, session, delayed }
        }
        _ => Command::KvUnlock { key: key(rng), value: value(rng), flags: 0, session },
    }
}

fn new_session(rng: &mut StdRng, id: SessionId) -> Session {
    let none = Vec::new;
    Session {
        id,
        name: text(rng),
        node: node_key(rng),
        lock_delay: Duration::from_secs(1),
        behavior: pick(rng, &[Behavior::Release, Behavior::Delete]),
        ttl_text: String::new(),
        ttl: Duration::ZERO,
        node_checks: if rng.random_bool(0.5) { vec![check_id(rng)] } else { none() },
        service_checks: rng
            .random_bool(0.3)
            .then(|| vec![ServiceCheck { id: check_id(rng), namespace: String::new() }]),
        ending: false,
    }
}

fn step(rng: &mut StdRng, naive: &Naive) -> TxnStep {
    match rng.random_range(0..14) {
        0 => TxnStep::KvGetTree("a".into()),
        1 => TxnStep::KvDeleteTree(pick(rng, &["a/", "x"]).into()),
        2 => {
            let node = node(rng);
            TxnStep::Node { verb: row_verb(rng), name: Some(node.key()), node: node.into() }
        }
        3 | 4 => {
            let instance = Instance { owner: Owner::External, ..instance(rng, None) };
            let (node, id) = (instance.node.clone(), instance.id.clone());
            TxnStep::Instance { verb: row_verb(rng), node, id, instance: Some(instance.into()) }
        }
        5 | 6 => {
            let (node, of) = (node_key(rng), rng.random_bool(0.5).then(|| instance_id(rng)));
            let check = check(rng, &node, of.as_ref(), Some(Owner::External));
            TxnStep::Check { verb: row_verb(rng), node, id: check.id.clone(), check: Some(check.into()) }
        }
        _ => {
            let key = key(rng);
            let index = cas(rng, naive, &key).unwrap_or(0);
            let verb = match rng.random_range(0..16) {
                0..4 => KvVerb::Set,
                4 => KvVerb::Cas(index),
                5 | 6 => KvVerb::Lock { session: session_id(rng), delayed: rng.random_bool(0.1) },
                7 => KvVerb::Unlock(session_id(rng)),
                8 => KvVerb::Get,
                9 => KvVerb::GetOrEmpty,
                10 => KvVerb::CheckIndex(index),
                11 => KvVerb::CheckSession(pick(rng, &["", "s1"]).into()),
                12 => KvVerb::CheckNotExists,
                13 => KvVerb::DeleteCas(index),
                _ => KvVerb::Delete,
            };
            TxnStep::Kv { verb, key, value: value(rng), flags: pick(rng, &[0, 1]) }
        }
    }
}

fn row_verb(rng: &mut StdRng) -> RowVerb {
    pick(rng, &[RowVerb::Get, RowVerb::Set, RowVerb::Set, RowVerb::Cas(0), RowVerb::Delete, RowVerb::DeleteCas(1)])
}

fn cas(rng: &mut StdRng, naive: &Naive, key: &Key) -> Option<u64> {
    let current = naive.kv.get(key.as_str()).map_or(0, |entry| entry.modified.0);
    pick(rng, &[None, None, Some(current), Some(0), Some(1)])
}

fn target(rng: &mut StdRng) -> Target {
    match rng.random_range(0..5) {
        0 => Target::Node,
        1 | 2 => Target::Instance(instance_id(rng)),
        _ => Target::Check(check_id(rng)),
    }
}

fn node(rng: &mut StdRng) -> Node {
    let name = pick(rng, NODES);
    Node {
        name: name.into(),
        id: pick(rng, &["", "uuid-1", "uuid-2"]).into(),
        address: pick(rng, &["10.0.0.1", "10.0.0.2", "host"]).into(),
        tagged_addresses: pick(rng, &[None, Some(BTreeMap::from([("lan".into(), "10.0.0.1".into())]))]),
        meta: pick(rng, &[None, Some(BTreeMap::new()), Some(BTreeMap::from([(String::new(), "\"".into())]))]),
    }
}

fn register(rng: &mut StdRng) -> Command {
    let node = node(rng);
    let key = node.key();
    let instance = rng.random_bool(0.6).then(|| instance(rng, Some(&key)));
    let of = instance.as_ref().map(|i| i.id.clone()).or_else(|| rng.random_bool(0.3).then(|| instance_id(rng)));
    let of = of.filter(|_| rng.random_bool(0.8));
    let checks = checks(rng, &key, of.as_ref(), None);
    Command::Register { node, keep_node: rng.random_bool(0.5), instance: instance.map(Box::new), checks }
}

fn instance(rng: &mut StdRng, node: Option<&NodeKey>) -> Instance {
    Instance {
        node: node.cloned().unwrap_or_else(|| node_key(rng)),
        id: instance_id(rng),
        service: pick(rng, SERVICES).into(),
        tags: pick(rng, &[vec![], vec!["v1".into()], vec!["v2".into(), "v1".into()]]),
        address: pick(rng, &["", "10.0.0.2"]).into(),
        port: pick(rng, &[0, 80]),
        socket_path: String::new(),
        tagged_addresses: tagged(rng),
        meta: pick(
            rng,
            &[
                None,
                Some(BTreeMap::from([("version".into(), "v1".into())])),
                Some(BTreeMap::from([("version".into(), "v2".into())])),
            ],
        ),
        weights: Weights::default(),
        enable_tag_override: false,
        kind: String::new(),
        proxy: json(rng),
        connect: Value::Null,
        owner: owner(rng),
        from_file: rng.random_bool(0.3),
    }
}

/// Addresses, some of a container's networks.
fn tagged(rng: &mut StdRng) -> BTreeMap<String, TaggedAddress> {
    let address = |ip: &str| TaggedAddress { address: ip.into(), port: 80 };
    let one = |tag: &str, ip| BTreeMap::from([(tag.to_owned(), address(ip))]);
    pick(rng, &[BTreeMap::new(), one("lan_ipv4", "10.0.0.3"), one("net.a", "10.0.0.3"), one("net.a", "10.0.0.2")])
}

fn checks(rng: &mut StdRng, node: &NodeKey, of: Option<&InstanceId>, owner: Option<Owner>) -> Vec<Check> {
    (0..rng.random_range(0..3)).map(|_| check(rng, node, of, owner)).collect()
}

fn check(rng: &mut StdRng, node: &NodeKey, of: Option<&InstanceId>, owned_by: Option<Owner>) -> Check {
    Check {
        node: node.clone(),
        id: check_id(rng),
        name: text(rng),
        status: status(rng),
        notes: String::new(),
        output: text(rng),
        service: of.cloned(),
        kind: String::new(),
        probe: rng.random_bool(0.8).then(|| probe(rng)),
        interval: String::new(),
        timeout: String::new(),
        definition: json(rng),
        owner: owned_by.unwrap_or_else(|| owner(rng)),
        from_file: rng.random_bool(0.3),
    }
}

fn probe(rng: &mut StdRng) -> Arc<Probe> {
    let ttl = ProbeKind::Ttl { ttl: Duration::from_secs(10) };
    let kind = pick(rng, &[ttl, ProbeKind::Tcp { address: "10.0.0.1:80".into(), tls: None }]);
    Arc::new(Probe::new(kind, Duration::ZERO, Duration::ZERO))
}
