//! The program from outside: help, version, and what it says about bad flags, files and addresses.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    let said = |name: &str| ["CONSUL_", "DOCKER_", "REGISTRAR_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(said)) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn registrar(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Fails with `code`, and says every one of `words`.
fn check(arguments: &[&str], code: i32, words: &[&str]) {
    let output = registrar(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is missing in: {said}");
    }
}

#[test]
fn help_shows_flags_and_examples() {
    let output = registrar(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in
        ["Examples:", "--registry", "--node", "--state-dir", "CONSUL_HTTP_ADDR", "explain", "SERVICE_CHECK_HTTP"]
    {
        assert!(help.contains(word), "{word}");
    }
    assert_eq!(help.matches("Options:").count(), 1, "all under one heading: {help}");
    assert!(!help.contains("Registry:\n"), "all under one heading: {help}");
}

#[test]
fn version() {
    let output = registrar(&["version"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().split(' ').next(), Some("registrar"));
}

#[test]
fn bad_flags_are_named() {
    check(&["--nosuch"], 2, &["--nosuch"]);
    check(&["nosuch"], 2, &["nosuch"]);
    check(&["explain"], 2, &["NAME"]);
    let many = [
        "--ip",
        "somewhere",
        "--resync",
        "often",
        "--registry",
        "ftp://x",
        "--docker",
        "ssh://x",
        "--name-from",
        "moon",
    ];
    check(
        &many,
        2,
        &["ip: \"somewhere\"", "resync: \"often\"", "registry: \"ftp://x\"", "docker: \"ssh://x\"", "name-from: "],
    );
}

#[test]
fn bad_files_are_named_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registrar.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, "internal: true\nnosuch: 1\nresync: 7\n").unwrap();
    check(&["--config", path], 2, &["registrar.yaml:2: nosuch", "registrar.yaml:3: resync"]);
    fs::write(&file, "internal: [true\n").unwrap();
    check(&["--config", path], 2, &["no YAML or JSON"]);
    check(&["--config", "/nonexistent/file"], 2, &["/nonexistent/file"]);
    check(&["--token-file", "/nonexistent/file"], 2, &["registry: cannot read /nonexistent/file: "]);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("id"), "not mine").unwrap();
    check(&["--state-dir", dir.path().to_str().unwrap()], 1, &["holds no UUID"]);
}

#[test]
fn explain_without_docker_says_so() {
    check(&["explain", "web", "--docker", "unix:///nonexistent.sock"], 1, &["/nonexistent.sock"]);
}

#[test]
fn a_token_is_never_shown() {
    let output = registrar(&["--token", "very-secret", "--ip", "bad"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("very-secret"), "{said}");
}

#[test]
fn doctor_tells_what_is_bad_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = "unix:///nonexistent.sock";
    let arguments = [
        "doctor",
        "--docker",
        nowhere,
        "--registry",
        nowhere,
        "--ip",
        "127.0.0.1",
        "--state-dir",
        dir.path().to_str().unwrap(),
    ];
    let output = registrar(&arguments);
    let (said, told) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(1), "{told}{said}");
    assert!(said.ends_with("registrar: 2 of 6 findings are bad\n"), "{said}");
    for line in ["BAD   docker     ", "ok    address    ", "BAD   registry   ", "-     writing    "] {
        assert!(told.lines().any(|l| l.starts_with(line)), "{line:?} in {told}");
    }
    let json = registrar(&[&arguments[..], &["--format", "json"]].concat()).stdout;
    let findings: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&findings[0]["subject"], &findings[0]["verdict"]), (&"docker".into(), &"bad".into()));
}

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn health_and_metrics_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (nowhere, state) = ("unix:///nonexistent.sock", dir.path().to_str().unwrap());
    let arguments = [
        "--http-addr",
        "127.0.0.1:0",
        "--docker",
        nowhere,
        "--registry",
        nowhere,
        "--state-dir",
        state,
        "--ip",
        "127.0.0.1",
    ];
    let mut running = Running(command(&arguments).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let address = log.find_map(|line| Some(line.unwrap().split_once("metrics at http://")?.1.trim().to_owned()));
    let address = address.expect("it says where it listens");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let health = get("/healthz");
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("Docker does not answer"), "{health}");
    assert!(get("/metrics").contains("registrar_up{side=\"docker\"} 0"));
    assert!(get("/").starts_with("HTTP/1.1 404"));
    check(&["health", "--http-addr", &address], 1, &["registrar: ", "Docker does not answer"]);
    check(&["health", "--http-addr", "127.0.0.1:1"], 1, &["nobody at 127.0.0.1:1 tells how it does", "refused"]);
    check(&["health"], 1, &["give the same one here"]);
    check(&["--http-addr", &address], 1, &["cannot listen at", &address]);
    check(&["--http-addr", "nowhere"], 2, &["http-addr: \"nowhere\""]);
}

#[test]
fn drain_and_dry_run_without_docker_say_so() {
    check(&["drain", "web", "--docker", "unix:///nonexistent.sock"], 1, &["/nonexistent.sock"]);
    check(&["--dry-run", "--docker", "unix:///nonexistent.sock"], 1, &["/nonexistent.sock"]);
    check(&["drain", "web", "--wait", "soon"], 2, &["--wait"]);
}
