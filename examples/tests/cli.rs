//! The example programs as they are run: one serves, the other asks.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program that is killed if a test gives up on it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

/// A server on a port that the system chose, and that port.
fn hello_web(drain_ms: &str) -> (Running, u16) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello-web"));
    let mut server = Running::start(command.envs([("PORT", "0"), ("VERSION", "v7"), ("DRAIN_MS", drain_ms)]));
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    (server, port)
}

/// A client at work for a while; whether it found nothing wrong, and its last line.
fn load(port: u16, during: impl FnOnce()) -> (bool, String) {
    load_with(&[], port, during)
}

fn load_with(args: &[&str], port: u16, during: impl FnOnce()) -> (bool, String) {
    let url = format!("http://127.0.0.1:{port}/");
    let mut client = Running::start(Command::new(env!("CARGO_BIN_EXE_load")).args(args).arg(url));
    thread::sleep(Duration::from_millis(200));
    during();
    client.signal(Signal::SIGTERM);
    let good = client.0.wait().unwrap().success();
    let mut out = String::new();
    client.0.stdout.as_mut().unwrap().read_to_string(&mut out).unwrap();
    (good, out.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn all_requests_are_answered_and_counted() {
    let (_server, port) = hello_web("0");
    let (good, last) = load(port, || {});
    let count: u64 = last.strip_prefix("requests=").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(good && count > 0, "{last}");
    assert_eq!(last, format!("requests={count} failed=0 v7={count}"));
}

#[test]
fn connections_are_kept_until_the_server_closes_them() {
    let (mut server, port) = hello_web("300");
    let (good, last) = load_with(&["--keep-alive"], port, || {
        server.signal(Signal::SIGTERM);
        thread::sleep(Duration::from_millis(100));
    });
    assert!(good, "{last}");
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn a_stopped_server_answers_while_it_drains() {
    let (mut server, port) = hello_web("700");
    let (good, last) = load(port, || {
        server.signal(Signal::SIGTERM);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(server.0.try_wait().unwrap(), None, "it drains for longer");
    });
    assert!(good, "{last}");
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn failures_are_counted() {
    let (mut server, port) = hello_web("0");
    let (good, last) = load(port, || {
        server.signal(Signal::SIGTERM);
        server.0.wait().unwrap();
        thread::sleep(Duration::from_millis(100));
    });
    assert!(!good && !last.contains("failed=0"), "{last}");
}

#[test]
fn one_answer_is_shown_and_a_name_without_an_address_is_a_failure() {
    let (_server, port) = hello_web("0");
    let once = |host: &str| {
        let url = format!("http://{host}:{port}/slow/100");
        let output = Command::new(env!("CARGO_BIN_EXE_load")).args(["--once", &url]).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()))
    };
    let (code, [said, _]) = once("localhost");
    assert!(
        code == Some(0) && said.starts_with("hello from ") && said.ends_with("path /slow/100\n"),
        "{code:?} {said}"
    );
    let (code, [said, why]) = once("nobody.invalid");
    assert!(code == Some(1) && said.is_empty() && why.contains("nobody.invalid"), "{code:?} {said} {why}");
}

#[test]
fn the_check_follows_the_health() {
    let (server, port) = hello_web("0");
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_hello-web")).arg("check").env("PORT", port.to_string()).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(check().0);
    server.signal(Signal::SIGUSR1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(check(), (false, "hello-web: HTTP/1.1 503 Service Unavailable\n".into()));
}

#[test]
fn a_bad_setting_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_hello-web")).env("PORT", "http").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("PORT") && said.contains("http"), "{said}");
}
