//! Real members of an etcd, each on a host of its own.

use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Bed;
use crate::{
    eventually,
    program::{Launch, Program},
    wait::poll,
    web,
};

/// Members find each other in less.
const START_LIMIT: Duration = Duration::from_secs(30);

/// An etcd.
pub struct Cluster {
    /// Its members, in the order of their hosts.
    pub members: Vec<Member>,
}

/// One of its members.
pub struct Member {
    /// The host it is on, counted from 0.
    pub host: usize,
    peers: String,
    dir: TempDir,
    program: Option<Program>,
}

impl Cluster {
    /// Starts one with a member on each of these hosts, and waits until all of them serve.
    pub async fn start(bed: &Bed, hosts: &[usize]) -> Self {
        let peer = |&host: &usize| format!("{}=http://{}:2380", bed.host(host).name, bed.host(host).address);
        let peers = hosts.iter().map(peer).collect::<Vec<_>>().join(",");
        let member = |&host: &usize| Member { host, peers: peers.clone(), dir: bed.host(host).disk(), program: None };
        let mut cluster = Self { members: hosts.iter().map(member).collect() };
        for member in &mut cluster.members {
            member.start_again(bed);
        }
        cluster.ready(bed).await;
        cluster
    }

    /// Waits until every member serves.
    pub async fn ready(&self, bed: &Bed) {
        for member in &self.members {
            eventually!(format!("etcd on host {} serves", member.host), START_LIMIT, member.serves(bed));
        }
    }

    /// The address that a kvstore on this host is given: the member on the same host before the others.
    pub fn engine(&self, bed: &Bed, host: usize) -> String {
        let mut hosts: Vec<_> = self.members.iter().map(|member| member.host).collect();
        hosts.sort_by_key(|member| (*member != host, *member));
        let members: Vec<_> = hosts.iter().map(|&host| format!("{}:2379", bed.host(host).address)).collect();
        format!("etcd://{}", members.join(","))
    }

    /// Has this member lead, which must run.
    pub async fn lead(&self, bed: &Bed, number: usize) {
        let member = &self.members[number];
        let leads = async || {
            let leader = self.leader(bed).await;
            if leader == number {
                return Ok(());
            }
            let status: serde_json::Value = decoded(&member.ask(bed, "/v3/maintenance/status", "{}").await?)?;
            let target = serde_json::json!({"targetID": status["header"]["member_id"]}).to_string();
            // Only the leader can hand it over.
            let answer = self.members[leader].ask(bed, "/v3/maintenance/transfer-leadership", &target).await?;
            Err(format!("member {leader} leads, and answers {answer}"))
        };
        poll("a member that leads", START_LIMIT, leads).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The number of the member that leads, once those that run agree on one.
    pub async fn leader(&self, bed: &Bed) -> usize {
        let seen = async || {
            let mut leaders = Vec::new();
            let mut ids = Vec::new();
            for member in self.members.iter().filter(|member| member.program.is_some()) {
                let status: serde_json::Value = decoded(&member.ask(bed, "/v3/maintenance/status", "{}").await?)?;
                ids.push((member.host, status["header"]["member_id"].clone()));
                leaders.push(status["leader"].clone());
            }
            let first = leaders.first().filter(|first| leaders.iter().all(|other| other == *first));
            let leads = first.and_then(|first| ids.iter().find(|(_, id)| id == first));
            leads.map(|(host, _)| *host).ok_or_else(|| format!("{leaders:?} lead {ids:?}"))
        };
        let host = poll("a leader of etcd", START_LIMIT, seen).await.unwrap_or_else(|error| panic!("{error}"));
        self.members.iter().position(|member| member.host == host).expect("it is one of them")
    }
}

fn decoded(answer: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(answer).map_err(|error| format!("{error}: {answer}"))
}

impl Member {
    /// Starts it on what it keeps; waits for nothing.
    pub fn start_again(&mut self, bed: &Bed) {
        let host = bed.host(self.host);
        let [client, peer] = [2379, 2380].map(|port| format!("http://{}:{port}", host.address));
        let launch = Launch::new("etcd").args(["--name", &host.name, "--logger", "zap", "--data-dir"]);
        let launch = launch.args([self.dir.path()]).args(["--initial-cluster", &self.peers]);
        let launch = launch.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        let launch = launch.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        self.program = Some(host.start(launch));
    }

    /// Whether it answers what it can only with a majority.
    ///
    /// # Errors
    /// What it says in place of that.
    pub async fn serves(&self, bed: &Bed) -> Result<(), String> {
        let url = format!("http://{}:2379/health", bed.host(self.host).address);
        let health = bed.host(self.host).run(async move { web::get(&url).await }).await?;
        if health.contains("\"true\"") { Ok(()) } else { Err(health) }
    }

    async fn ask(&self, bed: &Bed, path: &str, body: &str) -> Result<String, String> {
        let (url, body) = (format!("http://{}:2379{path}", bed.host(self.host).address), body.to_owned());
        let asked = async move { web::send(reqwest::Method::POST, &url, body).await };
        bed.host(self.host).run(asked).await.map(|answer| answer.body)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Starts it again if it has ended by itself; whether it had. One that was killed stays dead.
    pub fn supervise(&mut self, bed: &Bed) -> bool {
        let ended = self.program.as_mut().is_some_and(|program| !program.is_running());
        if ended {
            self.start_again(bed);
        }
        ended
    }

    /// Leaves no room on its disk.
    pub fn fill(&self, bed: &Bed) {
        bed.host(self.host).fill(self.dir.path());
    }

    /// Gives the room back.
    pub fn clear(&self, bed: &Bed) {
        bed.host(self.host).clear(self.dir.path());
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
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
