//! libFuzzer on the target that `FUZZ_TARGET` named when this was built: of a program that had all, most counters would
//! always be zero, and looking through them would take longer than most targets do. With `FUZZ_SEEDS=DIR`, writes its first
//! inputs there and ends.
#![no_main]

use std::path::Path;

use kvstore_fuzz::{Target, named};
use libfuzzer_sys::fuzz_target;

const TARGET: Target = named(env!("FUZZ_TARGET"));

fn write_seeds() {
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (i, seed) in (TARGET.seeds)().into_iter().enumerate() {
        std::fs::write(Path::new(&dir).join(format!("seed-{i:03}")), seed).expect("a seed can be written");
    }
    std::process::exit(0);
}

fuzz_target!(
    init: write_seeds(),
    |data: &[u8]| (TARGET.check)(data)
);
