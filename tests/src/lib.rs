//! The harness of the stories: runs our programs and the real ones beside them, and takes them all down again.
//!
//! A harness that finds something wrong panics with what it saw; the story that called it has then failed. Programs
//! print the end of their logs when that happens.

pub mod bed;
pub mod browser;
pub mod compose;
pub mod debian;
pub mod dig;
pub mod dnsperf;
pub mod docker;
pub mod fake_docker;
pub mod held;
pub mod host;
pub mod linearizable;
pub mod namespace;
pub mod needs;
pub mod objects;
pub mod overlay;
pub mod ports;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod resolver;
pub mod servers;
pub mod story;
pub mod switch;
pub mod tls;
pub mod wait;
pub mod web;
pub mod whole;

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the workspace")
}

/// Where cargo puts what it builds, and we what is fetched once.
pub fn target() -> PathBuf {
    workspace().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where cargo put the programs: beside this one, or one level up from a test.
pub fn programs() -> PathBuf {
    let mut dir = std::env::current_exe().expect("a running program has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

/// One of them.
///
/// # Panics
/// If the program is not there.
pub fn program_path(name: &str) -> PathBuf {
    let path = programs().join(name);
    assert!(path.is_file(), "{} is not there; build it first: cargo build --workspace", path.display());
    path
}
