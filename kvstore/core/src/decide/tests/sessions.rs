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
