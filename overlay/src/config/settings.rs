//! What can be set, as text, and which of two sources wins.

use std::path::PathBuf;

use clap::Args;
use kvstore_client::Access;
use serde::{Deserialize, Deserializer};

/// What can be set, as text; the same keys in flags, environment and file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::doc_markdown)] // these are help texts
pub struct Settings {
    /// The registry: http://HOST:PORT, https://HOST:PORT or unix:///PATH. Several are tried in this order
    #[arg(long, env = "CONSUL_HTTP_ADDR", value_name = "URL", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub registry: Vec<String>,
    /// As whom to talk to it, and whom to trust to be it.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// What this host is called in the mesh [default: the host's name]
    #[arg(long, env = "OVERLAY_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where key, secrets and state are kept [default: /var/lib/overlay]
    #[arg(long, env = "OVERLAY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// text or json [default: text]
    #[arg(long, env = "OVERLAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl Settings {
    /// These, and from `file` what they leave open.
    pub(super) fn over(self, file: Self) -> Self {
        Self {
            registry: if self.registry.is_empty() { file.registry } else { self.registry },
            access: self.access.over(file.access),
            name: self.name.or(file.name),
            state_dir: self.state_dir.or(file.state_dir),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

/// A list of one may be written without its brackets.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}
