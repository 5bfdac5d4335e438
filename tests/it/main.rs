//! The stories: each is a module, and tells what a user does with the whole product and what must come of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_tests::story::run(vec![])
}
