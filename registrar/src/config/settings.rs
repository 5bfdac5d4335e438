//! What can be set, as text, and which of two sources wins.

use std::path::PathBuf;

use clap::{Args, builder::FalseyValueParser};
use kvstore_client::{Access, settings::one_or_many};
use serde::Deserialize;

/// What can be set, as text; the same keys in flags, environment and file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // flags are
#[allow(clippy::doc_markdown)] // these are help texts
pub struct Settings {
    /// The registry: http://HOST:PORT, https://HOST:PORT or unix:///PATH. Several are tried in this order
    #[arg(long, env = "CONSUL_HTTP_ADDR", value_name = "URL", value_delimiter = ',', global = true)]
    #[serde(deserialize_with = "one_or_many")]
    pub registry: Vec<String>,
    /// As whom to talk to it, and whom to trust to be it.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// Docker: unix:///PATH, tcp://HOST:PORT or https://HOST:PORT [default: unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKER_HOST", value_name = "URL", global = true)]
    pub docker: Option<String>,
    /// Speak TLS with Docker at tcp://
    #[arg(long, env = "DOCKER_TLS_VERIFY", global = true, value_parser = FalseyValueParser::new())]
    pub docker_tls: bool,
    /// Directory with the ca.pem, cert.pem and key.pem for Docker [default: ~/.docker]
    #[arg(long, env = "DOCKER_CERT_PATH", value_name = "DIR", global = true)]
    pub docker_cert_path: Option<PathBuf>,
    /// Address of published ports, or one of each family [default: this host's on the way to the registry]
    #[arg(long, env = "REGISTRAR_IP", value_name = "ADDRESS", value_delimiter = ',', global = true)]
    #[serde(deserialize_with = "one_or_many")]
    pub ip: Vec<String>,
    /// Take the address of published ports from this network interface
    #[arg(long, env = "REGISTRAR_IP_FROM_INTERFACE", value_name = "NAME", global = true)]
    pub ip_from_interface: Option<String>,
    /// A container's label of this name gives the address of its ports
    #[arg(long, env = "REGISTRAR_IP_FROM_LABEL", value_name = "LABEL", global = true)]
    pub ip_from_label: Option<String>,
    /// Addresses to register: 4, 6 or both, which means IPv4 first and IPv6 beside it [default: both]
    #[arg(long, env = "REGISTRAR_FAMILY", value_name = "FAMILY", global = true)]
    pub family: Option<String>,
    /// Register the containers' own addresses and ports instead of the published ones
    #[arg(long, env = "REGISTRAR_INTERNAL", global = true, value_parser = FalseyValueParser::new())]
    pub internal: bool,
    /// Register only containers that have a SERVICE_NAME
    #[arg(long, env = "REGISTRAR_EXPLICIT", global = true, value_parser = FalseyValueParser::new())]
    pub explicit: bool,
    /// With --internal: the network whose address is registered; SERVICE_NETWORK says it for one container
    #[arg(long, env = "REGISTRAR_NETWORK", value_name = "NAME", global = true)]
    pub network: Option<String>,
    /// Register in the catalog under a node of this name, and keep that node alive: for one registry that serves
    /// several hosts
    #[arg(long, env = "REGISTRAR_NODE", value_name = "NAME", global = true)]
    pub node: Option<String>,
    /// With --node: how long the node is believed alive after the last word of this registrar [default: 15s]
    #[arg(long, env = "REGISTRAR_NODE_TTL", value_name = "DURATION", global = true)]
    pub node_ttl: Option<String>,
    /// How often everything is compared though nothing happened; 0 for never [default: 1m]
    #[arg(long, env = "REGISTRAR_RESYNC", value_name = "DURATION", global = true)]
    pub resync: Option<String>,
    /// When a container has ended, its entries go: always, on-success or never; what stays is critical [default: always]
    #[arg(long, env = "REGISTRAR_DEREGISTER", value_name = "WHEN", global = true)]
    pub deregister: Option<String>,
    /// With --deregister: how long what stays does so, unless the container is removed or starts again [default: 72h]
    #[arg(long, env = "REGISTRAR_REAP", value_name = "DURATION", global = true)]
    pub reap: Option<String>,
    /// How long a container must have run before it is registered, so that one that crashes again and again never is
    #[arg(long, env = "REGISTRAR_MIN_UPTIME", value_name = "DURATION", global = true)]
    pub min_uptime: Option<String>,
    /// Take everything of this host out of the registry at the end
    #[arg(long, env = "REGISTRAR_DEREGISTER_ON_EXIT", global = true, value_parser = FalseyValueParser::new())]
    pub deregister_on_exit: bool,
    /// Where the name comes from without a SERVICE_NAME: image, hostname, container or compose-service [default: image]
    #[arg(long, env = "REGISTRAR_NAME_FROM", value_name = "SOURCE", global = true)]
    pub name_from: Option<String>,
    /// Do not add the port to the name of a service that has several
    #[arg(long, env = "REGISTRAR_NO_PORT_SUFFIX", global = true, value_parser = FalseyValueParser::new())]
    pub no_port_suffix: bool,
    /// Without a SERVICE_VERSION, the tag of the image is the version
    #[arg(long, env = "REGISTRAR_VERSION_FROM_TAG", global = true, value_parser = FalseyValueParser::new())]
    pub version_from_tag: bool,
    /// Have the registry's agent run SERVICE_CHECK_SCRIPT in the container; it must allow scripts, and Docker's socket
    /// must be its own, too
    #[arg(long, env = "REGISTRAR_SCRIPT_CHECKS", global = true, value_parser = FalseyValueParser::new())]
    pub script_checks: bool,
    /// Tags of every instance, also as a template: 'plain,host-{{ container.hostname }}'
    #[arg(long, env = "REGISTRAR_TAGS", value_name = "TAGS", global = true)]
    #[serde(deserialize_with = "one_or_many")]
    pub tags: Vec<String>,
    /// First part of generated ids [default: Docker's name of the host]
    #[arg(long, env = "REGISTRAR_HOST_ID", value_name = "NAME", global = true)]
    pub host_id: Option<String>,
    /// Where the identity of this registrar is kept, by which it knows its entries again [default: /var/lib/registrar,
    /// or ~/.local/state/registrar]
    #[arg(long, env = "REGISTRAR_STATE_DIR", value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Answer /healthz and /metrics at this address
    #[arg(long, env = "REGISTRAR_HTTP_ADDR", value_name = "IP:PORT", global = true)]
    pub http_addr: Option<String>,
    /// text or json [default: text]
    #[arg(long, env = "REGISTRAR_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

impl Settings {
    /// These, and from `file` what they leave open.
    pub(super) fn over(self, file: Self) -> Self {
        let list = |mine: Vec<String>, file: Vec<String>| if mine.is_empty() { file } else { mine };
        let (ip, ip_from_interface) = if self.ip.is_empty() && self.ip_from_interface.is_none() {
            (file.ip, file.ip_from_interface)
        } else {
            (self.ip, self.ip_from_interface)
        };
        Self {
            registry: list(self.registry, file.registry),
            access: self.access.over(file.access),
            docker: self.docker.or(file.docker),
            docker_tls: self.docker_tls || file.docker_tls,
            docker_cert_path: self.docker_cert_path.or(file.docker_cert_path),
            ip,
            ip_from_interface,
            ip_from_label: self.ip_from_label.or(file.ip_from_label),
            family: self.family.or(file.family),
            internal: self.internal || file.internal,
            explicit: self.explicit || file.explicit,
            network: self.network.or(file.network),
            node: self.node.or(file.node),
            node_ttl: self.node_ttl.or(file.node_ttl),
            resync: self.resync.or(file.resync),
            deregister: self.deregister.or(file.deregister),
            reap: self.reap.or(file.reap),
            min_uptime: self.min_uptime.or(file.min_uptime),
            deregister_on_exit: self.deregister_on_exit || file.deregister_on_exit,
            name_from: self.name_from.or(file.name_from),
            no_port_suffix: self.no_port_suffix || file.no_port_suffix,
            version_from_tag: self.version_from_tag || file.version_from_tag,
            script_checks: self.script_checks || file.script_checks,
            tags: list(self.tags, file.tags),
            host_id: self.host_id.or(file.host_id),
            state_dir: self.state_dir.or(file.state_dir),
            http_addr: self.http_addr.or(file.http_addr),
            log_format: self.log_format.or(file.log_format),
        }
    }
}
