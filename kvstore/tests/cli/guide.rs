//! `docs/etcd.md`, done as it is written: its files and commands, on three addresses of this host.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::harness::*;

const GUIDE: &str = include_str!("../../../docs/etcd.md");

/// What a command of the guide that is tried begins with. Others are about packages, services and programs that have
/// stories of their own.
const TRIED: [&str; 5] = ["export ", "etcdctl ", "ETCDCTL_", "kvstore ", "dig "];

/// What stands between fences, in order.
fn blocks() -> impl Iterator<Item = &'static str> {
    GUIDE.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).map(|(_, text)| text)
}

/// The content of the file that the guide names so first.
fn file(name: &str) -> &'static str {
    let head = format!("# {name}\n");
    blocks().find_map(|block| block.strip_prefix(&head)).unwrap_or_else(|| panic!("the guide has no {name}"))
}

/// The guide's commands, in order.
fn commands() -> Vec<&'static str> {
    blocks().flat_map(str::lines).filter(|line| TRIED.iter().any(|begin| line.starts_with(begin))).collect()
}

/// Three hosts, which are addresses and folders.
struct Hosts {
    dir: tempfile::TempDir,
    /// All addresses begin so.
    network: String,
    etcds: Vec<Child>,
}

impl Hosts {
    /// Each with the guide's etcd.
    fn start() -> Self {
        let id = std::process::id();
        // Others may follow the guide at the same time.
        let network = format!("127.{}.{}.", 64 + id % 128, id / 128 % 250);
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let mut hosts = Self { dir, network, etcds: Vec::new() };
        for n in 1..=3 {
            std::fs::create_dir_all(hosts.root(n).join("backups")).unwrap();
            let settings = file("/etc/default/etcd").lines().filter_map(|line| line.split_once('='));
            let settings: Vec<_> = settings
                .map(|(name, value)| match name {
                    "ETCD_INITIAL_CLUSTER" => (name, hosts.at(n, value)),
                    _ => (
                        name,
                        hosts.at(n, &value.replace("h1", &format!("h{n}")).replace("10.0.0.1", &format!("10.0.0.{n}"))),
                    ),
                })
                .collect();
            let etcd = Command::new("etcd").envs(settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            hosts.etcds.push(etcd.expect("etcd starts"));
        }
        hosts
    }

    fn root(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("h{n}"))
    }

    fn address(&self, n: usize) -> String {
        format!("{}{n}", self.network)
    }

    /// What the guide says, as it is on host `n` here.
    fn at(&self, n: usize, text: &str) -> String {
        let root = self.root(n).display().to_string();
        let text = text.replace("127.0.0.1", &self.address(n)).replace("10.0.0.", &self.network);
        let paths = [("/var/lib/etcd", "/etcd"), ("/var/lib/kvstore", "/kvstore"), ("/var/backups", "/backups")];
        paths.into_iter().fold(text, |text, (there, here)| text.replace(there, &format!("{root}{here}")))
    }

    /// Runs commands of the guide on host `n`; gives what they print.
    fn sh(&self, n: usize, commands: &[&str]) -> Result<String, String> {
        let programs = Path::new(env!("CARGO_BIN_EXE_kvstore")).parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut sh = clean("sh", &["-ec", &self.at(n, &commands.join("\n"))]);
        sh.env("PATH", format!("{programs}:{path}"));
        sh.env("CONSUL_HTTP_ADDR", format!("http://{}:8500", self.address(n)));
        let output = sh.output().expect("there is a shell");
        let said = text(&output.stdout) + &text(&output.stderr);
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The guide's kvstore on host `n`.
    fn kvstore(&self, n: usize) -> Agent {
        let config = self.root(n).join("kvstore.yaml");
        std::fs::write(&config, self.at(n, file("/etc/kvstore/kvstore.yaml"))).unwrap();
        self.agent(n, &["--config", config.to_str().expect("a plain path")])
    }

    fn agent(&self, n: usize, args: &[&str]) -> Agent {
        Agent::start(&[&["--node", &format!("h{n}"), "--bind", &self.address(n)], args].concat())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for etcd in &mut self.etcds {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
    }
}

#[test]
fn the_guide_to_etcd_works_as_it_is_written() {
    let lacks: Vec<_> = ["etcd", "etcdctl", "dig"]
        .into_iter()
        .filter(|name| Command::new(name).arg("--version").output().is_err())
        .collect();
    if !lacks.is_empty() {
        assert!(std::env::var("CI").is_err(), "this machine lacks {lacks:?}");
        println!("SKIPPED: this machine lacks {lacks:?}");
        return;
    }
    let all = commands();
    let (moves, shown): (Vec<_>, Vec<_>) = all.into_iter().partition(|line| line.starts_with("kvstore migrate"));
    let of_etcd = shown.iter().position(|line| line.starts_with("kvstore ")).expect("it has some");
    let (prepared, shown) = shown.split_at(of_etcd);
    let hosts = Hosts::start();
    eventually("etcd has its majority", || {
        hosts.sh(1, prepared).is_ok_and(|said| said.matches("is healthy").count() == 3)
    });
    let agents = [1, 2, 3].map(|n| hosts.kvstore(n));

    let said = hosts.sh(1, &[prepared, shown].concat()).unwrap_or_else(|said| panic!("{said}"));
    for wanted in ["h1", "h2", "h3"] {
        assert!(said.lines().any(|line| line.starts_with(wanted) && line.contains("alive")), "{said}");
    }
    let answers: HashSet<_> = (1..=3).map(|n| hosts.address(n)).collect();
    let records = said.lines().filter(|line| line.contains("consul.service.consul.") && line.contains("\tA\t"));
    assert_eq!(
        records.filter_map(|line| line.split('\t').next_back()).map(str::to_owned).collect::<HashSet<_>>(),
        answers,
        "{said}"
    );
    for wanted in ["\nhello", r#"{"key":"greeting","value":"hello"}"#, "Saved and verified snapshot"] {
        assert!(said.contains(wanted), "{wanted:?} in {said}");
    }
    assert!(hosts.root(1).join("backups/etcd.db").exists(), "{said}");
    assert_eq!(hosts.sh(3, &["kvstore kv get greeting"]).as_deref(), Ok("hello"), "on another host");

    for agent in agents {
        agent.stop();
    }
    let [there, back] = moves[..] else { panic!("there and back, and no more: {moves:?}") };
    hosts.sh(1, &[back]).unwrap_or_else(|said| panic!("{back}: {said}"));
    let (data, http) = (hosts.root(1).join("kvstore"), format!("{}:8500", hosts.address(1)));
    let dns = format!("{}:8600", hosts.address(1));
    let agent =
        hosts.agent(1, &["--data-dir", data.to_str().expect("plain"), "--http-addr", &http, "--dns-addr", &dns]);
    assert_eq!(
        hosts
            .sh(1, &["kvstore kv get greeting", "kvstore kv put greeting again"])
            .map(|said| said.starts_with("hello")),
        Ok(true)
    );
    agent.stop();

    let empty = [&prepared[..1], &["etcdctl del --prefix /flotilla/", there]].concat();
    hosts.sh(1, &empty).unwrap_or_else(|said| panic!("{there}: {said}"));
    let _agent = hosts.kvstore(2);
    assert_eq!(hosts.sh(2, &["kvstore kv get greeting"]).as_deref(), Ok("again"));
}
