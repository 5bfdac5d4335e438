//! What durable writes cost at the least on this disk: redb by itself, and an append with `fdatasync`.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use crate::{figures::Times, peers};

const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");
/// As the registry has it.
const CACHE_BYTES: usize = 4 << 20;
/// As many keys as the load writes in turn, and rows about as long.
const KEYS: usize = 20_000;
const ROW: [u8; 180] = [b'x'; 180];
/// Shares no factor with [`KEYS`]: neighbours in time are not neighbours in the tree.
const STEP: usize = 3571;
const DURATION: Duration = Duration::from_secs(3);

/// The times of transactions of `rows` rows each in a bare redb that has rows already.
pub(crate) fn commits(rows: usize) -> Times {
    let dir = peers::dir();
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.path().join("bare.redb"));
    let db = db.expect("our own directory");
    let write = |keys: &mut dyn Iterator<Item = usize>| {
        let tx = db.begin_write().expect("there is no other writer");
        let mut table = tx.open_table(ROWS).expect("it is ours");
        for key in keys {
            let key = format!("k/bench/{}/{:05}", key % 2, key / 2);
            drop(table.insert(key.as_str(), ROW.as_slice()).expect("the disk takes it"));
        }
        drop(table);
        tx.commit().expect("the disk takes it");
    };
    write(&mut (0..KEYS));
    let (mut times, mut at, start) = (Vec::new(), 0, Instant::now());
    while start.elapsed() < DURATION {
        let begin = Instant::now();
        write(&mut (0..rows).map(|n| (at + n) * STEP % KEYS));
        times.push(begin.elapsed());
        at += rows;
    }
    times.into_iter().collect()
}

/// The times of appending `bytes` to a file in turn, each with its `fdatasync`.
pub(crate) fn appends(bytes: usize) -> Times {
    let dir = peers::dir();
    let (mut times, start) = (Vec::new(), Instant::now());
    while start.elapsed() < DURATION {
        times.push(append(dir.path(), bytes));
    }
    times.into_iter().collect()
}

/// The time of one of them.
pub(crate) fn append(dir: &Path, bytes: usize) -> Duration {
    let mut file = File::options().create(true).append(true).open(dir.join("floor")).expect("our own directory");
    let bytes = vec![b'x'; bytes];
    let start = Instant::now();
    file.write_all(&bytes).and_then(|()| file.sync_data()).expect("the disk takes it");
    start.elapsed()
}
