//! Random requests on random keys against a model of a few lines: the order of listings, compare-and-set, separators.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

/// Few, so that they meet; each is there, begins another, or has something in it that means something elsewhere.
const KEYS: &[&str] = &["a", "a/", "a/b", "a/b/c", "a//b", "ab", "a%2Fb", "ä/🦀", "~", "A", "a b+c", "..x", "\u{ffff}"];

struct Entry {
    value: Vec<u8>,
    flags: u64,
    created: u64,
    modified: u64,
}

/// What the registry must show.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Entry>,
}

impl Model {
    fn shown(&self, key: &str) -> Value {
        let Entry { value, flags, created, modified } = &self.keys[key];
        let value = if value.is_empty() { Value::Null } else { STANDARD.encode(value).into() };
        json!({"Key": key, "Value": value, "Flags": flags, "LockIndex": 0, "CreateIndex": created, "ModifyIndex": modified})
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
        self.keys.keys().filter(move |key| key.starts_with(prefix))
    }

    fn folded(&self, prefix: &str, separator: &str) -> Vec<String> {
        let fold = |key: &String| {
            let at = key[prefix.len()..].find(separator).filter(|_| !separator.is_empty());
            at.map_or_else(|| key.clone(), |at| key[..prefix.len() + at + separator.len()].to_owned())
        };
        let mut names: Vec<_> = self.below(prefix).map(fold).collect();
        names.dedup();
        names
    }
}

fn encode(key: &str) -> String {
    key.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") }).collect()
}

/// Status, index and body.
async fn send(method: &str, url: String, body: Vec<u8>) -> (u16, u64, Vec<u8>) {
    let response = reqwest::Client::new().request(method.parse().unwrap(), url).body(body).send().await.unwrap();
    let index = response.headers().get("x-consul-index").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), index, response.bytes().await.unwrap().to_vec())
}

pub(crate) async fn play(base: &str, rng: &mut StdRng, steps: usize) {
    let (mut model, mut newest) = (Model::default(), 0);
    for step in 0..steps {
        let key = KEYS[rng.random_range(0..KEYS.len())];
        let url = format!("{base}/v1/kv/{}", encode(key));
        let modified = model.keys.get(key).map_or(0, |entry| entry.modified);
        let cas = [None, Some(modified), Some(0), Some(7)][rng.random_range(0..4)];
        let with_cas = cas.map_or_else(String::new, |cas| format!("cas={cas}"));
        let about = format!("step {step}: {key:?} cas {cas:?}");
        match rng.random_range(0..10) {
            0..4 => {
                let flags = [0, u64::MAX][rng.random_range(0..2)];
                let length = [0, 1, 300][rng.random_range(0..3)];
                let value: Vec<u8> = (0..length).map(|_| if rng.random_bool(0.5) { 0xff } else { b'x' }).collect();
                let (status, _, body) = send("PUT", format!("{url}?flags={flags}&{with_cas}"), value.clone()).await;
                let matches = cas.is_none_or(|cas| cas == modified);
                assert_eq!((status, &body[..]), (200, matches.to_string().as_bytes()), "put, {about}");
                let (status, index, _) = send("GET", url, vec![]).await;
                if matches {
                    assert_eq!(status, 200, "{about}");
                    let old = model.keys.get(key);
                    let same = old.is_some_and(|old| (&old.value, old.flags) == (&value, flags));
                    let created = old.map_or(index, |old| old.created);
                    assert!(if same { index == modified } else { index > newest }, "the index after put, {about}");
                    newest = newest.max(index);
                    model.keys.insert(key.into(), Entry { value, flags, created, modified: index });
                }
            }
            4 => {
                let (status, _, body) = send("DELETE", format!("{url}?{with_cas}"), vec![]).await;
                let matches = modified == 0 || cas.is_none_or(|cas| cas == modified);
                assert_eq!((status, &body[..]), (200, matches.to_string().as_bytes()), "delete, {about}");
                if matches {
                    model.keys.remove(key);
                }
            }
            5 if rng.random_bool(0.3) => {
                let (status, _, body) = send("DELETE", format!("{url}?recurse"), vec![]).await;
                assert_eq!((status, &body[..]), (200, &b"true"[..]), "{about}");
                model.keys.retain(|name, _| !name.starts_with(key));
            }
            5 | 6 => {
                let (status, _, body) = send("GET", format!("{url}?raw"), vec![]).await;
                let wanted = model.keys.get(key).map_or((404, &[][..]), |entry| (200, &entry.value[..]));
                assert_eq!((status, &body[..]), wanted, "raw, {about}");
            }
            7 => {
                let separator = ["", "/", "b", "//"][rng.random_range(0..4)];
                let (status, _, body) = send("GET", format!("{url}?keys&separator={separator}"), vec![]).await;
                let names = model.folded(key, separator);
                if names.is_empty() {
                    assert_eq!((status, body.len()), (404, 0), "keys, {about}");
                } else {
                    assert_eq!(serde_json::from_slice::<Vec<String>>(&body).unwrap(), names, "{separator:?}, {about}");
                }
            }
            _ => {
                let (status, index, body) = send("GET", format!("{url}?recurse"), vec![]).await;
                let entries: Vec<_> = model.below(key).map(|name| model.shown(name)).collect();
                let shown = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let wanted = if entries.is_empty() { (404, Value::Null) } else { (200, entries.into()) };
                assert_eq!((status, shown), wanted, "recurse, {about}");
                let latest = model.below(key).map(|name| model.keys[name].modified).max();
                assert!(index >= latest.unwrap_or(1), "the index of a listing, {about}");
            }
        }
    }
}
