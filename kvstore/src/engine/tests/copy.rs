//! A copy of another registry is, after a crash too, what that registry was at one of its indexes, at just that index.

use kvstore_core::{Changes, Command, Index, State, decide};
use nix::errno::Errno;

use super::{
    super::{Commit, Embedded, Engine as _, EngineError, embedded::Limits},
    FRESH, LIMITS, Stored,
    faulty_disk::{ALL, Fault, FaultyDisk, Left},
    random_batches, seeds, stored,
};

const LIVES: [u64; 2] = [7, 8];

fn open(disk: &FaultyDisk) -> Result<Embedded, EngineError> {
    Embedded::on(Box::new(disk.clone()), Index(1), Limits { reserve: 0, ..LIMITS })
}

/// A registry of that life at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    life: Option<u64>,
    index: Index,
    rows: Stored,
}

impl Moment {
    fn of(life: u64, state: &State) -> Self {
        Self { life: Some(life), index: state.index(), rows: stored(state) }
    }

    fn found(copy: &mut Embedded) -> Self {
        let loaded = copy.load().unwrap();
        let state = State::load(loaded.index, loaded.rows);
        Self { life: copy.copy_of(), index: loaded.index, rows: stored(&state) }
    }
}

/// What a registry commits batch by batch, and the state after each.
fn history(from: Index, batches: &[Vec<Command>]) -> Vec<(Vec<Commit>, State)> {
    let mut state = State::empty(from);
    let commits = |batch: &Vec<Command>| {
        let mut commits = Vec::new();
        for command in batch {
            let changes = decide(&state, command).map(|decision| decision.changes).unwrap_or_default();
            if !changes.is_empty() {
                let index = changes.index_after(state.index());
                state.apply(index, &changes);
                commits.push(Commit { index, changes });
            }
        }
        (commits, state.clone())
    };
    batches.iter().map(commits).collect()
}

/// Copies two lives of a registry, of which the second has lower indexes, until the power goes. Gives what may be found.
fn live(disk: &FaultyDisk, batches: &[Vec<Command>]) -> Vec<Moment> {
    let mut possible = vec![Moment { life: None, index: Index(1), rows: Stored::new() }];
    let Ok(mut copy) = open(disk) else { return possible };
    for (life, from) in LIVES.into_iter().zip([FRESH, Index(FRESH.0 / 2)]) {
        for (step, (commits, state)) in history(from, batches).into_iter().enumerate() {
            possible.push(Moment::of(life, &state));
            let written = match step {
                0 => copy.replace(life, state.index(), state.rows()),
                _ => copy.follow(commits),
            };
            if written.is_err() {
                return possible;
            }
            possible.drain(..possible.len() - 1);
        }
    }
    possible
}

#[test]
fn a_copy_is_always_a_moment_of_what_it_copies() {
    for seed in seeds(2) {
        let batches = random_batches(seed, 7);
        let whole = FaultyDisk::default();
        let last = live(&whole, &batches);
        assert_eq!(Moment::found(&mut open(&whole).unwrap()), last[0]);
        let (changes, _) = whole.counts();
        for at in 1..=changes {
            let disk = FaultyDisk::default();
            disk.set(Fault::PowerCut { at });
            let possible = live(&disk, &batches);
            for left in [Left::Nothing, Left::Everything] {
                let disk = disk.after_power_cut(left);
                let mut copy = open(&disk).unwrap_or_else(|error| panic!("SEED={seed}, power cut at {at}: {error}"));
                let found = Moment::found(&mut copy);
                assert!(possible.contains(&found), "SEED={seed}, power cut at {at} of {changes}: {found:?}");
                // And it goes on.
                let next = Commit { index: Index(found.index.0 + 7), changes: super::put("next", "1").changes };
                copy.follow(vec![next]).unwrap();
                drop(copy);
                let found = Moment::found(&mut open(&disk).unwrap());
                assert!(found.index >= Index(8) && found.rows.contains_key("k/next"), "SEED={seed}, after {at}");
            }
        }
    }
}

#[test]
fn a_copy_that_could_not_be_written_is_replaced() {
    let disk = FaultyDisk::default();
    let mut copy = open(&disk).unwrap();
    let all = history(FRESH, &random_batches(1, 5));
    copy.replace(7, all[0].1.index(), all[0].1.rows()).unwrap();
    disk.set(Fault::Errors { of: ALL, first: 0, count: u64::MAX, code: Errno::ENOSPC as i32, forgets: false });
    assert!(copy.follow(all[1].0.clone()).is_err());
    assert!(copy.replace(7, all[2].1.index(), all[2].1.rows()).is_err());
    disk.set(Fault::None);
    copy.replace(7, all[3].1.index(), all[3].1.rows()).unwrap();
    copy.follow(all[4].0.clone()).unwrap();
    drop(copy);
    assert_eq!(Moment::found(&mut open(&disk).unwrap()), Moment::of(7, &all[4].1));
}

#[test]
fn an_empty_change_moves_the_index() {
    let disk = FaultyDisk::default();
    let mut copy = open(&disk).unwrap();
    copy.replace(7, Index(10), std::iter::empty()).unwrap();
    copy.follow(vec![Commit { index: Index(12), changes: Changes::default() }]).unwrap();
    let found = Moment::found(&mut open(&disk.after_power_cut(Left::Everything)).unwrap());
    assert_eq!((found.life, found.index), (Some(7), Index(12)));
}

#[test]
fn a_copy_is_no_registry_and_a_damaged_one_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut copy = Embedded::open_copy(dir.path()).unwrap();
    assert_eq!(copy.copy_of(), None);
    copy.replace(7, Index(10), std::iter::empty()).unwrap();
    let used = Embedded::open_copy(dir.path()).map(drop).unwrap_err().to_string();
    assert!(used.contains("another kvstore"), "{used}");
    drop(copy);
    let why = Embedded::open(dir.path(), FRESH).map(drop).unwrap_err().to_string();
    assert!(why.contains("a replica's copy"), "{why}");
    std::fs::write(dir.path().join("registry.redb"), "no tables").unwrap();
    let mut anew = Embedded::open_copy(dir.path()).unwrap();
    assert_eq!((anew.copy_of(), anew.load().unwrap().rows.len()), (None, 0));
}
