//! One host: a Docker, a registry, and the registrar between them.

use std::{
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use flotilla_tests::fake_docker::FakeDocker;
use registrar::config::{Config, Settings};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

/// Longest wait for anything, on a machine that has much else to do.
const LIMIT: Duration = Duration::from_mins(1);
/// So long nothing is written when nothing is left to do.
const QUIET: Duration = Duration::from_millis(400);

pub(crate) struct Host {
    pub(crate) docker: FakeDocker,
    pub(crate) registry: Registry,
    pub(crate) dir: TempDir,
    registrar: Option<Registrar>,
}

/// A running registrar, in a runtime of its own so that it can crash.
pub(crate) struct Registrar {
    stop: CancellationToken,
    crash: CancellationToken,
    thread: JoinHandle<()>,
}

impl Registrar {
    pub(crate) fn start(config: Config) -> Self {
        let (stop, crash) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, crashed) = (stop.clone(), crash.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    result = registrar::run(config, stopped) => result.unwrap(),
                    () = crashed.cancelled() => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { stop, crash, thread }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }

    /// Ends it between two instructions.
    pub(crate) fn crash(self) {
        self.crash.cancel();
        self.thread.join().unwrap();
    }
}

impl Host {
    /// Docker and registry, and no registrar yet.
    pub(crate) fn new() -> Self {
        Self::with(Registry::start())
    }

    /// The same with another registry.
    pub(crate) fn with(registry: Registry) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { docker: FakeDocker::start(dir.path()), registry, dir, registrar: None }
    }

    /// With a registrar that has seen everything.
    pub(crate) fn started() -> Self {
        let mut host = Self::new();
        host.start(|_| ());
        host
    }

    pub(crate) fn settings(&self, state_dir: &Path) -> Settings {
        Settings {
            registry: vec![self.registry.address()],
            docker: Some(self.docker.address()),
            state_dir: Some(state_dir.to_owned()),
            ip: vec!["10.0.0.1".into()],
            ..Settings::default()
        }
    }

    pub(crate) fn start(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings(&self.dir.path().join("state"));
        change(&mut settings);
        let lists = self.docker.listed();
        self.registrar = Some(Registrar::start(Config::new(settings, None).unwrap()));
        if self.docker_answers() {
            let follows = || self.docker.is_listened_to() && self.docker.listed() > lists;
            eventually("the registrar follows Docker", follows);
        }
    }

    /// The configuration of another run of the program on this host.
    pub(crate) fn config(&self) -> Config {
        Config::new(self.settings(&self.dir.path().join("state")), None).unwrap()
    }

    fn docker_answers(&self) -> bool {
        self.dir.path().join("docker.sock").exists()
    }

    pub(crate) fn stop(&mut self) {
        self.registrar.take().unwrap().stop();
    }

    pub(crate) fn crash(&mut self) {
        self.registrar.take().unwrap().crash();
    }

    /// Starts `name` and waits until it is registered.
    pub(crate) fn run(&self, name: &str, port: u16) {
        self.docker.run(name, port, &json!({}));
        self.has(&[name]);
    }

    /// Waits until exactly the instances of these containers are registered.
    pub(crate) fn has(&self, names: &[&str]) {
        let mut ids: Vec<_> = names.iter().map(|name| format!("vm:{name}:80")).collect();
        ids.sort();
        eventually_equal(&format!("{names:?} and no other"), || (self.registry.ids(), ids.clone()));
    }

    /// Waits until the instance of `name` is in the registry among others.
    pub(crate) fn knows(&self, name: &str) {
        let id = format!("vm:{name}:80");
        eventually(&format!("{id} is registered"), || self.registry.service(&id).is_some());
    }

    /// Waits until nothing is written any more.
    pub(crate) fn settles(&self) {
        let is_quiet = || self.registry.writes().last().is_none_or(|(time, _)| time.elapsed() > QUIET);
        eventually("nothing is written any more", is_quiet);
    }

    /// Nothing is written for a while.
    pub(crate) fn stays_quiet(&self) {
        self.registry.forget_writes();
        std::thread::sleep(QUIET);
        let writes: Vec<_> = self.registry.writes().into_iter().map(|(_, write)| write).collect();
        assert!(writes.is_empty(), "{writes:#?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(registrar) = self.registrar.take() {
            registrar.crash();
        }
    }
}

/// Runs a command of the program.
pub(crate) fn command<T>(command: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(command)
}

/// Waits until `holds`; how long that took.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

pub(crate) fn eventually_equal<T: PartialEq + std::fmt::Debug>(what: &str, pair: impl Fn() -> (T, T)) {
    let start = Instant::now();
    loop {
        let (got, expected) = pair();
        if got == expected {
            return;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}\n got {got:?}\nwant {expected:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
