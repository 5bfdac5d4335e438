//! The program as it is run.

use std::process::Command;

#[test]
fn it_tells_its_version_and_shows_no_more_than_there_is() {
    let run = |argument: &str| Command::new(env!("CARGO_BIN_EXE_overlay")).arg(argument).output().unwrap();
    let version = run("version");
    assert!(version.status.success());
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("overlay {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run("up").status.code(), Some(2), "there is no such command yet");
}
