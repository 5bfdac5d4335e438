//! A real etcd for tests, alone or as a cluster; those that speak to a whole agent have it too (`kvstore/tests/it/etcd.rs`).
#![allow(dead_code)] // not every test needs all of it

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
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
    options: Vec<String>,
    child: Child,
}

impl Server {
    /// None, aloud, on a machine without etcd.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// One with these options; with `--cert-file` among them it speaks TLS.
    pub(crate) fn with(options: &[&str]) -> Option<Self> {
        let dir = place()?;
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        let (child, port) = serve(dir.path(), 0, &options);
        Some(Self { dir, port, options, child })
    }

    /// Where a kvstore on it may keep what is its own.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = serve(self.dir.path(), self.port, &self.options).0;
    }

    pub(crate) fn start_elsewhere(&mut self) -> u16 {
        let (child, port) = serve(self.dir.path(), 0, &self.options);
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

/// Three members, of which two are a majority.
pub(crate) struct Cluster {
    members: Vec<Member>,
}

struct Member {
    dir: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    /// None while it is dead.
    child: Option<Child>,
}

impl Cluster {
    /// None, aloud, on a machine without etcd.
    pub(crate) fn start() -> Option<Self> {
        let dirs = [place()?, place()?, place()?];
        // Kept until all are known, so that they differ.
        let listeners = dirs.each_ref().map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let peers = listeners.map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        let all: Vec<_> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}={peer}")).collect();
        let started: Vec<_> = dirs
            .into_iter()
            .enumerate()
            .map(|(n, dir)| {
                let (name, peer) = (format!("m{n}"), &peers[n]);
                let options = ["--name", &name, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer];
                let timing = ["--heartbeat-interval", "50", "--election-timeout", "500"];
                let mut options: Vec<_> = options.iter().chain(&timing).map(ToString::to_string).collect();
                options.extend(["--initial-cluster".into(), all.join(",")]);
                let child = spawn(dir.path(), 0, &options);
                (dir, options, child)
            })
            .collect();
        let members = started.into_iter().map(|(dir, options, child)| {
            let (child, port) = ready(child);
            Member { dir, port, options, child: Some(child) }
        });
        Some(Self { members: members.collect() })
    }

    /// For `kvstore agent --engine`.
    pub(crate) fn address(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect();
        format!("etcd://{}", members.join(","))
    }

    /// Where a kvstore on it may keep what is its own.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.members[0].dir.path().join(name)
    }

    /// Ends a member without a word.
    pub(crate) fn kill(&mut self, member: usize) {
        let mut child = self.members[member].child.take().expect("it lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it where it was; it serves then.
    pub(crate) fn start_again(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.child = Some(ready(spawn(member.dir.path(), member.port, &member.options)).0);
    }

    /// Starts those without which there is no majority; all serve then.
    pub(crate) fn start_again_together(&mut self, members: &[usize]) {
        for member in members {
            let member = &mut self.members[*member];
            member.child = Some(spawn(member.dir.path(), member.port, &member.options));
        }
        for member in members {
            let member = &mut self.members[*member];
            member.child = member.child.take().map(|child| ready(child).0);
        }
    }

    /// Its process, to be ended by somebody else.
    pub(crate) fn take_child(&mut self, member: usize) -> Child {
        self.members[member].child.take().expect("it lives")
    }

    pub(crate) fn ctl(&self, member: usize, arguments: &[&str]) -> String {
        ctl(self.members[member].port, arguments)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.members.iter_mut().filter_map(|member| member.child.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A directory for an etcd; none, aloud, on a machine without one.
fn place() -> Option<tempfile::TempDir> {
    if Program::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var("CI").is_err(), "this machine lacks etcd");
        println!("SKIPPED: this machine lacks etcd");
        return None;
    }
    // Where there is no disk, nothing waits for one.
    let memory = Path::new("/dev/shm");
    Some(if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap())
}

/// Runs etcd until it serves; gives its port.
fn serve(dir: &Path, port: u16, options: &[String]) -> (Child, u16) {
    let alone = ["--listen-peer-urls".to_owned(), "http://127.0.0.1:0".to_owned()];
    ready(spawn(dir, port, &[&alone, options].concat()))
}

fn spawn(dir: &Path, port: u16, options: &[String]) -> Child {
    let scheme = if options.iter().any(|option| option == "--cert-file") { "https" } else { "http" };
    let listen = format!("{scheme}://127.0.0.1:{port}");
    let mut program = Program::new("etcd");
    program.args([
        "--logger",
        "zap",
        "--listen-client-urls",
        &listen,
        "--advertise-client-urls",
        &listen,
        "--data-dir",
    ]);
    program.arg(dir).args(options).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until it serves; gives its port.
fn ready(mut child: Child) -> (Child, u16) {
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
