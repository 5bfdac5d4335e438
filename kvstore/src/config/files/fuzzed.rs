//! Configuration files, `j`, `y` or `h` for their form, a line end, and the text: none panics, and every fault is at a line
//! that there is.

use super::{
    super::{host::Facts, resolve::resolve},
    *,
};

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "j\n{\"node_name\": \"a\", \"ports\": {\"http\": 8500, \"dns\": -1}, \"services\": [{\"name\": \"web\", \"port\": 80, \"check\": {\"http\": \"http://x/\", \"interval\": \"10s\"}}]}",
        "y\nnode_name: a\nbind_addr: 0.0.0.0\nclient_addr: 127.0.0.1 10.0.0.1\nrecursors: [10.0.0.2]\ndns_config:\n  only_passing: true\n  service_ttl: {web: 5s}\nsnapshots: {directory: /tmp/x, every: 1h, keep: 7}\n",
        "h\nnode_name = \"a\"\nports { http = 8500 }\nservice { name = \"web\" tags = [\"a\"] check { tcp = \"x:1\" interval = \"1s\" } }\nacl { enabled = true default_policy = \"deny\" tokens { agent = \"x\" } }\n",
        "y\nservices:\n  - {id: a, name: b, weights: {passing: 1, warning: 70000}}\n  - name: ''\nunknown: 1\n",
        "j\n{\"limits\": {\"kv_max_value_size\": 1}, \"node_meta\": {\"a\": \"b\"}, \"advertise_addr\": \"10.0.0.1\", \"server\": true, \"tls\": {\"defaults\": {}}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// One input.
pub fn check(data: &[u8]) {
    let Some((form, text)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let form = match form {
        "j" => Format::Json,
        "y" => Format::Yaml,
        "h" => Format::Hcl,
        _ => return,
    };
    let mut faults = Vec::new();
    match Document::parse("f", text.to_owned(), form) {
        Ok(document) => {
            let mut layer = Layer::default();
            read_document(&document, &mut layer, &mut faults);
            let mut services = Vec::new();
            take(&document, &mut faults, |top| definitions::read(top, &mut services));
            resolve(layer, &Facts { hostname: Some("h".into()), ..Facts::default() }, &mut Vec::new());
        }
        Err(fault) => faults.push(fault),
    }
    // YAML has more line ends than one, and tells an end that comes too early behind the last.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    for Fault { place, why, .. } in &faults {
        assert!(!why.is_empty());
        let line = place.strip_prefix("f:").map(|line| line.parse::<usize>().expect("a line"));
        assert!(line.is_none_or(|line| line <= lines), "{place} of {lines}");
    }
}
