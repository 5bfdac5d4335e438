//! A registry, a directory, and templaters in it.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::registry::Registry;

/// A template: a line for each instance of `web`.
pub(crate) const LIST: &str = "{% for s in service(name='web') %}{{ s.id }}={{ s.address }}:{{ s.port }}\n{% endfor %}";
/// The same in one line, ids alone, with quotes that may stand within those of YAML.
pub(crate) const LIST_ONE_LINE: &str = "{% for s in service(name=\"web\") %}{{ s.id }}{% endfor %}";
/// More than any machine needs; only a failure waits so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) registry: Registry,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), registry: Registry::start().await }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_templater"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("CONSUL_HTTP_ADDR", self.registry.url())
            .env_remove("CONSUL_HTTP_TOKEN")
            .env_remove("CONSUL_HTTP_TOKEN_FILE")
            .env_remove("DOCKER_HOST");
        command
    }

    /// Starts a templater; its log goes to `log` beside the files.
    pub(crate) fn start(&self, args: &[&str]) -> Templater {
        Templater::start(&mut self.command(args), self)
    }

    /// Renders this template once.
    pub(crate) fn once(&self, template: &str) {
        let status = tokio::task::block_in_place(|| self.command(&["--once", "-t", template]).status().unwrap());
        assert!(status.success(), "{template}");
    }

    pub(crate) async fn wait(&self, what: &str, until: impl Fn() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < SOON, "{what}: not within {SOON:?}\n{}", self.read("log"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn wait_for(&self, name: &str, text: &str) {
        self.wait(&format!("{name} is {text:?}"), || self.read(name) == text).await;
    }

    pub(crate) async fn wait_for_log(&self, words: &str) {
        self.wait(&format!("the log has {words:?}"), || self.read("log").contains(words)).await;
    }

    pub(crate) fn log_count(&self, words: &str) -> usize {
        self.read("log").matches(words).count()
    }
}

/// Killed when dropped.
pub(crate) struct Templater {
    pub(crate) child: Child,
}

impl Templater {
    pub(crate) fn start(command: &mut Command, place: &Place) -> Self {
        let log = File::options().create(true).append(true).open(place.at("log")).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < SOON, "the templater does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Templater {
    /// First asked to end, so that a failed test leaves no program of `--exec` behind.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
