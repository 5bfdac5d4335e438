//! The commands: one file each for those that talk to the daemon.

pub(crate) mod clients;
mod daemon;
pub(crate) mod links;
pub(crate) mod network;
pub(crate) mod status;
pub(crate) mod table;

use std::fmt;

use serde_json::Value;

pub(crate) use daemon::Daemon;

/// What went wrong, and the exit code that says so: 2 for usage, 1 for failure.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    what: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { code: 1, what: what.into() }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { code: 2, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A text as it is, anything else as JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Prints it, as JSON for whoever asked for that, else as `people` read it.
pub(crate) fn show(value: &Value, json: bool, people: impl FnOnce(&Value) -> String) {
    if json {
        println!("{value:#}");
    } else {
        print!("{}", people(value));
    }
}
