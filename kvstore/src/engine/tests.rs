//! One battery for all engines, and what only the embedded one promises: files, power cuts and failing disks.

mod copy;
mod disk_errors;
#[cfg(feature = "etcd")]
mod etcd;
mod faulty_disk;
mod files;
mod journal;
mod power_cut;

use std::time::Duration;

use std::collections::BTreeMap;

use kvstore_core::{
    Command, Index, State, Target, decide,
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey},
    row::{Check, Instance, Node, Owner, Probe, ProbeKind, Weights},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use faulty_disk::FaultyDisk;

use super::{Embedded, Engine, EngineError, Entry, Loaded, Memory, Proposal, embedded::Limits, file::Part};

/// Where fresh stores begin in these tests.
pub(crate) const FRESH: Index = Index(1_000_000);

/// Some batches fill the journal, some fit beside others, and some are longer than all of it.
const LIMITS: Limits = Limits { journal_bytes: 6000, pause: Duration::ZERO, reserve: 4096 };

/// Rows as they are stored, by key.
pub(crate) type Stored = BTreeMap<String, Vec<u8>>;

#[test]
fn memory_passes_the_battery() {
    battery(|| Box::new(Memory::new(FRESH)));
}

#[test]
fn embedded_passes_the_battery() {
    let dirs = tempfile::tempdir().unwrap();
    let mut count = 0;
    battery(|| {
        count += 1;
        Box::new(Embedded::open(&dirs.path().join(count.to_string()), FRESH).unwrap())
    });
}

/// What every engine does. `fresh` makes an empty store.
fn battery(mut fresh: impl FnMut() -> Box<dyn Engine>) {
    a_fresh_store_is_empty(&mut *fresh());
    each_proposal_has_the_next_index(&mut *fresh());
    the_log_tells_each_commit_once(&mut *fresh());
    for seed in seeds(5) {
        let mut writer = Writer::start(fresh());
        for batch in random_batches(seed, 40) {
            writer.commit(&batch).unwrap();
        }
    }
}

fn a_fresh_store_is_empty(engine: &mut dyn Engine) {
    let loaded = engine.load().unwrap();
    assert!(loaded.index >= FRESH && loaded.rows.is_empty(), "{loaded:?}");
    engine.catch_up().unwrap();
    assert!(engine.log().is_empty());
}

fn each_proposal_has_the_next_index(engine: &mut dyn Engine) {
    let mut state = State::empty(engine.load().unwrap().index);
    for lazy in [[false, false, false], [true, true, true], [true, false, true]] {
        let first = state.index();
        let batch = lazy.map(|lazy| Proposal { lazy, ..next(&mut state, "a") });
        let expected: Vec<_> = (1..=3).map(|n| Ok(Index(first.0 + n))).collect();
        assert_eq!(engine.commit(batch.into()).unwrap(), expected);
        engine.log();
    }
}

fn the_log_tells_each_commit_once(engine: &mut dyn Engine) {
    let loaded = engine.load().unwrap();
    let (mut wanted, mut come) = (State::empty(loaded.index), State::empty(loaded.index));
    let mut batch = ["a", "b", "c"].map(|key| next(&mut wanted, key));
    batch[1].lazy = true;
    engine.commit(batch.into()).unwrap();
    let last = next(&mut wanted, "d");
    engine.commit(vec![last]).unwrap();
    let log = engine.log();
    let indexes: Vec<_> = log.iter().filter_map(|entry| Some(index(entry)?.0 - loaded.index.0)).collect();
    assert_eq!(indexes, [1, 2, 3, 4]);
    for entry in log {
        apply(&mut come, entry);
    }
    assert_eq!(comparable(engine, &come), comparable(engine, &wanted));
    engine.catch_up().unwrap();
    assert!(engine.log().is_empty());
}

fn index(entry: &Entry) -> Option<Index> {
    match entry {
        Entry::Commit(commit) => Some(commit.index),
        Entry::Anew(loaded) => Some(loaded.index),
        Entry::Renewed(_) | Entry::Lapsed { .. } => None,
    }
}

fn apply(state: &mut State, entry: Entry) {
    match entry {
        Entry::Commit(commit) => drop(state.apply(commit.index, &commit.changes)),
        Entry::Anew(Loaded { index, rows }) => *state = State::load(index, rows),
        Entry::Renewed(_) | Entry::Lapsed { .. } => {}
    }
}

/// A proposal that puts one key with what it never had, carried out in `state` as if it were the next.
fn next(state: &mut State, key: &str) -> Proposal {
    let changes = decide(state, &put_command(key, state.index().to_string().as_bytes())).unwrap().changes;
    state.apply(changes.index_after(state.index()), &changes);
    Proposal { changes, lazy: false }
}

/// A proposal that puts one key.
fn put(key: &str, value: &str) -> Proposal {
    let command = put_command(key, value.as_bytes());
    Proposal { changes: decide(&State::empty(FRESH), &command).unwrap().changes, lazy: false }
}

fn put_command(key: &str, value: &[u8]) -> Command {
    let key = Key::new(key).unwrap();
    Command::KvPut { key, value: value.to_vec().into(), flags: 0, cas: None, ttl: Duration::ZERO }
}

/// Decides, commits and applies like the store's writer, and checks the engine at each step.
struct Writer {
    engine: Box<dyn Engine>,
    state: State,
    /// The state at each commit since the last one that had to be durable, that one first: a crash may lead back to
    /// any of them.
    possible: Vec<Stored>,
}

impl Writer {
    fn start(mut engine: Box<dyn Engine>) -> Self {
        let loaded = engine.load().unwrap();
        let state = State::load(loaded.index, loaded.rows);
        let possible = vec![stored(&state)];
        Self { engine, state, possible }
    }

    /// # Errors
    /// The engine's; then the batch may or may not be among what is `possible` after a crash.
    fn commit(&mut self, batch: &[Command]) -> Result<(), EngineError> {
        let mut draft = self.state.clone();
        let (mut proposals, mut proposed) = (Vec::new(), Vec::new());
        for command in batch {
            let Ok(decision) = decide(&draft, command) else { continue };
            if !decision.changes.is_empty() {
                draft.apply(decision.changes.index_after(draft.index()), &decision.changes);
                proposals.push(Proposal { changes: decision.changes, lazy: command.is_lazy() });
                proposed.push(command.clone());
            }
        }
        if proposals.is_empty() {
            return Ok(());
        }
        let durable = !proposals.iter().all(|proposal| proposal.lazy);
        self.possible.push(stored(&draft));
        let results = self.engine.commit(proposals);
        let log = self.engine.log();
        let results = match results {
            Ok(results) => results,
            Err(error) => {
                assert!(log.is_empty(), "a failed batch shows in the log");
                return Err(error);
            }
        };
        let void: Vec<_> = proposed
            .into_iter()
            .zip(&results)
            .filter(|(_, result)| result.is_err())
            .map(|(command, _)| command)
            .collect();
        for entry in log {
            assert!(index(&entry).is_none_or(|index| index > self.state.index()));
            apply(&mut self.state, entry);
        }
        if void.is_empty() {
            assert_eq!(results.iter().flatten().max(), Some(&self.state.index()));
            assert_eq!(comparable(&*self.engine, &self.state), comparable(&*self.engine, &draft));
        } else {
            // A restore makes void what comes after it; so does what came in another order than it was decided.
            let restores = batch.iter().any(|command| matches!(command, Command::Restore { .. }));
            assert!(restores || self.engine.has_peers(), "{results:?}");
            assert!(void.len() < batch.len(), "one of a batch always holds: {results:?}");
            return self.commit(&void);
        }
        if durable {
            self.possible.drain(..self.possible.len() - 1);
        }
        Ok(())
    }

    /// Takes what others have committed.
    #[cfg(feature = "etcd")]
    fn catch_up(&mut self) {
        self.engine.catch_up().unwrap();
        for entry in self.engine.log() {
            apply(&mut self.state, entry);
        }
    }
}

fn open(disk: &FaultyDisk) -> Result<Writer, EngineError> {
    Ok(Writer::start(Box::new(Embedded::on(Box::new(disk.clone()), FRESH, LIMITS)?)))
}

pub(crate) fn stored(state: &State) -> Stored {
    let rows = state.rows();
    rows.map(|row| (row.value.key().encode(), row.value.encode(row.created, row.modified))).collect()
}

/// Rows as they are to be compared with those of a draft: where independent changes may come in another order, without
/// their indexes.
fn comparable(engine: &dyn Engine, state: &State) -> Stored {
    if !engine.has_peers() {
        return stored(state);
    }
    state.rows().map(|row| (row.value.key().encode(), row.value.encode(Index(0), Index(0)))).collect()
}

/// Fixed seeds and one that nobody has tried; all are printed by what fails.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let new = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos().into());
    let all = given.map_or_else(|| (1..count).chain([new]).collect(), |seed| vec![seed]);
    all.into_iter().inspect(|seed| println!("SEED={seed}"))
}

pub(crate) fn random_batches(seed: u64, count: usize) -> Vec<Vec<Command>> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let batch = |_| {
        // A third of the batches is lazy as a whole, as probes alone make them.
        let lazy = rng.random_bool(0.33);
        let commands = 1..=rng.random_range(1..6);
        commands.map(|_| if lazy { probe_result(rng) } else { random_command(rng) }).collect()
    };
    // Something to probe from the start.
    let first = vec![register(&mut StdRng::seed_from_u64(seed), "n0", "i0")];
    std::iter::once(first).chain((1..count).map(batch)).collect()
}

fn random_command(rng: &mut StdRng) -> Command {
    let (node, instance) = (pick(rng, &["n0", "n1", "n", "n/1"]), pick(rng, &["i0", "i1"]));
    match rng.random_range(0..20) {
        0..8 => {
            let bytes = if rng.random_bool(0.1) { 8000 } else { rng.random_range(0..1000) };
            let value = vec![rng.random::<u8>(); bytes].into();
            Command::KvPut {
                key: random_key(rng),
                value,
                flags: rng.random_range(0..3),
                cas: None,
                ttl: Duration::ZERO,
            }
        }
        8..10 => Command::KvDelete { key: random_key(rng), cas: None },
        10 if rng.random_bool(0.2) => restore(rng),
        10 => Command::KvDeleteTree { prefix: pick(rng, &["", "a", "a/", "a/b/", "\u{10FFFF}"]).into() },
        11..15 => register(rng, node, instance),
        15 => Command::Deregister { node: NodeKey::new(node).unwrap(), target: Target::Node },
        16 => Command::Deregister {
            node: NodeKey::new(node).unwrap(),
            target: Target::Instance(InstanceId::new(instance).unwrap()),
        },
        _ => probe_result(rng),
    }
}

/// A snapshot of a registry that has given out fewer indexes, or many more.
fn restore(rng: &mut StdRng) -> Command {
    let mut other = State::empty(Index(FRESH.0 - 100));
    let put = |rng: &mut StdRng| Command::KvPut {
        key: random_key(rng),
        value: "old".into(),
        flags: 0,
        cas: None,
        ttl: Duration::ZERO,
    };
    for command in [register(rng, "n0", "i0"), put(rng), put(rng)] {
        let changes = decide(&other, &command).unwrap().changes;
        other.apply(changes.index_after(other.index()), &changes);
    }
    let ahead = rng.random_range(0..10_000);
    Command::Restore { rows: other.rows().collect(), index: Index(other.index().0 + ahead) }
}

fn random_key(rng: &mut StdRng) -> Key {
    Key::new(pick(rng, &["a", "a/", "a/b", "a/b/c", "ab", "b", "%2F", "\u{10FFFF}", "\u{10FFFF}x", "\0", "n/n0"]))
        .unwrap()
}

fn pick<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

fn register(rng: &mut StdRng, node: &str, instance: &str) -> Command {
    let key = NodeKey::new(node).unwrap();
    let id = InstanceId::new(instance).unwrap();
    let node =
        Node { name: node.into(), id: String::new(), address: "10.0.0.1".into(), tagged_addresses: None, meta: None };
    let instance = Instance {
        node: key.clone(),
        id: id.clone(),
        service: "web".into(),
        tags: vec![],
        address: String::new(),
        port: rng.random_range(1..5),
        socket_path: String::new(),
        tagged_addresses: BTreeMap::new(),
        meta: None,
        weights: Weights::default(),
        enable_tag_override: false,
        kind: String::new(),
        proxy: serde_json::Value::Null,
        connect: serde_json::Value::Null,
        owner: Owner::Agent,
        from_file: false,
    };
    let check = Check {
        node: key,
        id: CheckId::new(&format!("c:{id}")).unwrap(),
        name: String::new(),
        status: Status::Critical,
        notes: String::new(),
        output: String::new(),
        service: Some(id),
        kind: "tcp".into(),
        probe: Some(probe().into()),
        interval: String::new(),
        timeout: String::new(),
        definition: serde_json::Value::Null,
        owner: Owner::Agent,
        from_file: false,
    };
    Command::Register { node, keep_node: false, instance: Some(instance.into()), checks: vec![check] }
}

fn probe() -> Probe {
    let kind = ProbeKind::Tcp { address: "10.0.0.1:80".into(), tls: None };
    Probe::new(kind, std::time::Duration::from_secs(10), std::time::Duration::from_secs(1))
}

fn probe_result(rng: &mut StdRng) -> Command {
    let instance = pick(rng, &["i0", "i1"]);
    Command::ProbeResult {
        node: NodeKey::new(pick(rng, &["n0", "n1"])).unwrap(),
        check: CheckId::new(&format!("c:{instance}")).unwrap(),
        probe: probe().into(),
        status: [Status::Passing, Status::Critical][rng.random_range(0..2)],
        output: rng.random_range(0..1000).to_string(),
    }
}
