//! The journal: what a crash leaves in it is found again, and one that is damaged, missing or foreign is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::{ReadableDatabase as _, TableDefinition};
use tempfile::TempDir;

use super::{
    Embedded, Engine as _, FRESH, Index, Stored, Writer, faulty_disk::FaultyDisk, open, put, random_batches, seeds,
    stored,
};

const TABLES: &str = "registry.redb";
const JOURNAL: &str = "registry.journal";
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

fn journal(dir: &TempDir) -> PathBuf {
    dir.path().join(JOURNAL)
}

/// What a crash at this moment leaves of a store that is open.
fn crashed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [TABLES, JOURNAL] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
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
    let bytes = || fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    let usual = bytes();
    engine.commit((0..20).map(|n| put(&n.to_string(), &"x".repeat(100_000))).collect()).unwrap();
    assert!(bytes() > usual);
    assert_eq!(found(crashed(dir.path()).path()).unwrap().0.len(), 21);
    engine.commit(vec![put("b", "1")]).unwrap();
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
        fs::remove_file(journal(&dir)).unwrap();
        assert_eq!(found(dir.path()).unwrap(), (rows, index), "SEED={seed}");
    }
}

#[test]
fn a_missing_journal_is_refused_after_a_crash() {
    let dir = three_keys();
    fs::remove_file(journal(&dir)).unwrap();
    let text = refusal(&dir);
    assert!(text.contains("registry.journal beside it is missing"), "{text}");
    assert!(text.contains("or an empty file to go on without the newest changes"), "{text}");
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
        assert!(text.contains("registry.journal beside it is damaged"), "{bytes} bytes: {text}");
        assert!(text.contains("put a good copy of it there"), "{text}");
    }
}

#[test]
fn damage_before_the_last_record_is_refused() {
    let dir = three_keys();
    let content = fs::read(journal(&dir)).unwrap();
    // In its text, its index, its run, its checksum and its length.
    for before in [0, 10, 18, 26, 34] {
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
                Err(text) => assert!(text.contains("registry.journal beside it "), "SEED={seed}, at {at}: {text}"),
            }
        }
    }
}

#[test]
fn the_journal_of_another_store_is_refused() {
    let (ours, other) = (three_keys(), three_keys());
    fs::copy(journal(&other), journal(&ours)).unwrap();
    assert!(refusal(&ours).contains("registry.journal beside it belongs to another store"));
    // After a clean stop, too: it may have what the other lacks.
    let stopped = tempfile::tempdir().unwrap();
    drop(Embedded::open(stopped.path(), FRESH).unwrap());
    fs::copy(journal(&other), journal(&stopped)).unwrap();
    assert!(refusal(&stopped).contains("registry.journal beside it belongs to another store"));
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
    fs::copy(dir.path().join(JOURNAL), journal(&old)).unwrap();
    assert!(refusal(&old).contains("registry.journal beside it has newer changes than registry.redb"));
}

#[test]
fn a_journal_without_its_tables_is_not_begun_over() {
    let dir = three_keys();
    fs::remove_file(dir.path().join(TABLES)).unwrap();
    assert!(refusal(&dir).contains("registry.journal beside it has changes of a store that is gone"));
    assert!(!dir.path().join(TABLES).exists());
}

/// As the first version left them: without a journal, and with indexes reserved if it did not stop in order.
#[test]
fn a_store_of_the_first_format_is_taken_over_with_its_first_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    engine.commit(vec![put("a", "1")]).unwrap();
    drop(engine);
    fs::remove_file(journal(&dir)).unwrap();
    let tables = dir.path().join(TABLES);
    let db = redb::Database::open(&tables).unwrap();
    let tx = db.begin_write().unwrap();
    {
        let mut meta = tx.open_table(META).unwrap();
        for name in ["store", "run", "unfinished"] {
            assert!(meta.remove(name).unwrap().is_some());
        }
        meta.insert("format", 1).unwrap();
        meta.insert("index", FRESH.0 + 4097).unwrap();
    }
    tx.commit().unwrap();
    drop(db);

    assert_eq!(found(dir.path()).unwrap().1, Index(FRESH.0 + 4097));
    assert!(!journal(&dir).exists(), "only a change needs it");
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    assert_eq!(engine.commit(vec![put("b", "1")]).unwrap(), [Ok(Index(FRESH.0 + 4098))]);
    assert_eq!(keys(&crashed(dir.path())), ["k/a", "k/b"]);
    drop(engine);
    assert_eq!(keys(&dir), ["k/a", "k/b"]);
    let db = redb::Database::open(&tables).unwrap();
    assert_eq!(db.begin_read().unwrap().open_table(META).unwrap().get("format").unwrap().unwrap().value(), 2);
}
