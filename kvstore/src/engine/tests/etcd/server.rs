//! A real etcd for tests; those that speak to a whole agent have it too (`kvstore/tests/it/etcd.rs`).
#![allow(dead_code)] // not every test needs all of it

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command as Program, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A real etcd in a directory of its own.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    /// Where it listened first, and does again.
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// None, aloud, on a machine without etcd.
    pub(crate) fn start() -> Option<Self> {
        if Program::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var("CI").is_err(), "this machine lacks etcd");
            println!("SKIPPED: this machine lacks etcd");
            return None;
        }
        // Where there is no disk, nothing waits for one.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (child, port) = serve(dir.path(), 0);
        Some(Self { dir, port, child })
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = serve(self.dir.path(), self.port).0;
    }

    pub(crate) fn start_elsewhere(&mut self) -> u16 {
        let (child, port) = serve(self.dir.path(), 0);
        self.child = child;
        port
    }

    /// It answers nobody and counts nothing, until [`Server::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// What is under `key`, as its administrator sees it, and may change it.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        ctl(self.port, arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs etcd until it serves; gives its port.
fn serve(dir: &std::path::Path, port: u16) -> (Child, u16) {
    let listen = format!("http://127.0.0.1:{port}");
    let mut program = Program::new("etcd");
    program.args(["--logger", "zap", "--listen-peer-urls", "http://127.0.0.1:0", "--listen-client-urls", &listen]);
    program.args(["--advertise-client-urls", &listen, "--data-dir"]).arg(dir);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let port = loop {
        let line = lines.next().unwrap_or_else(|| panic!("etcd ended: {said:#?}")).unwrap();
        let address = line.contains("serving client traffic").then(|| line.split_once("\"address\":\"127.0.0.1:"));
        match address.flatten().and_then(|(_, rest)| rest.split('"').next()) {
            Some(port) => break port.parse().unwrap(),
            None => said.push(line),
        }
    };
    // A full pipe would stop it.
    std::thread::spawn(move || lines.for_each(drop));
    (child, port)
}

/// Runs etcdctl with `arguments`; gives what it prints.
pub(crate) fn ctl(port: u16, arguments: &[&str]) -> String {
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut program = Program::new("etcdctl");
    let output = program.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
