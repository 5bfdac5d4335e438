//! The program as it is run.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlay"));
    let said = |name: &str| ["CONSUL_", "OVERLAY_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(said)) {
        command.env_remove(name);
    }
    command.arg("--socket").arg(socket).args(arguments);
    command
}

/// A daemon that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a daemon with its state in `dir`, in a network of its own, where that may be made; returns when it answers.
fn up(dir: &Path) -> Running {
    let (socket, state, secret) = (dir.join("s"), dir.join("state"), dir.join("secret"));
    if !secret.exists() {
        let made = command(&socket, &["secret", "new"]).output().unwrap().stdout;
        std::fs::write(&secret, made).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["up", "--name", "h1", "--state-dir", &path(&state), "--secret-file", &path(&secret)];
    let daemon = command(&socket, &arguments);
    let mut child = Command::new("unshare");
    child.args(["--map-root-user", "--net", "--"]).arg(daemon.get_program()).args(daemon.get_args());
    child.env_clear().stderr(Stdio::null());
    let running = Running(child.spawn().unwrap());
    let started = Instant::now();
    while !command(&socket, &["network", "ls"]).output().unwrap().status.success() {
        assert!(started.elapsed() < Duration::from_secs(20), "the daemon does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn version_help_and_usage() {
    let run = |arguments: &[&str]| command(Path::new("/nonexistent"), arguments).output().unwrap();
    let version = run(&["version"]);
    assert_eq!(text(&version).0, format!("overlay {}\n", env!("CARGO_PKG_VERSION")));
    assert!(text(&run(&["--help"])).0.contains("Examples:"));
    for (bad, word) in [
        (&["nosuch"][..], "nosuch"),
        (&["network", "create", "a/b"], "no name of a network"),
        (&["up", "--name", "a b"], "name: \"a b\""),
        (&["up", "--mtu", "9"], "mtu: 9"),
        (&["up", "--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
    ] {
        let output = run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(text(&output).1.contains(word), "{bad:?}: {}", text(&output).1);
    }
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let output = command(Path::new("/nonexistent/s"), &["network", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).1.contains("nobody answers at /nonexistent/s"), "{}", text(&output).1);
}

#[test]
fn a_local_network_is_there_again_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let run = |arguments: &[&str]| command(&socket, arguments).output().unwrap();
    let daemon = up(dir.path());
    let create = ["network", "create", "scratch", "--local", "--subnet", "10.8.0.0/24"];
    assert_eq!(text(&run(&create)), ("scratch 10.8.0.0/24\n".into(), String::new()));
    assert!(text(&run(&create)).1.contains("there is a network scratch already"));
    assert!(text(&run(&["network", "rm", "other"])).1.contains("there is no network other"));
    // Another one is refused while this one runs.
    let second = run(&["up", "--state-dir", dir.path().join("state").to_str().unwrap()]);
    assert!(text(&second).1.contains("an overlay runs already"), "{}", text(&second).1);
    let list = || serde_json::from_slice::<serde_json::Value>(&run(&["network", "ls", "--json"]).stdout).unwrap();
    let before = list();
    assert_eq!(before["networks"][0]["blocks"][0]["v4"], "10.8.0.0/24");
    drop(daemon);
    let _daemon = up(dir.path());
    assert_eq!(list(), before, "the same host, the same network");
    assert!(run(&["network", "rm", "scratch"]).status.success());
    assert_eq!(list()["networks"].as_array().unwrap().len(), 0);
}
