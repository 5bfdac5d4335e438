//! Real files: who may read them, who may use them, and what is said of those that cannot be used.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Embedded, Engine as _, FRESH, Index, Writer, put, random_batches, seeds, stored};

fn refusal(dir: &Path) -> String {
    let opened = Embedded::open(dir, FRESH).and_then(|mut engine| engine.load());
    opened.expect_err("must be refused").to_string()
}

fn store_of(dir: &Path) -> PathBuf {
    dir.join("registry.redb")
}

#[test]
fn rows_and_index_survive_a_restart() {
    for seed in seeds(4) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(Box::new(Embedded::open(dir.path(), FRESH).unwrap()));
        for batch in random_batches(seed, 30) {
            writer.commit(&batch).unwrap();
            if seed % 2 == 0 {
                let (rows, index) = (stored(&writer.state), writer.state.index());
                drop(writer);
                writer = Writer::start(Box::new(Embedded::open(dir.path(), Index(5)).unwrap()));
                assert_eq!((stored(&writer.state), writer.state.index()), (rows, index));
            }
        }
    }
}

/// What is written over is written over, and its room used again.
#[test]
fn a_store_does_not_grow_with_what_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    let mut written = |times: usize| {
        for n in 0..times {
            let value = format!("{n:01000}");
            engine.commit((0..20).map(|key| put(&key.to_string(), &value)).collect()).unwrap();
            engine.log();
        }
        fs::metadata(store_of(dir.path())).unwrap().len()
    };
    let (early, late) = (written(100), written(500));
    assert!(late <= early * 2, "from {early} to {late} bytes");
}

#[test]
fn only_the_own_user_may_read_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    drop(Embedded::open(&data, FRESH).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_second_kvstore_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(dir.path(), FRESH).unwrap();
    let text = refusal(dir.path());
    let process = std::process::id();
    assert!(text.contains(&format!("another kvstore (process {process}) uses it")), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    drop(first);
    Embedded::open(dir.path(), FRESH).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let text = refusal(&file.join("data"));
    assert!(text.contains("file/data: ") && text.contains("must be a directory"), "{text}");
}

#[test]
fn a_store_of_another_version_is_refused() {
    for format in [1, 2, 4] {
        let dir = tempfile::tempdir().unwrap();
        drop(Embedded::open(dir.path(), FRESH).unwrap());
        let db = redb::Database::open(store_of(dir.path())).unwrap();
        let tx = db.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        tx.open_table(meta).unwrap().insert("format", format).unwrap();
        tx.commit().unwrap();
        drop(db);
        let text = refusal(dir.path());
        assert!(text.contains(&format!("registry.redb: it has format {format}, and this kvstore reads 3")), "{text}");
    }
}

const FUTURE: &str = r#"{"created":1,"modified":9000000,"key":"a","value":""}"#;

#[test]
fn a_row_that_nobody_can_read_is_named() {
    for (key, value, expected) in [
        ("x/y", "{}", "no table has a row \"x/y\""),
        ("k/a", "{", "row \"k/a\" cannot be read: EOF while parsing"),
        ("k/a", FUTURE, "row \"k/a\" has an index that was never given out"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(Embedded::open(dir.path(), FRESH).unwrap());
        let db = redb::Database::open(store_of(dir.path())).unwrap();
        let tx = db.begin_write().unwrap();
        let rows = redb::TableDefinition::<&str, &[u8]>::new("rows");
        tx.open_table(rows).unwrap().insert(key, value.as_bytes()).unwrap();
        tx.commit().unwrap();
        drop(db);
        let text = refusal(dir.path());
        assert!(text.contains("registry.redb: it is damaged") && text.contains(expected), "{text}");
    }
}

#[test]
fn a_file_that_is_no_store_is_named_and_left_alone() {
    for content in [&b""[..], b"hello", &[0; 10_000]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(store_of(dir.path()), content).unwrap();
        let text = refusal(dir.path());
        assert!(text.contains("registry.redb: it is damaged") && text.contains("put a backup in its place"), "{text}");
        assert!(content.is_empty() || fs::read(store_of(dir.path())).unwrap() == content);
    }
}

#[test]
fn a_store_begun_before_a_crash_and_never_published_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("registry.redb.new"), "half").unwrap();
    let mut engine = Embedded::open(dir.path(), FRESH).unwrap();
    engine.load().unwrap();
    engine.commit(vec![put("a", "1")]).unwrap();
}

#[test]
fn a_damaged_store_is_refused_or_whole() {
    for seed in seeds(3) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(Box::new(Embedded::open(dir.path(), FRESH).unwrap()));
        for batch in random_batches(seed, 20) {
            writer.commit(&batch).unwrap();
        }
        let rows = stored(&writer.state);
        drop(writer);
        let content = fs::read(store_of(dir.path())).unwrap();
        for _ in 0..40 {
            let mut damaged = content.clone();
            let (at, bytes) = (rng.random_range(0..content.len()), rng.random_range(1..5000));
            match rng.random_range(0..3) {
                0 => damaged.truncate(at),
                1 => damaged[at] ^= 1 << rng.random_range(0..8),
                _ => damaged.iter_mut().skip(at).take(bytes).for_each(|byte| *byte = rng.random()),
            }
            fs::write(store_of(dir.path()), &damaged).unwrap();
            match Embedded::open(dir.path(), FRESH).and_then(|mut engine| engine.load()) {
                Ok(loaded) => {
                    let found = kvstore_core::State::load(loaded.index, loaded.rows);
                    assert_eq!(stored(&found), rows, "SEED={seed}");
                }
                Err(error) => assert!(error.to_string().contains("registry.redb: "), "{error}"),
            }
        }
    }
}
