//! The flags of `kvstore agent` and their spelling, ours and Consul's; what they amount to is `config`'s business.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use kvstore_client::{Access, GoDuration, logging::LogFormat};

use crate::config::{self, EngineName, HttpAddr, Layer, Recursor, TlsFiles};

const EXAMPLES: &str = "\
Examples:
  kvstore agent --dev
      keeps nothing; HTTP on 127.0.0.1:8500, DNS on 127.0.0.1:8600
  kvstore agent --data-dir /var/lib/registry --http-addr 0.0.0.0:8500 --dns-addr 0.0.0.0:53
      for a whole network; it keeps its data
  kvstore agent --https-addr 0.0.0.0:8501 --tls-cert server.pem --tls-key server-key.pem --tls-client-ca ca.pem
      over TLS too, for clients with a certificate; `kvstore tls create` makes all of these
  kvstore agent --replica-of http://hub:8500 --dns-addr 127.0.0.1:53
      on any other host: DNS and reads from a copy, which answers while the hub is away; writes are passed on
  kvstore agent --config /etc/kvstore.yaml
  kvstore agent -server -bootstrap-expect=1 -client=0.0.0.0 -data-dir=/consul/data -config-dir=/consul/config
      as Consul is started in Docker

A configuration file is YAML or JSON; Consul's own JSON keys are taken:
  node_name: host1
  data_dir: /var/lib/registry
  http_addr: ['0.0.0.0:8500', 'unix:///run/registry.sock']
  dns_addr: ['0.0.0.0:53']
  recursors: [auto, 'corp.example=10.0.0.2']
  dns_config: {response_rate_limit: 50, max_udp_bytes: 1232}   # where strangers can ask
  snapshots: {directory: /var/backups/registry, every: 1h, keep: 24}

Flags win over the environment, that over files, later files over earlier ones.
Data are kept in /var/lib/flotilla/kvstore by root, else in $XDG_STATE_HOME/flotilla/kvstore (~/.local/state/...).
Signals: INT and TERM stop in order; a second one stops at once. HUP reads the configuration again.
Exit codes: 0 stopped by a signal or by kvstore leave; 1 an address is taken, the data cannot be used, or it was stopped at
once; 2 the command or the configuration is wrong.";

/// Runs the registry: HTTP, DNS, and the health checks of this host.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// A configuration file, or a directory of them (*.json, *.yaml, *.yml, *.hcl, in order of names). May be repeated.
    #[arg(
        long = "config",
        alias = "config-file",
        alias = "config-dir",
        value_name = "FILE|DIR",
        env = "KVSTORE_CONFIG",
        value_delimiter = ','
    )]
    configs: Vec<PathBuf>,
    /// For development: keep nothing, stay on this host.
    #[arg(long, env = "KVSTORE_DEV", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dev: Option<bool>,
    /// Where to keep the state.
    #[arg(long, value_name = "DIR", env = "KVSTORE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// This host's name in the catalog; its host name unless given.
    #[arg(long, value_name = "NAME", env = "KVSTORE_NODE", value_parser = config::node_name)]
    node: Option<String>,
    /// This host's UUID; kept in the data directory unless given.
    #[arg(long, value_name = "UUID", env = "KVSTORE_NODE_ID", value_parser = config::uuid)]
    node_id: Option<String>,
    /// A pair of this host's metadata. May be repeated.
    #[arg(long, value_name = "KEY:VALUE", value_parser = config::meta_pair)]
    node_meta: Vec<(String, String)>,
    /// The datacenter's name (default dc1).
    #[arg(long, value_name = "NAME", env = "KVSTORE_DATACENTER", value_parser = config::datacenter)]
    datacenter: Option<String>,
    /// The zone that DNS answers for (default consul).
    #[arg(long, value_name = "ZONE", env = "KVSTORE_DOMAIN", value_parser = config::domain)]
    domain: Option<String>,
    /// A second zone with the same answers.
    #[arg(long, value_name = "ZONE", env = "KVSTORE_ALT_DOMAIN", value_parser = config::domain)]
    alt_domain: Option<String>,
    /// This host's address for others; the one its default route leaves from unless given. Nothing listens there.
    #[arg(long, value_name = "IP", env = "KVSTORE_BIND", value_parser = config::ip_address)]
    bind: Option<IpAddr>,
    /// The same, if others reach this host by another address.
    #[arg(long, value_name = "IP", env = "KVSTORE_ADVERTISE", value_parser = config::ip_address)]
    advertise: Option<IpAddr>,
    /// Where HTTP is served (default 127.0.0.1:8500). May be repeated.
    #[arg(
        long,
        value_name = "IP:PORT|unix://PATH",
        env = "KVSTORE_HTTP_ADDR",
        value_delimiter = ',',
        value_parser = config::http_addr
    )]
    http_addr: Vec<HttpAddr>,
    /// Where HTTPS is served; nowhere unless given. May be repeated.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "KVSTORE_HTTPS_ADDR",
        value_delimiter = ',',
        value_parser = config::https_addr
    )]
    https_addr: Vec<SocketAddr>,
    /// The certificate of HTTPS, with those of its issuers behind it (PEM). Read anew when it changes.
    #[arg(long, value_name = "FILE", env = "KVSTORE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "KVSTORE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Who vouches for clients of HTTPS, which must show a certificate then (PEM).
    #[arg(long, value_name = "FILE", env = "KVSTORE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Tokens, one a line, of which a request must show one to read, in X-Consul-Token; without it everybody may.
    #[arg(long, value_name = "FILE", env = "KVSTORE_READ_TOKEN_FILE")]
    read_token_file: Option<PathBuf>,
    /// Tokens, one a line, of which a request must show one to write; they read, too. Without it everybody may write.
    #[arg(long, value_name = "FILE", env = "KVSTORE_WRITE_TOKEN_FILE")]
    write_token_file: Option<PathBuf>,
    /// Take snapshots by itself and put them there, a directory of this agent's own.
    #[arg(long, value_name = "DIR", env = "KVSTORE_SNAPSHOT_DIR")]
    snapshot_dir: Option<PathBuf>,
    /// The time from one snapshot to the next (default 1h).
    #[arg(long, value_name = "DURATION", env = "KVSTORE_SNAPSHOT_EVERY")]
    snapshot_every: Option<GoDuration>,
    /// How many snapshots to keep (default 24).
    #[arg(long, value_name = "COUNT", env = "KVSTORE_SNAPSHOT_KEEP")]
    snapshot_keep: Option<usize>,
    /// Where DNS is served, UDP and TCP (default 127.0.0.1:8600). May be repeated.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "KVSTORE_DNS_ADDR",
        value_delimiter = ',',
        value_parser = config::dns_addr
    )]
    dns_addr: Vec<SocketAddr>,
    /// Where the state is kept: embedded (in the data directory), memory, or etcd://HOST:PORT,... that several kvstores
    /// share (docs/engines.md).
    #[arg(long, value_name = "ENGINE", env = "KVSTORE_ENGINE")]
    engine: Option<EngineName>,
    /// The registry to be a replica of: it shows what is there, also while that is away, and passes writes on
    /// (docs/replica.md). Several are used one in the other's stead.
    #[arg(long, value_name = "URL", env = "KVSTORE_REPLICA_OF", value_delimiter = ',')]
    replica_of: Vec<String>,
    /// Who answers for other domains: an address, or auto for those of resolv.conf; with a domain before it, for that
    /// domain alone. May be repeated; off unless given.
    #[arg(
        long,
        value_name = "[DOMAIN=]IP[:PORT]|auto",
        env = "KVSTORE_RECURSOR",
        value_delimiter = ',',
        value_parser = config::recursor
    )]
    recursor: Vec<Recursor>,
    /// A name of another domain, or `*.` and a domain for all names below, and the service whose passing instances it
    /// stands for. May be repeated.
    #[arg(
        long = "alias",
        value_name = "NAME=SERVICE",
        env = "KVSTORE_ALIAS",
        value_delimiter = ',',
        value_parser = config::alias
    )]
    aliases: Vec<(String, String)>,
    /// A network whose addresses mean the same on every host, such as an overlay's: who asks from there is known by
    /// other hosts' instances too. May be repeated.
    #[arg(
        long,
        value_name = "NETWORK",
        env = "KVSTORE_ROUTABLE",
        value_delimiter = ',',
        value_parser = config::network
    )]
    routable: Vec<IpNet>,
    /// Resolvers that are believed when they say on whose behalf they ask (EDNS Client Subnet). May be repeated.
    #[arg(
        long = "trusted-resolver",
        value_name = "NETWORK",
        env = "KVSTORE_TRUSTED_RESOLVER",
        value_delimiter = ',',
        value_parser = config::network
    )]
    trusted_resolvers: Vec<IpNet>,
    /// Refuse what Consul does not have: what runs against this agent runs against Consul.
    #[arg(long, env = "KVSTORE_STRICT_CONSUL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    strict_consul: Option<bool>,
    /// How the log on standard error looks (default text).
    #[arg(long, value_enum, value_name = "FORMAT", env = "KVSTORE_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What to log: trace, debug, info, warn or error (default info, or as `RUST_LOG` says).
    #[arg(long, value_name = "LEVEL", env = "KVSTORE_LOG_LEVEL", value_parser = config::log_level)]
    log_level: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    consul: ConsulArgs,
}

/// As whom a replica talks to its hub.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Hub of a replica")]
struct HubArgs {
    #[command(flatten)]
    access: Access,
}

/// Options that people bring along from Consul.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "As in Consul")]
struct ConsulArgs {
    /// Where HTTP and DNS are served, both, on their usual ports. Several: with blanks between.
    #[arg(long, value_name = "IP", env = "KVSTORE_CLIENT", value_parser = |text: &str| config::addresses(text, config::ip_address).map(Addresses))]
    client: Option<Addresses>,
    /// The port of HTTP on the client addresses; -1: none.
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    http_port: Option<i64>,
    /// The port of HTTPS on the client addresses; none unless given.
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    https_port: Option<i64>,
    /// The port of DNS on the client addresses; -1: none.
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    dns_port: Option<i64>,
    /// Logs as JSON.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_json: Option<bool>,
    /// Allow scripts as health checks: whoever can register a service can run programs on this host.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_script_checks: Option<bool>,
    /// Allow scripts as health checks in the agent's own files only.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_local_script_checks: Option<bool>,
    /// Accepted: every agent is a server.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    server: Option<bool>,
    #[command(flatten)]
    ignored: IgnoredArgs,
}

/// Without effect here: there is no cluster to form, no gossip to encrypt.
#[derive(Debug, clap::Args)]
struct IgnoredArgs {
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    ui: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    bootstrap: Option<bool>,
    #[arg(long, hide = true)]
    bootstrap_expect: Option<String>,
    #[arg(long, hide = true)]
    join: Vec<String>,
    #[arg(long, hide = true)]
    retry_join: Vec<String>,
    #[arg(long, hide = true)]
    encrypt: Option<String>,
    #[arg(long, hide = true)]
    advertise_wan: Option<String>,
    #[arg(long, hide = true)]
    serf_lan_port: Option<String>,
    #[arg(long, hide = true)]
    server_port: Option<String>,
    #[arg(long, hide = true)]
    grpc_port: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    rejoin: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    disable_host_node_id: Option<bool>,
}

/// Several addresses in one argument; a newtype, because clap would take a bare list for a repeated option.
#[derive(Clone, Debug)]
struct Addresses(Vec<IpAddr>);

impl Args {
    /// The files named, and all else that flags say.
    pub(super) fn into_layer(self) -> (Vec<PathBuf>, Layer) {
        let (cluster_only, inactive) = self.consul.without_effect();
        let json = (self.consul.log_json == Some(true)).then_some(LogFormat::Json);
        let layer = Layer {
            node_name: self.node,
            node_id: self.node_id,
            datacenter: self.datacenter,
            domain: self.domain,
            alt_domain: self.alt_domain,
            data_dir: self.data_dir,
            engine: self.engine,
            replica_of: self.replica_of,
            hub: self.hub.access,
            bind: self.bind,
            advertise: self.advertise,
            client: self.consul.client.map(|addresses| addresses.0),
            http_port: self.consul.http_port,
            https_port: self.consul.https_port,
            dns_port: self.consul.dns_port,
            http_addr: self.http_addr,
            https_addr: self.https_addr,
            verify_incoming_https: self.tls_client_ca.is_some().then_some(true),
            tls_https: TlsFiles {
                ca_file: self.tls_client_ca,
                ca_path: None,
                cert_file: self.tls_cert,
                key_file: self.tls_key,
            },
            read_token_file: self.read_token_file,
            write_token_file: self.write_token_file,
            snapshot_dir: self.snapshot_dir,
            snapshot_every: self.snapshot_every,
            snapshot_keep: self.snapshot_keep,
            dns_addr: self.dns_addr,
            recursors: self.recursor,
            aliases: self.aliases.into_iter().collect(),
            routable: self.routable,
            trusted_resolvers: self.trusted_resolvers,
            node_meta: self.node_meta.into_iter().collect(),
            script_checks: self.consul.enable_script_checks,
            local_script_checks: self.consul.enable_local_script_checks,
            strict_consul: self.strict_consul,
            dev: self.dev,
            log_level: self.log_level,
            log_format: self.log_format.or(json),
            cluster_only,
            inactive,
            ..Layer::default()
        };
        (self.configs, layer)
    }
}

impl ConsulArgs {
    /// The flags given that only a cluster of Consuls has a use for, and others without effect.
    fn without_effect(&self) -> (Vec<String>, Vec<String>) {
        let i = &self.ignored;
        let names = |flags: &[(&str, bool)]| {
            flags.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()
        };
        let cluster_only = names(&[
            ("-server=false", self.server == Some(false)),
            ("-bootstrap", i.bootstrap.is_some()),
            ("-bootstrap-expect", i.bootstrap_expect.is_some()),
            ("-join", !i.join.is_empty()),
            ("-retry-join", !i.retry_join.is_empty()),
            ("-encrypt", i.encrypt.is_some()),
            ("-advertise-wan", i.advertise_wan.is_some()),
            ("-serf-lan-port", i.serf_lan_port.is_some()),
            ("-server-port", i.server_port.is_some()),
            ("-grpc-port", i.grpc_port.is_some()),
            ("-rejoin", i.rejoin.is_some()),
        ]);
        let inactive = names(&[("-ui", i.ui.is_some()), ("-disable-host-node-id", i.disable_host_node_id.is_some())]);
        (cluster_only, inactive)
    }
}
