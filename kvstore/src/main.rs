//! The registry's program: arguments, one subcommand, an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvstore_client::names::look_up_without_modules();
    kvstore::cli::main(std::env::args_os().collect())
}
