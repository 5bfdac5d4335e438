//! Hosts of a bed with all that one has who uses the overlay: a registry of its own, Docker, registrar and overlay.

use std::time::Duration;

use flotilla_tests::{
    bed::{Bed, Host},
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    overlay::{Overlay, secret},
    program::{Launch, Program, path_with_idle},
};
use tempfile::TempDir;

use crate::resolver_only::address_on;

/// Nothing takes longer, however busy the machine is.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

pub(super) struct Site {
    /// Before the hosts that they run on.
    pub(super) docked: Vec<Docked>,
    /// A member of the mesh without Docker.
    pub(super) third: Overlay,
    pub(super) bed: Bed,
    dir: TempDir,
}

/// What runs on a host with Docker.
pub(super) struct Docked {
    pub(super) number: usize,
    pub(super) overlay: Overlay,
    _registrar: Program,
    _kvstore: Program,
    pub(super) docker: Dockerd,
}

impl Site {
    /// Two hosts, and a third one that has the overlay alone. Their firewalls let through what is allowed by name.
    pub(super) async fn start() -> Self {
        let (bed, dir) = (Bed::new(3), tempfile::tempdir().expect("a temporary directory can be made"));
        let secret = secret().await;
        let mut docked = Vec::new();
        for number in 0..2 {
            docked.push(Docked::start(&bed, number, &dir, &secret).await);
        }
        let registry = format!("http://{}:8500", bed.host(0).address);
        let mut third = Overlay::new(&bed.host(2).name, &secret, &["--registry", &registry]);
        third.start(|launch| bed.host(2).start(launch)).await;
        let site = Self { docked, third, bed, dir };
        for docked in &site.docked {
            docked.overlay.run(&["wait", "--timeout", "60s"]).await;
        }
        site
    }

    /// Starts the overlay of a host again that was killed.
    pub(super) async fn start_again(&mut self, number: usize) {
        let host = self.bed.host(number);
        self.docked[number].overlay.start(|launch| host.start(launch)).await;
    }

    /// Has the overlay of a host be one without the rules that keep networks apart, and without a way to make any.
    pub(super) async fn start_lawless(&mut self, number: usize) {
        let path = path_with_idle("nft", self.dir.path());
        let host = self.bed.host(number);
        self.docked[number].overlay.program().kill();
        host.call("nft", "delete table inet overlay", "");
        self.docked[number].overlay.start(|launch| host.start(launch.env("PATH", path))).await;
    }
}

impl Docked {
    async fn start(bed: &Bed, number: usize, dir: &TempDir, secret: &str) -> Self {
        let host = bed.host(number);
        let dns = Host::BRIDGE.to_string();
        let docker = host.dockerd(&["--iptables=true", "--ip-forward=true", "--dns", &dns]);
        docker.make_callers();
        // As Docker does where it is the first to let the host forward.
        host.call("iptables", "--policy FORWARD DROP", "");
        let kvstore = kvstore(bed, number, dir).await;
        let registrar =
            Launch::ours("registrar").args(["--docker", &docker.host(), "--node", &host.name, "--internal"]);
        let registrar = registrar.args(["--ip", &host.address.to_string(), "--registry", "http://127.0.0.1:8500"]);
        let registrar = registrar.args(["--network", "app", "--host-id", &host.name, "--state-dir"]);
        let registrar = host.start(registrar.args([dir.path().join(format!("registrar{number}"))]));
        let overlay = Overlay::new(&host.name, secret, &["--registry", "http://127.0.0.1:8500"]);
        let mut overlay = overlay.with_docker(&docker, None);
        overlay.start(|launch| host.start(launch)).await;
        Self { number, overlay, _registrar: registrar, _kvstore: kvstore, docker }
    }

    pub(super) async fn web(&self, args: &[&str]) -> Container<'_> {
        self.docker.run(&[args, &[HELLO_WEB]].concat()).await
    }

    pub(super) async fn caller(&self, args: &[&str]) -> Container<'_> {
        self.docker.run(&[args, &[CALLER, "sleep", "3600"]].concat()).await
    }

    /// The names of Docker's networks.
    pub(super) async fn networks(&self) -> Vec<String> {
        let all = self.docker.docker(&["network", "ls", "--format", "{{.Name}}"]).await;
        all.lines().map(str::to_owned).collect()
    }

    pub(super) async fn address(&self, container: &Container<'_>, network: &str) -> String {
        address_on(&self.docker, container, network).await
    }

    /// Waits until Docker has a network, or has it no more.
    pub(super) async fn until(&self, network: &str, there: bool) -> Duration {
        let began = std::time::Instant::now();
        let looked = async || match self.networks().await {
            all if all.iter().any(|name| name == network) == there => Ok(()),
            all => Err(format!("{all:?}")),
        };
        eventually!(format!("network {network} on host {} (or not): {there}", self.number + 1), LIMIT, looked());
        began.elapsed()
    }
}

/// The first host has the registry, the second one a replica of it.
async fn kvstore(bed: &Bed, number: usize, dir: &TempDir) -> Program {
    let host = bed.host(number);
    let launch = Launch::ours("kvstore").args(["agent", "--node", &host.name, "--http-addr", "0.0.0.0:8500"]);
    let launch = launch.args(["--dns-addr", "0.0.0.0:53", "--data-dir"]);
    let launch = launch.args([dir.path().join(format!("kvstore{number}"))]);
    let launch = match number {
        0 => launch.args(["--bind", &host.address.to_string()]),
        _ => launch.args(["--replica-of", &format!("http://{}:8500", bed.host(0).address)]),
    };
    let mut program = host.start(launch);
    let url = format!("http://{}:8500/v1/status/leader", host.address);
    eventually!("the registry answers", LIMIT, async {
        assert!(program.is_running(), "the registry ended:\n{}", program.log());
        let url = url.clone();
        host.run(async move { flotilla_tests::web::get(&url).await }).await.map(|_| ())
    });
    program
}
