//! What the targets share: recordings to begin from, and rows.

use std::path::Path;

use kvstore_core::{
    Index, State,
    row::{Row, Stamped},
};

/// The recordings, as JSON.
#[cfg(fuzzing)]
pub(crate) fn recordings() -> Vec<serde_json::Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/consul/http");
    let files = std::fs::read_dir(dir).expect("the recordings are there").map(|entry| entry.unwrap().path());
    files.map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).expect("a recording is JSON")).collect()
}

/// Names and types that were asked of a genuine Consul over DNS.
pub(crate) fn dns_recordings() -> Vec<(String, u16)> {
    const TYPES: [(&str, u16); 10] = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("ANY", 255),
    ];
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/consul/dns.json");
    let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).expect("it is JSON");
    let number = |name: &str| TYPES.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number);
    let queries = recorded["queries"].as_array().expect("a list of questions").iter();
    queries.map(|query| (query["name"].as_str().unwrap().to_owned(), number(query["type"].as_str().unwrap()))).collect()
}

/// Rows of every table, as they are stored.
pub(crate) const ROWS: &[(&str, &str)] = &[
    (
        "n/db-1",
        r#"{"created":1,"modified":1,"name":"Db-1","id":"5e1f","address":"10.0.0.1","tagged_addresses":{"lan":"10.0.0.1"},"meta":{"rack":"r1"}}"#,
    ),
    (
        "n/db-1/i/web%2F1",
        r#"{"created":1,"modified":1,"node":"db-1","id":"web/1","service":"web","tags":["v2"],"address":"10.0.0.9","port":81,"meta":{"version":"2"},"weights":{"passing":1,"warning":1},"tagged_addresses":{"lan":{"address":"10.0.0.9","port":8081}},"proxy":{"Mode":"direct"},"owner":"agent"}"#,
    ),
    (
        "n/db-1/c/c1",
        r#"{"created":1,"modified":1,"node":"db-1","id":"c1","name":"c","status":"critical","output":"line 1\nline 2","service":"web/1","kind":"http","probe":{"kind":{"http":{"url":"http://10.0.0.9/","method":"GET","header":{"Host":["x"]}}},"interval":10000,"timeout":1000,"thresholds":{"success_before_passing":1},"output_max_bytes":7,"deregister_after":60000},"owner":"agent"}"#,
    ),
    (
        "n/db-1/c/ttl",
        r#"{"created":1,"modified":1,"node":"db-1","id":"ttl","status":"passing","probe":{"kind":{"ttl":{"ttl":15000}}}}"#,
    ),
    ("k/a/b", r#"{"created":1,"modified":1,"key":"a/b","value":"text","flags":7,"lock_index":1}"#),
    (
        "s/11111111-1111-4111-8111-000000000001",
        r#"{"created":1,"modified":1,"id":"11111111-1111-4111-8111-000000000001","name":"s","node":"db-1","lock_delay":15000,"behavior":"delete","ttl_text":"30s","ttl":30000,"node_checks":[],"service_checks":[{"id":"c1"}]}"#,
    ),
    (
        "k/lock",
        r#"{"created":1,"modified":1,"key":"lock","value":"","lock_index":2,"session":"11111111-1111-4111-8111-000000000001","ttl":30000}"#,
    ),
    (
        "q/00000001-0000-4000-8000-00000000000a",
        r#"{"created":1,"modified":1,"id":"00000001-0000-4000-8000-00000000000a","name":"geo-","template":{"kind":"name_prefix_match","regexp":"^geo-(.*?)-?([^-]*)$","remove_empty_tags":true},"service":{"service":"${match(1)}","tags":["${match(2)}","!old"],"near":"_agent"}}"#,
    ),
    ("k/\u{e4}", r#"{"created":1,"modified":1,"key":"\u00e4","value":{"base64":"/wA="}}"#),
];

/// The state that they are.
pub(crate) fn state() -> State {
    let row = |(key, value): &(&str, &str)| -> Stamped<Row> {
        Row::decode(key, value.as_bytes()).expect("the rows above are rows")
    };
    State::load(Index(1), ROWS.iter().map(row))
}
