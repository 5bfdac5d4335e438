//! The overlay of a host: its daemon, with its secret and its state in a directory of its own, and its commands.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    docker::Dockerd,
    program::{Launch, Program},
};

/// No command takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_mins(1);

/// A new secret, for the hosts of one mesh.
pub async fn secret() -> String {
    Launch::ours("overlay").args(["secret", "new"]).run(LIMIT).await.ok().expect("a secret")
}

/// The overlay of a host, running or not.
pub struct Overlay {
    dir: TempDir,
    args: Vec<String>,
    /// The driver that it is for Docker, if that has a name of its own.
    driver: Option<String>,
    has_docker: bool,
    program: Option<Program>,
}

impl Overlay {
    /// The host of this name in the mesh of a secret; `args` are added to those of `overlay up`. It does not run yet.
    pub fn new(name: &str, secret: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(dir.path().join("secret"), secret).expect("our own directory");
        fs::set_permissions(dir.path().join("secret"), Permissions::from_mode(0o600)).expect("our own file");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let files = [("--secret-file", "secret"), ("--state-dir", "state"), ("--socket", "socket")];
        let mut all = vec!["up".to_owned(), "--name".to_owned(), name.to_owned()];
        all.extend(files.into_iter().flat_map(|(option, name)| [option.to_owned(), path(name)]));
        all.extend(args.iter().map(ToString::to_string));
        Self { dir, args: all, driver: None, has_docker: false, program: None }
    }

    /// The same with a Docker, for which it is the driver `driver`, or `flotilla`: all Dockers that see the same directory of
    /// plugins look for drivers there.
    #[must_use]
    pub fn with_docker(mut self, docker: &Dockerd, driver: Option<&str>) -> Self {
        self.args.extend(["--docker".to_owned(), docker.host()]);
        if let Some(driver) = driver {
            self.args.extend(["--plugin-socket".to_owned(), plugin_socket(driver).display().to_string()]);
        }
        (self.driver, self.has_docker) = (driver.map(str::to_owned), true);
        self
    }

    /// Starts it, by `run` where it is to be, after it was made or killed.
    pub async fn start(&mut self, run: impl FnOnce(Launch) -> Program) {
        let program = self.program.insert(run(Launch::ours("overlay").args(&self.args)));
        if self.has_docker {
            program.wait_for_log("Docker's driver of networks is at", LIMIT).await;
        }
    }

    /// `overlay ARGS`; what it prints.
    ///
    /// # Errors
    /// What it says where it fails.
    pub async fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let socket = self.dir.path().join("socket");
        Launch::ours("overlay").args(args).args(["--socket".as_ref(), socket.as_os_str()]).run(LIMIT).await.ok()
    }

    /// The same.
    ///
    /// # Panics
    /// If it fails.
    pub async fn run(&self, args: &[&str]) -> String {
        self.try_run(args).await.unwrap_or_else(|e| panic!("overlay {args:?}: {e}\n{}", self.log()))
    }

    /// What `overlay ARGS --json` prints.
    ///
    /// # Panics
    /// If it fails, or prints something else.
    pub async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["--json"]].concat()).await).expect("JSON")
    }

    /// The running daemon.
    ///
    /// # Panics
    /// If it does not run.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("it runs")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        self.program.as_ref().map(Program::log).unwrap_or_default()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        self.program = None;
        if let Some(driver) = &self.driver {
            let _ = fs::remove_file(plugin_socket(driver));
        }
    }
}

fn plugin_socket(driver: &str) -> PathBuf {
    format!("/run/docker/plugins/{driver}.sock").into()
}
