//! No bytes in a path, a query or a body make a panic or a 500 of ours: recorded requests, changed at random, and random
//! ones, to every endpoint. `SEED=n` does a run again; `HOSTILE_SECONDS=n` does more than the few of an ordinary run.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::harness::{Harness, endpoints};

#[derive(Clone, Debug)]
struct Request {
    method: String,
    uri: String,
    body: Vec<u8>,
}

/// Everything that was recorded with a genuine Consul; it is not looked at here what was answered.
fn recorded() -> Vec<Request> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/consul/http");
    let mut requests = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let scenario: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for step in scenario["steps"].as_array().unwrap() {
            let body = match &step["body"] {
                Value::Null => Vec::new(),
                Value::String(text) => text.clone().into_bytes(),
                json => json.to_string().into_bytes(),
            };
            let text = |name: &str| step[name].as_str().unwrap().to_owned();
            // A name that is filled in there is as good as any other here.
            requests.push(Request { method: text("method"), uri: text("path").replace(['$', '{', '}'], ""), body });
        }
    }
    assert!(requests.len() > 200, "the recordings are missing");
    requests
}

const WORDS: &[&str] = &[
    "a",
    "a/b",
    "n",
    "ext",
    "web",
    "web-1",
    "t",
    "db",
    "any",
    "critical",
    "",
    "/",
    "//",
    "..",
    "%00",
    "%ff",
    "%",
    "%zz",
    "%2F",
    "%F0%9F%A6%80",
    "%0A",
    "%22",
    "%5C",
    "+",
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "9007199254740993",
    "1e9",
    "10s",
    "-1ns",
    "9223372036854775807ns",
    "99999999h",
    "true",
    "v2:x",
    "rack:r1",
    "serfHealth",
    "_agent",
    "*",
    "11111111-1111-4111-8111-111111111111",
    "Node%20==%20n",
    "Meta.x%20is%20empty",
    "not%20not%20(Service%20in%20Tags)",
];

const PARAMETERS: &[&str] = &[
    "index",
    "wait",
    "dc",
    "ns",
    "partition",
    "stale",
    "consistent",
    "cached",
    "max_stale",
    "near",
    "node-meta",
    "tag",
    "passing",
    "filter",
    "pretty",
    "recurse",
    "keys",
    "separator",
    "raw",
    "cas",
    "flags",
    "acquire",
    "release",
    "ttl",
    "for",
    "hash",
    "format",
    "enable",
    "reason",
    "note",
    "status",
    "replace-existing-checks",
    "name",
    "node",
    "service",
    "payload",
    "loglevel",
    "logjson",
    "wan",
    "segment",
    "prune",
    "limit",
    "connect",
    "token",
];

fn pick<'a, T: ?Sized>(rng: &mut StdRng, of: &[&'a T]) -> &'a T {
    of[rng.random_range(0..of.len())]
}

/// Any bytes, as a client may write them into a path or query.
fn written(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => (0..rng.random_range(0..40)).fold(String::new(), |text, _| text + &format!("%{:02X}", rng.random::<u8>())),
        1 => pick(rng, WORDS).repeat(rng.random_range(1..60)),
        _ => pick(rng, WORDS).to_owned(),
    }
}

fn query(rng: &mut StdRng) -> String {
    let parameter = |rng: &mut StdRng| match rng.random_range(0..4) {
        0 => pick(rng, PARAMETERS).to_owned(),
        1 => format!("{}={}", written(rng), written(rng)),
        _ => format!("{}={}", pick(rng, PARAMETERS), written(rng)),
    };
    (0..rng.random_range(1..5)).map(|_| parameter(rng)).collect::<Vec<_>>().join("&")
}

/// A value that no field expects, or some do.
fn value(rng: &mut StdRng) -> Value {
    let texts = [
        "",
        "x",
        "\0\u{1F980}\n",
        "10s",
        "-5s",
        "0x10",
        "passing",
        "MQ==",
        "not base64!",
        "::",
        "0.0.0.0",
        "${name.full}",
        "(",
    ];
    match rng.random_range(0..12) {
        0 => Value::Null,
        1 => rng.random_bool(0.5).into(),
        2 => rng.random::<i64>().into(),
        3 => rng.random::<u64>().into(),
        4 => [-1, 0, 1, 65536, i64::MAX][rng.random_range(0..5)].into(),
        5 => json!(1e300),
        6 => "x".repeat(rng.random_range(0..2000)).into(),
        7 => json!([value(rng)]),
        8 => json!({pick(rng, &texts): value(rng)}),
        9 => (0..rng.random_range(1..200)).fold(json!(0), |inside, _| json!([inside])),
        _ => (*pick(rng, &texts)).into(),
    }
}

/// Changes something somewhere in `json`.
fn change(rng: &mut StdRng, json: &mut Value) {
    match json {
        Value::Array(items) if !items.is_empty() && rng.random_bool(0.8) => {
            let at = rng.random_range(0..items.len());
            if rng.random_bool(0.2) { items.push(items[at].clone()) } else { change(rng, &mut items[at]) }
        }
        Value::Object(fields) if !fields.is_empty() && rng.random_bool(0.9) => {
            let key = fields.keys().nth(rng.random_range(0..fields.len())).unwrap().clone();
            match rng.random_range(0..10) {
                0 => drop(fields.remove(&key)),
                1 => drop(fields.insert(key.to_lowercase(), value(rng))),
                _ => change(rng, &mut fields[&key]),
            }
        }
        other => *other = value(rng),
    }
}

fn body(rng: &mut StdRng, of: &[u8]) -> Vec<u8> {
    let mut bytes = match serde_json::from_slice::<Value>(of) {
        Ok(mut json) if rng.random_bool(0.7) => {
            (0..rng.random_range(0..4)).for_each(|_| change(rng, &mut json));
            json.to_string().into_bytes()
        }
        _ => of.to_vec(),
    };
    if rng.random_bool(0.3) {
        for _ in 0..rng.random_range(1..5) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, rng.random()),
                2 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
                _ => bytes.splice(at..at, b"{\"\\u".repeat(rng.random_range(1..20))).for_each(drop),
            }
        }
    }
    bytes
}

fn random(rng: &mut StdRng, recorded: &[Request], endpoints: &[(&str, &str)]) -> Request {
    let like = &recorded[rng.random_range(0..recorded.len())];
    let (mut method, mut uri) = if rng.random_bool(0.3) {
        (like.method.clone(), like.uri.clone())
    } else {
        let (method, path) = endpoints[rng.random_range(0..endpoints.len())];
        (method.to_owned(), if rng.random_bool(0.9) { format!("{path}{}", written(rng)) } else { path.to_owned() })
    };
    if rng.random_bool(0.05) {
        method = pick(rng, &["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"]).to_owned();
    }
    if rng.random_bool(0.6) {
        uri = format!("{uri}{}{}", if uri.contains('?') { '&' } else { '?' }, query(rng));
    }
    Request { method, uri, body: body(rng, &like.body) }
}

/// What is wrong with an answer.
fn fault(harness: &Harness, request: &Request) -> Option<String> {
    let reply = catch_unwind(AssertUnwindSafe(|| harness.ask(&request.method, &request.uri, request.body.clone())));
    let Ok(reply) = reply else { return Some("a panic".into()) };
    let reply = reply?;
    if reply.status == 500 && String::from_utf8_lossy(&reply.body).contains("panicked") {
        return Some("a panic in another thread, told".into());
    }
    reply.fault(&request.uri)
}

/// Requests for `time`, from `seed`; gives how many, and the first with each fault.
fn run(seed: u64, time: Duration) -> (usize, Vec<String>) {
    let (rng, recorded, endpoints) = (&mut StdRng::seed_from_u64(seed), recorded(), endpoints());
    let (harness, started, mut count) = (Harness::start(), Instant::now(), 0);
    let mut faults = BTreeMap::new();
    while started.elapsed() < time {
        let request = random(rng, &recorded, &endpoints);
        if let Some(fault) = fault(&harness, &request) {
            let Request { method, uri, body } = request;
            let kind = fault.chars().take(20).collect::<String>();
            let text = format!("request {count}: {method} {uri}\n{}\n{fault}", String::from_utf8_lossy(&body));
            faults.entry(kind).or_insert(text);
        }
        count += 1;
        if count % 500 == 0 {
            harness.restored();
        }
    }
    (count, faults.into_values().collect())
}

#[test]
fn no_bytes_make_a_panic_or_a_500_of_ours() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (seed, seconds) = (number("SEED").unwrap_or_else(rand::random), number("HOSTILE_SECONDS").unwrap_or(4));
    let (count, faults) = run(seed, Duration::from_secs(seconds));
    assert!(faults.is_empty(), "SEED={seed}\n{}", faults.join("\n\n"));
    println!("SEED={seed}: {count} requests");
    assert!(count > 100, "{count} requests say little");
}

#[test]
fn every_endpoint_stands_every_single_byte() {
    let harness = Harness::start();
    for (method, path) in endpoints() {
        for byte in 0..=255u8 {
            let uri = format!("{path}%{byte:02X}?%{byte:02X}=%{byte:02X}");
            let request = Request { method: method.into(), uri, body: vec![byte] };
            assert_eq!(fault(&harness, &request), None, "{request:?}");
        }
    }
}
