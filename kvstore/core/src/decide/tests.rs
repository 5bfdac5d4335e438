//! Each command against states that matter to it: what it changes, or why it is refused.

mod acl;
mod queries;
mod sessions;
mod txn;

use super::*;
use crate::{
    Target,
    health::Status::{Critical, Passing, Warning},
    row::{Check, Instance, Node, Owner},
    tests::*,
};

/// Decides `command` on `state` and compares with `expected`: the refusal; or `no match`; or step by step `-RANGE*` and
/// `-ROW` for what goes and `+ROW` for what is put, for checks with status and output.
#[track_caller]
fn case(state: &State, command: &Command, expected: &str) {
    let text = match decide(state, command) {
        Err(Refusal::Txn(errors)) => {
            errors.iter().map(|error| format!("{}: {}", error.step, error.what)).collect::<Vec<_>>().join("; ")
        }
        Err(refusal) => refusal.to_string(),
        Ok(Decision { outcome: Outcome::NotMatched, changes, .. }) => {
            assert!(changes.is_empty(), "{changes:?}");
            "no match".into()
        }
        Ok(Decision { changes, .. }) => render(&changes),
    };
    assert_eq!(text, expected, "{command:?}");
}

fn render(changes: &Changes) -> String {
    let op = |op: &Op| match op {
        Op::DeleteRange(range) => format!("-{}*", range.prefix()),
        Op::Delete(key) => format!("-{}", key.encode()),
        Op::Put(Put { row: Row::Check(check), .. }) => {
            format!("+{} {} {:?}", Row::Check(check.clone()).key().encode(), check.status, check.output)
        }
        Op::Put(Put { row: Row::Kv(entry), .. }) if entry.lock_index > 0 => {
            let holder = entry.session.as_ref().map_or("nobody", |session| session.as_str());
            format!("+k/{} {}x {holder}", entry.key, entry.lock_index)
        }
        Op::Put(put) => format!("+{}", put.row.key().encode()),
    };
    changes.ops.iter().map(op).collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_are_put_and_deleted() {
    let state = given([put("a", "1"), put("a/b", "2")]);
    let kv = |value: &str, flags, cas| Command::KvPut {
        key: key("a"),
        value: value.to_owned().into(),
        flags,
        cas,
        ttl: Duration::ZERO,
    };
    case(&state, &kv("2", 0, None), "+k/a");
    case(&state, &kv("1", 7, None), "+k/a");
    case(&state, &kv("1", 0, None), "");
    case(&state, &put("new", ""), "+k/new");
    case(&state, &delete("a"), "-k/a");
    case(&state, &delete("new"), "");
    case(&state, &Command::KvDeleteTree { prefix: "a/".into() }, "-k/a/*");
    case(&state, &Command::KvDeleteTree { prefix: String::new() }, "-k/*");
    case(&state, &Command::KvDeleteTree { prefix: "b".into() }, "");
}

#[test]
fn compare_and_set_compares_the_modify_index() {
    let state = given([put("a", "1"), put("b", "1")]);
    let set =
        |name, cas| Command::KvPut { key: key(name), value: "2".into(), flags: 0, cas: Some(cas), ttl: Duration::ZERO };
    case(&state, &set("a", 101), "+k/a");
    case(&state, &set("a", 102), "no match");
    case(&state, &set("a", 0), "no match");
    case(&state, &set("new", 0), "+k/new");
    case(&state, &set("new", 101), "no match");
    let same = Command::KvPut { key: key("a"), value: "1".into(), flags: 0, cas: Some(101), ttl: Duration::ZERO };
    case(&state, &same, "");

    let delete = |name, cas| Command::KvDelete { key: key(name), cas: Some(cas) };
    case(&state, &delete("a", 101), "-k/a");
    case(&state, &delete("a", 102), "no match");
    case(&state, &delete("a", 0), "no match");
    case(&state, &delete("new", 5), "");
}

#[test]
fn the_catalog_puts_host_instance_and_checks_together() {
    let all = |port| {
        let instance = Instance { port, ..instance("n", "i", "web") };
        register(node("n", ""), Some(instance), vec![check("n", "c", "i"), check("n", "host", "")])
    };
    let state = given([all(80)]);
    case(&State::empty(START), &all(80), "+n/n +n/n/i/i +n/n/c/c passing \"\" +n/n/c/host passing \"\"");
    case(&state, &all(80), "");
    case(&state, &all(81), "+n/n/i/i");
    let critical = Check { status: Critical, ..check("n", "c", "i") };
    case(&state, &register(node("n", ""), None, vec![critical.clone()]), "+n/n/c/c critical \"\"");
    let twice = register(node("n", ""), None, vec![critical, check("n", "c", "i")]);
    case(&state, &twice, "");
    let stray = register(node("n", ""), None, vec![check("n", "c", "other")]);
    case(&state, &stray, "Unknown service ID 'other' for check ID 'c'");
}

#[test]
fn a_host_is_left_as_it_is_if_asked() {
    let moved = |keep_node| {
        let node = Node { address: "10.0.0.9".into(), ..node("n", "") };
        Command::Register { node, keep_node, instance: None, checks: vec![] }
    };
    let state = given([host("n")]);
    case(&state, &moved(false), "+n/n");
    case(&state, &moved(true), "");
    case(&State::empty(START), &moved(true), "+n/n");
}

#[test]
fn a_host_keeps_its_id_and_is_renamed_by_it() {
    let serf = |node: &str, status| Check { status, ..check(node, "serfHealth", "") };
    let state = given([
        register(node("old", "uuid-1"), Some(instance("old", "i", "web")), vec![serf("old", Passing)]),
        register(node("alive", "uuid-2"), None, vec![serf("alive", Passing)]),
        register(node("dead", "uuid-3"), None, vec![serf("dead", Critical)]),
        host("nobody"),
    ]);
    case(&state, &register(node("old", ""), None, vec![]), "");
    case(&state, &register(node("OLD", "uuid-1"), None, vec![]), "+n/old");
    case(&state, &register(node("new", "uuid-1"), None, vec![]), "-n/old* +n/new");
    case(
        &state,
        &register(node("alive", "uuid-1"), None, vec![]),
        "Node name alive is reserved by node uuid-2 with name alive (10.0.0.1)",
    );
    case(&state, &register(node("dead", "uuid-1"), None, vec![]), "-n/old* +n/dead");
    case(&state, &register(node("dead", "uuid-4"), None, vec![]), "+n/dead");
    case(&state, &register(node("nobody", "uuid-4"), None, vec![]), "+n/nobody");
    let unchanged_check = register(node("dead", "uuid-1"), None, vec![serf("dead", Critical)]);
    case(&state, &unchanged_check, "-n/old* +n/dead");
}

#[test]
fn an_agent_s_instance_takes_its_checks_with_it() {
    let before =
        vec![Check { status: Warning, output: "so so".into(), ..ttl_check("n", "a", "i") }, check("n", "b", "i")];
    let state = given([
        host("n"),
        own(instance("n", "i", "web"), before),
        register(node("n", ""), None, vec![Check { owner: Owner::External, ..check("n", "foreign", "i") }]),
        own_check(check("n", "host", "")),
    ]);
    let anew = vec![ttl_check("n", "a", "i"), check("n", "c", "i")];
    let replace = own(instance("n", "i", "web"), anew.clone());
    case(&state, &replace, "-n/n/c/b -n/n/c/foreign +n/n/c/c passing \"\"");
    let add = Command::RegisterInstance {
        instance: instance("n", "i", "web").into(),
        checks: anew.clone(),
        replace_checks: false,
    };
    case(&state, &add, "+n/n/c/c passing \"\"");
    let other_ttl = vec![Check { notes: "new".into(), ..ttl_check("n", "a", "i") }];
    let kept = own(instance("n", "i", "web"), other_ttl);
    case(&state, &kept, "-n/n/c/b -n/n/c/foreign +n/n/c/a warning \"so so\"");
    case(
        &state,
        &own(
            instance("n", "i", "db"),
            vec![ttl_check("n", "a", "i"), check("n", "b", "i"), {
                Check { owner: Owner::External, ..check("n", "foreign", "i") }
            }],
        ),
        "+n/n/i/i",
    );
    case(&state, &own(instance("m", "i", "web"), vec![]), "Unknown node \"m\"");
}

#[test]
fn an_agent_s_check_belongs_to_the_host_or_to_an_own_instance() {
    let foreign = Instance { owner: Owner::External, ..instance("n", "foreign", "web") };
    let state =
        given([host("n"), own(instance("n", "i", "web"), vec![]), register(node("n", ""), Some(foreign), vec![])]);
    case(&state, &own_check(check("n", "c", "i")), "+n/n/c/c passing \"\"");
    case(&state, &own_check(check("n", "c", "")), "+n/n/c/c passing \"\"");
    case(&state, &own_check(check("n", "c", "foreign")), "ServiceID \"foreign\" does not exist");
    case(&state, &own_check(check("n", "c", "none")), "ServiceID \"none\" does not exist");
    case(&state, &own_check(check("m", "c", "")), "Unknown node \"m\"");
}

#[test]
fn what_is_deregistered_takes_along_what_hangs_on_it() {
    let state = given([
        host("n"),
        own(instance("n", "i", "web"), vec![check("n", "a", "i"), check("n", "b", "i")]),
        own(instance("n", "j", "web"), vec![check("n", "c", "j")]),
        own_check(check("n", "host", "")),
        host("n1"),
    ]);
    for deregister in [deregister, deregister_own] {
        case(&state, &deregister("n/i/i"), "-n/n/c/a -n/n/c/b -n/n/i/i");
        case(&state, &deregister("n/c/a"), "-n/n/c/a");
        case(&state, &deregister("n/c/host"), "-n/n/c/host");
    }
    case(&state, &deregister("n"), "-n/n*");
}

#[test]
fn the_catalog_does_not_mind_what_is_not_there_and_the_agent_does() {
    let foreign = Instance { owner: Owner::External, ..instance("n", "foreign", "web") };
    let foreign_check = Check { owner: Owner::External, ..check("n", "foreign", "foreign") };
    let state = given([register(node("n", ""), Some(foreign), vec![foreign_check])]);
    for path in ["m", "m/i/i", "n/i/none", "m/c/c", "n/c/none"] {
        case(&state, &deregister(path), "");
    }
    let unknown = |kind: &str, id: &str, other: &str| {
        format!("Unknown {kind} ID {id:?}. Ensure that the {kind} ID is passed, not the {other} name.")
    };
    for id in ["none", "foreign"] {
        case(&state, &deregister_own(&format!("n/i/{id}")), &unknown("service", id, "service"));
        case(&state, &deregister_own(&format!("n/c/{id}")), &unknown("check", id, "check"));
    }
    case(&state, &deregister_own("n"), "Unknown node \"n\"");
}

#[test]
fn a_ttl_check_is_reported_by_its_owner_only() {
    let foreign = Check { owner: Owner::External, ..ttl_check("n", "foreign", "") };
    let state =
        given([register(node("n", ""), None, vec![ttl_check("n", "ttl", ""), tcp_check("n", "tcp", ""), foreign])]);
    case(&state, &report("n", "ttl", Warning, "hm"), "+n/n/c/ttl warning \"hm\"");
    case(&state, &report("n", "ttl", Passing, "fine"), "+n/n/c/ttl passing \"fine\"");
    case(&state, &report("n", "ttl", Passing, ""), "");
    case(&state, &report("n", "tcp", Passing, ""), "CheckID \"tcp\" does not have associated TTL");
    let unknown =
        |id: &str| format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.");
    case(&state, &report("n", "none", Passing, ""), &unknown("none"));
    case(&state, &report("n", "foreign", Passing, ""), &unknown("foreign"));
    case(&state, &report("m", "ttl", Passing, ""), &unknown("ttl"));
}

#[test]
fn a_silent_ttl_check_turns_critical_once() {
    let mut state = given([register(
        node("n", ""),
        None,
        vec![Check { output: "fine".into(), ..ttl_check("n", "ttl", "") }, tcp_check("n", "tcp", "")],
    )]);
    let expected = "+n/n/c/ttl critical \"TTL expired (last output before timeout follows): fine\"";
    case(&state, &expire("n", "ttl"), expected);
    case(&state, &expire("n", "none"), "");
    case(&state, &expire("n", "tcp"), "");
    carry_out(&mut state, &expire("n", "ttl"));
    case(&state, &expire("n", "ttl"), "");
}

#[test]
fn a_probe_s_result_counts_only_for_the_check_it_was_made_for() {
    let state = given([register(node("n", ""), None, vec![tcp_check("n", "c", ""), check("n", "bare", "")])]);
    let (current, superseded) = (tcp("10.0.0.1:80"), tcp("10.0.0.2:80"));
    case(&state, &probed("n", "c", &current, Critical, "refused"), "+n/n/c/c critical \"refused\"");
    case(&state, &probed("n", "c", &current, Passing, "open"), "+n/n/c/c passing \"open\"");
    case(&state, &probed("n", "c", &current, Passing, ""), "");
    case(&state, &probed("n", "c", &superseded, Critical, "refused"), "");
    case(&state, &probed("n", "bare", &current, Critical, "refused"), "");
    case(&state, &probed("n", "gone", &current, Critical, "refused"), "");
    assert!(probed("n", "c", &current, Passing, "").is_lazy());
    assert!(!report("n", "c", Passing, "").is_lazy());
}

#[test]
fn an_instance_goes_for_its_critical_checks_only() {
    let critical = |id: &str, of: &str| Check { status: Critical, ..tcp_check("n", id, of) };
    let foreign = Check { owner: Owner::External, ..critical("foreign", "i") };
    let state = given([register(
        node("n", ""),
        Some(instance("n", "i", "web")),
        vec![critical("bad", "i"), tcp_check("n", "good", "i"), foreign, critical("host", "")],
    )]);
    let probe = tcp("10.0.0.1:80");
    let reap = |id: &str, probe: &std::sync::Arc<crate::row::Probe>| Command::ReapCritical {
        node: node_key("n"),
        check: check_id(id),
        probe: probe.clone(),
    };
    for id in ["bad", "foreign"] {
        case(&state, &reap(id, &probe), "-n/n/c/bad -n/n/c/foreign -n/n/c/good -n/n/i/i");
    }
    case(&state, &reap("bad", &tcp("10.0.0.2:80")), "");
    for id in ["good", "host", "none"] {
        case(&state, &reap(id, &probe), "");
    }
}

#[test]
fn a_row_that_is_put_again_keeps_when_it_was_created() {
    let mut state = given([put("a", "1"), put("a", "2")]);
    let stamps = |state: &State| state.key(&key("a")).map(|row| (row.created.0, row.modified.0));
    assert_eq!(stamps(&state), Some((101, 102)));
    carry_out(&mut state, &delete("a"));
    carry_out(&mut state, &put("a", "3"));
    assert_eq!(stamps(&state), Some((104, 104)));
}

/// With several writers a decision is void if what it relied on has changed.
#[test]
fn a_decision_names_what_it_relied_on() {
    let state = given([put("a", "1"), host("n"), own(instance("n", "i", "web"), vec![])]);
    let row = |key: RowKey, index| Expect::Row(key, Index(index));
    let (n, i) = (node_key("n"), instance_id("i"));
    for (command, expected) in [
        (put("a", "2"), row(RowKey::Kv(key("a")), 101)),
        (put("b", "2"), Expect::Absent(RowKey::Kv(key("b")))),
        (delete("a"), row(RowKey::Kv(key("a")), 101)),
        (Command::KvDeleteTree { prefix: "a".into() }, Expect::Unchanged(RowRange::KvPrefix("a".into()), Index(103))),
        (deregister("n"), Expect::Unchanged(RowRange::Node(n.clone()), Index(103))),
        (own(instance("n", "j", "web"), vec![]), row(RowKey::Node(n.clone()), 102)),
        (own_check(check("n", "c", "i")), row(RowKey::Instance(n.clone(), i.clone()), 103)),
        (own_check(check("n", "c", "i")), Expect::Absent(RowKey::Check(n.clone(), check_id("c")))),
        (deregister_own("n/i/i"), row(RowKey::Instance(n.clone(), i), 103)),
        // What is added to what ends is noticed by who ends it.
        (deregister_own("n/i/i"), Expect::Unchanged(RowRange::Node(n.clone()), Index(103))),
        (deregister("n"), Expect::Unjoined(RowKey::Node(n.clone()), Index(103))),
        (own(instance("n", "i", "api"), vec![]), row(RowKey::Instance(n.clone(), instance_id("i")), 103)),
    ] {
        let expects = decide(&state, &command).unwrap().changes.expects;
        assert!(expects.contains(&expected), "{command:?} relies on {expects:?}, not on {expected:?}");
    }
}

/// An agent's own registration stays its own, whoever writes over it through the catalog.
#[test]
fn what_an_agent_put_stays_its_own() {
    let mut state = given([host("n"), own(instance("n", "i", "web"), vec![tcp_check("n", "c", "i")])]);
    let foreign = Instance { owner: Owner::External, tags: vec!["new".into()], ..instance("n", "i", "web") };
    let said = Check { owner: Owner::External, status: Critical, output: "said".into(), ..check("n", "c", "i") };
    carry_out(&mut state, &register(node("n", ""), Some(foreign), vec![said]));
    let row = state.instance(&node_key("n"), &instance_id("i")).unwrap();
    assert_eq!((row.owner, &row.tags[..]), (Owner::Agent, &["new".to_owned()][..]));
    let row = state.check(&node_key("n"), &check_id("c")).unwrap();
    assert_eq!((row.owner, row.status, &*row.output), (Owner::Agent, Critical, "said"));
    assert_eq!(row.probe, Some(tcp("10.0.0.1:80")));
    // What nobody's agent has put is external, and becomes the agent's by registering it there.
    let other = Instance { owner: Owner::External, ..instance("n", "j", "web") };
    carry_out(&mut state, &register(node("n", ""), Some(other.clone()), vec![]));
    carry_out(&mut state, &own(Instance { owner: Owner::Agent, ..other }, vec![]));
    assert_eq!(state.instance(&node_key("n"), &instance_id("j")).unwrap().owner, Owner::Agent);
    carry_out(&mut state, &deregister("n/i/i"));
    case(&state, &deregister_own("n/i/i"), &Refusal::UnknownInstance(instance_id("i")).to_string());
}

#[test]
fn only_what_a_file_defined_is_undefined() {
    let undefine = |target| Command::Undefine { node: node_key("n"), target };
    let (i, c) = (|| Target::Instance(instance_id("i")), || Target::Check(check_id("c")));
    let defined = |from_file| Instance { from_file, ..instance("n", "i", "web") };
    let defined_check = |from_file| Check { from_file, ..check("n", "c", "") };
    let mut state = given([host("n"), own(defined(true), vec![check("n", "a", "i")]), own_check(defined_check(true))]);
    case(&state, &undefine(i()), "-n/n/c/a -n/n/i/i");
    case(&state, &undefine(c()), "-n/n/c/c");
    case(&state, &undefine(Target::Node), "");
    // Registered by hand since.
    carry_out(&mut state, &own(defined(false), vec![check("n", "a", "i")]));
    carry_out(&mut state, &own_check(defined_check(false)));
    case(&state, &undefine(i()), "");
    case(&state, &undefine(c()), "");
}
