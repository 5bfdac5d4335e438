//! iperf3 and ping through a tunnel.

use std::{
    fmt,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::kinds::Up;
use crate::cpu;

/// One run of iperf3.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) gbits: f64,
    retransmits: u64,
    /// Cores that the tunnel's two programs kept busy.
    cores: f64,
    /// Seconds of a core for each gigabyte.
    per_gigabyte: f64,
}

impl Run {
    pub(super) fn cores_per_gbit(&self) -> f64 {
        self.cores / self.gbits
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Gbit/s ({} retransmits", self.gbits, self.retransmits)?;
        if self.cores > 0.0 {
            write!(f, ", {:.2} s/GB, {:.2} cores a Gbit/s", self.per_gigabyte, self.cores_per_gbit())?;
        }
        f.write_str(")")
    }
}

const PORT: &str = "5201";
const START_LIMIT: Duration = Duration::from_secs(5);

/// So many TCP streams at once, for so many seconds.
pub(super) fn stream(up: &Up, streams: u32, seconds: u32) -> Run {
    let mut server = serve(up);
    let before: Duration = up.cpu();
    let start = Instant::now();
    let output = client(up, streams, seconds).arg("-J").output().expect("iperf3 can be run");
    let (wall, used) = (start.elapsed(), up.cpu().saturating_sub(before));
    server.end();
    let result: Value = serde_json::from_slice(&output.stdout).expect("iperf3 -J prints JSON");
    let end = &result["end"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{}: iperf3: {result}", up.kind.name()));
    let bytes = number(&end["sum_received"]["bytes"]);
    Run {
        gbits: number(&end["sum_received"]["bits_per_second"]) / 1e9,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        cores: used.as_secs_f64() / wall.as_secs_f64(),
        per_gigabyte: used.as_secs_f64() / (bytes / 1e9),
    }
}

/// A stream that is to be measured beside; it ends by itself.
pub(super) fn load(up: &Up, seconds: u32) -> Running {
    let server = serve(up);
    let client = client(up, 1, seconds).stdout(Stdio::null()).spawn().expect("iperf3 can be run");
    // Past its slow start.
    sleep(Duration::from_millis(500));
    Running(vec![client, server.0.into_iter().next().expect("one")])
}

/// Programs that are to end.
pub(super) struct Running(Vec<Child>);

impl Running {
    pub(super) fn end(&mut self) {
        // The client by itself, which ends the server too; else not at all.
        let end = Instant::now() + START_LIMIT;
        for child in &mut self.0 {
            while child.try_wait().expect("it is ours").is_none() && Instant::now() < end {
                sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn serve(up: &Up) -> Running {
    let server = up.command(2, "iperf3").args(["-s", "-1", "-p", PORT]).stdout(Stdio::null()).spawn();
    let end = Instant::now() + START_LIMIT;
    let listens = || {
        let sockets = up.command(2, "ss").args(["-Hltn", "sport", "=", PORT]).output().expect("ss can be run").stdout;
        !sockets.is_empty()
    };
    while !listens() {
        assert!(Instant::now() < end, "iperf3 does not listen");
        sleep(Duration::from_millis(10));
    }
    Running(vec![server.expect("iperf3 can be run")])
}

fn client(up: &Up, streams: u32, seconds: u32) -> Command {
    let mut client = up.command(1, "iperf3");
    client.args(["-c", &up.target, "-p", PORT, "-P", &streams.to_string(), "-t", &seconds.to_string()]);
    client
}

/// Round trips of so many pings, one each `interval` seconds.
pub(super) fn pings(up: &Up, count: u32, interval: &str) -> Vec<Duration> {
    let mut ping = up.command(1, "ping");
    let output =
        ping.args(["-n", "-c", &count.to_string(), "-i", interval, &up.target]).output().expect("ping can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let times: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok())
        .map(|ms: f64| Duration::from_secs_f64(ms / 1000.0))
        .collect();
    assert!(!times.is_empty(), "{}: no ping came back: {text}", up.kind.name());
    times
}

impl Up {
    /// What the tunnel's programs used so far.
    fn cpu(&self) -> Duration {
        self.pids().into_iter().map(cpu::of).sum()
    }
}
