//! Every route there is, asked by somebody who may nothing where nothing is allowed: nothing is learned, nothing changes.

use std::collections::BTreeSet;

use kvstore_core::{
    acl::DefaultPolicy,
    credentials::{ANONYMOUS, GLOBAL_MANAGEMENT},
};

use super::{
    super::{
        Acl, AgentTokens, Guard, TABLES,
        access::digest,
        guard,
        harness::{Harness, ROWS, Reply, endpoints},
    },
    *,
};

const POWERLESS: &str = "33333333-3333-4333-8333-333333333333";
const MANAGEMENT: &str = "44444444-4444-4444-8444-444444444444";

/// What may follow a path: names that are there, and one that is not.
const RESTS: &[&str] = &[
    "",
    "a",
    "a/b",
    "lock",
    "n",
    "ext",
    "web",
    "web-1",
    "db",
    "t",
    "critical",
    "any",
    "nothing",
    "geo-web-v2",
    "11111111-1111-4111-8111-000000000001",
    "00000001-0000-4000-8000-00000000000a",
    "33333333-0000-4000-8000-000000000000",
    "10.0.0.9",
];

const PARAMETERS: &[&str] =
    &["", "recurse&", "keys&", "near=n&", "filter=&", "index=1&wait=1s&", "enable=true&", "cas=0&"];

/// A body that each path takes; others take any.
fn body(path: &str) -> &'static str {
    match path {
        "/v1/agent/check/register" => r#"{"Name": "new", "TTL": "10s"}"#,
        "/v1/agent/check/update/" => r#"{"Status": "critical"}"#,
        "/v1/catalog/register" => r#"{"Node": "new", "Address": "10.9.9.9"}"#,
        "/v1/catalog/deregister" => r#"{"Node": "ext"}"#,
        "/v1/txn" => r#"[{"KV": {"Verb": "set", "Key": "a", "Value": "eA=="}}]"#,
        "/v1/query" | "/v1/query/" => r#"{"Name": "new", "Service": {"Service": "web"}}"#,
        "/v1/coordinate/update" => {
            r#"{"Node": "n", "Coord": {"Vec": [1,1,1,1,1,1,1,1], "Error": 1.5, "Height": 1e-5}}"#
        }
        "/v1/agent/service/register" | "/v1/session/create" | "/v1/acl/policy" | "/v1/acl/policy/" => {
            r#"{"Name": "new"}"#
        }
        "/v1/acl/token" | "/v1/acl/token/" | "/v1/acl/token/*/clone" => r#"{"Description": "new"}"#,
        "/v1/agent/token/" => r#"{"Token": "44444444-4444-4444-8444-444444444444"}"#,
        "/v1/acl/bootstrap" => "",
        _ => "x",
    }
}

/// A registry with access control, where nothing is allowed unless a policy says so, that holds these rows too.
fn guarded(rows: &[(&str, &str)]) -> Harness {
    let harness = Harness::start();
    let acl = Some(Acl { default_policy: DefaultPolicy::Deny, tokens: AgentTokens::default() });
    harness.guarded(Guard { access: Access { acl, ..Access::default() }, ..Guard::default() });
    let token = |accessor: &str, secret: &str, policy: &str| {
        let secret = serde_json::to_string(&digest(secret)).unwrap();
        let value =
            format!(r#"{{"created":1,"modified":1,"accessor":"{accessor}","secret":{secret},"policies":[{policy}]}}"#);
        (format!("a/t/{accessor}"), value)
    };
    let bootstrap = ("a/bootstrap".to_owned(), format!(r#"{{"created":1,"modified":1,"token":"{ANONYMOUS}"}}"#));
    let own = [
        token("33333333-0000-4000-8000-000000000000", POWERLESS, ""),
        token("44444444-0000-4000-8000-000000000000", MANAGEMENT, &format!("{GLOBAL_MANAGEMENT:?}")),
        bootstrap,
    ];
    let all = rows
        .iter()
        .map(|(key, value)| (*key, *value))
        .chain(own.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    harness.holding(all);
    harness
}

fn ask(harness: &Harness, method: &str, path: &str, rest: &str, parameters: &str, token: &str) -> Reply {
    let whole = if path.contains('*') { path.replace('*', rest) } else { format!("{path}{rest}") };
    harness.ask(method, &format!("{whole}?{parameters}token={token}"), body(path)).unwrap()
}

fn requests() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    endpoints().into_iter().flat_map(|(method, path)| {
        let rests = match path {
            _ if path.contains('*') => &RESTS[1..],
            _ if path.ends_with('/') => RESTS,
            _ => &RESTS[..1],
        };
        let parameters = if method == "DELETE" { &PARAMETERS[..2] } else { PARAMETERS };
        rests.iter().flat_map(move |rest| parameters.iter().map(move |given| (method, path, *rest, *given)))
    })
}

/// A registry that holds rows, and one that holds none, answer every read alike.
#[test]
fn who_may_nothing_learns_nothing_by_any_route() {
    let (full, empty) = (guarded(ROWS), guarded(&[]));
    for (path, rest) in [("/v1/coordinate/update", ""), ("/v1/event/fire/", "deploy")] {
        assert_eq!(ask(&full, "PUT", path, rest, "", MANAGEMENT).status, 200);
    }
    let mut told = BTreeSet::new();
    // Old clients write by GET there; and who knows the name of a query may execute it, as in Consul, which tells the
    // name of its service and no instance that may not be seen.
    let other = |path: &str| path.contains("/agent/check/") || path.ends_with("/execute");
    let reads = |(method, path, ..): &(&str, &str, &str, &str)| *method == "GET" && !other(path);
    for (method, path, rest, parameters) in requests().filter(reads) {
        let ask = |harness, token| {
            let Reply { status, body } = ask(harness, method, path, rest, parameters, token);
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        for token in [POWERLESS, ""] {
            let (one, other) = (ask(&full, token), ask(&empty, token));
            assert_eq!(one, other, "{method} {path} {rest} {parameters} tells {token:?} what is there");
        }
        if ask(&full, MANAGEMENT) != ask(&empty, MANAGEMENT) {
            told.insert(path);
        }
    }
    // Were it too few, the requests would be of no use.
    assert!(told.len() > 30, "{told:?}");
}

#[test]
fn who_may_nothing_changes_nothing_by_any_route() {
    let harness = guarded(ROWS);
    let events = |harness: &Harness| ask(harness, "GET", "/v1/event/list", "", "", MANAGEMENT).body;
    let coordinates = |harness: &Harness| ask(harness, "GET", "/v1/coordinate/nodes", "", "", MANAGEMENT).body;
    let seen = |harness: &Harness| (harness.state().index(), events(harness), coordinates(harness));
    let before = seen(&harness);
    let mut changing = BTreeSet::new();
    for (method, path, rest, parameters) in requests() {
        let route =
            TABLES.iter().copied().flatten().find(|route| route.path == path && route.method == method).unwrap();
        for token in [POWERLESS, "", "no-such-token"] {
            let reply = ask(&harness, method, path, rest, parameters, token);
            let is_refused = reply.status == 403;
            match route.rule {
                Rule::Needs(..) => assert!(is_refused, "{method} {path}{rest}: {reply:?}"),
                Rule::Named(..) if !rest.is_empty() => assert!(is_refused, "{method} {path}{rest}: {reply:?}"),
                Rule::Open => {}
                _ => assert!(is_refused || token != "no-such-token", "{method} {path}{rest}: {reply:?}"),
            }
        }
        assert!(seen(&harness) == before, "{method} {path} {rest} {parameters} has changed something");
    }
    for (method, path, rest, parameters) in requests().filter(|(method, ..)| guard::writes(&method.parse().unwrap())) {
        let harness = &harness;
        if path != "/v1/snapshot" && !changing.contains(&(method, path)) {
            let before = seen(harness);
            ask(harness, method, path, rest, parameters, MANAGEMENT);
            if seen(harness) != before {
                changing.insert((method, path));
            }
        }
    }
    // Were it too few, the requests would be of no use.
    assert!(changing.len() > 15, "{changing:?}");
}

#[test]
fn a_transaction_that_is_not_permitted_names_every_such_step() {
    let harness = guarded(ROWS);
    let steps = r#"[{"KV": {"Verb": "set", "Key": "a"}}, {"KV": {"Verb": "get-tree", "Key": ""}},
        {"KV": {"Verb": "delete", "Key": "b"}}]"#;
    let reply = harness.ask("PUT", &format!("/v1/txn?token={POWERLESS}"), steps).unwrap();
    assert_eq!(reply.status, 409);
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert!(told["Results"].is_null());
    let errors = told["Errors"].as_array().unwrap().iter();
    let errors: Vec<_> = errors.map(|error| (error["OpIndex"].as_u64(), error["What"].as_str().unwrap())).collect();
    let lacks = |(at, what): &(Option<u64>, &str), place, key: &str| {
        *at == Some(place)
            && what.starts_with("Permission denied: ")
            && what.ends_with(&format!("'key:write' on {key:?}"))
    };
    assert!(matches!(&errors[..], [one, two] if lacks(one, 0, "a") && lacks(two, 2, "b")), "{errors:?}");
}
