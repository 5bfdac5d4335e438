//! Other names for those in the recordings: random ones, the same in what is sent and in what is expected.
//!
//! What was recorded is so the model of what must come: where a name was, its new name must be, and no other. The new
//! names have in them what names may have and paths, JSON and listings give a meaning to.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::Value;

/// Names that stand in filters without quotes, are keys of metadata, or name a host: letters and digits only.
const PLAIN: &[&str] = &["db", "ext1", "r1", "rack", "v2", "version", "web", "wire-node"];

/// Names that may be anything: keys, services, instances, checks, hosts, tags, events, sessions, reasons.
const FREE: &[&str] = &[
    "ace", "db-a", "deploy", "dir", "empty", "enc", "ext2", "extra", "find-pq", "kvb", "lk", "memory", "never", "none",
    "nothing", "pq", "primary", "redis", "redis-c", "redis1", "sp", "sub", "testing", "tx", "txn-node", "web2",
];

/// Values of keys.
const VALUES: &[&str] = &["one", "two", "v1", "v2", "v3", "v4", "b", "e", "p", "x", "y", "z"];

/// No upper case: names of hosts and services are compared without regard to case.
const LETTERS: &str = "abz09-_~ '\"\\%+#?&=;,<>[]{}()|^`@*äßжω漢🦀";

/// New names and values for the recorded ones.
#[derive(Default)]
pub(crate) struct Renaming {
    names: HashMap<String, String>,
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl Renaming {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let mut taken: Vec<String> = Vec::new();
        let mut names = HashMap::new();
        for (recorded, letters) in PLAIN.iter().map(|n| (n, "abcxyz019")).chain(FREE.iter().map(|n| (n, LETTERS))) {
            let letters: Vec<char> = letters.chars().collect();
            let name = loop {
                let length = rng.random_range(1..24);
                let rest = (0..length).map(|_| letters[rng.random_range(0..letters.len())]);
                // A letter first: identifiers in filters begin with one, and tags that begin with `!` mean others.
                let name: String = std::iter::once('n').chain(rest).collect();
                // One that begins another would be found, and deleted, with it as the recorded ones were not.
                let begins = |other: &String| other.starts_with(&name) || name.starts_with(other);
                if !taken.iter().any(begins) {
                    taken.push(name.clone());
                    break name;
                }
            };
            names.insert((*recorded).to_owned(), name);
        }
        let value = |rng: &mut StdRng| -> Vec<u8> {
            let length = rng.random_range(1..400);
            (0..length).map(|_| rng.random()).collect()
        };
        let values = VALUES.iter().map(|recorded| (recorded.as_bytes().to_vec(), value(rng))).collect();
        Self { names, values }
    }

    /// The new name of a host, say.
    pub(crate) fn name(&self, recorded: &str) -> String {
        self.names.get(recorded).cloned().unwrap_or_else(|| recorded.to_owned())
    }

    pub(crate) fn is_none(&self) -> bool {
        self.names.is_empty()
    }

    /// Every recorded name in `text` by its new one: those that stand there as whole words.
    fn text(&self, text: &str) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let mut renamed = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
            renamed.push_str(&rest[..start]);
            renamed.push_str(&self.name(&rest[start..end]));
            rest = &rest[end..];
        }
        renamed + rest
    }

    pub(crate) fn value(&self, recorded: &[u8]) -> Vec<u8> {
        self.values.get(recorded).cloned().unwrap_or_else(|| recorded.to_vec())
    }

    /// A path with its parameters, part by part, so that no new name makes other parts of it.
    pub(crate) fn path(&self, recorded: &str) -> String {
        if self.is_none() {
            return recorded.to_owned();
        }
        let part = |encoded: &str| encode(&self.text(&decode(encoded)));
        let (path, query) = recorded.split_once('?').map_or((recorded, None), |(path, query)| (path, Some(query)));
        // Of the names only this one is a part of an endpoint's own path.
        let segment = |encoded: &str| if encoded == "version" { encoded.to_owned() } else { part(encoded) };
        let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
        let parameter = |parameter: &str| match parameter.split_once('=') {
            Some((name, value)) => format!("{name}={}", part(value)),
            None => parameter.to_owned(),
        };
        let query = query.map(|query| query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
        query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
    }

    /// A body: names in texts and keys of objects; values, which are base64, as a whole.
    pub(crate) fn json(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => {
                let renamed = fields.iter().map(|(key, value)| match (key.as_str(), value) {
                    ("Value", Value::String(text)) => {
                        let bytes = STANDARD.decode(text).expect("values are base64");
                        (key.clone(), STANDARD.encode(self.value(&bytes)).into())
                    }
                    // A word of the API that is the name of a key of metadata elsewhere.
                    ("Status" | "Verb" | "Type", _) => (key.clone(), value.clone()),
                    _ => (self.text(key), self.json(value)),
                });
                Value::Object(renamed.collect())
            }
            other => other.clone(),
        }
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
        bytes.push(hex.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}

fn encode(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// Makes two answers comparable whose lists are in the order of other names.
pub(crate) fn sort(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_cached_key(identity);
        }
        Value::Object(fields) => fields.values_mut().for_each(sort),
        _ => {}
    }
}

/// Without what differs from run to run.
fn identity(value: &Value) -> String {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, value| {
                    !key.contains("Index") && !matches!(value, Value::String(s) if super::is_uuid(s))
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = value.clone();
    strip(&mut value);
    value.to_string()
}
