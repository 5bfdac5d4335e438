//! Steps that are made all or none.

use super::*;
use crate::{KvVerb, RowVerb, TxnResult, TxnStep};

fn kv(verb: KvVerb, name: &str) -> TxnStep {
    TxnStep::Kv { verb, key: key(name), value: "new".into(), flags: 0 }
}

fn txn(steps: impl Into<Vec<TxnStep>>) -> Command {
    Command::Txn { steps: steps.into() }
}

fn set_node(name: &str, verb: RowVerb) -> TxnStep {
    TxnStep::Node { verb, name: Some(node_key(name)), node: node(name, "").into() }
}

fn set_instance(id: &str, verb: RowVerb) -> TxnStep {
    let instance = Some(instance("n", id, "web").into());
    TxnStep::Instance { verb, node: node_key("n"), id: instance_id(id), instance }
}

fn set_check(id: &str, of: &str, verb: RowVerb) -> TxnStep {
    TxnStep::Check { verb, node: node_key("n"), id: check_id(id), check: Some(check("n", id, of).into()) }
}

/// `a` has index 101; `locked` is held by `s`, and `n` is the host of `s`.
fn before() -> State {
    given([put("a", "1"), host("n"), create(session("s")), lock("locked", "s")])
}

#[test]
fn steps_on_keys() {
    let s = || session_id("s");
    for (steps, expected) in [
        (vec![kv(KvVerb::Set, "a"), kv(KvVerb::Set, "b")], "+k/a +k/b"),
        (vec![kv(KvVerb::Cas(101), "a"), kv(KvVerb::Cas(0), "b")], "+k/a +k/b"),
        (vec![kv(KvVerb::Cas(1), "a"), kv(KvVerb::Set, "b")], "0: failed to set key \"a\", index is stale"),
        (vec![kv(KvVerb::Get, "a"), kv(KvVerb::GetOrEmpty, "b"), kv(KvVerb::CheckIndex(101), "a")], ""),
        (
            vec![kv(KvVerb::Get, "b"), kv(KvVerb::CheckNotExists, "a"), kv(KvVerb::CheckNotExists, "b")],
            "0: key \"b\" doesn't exist; 1: key \"a\" exists",
        ),
        (
            vec![kv(KvVerb::CheckIndex(1), "a"), kv(KvVerb::CheckIndex(1), "b")],
            "0: failed index check for key \"a\", current modify index 101 != 1; \
             1: failed to check index, key \"b\" doesn't exist",
        ),
        (vec![kv(KvVerb::CheckSession("s".into()), "locked"), kv(KvVerb::CheckSession(String::new()), "a")], ""),
        (
            vec![kv(KvVerb::CheckSession("zz".into()), "a")],
            "0: failed session check for key \"a\", current session \"\" != \"zz\"",
        ),
        (vec![kv(KvVerb::Lock { session: s(), delayed: false }, "a")], "+k/a 1x s"),
        (vec![kv(KvVerb::Lock { session: s(), delayed: true }, "a")], "0: failed to lock key \"a\" due to lock delay"),
        (vec![kv(KvVerb::Lock { session: session_id("zz"), delayed: false }, "a")], "0: invalid session \"zz\""),
        (vec![kv(KvVerb::Unlock(s()), "locked")], "+k/locked 1x nobody"),
        (
            vec![kv(KvVerb::Unlock(s()), "a")],
            "0: failed to unlock key \"a\", lock isn't held, or is held by another session",
        ),
        (vec![kv(KvVerb::Delete, "a"), kv(KvVerb::Delete, "b"), kv(KvVerb::DeleteCas(5), "b")], "-k/a"),
        (vec![kv(KvVerb::DeleteCas(5), "a")], "0: failed to delete key \"a\", index is stale"),
        (vec![TxnStep::KvDeleteTree("a".into()), TxnStep::KvGetTree("x".into())], "-k/a*"),
        (vec![TxnStep::Wrong { what: "unknown KV verb \"x\"".into() }], "0: unknown KV verb \"x\""),
        (vec![], ""),
    ] {
        case(&before(), &txn(steps), expected);
    }
}

#[test]
fn a_step_sees_what_those_before_it_did() {
    let steps = [
        kv(KvVerb::Delete, "a"),
        kv(KvVerb::CheckNotExists, "a"),
        kv(KvVerb::Set, "a"),
        kv(KvVerb::Get, "a"),
        kv(KvVerb::Lock { session: session_id("s"), delayed: false }, "a"),
        TxnStep::KvGetTree("a".into()),
    ];
    let state = before();
    case(&state, &txn(steps.clone()), "-k/a +k/a +k/a 1x s");
    let decision = decide(&state, &txn(steps)).unwrap();
    let Outcome::Txn(results) = decision.outcome else { panic!("{:?}", decision.outcome) };
    let shown = results.iter().map(|result| {
        let TxnResult::Kv { entry, with_value } = result else { panic!("{result:?}") };
        (entry.created.0, entry.modified.0, entry.lock_index, *with_value)
    });
    let next = state.index().next().0;
    let expected = [(next, next, 0, false), (next, next, 0, true), (next, next, 1, false), (next, next, 1, true)];
    assert!(shown.eq(expected), "{results:?}");

    let mut after = state.clone();
    after.apply(state.index().next(), &decision.changes);
    let entry = after.key(&key("a")).unwrap();
    assert_eq!((entry.created.0, entry.modified.0, entry.lock_index), (next, next, 1), "as the results said");
}

#[test]
fn a_session_that_ends_midway_gives_its_locks_back_midway() {
    let steps = [set_node("n", RowVerb::Delete), kv(KvVerb::CheckSession(String::new()), "locked")];
    case(&before(), &txn(steps), "-n/n* +k/locked 1x nobody -s/s");
}

#[test]
fn steps_on_the_catalog() {
    let all = [
        set_node("new", RowVerb::Set),
        set_instance("i", RowVerb::Set),
        set_check("c", "i", RowVerb::Set),
        set_check("c", "i", RowVerb::Get),
    ];
    case(&before(), &txn(all), "+n/new +n/n/i/i +n/n/c/c passing \"\"");
    case(
        &before(),
        &txn([
            set_node("new", RowVerb::Get),
            set_node("n", RowVerb::Cas(7)),
            set_node("n", RowVerb::DeleteCas(7)),
            set_instance("i", RowVerb::Get),
            set_instance("i", RowVerb::Cas(7)),
            set_check("c", "", RowVerb::Get),
            set_check("c", "none", RowVerb::Set),
            set_check("c", "", RowVerb::Cas(7)),
        ]),
        "0: node \"new\" doesn't exist; 1: failed to set node \"n\", index is stale; \
         2: failed to delete node \"n\", index is stale; 3: service \"i\" on node \"n\" doesn't exist; \
         4: failed to set service \"i\" on node \"n\", index is stale; 5: check \"c\" on node \"n\" doesn't exist; \
         6: Missing service registration; 7: failed to set check \"c\" on node \"n\", index is stale",
    );
    let gone = [
        set_check("c", "", RowVerb::Delete),
        set_instance("i", RowVerb::DeleteCas(7)),
        set_node("new", RowVerb::DeleteCas(7)),
    ];
    case(&before(), &txn(gone), "");
    let nowhere = TxnStep::Instance {
        verb: RowVerb::Set,
        node: node_key("nowhere"),
        id: instance_id("i"),
        instance: Some(instance("nowhere", "i", "web").into()),
    };
    case(&before(), &txn([nowhere]), "0: Missing node registration");
    case(&before(), &txn([set_node("n", RowVerb::Cas(102))]), "");
}

#[test]
fn an_agent_keeps_what_it_runs() {
    let before = given([host("n"), own(instance("n", "i", "web"), vec![ttl_check("n", "c", "i")])]);
    let foreign = Instance { owner: Owner::External, ..instance("n", "i", "web") };
    let put = TxnStep::Instance {
        verb: RowVerb::Set,
        node: node_key("n"),
        id: instance_id("i"),
        instance: Some(foreign.into()),
    };
    let changed = Check { owner: Owner::External, notes: "new".into(), ..check("n", "c", "i") };
    let step =
        TxnStep::Check { verb: RowVerb::Set, node: node_key("n"), id: check_id("c"), check: Some(changed.into()) };
    let decision = decide(&before, &txn([put, step])).unwrap();
    let [Op::Put(Put { row: Row::Check(check), .. })] = &decision.changes.ops[..] else { panic!("{decision:?}") };
    assert_eq!((check.owner, check.probe.is_some(), &*check.notes), (Owner::Agent, true, "new"));
}
