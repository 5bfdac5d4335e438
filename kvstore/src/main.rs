//! The registry's program: arguments, one subcommand, an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvstore::cli::main(std::env::args_os().collect())
}
