//! `kvstore watch`: what handlers see and when, and what ends it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::*;

/// A folder for what handlers write; killed with the watch when dropped.
struct Watching {
    dir: tempfile::TempDir,
    child: Child,
}

impl Watching {
    /// Watches with a script for a handler, in which `$DIR` is the folder.
    fn start(agent: &Agent, options: &[&str], script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = [&["watch"], options, &[script]].concat();
        let mut command = agent.command(&args);
        command.env("DIR", dir.path()).env("SHELL", "/bin/sh").stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Self { dir, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    /// Waits for the whole line `wanted` at the end of the file `name`.
    fn sees(&self, name: &str, wanted: impl Fn(&str) -> bool) {
        eventually("the handler's line", || self.lines(name).last().is_some_and(|line| wanted(line)));
    }

    fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Its exit code and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value_of(line: &str) -> Value {
    serde_json::from_str::<Value>(line).map_or(Value::Null, |entry| entry["Value"].clone())
}

#[test]
fn without_a_handler_the_state_is_printed_once() {
    let agent = Agent::dev();
    assert_eq!(agent.ok(&["watch", "-type=key", "-key=a"]), "null\n");
    agent.ok(&["kv", "put", "a", "x"]);
    let printed: Value = serde_json::from_str(&agent.ok(&["watch", "-type", "key", "-key", "a"])).unwrap();
    assert_eq!((&printed["Key"], &printed["Value"]), (&"a".into(), &"eA==".into()));
    let states: [(&[&str], Value); 5] = [
        (&["-type=keyprefix", "-prefix="], json!("a")),
        (&["-type=services"], json!([])),
        (&["-type=nodes"], json!("n1")),
        (&["-type=service", "-service=consul"], json!("consul")),
        (&["-type=checks", "-state=passing"], json!("serfHealth")),
    ];
    for (options, expected) in states {
        let printed: Value = serde_json::from_str(&agent.ok(&[&["watch"], options].concat())).unwrap();
        let found = match options[0] {
            "-type=keyprefix" => &printed[0]["Key"],
            "-type=services" => &printed["consul"],
            "-type=nodes" => &printed[0]["Node"],
            "-type=service" => &printed[0]["Service"]["Service"],
            _ => &printed[0]["CheckID"],
        };
        assert_eq!(*found, expected, "{options:?}: {printed}");
    }
}

#[test]
fn a_handler_gets_each_state_with_its_index() {
    let agent = Agent::dev();
    agent.ok(&["kv", "put", "a", "1"]);
    let script = "read -r state; echo \"$CONSUL_INDEX $state\" >> $DIR/seen";
    let watching = Watching::start(&agent, &["-type=key", "-key=a"], script);
    for value in ["MQ==", "Mg==", "Mw=="] {
        watching.sees("seen", |line| {
            let (index, state) = line.split_once(' ').unwrap();
            let state: Value = serde_json::from_str(state).unwrap();
            state["Value"] == value && state["ModifyIndex"].as_u64() == index.parse().ok()
        });
        agent.ok(&["kv", "put", "a", if value == "MQ==" { "2" } else { "3" }]);
        // Another key is nothing to this watch.
        agent.ok(&["kv", "put", "b", value]);
    }
    agent.ok(&["kv", "delete", "a"]);
    watching.sees("seen", |line| line.ends_with(" null"));
    assert_eq!(watching.lines("seen").len(), 4, "{:?}", watching.lines("seen"));
    watching.signal(Signal::SIGTERM);
    assert_eq!(watching.end(), (Some(0), String::new()));
}

#[test]
fn one_handler_runs_at_a_time_and_the_latest_state_wins() {
    let agent = Agent::dev();
    agent.ok(&["kv", "put", "a", "first"]);
    let script = "cat >> $DIR/seen; until [ -e $DIR/go -o ! -d $DIR ]; do sleep 0.01; done";
    let watching = Watching::start(&agent, &["-type=key", "-key=a"], script);
    watching.sees("seen", |line| value_of(line) == "Zmlyc3Q=");
    for value in ["2", "3", "last"] {
        agent.ok(&["kv", "put", "a", value]);
    }
    assert_eq!(watching.lines("seen").len(), 1, "the first handler has not ended");
    fs::write(watching.path("go"), "").unwrap();
    watching.sees("seen", |line| value_of(line) == "bGFzdA==");
    // How many states the watch had seen by then depends on the machine; each was given once, and the last one last.
    let seen = watching.lines("seen");
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert!(seen.len() <= 3 && distinct.len() == seen.len(), "{seen:?}");
}

#[test]
fn a_handler_that_fails_ends_the_watch() {
    let agent = Agent::dev();
    let ends = |child: &[&str]| agent.run(&[&["watch", "-type=nodes"], child].concat());
    refused(&ends(&["exit 3"]), 1, &["the handler \"exit 3\" failed", "3"]);
    refused(&ends(&["/bin/sh", "-c", "kill -9 $$"]), 1, &["signal: 9"]);
    refused(
        &ends(&["/no/such/program", "-x"]),
        1,
        &["cannot start the handler \"/no/such/program -x\"", "No such file"],
    );
    refused(&ends(&["-shell=false", "exit 3"]), 1, &["cannot start the handler \"exit 3\""]);
    // It need not read what it is given.
    agent.ok(&["kv", "put", "big", &"x".repeat(100_000)]);
    refused(&agent.run(&["watch", "-type=key", "-key=big", "exit 4"]), 1, &["failed", "4"]);
}

#[test]
fn a_watch_that_cannot_begin_says_why() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    refused(&run(&["watch", "-type=nodes", "-http-addr", &closed, "true"]), 1, &[&closed, "refused"]);
    refused(&run(&["watch", "-type=key"]), 2, &["--key"]);
    refused(&run(&["watch", "-type=leaves"]), 2, &["leaves", "keyprefix"]);
    refused(&run(&["watch", "-type=nodes", "-follow", "handler"]), 2, &["--follow"]);
}

#[test]
fn stopping_hands_the_signal_on() {
    let agent = Agent::dev();
    let script = "trap 'echo told >> $DIR/seen; exit 0' TERM; echo runs >> $DIR/seen; while :; do sleep 0.01; done";
    let watching = Watching::start(&agent, &["-type=nodes"], script);
    watching.sees("seen", |line| line == "runs");
    watching.signal(Signal::SIGTERM);
    let seen = watching.path("seen");
    eventually("the handler's end", || fs::read_to_string(&seen).unwrap().ends_with("told\n"));
    assert_eq!(watching.end().0, Some(0));
}

#[test]
fn a_watch_outlives_its_registry() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = |address: &str, data: &Path| {
        let address = address.trim_start_matches("http://");
        let data = data.to_str().unwrap();
        Agent::start(&["--data-dir", data, "--node=n1", "--http-addr", address, "--dns-addr=127.0.0.1:0"])
    };
    let agent = start("127.0.0.1:0", &data);
    let address = agent.address.clone();
    agent.ok(&["kv", "put", "a", "1"]);
    let watching = Watching::start(&agent, &["-type=key", "-key=a"], "cat >> $DIR/seen");
    watching.sees("seen", |line| value_of(line) == "MQ==");
    assert_eq!(agent.stop().0, Some(0));

    let agent = start(&address, &data);
    agent.ok(&["kv", "put", "a", "2"]);
    watching.sees("seen", |line| value_of(line) == "Mg==");
    assert_eq!(watching.lines("seen").len(), 2, "the state it had is no news: {:?}", watching.lines("seen"));
    watching.signal(Signal::SIGINT);
    let (code, said) = watching.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("trying again"), "{said}");
}

#[test]
fn states_are_followed_line_by_line() {
    let agent = Agent::dev();
    agent.ok(&["services", "register", "-name=web", "-port=80", "-tag=blue"]);
    let options = ["watch", "-type=service", "-service=web", "-tag", "blue", "-passingonly", "true", "-follow"];
    let mut child = agent.command(&options).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut instances = || serde_json::from_str::<Vec<Value>>(&lines.next().unwrap().unwrap()).unwrap().len();
    assert_eq!(instances(), 1);
    agent.ok(&["maint", "-enable", "-service=web"]);
    assert_eq!(instances(), 0);
    agent.ok(&["maint", "-disable", "-service=web"]);
    assert_eq!(instances(), 1);
    child.kill().unwrap();
    child.wait().unwrap();

    let mut events = agent.command(&["watch", "-type=event", "-name=deploy", "-follow"]);
    let mut child = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "[]");
    for count in 1..=4 {
        agent.ok(&["event", "-name=deploy"]);
        agent.ok(&["event", "-name=other"]);
        let events: Vec<Value> = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(events.len(), count);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
