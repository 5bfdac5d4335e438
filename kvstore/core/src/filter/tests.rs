//! A case for every rule of the language.

mod hostile;
mod mistakes;
mod values;

use super::*;
use crate::{
    Index, State,
    names::ServiceKey,
    row::{Check, Instance, Node, Row, Stamped},
};

/// One host, a service `web` on it, a check of the host and two of the instance.
fn state() -> State {
    let node: Node = json(
        r#"{"name": "Db-1", "id": "5e1f", "address": "10.0.0.1", "tagged_addresses": {"lan": "10.0.0.1"},
            "meta": {"rack": "r1", "os/arch": "linux", "empty": ""}}"#,
    );
    let instance: Instance = json(
        r#"{"node": "db-1", "id": "web-1", "service": "web", "tags": ["v2", "primary", "not"], "address": "10.0.0.9",
            "port": 81, "weights": {"passing": 10, "warning": 1}, "meta": {"version": "2", "path": "C:\\x"},
            "tagged_addresses": {"lan": {"address": "10.0.0.9", "port": 8081}}, "enable_tag_override": true,
            "proxy": {"Mode": "direct", "DestinationServiceName": "api",
                      "Upstreams": [{"DestinationName": "db", "LocalBindPort": 9000}, {"DestinationName": "mq"}],
                      "Expose": {"Checks": true}}, "connect": {"Native": true}}"#,
    );
    let check = |text: &str| Row::Check(json::<Check>(text));
    let rows = [
        Row::Node(node),
        Row::Instance(instance),
        check(r#"{"node": "db-1", "id": "serfHealth", "name": "Serf", "status": "passing", "output": "alive"}"#),
        check(
            r#"{"node": "db-1", "id": "c1", "name": "c", "status": "critical", "output": "line 1\nline 2",
                "service": "web-1", "kind": "http", "interval": "10s", "notes": "see wiki"}"#,
        ),
        check(r#"{"node": "db-1", "id": "c2", "name": "d", "status": "warning", "service": "web-1", "kind": "ttl"}"#),
    ];
    let stamp = |value| Stamped { created: Index(1), modified: Index(1), value };
    State::load(Index(1), rows.map(stamp))
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

/// Every kind of record that `state` has, with its schema and a name for it.
fn with_records(state: &State, mut see: impl FnMut(&str, Schema, &dyn Record)) {
    let datacenter = "dc1";
    let view = state.instances_of(&ServiceKey::new("web").unwrap()).next().unwrap();
    see("entry", ENTRY, &EntryRecord { state, view, datacenter });
    see("service", SERVICE, &ServiceRecord(view.instance));
    see("catalog", CATALOG, &CatalogRecord { node: view.node, instance: view.instance, datacenter });
    see("node", NODE, &NodeRecord { node: view.node, datacenter });
    for check in state.checks() {
        see(check.id.as_str(), CHECK, &CheckRecord { state, check });
    }
}

/// Asks the record called `of`.
fn taken(of: &str, text: &str) -> Result<bool, FilterError> {
    let mut result = None;
    with_records(&state(), |name, schema, record| {
        if name == of {
            result = Some(Filter::parse(text, schema).map(|filter| filter.takes(record)));
        }
    });
    result.expect("a known name")
}

fn check_cases(of: &str, cases: &[(&str, bool)]) {
    for (text, wanted) in cases {
        match taken(of, text) {
            Ok(got) => assert_eq!(got, *wanted, "{of}: {text}"),
            Err(error) => panic!("{of}: {text}: {error}"),
        }
    }
}

#[test]
fn texts_are_equal_contain_and_match_by_case() {
    check_cases(
        "service",
        &[
            ("Service == web", true),
            ("Service == Web", false),
            ("Service != web", false),
            ("Service != api", true),
            ("Kind == \"\"", true),
            ("eb in Service", true),
            ("EB in Service", false),
            ("eb not in Service", false),
            ("Service contains we", true),
            ("Service contains \"\"", true),
            ("Service not contains we", false),
            ("Service not contains x", true),
            ("Service matches `^w.b$`", true),
            ("Service matches e", true),
            ("Service matches \"^e\"", false),
            ("Service not matches \"^e\"", true),
            ("Service not matches `^w`", false),
        ],
    );
}

#[test]
fn lists_have_elements_and_maps_have_keys() {
    check_cases(
        "service",
        &[
            ("v2 in Tags", true),
            ("\"v2\" in Tags", true),
            ("v in Tags", false),
            ("v not in Tags", true),
            ("Tags contains primary", true),
            ("Tags not contains primary", false),
            ("Tags is empty", false),
            ("Tags is not empty", true),
            ("version in Meta", true),
            ("2 in Meta", false),
            ("Meta contains version", true),
            ("nope not in Meta", true),
            ("Meta is empty", false),
            ("Meta is not empty", true),
            ("lan in TaggedAddresses", true),
            ("TaggedAddresses is empty", false),
            ("wan in TaggedAddresses", false),
        ],
    );
    check_cases("node", &[("TaggedAddresses is empty", false), ("Meta contains rack", true)]);
}

#[test]
fn a_key_that_is_not_there_equals_nothing() {
    check_cases(
        "service",
        &[
            ("Meta.nope == x", false),
            ("Meta.nope == \"\"", false),
            ("Meta.nope != x", true),
            ("x in Meta.nope", false),
            ("x not in Meta.nope", true),
            ("Meta.nope matches `.*`", false),
            ("Meta.nope not matches `.*`", true),
            ("TaggedAddresses.wan.Port == 1", false),
            ("TaggedAddresses.wan.Port != 1", true),
            ("TaggedAddresses.lan.Port == 8081", true),
            ("TaggedAddresses[\"lan\"].Address == \"10.0.0.9\"", true),
            ("not Meta.nope == x", true),
        ],
    );
    check_cases("node", &[("Meta.empty == \"\"", true), ("Meta.empty != \"\"", false)]);
}

#[test]
fn of_a_list_of_records_one_is_enough() {
    check_cases(
        "entry",
        &[
            ("Checks.Status == critical", true),
            ("Checks.Status == passing", true),
            ("Checks.Status == maintenance", false),
            // For one of them, too.
            ("Checks.Status != critical", true),
            ("not Checks.Status == critical", false),
            ("Checks.Output matches `2$`", true),
            ("Checks.ServiceTags contains v2", true),
            ("Checks is empty", false),
            ("Checks is not empty", true),
            // Each comparison for itself: no single check is both.
            ("Checks.CheckID == c1 and Checks.Status == warning", true),
            ("Service.Proxy.Upstreams.DestinationName == mq", true),
            ("Service.Proxy.Upstreams.LocalBindPort == 0", true),
            ("Service.Proxy.Upstreams is empty", false),
            ("Service.Proxy.Expose.Paths is empty", true),
            ("Service.Proxy.Expose.Paths.Path != x", false),
        ],
    );
}

#[test]
fn every_endpoint_has_its_own_fields() {
    check_cases(
        "entry",
        &[
            ("Node.Node == \"Db-1\" and Service.ID == \"web-1\" and Service.Port == 81", true),
            ("Node.Datacenter == dc1", true),
            ("Node.Meta.rack == r1", true),
            ("Service.Meta.version == 2", true),
            ("Service.Connect.Native == true", true),
        ],
    );
    check_cases(
        "catalog",
        &[
            ("ID == \"5e1f\" and Node == \"Db-1\" and Address == \"10.0.0.1\" and Datacenter == dc1", true),
            ("TaggedAddresses.lan == \"10.0.0.1\"", true),
            ("NodeMeta.rack == r1", true),
            ("ServiceKind == \"\" and ServiceID == \"web-1\" and ServiceName == web and ServicePort == 81", true),
            ("ServiceAddress == \"10.0.0.9\" and ServiceTaggedAddresses.lan.Port == 8081", true),
            ("v2 in ServiceTags and ServiceMeta.version == 2 and ServiceWeights.Passing == 10", true),
            ("ServiceEnableTagOverride == true and ServiceConnect.Native == true", true),
            ("ServiceProxy.DestinationServiceName == api and ServiceProxy.Mode == direct", true),
        ],
    );
    check_cases(
        "c1",
        &[
            ("Node == \"Db-1\" and CheckID == c1 and Name == c and Status == critical", true),
            ("Notes contains wiki and Output contains \"line 2\"", true),
            ("ServiceID == \"web-1\" and ServiceName == web and primary in ServiceTags", true),
            ("Type == http and Interval == \"10s\" and Timeout == \"\" and ExposedPort == 0", true),
        ],
    );
    check_cases("serfHealth", &[("ServiceID == \"\" and ServiceName == \"\" and ServiceTags is empty", true)]);
}

#[test]
fn or_binds_less_than_and_and_less_than_not() {
    // T and F stand for comparisons that are true and false.
    for (text, wanted) in [
        ("T or F and F", true),
        ("F and F or T", true),
        ("(T or F) and F", false),
        ("not F and F", false),
        ("not (F and F)", true),
        ("not T or T", true),
        ("not (T or T)", false),
        ("not not T", true),
        ("not not not T", false),
        ("T and not F", true),
        ("F or F or F or T", true),
        ("T and T and T and F", false),
        ("T and (F or (T and (F or T)))", true),
        ("((T))", true),
        ("(T) and (T)", true),
    ] {
        let text = text.replace('T', "Port == 81").replace('F', "Port == 0");
        check_cases("service", &[(&text, wanted)]);
    }
}

#[test]
fn blanks_surround_words_and_may_surround_signs() {
    check_cases(
        "service",
        &[
            ("Service==web", true),
            ("Service!=web", false),
            (" \t\r\n( \nService \t == \r web ) \n", true),
            ("Service == web\nand\nPort == 81", true),
            ("Tags  is\tnot\nempty", true),
            ("v2 \n not \t in  Tags", false),
            ("(Port==81) and (Port==81)", true),
            ("not\n(Port==80)", true),
        ],
    );
    for bad in ["(Port==81)and(Port==81)", "not(Port==81)", "Port==81 and(Port==81)", "v2 in\u{a0}Tags", "Tags isempty"]
    {
        let problem = taken("service", bad).unwrap_err().problem;
        assert!(matches!(problem, Problem::Expected { .. }), "{bad}: {problem}");
    }
}

#[test]
fn no_word_is_reserved() {
    check_cases(
        "service",
        &[
            ("not in Tags", true),
            ("not not in Tags", false),
            ("not not not in Tags", true),
            ("in in Tags", false),
            ("and in Tags or or in Tags", false),
            ("not contains in Tags", true),
            ("Service == and", false),
            ("Service == not", false),
            ("Service != or and Service != in", true),
            ("Tags contains not", true),
        ],
    );
}

#[test]
fn an_empty_expression_wants_everything() {
    check_cases("node", &[("", true)]);
    assert!(!Filter::parse("", NODE).unwrap().narrows());
    assert!(Filter::parse("Node == x", NODE).unwrap().narrows());
    assert!(taken("node", " ").is_err());
}

#[test]
fn tells_which_fields_decide() {
    let filter =
        Filter::parse("Service.Port == 1 or not (Checks.Output contains x and Node.Node == n)", ENTRY).unwrap();
    assert!(filter.reads("Output") && filter.reads("Port") && !filter.reads("Status"));
    assert!(!Filter::parse("", ENTRY).unwrap().reads("Output"));
}

/// Each field of each schema, all the way down, holds what the schema says.
#[test]
fn records_hold_what_their_schemas_say() {
    fn walk(schema: Schema, record: &dyn Record) -> usize {
        let mut fields = 0;
        for (name, kind) in schema {
            fields += match (kind, record.value(name)) {
                (Kind::Text, Value::Text(_))
                | (Kind::Int, Value::Int(_))
                | (Kind::Bool, Value::Bool(_))
                | (Kind::Texts, Value::Texts(_))
                | (Kind::Pairs, Value::Pairs(_)) => 1,
                (Kind::Keyed(below), Value::Addresses(all)) => all.values().map(|record| walk(below, record)).sum(),
                (Kind::Record(below), Value::Record(record)) => walk(below, &*record),
                (Kind::Records(below), Value::Records(all)) => all.iter().map(|record| walk(below, &**record)).sum(),
                _ => panic!("{name} is not {kind:?}"),
            };
        }
        fields
    }
    let mut records = 0;
    with_records(&state(), |_, schema, record| {
        assert!(walk(schema, record) >= schema.len() - 1);
        records += 1;
    });
    assert_eq!(records, 7);
}
