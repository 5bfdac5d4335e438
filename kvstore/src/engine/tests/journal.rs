//! The journals: what a crash leaves in them is found again, and one that is damaged, missing or foreign is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

use super::{
    Embedded, Engine as _, FRESH, Index, Stored, Writer, faulty_disk::FaultyDisk, open, put, random_batches, seeds,
    stored,
};

const TABLES: &str = "registry.redb";
const JOURNALS: [&str; 2] = ["registry.journal.0", "registry.journal.1"];

/// The one that a store writes after its first start, and after its second: their runs are 1 and 3.
fn journal(dir: &TempDir) -> PathBuf {
    dir.path().join(JOURNALS[1])
}

/// What a crash at this moment leaves of a store that is open.
fn crashed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_files(&[TABLES, JOURNALS[0], JOURNALS[1]], dir, copy.path());
    copy
}

fn copy_files(names: &[&str], from: &Path, to: &Path) {
    for name in names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn found(dir: &Path) -> Result<(Stored, Index), String> {
    let loaded = Embedded::open(dir, Index(5)).and_then(|mut engine| engine.load()).map_err(|e| e.to_string())?;
    let state = kvstore_core::State::load(loaded.index, loaded.rows);
    Ok((stored(&state), loaded.index))
}

fn refusal(dir: &TempDir) -> String {
    let text = found(dir.path()).expect_err("must be refused");
    assert!(text.contains(&format!("{TABLES}: ")), "{text}");
    text
}

/// What a crash leaves of a store with keys `a`, `b` and `c`: the first in the tables, a record in the journal for each of
/// the others.
fn three_keys() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let open = || Embedded::open(dir.path(), FRESH).unwrap();
    open().commit(vec![put("a", "1")]).unwrap();
    let mut engine = open();
    for key in ["b", "c"] {
        engine.commit(vec![put(key, "1")]).unwrap();
    }
    crashed(dir.path())
}

fn keys(dir: &TempDir) -> Vec<String> {
    found(dir.path()).unwrap().0.into_keys().collect()
}

/// Where `text` stands in a file.
fn position(content: &[u8], text: &str) -> usize {
    content.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there")
}

#[test]
fn a_crash_at_any_time_leaves_all_that_was_committed() {
    for seed in seeds(2) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(Box::new(Embedded::open(dir.path(), FRESH).unwrap()));
        for batch in random_batches(seed, 12) {
            writer.commit(&batch).unwrap();
            let (rows, index) = found(crashed(dir.path()).path()).unwrap();
            assert!(writer.possible.contains(&rows), "SEED={seed}");
            assert!(index >= writer.state.index(), "SEED={seed}: the index went back");
        }
    }
}

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let disk = FaultyDisk::default();
    let mut writer = open(&disk).unwrap();
    let batches = random_batches(3, 1);
    writer.commit(&batches[0]).unwrap();
    let (changes, _) = disk.counts();
    for n in 0..10 {
        writer.engine.commit(vec![put(&n.to_string(), "1"), put("a", &n.to_string())]).unwrap();
    }
    assert_eq!(disk.counts().0, changes + 20);
}

#[test]
fn a_batch_longer_than_the_journal_makes_it_longer_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    engine.commit(vec![put("a", "1")]).unwrap();
    let bytes = || JOURNALS.map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).into_iter().max().unwrap();
    let usual = bytes();
    engine.commit((0..20).map(|n| put(&n.to_string(), &"x".repeat(100_000))).collect()).unwrap();
    assert!(bytes() > usual);
    assert_eq!(found(crashed(dir.path()).path()).unwrap().0.len(), 21);
    // The other, and then the same again.
    (0..4).for_each(|_| drop(engine.commit(vec![put("b", &"x".repeat(300_000))]).unwrap()));
    assert_eq!(bytes(), usual);
    assert_eq!(found(crashed(dir.path()).path()).unwrap().0.len(), 22);
}

#[test]
fn after_a_clean_stop_the_tables_alone_are_whole() {
    for seed in seeds(3) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(Box::new(Embedded::open(dir.path(), FRESH).unwrap()));
        for batch in random_batches(seed, 20) {
            writer.commit(&batch).unwrap();
        }
        let (rows, index) = (stored(&writer.state), writer.state.index());
        drop(writer);
        for name in JOURNALS {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert_eq!(found(dir.path()).unwrap(), (rows, index), "SEED={seed}");
    }
}

#[test]
fn a_missing_journal_is_refused_after_a_crash() {
    for name in JOURNALS {
        let dir = three_keys();
        fs::remove_file(dir.path().join(name)).unwrap();
        let text = refusal(&dir);
        assert!(text.contains(&format!("{name} beside it is missing")), "{text}");
        assert!(text.contains("or an empty file to go on without the newest changes"), "{text}");
    }
}

#[test]
fn an_empty_journal_gives_up_what_it_had_and_no_more() {
    let dir = three_keys();
    fs::write(journal(&dir), "").unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    assert_eq!(engine.load().unwrap().rows.len(), 1);
    engine.commit(vec![put("d", "1")]).unwrap();
    assert_eq!(keys(&crashed(dir.path())), ["k/a", "k/d"]);
    drop(engine);
    assert_eq!(keys(&dir), ["k/a", "k/d"]);
}

#[test]
fn a_journal_that_was_cut_is_refused() {
    let dir = three_keys();
    let content = fs::read(journal(&dir)).unwrap();
    for bytes in [1, 100, 4096, position(&content, "k/c"), content.len() - 1] {
        fs::write(journal(&dir), &content[..bytes]).unwrap();
        let text = refusal(&dir);
        assert!(text.contains("registry.journal.1 beside it is damaged"), "{bytes} bytes: {text}");
        assert!(text.contains("put a good copy of it there"), "{text}");
    }
}

#[test]
fn damage_before_the_last_record_is_refused() {
    let dir = three_keys();
    let content = fs::read(journal(&dir)).unwrap();
    // In its text, its index, its run, what it follows, its checksum and its length.
    for before in [0, 10, 18, 26, 34, 42] {
        let mut damaged = content.clone();
        damaged[position(&content, "k/b") - before] ^= 1;
        fs::write(journal(&dir), &damaged).unwrap();
        let text = refusal(&dir);
        assert!(text.contains("is not whole, and later ones are"), "{before} before the key: {text}");
    }
}

/// The power went while it was written, so nobody was told that it holds.
#[test]
fn a_last_record_that_is_not_whole_does_not_count() {
    let dir = three_keys();
    let mut content = fs::read(journal(&dir)).unwrap();
    let place = position(&content, "k/c");
    content[place..place + 20].fill(0);
    fs::write(journal(&dir), &content).unwrap();
    assert_eq!(keys(&dir), ["k/a", "k/b"]);
}

#[test]
fn a_damaged_journal_is_refused_or_its_whole_records_count() {
    for seed in seeds(3) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(Box::new(Embedded::open(dir.path(), FRESH).unwrap()));
        let mut shown = vec![Stored::new()];
        for batch in random_batches(seed, 10) {
            writer.commit(&batch).unwrap();
            shown.push(stored(&writer.state));
        }
        let crashed = crashed(dir.path());
        let content = fs::read(journal(&crashed)).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for _ in 0..40 {
            let mut damaged = content.clone();
            let (at, bytes) = (rng.random_range(0..used), rng.random_range(1..5000));
            match rng.random_range(0..2) {
                0 => damaged[at] ^= 1 << rng.random_range(0..8),
                _ => damaged.iter_mut().skip(at).take(bytes).for_each(|byte| *byte = rng.random()),
            }
            fs::write(journal(&crashed), &damaged).unwrap();
            match found(crashed.path()) {
                Ok((rows, _)) => assert!(shown.contains(&rows), "SEED={seed}, at {at}"),
                Err(text) => assert!(text.contains("registry.journal.1 beside it "), "SEED={seed}, at {at}: {text}"),
            }
        }
    }
}

#[test]
fn the_journal_of_another_store_is_refused() {
    let (ours, other) = (three_keys(), three_keys());
    fs::copy(journal(&other), journal(&ours)).unwrap();
    assert!(refusal(&ours).contains("registry.journal.1 beside it belongs to another store"));
    // After a clean stop, too: it may have what the other lacks.
    let stopped = tempfile::tempdir().unwrap();
    drop(Embedded::open(stopped.path(), FRESH).unwrap());
    fs::copy(journal(&other), journal(&stopped)).unwrap();
    assert!(refusal(&stopped).contains("registry.journal.1 beside it belongs to another store"));
}

#[test]
fn tables_older_than_their_journal_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    engine.commit(vec![put("a", "1")]).unwrap();
    let old = crashed(dir.path());
    drop(engine);
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.commit(vec![put("b", "1")]).unwrap();
    copy_files(&JOURNALS, dir.path(), old.path());
    assert!(refusal(&old).contains("registry.journal.1 beside it has newer changes than registry.redb"));
}

#[test]
fn a_journal_without_its_tables_is_not_begun_over() {
    let dir = three_keys();
    fs::remove_file(dir.path().join(TABLES)).unwrap();
    assert!(refusal(&dir).contains("registry.journal.0 beside it has changes of a store that is gone"));
    assert!(!dir.path().join(TABLES).exists());
}

/// What a crash leaves while the tables take the first of two journals: keys `a` and `b` are in that, `c` in the other.
fn two_journals() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    for key in ["a", "b"] {
        engine.commit(vec![put(key, "1")]).unwrap();
    }
    let before = crashed(dir.path());
    engine.commit(vec![put("c", &"x".repeat(1 << 20))]).unwrap();
    copy_files(&JOURNALS, dir.path(), before.path());
    before
}

#[test]
fn a_crash_while_a_journal_is_emptied_leaves_both() {
    let dir = two_journals();
    assert_eq!(keys(&dir), ["k/a", "k/b", "k/c"]);
    // And it goes on.
    Embedded::open(dir.path(), FRESH).unwrap().commit(vec![put("d", "1")]).unwrap();
    assert_eq!(keys(&dir), ["k/a", "k/b", "k/c", "k/d"]);
}

/// The second journal's first record tells that something came before, so the first one's last is no half-written one.
#[test]
fn records_missing_between_two_journals_are_noticed() {
    let dir = two_journals();
    let content = fs::read(journal(&dir)).unwrap();
    for key in ["k/a", "k/b"] {
        let mut damaged = content.clone();
        damaged[position(&content, key)] ^= 1;
        fs::write(journal(&dir), &damaged).unwrap();
        let text = refusal(&dir);
        let expected =
            ["registry.journal.0 beside it has a record, at byte 4096, that follows on one", "later ones are"];
        assert!(expected.iter().any(|expected| text.contains(expected)), "{key}: {text}");
    }
    // Also when somebody goes on without them.
    fs::write(journal(&dir), "").unwrap();
    assert!(refusal(&dir).contains("registry.journal.0 beside it has a record, at byte 4096, that follows on one"));
    fs::write(dir.path().join(JOURNALS[0]), "").unwrap();
    assert_eq!(keys(&dir), [""; 0]);
}

#[test]
fn the_second_journals_last_record_may_be_half_written() {
    let dir = two_journals();
    let second = dir.path().join(JOURNALS[0]);
    let mut content = fs::read(&second).unwrap();
    let place = position(&content, "k/c");
    content[place..place + 20].fill(0);
    fs::write(&second, &content).unwrap();
    assert_eq!(keys(&dir), ["k/a", "k/b"]);
}

/// Else a record of the time before the crash could follow on one of the time after.
#[test]
fn after_a_crash_no_run_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    let mut commit = |key| engine.commit(vec![put(key, &"x".repeat(300_000))]).unwrap();
    for key in ["a", "b", "c"] {
        commit(key);
    }
    let copy = crashed(dir.path());
    // These two are in the other journal, and the tables have none of all.
    for key in ["d", "e"] {
        commit(key);
    }
    copy_files(&JOURNALS, dir.path(), copy.path());

    let mut engine = Embedded::open(copy.path(), FRESH).unwrap();
    assert_eq!(engine.load().unwrap().rows.len(), 5);
    engine.commit(vec![put("f", &"x".repeat(300_000))]).unwrap();
    assert_eq!(keys(&crashed(copy.path())), ["k/a", "k/b", "k/c", "k/d", "k/e", "k/f"]);
}
