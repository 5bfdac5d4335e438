//! `kvstore validate`: checks configuration files without starting anything.

use std::path::PathBuf;

use super::failure::Failure;
use crate::config::{self, Layer};

/// Checks configuration files of the agent; starts and writes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvstore validate agent.yaml
  kvstore validate /etc/consul.d

Exit codes: 0 an agent would start with them; 1 they have faults, all of which are printed; 2 the command is wrong.")]
pub(super) struct Args {
    /// Files, or directories of JSON and YAML files, in the order in which the agent would get them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Vec<u8>, Failure> {
    let agent = config::check(&args.paths, Layer::default()).map_err(|e| Failure::new(e.to_string()))?;
    let warnings = agent.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    Ok(warnings.chain(["Configuration is valid!\n".to_owned()]).collect::<String>().into())
}
