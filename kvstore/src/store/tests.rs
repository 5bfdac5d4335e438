//! The writer's promises, on the memory engine and on one that fails when told to.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kvstore_core::{
    decide,
    health::Status,
    names::{CheckId, Key, NodeKey},
};

use super::{worker::MAX_ATTEMPTS, *};
use crate::{
    deadlines::tests::register_for,
    engine::{Entry, Loaded, Memory, Proposal, Rejected},
};

fn put(key: &str, value: &str) -> Command {
    let value = bytes::Bytes::copy_from_slice(value.as_bytes());
    Command::KvPut { key: Key::new(key).unwrap(), value, flags: 0, cas: None, ttl: Duration::ZERO }
}

fn start() -> (Store, Writer) {
    Store::start(Box::new(Memory::new(Index(1000)))).unwrap()
}

/// Fails or conflicts while told to.
struct Moody {
    memory: Memory,
    failing: Arc<AtomicBool>,
    conflicts: usize,
}

impl Engine for Moody {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        self.memory.load()
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Rejected>>, EngineError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(EngineError::Write { path: "x".into(), source: "no space left".into() });
        }
        if self.conflicts > 0 {
            self.conflicts -= 1;
            // Somebody else was faster, and has the index that the first of the batch was decided with.
            let other = decide(&State::load(Index(1), []), &put("other", &self.conflicts.to_string())).unwrap();
            self.memory.commit(vec![Proposal { changes: other.changes, lazy: false }])?;
            return Ok(batch.iter().map(|_| Err(Rejected::Conflict)).collect());
        }
        self.memory.commit(batch)
    }

    fn log(&mut self) -> Vec<Entry> {
        self.memory.log()
    }
}

#[tokio::test]
async fn a_write_is_visible_when_it_is_answered_and_wakes_its_watchers() {
    let (store, writer) = start();
    let key = WatchKey::Key(Key::new("a").unwrap());
    let waiting = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.wait_past(&[key], Index(1000)).await.index() }
    });
    let (outcome, index) = store.submit(put("a", "1")).await.unwrap();
    assert_eq!((outcome, index), (Outcome::Done, Index(1001)));
    assert_eq!(store.state().index_of(&key), Index(1001));
    assert_eq!(waiting.await.unwrap(), Index(1001));
    writer.stop();
    assert!(matches!(store.submit(put("a", "2")).await, Err(WriteError::Stopping)));
}

#[tokio::test]
async fn one_index_a_command_and_none_for_an_identical_rewrite() {
    let (store, _writer) = start();
    for (value, index) in [("1", 1001), ("2", 1002), ("2", 1002), ("3", 1003)] {
        assert_eq!(store.submit(put("a", value)).await.unwrap().1, Index(index), "{value}");
    }
}

#[tokio::test]
async fn a_failing_disk_refuses_writes_and_recovers() {
    let failing = Arc::new(AtomicBool::new(false));
    let engine = Moody { memory: Memory::new(Index(1)), failing: failing.clone(), conflicts: 0 };
    let (store, _writer) = Store::start(Box::new(engine)).unwrap();
    store.submit(put("before", "1")).await.unwrap();
    let is_there = |key: &str| store.state().key(&Key::new(key).unwrap()).is_some();
    failing.store(true, Ordering::SeqCst);
    let refused = store.submit(put("a", "1")).await;
    assert!(matches!(&refused, Err(WriteError::Unavailable(why)) if why.contains("no space left")), "{refused:?}");
    assert!(is_there("before") && !is_there("a"), "reads go on with what was written");
    assert_eq!(store.metrics().failed.get(), 1);
    failing.store(false, Ordering::SeqCst);
    store.submit(put("a", "1")).await.unwrap();
    assert!(is_there("a"));
}

#[tokio::test]
async fn a_conflict_is_decided_anew_and_given_up_in_the_end() {
    for (conflicts, held) in [(3, true), (MAX_ATTEMPTS + 1, false)] {
        let engine = Moody { memory: Memory::new(Index(1)), failing: Arc::default(), conflicts };
        let (store, _writer) = Store::start(Box::new(engine)).unwrap();
        assert_eq!(store.submit(put("a", "1")).await.is_ok(), held, "{conflicts} conflicts");
        let state = store.state();
        let keys: Vec<_> = state.keys("").map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, if held { &["a", "other"][..] } else { &["other"] }, "only what the engine ordered is shown");
    }
}

#[tokio::test]
async fn a_silent_ttl_check_expires_and_a_renewal_writes_nothing() {
    let (store, writer) = start();
    let shutdown = CancellationToken::new();
    let timer = tokio::spawn({
        let (store, shutdown) = (store.clone(), shutdown.clone());
        async move { store.keep_deadlines(shutdown).await }
    });
    store.submit(register_for("c", Duration::from_secs(1))).await.unwrap();
    let (node, check) = (NodeKey::new("n").unwrap(), CheckId::new("c").unwrap());
    let report =
        Command::ReportTtl { node: node.clone(), check: check.clone(), status: Status::Passing, output: "fine".into() };
    store.submit(report.clone()).await.unwrap();
    let before = store.state().index();
    store.submit(report.clone()).await.unwrap();
    assert_eq!(store.state().index(), before, "a renewal writes nothing");
    let expired = store.wait_past(&[WatchKey::Checks], before);
    let state = tokio::time::timeout(Duration::from_secs(10), expired).await.expect("silence is critical");
    let row = state.check(&node, &check).unwrap();
    assert_eq!(row.status, Status::Critical);
    assert_eq!(row.output, "TTL expired (last output before timeout follows): fine");
    store.submit(report).await.unwrap();
    assert_eq!(store.state().check(&node, &check).unwrap().status, Status::Passing);
    shutdown.cancel();
    timer.await.unwrap();
    writer.stop();
}
