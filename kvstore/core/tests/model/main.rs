//! Random commands on the state and on a naive model of it, compared after each.
//!
//! The model keeps plain maps and finds everything by looking at every row. What a watch key stands for is rendered
//! from both; the index of a key and what a change says it touched are judged by whether the rendering changed.

mod commands;
mod naive;
mod readings;
mod views;

use kvstore_core::{Index, Outcome, Refusal, State, Touched, TxnError, WatchKey, decide, row::Row};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{naive::Naive, readings::Reading, views::Watcher};

/// Few, so that they overflow.
const REMEMBERED_DELETIONS: usize = 3;

const COMMANDS: usize = 500;

#[test]
fn the_state_agrees_with_a_naive_model() {
    for seed in seeds() {
        println!("SEED={seed}");
        let mut run = Run::new(seed);
        for _ in 0..COMMANDS {
            run.step();
        }
    }
}

/// Fixed ones and one that nobody has tried, or the one in `SEED`.
#[allow(clippy::disallowed_methods)] // the test is a shell around the core
fn seeds() -> Vec<u64> {
    let new = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos().into());
    std::env::var("SEED").map_or_else(|_| vec![1, 2, new], |seed| vec![seed.parse().expect("SEED is a number")])
}

struct Run {
    rng: StdRng,
    state: State,
    naive: Naive,
    watched: Vec<WatchKey>,
    watchers: Vec<Watcher>,
}

/// What a reader of a key sees: what it stands for, and its index.
type Seen = (Reading, Index);

impl Run {
    fn new(seed: u64) -> Self {
        let mut state = State::empty(Index(1000));
        state.remember_deletions(REMEMBERED_DELETIONS);
        let (watched, watchers) = (readings::watch_keys(), views::watchers());
        Self { rng: StdRng::seed_from_u64(seed), state, naive: Naive::new(1000), watched, watchers }
    }

    fn step(&mut self) {
        let command = commands::random(&mut self.rng, &self.naive);
        let before = self.seen();
        let (index, rows) = (self.state.index(), rows(&self.state));

        let expected = self.naive.carry_out(&command);
        let decided = decide(&self.state, &command);
        assert_eq!(decided.as_ref().map(|d| plain(&d.outcome)).map_err(wordless), expected, "{command:?}");
        let changes = decided.map(|decision| decision.changes).unwrap_or_default();
        if changes.is_empty() {
            assert_eq!(rows, self.naive.rows(), "{command:?} should have changed something");
            assert_eq!(self.state.index(), Index(self.naive.index));
            return;
        }
        let touched = self.state.apply(index.next(), &changes);
        assert_eq!(self.state.index(), Index(self.naive.index), "{command:?} should have changed nothing");

        let after = self.seen();
        for (key, (before, after)) in self.watched.iter().zip(before.iter().zip(&after)) {
            self.judge(key, before, after, &touched).unwrap_or_else(|fault| {
                let (was, is) = (only_in(&before.0, &after.0), only_in(&after.0, &before.0));
                let model = only_in(&readings::of_naive(&self.naive, key), &after.0);
                let (older, newer) = (before.1, after.1);
                panic!(
                    "{key:?} {fault}\nafter {command:?}\nindex {older} -> {newer} of {index}\nwas: {was:#?}\nis: {is:#?}\n\
                     but should be: {model:#?}"
                )
            });
        }
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            let holders = readings::holders_in_state(&self.state, address);
            assert_eq!(holders, readings::holders_in_naive(&self.naive, address), "{address} after {command:?}");
            let nodes: Vec<_> = self.naive.nodes.keys().cloned().collect();
            let versions = readings::versions_in_state(&self.state, address, &nodes);
            assert_eq!(
                versions,
                readings::versions_in_naive(&self.naive, address, &nodes),
                "{address} after {command:?}"
            );
        }
        assert_eq!(readings::held_in_state(&self.state), readings::held_in_naive(&self.naive), "{command:?}");
        assert_eq!(readings::resolved_in_state(&self.state), readings::resolved_in_naive(&self.naive), "{command:?}");
        for watcher in &mut self.watchers {
            watcher.told(&touched);
            // Often enough, and after more than one change.
            if self.rng.random_bool(0.2) {
                watcher.look(&self.state, &self.naive, &self.watched);
            }
        }
        self.compare_with_a_loaded_state(&after);
    }

    fn seen(&self) -> Vec<Seen> {
        let seen = |key| (readings::of_state(&self.state, key), self.state.index_of(key));
        self.watched.iter().map(seen).collect()
    }

    fn judge(&self, key: &WatchKey, before: &Seen, after: &Seen, touched: &Touched) -> Result<(), &'static str> {
        let ensure = |holds: bool, fault| if holds { Ok(()) } else { Err(fault) };
        ensure(after.0 == readings::of_naive(&self.naive, key), "is not what the model says")?;
        ensure(after.1 >= before.1, "has an index that went back")?;
        ensure(after.1 <= self.state.index(), "has an index of the future")?;
        let told = told(key, touched);
        if after.0 == before.0 && self.naive.twice {
            Ok(())
        } else if after.0 == before.0 {
            ensure(!told, "was touched and did not change")?;
            let shared = after.0.is_empty() || matches!(key, WatchKey::KeyPrefix(_));
            ensure(after.1 == before.1 || shared, "is there, did not change, and has a new index")
        } else {
            ensure(told, "changed and was not touched")?;
            ensure(after.1 == self.state.index(), "changed and does not have the index of the change")
        }
    }

    /// Rows survive their encoding, and a state loaded from them shows the same and never an older index. Now and then
    /// it takes the place of the state, as after a restart.
    fn compare_with_a_loaded_state(&mut self, seen: &[Seen]) {
        let rows = rows(&self.state);
        assert_eq!(rows, self.naive.rows());
        let decoded = rows.iter().map(|(key, value)| Row::decode(key, value).unwrap());
        let mut loaded = State::load(self.state.index(), decoded);
        loaded.remember_deletions(REMEMBERED_DELETIONS);
        for (key, (reading, index)) in self.watched.iter().zip(seen) {
            assert_eq!(*reading, readings::of_state(&loaded, key), "{key:?} after a restart");
            assert!(loaded.index_of(key) >= *index, "{key:?} has an older index after a restart");
        }
        if self.rng.random_bool(0.01) {
            self.state = loaded;
        }
    }
}

/// Whether who waits on `key` is woken.
fn told(key: &WatchKey, touched: &Touched) -> bool {
    match key {
        WatchKey::KeyPrefix(prefix) => touched.iter().any(|key| {
            let WatchKey::Key(key) = key else { return false };
            key.as_str().starts_with(prefix.as_str())
        }),
        key => touched.contains(key),
    }
}

/// Without a transaction's results, which tables of tests judge.
fn plain(outcome: &Outcome) -> Outcome {
    if let Outcome::Txn(_) = outcome { Outcome::Txn(vec![]) } else { outcome.clone() }
}

/// Without the words for what failed in a transaction.
fn wordless(refusal: &Refusal) -> Refusal {
    let Refusal::Txn(errors) = refusal else { return refusal.clone() };
    Refusal::Txn(errors.iter().map(|error| TxnError { step: error.step, what: String::new() }).collect())
}

fn only_in(these: &Reading, others: &Reading) -> Reading {
    these.iter().filter(|line| !others.contains(line)).cloned().collect()
}

fn rows(state: &State) -> Vec<(String, Vec<u8>)> {
    let encoded = state.rows().map(|row| (row.value.key().encode(), row.value.encode(row.created, row.modified)));
    let mut rows: Vec<_> = encoded.collect();
    rows.sort();
    rows
}
