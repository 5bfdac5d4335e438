use std::sync::Mutex;

use kvstore_core::{
    Index,
    credentials::Digest,
    health::Status,
    names::{CheckId, NodeKey},
    row::{Behavior, Node, Owner, Probe, ProbeKind},
};

use super::*;

fn register(id: &str, ttl: u64) -> Command {
    register_for(id, Duration::from_secs(ttl))
}

pub(crate) fn register_for(id: &str, ttl: Duration) -> Command {
    let node =
        Node { name: "n".into(), id: String::new(), address: "10.0.0.1".into(), tagged_addresses: None, meta: None };
    let kind = ProbeKind::Ttl { ttl };
    let check = Check {
        node: node.key(),
        id: CheckId::new(id).unwrap(),
        name: id.into(),
        status: Status::Passing,
        notes: String::new(),
        output: String::new(),
        service: None,
        kind: "ttl".into(),
        probe: Some(Arc::new(Probe::new(kind, Duration::ZERO, Duration::ZERO))),
        interval: String::new(),
        timeout: String::new(),
        definition: serde_json::Value::Null,
        owner: Owner::Agent,
        from_file: false,
    };
    Command::Register { node, keep_node: false, instance: None, checks: vec![check] }
}

/// What a host's registrar puts over and over.
fn host(name: &str) -> Command {
    let Command::Register { node, checks, .. } = register(name, 15) else { unreachable!() };
    let node = Node { name: name.into(), ..node };
    let own = |check| Check { node: node.key(), owner: Owner::External, ..check };
    let checks = checks.into_iter().map(own).collect();
    Command::Register { node, keep_node: false, instance: None, checks }
}

fn carry_out(deadlines: &Deadlines, state: &mut State, command: &Command) {
    let decision = kvstore_core::decide(state, command).unwrap();
    if !decision.changes.is_empty() {
        state.apply(state.index().next(), &decision.changes);
    }
    deadlines.after(command, &decision.outcome, state, Instant::now());
    deadlines.delay_locks(&decision.freed, Instant::now());
}

fn report(id: &str) -> Command {
    let (node, check) = (NodeKey::new("n").unwrap(), CheckId::new(id).unwrap());
    Command::ReportTtl { node, check, status: Status::Passing, output: String::new() }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn put(name: &str, ttl: u64) -> Command {
    let ttl = Duration::from_secs(ttl);
    Command::KvPut { key: key(name), value: "".into(), flags: 0, cas: None, ttl }
}

fn session(id: &str, ttl: u64) -> Command {
    let session = Session {
        id: SessionId::new(id).unwrap(),
        name: String::new(),
        node: NodeKey::new("n").unwrap(),
        lock_delay: Duration::from_secs(15),
        behavior: Behavior::Release,
        ttl_text: String::new(),
        ttl: Duration::from_secs(ttl),
        node_checks: vec![],
        service_checks: None,
        ending: false,
    };
    Command::CreateSession { session: session.into() }
}

/// The same check by a transaction.
fn set(id: &str, ttl: u64) -> Command {
    let Command::Register { checks, .. } = register(id, ttl) else { unreachable!() };
    let check = checks.into_iter().next().map(Box::new);
    let (node, id) = (NodeKey::new("n").unwrap(), CheckId::new(id).unwrap());
    Command::Txn { steps: vec![TxnStep::Check { verb: RowVerb::Set, node, id, check }] }
}

/// Runs the timer for `seconds` and gives the checks it proposed to expire.
async fn run(deadlines: &Deadlines, state: &State, seconds: u64) -> Vec<String> {
    let due = Mutex::new(Vec::new());
    let propose = |command: Command| {
        assert!(!deadlines.is_early(&command, Instant::now()));
        due.lock().unwrap().push(match &command {
            Command::ExpireTtl { check, .. } => check.to_string(),
            Command::ExpireSession { session } => format!("session {session}"),
            Command::ExpireKey { key } => format!("key {key}"),
            Command::ExpireToken { token } => format!("token {token}"),
            other => panic!("{other:?}"),
        });
        deadlines.after(&command, &Outcome::Done, &State::empty(Index(1)), Instant::now());
        true
    };
    let forever = deadlines.run(|| Arc::new(state.clone()), propose, CancellationToken::new());
    let _ = tokio::time::timeout(Duration::from_secs(seconds), forever).await;
    due.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn silence_expires_once_and_a_report_moves_the_deadline() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    carry_out(&deadlines, &mut state, &register("a", 10));
    carry_out(&deadlines, &mut state, &register("b", 10));
    assert!(run(&deadlines, &state, 8).await.is_empty());
    carry_out(&deadlines, &mut state, &report("a"));
    assert_eq!(run(&deadlines, &state, 4).await, ["b"]);
    carry_out(&deadlines, &mut state, &register("a", 10));
    assert!(run(&deadlines, &state, 9).await.is_empty(), "registering again renews");
    assert_eq!(run(&deadlines, &state, 60).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_a_transaction_sets_expires_unless_it_is_set_again() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    for command in [register("a", 60), set("b", 10), set("c", 10)] {
        carry_out(&deadlines, &mut state, &command);
    }
    assert!(run(&deadlines, &state, 8).await.is_empty());
    carry_out(&deadlines, &mut state, &set("b", 10));
    assert_eq!(run(&deadlines, &state, 8).await, ["c"]);
    assert_eq!(run(&deadlines, &state, 8).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_loaded_state_grants_a_full_ttl_and_a_standstill_extends_all() {
    let mut state = State::empty(Index(1));
    carry_out(&Deadlines::default(), &mut state, &register("a", 10));
    let deadlines = Deadlines::default();
    deadlines.load(&state, Instant::now());
    assert!(run(&deadlines, &state, 9).await.is_empty());
    let mut forever =
        Box::pin(deadlines.run(|| Arc::new(state.clone()), |_| panic!("nothing is due"), CancellationToken::new()));
    assert!(futures_util::poll!(forever.as_mut()).is_pending());
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(futures_util::poll!(forever.as_mut()).is_pending());
    drop(forever);
    assert_eq!(run(&deadlines, &state, 2).await, ["a"], "a second was left, and is again");
}

#[tokio::test(start_paused = true)]
async fn hosts_that_fall_silent_together_stay_until_they_are_heard_again() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    let hosts = ["h1", "h2", "h3", "h4", "h5"];
    for command in hosts.map(host).into_iter().chain([register("a", 15)]) {
        carry_out(&deadlines, &mut state, &command);
    }
    let mut ended = Vec::new();
    for name in &hosts[..3] {
        ended.extend(run(&deadlines, &state, 2).await);
        carry_out(&deadlines, &mut state, &host(name));
    }
    ended.extend(run(&deadlines, &state, 60).await);
    assert_eq!(ended, ["a"], "an agent's own check is no host's word");
    for name in ["h1", "h2"] {
        carry_out(&deadlines, &mut state, &host(name));
    }
    assert!(run(&deadlines, &state, 4).await.is_empty(), "three of five are silent yet");
    for name in ["h1", "h2", "h3"] {
        carry_out(&deadlines, &mut state, &host(name));
    }
    assert!(run(&deadlines, &state, 9).await.is_empty(), "the rest has its full time again");
    for name in ["h1", "h2", "h3"] {
        carry_out(&deadlines, &mut state, &host(name));
    }
    assert_eq!(run(&deadlines, &state, 7).await, ["h4", "h5"], "two of five may be gone");
}

#[tokio::test(start_paused = true)]
async fn sessions_and_keys_end_unless_renewed() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    for command in [register("a", 10), session("s", 20), session("for-ever", 0), put("k", 20), put("stays", 0)] {
        carry_out(&deadlines, &mut state, &command);
    }
    assert_eq!(run(&deadlines, &state, 15).await, ["a"]);
    carry_out(&deadlines, &mut state, &put("k", 20));
    carry_out(&deadlines, &mut state, &Command::RenewSession { session: SessionId::new("s").unwrap() });
    assert!(run(&deadlines, &state, 18).await.is_empty());
    assert_eq!(run(&deadlines, &state, 3).await, ["key k"]);
    assert_eq!(run(&deadlines, &state, 2).await, ["session s"], "a tenth of its TTL after it");

    let loaded = Deadlines::default();
    loaded.load(&state, Instant::now());
    assert!(run(&loaded, &state, 9).await.is_empty(), "all have their full time again");
    assert_eq!(run(&loaded, &state, 60).await, ["a", "key k", "session s"]);
}

/// Where the engine keeps deadlines, nothing is due before it says so, and then at once.
#[tokio::test(start_paused = true)]
async fn what_the_engine_keeps_is_not_counted_here() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    for command in [register("a", 10), session("s", 20), put("k", 20)] {
        carry_out(&deadlines, &mut state, &command);
    }
    let rows = ["n/n/c/a", "s/s", "k/k"].map(|key| RowKey::decode(key).unwrap());
    let follow = |entry: Entry| deadlines.follow(&entry, &state, Instant::now());
    for row in rows.clone() {
        follow(Entry::Renewed(row));
    }
    deadlines.after(&report("a"), &Outcome::Done, &state, Instant::now());
    deadlines.load(&state, Instant::now());
    assert!(run(&deadlines, &state, 100).await.is_empty());

    let lapsed = |row: &RowKey, unseen| Entry::Lapsed { row: row.clone(), unseen };
    follow(lapsed(&rows[0], false));
    assert_eq!(run(&deadlines, &state, 1).await, ["a"]);
    follow(lapsed(&rows[1], true));
    assert!(run(&deadlines, &state, 21).await.is_empty(), "it begins anew where nobody could renew it");
    follow(Entry::Renewed(rows[1].clone()));
    assert!(run(&deadlines, &state, 100).await.is_empty(), "and is kept again once it is renewed");
    follow(lapsed(&rows[1], true));
    assert_eq!(run(&deadlines, &state, 23).await, ["session s"]);
    let empty = State::empty(Index(1));
    deadlines.follow(&lapsed(&rows[2], false), &empty, Instant::now());
    assert!(run(&deadlines, &state, 100).await.is_empty(), "what is gone anyway does not end");
    deadlines.load_anew(&state, Instant::now());
    assert_eq!(run(&deadlines, &state, 100).await, ["a", "key k", "session s"], "nothing is kept until that is told");
}

/// A row that came without having been renewed, by hand or from a snapshot, is given its time.
#[tokio::test(start_paused = true)]
async fn what_nobody_keeps_is_counted_from_its_coming() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    let changes = kvstore_core::decide(&state, &put("k", 20)).unwrap().changes;
    state.apply(Index(2), &changes);
    let commit = Entry::Commit(crate::engine::Commit { index: Index(2), changes });
    deadlines.follow(&commit, &state, Instant::now());
    assert!(run(&deadlines, &state, 19).await.is_empty());
    assert_eq!(run(&deadlines, &state, 2).await, ["key k"]);
}

/// A clock that is an hour ahead ends nothing early for those who share it.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_shared_ends_after_its_time_by_no_clock() {
    for (are_shared, seconds, ended) in [(false, 1, true), (true, 59, false), (true, 61, true)] {
        let made = acl::now().checked_sub(Duration::from_hours(1)).expect("it is after 1970");
        let token = Token { made, ends: made + Duration::from_mins(1), ..acl::management(Digest([1; 32])) };
        let mut state = State::empty(Index(1));
        let create = Command::CreateToken { token: token.into() };
        let changes = kvstore_core::decide(&state, &create).unwrap().changes;
        state.apply(Index(2), &changes);
        let deadlines = Deadlines::new(are_shared);
        deadlines.load(&state, Instant::now());
        assert_eq!(!run(&deadlines, &state, seconds).await.is_empty(), ended, "{are_shared} {seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_torn_lock_is_delayed_for_its_time() {
    let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
    let lock = Command::KvLock {
        key: key("k"),
        value: "".into(),
        flags: 0,
        session: SessionId::new("s").unwrap(),
        delayed: false,
    };
    for command in [register("a", 60), session("s", 0), lock] {
        carry_out(&deadlines, &mut state, &command);
    }
    assert!(!deadlines.is_lock_delayed(&key("k"), Instant::now()));
    carry_out(&deadlines, &mut state, &Command::DestroySession { session: SessionId::new("s").unwrap() });
    assert!(run(&deadlines, &state, 14).await.is_empty());
    assert!(deadlines.is_lock_delayed(&key("k"), Instant::now()));
    assert!(run(&deadlines, &state, 3).await.is_empty());
    assert!(!deadlines.is_lock_delayed(&key("k"), Instant::now()));
    assert_eq!(deadlines.lock().when(&Timed::LockDelay(key("k"))), None, "forgotten once it has ended");
}
