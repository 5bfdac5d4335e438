//! A registry that moves between a data directory and an etcd: nothing of it is lost, and nobody uses half of one.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use kvstore_core::{
    WatchKey,
    row::{KvEntry, Row, Stamped},
};

use super::{
    super::{
        super::{
            Entry, Etcd,
            moving::{Home, Leaving, Sum},
        },
        *,
    },
    put_key,
    server::{Cluster, Server},
    until,
};

/// What a large registry has in keys alone.
const MANY: u64 = 20_000;

/// What hears how far it is, and does not listen.
const QUIET: &(dyn Fn(usize) + Sync) = &|_| {};

fn in_etcd(members: &str) -> Home {
    Home::Etcd(Box::new(members.parse().unwrap()))
}

fn home(server: &Server) -> Home {
    in_etcd(&format!("etcd://127.0.0.1:{}", server.port))
}

fn dir(path: &Path) -> Home {
    Home::DataDir(path.to_owned())
}

async fn moved(from: &Home, to: &Home) -> Loaded {
    to.check_vacant().await.unwrap();
    let leaving = Leaving::begin(from, to, false).await.unwrap();
    to.take(from, &leaving.whole, QUIET).await.unwrap();
    assert_eq!(leaving.unreadable, [""; 0]);
    leaving.whole
}

/// A registry with some of everything, and with `keys` keys of all sizes beside.
fn made(path: &Path, keys: u64) -> Loaded {
    let memory = &mut Writer::start(Box::new(Memory::new(FRESH)));
    for batch in random_batches(7, 60) {
        memory.commit(&batch).unwrap();
    }
    for command in [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), super::session("s", "n0")] {
        memory.commit(&[command]).unwrap();
    }
    let last = memory.state.index();
    let mut rows: Vec<_> = memory.state.rows().collect();
    rows.extend((1..=keys).map(|n| {
        let bytes = if n % 500 == 0 { 300 << 10 } else { usize::try_from(n % 40).unwrap() };
        let entry = KvEntry {
            key: Key::new(&format!("many/{n}")).unwrap(),
            value: vec![if n % 3 == 0 { 0xff } else { b'x' }; bytes].into(),
            flags: n,
            lock_index: 0,
            session: None,
            ttl: Duration::ZERO,
        };
        // Some were changed later.
        let (created, modified) = (Index(last.0 + n), Index(last.0 + n + n % 2));
        Stamped { created, modified, value: Row::Kv(entry) }
    }));
    let loaded = Loaded { index: Index(last.0 + keys + 5), rows };
    Embedded::create(path, &loaded).unwrap();
    loaded
}

/// By key: what is in it, and when it was created.
fn unstamped(rows: &[Stamped<Row>]) -> BTreeMap<String, (Index, Vec<u8>)> {
    rows.iter().map(|row| (row.value.key().encode(), (row.created, row.value.encode_unstamped(None)))).collect()
}

/// By key: all, the index of the last change included.
fn stamped(rows: &[Stamped<Row>]) -> Stored {
    rows.iter().map(|row| (row.value.key().encode(), row.value.encode(row.created, row.modified))).collect()
}

#[tokio::test]
async fn a_registry_moves_to_etcd_and_back_row_by_row() {
    let Some(server) = Server::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let (first, second) = (dirs.path().join("first"), dirs.path().join("second"));
    let made = made(&first, MANY);
    // Others use the same etcd.
    for n in 0..10 {
        server.ctl(&["put", "/others", &n.to_string()]);
    }
    let start = Instant::now();
    let left = moved(&dir(&first), &home(&server)).await;
    println!("{} rows into etcd in {:?}", left.rows.len(), start.elapsed());
    assert_eq!((left.index, stamped(&left.rows)), (made.index, stamped(&made.rows)));

    let there = super::engine(server.port, "/flotilla").load().unwrap();
    assert_eq!(unstamped(&there.rows), unstamped(&made.rows), "row by row");
    let told = there.rows.iter().map(|row| row.modified).min().unwrap();
    assert!(told > made.index, "whoever waits with an index of before looks again: {told:?} after {:?}", made.index);
    assert!(there.index >= told);

    // It goes on there.
    let mut writer = server.writer();
    for command in [put_command("many/1", b"new"), Command::KvDelete { key: Key::new("many/2").unwrap(), cas: None }] {
        writer.commit(&[command]).unwrap();
    }
    let start = Instant::now();
    moved(&home(&server), &dir(&second)).await;
    println!("and out of it in {:?}", start.elapsed());
    let mut back = Embedded::open(&second, FRESH).unwrap();
    let back = back.load().unwrap();
    assert_eq!(stamped(&back.rows), stored(&writer.state), "with the same indexes");
    assert!(back.index >= writer.state.index());
    let state = State::load(back.index, back.rows);
    let deleted = WatchKey::Key(Key::new("many/2").unwrap());
    assert!(state.index_of(&deleted) >= writer.state.index_of(&deleted), "a deletion is not missed");
}

#[tokio::test]
async fn what_did_not_arrive_is_not_used_and_can_be_begun_anew() {
    let Some(server) = Server::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let (old, new) = (dirs.path().join("old"), dirs.path().join("new"));
    made(&old, 300);
    let leaving = Leaving::begin(&dir(&old), &home(&server), false).await.unwrap();
    // Halfway it ends without a word, as by SIGKILL.
    let come = AtomicUsize::new(0);
    {
        let target = home(&server);
        let done = |rows| {
            come.fetch_add(rows, Ordering::SeqCst);
        };
        let from = dir(&old);
        let mut taking = std::pin::pin!(target.take(&from, &leaving.whole, &done));
        while come.load(Ordering::SeqCst) == 0 {
            let step = tokio::time::timeout(Duration::from_millis(1), taking.as_mut());
            assert!(step.await.is_err(), "it has several steps to go");
        }
    }
    drop(leaving);
    assert!(come.load(Ordering::SeqCst) < 300);
    let refused = server.engine("/flotilla").load().unwrap_err().to_string();
    assert!(refused.contains(&format!("is moved there from {} and has not arrived", old.display())), "{refused}");
    let refused = Leaving::begin(&home(&server), &dir(&new), false).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("has not arrived"), "{refused}");

    // What had come before is not there unless it comes again.
    std::fs::rename(old.join("registry.redb"), dirs.path().join("away")).unwrap();
    let made = made(&old, 5);
    moved(&dir(&old), &home(&server)).await;
    assert_eq!(unstamped(&server.engine("/flotilla").load().unwrap().rows), unstamped(&made.rows));
}

#[tokio::test]
async fn a_place_that_is_taken_is_refused() {
    let Some(server) = Server::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let (full, empty) = (dirs.path().join("full"), dirs.path().join("empty"));
    made(&full, 1);
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("node-id"), "x").unwrap();
    server.writer().commit(&[put_key("a")]).unwrap();
    server.ctl(&["put", "/foreign/pods/a", "1"]);
    server.ctl(&["put", "/newer/store", r#"{"format":2}"#]);
    server.ctl(&["put", "/moved/store", r#"{"format":1,"moved":{"base":7,"to":"/elsewhere"}}"#]);
    let at = |prefix: &str| in_etcd(&format!("etcd://127.0.0.1:{}?prefix={prefix}", server.port));
    let before = server.ctl(&["get", "--prefix", "/"]);
    for (place, why) in [
        (dir(&full), "move registry.redb away"),
        (
            at("/flotilla"),
            "there is a registry below /flotilla/ already; choose another prefix, or remove what is there",
        ),
        (at("/foreign"), "1 keys below /foreign/ that are not of a kvstore, such as \"/foreign/pods/a\""),
        (at("/newer"), "it has format 2"),
        (at("/moved"), "what is below /moved/ is left of a registry that was moved to /elsewhere"),
        (in_etcd("etcd://127.0.0.1:1"), "127.0.0.1:1"),
    ] {
        for refused in [place.check_vacant().await, place.take(&dir(&full), &whole(&full), QUIET).await] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(why) && refused.contains(&place.to_string()), "{refused}");
        }
    }
    assert_eq!(server.ctl(&["get", "--prefix", "/"]), before);
    dir(&empty).check_vacant().await.unwrap();

    for (place, why) in [
        (dir(&empty), "there is no registry.redb in it"),
        (dir(&dirs.path().join("nowhere")), "there is no registry.redb in it"),
        (at("/nothing"), "there is no registry below /nothing/"),
        (at("/foreign"), "there is no registry below /foreign/"),
        (at("/newer"), "it has format 2"),
    ] {
        let refused = Leaving::begin(&place, &dir(&empty), false).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert!(!dirs.path().join("nowhere").exists());
    let _running = Embedded::open(&full, FRESH).unwrap();
    let refused = Leaving::begin(&dir(&full), &at("/new"), false).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains(&format!("another kvstore (process {}) uses it", std::process::id())), "{refused}");
}

fn whole(path: &Path) -> Loaded {
    Embedded::open(path, FRESH).unwrap().load().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_to_what_leaves_and_it_may_stay() {
    let Some(server) = Server::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let (new, from) = (dir(&dirs.path().join("new")), home(&server));
    let mut writer = tokio::task::block_in_place(|| server.writer());
    tokio::task::block_in_place(|| writer.commit(&[put_key("a")]).unwrap());
    server.ctl(&["put", "/flotilla/rows/k/nonsense", "{"]);

    // To look changes nothing.
    let before = server.ctl(&["get", "--prefix", "/flotilla/"]);
    let leaving = Leaving::begin(&from, &new, true).await.unwrap();
    assert_eq!((leaving.whole.rows.len(), &leaving.unreadable[..]), (1, &["k/nonsense".to_owned()][..]));
    leaving.stay().await.unwrap();
    assert_eq!(server.ctl(&["get", "--prefix", "/flotilla/"]), before);

    let leaving = Leaving::begin(&from, &new, false).await.unwrap();
    tokio::task::block_in_place(|| {
        until("the refusal", || match writer.engine.commit(vec![put("b", "1")]) {
            Err(error) => kvstore_client::with_causes(&error).contains("its registry was moved to"),
            Ok(results) => {
                assert!(results[0].is_err(), "{results:?}");
                false
            }
        });
    });
    let refused = tokio::task::block_in_place(|| server.engine("/flotilla").load()).unwrap_err().to_string();
    assert!(refused.contains("its registry was moved to"), "{refused}");
    leaving.stay().await.unwrap();
    tokio::task::block_in_place(|| {
        until("the writing", || writer.engine.commit(vec![put("b", "1")]).is_ok_and(|results| results[0].is_ok()));
        while !matches!(writer.engine.log().last(), Some(Entry::Commit(_))) {
            writer.engine.catch_up().unwrap();
        }
    });
    let there = moved_with_left(&from, &new, &["k/nonsense"]).await;
    assert_eq!(there, Sum::of(&whole(&dirs.path().join("new")).rows));
}

async fn moved_with_left(from: &Home, to: &Home, left: &[&str]) -> Sum {
    let leaving = Leaving::begin(from, to, false).await.unwrap();
    assert_eq!(leaving.unreadable, left);
    to.take(from, &leaving.whole, QUIET).await.unwrap();
    Sum::of(&leaving.whole.rows)
}

/// The member that is spoken to is killed between two chunks.
#[tokio::test]
async fn a_member_that_dies_halfway_is_replaced_by_another() {
    let Some(mut cluster) = Cluster::start() else { return };
    let dirs = tempfile::tempdir().unwrap();
    let made = made(dirs.path(), 1000);
    let (from, to) = (dir(dirs.path()), in_etcd(&cluster.address()));
    let killed = std::sync::Once::new();
    let first = cluster.take_child(0);
    let first = std::sync::Mutex::new(first);
    to.take(&from, &made, &|_| {
        killed.call_once(|| {
            let mut child = first.lock().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
        });
    })
    .await
    .unwrap();
    assert!(killed.is_completed());
    let there = Etcd::begin(cluster.address().parse().unwrap(), "", FRESH).unwrap().load().unwrap();
    assert_eq!(unstamped(&there.rows), unstamped(&made.rows));
}
