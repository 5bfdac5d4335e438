//! What is configured about files that are put, and about who reads them.

use std::{path::PathBuf, time::Duration};

use crate::{
    command::CommandLine,
    target::{Kind, runtime::Socket, signal::SignalSpec},
};

/// Where a text goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSpec {
    /// The file; absolute.
    pub destination: PathBuf,
    /// Its mode; without it that of the file it replaces, else 0644.
    pub mode: Option<u32>,
    /// Its owner and group; without them those of the file it replaces.
    pub owner: (Option<u32>, Option<u32>),
    /// Make the directory if it is not there.
    pub create_dirs: bool,
}

/// What is done about files that go live together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Who reads them.
    pub target: TargetSpec,
    /// Must succeed before they go live, in place of what is known of the target. One that names neither `{src}` nor
    /// `{stage}` looks at the live files, so it is run after the swap, and the old files are put back if it fails.
    pub check_cmd: Option<CommandLine>,
    /// What `{stage}` is a copy of; the directory that all files have in common unless given.
    pub stage_dir: Option<PathBuf>,
    /// How the files are loaded after they went live, in place of what is known of the target.
    pub reload: Option<ReloadSpec>,
    /// The container that a known target runs in; looked for among processes and containers unless given.
    pub container: Option<String>,
    /// Where HAProxy takes commands; what its configuration says unless given.
    pub runtime_socket: Option<Socket>,
    /// Between two reloads of the target, for whatever file, there is this much time.
    pub min_reload_interval: Duration,
    /// How long each command may take.
    pub command_timeout: Duration,
    /// Whether the old files come back when the new ones are not loaded. Without a word: when a known target was told
    /// and did not take them, but not when a command failed.
    pub rollback: Option<bool>,
    /// How many of the last versions that were loaded are kept.
    pub keep_versions: usize,
    /// Where the state is kept instead of beside the files.
    pub state_dir: Option<PathBuf>,
}

/// How files are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadSpec {
    /// By this command.
    Command(CommandLine),
    /// By systemd, which reloads this unit.
    Unit(String),
    /// By a signal.
    Signal(SignalSpec),
}

/// Who reads a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSpec {
    /// Recognise it by the file's name or text.
    #[default]
    Auto,
    /// This program.
    Known(Kind),
    /// Nobody that is known: only what is configured is done.
    Unknown,
}
