//! What only the engine of several hosts promises: two writers, an etcd that goes and comes back, what others put there.

mod ends;
mod incarnation;
mod moving;
mod server;
mod tokens;

use std::time::Instant;

use kvstore_core::{
    Outcome, Refusal,
    names::SessionId,
    row::{Behavior, Session},
};

use super::{
    super::{Etcd, Rejected},
    *,
};
use crate::store::{Store, WriteError};
use server::{Server, ctl};

fn engine(port: u16, prefix: &str) -> Etcd {
    engine_of(port, prefix, "")
}

/// Of the host with this id.
fn engine_of(port: u16, prefix: &str, host: &str) -> Etcd {
    Etcd::begin(format!("etcd://127.0.0.1:{port}?prefix={prefix}").parse().unwrap(), host, FRESH).unwrap()
}

impl Server {
    fn engine(&self, prefix: &str) -> Etcd {
        engine(self.port, prefix)
    }

    fn writer(&self) -> Writer {
        Writer::start(Box::new(self.engine("/flotilla")))
    }
}

/// Waits, with an end, until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn etcd_passes_the_battery() {
    let Some(server) = Server::start() else { return };
    let mut count = 0;
    battery(|| {
        count += 1;
        Box::new(server.engine(&format!("/registry-{count}")))
    });
}

fn session(id: &str, node: &str) -> Command {
    let session = Session {
        id: SessionId::new(id).unwrap(),
        name: String::new(),
        node: NodeKey::new(node).unwrap(),
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        ttl_text: String::new(),
        ttl: Duration::ZERO,
        node_checks: vec![],
        service_checks: None,
        ending: false,
    };
    Command::CreateSession { session: session.into() }
}

fn with_ttl(id: &str, ttl: Duration) -> Command {
    let Command::CreateSession { session } = session(id, "n0") else { unreachable!() };
    Command::CreateSession { session: Box::new(Session { ttl, ..*session }) }
}

fn destroy(id: &str) -> Command {
    Command::DestroySession { session: SessionId::new(id).unwrap() }
}

fn lock(key: &str, session: &str) -> Command {
    let (key, session) = (Key::new(key).unwrap(), SessionId::new(session).unwrap());
    Command::KvLock { key, value: "".into(), flags: 0, session, delayed: false }
}

fn own_instance(node: &str, id: &str) -> Command {
    let Command::Register { instance, checks, .. } = register(&mut StdRng::seed_from_u64(1), node, id) else {
        unreachable!()
    };
    Command::RegisterInstance { instance: instance.unwrap(), checks, replace_checks: false }
}

fn new_check(node: &str, instance: &str) -> Command {
    let Command::Register { mut checks, .. } = register(&mut StdRng::seed_from_u64(1), node, instance) else {
        unreachable!()
    };
    Command::RegisterCheck { check: Box::new(Check { id: CheckId::new("new").unwrap(), ..checks.remove(0) }) }
}

fn deregister(node: &str, target: Target) -> Command {
    Command::Deregister { node: NodeKey::new(node).unwrap(), target }
}

fn put_key(key: &str) -> Command {
    put_command(key, b"x")
}

/// No lock without its session, no session or instance without its host unless it is ending, no check without its instance.
fn check_whole(state: &State) {
    for entry in state.keys("") {
        assert!(entry.session.as_ref().is_none_or(|holder| state.session(holder).is_some()), "{entry:?}");
    }
    for session in state.sessions() {
        assert!(session.ending || state.node(&session.node).is_some(), "{session:?}");
    }
    for check in state.checks() {
        assert!(
            state.node(&check.node).is_some() && check.service.is_none() == state.instance_of(check).is_none(),
            "{check:?}"
        );
    }
}

/// Two writers decide on the same state; whoever comes second must not build on what is gone, nor leave half of what ends.
#[test]
fn who_comes_second_decides_anew() {
    let Some(server) = Server::start() else { return };
    let (mut a, mut b) = (server.writer(), server.writer());
    let delete_tree = || Command::KvDeleteTree { prefix: "t/".into() };
    let instance = |id: &str| Target::Instance(InstanceId::new(id).unwrap());
    let pairs = [
        (destroy("s"), lock("k", "s")),
        (deregister("n0", Target::Node), session("s2", "n0")),
        (deregister("n0", Target::Node), own_instance("n0", "i1")),
        (deregister("n0", instance("i0")), new_check("n0", "i0")),
        (delete_tree(), put_key("t/new")),
        (put_command("t/old", b"1"), put_command("t/old", b"2")),
        (lock("k", "s"), lock("k", "s1")),
    ];
    let is_put = |command: &Command| matches!(command, Command::KvPut { key, .. } if key.as_str() == "t/new");
    for (one, other) in pairs.iter().flat_map(|(one, other)| [(one, other), (other, one)]) {
        a.catch_up();
        let clear = [deregister("n0", Target::Node), Command::KvDeleteTree { prefix: String::new() }];
        let given = [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), session("s", "n0"), session("s1", "n0")];
        let keys = [put_key("t/old"), put_key("k")];
        for command in clear.iter().chain(&given).chain(&keys) {
            a.commit(std::slice::from_ref(command)).unwrap();
        }
        b.catch_up();
        let late = decide(&b.state, other).unwrap().changes;
        a.commit(std::slice::from_ref(one)).unwrap();
        let results = b.engine.commit(vec![Proposal { changes: late, lazy: false }]).unwrap();
        // A new key relies on nothing that is deleted.
        assert_eq!(results == [Err(Rejected::Conflict)], !is_put(other), "{one:?}, then {other:?}");
        b.catch_up();
        let _ = b.commit(std::slice::from_ref(other));
        a.catch_up();
        check_whole(&a.state);
        assert_eq!((a.state.index(), stored(&a.state)), (b.state.index(), stored(&b.state)));
    }
}

fn store(engine: Etcd) -> (Store, crate::store::Writer) {
    Store::start(Box::new(engine)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_compare_and_sets_through_two_kvstores_lose_none() {
    const EACH: u64 = 15;
    let Some(server) = Server::start() else { return };
    let started = [store(server.engine("/flotilla")), store(server.engine("/flotilla"))];
    let counting = started.each_ref().map(|(store, _)| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = Key::new("count").unwrap();
            let mut counted = 0;
            while counted < EACH {
                let state = store.state();
                let old = state.key(&key);
                let count: u64 = old.map_or(0, |old| std::str::from_utf8(&old.value.value).unwrap().parse().unwrap());
                let command = Command::KvPut {
                    key: key.clone(),
                    value: (count + 1).to_string().into(),
                    flags: 0,
                    cas: Some(old.map_or(0, |old| old.modified.0)),
                    ttl: Duration::ZERO,
                };
                match store.submit(command).await {
                    Ok((Outcome::Done, index)) => {
                        assert!(store.state().index() >= index, "visible when it is answered");
                        counted += 1;
                    }
                    Ok(_) | Err(WriteError::Refused(Refusal::Conflict)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for counting in counting {
        counting.await.unwrap();
    }
    for (store, writer) in started {
        store.catch_up().await.unwrap();
        let state = store.state();
        assert_eq!(state.key(&Key::new("count").unwrap()).unwrap().value.value, (2 * EACH).to_string().as_bytes());
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_kvstore_writes_wakes_who_waits_at_another() {
    let Some(server) = Server::start() else { return };
    let ((one, one_writer), (other, other_writer)) =
        (store(server.engine("/flotilla")), store(server.engine("/flotilla")));
    let key = kvstore_core::WatchKey::Key(Key::new("a").unwrap());
    let before = other.state().index();
    let waiting = tokio::spawn({
        let (other, key) = (other.clone(), key.clone());
        async move { other.wait_past(&[key], before).await.index() }
    });
    let (_, index) = one.submit(put_key("a")).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it is woken").unwrap();
    assert_eq!(woken, index, "under the same index");
    // What is as wanted already is so on the newest state, or it is written.
    other.submit(put_command("a", b"2")).await.unwrap();
    one.submit(put_key("a")).await.unwrap();
    other.catch_up().await.unwrap();
    assert_eq!(other.state().key(&Key::new("a").unwrap()).unwrap().value.value, "x");
    for writer in [one_writer, other_writer] {
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_reads_go_on_and_writes_are_refused() {
    let Some(mut server) = Server::start() else { return };
    let (store, writer) = store(server.engine("/flotilla"));
    store.submit(put_key("before")).await.unwrap();
    server.stop();
    let refused = store.submit(put_key("a")).await;
    assert!(matches!(&refused, Err(WriteError::Unavailable(why)) if why.contains("etcd")), "{refused:?}");
    assert!(matches!(store.catch_up().await, Err(WriteError::Unavailable(_))));
    // To say that nothing is to be done is a promise too.
    assert!(matches!(store.submit(put_key("before")).await, Err(WriteError::Unavailable(_))));
    assert!(store.state().key(&Key::new("before").unwrap()).is_some());
    server.start_again();
    let start = Instant::now();
    while let Err(error) = store.submit(put_key("after")).await {
        assert!(matches!(error, WriteError::Unavailable(_)) && start.elapsed() < Duration::from_mins(1), "{error}");
    }
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
}

/// Its history is gone while we are away, so all is read anew, and what is gone is gone.
#[test]
fn after_a_compaction_all_is_read_anew() {
    let Some(mut server) = Server::start() else { return };
    let mut away = server.writer();
    for key in ["stays", "goes", "changes"] {
        away.commit(&[put_key(key)]).unwrap();
    }
    server.stop();
    let elsewhere = server.start_elsewhere();
    let mut other = Writer::start(Box::new(engine(elsewhere, "/flotilla")));
    for command in [Command::KvDelete { key: Key::new("goes").unwrap(), cas: None }, put_command("changes", b"2")] {
        other.commit(&[command]).unwrap();
    }
    let status = ctl(elsewhere, &["get", "/flotilla/last", "--write-out", "json"]);
    let revision = serde_json::from_str::<serde_json::Value>(&status).unwrap()["header"]["revision"].to_string();
    ctl(elsewhere, &["compact", &revision]);
    drop(other);
    server.stop();
    server.start_again();
    let mut anew = false;
    until("the reading anew", || {
        for entry in away.engine.log() {
            anew |= matches!(entry, Entry::Anew(_));
            apply(&mut away.state, entry);
        }
        anew
    });
    let there: Vec<_> =
        away.state.keys("").map(|entry| (entry.key.as_str().to_owned(), entry.value.value.clone())).collect();
    assert_eq!(there, [("changes".into(), "2".into()), ("stays".into(), "x".into())]);
    assert!(away.commit(&[put_key("new")]).is_ok());
}

#[test]
fn what_is_no_row_is_left_out_and_can_be_replaced() {
    let Some(server) = Server::start() else { return };
    let mut writer = server.writer();
    for key in ["good", "bad"] {
        writer.commit(&[put_key(key)]).unwrap();
    }
    assert_eq!(
        server.ctl(&["get", "/flotilla/rows/k/good"]),
        "/flotilla/rows/k/good\n{\"key\":\"good\",\"value\":\"x\"}\n",
        "as people read it"
    );
    let keys = |state: &State| state.keys("").map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    server.ctl(&["put", "/flotilla/rows/k/bad", "{nonsense"]);
    server.ctl(&["put", "/flotilla/rows/x/y", "{}"]);
    server.ctl(&["put", "/flotilla/rows/k/by-hand", r#"{"key":"by-hand","value":"1"}"#]);
    until("what was put by hand", || {
        for entry in writer.engine.log() {
            apply(&mut writer.state, entry);
        }
        keys(&writer.state) == ["by-hand", "good"]
    });
    let mut second = server.writer();
    assert_eq!(keys(&second.state), ["by-hand", "good"], "also when it is read at the start");
    second.commit(&[put_key("bad")]).unwrap();
    writer.catch_up();
    assert_eq!(keys(&writer.state), ["bad", "by-hand", "good"]);
    assert_eq!(stored(&writer.state), stored(&second.state));
}

#[test]
fn what_cannot_be_used_is_refused_in_clear_words() {
    let Some(server) = Server::start() else { return };
    server.ctl(&["put", "/newer/store", r#"{"format":2}"#]);
    server.ctl(&["put", "/foreign/pods/a", "1"]);
    server.ctl(&["put", "/broken/store", "17"]);
    for (prefix, why) in [
        ("/newer", "it has format 2, and this kvstore understands 1"),
        ("/foreign", "such as \"/foreign/pods/a\"; choose another prefix"),
        ("/broken", "put back what was there"),
    ] {
        let refused = server.engine(prefix).load().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let nobody = engine(1, "/flotilla").load().unwrap_err().to_string();
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    // A newer format or another base that comes while we run ends the writing, not the reading.
    let mut writer = server.writer();
    writer.commit(&[put_key("a")]).unwrap();
    server.ctl(&["put", "/flotilla/store", r#"{"format":2}"#]);
    until("the refusal", || match writer.engine.commit(vec![put("b", "1")]) {
        Err(error) => kvstore_client::with_causes(&error).contains("format 2"),
        Ok(results) => results != [Err(Rejected::Conflict)] && panic!("{results:?}"),
    });
    assert_eq!(writer.state.keys("").count(), 1);
}
