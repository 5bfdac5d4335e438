//! One module alone has unsafe code: nowhere else is the lint that forbids it let off, and no crate is without it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flotilla_tests::workspace;

const ALONE: &str = "kvstore/src/dns/batch.rs";

/// All files below `dir` that end like this.
fn below(dir: &Path, end: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                below(&path, end, into);
            }
        } else if name.ends_with(end) {
            into.push(path);
        }
    }
}

fn files(end: &str) -> Vec<(PathBuf, String)> {
    let top = workspace();
    let mut found = Vec::new();
    below(top, end, &mut found);
    let read = |path: PathBuf| (path.strip_prefix(top).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
    found.into_iter().map(read).collect()
}

#[test]
fn one_module_alone_is_unsafe() {
    // Written so that this file is not found.
    let lint = ["unsafe", "code"].join("_");
    let (sources, crates) = (files(".rs"), files("Cargo.toml"));
    let let_off = sources.iter().filter(|(_, text)| text.contains(&lint)).map(|(path, _)| path.as_path());
    assert_eq!(let_off.collect::<Vec<_>>(), [Path::new(ALONE)]);
    assert!(crates.len() > 8, "{crates:?}");
    for (path, text) in &crates {
        let top = format!("{lint} = \"deny\"");
        let wanted = if path == Path::new("Cargo.toml") { &top } else { "[lints]\nworkspace = true" };
        assert!(text.contains(wanted), "{}", path.display());
    }
}
