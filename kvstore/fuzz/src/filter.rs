//! Filter expressions: no text panics, and what is one takes exactly the rows that its negation does not.

use std::sync::LazyLock;

use kvstore_core::{
    Index, State,
    filter::{
        CATALOG, CHECK, CatalogRecord, CheckRecord, ENTRY, EntryRecord, Filter, NODE, NodeRecord, Problem, Record,
        SERVICE, Schema, ServiceRecord,
    },
    row::{Row, Stamped},
};

/// One host with one instance and a check of each kind of field: rows as they are stored.
const ROWS: &[(&str, &str)] = &[
    (
        "n/db-1",
        r#"{"created": 1, "modified": 1, "name": "Db-1", "id": "5e1f", "address": "10.0.0.1",
            "tagged_addresses": {"lan": "10.0.0.1"}, "meta": {"rack": "r1", "os/arch": "linux"}}"#,
    ),
    (
        "n/db-1/i/web-1",
        r#"{"created": 1, "modified": 1, "node": "db-1", "id": "web-1", "service": "web", "tags": ["v2", "not"],
            "address": "10.0.0.9", "port": 81, "meta": {"version": "2"}, "enable_tag_override": true,
            "tagged_addresses": {"lan": {"address": "10.0.0.9", "port": 8081}},
            "proxy": {"Mode": "direct", "Upstreams": [{"DestinationName": "db", "LocalBindPort": 9000}]}}"#,
    ),
    (
        "n/db-1/c/c1",
        r#"{"created": 1, "modified": 1, "node": "db-1", "id": "c1", "name": "c", "status": "critical",
            "output": "line 1\nline 2", "service": "web-1", "kind": "http"}"#,
    ),
];

static STATE: LazyLock<State> = LazyLock::new(|| {
    let row = |(key, value): &(&str, &str)| -> Stamped<Row> {
        Row::decode(key, value.as_bytes()).expect("the rows above are rows")
    };
    State::load(Index(1), ROWS.iter().map(row))
});

fn judge(text: &str, schema: Schema, record: &dyn Record) {
    let filter = match Filter::parse(text, schema) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(text.is_char_boundary(error.offset), "{error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    if !filter.narrows() {
        assert!(text.is_empty() && filter.takes(record));
        return;
    }
    match Filter::parse(&format!("not ({text})"), schema) {
        Ok(negated) => assert_ne!(filter.takes(record), negated.takes(record)),
        Err(error) => assert!(matches!(error.problem, Problem::TooDeep | Problem::TooLong { .. }), "{error}"),
    }
}

/// What is in the corpus from the beginning: an expression of each form.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    Vec::new()
}

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (state, datacenter) = (&*STATE, "dc1");
    let view = state.services().flat_map(|service| state.instances_of(service)).next().expect("there is one");
    judge(text, ENTRY, &EntryRecord { state, view, datacenter });
    judge(text, SERVICE, &ServiceRecord(view.instance));
    judge(text, CATALOG, &CatalogRecord { node: view.node, instance: view.instance, datacenter });
    judge(text, NODE, &NodeRecord { node: view.node, datacenter });
    for check_row in state.checks() {
        judge(text, CHECK, &CheckRecord { state, check: check_row });
    }
}
