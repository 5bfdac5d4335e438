//! Which rules are enough for which commands, and what is said to lack where they are not.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    acl::{DefaultPolicy, Rules},
    health::Status::Passing,
    row::Session,
    tests::{check, *},
};

const NAMED: &str = "0000000a-0000-4000-8000-000000000000";
const NAMELESS: &str = "0000000b-0000-4000-8000-000000000000";

/// The hosts `n`, whose id is `id-n`, and `m`; on `n` an instance `w` of `web` with a check `c`, an instance `d` of `db`,
/// a check `h` of the host and a session `s`.
fn state() -> State {
    given([
        register(node("n", "id-n"), Some(instance("n", "w", "web")), vec![ttl_check("n", "c", "w")]),
        register(node("n", "id-n"), Some(instance("n", "d", "db")), vec![ttl_check("n", "h", "")]),
        host("m"),
        create(session("s")),
        Command::CreateQuery { query: query(NAMED, "q", "") },
        Command::CreateQuery { query: query(NAMELESS, "", "s") },
    ])
}

fn query(id: &str, name: &str, session: &str) -> Box<PreparedQuery> {
    let row = json!({"id": id, "name": name, "service": {"service": "web"}, "session": session});
    Box::new(serde_json::from_value(row).unwrap())
}

/// `RESOURCE NAME LEVEL` of each rule, separated by commas, with `*` behind the name of a prefix rule.
fn authority(rules: &str) -> Authority {
    let hcl: Vec<String> = rules
        .split(", ")
        .filter(|rule| !rule.is_empty())
        .map(|rule| match rule.split(' ').collect::<Vec<_>>()[..] {
            [resource, level] => format!("{resource} = \"{level}\""),
            [resource, name, level] => match name.strip_suffix('*') {
                Some(prefix) => format!("{resource}_prefix \"{prefix}\" {{ policy = \"{level}\" }}"),
                None => format!("{resource} \"{name}\" {{ policy = \"{level}\" }}"),
            },
            _ => panic!("{rule} is no rule"),
        })
        .collect();
    Authority::of([&Rules::parse(&hcl.join(" ")).unwrap()], DefaultPolicy::Deny)
}

/// Each of `rules` is needed for `command`, and all are enough.
fn needs(command: &Command, rules: &[&str]) {
    let state = state();
    let permits = |rules: &[&str]| authority(&rules.join(", ")).permits(&state, command);
    assert_eq!(permits(rules), Ok(()), "{command:?}");
    for left_out in 0..rules.len() {
        let mut fewer = rules.to_vec();
        let needed = fewer.remove(left_out);
        let [resource, .., level] = needed.split(' ').collect::<Vec<_>>()[..] else { panic!("{needed} is no rule") };
        let denied = permits(&fewer).expect_err(&format!("{command:?} without {needed}"));
        assert_eq!((denied.resource.word(), denied.level.word()), (resource, level), "{command:?}");
        if let Some(name) = needed.strip_suffix(" write") {
            let less = format!("{name} read");
            permits(&[&fewer[..], &[&less]].concat()).expect_err(&format!("{command:?} with {less}"));
        }
    }
    assert_eq!(Authority::everything().permits(&state, command), Ok(()));
    assert_eq!(Authority::reader().permits(&state, command).is_ok(), rules.iter().all(|rule| rule.ends_with("read")));
}

fn txn(steps: impl Into<Vec<TxnStep>>) -> Command {
    Command::Txn { steps: steps.into() }
}

fn step(verb: KvVerb, name: &str) -> TxnStep {
    TxnStep::Kv { verb, key: key(name), value: "".into(), flags: 0 }
}

fn instance_step(verb: RowVerb, instance: Instance) -> TxnStep {
    TxnStep::Instance { verb, node: instance.node.clone(), id: instance.id.clone(), instance: Some(instance.into()) }
}

fn check_step(verb: RowVerb, check: Check) -> TxnStep {
    TxnStep::Check { verb, node: check.node.clone(), id: check.id.clone(), check: Some(check.into()) }
}

fn node_step(verb: RowVerb, name: Option<&str>, node: Node) -> TxnStep {
    TxnStep::Node { verb, name: name.map(node_key), node: node.into() }
}

#[test]
fn keys_need_key_write() {
    for command in
        [put("a/b", "1"), delete("a/b"), lock("a/b", "s"), unlock("a/b", "s"), Command::ExpireKey { key: key("a/b") }]
    {
        needs(&command, &["key a/b write"]);
    }
}

#[test]
fn every_step_of_a_transaction_that_is_denied_is_told() {
    let steps = [step(KvVerb::Set, "a"), step(KvVerb::Get, "a"), step(KvVerb::Get, "b")];
    let denied = authority("key a read").denied_steps(&state(), &steps);
    let denied: Vec<_> = denied.iter().map(|(at, denied)| (*at, denied.name.as_str(), denied.level)).collect();
    assert_eq!(denied, [(0, "a", Level::Write), (2, "b", Level::Read)]);
}

#[test]
fn a_tree_of_keys_needs_write_to_all_that_could_be_in_it() {
    for command in [Command::KvDeleteTree { prefix: "a/".into() }, txn([TxnStep::KvDeleteTree("a/".into())])] {
        needs(&command, &["key a/* write"]);
        let may = |rules: &str| authority(rules).permits(&state(), &command).is_ok();
        assert!(may("key * write, key a read, key b* deny"));
        assert!(!may("key * write, key a/b read"));
        assert!(!may("key * write, key a/b* deny, key a/b/c write"));
        assert!(!may("key a/ write"));
    }
}

#[test]
fn sessions_need_session_write_on_their_host() {
    let id = || session_id("s");
    needs(&create(session("t")), &["session n write"]);
    needs(&create(Session { node: node_key("m"), ..session("t") }), &["session m write"]);
    needs(&Command::RenewSession { session: id() }, &["session n write"]);
    needs(&Command::DestroySession { session: id() }, &["session n write"]);
    needs(&Command::ExpireSession { session: id() }, &["session n write"]);
    needs(&Command::DestroySession { session: session_id("none") }, &[]);
}

#[test]
fn queries_need_query_write_on_both_names_and_nameless_ones_go_with_their_session() {
    let id = |id| QueryId::new(id).unwrap();
    let new = "0000000c-0000-4000-8000-000000000000";
    needs(&Command::CreateQuery { query: query(new, "r", "") }, &["query r write"]);
    needs(&Command::CreateQuery { query: query(new, "", "s") }, &["session n write"]);
    needs(&Command::UpdateQuery { query: query(NAMED, "r", "") }, &["query q write", "query r write"]);
    needs(&Command::UpdateQuery { query: query(NAMELESS, "r", "s") }, &["session n write", "query r write"]);
    needs(&Command::UpdateQuery { query: query(NAMED, "", "s") }, &["query q write", "session n write"]);
    needs(&Command::DeleteQuery { query: id(NAMED) }, &["query q write"]);
    needs(&Command::DeleteQuery { query: id(NAMELESS) }, &["session n write"]);
    needs(&Command::DeleteQuery { query: id(new) }, &[]);
    let mut all = query(new, "", "");
    all.template.kind = "name_prefix_match".into();
    needs(&Command::CreateQuery { query: all }, &["query * write"]);
}

#[test]
fn registrations_need_node_write_where_the_host_changes_and_service_write() {
    let moved = || Node { address: "10.0.0.2".into(), ..node("n", "id-n") };
    let keep = |node| Command::Register { node, keep_node: true, instance: None, checks: vec![] };
    needs(&host("new"), &["node new write"]);
    needs(&register(moved(), None, vec![]), &["node n write"]);
    needs(&register(node("n", ""), None, vec![]), &[]);
    needs(&keep(moved()), &[]);
    needs(&keep(node("new", "")), &["node new write"]);
    // It was known under another name, from which it would go.
    needs(&host("m"), &[]);
    needs(&register(node("m", "id-n"), None, vec![]), &["node m write", "node n write"]);
    needs(&register(node("n", "id-n"), Some(instance("n", "x", "api")), vec![]), &["service api write"]);
    // What it is put over.
    needs(
        &register(node("n", ""), Some(instance("n", "w", "api")), vec![]),
        &["service api write", "service web write"],
    );
    needs(&own(instance("n", "w", "Web"), vec![check("n", "c", "w")]), &["service web write"]);
    needs(&own(instance("n", "w", "api"), vec![]), &["service api write", "service web write"]);
}

#[test]
fn checks_need_what_their_service_or_host_needs_before_and_after() {
    let catalog = |check| register(node("n", ""), None, vec![check]);
    for put in [catalog, own_check, |check| txn([check_step(RowVerb::Set, check)])] {
        needs(&put(check("n", "new", "")), &["node n write"]);
        needs(&put(check("n", "new", "w")), &["service web write"]);
        needs(&put(check("n", "c", "d")), &["service db write", "service web write"]);
        needs(&put(check("n", "h", "d")), &["service db write", "node n write"]);
        needs(&put(check("n", "c", "")), &["node n write", "service web write"]);
        // No such instance: refused later.
        needs(&put(check("n", "new", "none")), &["node n write"]);
    }
    let of_new = register(node("n", ""), Some(instance("n", "x", "api")), vec![check("n", "k", "x")]);
    needs(&of_new, &["service api write"]);
    needs(&report("n", "c", Passing, ""), &["service web write"]);
    needs(&report("n", "h", Passing, ""), &["node n write"]);
    needs(&report("n", "none", Passing, ""), &[]);
    needs(&expire("n", "c"), &["service web write"]);
    let probe = tcp("10.0.0.1:80");
    needs(&probed("n", "h", &probe, Passing, ""), &["node n write"]);
    needs(&Command::ReapCritical { node: node_key("n"), check: check_id("c"), probe }, &["service web write"]);
}

#[test]
fn deregistrations_need_what_registrations_do_or_the_host() {
    for (path, rule) in [("n/i/w", "service web write"), ("n/c/c", "service web write"), ("n/c/h", "node n write")] {
        needs(&deregister_own(path), &[rule]);
        let (node, target) = target(path);
        needs(&Command::Undefine { node, target }, &[rule]);
        for rule in [rule, "node n write"] {
            assert_eq!(authority(rule).permits(&state(), &deregister(path)), Ok(()), "{path} {rule}");
        }
        authority("service api write, node m write").permits(&state(), &deregister(path)).expect_err(path);
    }
    needs(&deregister("n"), &["node n write"]);
    needs(&deregister("none"), &["node none write"]);
    needs(&deregister("n/i/none"), &[]);
    assert!(authority("service * write").permits(&state(), &deregister_own("n/i/w")).is_ok());
    assert!(authority("node * write").permits(&state(), &deregister_own("n/i/w")).is_err(), "as Consul's agent");
}

#[test]
fn transactions_need_what_their_steps_need() {
    let w = || instance("n", "w", "web");
    for verb in [
        KvVerb::Get,
        KvVerb::GetOrEmpty,
        KvVerb::CheckIndex(1),
        KvVerb::CheckNotExists,
        KvVerb::CheckSession(String::new()),
    ] {
        needs(&txn([step(verb, "a")]), &["key a read"]);
    }
    let locking = KvVerb::Lock { session: session_id("s"), delayed: false };
    for verb in
        [KvVerb::Set, KvVerb::Cas(1), locking, KvVerb::Unlock(session_id("s")), KvVerb::Delete, KvVerb::DeleteCas(1)]
    {
        needs(&txn([step(KvVerb::Get, "b"), step(verb, "a")]), &["key b read", "key a write"]);
    }
    needs(&txn([TxnStep::KvGetTree("a".into()), TxnStep::Wrong { what: String::new() }]), &[]);

    needs(&txn([node_step(RowVerb::Get, Some("n"), node("n", ""))]), &["node n read"]);
    needs(&txn([node_step(RowVerb::Get, None, node("", "id-n"))]), &["node n read"]);
    needs(&txn([node_step(RowVerb::Delete, None, node("", "id-n"))]), &["node n write"]);
    needs(&txn([node_step(RowVerb::DeleteCas(1), Some("new"), node("new", ""))]), &["node new write"]);
    needs(&txn([node_step(RowVerb::Cas(1), Some("m"), node("m", "id-n"))]), &["node m write", "node n write"]);
    needs(&txn([node_step(RowVerb::Set, Some("n"), node("n", ""))]), &[]);

    needs(&txn([instance_step(RowVerb::Get, w())]), &["service web read", "node n read"]);
    needs(&txn([instance_step(RowVerb::Delete, w())]), &["service web write"]);
    needs(&txn([instance_step(RowVerb::DeleteCas(1), instance("n", "none", "web"))]), &[]);
    needs(&txn([instance_step(RowVerb::Set, instance("n", "w", "api"))]), &["service web write", "service api write"]);

    needs(&txn([check_step(RowVerb::Get, check("n", "c", "w"))]), &["service web read", "node n read"]);
    needs(&txn([check_step(RowVerb::Get, check("n", "h", ""))]), &["node n read"]);
    // What the row says counts, not what the step says.
    needs(&txn([check_step(RowVerb::Delete, check("n", "c", "d"))]), &["service web write"]);
    needs(&txn([check_step(RowVerb::DeleteCas(1), check("n", "h", "d"))]), &["node n write"]);
    // A step sees those before it.
    let x = instance("n", "x", "api");
    needs(
        &txn([instance_step(RowVerb::Set, x), check_step(RowVerb::Cas(0), check("n", "k", "x"))]),
        &["service api write"],
    );
}

#[test]
fn tokens_policies_and_restores_need_acl_write() {
    needs(&Command::Restore { rows: vec![], index: crate::Index(1) }, &["acl write"]);
    needs(&Command::PrepareAcl { now: Duration::ZERO, management: None }, &["acl write"]);
    let token = || crate::names::TokenId::new(NAMED).unwrap();
    needs(&Command::DeleteToken { token: token() }, &["acl write"]);
    needs(&Command::ExpireToken { token: token() }, &["acl write"]);
    needs(&Command::UpdateToken { token: token(), description: String::new(), policies: vec![] }, &["acl write"]);
    needs(&Command::DeletePolicy { policy: crate::names::PolicyId::new(NAMED).unwrap() }, &["acl write"]);
}

#[test]
fn trees_read_in_transactions_lose_what_may_not_be_seen() {
    let state = given([put("a/1", ""), put("a/2", ""), put("b", "")]);
    let found = state.keys("").map(|entry| TxnResult::Kv { entry: entry.clone(), with_value: true });
    let mut results: Vec<_> = found.chain([TxnResult::NoSuchKey(key("a/3")), TxnResult::NoSuchKey(key("c"))]).collect();
    authority("key a/* read, key a/2 deny").retain_readable(&mut results);
    let kept = results.iter().map(|result| match result {
        TxnResult::Kv { entry, .. } => entry.key.as_str(),
        TxnResult::NoSuchKey(key) => key.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(kept.collect::<Vec<_>>(), ["a/1", "a/3"]);
}
