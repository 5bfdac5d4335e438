//! Checks, and how an agent finds out their state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Owner, millis};
use crate::{
    health::{Status, Thresholds},
    names::{CheckId, InstanceId, NodeKey},
};

/// How an agent finds out the state of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is done.
    pub kind: ProbeKind,
    /// From one run to the next; zero for a TTL.
    #[serde(default, with = "millis")]
    pub interval: Duration,
    /// For one run; zero for a TTL.
    #[serde(default, with = "millis")]
    pub timeout: Duration,
    /// How many results in a row it takes to change the status.
    #[serde(default, skip_serializing_if = "Thresholds::is_default")]
    pub thresholds: Thresholds,
    /// The most output kept of a run; none: the agent's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max_bytes: Option<u32>,
    /// The check's instance is deregistered when the check was critical for this long; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub deregister_after: Duration,
}

impl Probe {
    /// A probe whose every result counts at once.
    pub fn new(kind: ProbeKind, interval: Duration, timeout: Duration) -> Self {
        let (thresholds, output_max_bytes, deregister_after) = (Thresholds::default(), None, Duration::ZERO);
        Self { kind, interval, timeout, thresholds, output_max_bytes, deregister_after }
    }
}

/// Whether and how a probe speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTls {
    /// Take any certificate.
    #[serde(default)]
    pub skip_verify: bool,
    /// The name expected in the certificate; empty: the host of the address.
    #[serde(default)]
    pub server_name: String,
}

/// The kinds of probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A client reports; silence for longer than this is critical.
    Ttl {
        /// The longest silence.
        #[serde(with = "millis")]
        ttl: Duration,
    },
    /// A request: 2xx passes, 429 warns, all else is critical.
    Http {
        /// Where.
        url: String,
        /// `GET` unless given.
        method: String,
        /// Request headers; `Host` is honoured.
        #[serde(default)]
        header: BTreeMap<String, Vec<String>>,
        /// Request body.
        #[serde(default)]
        body: String,
        /// Answer 3xx as it is instead of following it.
        #[serde(default)]
        no_redirects: bool,
        /// Take any certificate.
        #[serde(default)]
        tls_skip_verify: bool,
        /// The name expected in the certificate; empty: the URL's host.
        #[serde(default)]
        tls_server_name: String,
    },
    /// A connection: made passes, refused or timed out is critical.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// None: plain. Else the handshake is part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// A datagram: an answer or silence passes, a refusal is critical.
    Udp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A program on the agent's host: exit code 0 passes, 1 warns, all else is critical.
    Script {
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// A program inside a container, judged as a script.
    Docker {
        /// The container's name or id.
        container: String,
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// The standard health service of gRPC: `SERVING` passes, all else is critical.
    Grpc {
        /// `HOST:PORT`.
        address: String,
        /// The name of the service asked about; empty: the server as a whole.
        #[serde(default)]
        service: String,
        /// None: plain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// A ping of HTTP/2: answered passes, all else is critical.
    H2ping {
        /// `HOST:PORT`.
        address: String,
        /// None: plain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// The worst of the checks of something else in the catalog.
    Alias {
        /// The host.
        node: NodeKey,
        /// The instance on it; none: the host itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<InstanceId>,
    },
    /// A service of the host's own system; not supported, so always critical.
    OsService {
        /// Its name there.
        name: String,
    },
    /// Nothing is run: whoever put the check puts it again with what it found.
    Reported,
}

impl ProbeKind {
    /// The word for `Type` on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Script { .. } => "script",
            Self::Docker { .. } => "docker",
            Self::Grpc { .. } => "grpc",
            Self::H2ping { .. } => "h2ping",
            Self::Alias { .. } => "alias",
            Self::OsService { .. } => "os_service",
            Self::Reported => "",
        }
    }
}

/// A check of a host or of one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The host's key.
    pub node: NodeKey,
    /// Unique on the host.
    pub id: CheckId,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Its state.
    pub status: Status,
    /// For people.
    #[serde(default)]
    pub notes: String,
    /// What the last run said.
    #[serde(default)]
    pub output: String,
    /// The instance it belongs to; none: the host as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<InstanceId>,
    /// The word for `Type` on the wire.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// How its agent finds out; none where others report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Arc<Probe>>,
    /// `Interval` and `Timeout` as catalog registrations spell them; echoed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interval: String,
    /// See `interval`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// `Definition` of a catalog registration; echoed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub definition: Value,
    /// Who put it.
    #[serde(default)]
    pub owner: Owner,
    /// As [`Instance::from_file`](super::Instance::from_file).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
}

impl Check {
    /// For how long nobody need report; none if it has no TTL.
    pub fn ttl(&self) -> Option<Duration> {
        match self.probe.as_deref()?.kind {
            ProbeKind::Ttl { ttl } => Some(ttl),
            _ => None,
        }
    }
}
