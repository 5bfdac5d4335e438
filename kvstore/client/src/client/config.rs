//! How to reach the registry, and how new its answers must be.

use std::{path::PathBuf, time::Duration};

use super::TlsConfig;

/// How to reach the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`, tried in this order; a bare `HOST:PORT` means http.
    pub addresses: Vec<String>,
    /// How TLS is spoken at those that begin with `https://`.
    pub tls: TlsConfig,
    /// Sent as `X-Consul-Token`.
    pub token: Option<String>,
    /// A file that holds the token, where `token` does not say it; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// For one call, connecting included; a blocking query gets it on top of its wait.
    pub timeout: Duration,
    /// The datacenter asked for; the registry's own unless given.
    pub datacenter: Option<String>,
    /// How new answers must be.
    pub consistency: Consistency,
    /// Name and password for who stands before the registry.
    pub basic_auth: Option<(String, String)>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            addresses: vec!["http://127.0.0.1:8500".into()],
            tls: TlsConfig::default(),
            token: None,
            token_file: None,
            timeout: Duration::from_secs(10),
            datacenter: None,
            consistency: Consistency::default(),
            basic_auth: None,
        }
    }
}

/// How new an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// As new as the registry has it without asking around.
    #[default]
    Default,
    /// Any server may answer, even if what it knows is old.
    Stale,
    /// It is certain to be the newest.
    Consistent,
}

impl Consistency {
    pub(super) fn parameter(self) -> Option<(&'static str, String)> {
        let name = match self {
            Self::Default => return None,
            Self::Stale => "stale",
            Self::Consistent => "consistent",
        };
        Some((name, String::new()))
    }
}
