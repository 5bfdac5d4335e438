//! What ends on an etcd: by its time, whoever counts that, and however much hangs on it.

use kvstore_core::row::RowKey;

use super::*;

/// The rows that the log says nobody has renewed, and whether that was seen.
fn lapsed(writer: &mut Writer) -> Vec<(RowKey, bool)> {
    let mut lapsed = Vec::new();
    for entry in writer.engine.log() {
        if let Entry::Lapsed { row, unseen } = &entry {
            lapsed.push((row.clone(), !unseen));
        }
        apply(&mut writer.state, entry);
    }
    lapsed
}

/// Etcd counts when a session ends. A renewal through any kvstore keeps it, and takes no index; its end is one.
#[test]
fn a_renewal_through_another_kvstore_keeps_a_session() {
    let Some(server) = Server::start() else { return };
    let (mut a, mut b) = (server.writer(), server.writer());
    let id = SessionId::new("s").unwrap();
    for command in [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), with_ttl("s", Duration::from_secs(2))] {
        a.commit(&[command]).unwrap();
    }
    b.catch_up();
    let changes = |state: &State, command: &Command| decide(state, command).unwrap().changes;
    let expire = Command::ExpireSession { session: id.clone() };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let renewal = changes(&b.state, &Command::RenewSession { session: id.clone() });
        assert!(renewal.is_empty(), "no row changes");
        assert_eq!(b.engine.renew(vec![renewal]).unwrap(), [Ok(())]);
        let too_early = Proposal { changes: changes(&a.state, &expire), lazy: false };
        assert_eq!(a.engine.commit(vec![too_early]).unwrap(), [Err(Rejected::Conflict)]);
        std::thread::sleep(Duration::from_millis(300));
    }
    let index = a.state.index();
    assert_eq!((lapsed(&mut a), lapsed(&mut b)), (vec![], vec![]));
    assert_eq!((a.state.index(), b.state.index()), (index, index), "a renewal takes no index");

    let gone = [(RowKey::Session(id.clone()), true)];
    let silent = Instant::now();
    for writer in [&mut a, &mut b] {
        until("the end of the lease", || lapsed(writer) == gone);
    }
    let lasted = silent.elapsed();
    assert!(lasted < Duration::from_secs(4), "its lifetime is 2.2 s, so its lease 3 s: {lasted:?}");
    let proposal = |writer: &Writer| Proposal { changes: changes(&writer.state, &expire), lazy: false };
    let (of_a, of_b) = (proposal(&a), proposal(&b));
    assert!(b.engine.commit(vec![of_b]).unwrap()[0].is_ok());
    assert_eq!(a.engine.commit(vec![of_a]).unwrap(), [Err(Rejected::Conflict)], "it ends once");
    a.catch_up();
    assert!(a.state.session(&id).is_none());
}

/// A row that nobody keeps alive, since it came by hand, is kept from the first renewal on.
#[test]
fn a_renewal_of_what_nobody_keeps_begins_to_keep_it() {
    let Some(server) = Server::start() else { return };
    let mut writer = server.writer();
    writer.commit(&[put_key("other")]).unwrap();
    server.ctl(&["put", "/flotilla/rows/k/a", r#"{"key":"a","value":"x","ttl":2000}"#]);
    let renews = Command::KvPut {
        key: Key::new("a").unwrap(),
        value: "x".into(),
        flags: 0,
        cas: None,
        ttl: Duration::from_secs(2),
    };
    until("the row", || {
        lapsed(&mut writer);
        writer.state.keys("").count() == 2
    });
    let changes = decide(&writer.state, &renews).unwrap().changes;
    assert!(changes.is_empty());
    assert_eq!(writer.engine.renew(vec![changes]).unwrap(), [Ok(())]);
    assert_eq!(server.ctl(&["get", "/flotilla/alive/k/a"]), "/flotilla/alive/k/a\n2\n");
    let key = RowKey::Kv(Key::new("a").unwrap());
    until("the end of the lease", || lapsed(&mut writer).iter().any(|(row, _)| *row == key));
}

/// Whoever could not renew anything meanwhile is not to blame.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_ends_because_etcd_stood_still() {
    let Some(server) = Server::start() else { return };
    let (store, writer) = store(server.engine("/flotilla"));
    let shutdown = tokio_util::sync::CancellationToken::new();
    let timer = tokio::spawn({
        let (store, shutdown) = (store.clone(), shutdown.clone());
        async move { store.keep_deadlines(shutdown).await }
    });
    for command in [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), with_ttl("s", Duration::from_secs(2))] {
        store.submit(command).await.unwrap();
    }
    let id = SessionId::new("s").unwrap();
    let renew_for = async |seconds| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            let renewed = store.submit(Command::RenewSession { session: id.clone() }).await;
            assert!(matches!(renewed, Ok(_) | Err(WriteError::Unavailable(_))), "{renewed:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    server.freeze();
    renew_for(6).await;
    server.thaw();
    renew_for(5).await;
    assert!(store.submit(Command::RenewSession { session: id.clone() }).await.is_ok());
    let start = Instant::now();
    while store.state().session(&id).is_some() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    timer.await.unwrap();
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
}

/// A session does not outlive the kvstore through which it was made.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_left_ends_a_session() {
    let Some(server) = Server::start() else { return };
    let (gone, gone_writer) = store(server.engine("/flotilla"));
    let (left, left_writer) = store(server.engine("/flotilla"));
    let shutdown = tokio_util::sync::CancellationToken::new();
    let timer = tokio::spawn({
        let (left, shutdown) = (left.clone(), shutdown.clone());
        async move { left.keep_deadlines(shutdown).await }
    });
    let delayed = |session: Session| Session { lock_delay: Duration::from_hours(1), ..session };
    let Command::CreateSession { session } = with_ttl("s", Duration::from_secs(1)) else { unreachable!() };
    for command in [
        register(&mut StdRng::seed_from_u64(1), "n0", "i0"),
        Command::CreateSession { session: Box::new(delayed(*session)) },
        lock("k", "s"),
        self::session("other", "n0"),
    ] {
        gone.submit(command).await.unwrap();
    }
    tokio::task::spawn_blocking(|| gone_writer.stop()).await.unwrap();
    left.catch_up().await.unwrap();
    let key = Key::new("k").unwrap();
    let start = Instant::now();
    while left.state().key(&key).unwrap().session.is_some() {
        assert!(start.elapsed() < Duration::from_mins(1), "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left.submit(lock("k", "other")).await.unwrap().0, Outcome::NotMatched, "the lock is delayed");
    shutdown.cancel();
    timer.await.unwrap();
    tokio::task::spawn_blocking(|| left_writer.stop()).await.unwrap();
}

/// More hangs on a session than etcd takes at once. It ends all the same, whatever ends it, and at no time is there a lock
/// without its holder in anybody's eyes.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_thousand_locks_ends() {
    const LOCKS: usize = 1000;
    let Some(server) = Server::start() else { return };
    let (one, one_writer) = store(server.engine("/flotilla"));
    let (other, other_writer) = store(server.engine("/flotilla"));
    let looks = tokio_util::sync::CancellationToken::new();
    let looking = tokio::spawn({
        let (other, looks) = (other.clone(), looks.clone());
        async move {
            let (mut states, mut index) = (0, Index(0));
            while !looks.is_cancelled() {
                let state = other.state();
                if state.index() != index {
                    (states, index) = (states + 1, state.index());
                    check_whole(&state);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            states
        }
    });
    for (id, end) in [("s", destroy("s")), ("t", deregister("n0", Target::Node))] {
        let Command::CreateSession { session } = session(id, "n0") else { unreachable!() };
        let delayed = Session { lock_delay: Duration::from_hours(1), ..*session };
        let given =
            [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), Command::CreateSession { session: delayed.into() }];
        for command in given {
            one.submit(command).await.unwrap();
        }
        let keys: Vec<_> = (0..LOCKS).map(|n| format!("{id}/{n:04}")).collect();
        let locked = keys.iter().map(|key| one.submit(lock(key, id)));
        for (outcome, _) in futures_util::future::try_join_all(locked).await.unwrap() {
            assert_eq!(outcome, Outcome::Done);
        }
        let start = Instant::now();
        let (_, index) = one.submit(end).await.unwrap();
        println!("a session with {LOCKS} locks ended in {:?}", start.elapsed());
        assert!(one.state().index() >= index);
        other.catch_up().await.unwrap();
        for state in [one.state(), other.state()] {
            assert!(state.session(&SessionId::new(id).unwrap()).is_none());
            assert_eq!(state.keys(&format!("{id}/")).filter(|entry| entry.session.is_none()).count(), LOCKS);
        }
        let again = [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), self::session("later", "n0")];
        for command in again {
            other.submit(command).await.unwrap();
        }
        let taken = other.submit(lock(keys.last().unwrap(), "later")).await.unwrap().0;
        assert_eq!(taken, Outcome::NotMatched, "the lock is delayed at others too");
    }
    looks.cancel();
    assert!(looking.await.unwrap() > 20, "it looked at many states");
    for writer in [one_writer, other_writer] {
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
}

/// Whoever began to end a session may be gone before it is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_another_has_begun_to_end_ends() {
    let Some(server) = Server::start() else { return };
    let mut gone = server.writer();
    for command in [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), session("s", "n0"), lock("k", "s")] {
        gone.commit(&[command]).unwrap();
    }
    let begun = kvstore_core::decide_in_steps(&gone.state, &destroy("s")).unwrap();
    assert_eq!(begun.ending, [SessionId::new("s").unwrap()]);
    assert!(gone.engine.commit(vec![Proposal { changes: begun.changes, lazy: false }]).unwrap()[0].is_ok());
    let (left, left_writer) = store(server.engine("/flotilla"));
    let shutdown = tokio_util::sync::CancellationToken::new();
    let timer = tokio::spawn({
        let (left, shutdown) = (left.clone(), shutdown.clone());
        async move { left.keep_deadlines(shutdown).await }
    });
    let start = Instant::now();
    while left.state().key(&Key::new("k").unwrap()).unwrap().session.is_some() {
        assert!(start.elapsed() < Duration::from_mins(1), "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    timer.await.unwrap();
    tokio::task::spawn_blocking(|| left_writer.stop()).await.unwrap();
}
