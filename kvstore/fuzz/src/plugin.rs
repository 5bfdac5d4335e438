//! What Docker asks the overlay's driver, a method, a line end, and a body: no bytes panic, and what is read is one call
//! only.

use std::path::Path;

use overlay::plugin::protocol;

/// What a real Docker asked.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../overlay/tests/fixtures/docker-20.10-plugin-session.jsonl");
    let text = std::fs::read_to_string(file).expect("the recording is there");
    let calls = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let seed = |call: serde_json::Value| {
        let body = if call["req"].is_null() { String::new() } else { call["req"].to_string() };
        Some(format!("{}\n{body}", call["m"].as_str()?).into_bytes())
    };
    calls.filter_map(seed).collect()
}

pub(crate) fn check(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(method) = std::str::from_utf8(&data[..end]) else { return };
    let body = &data[end + 1..];
    match protocol::read(method, body) {
        Ok(call) => assert_eq!(Ok(call), protocol::read(method, body)),
        Err(error) => assert!(error.to_string().len() < 1000 + 2 * data.len(), "{error}"),
    }
}
