//! What the agent is to do: flags over environment over files, checked as a whole before anything is started.
//!
//! Files are read, and the host is asked what was left open (its name, its address); everything that is wrong is said at
//! once, each fault with its file and line. The module `resolve`, which decides, is pure.

mod definitions;
mod document;
mod files;
mod host;
mod keys;
mod layer;
pub(crate) mod reference;
mod resolve;
mod values;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use kvstore_client::{Client, ClientConfig, logging::LogFormat, types::ServiceRegistration, with_causes};
use kvstore_core::{credentials::Digest, names::NodeKey, version::Callers};

use crate::{
    agent::{Definitions, Outputs, Programs, Trust},
    http::{Guard, ServerTls},
};

#[cfg(any(test, fuzzing))]
pub use files::fuzzed;
pub(crate) use layer::{Layer, TlsFiles};
pub use values::{EngineName, HttpAddr, Recursor};
pub(crate) use values::{
    addresses, alias, datacenter, dns_addr, domain, http_addr, https_addr, ip_address, log_level, meta_pair, network,
    node_name, recursor, token, uuid,
};

/// Everything the agent needs to know to start; nothing in it is left to be decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// This host's name in the catalog.
    pub node_name: String,
    /// A UUID that survives a change of name or address.
    pub node_id: String,
    /// Lower-case.
    pub datacenter: String,
    /// The zone that DNS answers for: lower-case, no dot at the end.
    pub domain: String,
    /// A second zone with the same answers.
    pub alt_domain: Option<String>,
    /// This host's address in the catalog.
    pub advertise: IpAddr,
    /// Where HTTP is served; empty: nowhere.
    pub http: Vec<HttpAddr>,
    /// What TLS is spoken with, where that is configured.
    pub tls: Option<ServerTls>,
    /// Where DNS is served, over UDP and TCP; empty: nowhere.
    pub dns: Vec<SocketAddr>,
    /// Who answers for other domains; empty: nobody.
    pub recursors: Vec<Recursor>,
    /// Networks whose addresses mean the same on every host, such as an overlay's.
    pub routable: Vec<IpNet>,
    /// Resolvers that are believed when they say on whose behalf they ask.
    pub trusted_resolvers: Vec<IpNet>,
    /// Names of other domains that stand for a service, `*.` for all below.
    pub aliases: BTreeMap<String, String>,
    /// What DNS answers look like.
    pub dns_settings: DnsSettings,
    /// Where the state is kept.
    pub engine: Engine,
    /// The registry that this is a replica of, and how that is reached; the engine keeps a copy then.
    pub replica_of: Option<ClientConfig>,
    /// Free pairs of this host's row.
    pub node_meta: BTreeMap<String, String>,
    /// The port in `status/leader`; nothing listens there.
    pub server_port: u16,
    /// What a request may be.
    pub limits: Limits,
    /// The snapshots that are taken without being asked for, if any are.
    pub snapshots: Option<Snapshots>,
    /// How often a check's new output alone, without a new status, is written.
    pub check_output_interval: Duration,
    /// The shortest TTL of a session.
    pub session_ttl_min: Duration,
    /// Which programs may be run as checks.
    pub programs: Programs,
    /// What is kept of what checks say.
    pub check_outputs: Outputs,
    /// Whom checks that speak TLS trust.
    pub check_trust: Trust,
    /// The services and checks that files define.
    pub definitions: Definitions,
    /// Refuse what Consul does not have.
    pub strict_consul: bool,
    /// What of HTTP is closed to whom.
    pub guard: Guard,
    /// The secret of the first token, which may everything; none: whoever asks for it first gets one.
    pub acl_management: Option<Digest>,
    /// For development: nothing is kept, JSON is pretty.
    pub dev: bool,
    /// What is logged, and how.
    pub log: Log,
    /// For the log at start: what was chosen because nobody said.
    pub notes: Vec<String>,
    /// For the log at start: what was accepted without effect.
    pub warnings: Vec<String>,
}

impl Agent {
    /// An agent on free ports of this host that keeps nothing, with Consul's defaults otherwise, whatever stands in the
    /// environment: for the tests of what talks to one.
    pub fn in_memory(node: &str) -> Self {
        let layer = Layer {
            dev: Some(true),
            node_name: Some(node.into()),
            node_id: Some("11111111-1111-4111-8111-111111111111".into()),
            advertise: Some([127, 0, 0, 1].into()),
            http_addr: vec![HttpAddr::Tcp(([127, 0, 0, 1], 0).into())],
            dns_addr: vec![([127, 0, 0, 1], 0).into()],
            ..Layer::default()
        };
        resolve::resolve(layer, &host::facts(), &mut Vec::new()).expect("it has no fault")
    }

    /// Where callers are looked for; none where versions do not matter, as in Consul.
    pub(crate) fn callers(&self) -> Option<Callers> {
        let callers = Callers { here: NodeKey::new(&self.node_name).ok(), routable: self.routable.clone() };
        (!self.strict_consul).then_some(callers)
    }
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nowhere.
    Memory,
    /// In files below this directory, which exists.
    Embedded {
        /// Mode 0700 if we made it.
        data_dir: PathBuf,
    },
    /// In an etcd that several kvstores share.
    #[cfg(feature = "etcd")]
    Etcd {
        /// Where that is.
        address: Box<crate::engine::EtcdAddress>,
        /// Where this host's id is kept, likewise.
        data_dir: PathBuf,
    },
}

impl Engine {
    /// Whether other kvstores write to it too.
    pub(crate) fn is_shared(&self) -> bool {
        self.lease().is_some()
    }

    /// The silence after which the other kvstores take an agent for dead; none where there are no others.
    pub(crate) fn lease(&self) -> Option<Duration> {
        match self {
            Self::Memory | Self::Embedded { .. } => None,
            #[cfg(feature = "etcd")]
            Self::Etcd { address, .. } => Some(address.lease),
        }
    }

    /// Where something is kept on this host, if anything is.
    pub(crate) fn data_dir(&self) -> Option<&std::path::Path> {
        match self {
            Self::Memory => None,
            Self::Embedded { data_dir } => Some(data_dir),
            #[cfg(feature = "etcd")]
            Self::Etcd { data_dir, .. } => Some(data_dir),
        }
    }
}

/// What DNS answers look like: Consul's `dns_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a key of its own
pub struct DnsSettings {
    /// TTL of answers about hosts.
    pub node_ttl: Duration,
    /// TTL of answers about services by name; `prefix*` and `*` stand for many.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Leave out instances that warn.
    pub only_passing: bool,
    /// Most addresses in one answer; 0: as many as fit.
    pub a_record_limit: usize,
    /// Most answers over UDP without EDNS; 0: as many as fit.
    pub udp_answer_limit: usize,
    /// Set the TC bit when size cut an answer.
    pub truncate: bool,
    /// The longest reply over UDP, whatever the asker offers.
    pub max_udp_bytes: u16,
    /// Replies a second over UDP to one network (/24, /56); 0: as many as are asked for.
    pub response_rate_limit: u32,
    /// Send a host's metadata as TXT beside its address.
    pub node_meta_txt: bool,
    /// Ask the recursors in random order instead of the given one.
    pub random_recursor: bool,
    /// For one question to one recursor.
    pub recursor_timeout: Duration,
    /// The times in the zone's SOA record.
    pub soa: Soa,
}

/// The times of an SOA record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // RFC 1035 §3.3.13, RFC 2308 §4
pub struct Soa {
    pub refresh: Duration,
    pub retry: Duration,
    pub expire: Duration,
    pub min_ttl: Duration,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            node_ttl: Duration::ZERO,
            service_ttl: BTreeMap::new(),
            only_passing: false,
            a_record_limit: 0,
            udp_answer_limit: 0,
            truncate: true,
            max_udp_bytes: 4096,
            response_rate_limit: 0,
            node_meta_txt: true,
            random_recursor: false,
            recursor_timeout: Duration::from_secs(2),
            soa: Soa::default(),
        }
    }
}

impl Default for Soa {
    fn default() -> Self {
        Self {
            refresh: Duration::from_hours(1),
            retry: Duration::from_mins(10),
            expire: Duration::from_hours(24),
            min_ttl: Duration::ZERO,
        }
    }
}

/// What a request may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A value of the KV store.
    pub kv_value_bytes: usize,
    /// The body of a transaction, and of any other request that is no KV value.
    pub body_bytes: usize,
    /// A snapshot to be restored, packed or unpacked.
    pub snapshot_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { kv_value_bytes: 512 << 10, body_bytes: 512 << 10, snapshot_bytes: 512 << 20 }
    }
}

/// Snapshots that the agent takes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Where they are put.
    pub directory: PathBuf,
    /// From one to the next.
    pub every: Duration,
    /// How many of them are kept.
    pub keep: usize,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// From this level on (`debug`); none: as `RUST_LOG` says, else from `info` on.
    pub level: Option<String>,
    /// Text for people or JSON for programs.
    pub format: LogFormat,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `FILE:LINE`, or the flag.
    pub place: String,
    /// The key in the file, sections before it; empty: the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, why } = self;
        if key.is_empty() { write!(f, "{place}  {why}") } else { write!(f, "{place}  {key}: {why}") }
    }
}

/// All that is wrong with a configuration; nothing was started or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.faults[..] {
            [_] => f.write_str("the configuration has a fault")?,
            all => write!(f, "the configuration has {} faults", all.len())?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads `files` (and the files of a directory, in order of their names), lays `flags` over them, asks the host what is
/// still open and prepares the data directory.
///
/// # Errors
/// [`ConfigError`] with every fault there is.
pub(crate) fn load(files: &[PathBuf], flags: Layer) -> Result<Agent, ConfigError> {
    let mut agent = check(files, flags)?;
    if agent.node_id.is_empty() {
        agent.node_id = host::node_id(&agent.engine).map_err(|fault| ConfigError { faults: vec![fault] })?;
    }
    Ok(agent)
}

/// The same without touching the data directory: the node id may still be empty.
///
/// # Errors
/// [`ConfigError`] with every fault there is.
pub(crate) fn check(files: &[PathBuf], flags: Layer) -> Result<Agent, ConfigError> {
    let mut faults = Vec::new();
    let mut layer = files::read(files, &mut faults);
    layer.overlay(host::environment(&mut faults));
    layer.overlay(flags);
    host::read_tokens(&mut layer, &mut faults);
    let agent = resolve::resolve(layer, &host::facts(), &mut faults);
    if let Some(Err(error)) = agent.as_ref().map(|agent| agent.check_trust.check()) {
        faults.push(Fault { place: "configuration".into(), key: "tls".into(), why: error.to_string() });
    }
    if let Some(Err(error)) = agent.as_ref().and_then(|agent| agent.tls.as_ref()).map(ServerTls::load) {
        faults.push(Fault { place: "configuration".into(), key: "tls".into(), why: with_causes(&error) });
    }
    if let Some(Err(error)) = agent.as_ref().and_then(|agent| agent.replica_of.as_ref()).map(Client::new) {
        faults.push(Fault { place: "configuration".into(), key: "replica_of".into(), why: with_causes(&error) });
    }
    match agent {
        Some(agent) if faults.is_empty() => Ok(agent),
        _ => Err(ConfigError { faults }),
    }
}

/// The services that files define, for who registers them by hand.
///
/// # Errors
/// [`ConfigError`] with every fault there is.
pub(crate) fn services(files: &[PathBuf]) -> Result<Vec<ServiceRegistration>, ConfigError> {
    let mut faults = Vec::new();
    let services = files::read_services(files, &mut faults);
    if faults.is_empty() { Ok(services) } else { Err(ConfigError { faults }) }
}
