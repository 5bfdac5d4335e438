//! `kvstore lock` and `session`: who excludes whom, and what the end of a session does to a child.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::*;

/// A short while for a child's script; it ends with the lock's own program, so that none outlives a test that fails.
const PAUSE: &str = "kill -0 $PPID 2>/dev/null || exit 9; sleep 0.01";

/// A `kvstore lock` whose child says on standard output how it is; killed when dropped.
struct Lock {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Lock {
    fn start(agent: &Agent, args: &[&str]) -> Self {
        Self::of(agent.command(&[&["lock"], args].concat()))
    }

    fn of(mut command: Command) -> Self {
        command.env("SHELL", "/bin/sh").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn says(&mut self, wanted: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), wanted);
    }

    /// Its exit code, what the child said last, and what it said itself.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut rest, mut said) = (String::new(), String::new());
        self.lines.read_to_string(&mut rest).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), rest, said)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sessions(agent: &Agent) -> Vec<Value> {
    serde_json::from_str(&agent.ok(&["session", "list", "-format=json"])).unwrap()
}

fn holder(agent: &Agent, key: &str) -> String {
    let entry: Value = serde_json::from_str(&agent.ok(&["kv", "get", "-format=json", key])).unwrap();
    entry["Session"].as_str().unwrap_or_default().to_owned()
}

/// Runs until it is told to go on by a file, and no longer than the lock's own program.
fn until(go: &Path) -> String {
    format!("echo runs; until [ -e {} ]; do {PAUSE}; done; echo ends", go.display())
}

#[test]
fn the_child_runs_under_the_lock_and_all_is_gone_after() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut lock = Lock::start(&agent, &["-name=mine", "/jobs/a/", &until(&go)]);
    lock.says("runs");
    let open = sessions(&agent);
    assert_eq!((open.len(), &open[0]["Name"], &open[0]["TTL"]), (1, &"mine".into(), &"15s".into()));
    assert_eq!(holder(&agent, "jobs/a/.lock"), open[0]["ID"].as_str().unwrap());
    fs::write(&go, "").unwrap();
    assert_eq!(lock.end(), (Some(0), "ends\n".into(), String::new()));
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "");
    assert_eq!(sessions(&agent).len(), 0);
}

#[test]
fn two_locks_exclude_each_other() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut first = Lock::start(&agent, &["jobs", &until(&go)]);
    first.says("runs");
    let mut second = Lock::start(&agent, &["jobs", "echo second"]);
    refused(
        &agent.run(&["lock", "-timeout=300ms", "jobs", "echo third"]),
        1,
        &["jobs/.lock was not free within 300ms"],
    );
    assert!(second.process.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(sessions(&agent).len(), 2, "who gave up has left no session");
    let free = Lock::start(&agent, &["other", "echo elsewhere"]);
    assert_eq!(free.end(), (Some(0), "elsewhere\n".into(), String::new()));
    fs::write(&go, "").unwrap();
    assert_eq!(first.end().0, Some(0));
    second.says("second");
    assert_eq!(second.end().0, Some(0));
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "");
}

/// Each of many adds one to a number that is in a file, unprotected but for the lock.
#[test]
fn nothing_is_lost_under_a_lock_that_many_want() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n");
    fs::write(&file, "0").unwrap();
    let add = format!("n=$(cat {0}); sleep 0.02; echo $((n + 1)) > {0}", file.display());
    let locks: Vec<_> = (0..8).map(|_| Lock::start(&agent, &["count", &add])).collect();
    for lock in locks {
        let (code, _, said) = lock.end();
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), "8");
}

#[test]
fn a_child_whose_session_is_destroyed_is_ended() {
    let agent = Agent::dev();
    let script = format!("trap 'echo told; exit 0' TERM; echo runs; while :; do {PAUSE}; done");
    let mut lock = Lock::start(&agent, &["jobs", &script]);
    lock.says("runs");
    let id = sessions(&agent)[0]["ID"].as_str().unwrap().to_owned();
    assert_eq!(agent.ok(&["session", "destroy", &id]), format!("Session destroyed: {id}\n"));
    let (code, rest, said) = lock.end();
    assert_eq!((code, rest.as_str()), (Some(1), "told\n"), "{said}");
    assert!(said.contains("the lock jobs/.lock is lost"), "{said}");
}

#[test]
fn a_child_that_does_not_listen_is_killed() {
    let agent = Agent::dev();
    let script = format!("trap '' TERM; echo runs; while :; do {PAUSE}; done");
    let mut lock = Lock::start(&agent, &["-kill-after=100ms", "jobs", &script]);
    lock.says("runs");
    // Somebody else's doing, without the session.
    agent.ok(&["kv", "delete", "jobs/.lock"]);
    let (code, _, said) = lock.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("taken away"), "{said}");
    assert_eq!(sessions(&agent).len(), 0);
}

#[test]
fn signals_are_handed_on_and_the_lock_is_given_back() {
    let agent = Agent::dev();
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP")] {
        let script = format!("trap 'echo told; exit 7' {name}; echo runs; while :; do {PAUSE}; done");
        let mut lock = Lock::start(&agent, &["jobs", &script]);
        lock.says("runs");
        send(lock.process.id(), signal);
        let (code, rest, said) = lock.end();
        assert_eq!((code, rest.as_str()), (Some(0), "told\n"), "{name}: {said}");
        assert_eq!(agent.ok(&["kv", "get", "-keys"]), "");
        assert_eq!(sessions(&agent).len(), 0);
    }
    // One that comes before the lock.
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut first = Lock::start(&agent, &["jobs", &until(&go)]);
    first.says("runs");
    let second = Lock::start(&agent, &["jobs", "echo never"]);
    eventually("the second session", || sessions(&agent).len() == 2);
    send(second.process.id(), Signal::SIGTERM);
    let (code, rest, said) = second.end();
    assert_eq!((code, rest.as_str()), (Some(1), ""));
    assert!(said.contains("SIGTERM came before the lock"), "{said}");
    assert_eq!(sessions(&agent).len(), 1);
}

#[test]
fn exit_codes_tell_the_childs_end_only_when_asked() {
    let agent = Agent::dev();
    let lock = |args: &[&str]| agent.command(&[&["lock"], args].concat()).env("SHELL", "/bin/sh").output().unwrap();
    let failing = lock(&["a", "exit 3"]);
    assert_eq!(failing.status.code(), Some(0));
    assert!(text(&failing.stderr).contains("the child failed: exit status: 3"));
    refused(&lock(&["-child-exit-code", "a", "exit 3"]), 2, &["the child failed: exit status: 3"]);
    assert_eq!(lock(&["-child-exit-code=true", "-verbose", "a", "/bin/sh", "-c", "exit 0"]).status.code(), Some(0));
    refused(&lock(&["a", "/no/such/program", "-verbose"]), 1, &["cannot start \"/no/such/program -verbose\""]);
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "");
    let held = lock(&["a", "printf %s $CONSUL_LOCK_HELD"]);
    assert_eq!(text(&held.stdout), "true");
    agent.ok(&["kv", "put", "b/.lock", "no lock"]);
    refused(&lock(&["b", "true"]), 1, &["\"b/.lock\"", "no lock of this kind"]);
    refused(&lock(&["a"]), 2, &["CHILD"]);
    refused(&lock(&["-n=0", "a", "true"]), 2, &["0"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    refused(&run(&["lock", "-http-addr", &closed, "a", "true"]), 1, &[&closed, "refused"]);
}

#[test]
fn standard_input_is_passed_on_only_when_asked() {
    let agent = Agent::dev();
    let read = |args: &[&str]| {
        let mut command = agent.command(&[&["lock"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"given");
        text(&child.wait_with_output().unwrap().stdout)
    };
    assert_eq!(read(&["-pass-stdin", "a", "cat"]), "given");
    assert_eq!(read(&["a", "cat"]), "");
}

#[test]
fn a_lock_for_several_lets_so_many_in() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut running: Vec<_> = (0..2).map(|_| Lock::start(&agent, &["-n", "2", "jobs", &until(&go)])).collect();
    for lock in &mut running {
        lock.says("runs");
    }
    refused(&agent.run(&["lock", "-n=2", "-try=300ms", "jobs", "true"]), 1, &["jobs/.lock was not free"]);
    refused(&agent.run(&["lock", "-n=3", "jobs", "true"]), 1, &["is for 2 holders, not for 3"]);
    let places: Value = serde_json::from_str(&agent.ok(&["kv", "get", "jobs/.lock"])).unwrap();
    assert_eq!((&places["Limit"], places["Holders"].as_object().unwrap().len()), (&2.into(), 2));

    // The end of one's session frees its place.
    let id = places["Holders"].as_object().unwrap().keys().next().unwrap();
    agent.ok(&["session", "destroy", id]);
    let third = Lock::start(&agent, &["-n", "2", "jobs", "echo third"]);
    assert_eq!(third.end(), (Some(0), "third\n".into(), String::new()));
    fs::write(&go, "").unwrap();
    let mut codes: Vec<_> = running.into_iter().map(|lock| lock.end().0).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "");
    assert_eq!(sessions(&agent).len(), 0);
}

#[test]
fn a_key_is_locked_and_given_back_by_hand() {
    let agent = Agent::dev();
    let session = || agent.ok(&["session", "create", "-lock-delay=0s"]).trim().to_owned();
    let (one, other) = (session(), session());
    let put = |what: &str, of: &str| agent.run(&["kv", "put", what, "-session", of, "k", "v"]);
    assert_eq!(text(&put("-acquire", &one).stdout), "Success! Lock acquired on: k\n");
    assert_eq!(holder(&agent, "k"), one);
    refused(&put("-acquire", &other), 1, &["the lock on \"k\" was not acquired", "another session"]);
    refused(&put("-release", &other), 1, &["the lock on \"k\" was not released"]);
    assert_eq!(text(&put("-release", &one).stdout), "Success! Lock released on: k\n");
    assert_eq!(holder(&agent, "k"), "");
    refused(&agent.run(&["kv", "put", "-acquire", "k", "v"]), 2, &["--session"]);
    refused(&put("-cas", &one), 2, &["--acquire or --release"]);
    refused(&agent.run(&["kv", "put", "-acquire", "-session", "x", "k", "v"]), 1, &["x"]);
    agent.ok(&["kv", "put", "-ttl=1s", "short", "v"]);
    eventually("it goes", || !agent.run(&["kv", "get", "short"]).status.success());
}

#[test]
fn sessions_are_made_shown_renewed_and_ended() {
    let agent = Agent::dev();
    let options = ["session", "create", "-name=s", "-ttl=30s", "-behavior=delete", "-lock-delay=2s"];
    let id = agent.ok(&options).trim().to_owned();
    let listed = agent.ok(&["session", "list"]);
    let cells: Vec<_> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells, [id.as_str(), "n1", "s", "30s", "delete", "2s"]);
    assert_eq!(agent.ok(&["session", "list", "-node=n1"]), listed);
    assert_eq!(agent.ok(&["session", "list", "-node=other"]).lines().count(), 1);
    assert!(agent.ok(&["session", "info", &id]).contains("NodeChecks     serfHealth\n"));
    assert_eq!(agent.ok(&["session", "renew", &id]), format!("Session renewed: {id} for 30s\n"));
    let bare = agent.ok(&["session", "create", "-node-check="]);
    let info: Value = serde_json::from_str(&agent.ok(&["session", "info", "-format=json", bare.trim()])).unwrap();
    assert_eq!((&info["NodeChecks"], &info["TTL"]), (&serde_json::json!([]), &"".into()));
    agent.ok(&["session", "destroy", &id]);
    for command in ["info", "renew", "destroy"] {
        refused(&agent.run(&["session", command, &id]), 1, &["there is no session", &id, "session list"]);
    }
    refused(&agent.run(&["session", "create", "-ttl=1s"]), 1, &["Invalid Session TTL"]);
    refused(&agent.run(&["session", "create", "-node=nowhere"]), 1, &["Missing node registration"]);
    refused(&agent.run(&["session", "create", "-behavior=explode"]), 2, &["explode", "release"]);
    refused(&agent.run(&["session", "create", "-ttl=soon"]), 2, &["soon", "duration"]);
}
