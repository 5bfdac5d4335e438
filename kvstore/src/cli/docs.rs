//! `kvstore completions` and `kvstore man`: what shells and readers of manuals want to know about the commands.

use std::{fs, path::PathBuf};

use clap_complete::Shell;

use super::failure::Failure;

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
