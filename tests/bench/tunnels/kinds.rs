//! The tunnels, each between two hosts of its own.

use std::{
    fs,
    io::Write,
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use flotilla_tests::{program_path, switch::Switch};
use nix::unistd::Pid;
use overlay::keys::PrivateKey;
use serde_json::Value;
use tempfile::TempDir;

use super::ours;
use crate::peers;

/// A way from one host to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ours,
    WireguardGo,
    Nebula,
    Tinc,
    Bare,
}

const START_LIMIT: Duration = Duration::from_secs(15);

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Ours, Self::WireguardGo, Self::Nebula, Self::Tinc, Self::Bare];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "overlay",
            Self::WireguardGo => "Debian's wireguard-go",
            Self::Nebula => "Debian's nebula",
            Self::Tinc => "Debian's tinc",
            Self::Bare => "the bare link",
        }
    }
}

/// A tunnel that is up; dropped from the programs on.
pub(super) struct Up {
    pub(super) kind: Kind,
    programs: Vec<Program>,
    switch: Switch,
    _dir: TempDir,
    /// The second host's address at the end of it.
    pub(super) target: String,
    /// How long the first packet took.
    pub(super) first_packet: Option<Duration>,
}

impl Up {
    pub(super) fn start(kind: Kind) -> Self {
        let (switch, dir) = (Switch::cable(), peers::dir());
        let target = if kind == Kind::Bare { Switch::address(2).to_string() } else { inner(2) };
        let programs = match kind {
            Kind::Ours => ours(&switch, dir.path()),
            Kind::WireguardGo => wireguard_go(&switch, dir.path()),
            Kind::Nebula => nebula(&switch, dir.path()),
            Kind::Tinc => tinc(&switch, dir.path()),
            Kind::Bare => Vec::new(),
        };
        let mut up = Self { kind, programs, switch, _dir: dir, target, first_packet: None };
        up.first_packet = Some(up.first_packet());
        up
    }

    pub(super) fn pids(&self) -> Vec<Pid> {
        self.programs.iter().map(Program::pid).collect()
    }

    pub(super) fn command(&self, n: u8, program: &str) -> Command {
        self.switch.command(n, program)
    }

    /// Sends a packet again and again until one arrives; how long that took.
    fn first_packet(&self) -> Duration {
        let here = if self.kind == Kind::Bare { Switch::address(1).to_string() } else { inner(1) };
        let socket = |n, address: &str| {
            self.switch.on(n, || UdpSocket::bind((address, 0))).unwrap_or_else(|e| panic!("{}: {e}", self.kind.name()))
        };
        let (from, to) = (socket(1, &here), socket(2, &self.target));
        to.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            from.send_to(b"first", to.local_addr().expect("it is bound")).expect("there is a route");
            if to.recv_from(&mut [0; 16]).is_ok() {
                return start.elapsed();
            }
        }
        panic!("{} carries nothing", self.kind.name());
    }
}

/// A program of a tunnel, ended when it is dropped.
pub(super) struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it can be run"))
    }

    /// Our tunnel on the `n`th host, up.
    pub(super) fn ours(switch: &Switch, n: u8, dir: &Path, asked: &Value) -> Self {
        let file = dir.join(format!("tunnel-{n}.json"));
        fs::write(&file, asked.to_string()).expect("our own directory");
        let mut command = switch.command(n, &program_path("bench").display().to_string());
        command.arg("tunnel").arg(file);
        let program = Self::start(command);
        appears(switch, n, "ovl0");
        program
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().expect("a process number"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inner(n: u8) -> String {
    format!("10.217.0.{n}")
}

fn appears(switch: &Switch, n: u8, interface: &str) {
    let end = Instant::now() + START_LIMIT;
    while !switch.command(n, "ip").args(["link", "show", interface]).output().expect("ip can be run").status.success() {
        assert!(Instant::now() < end, "{interface} does not appear");
        sleep(Duration::from_millis(20));
    }
}

fn address(switch: &Switch, n: u8, interface: &str) {
    appears(switch, n, interface);
    switch.ip(n, &format!("address add {}/24 dev {interface}", inner(n)));
    switch.ip(n, &format!("link set {interface} mtu {} up", ours::MTU));
}

fn ours(switch: &Switch, dir: &Path) -> Vec<Program> {
    let files = [1, 2].map(|n| dir.join(format!("key-{n}")));
    let keys = files.each_ref().map(|file| PrivateKey::load_or_make(file).expect("our own directory"));
    let host = |n: u8| {
        let (me, other) = (usize::from(n - 1), usize::from(2 - n));
        let peer = ours::peer(3 - n, &keys[other], &format!("{}/32", inner(3 - n)));
        let program = Program::ours(switch, n, dir, &ours::asked("ovl0", n, &files[me], &[peer]));
        address(switch, n, "ovl0");
        program
    };
    vec![host(1), host(2)]
}

fn wireguard_go(switch: &Switch, dir: &Path) -> Vec<Program> {
    let wg = |n: u8, args: &[&str], input: &str| {
        let mut wg =
            switch.command(n, "wg").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("wg");
        wg.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = wg.wait_with_output().expect("it is ours");
        assert!(output.status.success(), "wg {args:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let secrets = [1, 2].map(|n| wg(n, &["genkey"], ""));
    let publics = secrets.each_ref().map(|secret| wg(1, &["pubkey"], secret));
    let host = |n: u8| {
        let mut command = switch.command(n, "wireguard-go");
        // Its control socket is named by the interface, and all namespaces share the folder.
        let interface = format!("go{n}");
        command.args(["-f", &interface]).env("LOG_LEVEL", "error").stderr(Stdio::null());
        let program = Program::start(command);
        appears(switch, n, &interface);
        let (me, other) = (usize::from(n - 1), usize::from(2 - n));
        let file = dir.join(format!("wg-{n}"));
        let text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\n[Peer]\nPublicKey = {}\nEndpoint = {}:51820\nAllowedIPs = {}/32\n",
            secrets[me],
            publics[other],
            Switch::address(3 - n),
            inner(3 - n)
        );
        fs::write(&file, text).expect("our own directory");
        let end = Instant::now() + START_LIMIT;
        let set = || switch.command(n, "wg").args(["setconf", &interface]).arg(&file).output().expect("wg").status;
        while !set().success() {
            assert!(Instant::now() < end, "wg setconf {interface}");
            sleep(Duration::from_millis(50));
        }
        address(switch, n, &interface);
        program
    };
    vec![host(1), host(2)]
}

fn run(mut command: Command) {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn nebula(switch: &Switch, dir: &Path) -> Vec<Program> {
    let cert = |args: &[&str]| {
        let mut command = switch.command(1, "nebula-cert");
        command.args(args).current_dir(dir);
        run(command);
    };
    cert(&["ca", "-name", "bench"]);
    let host = |n: u8| {
        cert(&["sign", "-name", &format!("h{n}"), "-ip", &format!("{}/24", inner(n))]);
        let other = 3 - n;
        let text = format!(
            "pki: {{ca: {d}/ca.crt, cert: {d}/h{n}.crt, key: {d}/h{n}.key}}\nstatic_host_map: {{\"{}\": [\"{}:4242\"]}}\nlighthouse: {{am_lighthouse: false, hosts: []}}\nlisten: {{host: 0.0.0.0, port: 4242}}\ntun: {{dev: neb{n}}}\nlogging: {{level: error}}\nfirewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  inbound: [{{port: any, proto: any, host: any}}]\n",
            inner(other),
            Switch::address(other),
            d = dir.display(),
        );
        let file = dir.join(format!("nebula-{n}.yml"));
        fs::write(&file, text).expect("our own directory");
        let mut command = switch.command(n, "nebula");
        command.arg("-config").arg(file);
        let program = Program::start(command);
        appears(switch, n, &format!("neb{n}"));
        program
    };
    let programs = vec![host(1), host(2)];
    sleep(Duration::from_secs(1));
    programs
}

fn tinc(switch: &Switch, dir: &Path) -> Vec<Program> {
    for n in [1, 2] {
        let home = dir.join(format!("tinc-{n}"));
        fs::create_dir_all(home.join("hosts")).expect("our own directory");
        let other = 3 - n;
        let text = format!("Name = h{n}\nInterface = tinc{n}\nConnectTo = h{other}\n");
        fs::write(home.join("tinc.conf"), text).expect("our own directory");
        let host = format!("Address = {}\nSubnet = {}/32\n", Switch::address(n), inner(n));
        fs::write(home.join("hosts").join(format!("h{n}")), host).expect("our own directory");
        let mut command = switch.command(n, "tincd");
        command.arg("-c").arg(&home).arg("-K2048").stdin(Stdio::null());
        run(command);
    }
    for n in [1, 2] {
        let file = format!("hosts/h{n}");
        fs::copy(dir.join(format!("tinc-{n}/{file}")), dir.join(format!("tinc-{}/{file}", 3 - n))).expect("our own");
    }
    let programs = [1u8, 2].map(|n| {
        let mut command = switch.command(n, "tincd");
        command.arg("-D").arg("-c").arg(dir.join(format!("tinc-{n}")));
        command.arg(format!("--pidfile={}/tinc-{n}.pid", dir.display())).stderr(Stdio::null());
        let program = Program::start(command);
        appears(switch, n, &format!("tinc{n}"));
        // Its own MTU is that of a plain link; it tells paths that are shorter.
        switch.ip(n, &format!("address add {}/24 dev tinc{n}", inner(n)));
        switch.ip(n, &format!("link set tinc{n} up"));
        program
    });
    programs.into()
}
