//! Many hosts of the overlay, each with a daemon of its own, and one that joins them: when all reach it, and what they have
//! in memory.

mod plans;

use std::{
    fs::{self, File, Permissions},
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use flotilla_tests::{held::Held, program_path, switch::Switch};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{
    figures::{Row, Times},
    peers,
};

/// With the one that joins; `MESH_HOSTS` are as many as the machine bears.
const HOSTS: u8 = 50;
/// Joins that are measured: the last host each time, under another name and key.
const JOINS: usize = 5;
const LIMIT: Duration = Duration::from_secs(2);
const LIMIT_MIB: f64 = 20.0;
/// Until all are up and know each other, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) async fn joined() -> Vec<Row> {
    tokio::task::spawn_blocking(measured).await.expect("it returns rows, or panics and tells why")
}

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Mesh {
    // Before the network that they run in.
    daemons: Vec<Running>,
    _registry: Running,
    switch: Switch,
    dir: PathBuf,
}

fn measured() -> Vec<Row> {
    let dir = peers::dir();
    let hosts = std::env::var("MESH_HOSTS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOSTS).max(3);
    let mut mesh = Mesh::new(dir.path(), hosts);
    for n in 1..hosts {
        let daemon = mesh.start(n, &format!("h{n}"));
        mesh.daemons.push(daemon);
    }
    let others = usize::from(hosts) - 1;
    mesh.until("the registry has answered", |mesh| mesh.ask(1, &["wait", "--timeout", "1s"]).is_some());
    let made = mesh.ask(1, &["network", "create", "app", "--subnet", "10.99.0.0/16"]);
    assert!(made.is_some(), "a network is made");
    mesh.seldom("all have addresses", |mesh| mesh.blocks(1).len() == others);
    let started = Instant::now();
    // One after the other and seldom: to be asked costs as much as what is waited for.
    for n in 1..hosts {
        mesh.seldom("all reach each other", |mesh| mesh.direct(n) == others - 1);
    }
    let whole = format!("{:.1} s after they had addresses", started.elapsed().as_secs_f64());
    let there = mesh.blocks(1);
    let (mut reached, mut addressed, mut young) = (Times::default(), Times::default(), 0.0);
    for join in 0..JOINS {
        let started = Instant::now();
        let joining = mesh.start(hosts, &format!("late{join}"));
        mesh.until("it has an address", |mesh| mesh.own(hosts).is_some());
        addressed.push(started.elapsed());
        let source = mesh.own(hosts).expect("it has one");
        let pings: Vec<_> = there.iter().map(|to| mesh.ping(hosts, source, *to)).collect();
        for mut ping in pings {
            assert!(ping.0.wait().expect("it was started").success(), "all are reached");
        }
        reached.push(started.elapsed());
        // What it is when all has settled.
        mesh.seldom("it reaches all directly", |mesh| mesh.direct(hosts) == others);
        young = Held::by(pid(&joining)).mib;
        assert!(mesh.ask(hosts, &["leave"]).is_some(), "it leaves");
        drop(joining);
        fs::remove_dir_all(mesh.dir.join(format!("state{hosts}"))).expect("it was there");
    }
    let most = mesh.daemons.iter().map(|daemon| Held::by(pid(daemon)).mib).fold(0.0, f64::max);
    let memory = Row {
        what: "memory of a daemon, the largest",
        found: format!("{most:.1} MiB; one that has just joined {young:.1} MiB"),
        bound: Some((format!("under {LIMIT_MIB} MiB"), most < LIMIT_MIB)),
    };
    let all = format!("{others} others, all on one machine");
    let mut rows = vec![
        Row::within("a host's start until it reaches all others", &reached, LIMIT, &all),
        Row::told("  until it has an address", &addressed),
        Row::told("all that start at once reach each other", &whole),
        memory,
    ];
    rows.extend(plans::made());
    rows
}

fn pid(running: &Running) -> Pid {
    Pid::from_raw(running.0.id().try_into().expect("numbers of processes are small"))
}

impl Mesh {
    fn new(dir: &Path, hosts: u8) -> Self {
        let switch = Switch::new(hosts);
        let secret =
            Command::new(program_path("overlay")).args(["secret", "new"]).output().expect("it can be run").stdout;
        fs::write(dir.join("secret"), secret).expect("our own directory");
        fs::set_permissions(dir.join("secret"), Permissions::from_mode(0o600)).expect("our own file");
        let mut registry = switch.command(1, program_path("kvstore").to_str().expect("a path of ours"));
        let address = |port: u16| format!("{}:{port}", Switch::address(1));
        registry.args(["agent", "--dev", "--node", "registry", "--http-addr", &address(8500)]);
        registry.args(["--dns-addr", &address(8600)]);
        let registry = spawn(registry, &dir.join("registry.log"));
        Self { daemons: Vec::new(), _registry: registry, switch, dir: dir.to_owned() }
    }

    fn socket(&self, n: u8) -> PathBuf {
        self.dir.join(format!("socket{n}"))
    }

    fn start(&self, n: u8, name: &str) -> Running {
        let mut command = self.switch.command(n, program_path("overlay").to_str().expect("a path of ours"));
        command.arg("--socket").arg(self.socket(n)).args(["up", "--name", name]);
        command.args(["--registry", &format!("http://{}:8500", Switch::address(1))]);
        command.arg("--secret-file").arg(self.dir.join("secret"));
        command.arg("--state-dir").arg(self.dir.join(format!("state{n}")));
        spawn(command, &self.dir.join(format!("{name}.log")))
    }

    fn ask(&self, n: u8, arguments: &[&str]) -> Option<Value> {
        let mut command = Command::new(program_path("overlay"));
        let output = command.arg("--json").arg("--socket").arg(self.socket(n)).args(arguments).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn status(&self, n: u8) -> Value {
        self.ask(n, &["status"]).unwrap_or_default()
    }

    /// How many others the `n`th host reaches without another one between.
    fn direct(&self, n: u8) -> usize {
        let status = self.status(n);
        status["peers"].as_array().into_iter().flatten().filter(|peer| peer["path"] == "direct").count()
    }

    /// The addresses of all hosts, as the `n`th knows them.
    fn blocks(&self, n: u8) -> Vec<IpAddr> {
        let status = self.status(n);
        let blocks = status["ipam"].as_array().into_iter().flatten();
        blocks.filter_map(|block| first(block["block"].as_str()?)).collect()
    }

    fn own(&self, n: u8) -> Option<IpAddr> {
        first(self.status(n)["networks"][0]["blocks"][0]["v4"].as_str()?)
    }

    /// Until it was answered once.
    fn ping(&self, n: u8, from: IpAddr, to: IpAddr) -> Running {
        let mut ping = self.switch.command(n, "ping");
        ping.args(["-q", "-c", "1", "-w", "60", "-i", "0.05", "-I", &from.to_string(), &to.to_string()]);
        Running(ping.stdout(Stdio::null()).spawn().expect("there is a ping"))
    }

    fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        self.every(Duration::from_millis(10), what, is);
    }

    fn seldom(&self, what: &str, is: impl Fn(&Self) -> bool) {
        self.every(Duration::from_millis(500), what, is);
    }

    fn every(&self, pause: Duration, what: &str, is: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is(self) {
            assert!(started.elapsed() < PATIENCE, "never: {what}");
            sleep(pause);
        }
    }
}

fn first(block: &str) -> Option<IpAddr> {
    format!("{}.1", block.split_once(".0/")?.0).parse().ok()
}

fn spawn(mut command: Command, log: &Path) -> Running {
    let log = File::create(log).expect("our own directory");
    for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN"] {
        command.env_remove(name);
    }
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("root may start it"))
}
