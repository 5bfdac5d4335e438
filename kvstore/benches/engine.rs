//! How many writes a second the embedded engine makes durable, beside a bare append and fdatasync on the same disk.
//!
//! `cargo bench -p kvstore --bench engine`; the disk is that of the target directory, or of `BENCH_DIR`.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use kvstore::engine::{Embedded, Engine, Proposal};
use kvstore_core::{Command, Index, State, decide, names::Key};

const VALUE_BYTES: usize = 256;
const KEYS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(2);

fn main() {
    let place = std::env::var("BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
    let dir = tempfile::tempdir_in(place).expect("a directory for the bench");
    println!("writes/s of {VALUE_BYTES} bytes, durable; the ratio is what the engine keeps of the disk's own speed");
    println!("{:>8}{:>12}{:>20}{:>8}", "batch", "engine", "append+fdatasync", "ratio");
    for size in [1, 16, 256] {
        let bare = bare(&dir.path().join("log"), size);
        let engine = engine(&dir.path().join(size.to_string()), size);
        println!("{size:>8}{engine:>12.0}{bare:>20.0}{:>8.2}", engine / bare);
    }
}

/// Writes per second of `batch`, which makes `size` of them durable.
fn rate(size: u64, mut batch: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    let mut writes = 0;
    while start.elapsed() < TIME {
        batch(writes);
        writes += size;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let writes = writes as f64;
    writes / start.elapsed().as_secs_f64()
}

fn engine(dir: &Path, size: u64) -> f64 {
    let mut engine = Embedded::open(dir, Index(1)).expect("a fresh store");
    engine.load().expect("an empty store");
    let empty = State::empty(Index(1));
    rate(size, |done| {
        let batch = (done..done + size).map(|n| {
            // Scattered over the keys, each time in another order: 7919 has no factor in common with their number.
            let key = Key::new(&format!("some/key/{:08}", n * 7919 % KEYS)).expect("not empty");
            let command =
                Command::KvPut { key, value: vec![b'x'; VALUE_BYTES].into(), flags: 0, cas: None, ttl: Duration::ZERO };
            Proposal { changes: decide(&empty, &command).expect("never refused").changes, lazy: false }
        });
        engine.commit(batch.collect()).expect("the disk is well");
        engine.log();
    })
}

fn bare(path: &Path, size: u64) -> f64 {
    let mut log = File::create(path).expect("a file for the bench");
    let batch = vec![b'x'; (VALUE_BYTES + "some/key/00000000".len()) * usize::try_from(size).expect("small")];
    rate(size, |_| {
        log.write_all(&batch).expect("the disk is well");
        log.sync_data().expect("the disk is well");
    })
}
