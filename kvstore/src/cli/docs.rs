//! `kvstore completions`, `kvstore man` and `kvstore reference`: what shells and readers want to know about the program.

use std::{fs, path::PathBuf};

use clap::ValueEnum;
use clap_complete::Shell;
use kvstore_client::reference;

use super::failure::Failure;
use crate::{config, http, metrics};

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore completions bash > /etc/bash_completion.d/kvstore
  kvstore completions zsh > ~/.zfunc/_kvstore
  kvstore completions fish > ~/.config/fish/completions/kvstore.fish

Exit codes: 0 printed; 2 there is no such shell.")]
pub(super) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: clap::Command) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut command, "kvstore", &mut out);
    out
}

/// Writes a manual page of each command into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore man /usr/local/share/man/man1
  kvstore man . && man ./kvstore-kv-get.1

Exit codes: 0 written; 1 they cannot be written; 2 the command is wrong.")]
pub(super) struct ManArgs {
    /// Made if it does not exist; pages in it are replaced.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<Vec<u8>, Failure> {
    let directory = &args.directory;
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    written.map_err(|e| Failure::new(format!("cannot write to {}", directory.display())).because(&e))?;
    Ok(Vec::new())
}

/// Prints what this version takes and tells, as Markdown.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore reference metrics
  kvstore reference configuration | less

Exit codes: 0 printed; 2 there is no such page.")]
pub(super) struct ReferenceArgs {
    /// Of what.
    #[arg(value_enum)]
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// The commands with their options.
    Commands,
    /// The keys of the agent's configuration files.
    Configuration,
    /// The paths of the HTTP API.
    Endpoints,
    /// What is counted and measured.
    Metrics,
}

pub(super) fn reference(args: &ReferenceArgs, command: &clap::Command) -> Vec<u8> {
    let page = match args.page {
        Page::Commands => reference::commands(command),
        Page::Configuration => config::reference::page(),
        Page::Endpoints => http::reference::page(),
        Page::Metrics => metrics::page(),
    };
    page.into_bytes()
}
