//! What most stories begin with: a registry, a registrar, proxies with their templaters; and the question that they
//! ask after each step: do the catalog, DNS and the proxies say the same?

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use flotilla_tests::{
    dig::dig,
    docker::{Container, Dockerd},
    eventually,
    needs::Need,
    program::{Launch, Program},
    proxy::{Kind, Site},
    registry::Registry,
    wait::poll,
    web,
};
use tempfile::TempDir;

/// What takes part in every story about containers behind proxies.
pub(crate) fn needs() -> Vec<Need> {
    let mut needs = Need::DOCKER.to_vec();
    needs.extend(["haproxy", "nginx", "dig", "curl"].map(Need::Program));
    needs
}

/// The longest that a step may take until all agree. It holds on a busy machine of two cores; the usual is a tenth.
pub(crate) const AGREE_LIMIT: Duration = Duration::from_secs(8);

/// A registrar between one Docker and one registry, with a state of its own.
pub(crate) struct Registrar {
    _state: TempDir,
    args: Vec<String>,
    program: Program,
}

impl Registrar {
    /// Starts one; `args` are added.
    pub(crate) fn start(registry: &Registry, dockerd: &Dockerd, args: &[&str]) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let (url, host, path) = (registry.url(), dockerd.host(), state.path().display().to_string());
        let mut all = vec!["--registry", &url, "--docker", &host, "--state-dir", &path];
        all.extend(args);
        let args: Vec<_> = all.into_iter().map(str::to_owned).collect();
        let program = Launch::ours("registrar").args(&args).start();
        Self { _state: state, args, program }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Its next life, with the state of the one before.
    pub(crate) fn start_again(&mut self) {
        self.program = Launch::ours("registrar").args(&self.args).start();
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.program.is_running()
    }

    pub(crate) fn log(&self) -> String {
        self.program.log()
    }
}

/// A proxy, and the templater that keeps its configuration.
pub(crate) struct Front<'a> {
    pub(crate) site: Site,
    templater: Program,
    _process: Option<Program>,
    _container: Option<Container<'a>>,
}

impl<'a> Front<'a> {
    /// The proxy as a process of this machine.
    pub(crate) async fn process(kind: Kind, registry: &Registry) -> Self {
        let site = Self::first_config(kind, registry).await;
        let process = site.start().await;
        let templater = site.templater(&registry.url()).start();
        Self { site, templater, _process: Some(process), _container: None }
    }

    /// HAProxy as a container.
    pub(crate) async fn container(registry: &Registry, dockerd: &'a Dockerd) -> Self {
        let site = Self::first_config(Kind::Haproxy, registry).await;
        let container = site.start_container(dockerd).await;
        let templater = site.templater(&registry.url()).env("DOCKER_HOST", dockerd.host()).start();
        Self { site, templater, _process: None, _container: Some(container) }
    }

    pub(crate) fn templater(&mut self) -> &mut Program {
        &mut self.templater
    }

    /// A proxy does not start without a configuration, so its first one is made as a person would make it.
    async fn first_config(kind: Kind, registry: &Registry) -> Site {
        let site = Site::new(kind);
        let once = site.templater(&registry.url()).args(["--once"]).run(Duration::from_secs(20)).await;
        once.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
        site
    }
}

/// One name, and everybody who gives an answer about it.
pub(crate) struct View<'a> {
    pub(crate) service: &'static str,
    pub(crate) registry: &'a Registry,
    pub(crate) fronts: &'a [&'a Site],
}

impl View<'_> {
    /// Waits until the catalog, DNS and each proxy know exactly the `wanted` containers, and tells how long it took.
    ///
    /// # Panics
    /// If they do not within [`AGREE_LIMIT`].
    pub(crate) async fn agrees(&self, step: &str, wanted: &[&Container<'_>]) {
        let mut want = Wanted::default();
        for container in wanted {
            // One that Docker starts again by itself needs its moment.
            let port = eventually!("its port is published", AGREE_LIMIT, container.try_port());
            want.ports.insert(port);
            want.ids.insert(container.short().to_owned());
        }
        let start = Instant::now();
        let all = poll(step, AGREE_LIMIT, async || {
            self.catalog(&want).await?;
            self.dns(&want).await?;
            for site in self.fronts {
                behind(site, &want).await?;
            }
            Ok::<_, String>(())
        });
        all.await.unwrap_or_else(|e| panic!("{e}"));
        println!("  {step}: all agree on {} after {} ms", want.ids.len(), start.elapsed().as_millis());
    }

    async fn catalog(&self, want: &Wanted) -> Result<(), String> {
        let read = self.registry.client.health_service(self.service, true, None).await;
        let found = read.map_err(|e| e.to_string())?.value;
        let ports: BTreeSet<_> = found.iter().map(|e| e.service.port).collect();
        same("the catalog's passing ports", &ports, &want.ports)?;
        if found.len() == ports.len() { Ok(()) } else { Err("an instance is there twice".into()) }
    }

    async fn dns(&self, want: &Wanted) -> Result<(), String> {
        let name = format!("{}.service.consul", self.service);
        let srv = dig(self.registry.dns_port(), &name, "SRV", &[]).await?;
        // PRIORITY WEIGHT PORT TARGET
        let ports = srv.records.iter().filter_map(|r| r.split(' ').nth(2)?.parse().ok()).collect();
        same("DNS's SRV ports", &ports, &want.ports)?;
        let a = dig(self.registry.dns_port(), &name, "A", &["+tcp"]).await?;
        let (status, addresses): (_, &[&str]) =
            if want.ids.is_empty() { ("NXDOMAIN", &[]) } else { ("NOERROR", &["127.0.0.1"]) };
        same("DNS's A records", &a.records, &addresses.iter().map(ToString::to_string).collect())?;
        same("DNS's status", &a.status, &status.to_owned())
    }
}

/// Who must be found, and nobody else.
#[derive(Debug, Default)]
struct Wanted {
    ids: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

/// Asks a proxy often enough that everybody has their turn.
async fn behind(site: &Site, want: &Wanted) -> Result<(), String> {
    let kind = site.kind;
    if want.ids.is_empty() {
        let answer = web::ask(reqwest::Method::GET, &site.url()).await?;
        let nobody = matches!(answer.status, 502 | 503);
        return if nobody { Ok(()) } else { Err(format!("behind {kind:?} somebody answers: {answer:?}")) };
    }
    let found = web::who_answers(&site.url(), 3 * want.ids.len()).await?;
    same(&format!("those behind {kind:?}"), &found.into_iter().map(|h| h.id).collect(), &want.ids)
}

/// For `eventually!`.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, want: &T) -> Result<(), String> {
    if found == want { Ok(()) } else { Err(format!("{what} are {found:?}, not {want:?}")) }
}
