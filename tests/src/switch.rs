//! Hosts on one switch: network namespaces, joined by a bridge in one of its own, for what is told of packets. Nothing of
//! them is in the network of the machine.

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::program::find;

/// The kernel remembers 1,024 neighbours of all namespaces together, and sends nothing to those that it forgot
/// (`net.ipv4.neigh.default.gc_thresh3`). Those that it was told for good do not count.
const FEW: u8 = 20;

/// Some hosts that see each other, counted from 1; dropping it takes them down, so what runs there goes first.
pub struct Switch {
    name: String,
    hosts: u8,
}

impl Switch {
    /// With so many hosts, each with a link `up0` to the others and [`Self::address`] on it.
    ///
    /// # Panics
    /// If this is not root, or may not change the network.
    pub fn new(hosts: u8) -> Self {
        let switch = Self { name: name(), hosts };
        let bridge = switch.namespace(0);
        ip(&format!("netns add {bridge}"));
        ip(&format!("-n {bridge} link add switch type bridge"));
        ip(&format!("-n {bridge} link set switch up"));
        for n in 1..=hosts {
            let host = switch.namespace(n);
            ip(&format!("netns add {host}"));
            ip(&format!("-n {bridge} link add port{n} type veth peer name up0 netns {host}"));
            ip(&format!("-n {bridge} link set port{n} master switch up"));
            switch.set_up(n);
        }
        if hosts > FEW {
            switch.introduce();
        }
        switch
    }

    /// Tells each host where all others are, for good, in the place of asking.
    fn introduce(&self) {
        let mac = |n: u8| format!("02:00:0a:d8:00:{n:02x}");
        for n in 1..=self.hosts {
            self.ip(n, &format!("link set up0 address {}", mac(n)));
        }
        for n in 1..=self.hosts {
            let others = (1..=self.hosts).filter(|other| *other != n);
            let lines = others.flat_map(|other| {
                let addresses = [Self::address(other), Self::address_v6(other)];
                addresses.map(|ip| format!("neigh replace {ip} lladdr {} dev up0 nud permanent\n", mac(other)))
            });
            let mut batch = Command::new(find("ip".as_ref()));
            batch.args(["-n", &self.namespace(n), "-batch", "-"]).stdin(Stdio::piped());
            let mut batch = batch.spawn().expect("ip can be run");
            let told = batch.stdin.take().expect("it is piped").write_all(lines.collect::<String>().as_bytes());
            assert!(told.is_ok() && batch.wait().is_ok_and(|ended| ended.success()), "ip neigh on host {n}");
        }
    }

    fn set_up(&self, n: u8) {
        for address in [format!("{}/24", Self::address(n)), format!("{}/64 nodad", Self::address_v6(n))] {
            self.ip(n, &format!("address add {address} dev up0"));
        }
        for link in ["lo", "up0"] {
            self.ip(n, &format!("link set {link} up"));
        }
    }

    /// Two of them with a cable in between, so that nothing is measured but what they do.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn cable() -> Self {
        let switch = Self { name: name(), hosts: 2 };
        let [here, there] = [1, 2].map(|n| switch.namespace(n));
        for host in [&here, &there] {
            ip(&format!("netns add {host}"));
        }
        ip(&format!("link add up0 netns {here} type veth peer name up0 netns {there}"));
        for n in [1, 2] {
            switch.set_up(n);
        }
        switch
    }

    /// The `n`th host's namespace; the 0th is that of the switch.
    pub fn namespace(&self, n: u8) -> String {
        format!("{}-{n}", self.name)
    }

    /// The `n`th host's address for the others.
    pub fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 216, 0, n).into()
    }

    /// The same of IPv6.
    pub fn address_v6(n: u8) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0x216, 0, 0, 0, 0, 0, n.into()).into()
    }

    /// Runs `ip` on the `n`th host.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, n: u8, command: &str) {
        ip(&format!("-n {} {command}", self.namespace(n)));
    }

    /// A program on the `n`th host, not started yet.
    pub fn command(&self, n: u8, program: &str) -> Command {
        let mut command = Command::new(find("ip".as_ref()));
        command.args(["netns", "exec", &self.namespace(n)]).arg(find(program.as_ref()));
        command
    }

    /// What `run` returns in a thread that is on the `n`th host; sockets that it makes stay there.
    ///
    /// # Panics
    /// If `run` does, or the host is not there.
    pub fn on<T: Send>(&self, n: u8, run: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(n))).expect("it was made");
        thread::scope(|threads| {
            let thread = threads.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
                run()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("switch-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn ip(command: &str) {
    let output = Command::new(find("ip".as_ref())).args(command.split(' ')).output().expect("ip can be run");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Switch {
    fn drop(&mut self) {
        for n in 0..=self.hosts {
            let _ = Command::new(find("ip".as_ref())).args(["netns", "delete", &self.namespace(n)]).output();
        }
    }
}
