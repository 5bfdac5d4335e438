//! Tries again what fuzzing found worth keeping. Also a module of the tests of each crate that has private parsers, since
//! nobody else may call those.

use std::{fs, path::Path};

/// What is kept for the target `name`.
pub(crate) fn kept(name: &str) -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpora = here.ancestors().map(|dir| dir.join("kvstore/fuzz/corpus")).find(|dir| dir.is_dir());
    let corpus = corpora.expect("the workspace has the corpora").join(name);
    let files = fs::read_dir(corpus).expect("each target has a corpus").map(|entry| entry.unwrap().path());
    files.map(|file| fs::read(file).unwrap()).collect()
}

/// Has `check` see all of it, and the first inputs.
pub(crate) fn replay(name: &str, check: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) {
    for data in seeds().into_iter().chain(kept(name)) {
        println!("{name}: {}", data.escape_ascii());
        check(&data);
    }
}
