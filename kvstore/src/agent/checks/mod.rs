//! Carries out one run of one probe, whatever its kind, within its timeout.

mod http;
pub(super) mod schedule;
mod script;
mod tail;
mod tcp;
mod udp;

use std::{error::Error, io, time::Duration};

use kvstore_core::{
    health::Status,
    row::{Probe, ProbeKind},
};
use tokio::sync::Semaphore;

/// The longest output kept of a run.
pub(super) const MAX_OUTPUT_BYTES: usize = 4096;

/// Probes under way at once. One more waits for its turn, so that a host with thousands of checks of dead addresses
/// neither runs out of file descriptors nor calls the healthy ones critical for want of one.
const MAX_RUNNING: usize = 512;

/// Consul's words for a check that may not be.
pub(super) const SCRIPTS_DISABLED: &str = "Scripts are disabled on this agent from remote calls; to enable, configure \
                                           'enable_script_checks' to true";

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The state of the thing probed, and what it says.
    Found { status: Status, output: String },
    /// This host could not even try; nothing is known of the thing probed.
    NotTried(String),
}

/// Shared by all probes of the host.
#[derive(Debug)]
pub(super) struct Prober {
    http: http::Clients,
    running: Semaphore,
    /// Whether programs may be run.
    scripts: bool,
}

impl Prober {
    /// # Errors
    /// Why there can be no HTTP client.
    pub(super) fn new(scripts: bool) -> Result<Self, reqwest::Error> {
        Ok(Self { http: http::Clients::new()?, running: Semaphore::new(MAX_RUNNING), scripts })
    }

    /// Runs `probe` once; ends within its timeout once it has its turn.
    pub(super) async fn run(&self, probe: &Probe) -> Finding {
        let _turn = self.running.acquire().await.expect("the semaphore is never closed");
        let within = probe.timeout;
        let max = probe.output_max_bytes.map_or(MAX_OUTPUT_BYTES, |max| MAX_OUTPUT_BYTES.min(max as usize));
        let finding = match &probe.kind {
            ProbeKind::Http { url, method, .. } => {
                let what = format!("HTTP {method} {}", http::without_password(url));
                self.http.probe(&probe.kind, &what, within).await
            }
            ProbeKind::Tcp { address, .. } => tcp::probe(address, &format!("TCP connect {address}"), within).await,
            ProbeKind::Udp { address } => udp::probe(address, &format!("UDP connect {address}"), within).await,
            // They may have been allowed when the check was registered.
            ProbeKind::Script { .. } | ProbeKind::Docker { .. } if !self.scripts => {
                return found(Status::Critical, SCRIPTS_DISABLED.into());
            }
            // Bounded already, with a word on what is missing.
            ProbeKind::Script { args } => return script::probe(args, max, within).await,
            ProbeKind::OsService { name } => critical(
                &format!("OS service {name}"),
                "unsupported: services of the host's system are not watched here",
            ),
            other => return Finding::NotTried(format!("{} checks are not probed", other.name())),
        };
        finding.cut(max)
    }
}

fn silent(what: &str, within: Duration) -> Finding {
    critical(what, &format!("no answer within {within:?}"))
}

fn critical(what: &str, why: &str) -> Finding {
    found(Status::Critical, format!("{what}: {why}"))
}

fn found(status: Status, output: String) -> Finding {
    Finding::Found { status, output }
}

impl Finding {
    /// The same with `max` bytes of output at most.
    fn cut(mut self, max: usize) -> Self {
        if let Self::Found { output, .. } = &mut self {
            output.truncate(output.floor_char_boundary(max));
        }
        self
    }
}

/// A probe that failed by `error`: critical, unless it is this host that lacks something.
fn failed(what: &str, error: &(dyn Error + 'static)) -> Finding {
    let causes: Vec<_> = std::iter::successors(Some(error), |&e| e.source()).collect();
    let mut text = String::new();
    for cause in &causes {
        let cause = cause.to_string();
        // Many errors repeat their cause's text; once is enough.
        if !text.ends_with(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    let lacking = causes.iter().filter_map(|e| e.downcast_ref::<io::Error>()).any(is_lack_here);
    if lacking { Finding::NotTried(format!("{what}: {text}")) } else { critical(what, &text) }
}

/// No descriptor, no memory or no port is left on this host.
fn is_lack_here(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
        || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests;
