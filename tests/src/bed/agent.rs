//! A `kvstore agent` on a host of the bed, as its service manager keeps it: when it ends, it is started again.

use std::{net::SocketAddr, time::Duration};

use kvstore_client::{Client, ClientConfig};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Bed;
use crate::{
    eventually,
    program::{Launch, Program},
};

/// A start, and a recovery, take less.
const START_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub struct Agent {
    /// The host it is on, counted from 0.
    pub host: usize,
    /// Talks to it, from its host.
    pub client: Client,
    engine: String,
    env: Vec<(&'static str, String)>,
    dir: TempDir,
    address: SocketAddr,
    program: Option<Program>,
}

impl Agent {
    /// Starts one with this `--engine`, on the usual ports of all of the host's addresses.
    pub async fn start(bed: &Bed, host: usize, engine: &str) -> Self {
        Self::start_in(bed, host, engine, &[]).await
    }

    /// The same, with these variables in its environment.
    pub async fn start_in(bed: &Bed, host: usize, engine: &str, env: &[(&'static str, String)]) -> Self {
        let dir = bed.host(host).disk();
        let (address, client) = reach(bed, host);
        let mut agent =
            Self { host, client, engine: engine.to_owned(), env: env.to_vec(), dir, address, program: None };
        agent.start_again(bed).await;
        agent
    }

    /// Starts it on what it keeps, at the address that its host has now, and waits until it answers.
    pub async fn start_again(&mut self, bed: &Bed) {
        self.begin(bed);
        self.ready(bed).await;
    }

    /// Starts it and waits for nothing.
    pub fn begin(&mut self, bed: &Bed) {
        (self.address, self.client) = reach(bed, self.host);
        let host = bed.host(self.host);
        let launch = Launch::ours("kvstore").args(["agent", "--node", &host.name, "--engine", &self.engine]);
        let launch = launch.args(["--bind", &host.address.to_string(), "--data-dir"]).args([self.dir.path()]);
        let launch = self.env.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        self.program = Some(host.start(launch.args(["--http-addr", "0.0.0.0:8500", "--dns-addr", "0.0.0.0:53"])));
    }

    /// Waits until it answers.
    pub async fn ready(&mut self, bed: &Bed) {
        let program = self.program.as_mut().expect("it was started");
        eventually!("the agent answers", START_LIMIT, async {
            assert!(program.is_running(), "the agent ended:\n{}", program.log());
            let client = self.client.clone();
            let leader = bed.host(self.host).run(async move { client.leader().await }).await;
            let leader = leader.map_err(|error| error.to_string())?;
            if leader.is_empty() { Err("no leader".to_owned()) } else { Ok(()) }
        });
    }

    /// Starts it again if it has ended by itself; whether it had. One that was killed stays dead.
    pub fn supervise(&mut self, bed: &Bed) -> bool {
        let ended = self.program.as_mut().is_some_and(|program| !program.is_running());
        if ended {
            self.begin(bed);
        }
        ended
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.program.is_none()
    }

    /// Sends it a signal, if it was not killed.
    pub fn signal(&self, signal: Signal) {
        if let Some(program) = &self.program {
            program.signal(signal);
        }
    }

    /// Leaves no room on its disk.
    pub fn fill(&self, bed: &Bed) {
        bed.host(self.host).fill(self.dir.path());
    }

    /// Gives the room back.
    pub fn clear(&self, bed: &Bed) {
        bed.host(self.host).clear(self.dir.path());
    }

    /// What it has printed since it was started last.
    pub fn log(&self) -> String {
        self.program.as_ref().map(Program::log).unwrap_or_default()
    }

    /// Its HTTP address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it answers DNS.
    pub fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), 53)
    }
}

fn reach(bed: &Bed, host: usize) -> (SocketAddr, Client) {
    let address = SocketAddr::new(bed.host(host).address.into(), 8500);
    let addresses = vec![format!("http://{address}")];
    let config = ClientConfig { addresses, timeout: Duration::from_secs(5), ..ClientConfig::default() };
    (address, Client::new(&config).expect("the address is well formed"))
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that is frozen would not hear that it is to end. Its log is shown by a panic nevertheless.
        if let Some(program) = &mut self.program {
            program.kill();
        }
    }
}
