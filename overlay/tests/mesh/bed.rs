//! Hosts that run the overlay, with a registry on the first of them.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use flotilla_tests::{program::path_with_idle, program_path, switch::Switch};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing takes longer here, however busy the machine is.
const LIMIT: Duration = Duration::from_mins(1);

/// The token that may everything, where tokens are asked for.
const ROOT: &str = "11111111-2222-4333-8444-555555555555";

pub(crate) struct Bed {
    // Before the network that they run in.
    daemons: Vec<Option<Running>>,
    registry: Option<Running>,
    pub(crate) switch: Switch,
    /// How a daemon that is started is told of the registry.
    pub(crate) registry_is: Vec<String>,
    /// Hosts whose daemon finds an `nft` that does nothing.
    lawless: BTreeSet<u8>,
    dir: TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bed {
    /// With so many hosts, whose daemons run; they are not waited for.
    pub(crate) fn new(hosts: u8) -> Self {
        let mut bed = Self::idle(hosts);
        (1..=hosts).for_each(|n| bed.start(n));
        bed
    }

    /// Only the registry runs.
    pub(crate) fn idle(hosts: u8) -> Self {
        let daemons = (0..=hosts).map(|_| None).collect();
        let registry_is = vec!["--registry".to_owned(), format!("http://{}:8500", Switch::address(1))];
        let (switch, dir) = (Switch::new(hosts), tempfile::tempdir().unwrap());
        let mut bed = Self { daemons, registry: None, switch, registry_is, lawless: BTreeSet::new(), dir };
        bed.make_secret("secret");
        bed.start_registry();
        bed
    }

    pub(crate) fn make_secret(&self, name: &str) {
        let made = Command::new(program_path("overlay")).args(["secret", "new"]).output().unwrap().stdout;
        fs::write(self.path(name), made).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An empty one.
    pub(crate) fn start_registry(&mut self) {
        let mut command = self.switch.command(1, program_path("kvstore").to_str().unwrap());
        let address = |port: u16| format!("{}:{port}", Switch::address(1));
        command.args([
            "agent",
            "--dev",
            "--node",
            "registry",
            "--http-addr",
            &address(8500),
            "--dns-addr",
            &address(8600),
        ]);
        self.registry = Some(self.spawn(command, "registry.log"));
    }

    /// Another one in its place, which speaks TLS with the other hosts and lets nobody in without a token; the files of
    /// TLS are in `tls`, and `token` has one that may what `rules` say.
    pub(crate) fn guard_registry(&mut self, rules: &str) {
        self.registry = None;
        let (address, tls) = (Switch::address(1).to_string(), self.path("tls").display().to_string());
        let made = self.ask_registry(&["tls", "create", "--dir", &tls, &address]);
        assert!(made.status.success(), "{made:?}");
        let acl = format!("acl: {{enabled: true, default_policy: deny, tokens: {{initial_management: {ROOT}}}}}\n");
        fs::write(self.path("agent.yaml"), acl).unwrap();
        let mut command = self.switch.command(1, program_path("kvstore").to_str().unwrap());
        command.args(["agent", "--dev", "--node", "registry", "--https-addr", &format!("{address}:8501")]);
        command.args(["--tls-cert", &format!("{tls}/server.pem"), "--tls-key", &format!("{tls}/server-key.pem")]);
        command.arg("--config-file").arg(self.path("agent.yaml"));
        self.registry = Some(self.spawn(command, "registry.log"));
        let make_policy = ["acl", "policy", "create", "--name", "overlay", "--rules", rules];
        self.until("the registry has a policy", |bed| bed.ask_registry(&make_policy).status.success());
        let made = self.ask_registry(&["acl", "token", "create", "--policy-name", "overlay", "--format", "json"]);
        let token: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|e| panic!("{e}: {made:?}"));
        fs::write(self.path("token"), token["SecretID"].as_str().unwrap()).unwrap();
        self.registry_is = vec!["--registry".to_owned(), format!("https://{address}:8501")];
        self.registry_is.extend(["--ca-file".to_owned(), format!("{tls}/ca.pem")]);
        self.registry_is.extend(["--token-file".to_owned(), self.path("token").display().to_string()]);
    }

    /// A command of who may everything there, by the registry's port for its own host.
    pub(crate) fn ask_registry(&self, args: &[&str]) -> Output {
        let mut command = self.switch.command(1, program_path("kvstore").to_str().unwrap());
        command.args(args).env("CONSUL_HTTP_TOKEN", ROOT).env_remove("CONSUL_HTTP_ADDR").output().unwrap()
    }

    pub(crate) fn kill_registry(&mut self) {
        self.registry = None;
    }

    pub(crate) fn start(&mut self, n: u8) {
        self.start_with(n, "secret");
    }

    pub(crate) fn start_with(&mut self, n: u8, secret: &str) {
        let by = self.registry_is.clone();
        self.up(n, secret, &by);
    }

    /// It is told of another host, and of nothing else.
    pub(crate) fn join(&mut self, n: u8, member: u8) {
        self.up(n, "secret", &["--join".to_owned(), Switch::address(member).to_string()]);
    }

    fn up(&mut self, n: u8, secret: &str, by: &[String]) {
        let mut command = self.switch.command(n, program_path("overlay").to_str().unwrap());
        command.arg("--socket").arg(self.path(&format!("socket{n}")));
        command.args(["up", "--name", &format!("h{n}")]).args(by);
        command.arg("--secret-file").arg(self.path(secret)).arg("--state-dir").arg(self.path(&format!("state{n}")));
        if self.lawless.contains(&n) {
            command.env("PATH", path_with_idle("nft", self.dir.path()));
        }
        self.daemons[usize::from(n)] = Some(self.spawn(command, &format!("h{n}.log")));
    }

    /// Starts the daemon again without the rules that keep networks apart, and without a way to make any.
    pub(crate) fn start_lawless(&mut self, n: u8) {
        self.lawless.insert(n);
        self.kill(n);
        crate::traffic::shell(&self.switch, n, "nft delete table inet overlay");
        self.start(n);
    }

    pub(crate) fn kill(&mut self, n: u8) {
        self.daemons[usize::from(n)] = None;
    }

    fn spawn(&self, mut command: Command, log: &str) -> Running {
        let log = fs::File::options().create(true).append(true).open(self.path(log)).unwrap();
        for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN"] {
            command.env_remove(name);
        }
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn log(&self, n: u8) -> String {
        fs::read_to_string(self.path(&format!("h{n}.log"))).unwrap_or_default()
    }

    /// A command on the `n`th host; what it said, if it was carried out.
    pub(crate) fn overlay(&self, n: u8, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program_path("overlay"));
        let output = command.arg("--socket").arg(self.path(&format!("socket{n}"))).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub(crate) fn status(&self, n: u8) -> Value {
        let said = self.overlay(n, &["status", "--json"]);
        said.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    /// What the `n`th host says of another one.
    pub(crate) fn peer(&self, n: u8, other: u8) -> Value {
        let (status, name) = (self.status(n), format!("h{other}"));
        let mut peers = status["peers"].as_array().into_iter().flatten();
        peers.find(|peer| peer["name"] == *name).cloned().unwrap_or_default()
    }

    /// How it reaches it.
    pub(crate) fn way(&self, n: u8, other: u8) -> String {
        self.peer(n, other)["path"].as_str().unwrap_or_default().to_owned()
    }

    /// The `n`th host hears nothing more of the tunnels of `others`, and whoever was cut off before again.
    pub(crate) fn cut(&self, n: u8, others: &[u8]) {
        let drops = others.iter().flat_map(|other| {
            let (v4, v6) = (Switch::address(*other), Switch::address_v6(*other));
            [format!("ip saddr {v4} udp dport 51820 drop\n"), format!("ip6 saddr {v6} udp dport 51820 drop\n")]
        });
        let rules = format!("chain in {{\ntype filter hook input priority 0\n{}}}", drops.collect::<String>());
        crate::traffic::nft(&self.switch, n, "inet cut", &rules);
    }

    /// The `n`th host's own address in the network.
    pub(crate) fn address(&self, n: u8, network: &str) -> Option<String> {
        let status = self.status(n);
        let held = status["networks"].as_array()?.iter().find(|held| held["network"]["name"] == network)?.clone();
        let block = held["blocks"][0]["v4"].as_str()?.to_owned();
        let (first, _) = block.split_once(".0/")?;
        Some(format!("{first}.1"))
    }

    /// Waits until `is` says so.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !is(self) {
            if started.elapsed() > LIMIT {
                let logs: Vec<_> = (1..self.daemons.len()).map(|n| self.log(u8::try_from(n).unwrap())).collect();
                panic!("never: {what}\n{}", logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }

    /// Has a network on every host, and every pair reach each other in it.
    pub(crate) fn network(&self, hosts: &[u8]) {
        self.until("the first host is ready", |bed| bed.overlay(hosts[0], &["wait", "--timeout", "1s"]).is_ok());
        self.overlay(hosts[0], &["network", "create", "app"]).unwrap();
        self.until("all have addresses", |bed| hosts.iter().all(|n| bed.address(*n, "app").is_some()));
        self.pairs(hosts);
    }

    pub(crate) fn pairs(&self, hosts: &[u8]) {
        for (from, to) in hosts.iter().flat_map(|a| hosts.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
            self.until(&format!("h{from} reaches h{to}"), |bed| bed.reaches(from, to));
        }
    }

    pub(crate) fn reaches(&self, from: u8, to: u8) -> bool {
        let (Some(source), Some(address)) = (self.address(from, "app"), self.address(to, "app")) else { return false };
        let mut ping = self.switch.command(from, "ping");
        ping.args(["-c", "1", "-W", "1", "-I", &source, &address]);
        ping.output().unwrap().status.success()
    }

    /// A ping every 10 ms from one host to another, until it is ended.
    pub(crate) fn stream(&self, from: u8, to: u8) -> Child {
        let address = self.address(to, "app").unwrap();
        let mut ping = self.switch.command(from, "ping");
        ping.args(["-i", "0.01", "-W", "1", "-q", &address]);
        ping.stdout(Stdio::piped()).spawn().unwrap()
    }
}
