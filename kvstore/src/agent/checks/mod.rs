//! Carries out one run of one probe, whatever its kind, within its timeout.

mod dial;
mod docker;
mod grpc;
mod h2ping;
mod http;
pub(super) mod schedule;
mod script;
mod tail;
mod tcp;
pub(crate) mod tls;
mod udp;

#[cfg(any(test, fuzzing))]
pub use grpc::fuzzed;

use std::{error::Error, fmt::Write as _, io, time::Duration};

use kvstore_client::with_causes;
use kvstore_core::{
    health::Status,
    row::{Probe, ProbeKind},
};
use tokio::sync::Semaphore;

/// The longest output kept of a run, unless the agent has another limit.
pub(crate) const MAX_OUTPUT_BYTES: usize = 4096;

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

/// What is kept of what checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The most bytes of one; a check may ask for less.
    pub max_bytes: usize,
    /// Nothing is kept at all.
    pub discard: bool,
}

impl Default for Outputs {
    fn default() -> Self {
        Self { max_bytes: MAX_OUTPUT_BYTES, discard: false }
    }
}

impl Outputs {
    fn max_of(self, probe: &Probe) -> usize {
        probe.output_max_bytes.map_or(self.max_bytes, |max| self.max_bytes.min(max as usize))
    }

    /// What is kept of `output`, reported for a check with `probe`; in Consul's words when it is not all.
    pub(crate) fn of_report(self, probe: Option<&Probe>, mut output: String) -> String {
        let (total, max) = (output.len(), probe.map_or(self.max_bytes, |probe| self.max_of(probe)));
        if self.discard {
            output.clear();
        } else if total > max {
            output.truncate(output.floor_char_boundary(max));
            let _ = write!(output, " ... (captured {max} of {total} bytes)");
        }
        output
    }
}

/// Shared by all probes of the host.
#[derive(Debug)]
pub(super) struct Prober {
    tls: tls::Tls,
    containers: docker::Containers,
    running: Semaphore,
    outputs: Outputs,
}

impl Prober {
    pub(super) fn new(trust: tls::Trust, outputs: Outputs) -> Self {
        let (tls, containers) = (tls::Tls::new(trust), docker::Containers::default());
        Self { tls, containers, running: Semaphore::new(MAX_RUNNING), outputs }
    }

    /// Runs `probe` once, if it is no program or `programs` may be run; ends within its timeout once it has its turn.
    pub(super) async fn run(&self, probe: &Probe, programs: bool) -> Finding {
        let _turn = self.running.acquire().await.expect("the semaphore is never closed");
        let finding = self.carry_out(probe, programs).await;
        if self.outputs.discard { finding.cut(0) } else { finding }
    }

    async fn carry_out(&self, probe: &Probe, programs: bool) -> Finding {
        let within = probe.timeout;
        let max = self.outputs.max_of(probe);
        let finding = match &probe.kind {
            ProbeKind::Http { url, method, .. } => {
                let what = format!("HTTP {method} {}", http::without_password(url));
                http::probe(&self.tls, &probe.kind, max, &what, within).await
            }
            ProbeKind::Tcp { address, tls } => {
                tcp::probe(&self.tls, address, tls.as_ref(), &format!("TCP connect {address}"), within).await
            }
            ProbeKind::Udp { address } => udp::probe(address, &format!("UDP connect {address}"), within).await,
            // They may have been allowed when the check was registered.
            ProbeKind::Script { .. } | ProbeKind::Docker { .. } if !programs => {
                return found(Status::Critical, SCRIPTS_DISABLED.into());
            }
            // Bounded already, with a word on what is missing.
            ProbeKind::Script { args } => return script::probe(args, max, within).await,
            ProbeKind::Docker { container, args } => {
                return self.containers.probe(container, args, max, within).await;
            }
            ProbeKind::Grpc { address, service, tls } => {
                grpc::probe(&self.tls, grpc::Target { address, service, tls: tls.as_ref() }, within).await
            }
            ProbeKind::H2ping { address, tls } => h2ping::probe(&self.tls, address, tls.as_ref(), within).await,
            ProbeKind::OsService { name } => critical(
                &format!("OS service {name}"),
                "unsupported: services of the host's system are not watched here",
            ),
            ProbeKind::Ttl { .. } | ProbeKind::Alias { .. } | ProbeKind::Reported => {
                return Finding::NotTried(format!("{:?} checks are not probed", probe.kind.name()));
            }
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
    /// For who counts.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Found { status, .. } => status.as_str(),
            Self::NotTried(_) => "not_tried",
        }
    }

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
    let text = with_causes(error);
    let mut causes = std::iter::successors(Some(error), |&e| e.source());
    let lacking = causes.any(|e| e.downcast_ref::<io::Error>().is_some_and(is_lack_here));
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
