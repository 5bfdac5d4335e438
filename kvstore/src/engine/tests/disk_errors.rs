//! The disk is full or fails for a while: a batch that was refused leaves no trace, and writing goes on by itself once
//! the disk is well.

use std::time::Duration;

use nix::errno::Errno;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Embedded, Engine as _, EngineError, FRESH, LIMITS, Limits, Part, Proposal, Writer,
    faulty_disk::{ALL, Fault, FaultyDisk, Left},
    open, put, put_command, random_batches, seeds, stored,
};

const TABLES: &[Part] = &[Part::Tables];
const JOURNALS: &[Part] = &[Part::EvenJournal, Part::OddJournal];

#[test]
fn a_disk_that_fails_for_a_while_costs_only_refused_writes() {
    for seed in seeds(2) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let batches = random_batches(seed, 9);
        let well = FaultyDisk::default();
        let mut writer = open(&well).unwrap();
        let (_, opened) = well.counts();
        for batch in &batches {
            writer.commit(batch).unwrap();
        }
        drop(writer);
        let (_, calls) = well.counts();
        for first in opened + 1..=calls {
            let code = [Errno::ENOSPC, Errno::EIO][rng.random_range(0..2)] as i32;
            let count = [1, 2, 10, 100][rng.random_range(0..4)];
            let of = [ALL, TABLES, JOURNALS][rng.random_range(0..3)];
            let fault = Fault::Errors { of, first, count, code, forgets: rng.random_bool(0.5) };
            endure(fault, &batches, rng, &format!("SEED={seed} {fault:?}"));
        }
    }
}

fn endure(fault: Fault, batches: &[Vec<kvstore_core::Command>], rng: &mut StdRng, case: &str) {
    let disk = FaultyDisk::default();
    let mut writer = open(&disk).unwrap();
    disk.set(fault);
    for batch in batches {
        let (rows, index) = (stored(&writer.state), writer.state.index());
        // Each attempt makes at least one call, so the faults run out.
        for attempt in 0.. {
            match writer.commit(batch) {
                Ok(()) => break,
                Err(EngineError::Write { path, .. }) => assert_eq!(path, "/faulty/registry.redb"),
                Err(other) => panic!("{case}: {other}"),
            }
            assert!(attempt < 200, "{case}: it does not recover");
            assert!(stored(&writer.state) == rows && writer.state.index() == index, "{case}: a refused batch shows");
            if rng.random_bool(0.2) {
                power_cut_now(&disk, &writer, rng, case);
            }
            // Not every client tries again.
            if rng.random_bool(0.3) {
                break;
            }
        }
    }
    power_cut_now(&disk, &writer, rng, case);
    let (rows, index) = (stored(&writer.state), writer.state.index());
    disk.set(Fault::None);
    drop(writer);
    let again = open(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(stored(&again.state) == rows, "{case}: the store differs from what was shown");
    assert!(again.state.index() >= index, "{case}: the index went back");
}

/// What if the power went at this moment, too?
fn power_cut_now(disk: &FaultyDisk, writer: &Writer, rng: &mut StdRng, case: &str) {
    for left in [Left::Nothing, Left::Some(rng)] {
        let cut = open(&disk.after_power_cut(left)).unwrap_or_else(|error| panic!("{case}, then power cut: {error}"));
        assert!(writer.possible.contains(&stored(&cut.state)), "{case}, then power cut: something is missing");
        assert!(cut.state.index() >= writer.state.index(), "{case}, then power cut: the index went back");
    }
}

/// At the first start, and after a power cut with records in the journal.
#[test]
fn a_start_that_the_disk_refuses_says_so_and_the_next_has_everything() {
    let crashed = FaultyDisk::default();
    let mut writer = open(&crashed).unwrap();
    for batch in random_batches(5, 6) {
        writer.commit(&batch).unwrap();
    }
    for (from, rows) in [(FaultyDisk::default(), None), (crashed.after_power_cut(Left::Nothing), Some(writer.possible))]
    {
        for (n, code) in (1..).zip([Errno::ENOSPC, Errno::EIO].into_iter().cycle()) {
            let disk = from.after_power_cut(Left::Nothing);
            disk.set(Fault::Errors { of: ALL, first: n, count: 1, code: code as i32, forgets: n % 3 == 0 });
            let started = Embedded::on(Box::new(disk.clone()), FRESH, LIMITS).and_then(|mut engine| engine.load());
            let opened = started.err().map(|error| error.to_string());
            let reached = disk.counts().1 >= n;
            for disk in [disk.after_power_cut(Left::Nothing), disk] {
                disk.set(Fault::None);
                let found = stored(&open(&disk).unwrap_or_else(|error| panic!("call {n}: {error}")).state);
                assert!(
                    rows.as_ref().map_or(found.is_empty(), |rows| rows.contains(&found)),
                    "call {n}: less than before"
                );
            }
            match opened {
                None if !reached => break,
                None => {}
                Some(said) => {
                    let why = if code == Errno::ENOSPC { "No space left on device" } else { "Input/output error" };
                    assert!(said.contains("/faulty/registry.redb") && said.contains(why), "call {n}: {said}");
                }
            }
        }
    }
}

/// The first record of a run fails: what was reserved in the run before holds all the same.
#[test]
fn an_index_given_out_after_a_failed_write_is_not_given_out_again() {
    let half = "x".repeat(LIMITS.journal_bytes / 2);
    let disk = FaultyDisk::default();
    let mut engine = Embedded::on(Box::new(disk.clone()), FRESH, LIMITS).unwrap();
    engine.commit(vec![put("a", &half)]).unwrap();
    disk.set(Fault::Errors { of: JOURNALS, first: 0, count: u64::MAX, code: Errno::EIO as i32, forgets: false });
    engine.commit(vec![put("b", &half)]).unwrap_err();
    disk.set(Fault::None);
    let lazy = Proposal { lazy: true, ..put("c", "1") };
    let given = engine.commit(vec![lazy]).unwrap().remove(0).unwrap();
    let cut = open(&disk.after_power_cut(Left::Nothing)).unwrap();
    assert!(cut.state.index() >= given, "{:?}, though {given:?} was given out", cut.state.index());
}

#[test]
fn while_the_tables_fail_both_journals_are_filled_and_no_more() {
    let disk = FaultyDisk::default();
    let mut writer = open(&disk).unwrap();
    let fill = |writer: &mut Writer, n: usize| {
        let value = vec![b'x'; LIMITS.journal_bytes / 2];
        writer.commit(&[put_command(&n.to_string(), &value)])
    };
    fill(&mut writer, 0).unwrap();
    disk.set(Fault::Errors { of: TABLES, first: 0, count: u64::MAX, code: Errno::ENOSPC as i32, forgets: false });
    fill(&mut writer, 1).unwrap();
    let EngineError::Write { source, .. } = fill(&mut writer, 2).unwrap_err() else { panic!("of another kind") };
    assert!(source.to_string().contains("No space left on device"), "{source}");
    let rng = &mut StdRng::seed_from_u64(1);
    power_cut_now(&disk, &writer, rng, "while they fail");
    disk.set(Fault::None);
    (3..9).for_each(|n| fill(&mut writer, n).unwrap());
    power_cut_now(&disk, &writer, rng, "later");
    assert_eq!(stored(&writer.state).len(), 8);
}

#[test]
fn a_failing_disk_is_not_opened_over_and_over() {
    let disk = FaultyDisk::default();
    let limits = Limits { pause: Duration::from_hours(1), ..LIMITS };
    let engine = Embedded::on(Box::new(disk.clone()), FRESH, limits).unwrap();
    let mut writer = Writer::start(Box::new(engine));
    let batches = random_batches(1, 2);
    disk.set(Fault::Errors { of: ALL, first: 0, count: u64::MAX, code: Errno::ENOSPC as i32, forgets: false });
    let first = writer.commit(&batches[0]).unwrap_err();
    let (_, calls) = disk.counts();
    disk.set(Fault::None);
    let second = writer.commit(&batches[0]).unwrap_err();
    assert_eq!(disk.counts().1, calls, "it waits a while before it tries again");
    for error in [first, second] {
        let EngineError::Write { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("No space left on device"), "{source}");
    }
}
