//! Hosts of a bed with all that one has who uses the overlay: a registry of its own, Docker, registrar and overlay.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use flotilla_tests::{
    bed::{Bed, Host},
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    program::{Launch, Program},
};
use tempfile::TempDir;

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

/// The overlay of a host.
pub(super) struct Overlay {
    program: Option<Program>,
    socket: PathBuf,
}

impl Site {
    /// Two hosts, and a third one that has the overlay alone. Their firewalls let through what is allowed by name.
    pub(super) async fn start() -> Self {
        let (bed, dir) = (Bed::new(3), tempfile::tempdir().expect("a temporary directory can be made"));
        let secret = Launch::ours("overlay").args(["secret", "new"]).run(LIMIT).await.ok().expect("a secret");
        std::fs::write(dir.path().join("secret"), secret).expect("our own directory");
        let owners = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.path().join("secret"), owners).expect("our own file");
        let mut docked = Vec::new();
        for number in 0..2 {
            docked.push(Docked::start(&bed, number, &dir).await);
        }
        let third = Overlay::start(&bed, 2, &dir, &format!("http://{}:8500", bed.host(0).address), None).await;
        let site = Self { docked, third, bed, dir };
        for docked in &site.docked {
            docked.overlay.run(&["wait", "--timeout", "60s"]).await;
        }
        site
    }

    /// Starts the overlay of a host again that was killed.
    pub(super) async fn start_again(&mut self, number: usize) {
        let docker = self.docked[number].docker.host();
        let registry = "http://127.0.0.1:8500";
        self.docked[number].overlay = Overlay::start(&self.bed, number, &self.dir, registry, Some(&docker)).await;
    }
}

impl Docked {
    async fn start(bed: &Bed, number: usize, dir: &TempDir) -> Self {
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
        let overlay = Overlay::start(bed, number, dir, "http://127.0.0.1:8500", Some(&docker.host())).await;
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
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        self.docker.docker(&["inspect", "--format", &format, &container.id]).await
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

impl Overlay {
    async fn start(bed: &Bed, number: usize, dir: &TempDir, registry: &str, docker: Option<&str>) -> Self {
        let host = bed.host(number);
        let path = |name: &str| dir.path().join(format!("{name}{number}"));
        let launch = Launch::ours("overlay").args(["up", "--name", &host.name, "--registry", registry]);
        let launch = launch.args(["--secret-file".as_ref(), dir.path().join("secret").as_os_str()]);
        let launch = launch.args(["--state-dir".as_ref(), path("overlay").as_os_str()]);
        let launch = launch.args(["--socket".as_ref(), path("socket").as_os_str()]);
        let launch = launch.args(docker.map(|docker| ["--docker", docker]).into_iter().flatten());
        let mut program = host.start(launch);
        if docker.is_some() {
            program.wait_for_log("Docker's driver of networks is at", LIMIT).await;
        }
        Self { program: Some(program), socket: path("socket") }
    }

    pub(super) async fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let launch = Launch::ours("overlay").args(args).args(["--socket".as_ref(), self.socket.as_os_str()]);
        launch.run(LIMIT).await.ok()
    }

    pub(super) async fn run(&self, args: &[&str]) -> String {
        self.try_run(args).await.unwrap_or_else(|e| panic!("overlay {args:?}: {e}"))
    }

    pub(super) fn log(&self) -> String {
        self.program.as_ref().map(Program::log).unwrap_or_default()
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
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
