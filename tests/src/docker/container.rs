//! The containers and networks that stories make in a daemon.

use std::process::{self, Command};

use nix::sys::signal::Signal;

use super::Dockerd;

/// A network that was made for a story; dropping it removes it, so containers on it go first.
pub struct Network<'a> {
    pub(super) dockerd: &'a Dockerd,
    /// Its name.
    pub name: String,
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("docker");
        command.args(["network", "rm", &self.name]).env("DOCKER_HOST", self.dockerd.host());
        let _ = command.stdin(process::Stdio::null()).output();
    }
}

/// A container; dropping it removes it.
pub struct Container<'a> {
    pub(super) dockerd: &'a Dockerd,
    /// The whole id.
    pub id: String,
}

impl Container<'_> {
    /// The first 12 characters of its id: the name that it has for itself.
    pub fn short(&self) -> &str {
        &self.id[..12]
    }

    /// The host's port that leads to its port 8080.
    ///
    /// # Errors
    /// If it is not published: it does not run, or was not asked to.
    pub async fn try_port(&self) -> Result<u16, String> {
        let out = self.dockerd.try_docker(&["port", &self.id, "8080/tcp"]).await.ok()?;
        let first = out.lines().next().unwrap_or_default();
        first.rsplit(':').next().and_then(|p| p.parse().ok()).ok_or_else(|| format!("no port in {out:?}"))
    }

    /// The host's port that leads to its port 8080.
    ///
    /// # Panics
    /// If it is not published.
    pub async fn port(&self) -> u16 {
        self.try_port().await.unwrap_or_else(|e| panic!("container {}: {e}", self.short()))
    }

    /// Its address on Docker's default bridge.
    pub async fn address(&self) -> String {
        let address = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
        self.dockerd.docker(&["inspect", "--format", address, &self.id]).await
    }

    /// `docker exec`: what a program inside prints, without the last line break.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub async fn exec(&self, command: &[&str]) -> Result<String, String> {
        let args = [&["exec", &self.id], command].concat();
        Ok(self.dockerd.try_docker(&args).await.ok()?.trim_end().to_owned())
    }

    /// What curl in it gets from there.
    ///
    /// # Errors
    /// If that is no good answer, or does not come soon.
    pub async fn curl(&self, url: &str) -> Result<String, String> {
        self.exec(&["curl", "--silent", "--show-error", "--fail", "--max-time", "3", url]).await
    }

    /// `docker stop`: asks it to end, and waits for that.
    pub async fn stop(&self) {
        self.dockerd.docker(&["stop", &self.id]).await;
    }

    /// `docker kill --signal`.
    pub async fn signal(&self, signal: Signal) {
        self.dockerd.docker(&["kill", "--signal", signal.as_str(), &self.id]).await;
    }

    /// `docker rm --force`.
    pub async fn remove(self) {
        self.dockerd.docker(&["rm", "--force", &self.id]).await;
    }

    /// What it has printed.
    pub async fn logs(&self) -> String {
        let ran = self.dockerd.try_docker(&["logs", &self.id]).await;
        ran.out + &ran.err
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // It may be gone, and so may its daemon: then there is nothing to remove.
        let mut command = Command::new("docker");
        command.args(["rm", "--force", "--volumes", &self.id]).env("DOCKER_HOST", self.dockerd.host());
        let _ = command.stdin(process::Stdio::null()).output();
    }
}
