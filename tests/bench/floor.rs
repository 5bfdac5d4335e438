//! What durable writes cost at the least on this disk: redb by itself, and an append with `fdatasync`.

use std::{
    cell::Cell,
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::peers;

const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");
/// As the registry has it.
const CACHE_BYTES: usize = 4 << 20;
/// As many keys as the load writes in turn, and rows about as long.
const KEYS: usize = 20_000;
const ROW: [u8; 180] = [b'x'; 180];
/// Shares no factor with [`KEYS`]: neighbours in time are not neighbours in the tree.
const STEP: usize = 3571;
const DURATION: Duration = Duration::from_secs(2);

/// A bare redb that has rows already.
pub(crate) struct Redb {
    db: Database,
    at: Cell<usize>,
    _dir: TempDir,
}

impl Redb {
    pub(crate) fn create() -> Self {
        let dir = peers::dir();
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.path().join("bare.redb"));
        let redb = Self { db: db.expect("our own directory"), at: Cell::new(0), _dir: dir };
        redb.write(0..KEYS);
        redb
    }

    fn write(&self, keys: impl Iterator<Item = usize>) {
        let tx = self.db.begin_write().expect("there is no other writer");
        let mut table = tx.open_table(ROWS).expect("it is ours");
        for key in keys {
            let key = format!("k/bench/{}/{:05}", key % 2, key / 2);
            drop(table.insert(key.as_str(), ROW.as_slice()).expect("the disk takes it"));
        }
        drop(table);
        tx.commit().expect("the disk takes it");
    }

    /// A transaction of `rows` rows.
    pub(crate) fn commit(&self, rows: usize) {
        let at = self.at.replace(self.at.get() + rows);
        self.write((at..at + rows).map(|n| n * STEP % KEYS));
    }

    /// Rows a second, `rows` at a time.
    pub(crate) fn rate(&self, rows: usize) -> f64 {
        rate(rows, || self.commit(rows))
    }
}

/// A file that is appended to, each time with one `fdatasync`.
pub(crate) struct Appends {
    file: File,
    _dir: TempDir,
}

impl Appends {
    pub(crate) fn create() -> Self {
        let dir = peers::dir();
        let file = File::create(dir.path().join("floor")).expect("our own directory");
        Self { file, _dir: dir }
    }

    /// One of them.
    pub(crate) fn append(&self, bytes: usize) {
        let bytes = vec![b'x'; bytes];
        (&self.file).write_all(&bytes).and_then(|()| self.file.sync_data()).expect("the disk takes it");
    }

    /// Rows a second, `rows` of `row_bytes` at a time.
    pub(crate) fn rate(&self, rows: usize, row_bytes: usize) -> f64 {
        rate(rows, || self.append(rows * row_bytes))
    }
}

/// Rows a second, if `once` writes `rows` of them and is done again and again.
#[allow(clippy::cast_precision_loss)] // far below what a float holds exactly
fn rate(rows: usize, once: impl Fn()) -> f64 {
    let (mut written, start) = (0, Instant::now());
    while start.elapsed() < DURATION {
        once();
        written += rows;
    }
    written as f64 / start.elapsed().as_secs_f64()
}
