//! `kvstore migrate`: out of a Consul, or what answers like one, and into an agent.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use serde_json::{Value, json};

use crate::harness::*;

/// An agent with what Consul has, and nothing else.
fn source() -> Agent {
    let source = Agent::start(&[
        "--dev",
        "--strict-consul",
        "--node=consul-1",
        "--http-addr=127.0.0.1:0",
        "--dns-addr=127.0.0.1:0",
    ]);
    source.put("/v1/kv/config/colour?flags=42", "blue");
    source.put("/v1/kv/empty", "");
    let bytes = json!([{"KV": {"Verb": "set", "Key": "bytes", "Value": "/wAK"}}]);
    source.put("/v1/txn", &bytes.to_string());
    let large = "x".repeat(400 << 10);
    source.put("/v1/kv/large", &large);
    for part in 0..20 {
        let many = (0..64).map(|n| json!({"KV": {"Verb": "set", "Key": format!("many/{part}-{n}"), "Value": "MQ=="}}));
        source.put("/v1/txn", &Value::Array(many.collect()).to_string());
    }
    let external = json!({"Node": "printer", "Address": "10.0.0.9", "NodeMeta": {"external-node": "true"},
        "Service": {"ID": "ipp-1", "Service": "ipp", "Port": 631, "Tags": ["colour"], "Meta": {"floor": "2"}},
        "Checks": [{"Node": "printer", "CheckID": "ink", "Name": "Ink", "Status": "warning", "ServiceID": "ipp-1"}]});
    source.put("/v1/catalog/register", &external.to_string());
    source.put("/v1/agent/service/register", r#"{"Name": "web", "Port": 80}"#);
    source.ok(&["query", "create", r#"{"Name": "printers", "Service": {"Service": "ipp"}}"#]);
    source
}

/// The exit code and the report.
fn migrate(to: &Agent, from: &str, more: &[&str]) -> (Option<i32>, Value) {
    let output = to.run(&[&["migrate", "--format=json", "--from", from], more].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    (output.status.code(), report)
}

fn tally(report: &Value, kind: &str) -> [u64; 4] {
    ["Found", "Carried", "Same", "Left"].map(|name| report["Kinds"][kind][name].as_u64().unwrap())
}

#[test]
fn everything_is_carried_once() {
    let (from, to) = (source(), Agent::dev());
    let kinds = [("keys", 1284), ("nodes", 1), ("services", 1), ("checks", 1), ("queries", 1)];
    let (code, dry) = migrate(&to, &from.address, &["--dry-run"]);
    assert_eq!(code, Some(0), "{dry}");
    assert_eq!(to.ok(&["catalog", "services"]), "consul\n");
    assert_eq!(to.run(&["kv", "get", "empty"]).status.code(), Some(1));

    let (code, report) = migrate(&to, &from.address, &[]);
    assert_eq!((code, &report), (Some(0), &dry), "what is done is what was said");
    for (kind, count) in kinds {
        assert_eq!(tally(&report, kind), [count, count, 0, 0], "{kind}: {report}");
    }
    assert!(report["ByDesign"][0].as_str().unwrap().contains("1 hosts have an agent"), "{report}");
    // All but the indexes is as it was.
    let same = |path: &str, shown: &[&str]| {
        let read = |agent: &Agent| serde_json::from_str::<Value>(&agent.send("GET", path).1).unwrap();
        let (there, here) = (read(&from), read(&to));
        for pointer in shown {
            assert_eq!(there.pointer(pointer), here.pointer(pointer), "{path} {pointer}");
            assert!(here.pointer(pointer).is_some(), "{path} {pointer}");
        }
    };
    same("/v1/kv/config/colour", &["/0/Value", "/0/Flags"]);
    for key in ["bytes", "empty", "large", "many/19-63"] {
        same(&format!("/v1/kv/{key}"), &["/0/Value"]);
    }
    same("/v1/catalog/service/ipp", &["/0/Node", "/0/NodeMeta", "/0/ServicePort", "/0/ServiceTags", "/0/ServiceMeta"]);
    same("/v1/health/checks/ipp", &["/0/CheckID", "/0/Status", "/0/ServiceID"]);
    assert_eq!(to.send("GET", "/v1/query/printers/execute").0, 200);
    assert_eq!(to.ok(&["catalog", "services"]), "consul\nipp\n", "what an agent has comes by itself");

    let (code, report) = migrate(&to, &from.address, &[]);
    assert_eq!(code, Some(0), "{report}");
    for (kind, count) in kinds {
        assert_eq!(tally(&report, kind), [count, 0, count, 0], "{kind}: {report}");
    }
    let output = to.run(&["migrate", "--from", &from.address, "--all-services"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(to.ok(&["catalog", "services"]), "consul\nipp\nweb\n");
}

#[test]
fn what_is_there_stays_unless_it_may_be_replaced() {
    let (from, to) = (source(), Agent::dev());
    to.put("/v1/kv/config/colour", "red");
    to.put("/v1/catalog/register", r#"{"Node": "printer", "Address": "10.0.0.8"}"#);
    let output = to.run(&["migrate", "--from", &from.address]);
    refused(&output, 3, &["something was left"]);
    let shown = text(&output.stdout);
    for line in ["keys  config/colour  another one is there; --overwrite replaces it", "nodes  printer"] {
        let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(blanks(&shown).contains(&blanks(line)), "{line} in {shown}");
    }
    assert_eq!(to.ok(&["kv", "get", "config/colour"]), "red");
    let (code, report) = migrate(&to, &from.address, &["--overwrite"]);
    assert_eq!((code, tally(&report, "keys")), (Some(0), [1284, 1, 1283, 0]), "{report}");
    assert_eq!(to.ok(&["kv", "get", "config/colour"]), "blue");
    // An agent of the same name knows of no instance that it has not registered.
    to.put("/v1/catalog/register", r#"{"Node": "printer", "Address": "10.0.0.9", "Check": {"CheckID": "serfHealth"}}"#);
    let (code, report) = migrate(&to, &from.address, &["--overwrite"]);
    assert_eq!((code, tally(&report, "nodes")), (Some(3), [1, 0, 0, 1]), "{report}");
}

/// Answers as a Consul with these lists, and none of the rest, and gives its address.
fn played(lists: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while stream.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let path = head.split([' ', '?']).nth(1).unwrap_or_default();
            let (status, body) = match lists.iter().find(|(known, _)| *known == path) {
                Some((_, body)) => ("200 OK", *body),
                None => ("404 Not Found", ""),
            };
            let length = body.len();
            let _ = write!(
                stream.get_mut(),
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    address
}

#[test]
fn what_has_nowhere_to_go_is_reported() {
    let to = Agent::dev();
    let empty = [("/v1/kv/", "[]"), ("/v1/catalog/nodes", "[]"), ("/v1/query", "[]"), ("/v1/session/list", "[]")];
    let from = played(Box::leak(Box::new(empty)));
    assert_eq!(migrate(&to, &from, &[]).0, Some(0));
    let from = played(&[
        ("/v1/kv/", "[]"),
        ("/v1/catalog/nodes", "[]"),
        ("/v1/query", r#"[{"ID": "1", "Name": "q", "Token": "<hidden>", "Service": {"Service": "web"}}]"#),
        ("/v1/session/list", r#"[{"ID": "s", "Node": "n"}]"#),
        ("/v1/acl/policies", r#"[{"Name": "a"}, {"Name": "b"}]"#),
        ("/v1/connect/intentions", r#"[{"SourceName": "a"}]"#),
    ]);
    let (code, report) = migrate(&to, &from, &[]);
    assert_eq!(code, Some(3), "{report}");
    for (kind, count) in [("acl policies", 2), ("intentions", 1), ("queries", 1)] {
        assert_eq!(tally(&report, kind), [count, 0, 0, count], "{report}");
    }
    assert_eq!(report["ByDesign"], json!(["1 sessions; their holders make them anew"]));
    refused(&to.run(&["migrate", "--from", "127.0.0.1:1"]), 1, &["127.0.0.1:1"]);
    refused(&to.run(&["migrate"]), 2, &["--from"]);
}
