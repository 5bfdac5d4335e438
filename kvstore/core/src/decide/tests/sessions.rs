//! Locks, and all that takes them away.

use super::*;
use crate::row::{Behavior, ServiceCheck, Session};

/// The host `n` with the session `s`, which holds the key `k`.
fn held(session: Session) -> State {
    let serf = check("n", "serfHealth", "");
    let all = register(node("n", ""), Some(instance("n", "i", "web")), vec![serf, check("n", "c", "i")]);
    given([all, create(session), lock("k", "s")])
}

#[test]
fn a_lock_has_one_holder() {
    let state = held(session("s"));
    let state_and_other = {
        let mut state = state.clone();
        carry_out(&mut state, &create(session("t")));
        state
    };
    let taken = state.key(&key("k")).unwrap();
    assert_eq!((taken.lock_index, taken.session.clone()), (1, Some(session_id("s"))));
    case(&state, &lock("k", "s"), "");
    case(&state_and_other, &lock("k", "t"), "no match");
    case(&state_and_other, &unlock("k", "t"), "no match");
    case(&state_and_other, &lock("new", "t"), "+k/new 1x t");
    case(&state, &unlock("k", "s"), "+k/k 1x nobody");
    case(&state, &unlock("new", "s"), "no match");
    case(&state, &unlock("k", "unknown"), "no match");
    case(&state, &lock("k", "unknown"), "raft apply failed: invalid session \"unknown\"");
    case(&state, &put("k", "by anybody"), "+k/k 1x s");
    case(&state, &delete("k"), "-k/k");

    let mut again = state_and_other;
    carry_out(&mut again, &unlock("k", "s"));
    case(&again, &lock("k", "t"), "+k/k 2x t");
    let delayed =
        Command::KvLock { key: key("k"), value: "".into(), flags: 0, session: session_id("t"), delayed: true };
    case(&again, &delayed, "no match");
}

/// Two writers at once must not leave a lock without its session, nor a session without its host or its check.
#[test]
fn what_joins_a_session_or_a_host_is_noticed_by_who_ends_it() {
    let state = held(session("s"));
    let changes = |command: &Command| decide(&state, command).unwrap().changes;
    let (s, n) = (RowKey::Session(session_id("s")), RowKey::Node(node_key("n")));
    assert_eq!(changes(&lock("new", "s")).joins, std::slice::from_ref(&s));
    assert_eq!(changes(&create(session("t"))).joins, std::slice::from_ref(&n));
    let critical = register(node("n", ""), None, vec![Check { status: Critical, ..check("n", "c", "i") }]);
    let ttl = Session { ttl: Duration::from_secs(10), ..session("t") };
    let begins = [Renewal { row: RowKey::Session(session_id("t")), within: Duration::from_secs(11) }];
    assert_eq!(changes(&create(ttl.clone())).renews, begins, "a tenth of its TTL after it it ends");
    let held = given([host("n"), create(ttl)]);
    let renewed = decide(&held, &Command::RenewSession { session: session_id("t") }).unwrap().changes;
    assert!(renewed.is_empty() && renewed.joins.is_empty() && renewed.renews == begins, "{renewed:?}");
    let expired = decide(&held, &Command::ExpireSession { session: session_id("t") }).unwrap().changes;
    assert!(expired.expects.contains(&Expect::Lapsed(RowKey::Session(session_id("t")))), "{expired:?}");
    for (command, of) in [
        (Command::DestroySession { session: session_id("s") }, s),
        (deregister("n"), n.clone()),
        (deregister("n/c/c"), n.clone()),
        (critical, n),
    ] {
        let expects = changes(&command).expects;
        assert!(expects.contains(&Expect::Unjoined(of.clone(), state.index())), "{command:?}: {expects:?}");
    }
}

#[test]
fn a_session_needs_its_host_and_its_checks() {
    let checks = |ids: &[&str]| Session { node_checks: ids.iter().map(|id| check_id(id)).collect(), ..session("t") };
    let bad = Check { status: Critical, ..check("n", "bad", "") };
    let so_so = Check { status: Warning, ..check("n", "so-so", "") };
    let state = given([register(node("n", ""), None, vec![check("n", "good", ""), bad, so_so])]);
    case(&state, &create(checks(&["good", "so-so"])), "+s/t");
    case(&state, &create(checks(&["good", "new"])), "apply failed: Missing check 'new' registration");
    case(&state, &create(checks(&["bad"])), "apply failed: Check 'bad' is in critical state");
    let of_service = ServiceCheck { id: check_id("bad"), namespace: String::new() };
    let session = Session { service_checks: Some(vec![of_service]), ..checks(&[]) };
    case(&state, &create(session), "apply failed: Check 'bad' is in critical state");
    case(&State::empty(START), &create(checks(&[])), "apply failed: Missing node registration");
}

#[test]
fn everything_that_ends_a_session_gives_its_locks_back() {
    let of_checks = Session {
        node_checks: vec![check_id("serfHealth")],
        service_checks: Some(vec![ServiceCheck { id: check_id("c"), namespace: String::new() }]),
        ..session("s")
    };
    let state = held(of_checks);
    let freed = "+k/k 1x nobody -s/s";
    let failing = |id: &str, of: &str, status| {
        register(node("n", ""), None, vec![Check { status, owner: Owner::External, ..check("n", id, of) }])
    };
    for (command, first) in [
        (Command::DestroySession { session: session_id("s") }, ""),
        (Command::ExpireSession { session: session_id("s") }, ""),
        (failing("serfHealth", "", Critical), "+n/n/c/serfHealth critical \"\" "),
        (failing("c", "i", Critical), "+n/n/c/c critical \"\" "),
        (deregister("n/c/c"), "-n/n/c/c "),
        (deregister("n"), "-n/n* "),
    ] {
        case(&state, &command, &format!("{first}{freed}"));
        let decision = decide(&state, &command).unwrap();
        assert_eq!(decision.freed, [(key("k"), Duration::from_secs(15))], "{command:?}");
    }
    case(&state, &deregister("n/i/i"), &format!("-n/n/c/c {freed} -n/n/i/i"));
    case(&state, &failing("c", "i", Warning), "+n/n/c/c warning \"\"");
    case(&state, &failing("other", "", Critical), "+n/n/c/other critical \"\"");
    case(&state, &Command::DestroySession { session: session_id("new") }, "");
    assert!(decide(&state, &unlock("k", "s")).unwrap().freed.is_empty(), "who gives a lock back delays nobody");
}

#[test]
fn a_session_may_take_its_keys_with_it() {
    let state = held(Session { behavior: Behavior::Delete, lock_delay: Duration::ZERO, ..session("s") });
    let end = Command::DestroySession { session: session_id("s") };
    case(&state, &end, "-k/k -s/s");
    assert!(decide(&state, &end).unwrap().freed.is_empty());
}

#[test]
fn a_renewal_changes_nothing() {
    let state = held(session("s"));
    case(&state, &Command::RenewSession { session: session_id("s") }, "");
    case(&state, &Command::RenewSession { session: session_id("t") }, "Session id 't' not found");
}

#[test]
fn a_key_with_a_ttl_goes_and_one_without_stays() {
    let short = |ttl| Command::KvPut {
        key: key("short"),
        value: "1".into(),
        flags: 0,
        cas: None,
        ttl: Duration::from_secs(ttl),
    };
    let state = given([put("long", "1"), short(5)]);
    case(&state, &Command::ExpireKey { key: key("short") }, "-k/short");
    case(&state, &Command::ExpireKey { key: key("long") }, "");
    case(&state, &Command::ExpireKey { key: key("new") }, "");
    case(&state, &short(5), "");
    case(&state, &short(0), "+k/short");
}

/// Carries `command` out in steps; gives how many there were. `look` sees the state after each.
fn in_steps(state: &mut State, command: &Command, look: impl Fn(&State)) -> usize {
    let (mut left, mut steps) = (vec![command.clone()], 0);
    while let Some(command) = left.pop() {
        let decision = decide_in_steps(state, &command).unwrap();
        assert!(decision.changes.ops.len() <= STEP, "{command:?} changes {}", decision.changes.ops.len());
        assert!(decision.changes.expects.len() <= STEP, "{command:?} relies on {}", decision.changes.expects.len());
        let torn = state.freed_by(&decision.changes);
        assert_eq!(torn, decision.freed, "others know which locks are torn");
        state.apply(state.index().next(), &decision.changes);
        look(state);
        left.extend(decision.ending.into_iter().map(|session| Command::DestroySession { session }));
        steps += 1;
    }
    steps
}

/// More than etcd takes in one transaction is too much for a step.
const STEP: usize = 100;

#[test]
fn a_session_with_many_locks_ends_in_steps() {
    for behavior in [Behavior::Release, Behavior::Delete] {
        let mut state = held(Session { behavior, node_checks: vec![check_id("c")], ..session("s") });
        for n in 1..1000 {
            carry_out(&mut state, &lock(&n.to_string(), "s"));
        }
        let seen = |state: &State| {
            let s = state.session(&session_id("s"));
            assert_eq!(s.is_some(), state.held_by(&session_id("s")).next().is_some(), "a lock has its holder");
            if s.is_some() {
                case(state, &lock("new", "s"), "raft apply failed: invalid session \"s\"");
                let renewal = Command::RenewSession { session: session_id("s") };
                case(state, &renewal, "Session id 's' not found");
            }
        };
        for command in [Command::DestroySession { session: session_id("s") }, deregister("n/c/c"), deregister("n")] {
            let mut state = state.clone();
            let steps = in_steps(&mut state, &command, seen);
            assert_eq!(steps, 1 + 25, "{command:?}");
            assert_eq!(state.keys("").count(), if behavior == Behavior::Release { 1000 } else { 0 });
        }
    }
}

#[test]
fn a_step_is_small_in_bytes_too() {
    let mut state = held(session("s"));
    for n in 0..10 {
        let (key, value) = (key(&n.to_string()), vec![b'x'; 500 << 10].into());
        let lock = Command::KvLock { key, value, flags: 0, session: session_id("s"), delayed: false };
        carry_out(&mut state, &lock);
    }
    let steps = in_steps(&mut state, &Command::DestroySession { session: session_id("s") }, |_| {});
    assert_eq!(steps, 1 + 10, "one large value in each, and the small one with the last");
    assert!(state.session(&session_id("s")).is_none());
}

/// What renews a session that is ending, or lapses on it, changes nothing about its end.
#[test]
fn a_session_that_is_ending_ends_without_having_lapsed() {
    let mut state = held(Session { ttl: Duration::from_secs(10), ..session("s") });
    let expire = Command::ExpireSession { session: session_id("s") };
    let lapsed = Expect::Lapsed(RowKey::Session(session_id("s")));
    let marked = decide_in_steps(&state, &expire).unwrap().changes;
    assert!(marked.expects.contains(&lapsed));
    state.apply(state.index().next(), &marked);
    assert!(!decide_in_steps(&state, &expire).unwrap().changes.expects.contains(&lapsed));
    carry_out(&mut state, &expire);
    assert!(state.session(&session_id("s")).is_none() && state.key(&key("k")).unwrap().session.is_none());
}
