//! Requests to every endpoint, `METHOD PATH?QUERY`, a line end, and the body: none panics, none is answered by a 500 of
//! ours, and what they leave in the registry can be stored and read again.

use std::cell::RefCell;

use kvstore::http::harness::Harness;

/// After so many requests that changed nothing all is made anew too, for what is not a row.
const SPAN: usize = 10_000;

thread_local! {
    static HARNESS: RefCell<(Harness, usize)> = RefCell::new((Harness::start(), 0));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for step in crate::given::recordings().iter().flat_map(|recording| recording["steps"].as_array().unwrap()) {
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

pub(crate) fn check(data: &[u8]) {
    HARNESS.with_borrow_mut(|(harness, asked)| {
        *asked += 1;
        if *asked % SPAN == 0 {
            *harness = Harness::start();
        }
        harness.endure(data);
    });
}
