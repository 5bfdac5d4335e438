//! The power goes at each change of the disk in turn: nothing that was acknowledged is missing afterwards, and no batch
//! is there in part.

use kvstore_core::{Command, Index};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    FRESH, Stored,
    faulty_disk::{Fault, FaultyDisk, Left},
    open, random_batches, seeds, stored,
};

/// What somebody who saw the registry before the power went may expect of it.
struct Promised {
    /// One of these, exactly.
    rows: Vec<Stored>,
    /// No index up to this one is given out again.
    index: Index,
}

/// Commits `batches` until the power goes, or stops in order after them.
fn live(disk: &FaultyDisk, batches: &[Vec<Command>]) -> Promised {
    let Ok(mut writer) = open(disk) else {
        return Promised { rows: vec![Stored::new()], index: FRESH };
    };
    for batch in batches {
        if writer.commit(batch).is_err() {
            break;
        }
    }
    Promised { rows: std::mem::take(&mut writer.possible), index: writer.state.index() }
}

/// Opens what the power cut left, compares it with what was promised, and uses it.
fn recover(disk: &FaultyDisk, promised: &Promised, batches: &[Vec<Command>], case: &str) {
    let mut writer = open(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    let found = stored(&writer.state);
    assert!(promised.rows.contains(&found), "{case}: {}", difference(&found, &promised.rows));
    assert!(writer.state.index() >= promised.index, "{case}: the index went back");
    for batch in batches {
        writer.commit(batch).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    let (rows, index) = (stored(&writer.state), writer.state.index());
    drop(writer);
    let writer = open(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(stored(&writer.state) == rows, "{case}: what was written after the recovery is not there");
    assert_eq!(writer.state.index(), index, "{case}: a clean stop gives back what it reserved");
}

fn difference(found: &Stored, promised: &[Stored]) -> String {
    let keys = |rows: &Stored| rows.keys().cloned().collect::<Vec<_>>();
    format!("found {:?}, promised one of {:?}", keys(found), promised.iter().map(keys).collect::<Vec<_>>())
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    for seed in seeds(2) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let batches = random_batches(seed, 9);
        let whole = FaultyDisk::default();
        live(&whole, &batches);
        let (changes, _) = whole.counts();
        for at in 1..=changes {
            let disk = FaultyDisk::default();
            disk.set(Fault::PowerCut { at });
            let promised = live(&disk, &batches);
            let case = |left: &str| format!("SEED={seed}, power cut at {at} of {changes}, {left} written");
            recover(&disk.after_power_cut(Left::Nothing), &promised, &batches[..1], &case("nothing"));
            recover(&disk.after_power_cut(Left::Everything), &promised, &batches[..1], &case("everything"));
            recover(&disk.after_power_cut(Left::Some(rng)), &promised, &batches[..1], &case("something"));
            // The power goes again while the store recovers.
            let second = disk.after_power_cut(Left::Some(rng));
            second.set(Fault::PowerCut { at: rng.random_range(1..12) });
            drop(open(&second));
            recover(&second.after_power_cut(Left::Some(rng)), &promised, &batches[..1], &case("twice something"));
        }
    }
}

#[test]
fn lazy_results_are_lost_with_the_power_and_kept_by_a_clean_stop() {
    let batches = random_batches(7, 1);
    let probes = |n: u64| vec![super::probe_result(&mut StdRng::seed_from_u64(n))];
    let disk = FaultyDisk::default();
    let mut writer = open(&disk).unwrap();
    writer.commit(&batches[0]).unwrap();
    let before = stored(&writer.state);
    let (changes, _) = disk.counts();
    (0..50).for_each(|n| writer.commit(&probes(n)).unwrap());
    let after = stored(&writer.state);
    assert_ne!(before, after);
    assert_eq!(disk.counts().0, changes, "a lazy batch writes nothing");

    let cut = open(&disk.after_power_cut(Left::Everything)).unwrap();
    assert_eq!(stored(&cut.state), before);
    assert!(cut.state.index() >= writer.state.index(), "indexes of lost results are not given out again");

    drop(writer);
    assert_eq!(stored(&open(&disk).unwrap().state), after);
}
