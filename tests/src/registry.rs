//! A running `kvstore agent`, that can be killed and started again on the same ports.
//!
//! It refuses what a genuine Consul does not have, unless a story is about just that: so every story also shows that our
//! programs, and those of others, need no extension.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kvstore_client::{Client, ClientConfig};
use tempfile::TempDir;

use crate::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
};

/// A start, and a recovery, take less.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A registry of a story's own.
pub struct Registry {
    http: u16,
    dns: u16,
    /// Given beside the usual arguments.
    args: Vec<String>,
    data: Option<PathBuf>,
    /// Taken away with it.
    _temporary: Option<TempDir>,
    program: Option<Program>,
    /// Talks to it.
    pub client: Client,
}

impl Registry {
    /// Starts one that keeps nothing.
    pub async fn in_memory() -> Self {
        Self::start(None, None, &["--strict-consul"]).await
    }

    /// Starts one that keeps nothing and has our extensions, with these arguments.
    pub async fn beyond_consul(args: &[&str]) -> Self {
        Self::start(None, None, args).await
    }

    /// Starts one that keeps nothing, with this in its configuration file.
    ///
    /// # Panics
    /// If there is no place for the file.
    pub async fn configured(yaml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let file = dir.path().join("kvstore.yaml");
        std::fs::write(&file, yaml).expect("it can be written");
        Self::start(None, Some(dir), &["--strict-consul", "--config", &file.display().to_string()]).await
    }

    /// Starts one that keeps its data.
    ///
    /// # Panics
    /// If there is no place for them.
    pub async fn on_disk() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::start(Some(dir.path().to_owned()), Some(dir), &["--strict-consul"]).await
    }

    /// Starts one that keeps its data and has our extensions.
    ///
    /// # Panics
    /// If there is no place for them.
    pub async fn on_disk_beyond_consul() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::start(Some(dir.path().to_owned()), Some(dir), &[]).await
    }

    /// Starts a replica of `hub` that keeps its copy.
    ///
    /// # Panics
    /// If there is no place for it.
    pub async fn replica_of(hub: &Self) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::start(Some(dir.path().to_owned()), Some(dir), &["--replica-of", &hub.url()]).await
    }

    /// Starts one that keeps its data in a folder of the caller's.
    pub async fn on_disk_in(dir: &Path) -> Self {
        Self::start(Some(dir.to_owned()), None, &["--strict-consul"]).await
    }

    async fn start(data: Option<PathBuf>, temporary: Option<TempDir>, args: &[&str]) -> Self {
        let (http, dns) = (free_port(), free_port());
        let addresses = vec![format!("http://127.0.0.1:{http}")];
        let config = ClientConfig { addresses, timeout: Duration::from_secs(5), ..ClientConfig::default() };
        let client = Client::new(&config).expect("the address is well formed");
        let args = args.iter().map(ToString::to_string).collect();
        let mut registry = Self { http, dns, args, data, _temporary: temporary, program: None, client };
        registry.start_again().await;
        registry
    }

    /// Starts it, on the same ports and data, after it was killed or stopped.
    pub async fn start_again(&mut self) {
        let address = |port| format!("127.0.0.1:{port}");
        let mut launch = Launch::ours("kvstore").args(["agent", "--node", "test"]).args(&self.args);
        launch = launch.args(["--http-addr", &address(self.http), "--dns-addr", &address(self.dns)]);
        launch = match &self.data {
            Some(dir) => launch.args([Path::new("--data-dir"), dir]),
            None => launch.args(["--dev"]),
        };
        self.program = Some(launch.start());
        self.ready().await;
    }

    async fn ready(&mut self) {
        let program = self.program.as_mut().expect("it was just started");
        eventually!("the registry answers", START_LIMIT, async {
            assert!(program.is_running(), "the registry ended at once:\n{}", program.log());
            match self.client.leader().await {
                Ok(leader) if leader.is_empty() => Err("no leader".to_owned()),
                Ok(_) => Ok(()),
                Err(e) => Err(e.to_string()),
            }
        });
    }

    /// Its HTTP address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Its DNS port, on 127.0.0.1.
    pub fn dns_port(&self) -> u16 {
        self.dns
    }

    /// Where it answers DNS.
    pub fn dns(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.dns).into()
    }

    /// Where it keeps its data, if it does.
    pub fn data_dir(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// The running program.
    ///
    /// # Panics
    /// If it was killed or stopped.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("it runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.program().kill();
        self.program = None;
    }
}
