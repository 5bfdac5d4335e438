//! Hosts of a story's own: network namespaces, joined by a switch that is one, too, so that nothing touches the machine's
//! network. Their links can be cut, made lossy, slow and narrow; their processes killed and frozen; their disks filled.

mod agent;
mod cable;
mod etcd;
pub mod faults;
mod links;

pub use agent::Agent;
pub use cable::Cable;
pub use etcd::{Cluster, Member};
pub use links::{Cut, Links};

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

use crate::{
    docker::Dockerd,
    namespace::{Namespace, Threads},
    needs::Need,
    program::{Launch, Program},
};

/// The hosts and what is between them. Dropped, all of it goes.
pub struct Bed {
    /// Before the switch, or their cables would be pulled while they run.
    hosts: Vec<Host>,
    links: Mutex<Links>,
    switch: Namespace,
}

impl Bed {
    /// What a machine needs for it.
    pub const NEEDS: [Need; 5] =
        [Need::Root, Need::Program("ip"), Need::Program("nft"), Need::Program("nsenter"), Need::Program("setpriv")];

    /// So many hosts, `h1`, `h2`..., each with a cable to the switch.
    ///
    /// # Panics
    /// If this is not root, or there are more than 200.
    pub fn new(hosts: usize) -> Self {
        let switch = Namespace::new();
        switch.ip("link add switch type bridge");
        switch.ip("link set switch up");
        let hosts: Vec<_> = (0..hosts).map(Host::new).collect();
        for host in &hosts {
            host.plug_in(&switch);
        }
        Self { hosts, links: Mutex::default(), switch }
    }

    /// One of them, counted from 0.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// The same, to be changed.
    pub fn host_mut(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[number]
    }

    /// All of them.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// From now on nothing of this gets through.
    pub fn cut(&self, cut: Cut) {
        self.change(|links| links.cuts.extend([cut]));
    }

    /// It gets through again.
    pub fn mend(&self, cut: Cut) {
        self.change(|links| links.cuts.retain(|other| *other != cut));
    }

    /// Of a thousand frames to and from this host so many are lost from now on, each way.
    pub fn lose(&self, host: usize, permille: u32) {
        self.change(|links| match permille {
            0 => drop(links.losses.remove(&host)),
            _ => drop(links.losses.insert(host, permille)),
        });
    }

    fn change(&self, how: impl FnOnce(&mut Links)) {
        let mut links: MutexGuard<'_, _> = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut links);
        self.switch.call("nft", "-f -", &links.ruleset());
    }

    /// Takes another cable for this host; with the address and the connections that it has.
    ///
    /// # Panics
    /// If the cable cannot be made.
    pub async fn plug(&mut self, number: usize, cable: Cable) {
        let host = &mut self.hosts[number];
        host.unplug(&self.switch);
        host.cable = cable.begin(&host.name, &self.switch).await;
        host.plug_in(&self.switch);
    }
}

/// One of them.
pub struct Host {
    /// `h1`...
    pub name: String,
    /// What it is known by to the others.
    pub address: Ipv4Addr,
    number: u8,
    cable: cable::Laid,
    threads: Threads,
    namespace: Namespace,
}

impl Host {
    fn new(number: usize) -> Self {
        let number = u8::try_from(number + 1).ok().filter(|number| *number <= 200).expect("up to 200 hosts");
        let namespace = Namespace::new();
        let address = Ipv4Addr::new(10, 77, 0, number);
        let (threads, cable) = (namespace.threads(), cable::Laid::Plain);
        Self { name: format!("h{number}"), address, number, cable, threads, namespace }
    }

    fn plug_in(&self, switch: &Namespace) {
        let (port, pid) = (&self.name, self.namespace.pid());
        match &self.cable {
            cable::Laid::Plain => switch.ip(&format!("link add {port} type veth peer name eth0 netns {pid}")),
            cable::Laid::Relayed { end, .. } => switch.ip(&format!("link set {end} netns {pid} name eth0")),
        }
        switch.ip(&format!("link set {port} master switch up"));
        // The others know it by this address still when it has another cable.
        self.namespace.ip(&format!("link set eth0 address 02:00:0a:4d:00:{:02x} up", self.number));
        self.namespace.ip(&format!("address add {}/24 dev eth0", self.address));
        self.namespace.ip("route add default dev eth0");
    }

    fn unplug(&mut self, switch: &Namespace) {
        switch.ip(&format!("link delete {}", self.name));
        self.cable = cable::Laid::Plain;
    }

    /// Gives it another address in place of the one that it has.
    pub fn move_to(&mut self, address: Ipv4Addr) {
        self.namespace.ip(&format!("address delete {}/24 dev eth0", self.address));
        self.namespace.ip(&format!("address add {address}/24 dev eth0"));
        self.namespace.ip("route add default dev eth0");
        self.address = address;
    }

    /// Lets no more than this through to and from it: `8mbit`.
    pub fn narrow(&self, switch: &Bed, rate: &str) {
        let shaped = |device: &str| format!("qdisc replace dev {device} root tbf rate {rate} burst 16kb latency 100ms");
        switch.switch.call("tc", &shaped(&self.name), "");
        self.namespace.call("tc", &shaped("eth0"), "");
    }

    /// Puts a disk of so many megabytes at `dir`, for the programs of this host only.
    pub fn mount(&self, dir: &Path, megabytes: u32) {
        self.namespace.call("mount", &format!("-t tmpfs -o size={megabytes}m tmpfs {}", dir.display()), "");
    }

    /// A disk of its own for what a program keeps: in memory, since nothing here is about waiting for disks, and gone with
    /// the host.
    fn disk(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        self.mount(dir.path(), 512);
        dir
    }

    /// Fills the disk at `dir` to the last byte.
    pub fn fill(&self, dir: &Path) {
        // It ends when nothing more fits.
        let filled = format!("of={}/filled if=/dev/zero bs=64k status=none", dir.display());
        let full = self.namespace.try_call("dd", &filled, "");
        assert!(full.is_err_and(|why| why.contains("No space left")), "a disk that is not full was to be filled");
    }

    /// Takes away again what it was filled with.
    pub fn clear(&self, dir: &Path) {
        self.namespace.call("rm", &format!("{}/filled", dir.display()), "");
    }

    /// A Docker on it, with these arguments, whose default bridge has [`Self::BRIDGE`] on each host, and which looks for
    /// plugins in a directory of its own.
    ///
    /// # Panics
    /// If there is none to be had.
    pub fn dockerd(&self, args: &[&str]) -> Dockerd {
        let plugins = Path::new("/run/docker/plugins");
        std::fs::create_dir_all(plugins).expect("root may");
        self.mount(plugins, 4);
        // Docker calls its control groups so, too, which all hosts have in common.
        let bridge = format!("fl{}h{}", std::process::id(), self.number);
        self.namespace.ip(&format!("link add {bridge} type bridge"));
        self.namespace.ip(&format!("address add {}/24 dev {bridge}", Self::BRIDGE));
        self.namespace.ip(&format!("link set {bridge} up"));
        Dockerd::start_on(&self.namespace, &bridge, args)
    }

    /// See [`Self::dockerd`].
    pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

    /// Runs a program of the system to its end on it, with the words of `arguments`; `input` is what it reads.
    ///
    /// # Panics
    /// If that fails.
    pub fn call(&self, program: &str, arguments: &str, input: &str) {
        self.namespace.call(program, arguments, input);
    }

    /// Starts a program on it.
    pub fn start(&self, launch: Launch) -> Program {
        launch.inside(&self.namespace).start()
    }

    /// The same, not started yet.
    pub fn launch(&self, launch: Launch) -> Launch {
        launch.inside(&self.namespace)
    }

    /// Runs a part of the story on it.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.threads.run(work).await
    }

    /// Begins a part of the story on it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.threads.runtime().spawn(work)
    }
}
