//! What can be set, as text, and which of two sources wins.

use std::path::PathBuf;

use clap::{Args, builder::FalseyValueParser};
use kvstore_client::{Access, settings::one_or_many};
use serde::Deserialize;

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
    /// A member of the mesh, or any host with a registry of it: HOST or HOST:PORT; asked where no --registry answers
    #[arg(long, env = "OVERLAY_JOIN", value_name = "HOST", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub join: Vec<String>,
    /// The file with the mesh's secret, for its owner only; `overlay secret` makes one, or shows that of a member
    /// [default: /etc/overlay/secret]
    #[arg(long, env = "OVERLAY_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// UDP port of the tunnel [default: 51820]
    #[arg(long, env = "OVERLAY_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Name of the tunnel's interface [default: ovl0]
    #[arg(long, env = "OVERLAY_INTERFACE", value_name = "NAME")]
    pub interface: Option<String>,
    /// Where others reach this host, if it is not at an address of its own: IP or IP:PORT
    #[arg(long, env = "OVERLAY_ENDPOINT", value_name = "ADDRESS", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub endpoint: Vec<String>,
    /// Largest packet in the tunnel, in bytes [default: 1420, which fits into 1500]
    #[arg(long, env = "OVERLAY_MTU", value_name = "BYTES")]
    pub mtu: Option<u16>,
    /// Do not pass on what others send each other where they have no direct way
    #[arg(long, env = "OVERLAY_NO_RELAY", value_parser = FalseyValueParser::new())]
    pub no_relay: bool,
    /// How long a host may be away before the addresses that it holds are given to others [default: 24h]
    #[arg(long, env = "OVERLAY_GRACE", value_name = "DURATION")]
    pub grace: Option<String>,
    /// Answer /healthz and /metrics at this address
    #[arg(long, env = "OVERLAY_HTTP_ADDR", value_name = "IP:PORT")]
    pub http_addr: Option<String>,
    /// What this host is called in the mesh [default: the host's name]
    #[arg(long, env = "OVERLAY_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where key, secrets and state are kept [default: /var/lib/overlay]
    #[arg(long, env = "OVERLAY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Docker, whose containers get networks of the mesh: unix:///PATH or tcp://HOST:PORT [default: none]
    #[arg(long, env = "OVERLAY_DOCKER", value_name = "URL")]
    pub docker: Option<String>,
    /// Where Docker looks for its driver flotilla [default: /run/docker/plugins/flotilla.sock]
    #[arg(long, env = "OVERLAY_PLUGIN_SOCKET", value_name = "PATH")]
    pub plugin_socket: Option<PathBuf>,
    /// text or json [default: text]
    #[arg(long, env = "OVERLAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl Settings {
    /// These, and from `file` what they leave open.
    pub(super) fn over(self, file: Self) -> Self {
        let list = |mine: Vec<String>, file: Vec<String>| if mine.is_empty() { file } else { mine };
        Self {
            registry: list(self.registry, file.registry),
            join: list(self.join, file.join),
            secret_file: self.secret_file.or(file.secret_file),
            port: self.port.or(file.port),
            interface: self.interface.or(file.interface),
            endpoint: list(self.endpoint, file.endpoint),
            mtu: self.mtu.or(file.mtu),
            no_relay: self.no_relay || file.no_relay,
            grace: self.grace.or(file.grace),
            http_addr: self.http_addr.or(file.http_addr),
            access: self.access.over(file.access),
            name: self.name.or(file.name),
            state_dir: self.state_dir.or(file.state_dir),
            docker: self.docker.or(file.docker),
            plugin_socket: self.plugin_socket.or(file.plugin_socket),
            log_format: self.log_format.or(file.log_format),
        }
    }
}
