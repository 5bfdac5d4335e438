//! Rows survive their encoding, whatever is in them; what is no row is an error that names it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::*;
use crate::health::{Status, Thresholds};

const NODE: &str = r#"{"created":1,"modified":2,"name":"n","address":"a"}"#;
const INSTANCE: &str = r#"{"created":1,"modified":2,"node":"n","id":"i","service":"web"}"#;
const CHECK: &str = r#"{"created":1,"modified":2,"node":"n","id":"c","status":"passing"}"#;
const QUERY: &str =
    r#"{"created":1,"modified":2,"id":"00000001-0000-4000-8000-00000000000a","service":{"service":"web"}}"#;
const TOKEN: &str = r#"{"created":1,"modified":2,"accessor":"00000001-0000-4000-8000-00000000000a"}"#;
const POLICY: &str = r#"{"created":1,"modified":2,"id":"00000001-0000-4000-8000-00000000000b","name":"p"}"#;
const BOOTSTRAP: &str = r#"{"created":1,"modified":2,"token":"00000001-0000-4000-8000-00000000000a"}"#;
const KV: &str = r#"{"created":1,"modified":2,"key":"a","value":"v"}"#;

/// Encodes `row`, decodes it, and compares.
fn round_trip(row: Row) {
    let (created, modified) = (Index(7), Index((1 << 53) - 1));
    let key = row.key().encode();
    let bytes = row.encode(created, modified);
    let decoded = Row::decode(&key, &bytes).unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(&bytes)));
    assert_eq!(RowKey::decode(&key), Some(row.key()));
    assert_eq!(decoded, Stamped { created, modified, value: row });
    for (said, created) in [(Some(created), created), (None, modified)] {
        let decoded = Row::decode_unstamped(&key, &decoded.value.encode_unstamped(said), modified).unwrap();
        assert_eq!(decoded, Stamped { created, modified, value: decoded.value.clone() });
    }
}

fn entry(key: &str, value: &[u8], flags: u64) -> Row {
    let key = Key::new(key).unwrap();
    Row::Kv(KvEntry {
        key,
        value: Bytes::copy_from_slice(value),
        flags,
        lock_index: 0,
        session: None,
        ttl: Duration::ZERO,
    })
}

fn node(name: &str, meta: Option<Meta>) -> Row {
    let (id, address) = ("\u{0}".into(), "10.0.0.1".into());
    Row::Node(Node { name: name.into(), id, address, tagged_addresses: meta.clone(), meta })
}

fn instance(node: &str, id: &str, service: &str, proxy: Value) -> Row {
    Row::Instance(Instance {
        node: NodeKey::new(node).unwrap(),
        id: InstanceId::new(id).unwrap(),
        service: service.into(),
        tags: vec![String::new(), id.into()],
        address: String::new(),
        port: u16::MAX,
        socket_path: "/\u{0}".into(),
        tagged_addresses: BTreeMap::from([(id.into(), TaggedAddress { address: id.into(), port: 1 })]),
        meta: Some(Meta::from([(id.into(), service.into())])),
        weights: Weights { passing: 0, warning: u16::MAX },
        enable_tag_override: true,
        kind: "kind".into(),
        connect: proxy.clone(),
        proxy,
        owner: Owner::Agent,
        from_file: false,
    })
}

/// With a text in every field.
fn query(text: &str) -> Row {
    let (list, pairs) = (json!([text, ""]), json!({text: text}));
    let failover = json!({"nearest_n": 3, "datacenters": list, "targets": [{"peer": text, "datacenter": text}]});
    let service = json!({
        "service": text, "failover": failover, "only_passing": true, "ignore_check_ids": list, "near": text, "tags": [],
        "node_meta": pairs, "service_meta": {}, "connect": true, "peer": text,
    });
    let row = json!({
        "id": "00000001-0000-4000-8000-00000000000a", "name": text, "session": text, "token": text, "service": service,
        "template": {"kind": text, "regexp": text, "remove_empty_tags": true}, "dns_ttl": {"spelled": text, "seconds": u32::MAX},
    });
    Row::Query(serde_json::from_value(row).unwrap())
}

fn token(text: &str) -> Row {
    Row::Token(Token {
        accessor: TokenId::new("00000001-0000-4000-8000-00000000000a").unwrap(),
        secret: Some(crate::credentials::Digest([0xa5; 32])),
        description: text.into(),
        policies: vec![PolicyId::new("00000001-0000-4000-8000-00000000000b").unwrap()],
        local: true,
        made: Duration::from_millis(1),
        ends: Duration::from_secs(1 << 40),
    })
}

fn policy(text: &str) -> Row {
    Row::Policy(Policy {
        id: PolicyId::new("00000001-0000-4000-8000-00000000000b").unwrap(),
        name: text.into(),
        description: text.into(),
        rules: text.into(),
        datacenters: vec![text.into()],
    })
}

fn check(node: &str, id: &str, kind: Option<ProbeKind>) -> Row {
    let probe = |kind| Probe::new(kind, Duration::from_millis(1), Duration::from_secs(1 << 40));
    Row::Check(Check {
        node: NodeKey::new(node).unwrap(),
        id: CheckId::new(id).unwrap(),
        name: id.into(),
        status: Status::Warning,
        notes: "\r\n".into(),
        output: "\u{7f}\u{2028}".into(),
        service: InstanceId::new(id).ok(),
        kind: "http".into(),
        probe: kind.map(probe).map(Arc::new),
        interval: "10s".into(),
        timeout: "1s".into(),
        definition: json!({"HTTP": "http://x/", "Header": {"a": ["b"]}}),
        owner: Owner::External,
        from_file: false,
    })
}

#[test]
fn rows_survive_their_encoding() {
    for name in ["n", "a/b", "%", "%2F", "n/i/x", "\u{130}\u{1F980}", "..", "\"\\", "k/", " "] {
        round_trip(node(name, None));
        round_trip(node(name, Some(Meta::from([(name.into(), name.into()), (String::new(), String::new())]))));
        round_trip(instance(name, name, name, json!([name, 1, -1, 1.5, null, {"created": name}])));
        round_trip(check(name, name, None));
        round_trip(query(name));
        round_trip(entry(name, name.as_bytes(), 0));
    }
    let http = ProbeKind::Http {
        url: "http://x/".into(),
        method: "GET".into(),
        header: BTreeMap::from([("A".into(), vec!["b".into(), "c".into()])]),
        body: "\u{0}".into(),
        no_redirects: true,
        tls_skip_verify: true,
        tls_server_name: "x".into(),
    };
    let ttl = ProbeKind::Ttl { ttl: Duration::from_millis(u64::MAX) };
    let (address, args) = ("[::1]:80".to_owned(), vec!["a b".to_owned(), String::new()]);
    let tls = Some(ProbeTls { skip_verify: true, server_name: "x".into() });
    for kind in [
        http,
        ttl,
        ProbeKind::Tcp { address: address.clone(), tls: None },
        ProbeKind::Tcp { address: address.clone(), tls: tls.clone() },
        ProbeKind::OsService { name: "cron".into() },
        ProbeKind::Reported,
        ProbeKind::Udp { address: address.clone() },
        ProbeKind::Script { args: args.clone() },
        ProbeKind::Docker { container: "web".into(), args },
        ProbeKind::Grpc { address: address.clone(), service: "s".into(), tls: None },
        ProbeKind::H2ping { address, tls },
        ProbeKind::Alias { node: NodeKey::new("n").unwrap(), service: InstanceId::new("i").ok() },
    ] {
        round_trip(check("n", "c", Some(kind)));
    }
    for value in [&b""[..], b"text", b"{\"base64\":\"AA==\"}", b"\0\xff", b"\xed\xa0\x80", "\u{FEFF}".as_bytes()] {
        for key in ["a", "/", "//", "\0", "\n", "k/n/x", "\u{10FFFF}", "a%2Fb"] {
            round_trip(entry(key, value, u64::MAX));
        }
    }
}

#[test]
fn random_texts_numbers_and_bytes_survive() {
    for seed in 0..300 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let length = rng.random_range(1..20);
        let text: String = (0..length).map(|_| rng.random::<char>()).collect();
        let name: String = text.chars().filter(|c| !c.is_control()).collect::<String>() + "x";
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        let number = json!(f64::from_bits(rng.random()));
        println!("seed {seed}: {text:?} {bytes:?} {number}");
        round_trip(entry(&text, &bytes, rng.random()));
        round_trip(entry(&text, text.as_bytes(), rng.random()));
        round_trip(node(&name, Some(Meta::from([(text.clone(), text.clone())]))));
        round_trip(instance(
            &name,
            &name,
            &name,
            json!({text.as_str(): [number, rng.random::<i64>(), rng.random::<u64>()]}),
        ));
        round_trip(check(&name, &name, None));
        round_trip(token(&text));
        round_trip(policy(&text));
    }
}

/// JSON is read to a depth that is as much as a request's body may have, so what came in can be read back.
#[test]
fn the_deepest_json_that_a_client_can_send_survives() {
    let body = |depth| format!(r#"{{"Proxy":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let depth = (1..1000).take_while(|depth| serde_json::from_str::<Value>(&body(*depth)).is_ok()).last().unwrap();
    let parsed: Value = serde_json::from_str(&body(depth)).unwrap();
    round_trip(instance("n", "i", "web", parsed["Proxy"].clone()));
}

/// The tables stay apart, and no name reaches into another's range.
#[test]
fn a_host_s_range_holds_its_rows_and_no_others() {
    let names = ["n", "n/i", "n%", "n%2Fi", "nn", "n/i/x", "i"];
    for of in names {
        let range = RowRange::Node(NodeKey::new(of).unwrap());
        for name in names {
            for row in [node(name, None), instance(name, of, "s", Value::Null), check(name, of, None)] {
                let key = row.key().encode();
                assert_eq!(range.contains(&key), name == of, "{key} in the range of {of}");
                assert!(name != of || key.starts_with(&range.prefix()));
            }
        }
        assert!(!range.contains(&entry(&format!("n/{of}"), b"", 0).key().encode()));
    }
}

#[test]
fn different_names_have_different_keys() {
    let ids = ["a/b", "a%2Fb", "a%252Fb", "a", "b", "a/i/b", "%", "%25"];
    let rows = ids.iter().flat_map(|id| [instance("n", id, "s", Value::Null), check("n", id, None)]);
    let keys: std::collections::BTreeSet<_> = rows.map(|row| row.key().encode()).collect();
    assert_eq!(keys.len(), 2 * ids.len(), "{keys:?}");
}

#[test]
fn a_prefix_holds_the_keys_that_begin_with_it() {
    for (prefix, key, inside) in [
        ("", "a", true),
        ("a", "a", true),
        ("a/", "a", false),
        ("a/", "a/b", true),
        ("a/b", "a/bc", true),
        ("\u{10FFFF}", "\u{10FFFF}x", true),
        ("%", "%2F", true),
    ] {
        let (range, key) = (RowRange::KvPrefix(prefix.into()), entry(key, b"", 0).key().encode());
        assert_eq!(range.contains(&key), inside, "{key} in {prefix}");
        assert!(!inside || key.starts_with(&range.prefix()));
    }
    assert!(!RowRange::KvPrefix(String::new()).contains("n/n"), "other tables have no keys");
}

#[test]
fn rows_of_other_versions_are_read() {
    let Row::Check(check) = Row::decode("n/n/c/c", CHECK.as_bytes()).unwrap().value else { panic!() };
    assert_eq!((check.owner, check.probe, check.output.as_str()), (Owner::External, None, ""));
    let newer = NODE.replace('}', r#","colour":"red"}"#);
    assert!(Row::decode("n/n", newer.as_bytes()).is_ok(), "a field that is not known yet");
}

#[test]
fn what_is_no_row_is_an_error_that_names_it() {
    let long = format!(r#"{{"created":1,"modified":2,"name":"{}","address":""}}"#, "x".repeat(2000));
    for (key, value, expected) in [
        ("", "{}", "no table has a row \"\""),
        ("k", "{}", "no table has a row \"k\""),
        ("k/", KV, "no table has a row \"k/\""),
        ("n", NODE, "no table has a row \"n\""),
        ("x/n", NODE, "no table has a row \"x/n\""),
        ("n/n/x/c", CHECK, "no table has a row \"n/n/x/c\""),
        ("n/n/c/c/d", CHECK, "no table has a row \"n/n/c/c/d\""),
        ("k/a", "", "row \"k/a\" cannot be read"),
        ("k/a", "[]", "row \"k/a\" cannot be read"),
        ("k/a", r#"{"created":1,"modified":2,"key":"a","value":{"base64":"?"}}"#, "row \"k/a\" cannot be read"),
        ("k/a", r#"{"created":1,"modified":-2,"key":"a","value":""}"#, "row \"k/a\" cannot be read"),
        ("k/a", r#"{"created":1,"key":"a","value":""}"#, "row \"k/a\" does not say when it was created and modified"),
        ("n/n", r#"{"created":1,"modified":2,"name":"","address":""}"#, "row \"n/n\" has an impossible name"),
        ("n/n", &long, "row \"n/n\" has an impossible name"),
        ("n/n/i/i", &INSTANCE.replace("web", "a\\n"), "row \"n/n/i/i\" has an impossible name"),
        ("n/n/i/i", &INSTANCE.replace("\"i\"", "\"\""), "row \"n/n/i/i\" cannot be read"),
        ("n/m", NODE, "row \"n/n\" is stored as \"n/m\""),
        ("n/n/i/j", INSTANCE, "row \"n/n/i/i\" is stored as \"n/n/i/j\""),
        ("n/m/c/c", CHECK, "row \"n/n/c/c\" is stored as \"n/m/c/c\""),
        ("k/b", KV, "row \"k/a\" is stored as \"k/b\""),
        ("q/x", QUERY, "row \"q/00000001-0000-4000-8000-00000000000a\" is stored as \"q/x\""),
        ("q/x", &QUERY.replace("a\",", "A\","), "row \"q/x\" cannot be read"),
        ("a/x", TOKEN, "no table has a row \"a/x\""),
        ("a/p/00000001-0000-4000-8000-00000000000a", TOKEN, "cannot be read"),
        ("a/t/x", TOKEN, "row \"a/t/00000001-0000-4000-8000-00000000000a\" is stored as \"a/t/x\""),
        ("a/p/x", POLICY, "row \"a/p/00000001-0000-4000-8000-00000000000b\" is stored as \"a/p/x\""),
        ("n/n", KV, "row \"n/n\" cannot be read"),
        ("n/n/c/c", INSTANCE, "row \"n/n/c/c\" cannot be read"),
    ] {
        let error = Row::decode(key, value.as_bytes()).expect_err(value).to_string();
        assert!(error.contains(expected), "{key} {value}: {error}");
    }
}

#[test]
fn garbage_is_an_error_and_no_panic() {
    let rows = [
        ("n/n", NODE),
        ("n/n/i/i", INSTANCE),
        ("n/n/c/c", CHECK),
        ("q/00000001-0000-4000-8000-00000000000a", QUERY),
        ("a/t/00000001-0000-4000-8000-00000000000a", TOKEN),
        ("a/p/00000001-0000-4000-8000-00000000000b", POLICY),
        ("a/bootstrap", BOOTSTRAP),
        ("k/a", KV),
    ];
    for seed in 0..5000 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (key, value) = rows[rng.random_range(0..rows.len())];
        let mut bytes = value.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, *b"{}[]\":,9").count()),
            }
        }
        println!("seed {seed}");
        if let Ok(row) = Row::decode(key, &bytes) {
            assert_eq!(row.value.key().encode(), key);
        }
    }
}

/// Fields came later than the first rows; those rows mean what they meant.
#[test]
fn a_probe_of_an_older_version_has_every_result_count_at_once() {
    let old: Probe = serde_json::from_value(json!({"kind": {"tcp": {"address": "h:1"}}, "interval": 1000})).unwrap();
    let kind = ProbeKind::Tcp { address: "h:1".into(), tls: None };
    assert_eq!(old, Probe::new(kind, Duration::from_secs(1), Duration::ZERO));
    let thresholds = Thresholds { failures_before_critical: 3, ..Thresholds::default() };
    let new = Probe { thresholds, output_max_bytes: Some(9), deregister_after: Duration::from_mins(1), ..old };
    let json = serde_json::to_value(&new).unwrap();
    assert_eq!(serde_json::from_value::<Probe>(json).unwrap(), new);
}
