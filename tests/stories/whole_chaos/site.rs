//! Two hosts as somebody has them who uses everything: a registry on the first, its replica on the second, and on both a
//! Docker, registrar, overlay, and a HAProxy with its templater.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Bed, Host},
    docker::{Dockerd, HELLO_WEB},
    eventually,
    overlay::{Overlay, secret},
    program::{Launch, Program},
    web,
    whole::faults::{HOSTS, Kind, USUAL},
    workspace,
};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use super::live_file::LiveFile;

/// Nothing takes longer, however busy the machine is.
pub(super) const LIMIT: Duration = Duration::from_mins(1);
/// The network of the overlay that all containers are in.
pub(super) const NETWORK: &str = "app";
/// A container that is told to stop goes on serving for so long: enough for proxies to hear of it on a busy machine.
const DRAIN: &str = "DRAIN_MS=4000";

pub(super) struct Site {
    /// Before the hosts that they are on.
    pub(super) machines: Vec<Machine>,
    pub(super) bed: Bed,
    _dir: TempDir,
}

/// What is on one of the hosts.
pub(super) struct Machine {
    pub(super) number: usize,
    /// All that is watched of what HAProxy reads.
    pub(super) live: LiveFile,
    /// Of the containers that are to run, in the order of their start.
    pub(super) containers: Vec<String>,
    started: usize,
    dir: PathBuf,
    address: String,
    template: String,
    /// Who read the template when it was spoiled, and how often it had refused one by then.
    spoiled: Option<(Pid, usize)>,
    /// How often a bad template was refused.
    pub(super) refused: usize,
    _haproxy: Program,
    programs: BTreeMap<Kind, Program>,
    overlay: Overlay,
    /// Docker, while it starts again; when it was back.
    starting: Option<JoinHandle<Instant>>,
    pub(super) docker: Arc<Dockerd>,
}

impl Site {
    pub(super) async fn start() -> Self {
        let (bed, dir) = (Bed::new(HOSTS), tempfile::tempdir().expect("a temporary directory can be made"));
        let secret = secret().await;
        let mut machines = Vec::new();
        for number in 0..HOSTS {
            machines.push(Machine::start(&bed, number, dir.path().join(format!("h{}", number + 1)), &secret).await);
        }
        for machine in &machines {
            machine.overlay.run(&["wait", "--timeout", "60s"]).await;
        }
        // By the driver on the first host, which makes it an ordinary network on the other.
        let create = ["network", "create", "--driver", "flotilla", "--ipam-driver", "flotilla"];
        machines[0].docker.docker(&[&create[..], &["--subnet", "10.210.0.0/16", NETWORK]].concat()).await;
        for machine in &mut machines {
            eventually!("Docker has the network", LIMIT, async {
                machine.docker.try_docker(&["network", "inspect", NETWORK]).await.ok()
            });
            machine.fill_up().await;
        }
        Self { machines, bed, _dir: dir }
    }

    /// How many containers each is to have.
    pub(super) fn running(&self) -> [usize; HOSTS] {
        [0, 1].map(|host| self.machines[host].containers.len())
    }
}

impl Machine {
    async fn start(bed: &Bed, number: usize, dir: PathBuf, secret: &str) -> Self {
        let host = bed.host(number);
        fs::create_dir(&dir).expect("our own directory");
        let dns = Host::BRIDGE.to_string();
        let docker = host.dockerd(&["--iptables=true", "--ip-forward=true", "--dns", &dns]);
        // As Docker does where it is the first to let the host forward.
        host.call("iptables", "--policy FORWARD DROP", "");
        let overlay = Overlay::new(&host.name, secret, &["--registry", "http://127.0.0.1:8500"]);
        let overlay = overlay.with_docker(&docker, None);
        let example = workspace().join("examples/haproxy/haproxy.tmpl");
        let example = fs::read_to_string(&example).unwrap_or_else(|e| panic!("{}: {e}", example.display()));
        let template = template(&example, number, &dir);
        fs::write(dir.join("haproxy.tmpl"), &template).expect("our own directory");

        let kvstore = launch(bed, number, &dir, &docker, Kind::Registry);
        let mut programs = BTreeMap::from([(Kind::Registry, host.start(kvstore))]);
        let url = format!("http://{}:8500/v1/status/leader", host.address);
        eventually!("the registry answers", LIMIT, async {
            let url = url.clone();
            host.run(async move { web::get(&url).await }).await
        });
        let once = launch(bed, number, &dir, &docker, Kind::Templater).args(["--once"]);
        host.launch(once).run(LIMIT).await.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
        let live = LiveFile::watch(dir.join("haproxy.cfg"));
        let haproxy = host.start(Launch::new("haproxy").args(["-W", "-f"]).args([dir.join("haproxy.cfg")]));
        for kind in [Kind::Registrar, Kind::Templater] {
            programs.insert(kind, host.start(launch(bed, number, &dir, &docker, kind)));
        }
        let (address, containers) = (host.address.to_string(), Vec::new());
        let mut machine = Self {
            number,
            live,
            containers,
            started: 0,
            dir,
            address,
            template,
            spoiled: None,
            refused: 0,
            _haproxy: haproxy,
            programs,
            overlay,
            starting: None,
            docker: Arc::new(docker),
        };
        machine.begin(bed, Kind::Overlay).await;
        machine
    }

    /// Kills a program. The replica is a kvstore as the registry is.
    pub(super) fn kill(&mut self, kind: Kind) {
        match kind {
            Kind::Overlay => drop(self.overlay.program().kill()),
            Kind::Replica => drop(self.programs.remove(&Kind::Registry).expect("it runs").kill()),
            kind => drop(self.programs.remove(&kind).expect("it runs").kill()),
        }
    }

    /// Starts a program again.
    pub(super) async fn begin(&mut self, bed: &Bed, kind: Kind) {
        let host = bed.host(self.number);
        match kind {
            Kind::Overlay => self.overlay.start(|launch| host.start(launch)).await,
            kind => {
                let kind = if kind == Kind::Replica { Kind::Registry } else { kind };
                let launch = launch(bed, self.number, &self.dir, &self.docker, kind);
                self.programs.insert(kind, host.start(launch));
            }
        }
    }

    /// Has Docker start again, and does not wait for it.
    pub(super) fn start_docker(&mut self) {
        let docker = self.docker.clone();
        self.starting = Some(spawn_blocking(move || {
            docker.start_again();
            Instant::now()
        }));
    }

    /// Waits until Docker is back, if it was away; since when it is.
    pub(super) async fn docker_is_back(&mut self) -> Option<Instant> {
        let starting = self.starting.take()?;
        Some(starting.await.expect("Docker starts"))
    }

    /// Nobody ends by itself.
    pub(super) fn all_run(&mut self) {
        for (kind, program) in &mut self.programs {
            assert!(program.is_running(), "{kind:?} on h{} has ended:\n{}", self.number + 1, program.log());
        }
        assert!(self.overlay.program().is_running(), "the overlay has ended:\n{}", self.overlay.log());
    }

    /// Starts as many containers as are missing.
    pub(super) async fn fill_up(&mut self) {
        while self.containers.len() < USUAL {
            self.add().await;
        }
    }

    pub(super) async fn add(&mut self) {
        self.started += 1;
        let name = format!("h{}-w{}", self.number + 1, self.started);
        let args = ["run", "--detach", "--restart", "always", "--network", NETWORK, "--name", &name, "--label", "web"];
        self.docker.docker(&[&args[..], &["--env", "SERVICE_NAME=web", "--env", DRAIN, HELLO_WEB]].concat()).await;
        self.containers.push(name);
    }

    /// One of the containers that are to run.
    pub(super) fn picked(&self, pick: u32) -> String {
        self.containers[pick as usize % self.containers.len()].clone()
    }

    /// Stops a container, in time for all to notice, and removes it.
    pub(super) async fn take_away(&mut self, name: &str) {
        self.docker.docker(&["stop", name]).await;
        self.removed(name).await;
    }

    /// Removes what does not run any more.
    pub(super) async fn removed(&mut self, name: &str) {
        self.docker.docker(&["rm", "--force", name]).await;
        self.containers.retain(|other| other != name);
    }

    /// `registrar drain`.
    pub(super) async fn drain(&self, bed: &Bed, name: &str) {
        let drain = launch(bed, self.number, &self.dir, &self.docker, Kind::Registrar);
        let drain = bed.host(self.number).launch(drain.args(["drain", name, "--wait", "1s"]));
        drain.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("registrar drain {name}: {e}"));
    }

    /// The addresses of these containers, of those that have one.
    pub(super) async fn addresses(&self, names: &[String]) -> Vec<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks {NETWORK:?}).IPAddress}}}}");
        let mut args = vec!["inspect", "--format", &format];
        args.extend(names.iter().map(String::as_str));
        let all = self.docker.docker(&args).await;
        all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Writes a template of which HAProxy would refuse what comes, or one that is none.
    pub(super) fn spoil_template(&mut self, pick: u32) {
        self.spoiled = self.refusals();
        self.edit(&match pick % 2 {
            0 => self.template.replace("balance roundrobin", "balance of-no-kind"),
            _ => format!("{}{{% if %}}", self.template),
        });
    }

    /// Waits until the templater has refused it, if it was not killed meanwhile, and writes the good one again. Where a
    /// templater begins with a template that is none, it ends; then it is started again, as by a service manager.
    pub(super) async fn mend_template(&mut self, bed: &Bed) {
        if let Some((pid, before)) = self.spoiled.take() {
            let refused = eventually!("the templater refuses a bad template", LIMIT, async {
                match self.refusals() {
                    Some((now, count)) if now == pid && count == before => Err(format!("{count} times before")),
                    Some((now, _)) => Ok(usize::from(now == pid)),
                    None => Ok(0),
                }
            });
            self.refused += refused;
        }
        self.edit(&self.template);
        if self.programs.get_mut(&Kind::Templater).is_some_and(|templater| !templater.is_running()) {
            self.begin(bed, Kind::Templater).await;
        }
    }

    /// The templater that runs, and how often it has refused a template, or what came of one.
    fn refusals(&self) -> Option<(Pid, usize)> {
        let templater = self.programs.get(&Kind::Templater)?;
        let refusal = |line: &&str| line.contains("HAProxy refused the new") || line.contains("is wrong");
        Some((templater.pid(), templater.log().lines().filter(refusal).count()))
    }

    /// At once, as editors do.
    fn edit(&self, text: &str) {
        let staged = self.dir.join("edited");
        fs::write(&staged, text).expect("our own directory");
        fs::rename(&staged, self.dir.join("haproxy.tmpl")).expect("our own directory");
    }

    /// Where HAProxy is asked.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("haproxy.sock")
    }

    /// Where visitors of this host come in.
    pub(super) fn url(&self) -> String {
        format!("http://{}:8080/", self.address)
    }

    /// Its kvstore, for HTTP.
    pub(super) fn registry(&self) -> String {
        format!("http://{}:8500", self.address)
    }

    /// The ends of all logs.
    pub(super) fn logs(&self) -> String {
        let programs = self.programs.iter().map(|(kind, program)| (format!("{kind:?}"), program.log()));
        let told = |(name, log): (String, String)| {
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            format!("---- {name} of h{}\n{end}", self.number + 1)
        };
        programs.chain([("Overlay".to_owned(), self.overlay.log())]).map(told).collect::<Vec<_>>().join("\n")
    }
}

/// A program of a host.
fn launch(bed: &Bed, number: usize, dir: &Path, docker: &Dockerd, kind: Kind) -> Launch {
    let host = bed.host(number);
    let ours = ["--registry", "http://127.0.0.1:8500"];
    match kind {
        Kind::Registrar => {
            let launch = Launch::ours("registrar").args(ours).args(["--docker", &docker.host(), "--node", &host.name]);
            let launch = launch.args(["--host-id", &host.name, "--ip", &host.address.to_string(), "--internal"]);
            launch.args(["--network", NETWORK, "--explicit", "--state-dir"]).args([dir.join("registrar")])
        }
        Kind::Templater => {
            let launch = Launch::ours("templater").env("HTTP_PORT", "8080").dir(dir).args(ours);
            launch.args(["--template"]).args([dir.join("haproxy.tmpl")])
        }
        _ => {
            let launch = Launch::ours("kvstore").args(["agent", "--node", &host.name, "--http-addr", "0.0.0.0:8500"]);
            let launch = launch.args(["--dns-addr", "0.0.0.0:53", "--data-dir"]).args([dir.join("kvstore")]);
            match number {
                0 => launch.args(["--bind", &host.address.to_string()]),
                _ => launch.args(["--replica-of", &format!("http://{}:8500", bed.host(0).address)]),
            }
        }
    }
}

/// The example's template, which also says whose answer it was, and opens a socket. By this one templater tells the proxy of
/// the second host, which has a fixed number of servers, what has changed, without a reload; on the first it may not.
fn template(example: &str, number: usize, dir: &Path) -> String {
    let replace = |text: String, old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {text}");
        text.replace(old, new)
    };
    let level = ["operator", "admin"][number];
    let socket = format!("\nglobal\n    stats socket {}/haproxy.sock level {level}\n", dir.display());
    let text = replace(example.to_owned(), "\nglobal\n", &socket);
    let frontend = "frontend services\n";
    let text = replace(text, frontend, &format!("{frontend}    http-after-response set-header x-server %si\n"));
    if number == 0 {
        return text;
    }
    let text =
        replace(text, "in service(name=name, live=true) %}", "in service(name=name, live=true) | slots(n=12) %}");
    replace(
        text,
        "server {{ instance.id | ident }} {{ instance | hostport }} weight {{ instance.weights.passing }}",
        "server s{{ instance.slot }} {{ instance | hostport }}{% if not instance.used %} disabled{% endif %}",
    )
}
