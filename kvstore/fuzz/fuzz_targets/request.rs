//! Requests to every endpoint, `METHOD PATH?QUERY`, a line end, and the body: none panics, none is answered by a 500 of
//! ours, and what they leave in the registry can be stored and read again.

#![no_main]

use std::cell::RefCell;

use kvstore::http::harness::Harness;
use kvstore_core::row::Row;
use libfuzzer_sys::fuzz_target;

/// After so many requests that changed nothing all is made anew too, for what is not a row.
const SPAN: usize = 10_000;

thread_local! {
    static HARNESS: RefCell<(Harness, usize)> = RefCell::new((Harness::start(), 0));
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for step in kvstore_fuzz::recordings().iter().flat_map(|recording| recording["steps"].as_array().unwrap()) {
        let body = match &step["body"] {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let path = step["path"].as_str().unwrap().replace(['$', '{', '}'], "");
        seeds.push(format!("{} {path}\n{body}", step["method"].as_str().unwrap()).into_bytes());
    }
    seeds
}

fn ask(harness: &Harness, data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(head) = std::str::from_utf8(&data[..end]) else { return };
    let Some((method, uri)) = head.split_once(' ') else { return };
    if uri.contains("/agent/leave") {
        return;
    }
    let before = harness.state().index();
    let Some(reply) = harness.ask(method, uri, data.get(end + 1..).unwrap_or_default().to_vec()) else { return };
    if let Some(fault) = reply.fault(uri) {
        panic!("{fault}");
    }
    if harness.state().index() != before {
        for row in harness.state().rows() {
            let (key, value) = (row.value.key().encode(), row.value.encode(row.created, row.modified));
            let again = Row::decode(&key, &value).unwrap_or_else(|error| panic!("{key} is lost: {error}"));
            assert_eq!(again, row, "{key} comes back as another");
        }
        harness.restored();
    }
}

fuzz_target!(
    init: kvstore_fuzz::write_seeds(seeds),
    |data: &[u8]| {
        HARNESS.with_borrow_mut(|(harness, asked)| {
            *asked += 1;
            if *asked % SPAN == 0 {
                *harness = Harness::start();
            }
            ask(harness, data);
        });
    }
);
