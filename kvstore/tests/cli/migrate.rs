//! `kvstore migrate`: out of a Consul, or what answers like one, and into an agent.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::Output,
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
    reported(&to.run(&[&["migrate", "--format=json", "--from", from], more].concat()))
}

fn reported(output: &Output) -> (Option<i32>, Value) {
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

/// What a Consul has when there is nothing in it.
const NOTHING: &[(&str, &str)] =
    &[("/v1/kv/", "[]"), ("/v1/catalog/nodes", "[]"), ("/v1/query", "[]"), ("/v1/session/list", "[]")];

/// Answers as a Consul with this and nothing else, and gives its address. What is no JSON is the status of a refusal.
fn played(has: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while stream.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let path = head.split([' ', '?']).nth(1).unwrap_or_default();
            let (status, body) = match has.iter().chain(NOTHING).find(|(known, _)| *known == path) {
                Some((_, body)) if body.starts_with(['[', '{']) => ("200 OK", *body),
                Some((_, refusal)) => (*refusal, ""),
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
    assert_eq!(migrate(&to, &played(&[]), &[]).0, Some(0));
    let from = played(&[
        ("/v1/query", r#"[{"ID": "1", "Name": "q", "Token": "<hidden>", "Service": {"Service": "web"}}]"#),
        ("/v1/session/list", r#"[{"ID": "s", "Node": "n"}]"#),
        ("/v1/acl/policies", r#"[{"ID": "1", "Name": "a"}, {"ID": "2", "Name": "b"}]"#),
        ("/v1/acl/roles", r#"[{"Name": "r"}]"#),
        ("/v1/connect/intentions", r#"[{"SourceName": "a"}]"#),
    ]);
    let (code, report) = migrate(&to, &from, &[]);
    assert_eq!(code, Some(3), "{report}");
    for (kind, count) in [("acl policies", 2), ("acl roles", 1), ("intentions", 1), ("queries", 1)] {
        assert_eq!(tally(&report, kind), [count, 0, 0, count], "{report}");
    }
    assert!(report["Left"].to_string().contains("access control is off here"), "{report}");
    assert_eq!(report["ByDesign"], json!(["1 sessions; their holders make them anew"]));
    refused(&to.run(&["migrate", "--from", "127.0.0.1:1"]), 1, &["127.0.0.1:1"]);
    refused(&to.run(&["migrate"]), 2, &["--from"]);
}

const ROOT: &str = "11111111-2222-4333-8444-555555555555";
const SECRET: &str = "99999999-2222-4333-8444-555555555555";

/// What is refused, or cannot be made as it was, stands beside what can.
const GUARDED: &[(&str, &str)] = &[
    (
        "/v1/acl/policies",
        r#"[{"ID": "00000000-0000-0000-0000-000000000001", "Name": "global-management"},
            {"ID": "p1", "Name": "readers"}, {"ID": "p2", "Name": "elsewhere"}]"#,
    ),
    (
        "/v1/acl/policy/p1",
        r#"{"ID": "p1", "Name": "readers", "Rules": "key_prefix \"config/\" { policy = \"read\" }"}"#,
    ),
    ("/v1/acl/policy/p2", r#"{"ID": "p2", "Name": "elsewhere", "Rules": "", "Datacenters": ["dc2"]}"#),
    (
        "/v1/acl/tokens",
        r#"[{"AccessorID": "00000000-0000-0000-0000-000000000002", "Policies": null},
            {"AccessorID": "a0000000-0000-4000-8000-000000000001"}, {"AccessorID": "a0000000-0000-4000-8000-000000000002"},
            {"AccessorID": "a0000000-0000-4000-8000-000000000003"}, {"AccessorID": "a0000000-0000-4000-8000-000000000004"}]"#,
    ),
    (
        "/v1/acl/token/a0000000-0000-4000-8000-000000000001",
        r#"{"AccessorID": "a0000000-0000-4000-8000-000000000001", "SecretID": "99999999-2222-4333-8444-555555555555",
            "Description": "for web", "Policies": [{"ID": "p1", "Name": "readers"}], "Local": true}"#,
    ),
    (
        "/v1/acl/token/a0000000-0000-4000-8000-000000000002",
        r#"{"AccessorID": "a0000000-0000-4000-8000-000000000002", "SecretID": "99999999-2222-4333-8444-555555555556",
            "Roles": [{"ID": "r", "Name": "r"}]}"#,
    ),
    (
        "/v1/acl/token/a0000000-0000-4000-8000-000000000003",
        r#"{"AccessorID": "a0000000-0000-4000-8000-000000000003", "SecretID": "<hidden>"}"#,
    ),
    (
        "/v1/acl/token/a0000000-0000-4000-8000-000000000004",
        r#"{"AccessorID": "a0000000-0000-4000-8000-000000000004", "SecretID": "99999999-2222-4333-8444-555555555557",
            "Policies": [{"ID": "p2", "Name": "elsewhere"}]}"#,
    ),
];

/// Later, readers may write.
const CHANGED: &[(&str, &str)] = &[
    ("/v1/acl/policies", r#"[{"ID": "p1", "Name": "readers"}]"#),
    (
        "/v1/acl/policy/p1",
        r#"{"ID": "p1", "Name": "readers", "Rules": "key_prefix \"config/\" { policy = \"write\" }"}"#,
    ),
    ("/v1/acl/tokens", r#"[{"AccessorID": "a0000000-0000-4000-8000-000000000001"}]"#),
    (
        "/v1/acl/token/a0000000-0000-4000-8000-000000000001",
        r#"{"AccessorID": "a0000000-0000-4000-8000-000000000001", "SecretID": "<hidden>", "Description": "for all",
            "Policies": [{"ID": "p1", "Name": "readers"}], "Local": true}"#,
    ),
];

/// An agent that denies what no policy allows.
fn guarded(dir: &Path) -> Agent {
    let tokens = json!({"initial_management": ROOT});
    let config = json!({"acl": {"enabled": true, "default_policy": "deny", "tokens": tokens}});
    let file = dir.join("acl.json");
    std::fs::write(&file, config.to_string()).unwrap();
    Agent::on(dir, &["--config", file.to_str().unwrap()])
}

#[test]
fn policies_and_tokens_are_carried_with_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let to = guarded(dir.path());
    let run = |secret: &str, args: &[&str]| to.command(args).env("CONSUL_HTTP_TOKEN", secret).output().unwrap();
    let carry = |from: &str, more: &[&str]| {
        let output = run(ROOT, &[&["migrate", "--format=json", "--from", from], more].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains("99999999") && !said.contains(ROOT), "{said}");
        reported(&output)
    };
    assert!(run(ROOT, &["kv", "put", "config/a", "1"]).status.success());

    let from = played(GUARDED);
    let (_, dry) = carry(&from, &["--dry-run"]);
    assert!(!run(SECRET, &["kv", "get", "config/a"]).status.success(), "nothing is done yet");
    let (code, report) = carry(&from, &[]);
    assert_eq!((code, &report), (Some(3), &dry), "what is done is what was said");
    assert_eq!(tally(&report, "acl policies"), [2, 1, 0, 1], "{report}");
    assert_eq!(tally(&report, "acl tokens"), [4, 1, 0, 3], "{report}");
    for why in ["for some datacenters", "it has Roles", "secret is not shown", "\\\"elsewhere\\\" is not here"] {
        assert!(report["Left"].to_string().contains(why), "{why}: {report}");
    }
    assert!(report["ByDesign"].to_string().contains("global-management"), "{report}");
    assert!(run(SECRET, &["kv", "get", "config/a"]).status.success());
    refused(&run(SECRET, &["kv", "put", "config/a", "2"]), 1, &["403"]);

    let (_, report) = carry(&from, &[]);
    assert_eq!(tally(&report, "acl policies"), [2, 0, 1, 1], "{report}");
    assert_eq!(tally(&report, "acl tokens"), [4, 0, 1, 3], "{report}");

    let from = played(CHANGED);
    let (code, report) = carry(&from, &[]);
    assert_eq!((code, tally(&report, "acl policies")), (Some(3), [1, 0, 0, 1]), "{report}");
    assert_eq!(tally(&report, "acl tokens"), [1, 0, 0, 1], "it would not be able to do the same: {report}");
    let (code, report) = carry(&from, &["--overwrite"]);
    assert_eq!((code, tally(&report, "acl tokens")), (Some(0), [1, 1, 0, 0]), "{report}");
    assert!(run(SECRET, &["kv", "put", "config/a", "2"]).status.success(), "its secret is as it was");

    let refusing = played(GUARDED);
    refused(&run(SECRET, &["migrate", "--from", &refusing]), 3, &["something was left"]);
}

#[test]
fn a_consul_that_shows_no_tokens_is_reported() {
    let to = Agent::dev();
    let off = played(&[("/v1/acl/policies", "401 Unauthorized"), ("/v1/acl/tokens", "401 Unauthorized")]);
    let (code, report) = migrate(&to, &off, &[]);
    assert_eq!((code, report["Left"].as_array().unwrap().len()), (Some(0), 0), "{report}");
    assert!(report["ByDesign"].to_string().contains("access control is off there"), "{report}");
    let hidden = played(&[("/v1/acl/policies", "403 Forbidden"), ("/v1/acl/tokens", "403 Forbidden")]);
    let (code, report) = migrate(&to, &hidden, &[]);
    assert_eq!((code, report["Left"].as_array().unwrap().len()), (Some(3), 2), "{report}");
    assert!(report["Left"].to_string().contains("may not read them"), "{report}");
}
