//! Reading the configuration again while the agent runs: what can change does, what cannot is said.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kvstore_core::{acl::DefaultPolicy, credentials::Digest};
use tokio::sync::Mutex;

use crate::{
    config::{self, ConfigError},
    dns::{self, DnsError},
    http::{Acl, Guard, LiveGuard},
    logging::Logs,
    own_node,
    store::{Store, WriteError},
};

/// Reads flags, environment and files once more.
pub type Reread = Arc<dyn Fn() -> Result<config::Agent, ConfigError> + Send + Sync>;

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Nobody said where the configuration comes from.
    #[error("this agent has no configuration to read again")]
    Nowhere,
    /// The new one is wrong; the old one stays.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// DNS cannot be served that way.
    #[error("DNS answers as before: {0}")]
    Dns(#[from] DnsError),
    /// This node's row cannot be written.
    #[error("the node's metadata cannot be written: {0}")]
    Write(#[from] WriteError),
    /// Some of what files define cannot be registered; all else was done.
    #[error("not registered: {0}")]
    Definitions(String),
    /// Reading it ended badly.
    #[error("the configuration could not be read: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Reloads one after the other. Cheap to clone.
#[derive(Clone)]
pub struct Reload(Arc<Parts>);

struct Parts {
    current: Mutex<config::Agent>,
    reread: Option<Reread>,
    store: Store,
    logs: Logs,
    /// None if it is not served.
    dns: OnceLock<dns::Live>,
    guard: LiveGuard,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

impl Reload {
    pub(crate) fn new(current: config::Agent, reread: Option<Reread>, store: Store, logs: Logs) -> Self {
        let (guard, dns) = (LiveGuard::new(current.guard.clone()), OnceLock::new());
        let current = Mutex::new(current);
        Self(Arc::new(Parts { current, reread, store, logs, dns, guard }))
    }

    /// Lets later changes reach `dns` too.
    pub(crate) fn reaches(&self, dns: dns::Live) {
        let _served_once = self.0.dns.set(dns);
    }

    /// The guard of HTTP, which later changes reach.
    pub(crate) fn guard(&self) -> LiveGuard {
        self.0.guard.clone()
    }

    /// Puts this node back into a catalog that may have lost it.
    pub(crate) async fn register_own_node(&self) -> Result<(), WriteError> {
        let current = self.0.current.lock().await;
        if current.replica_of.is_some() {
            return Ok(());
        }
        own_node::register(&current, &self.0.store).await
    }

    /// Reads the configuration again and makes it so.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing was changed, but for [`ReloadError::Definitions`].
    pub async fn run(&self) -> Result<(), ReloadError> {
        let reread = self.0.reread.clone().ok_or(ReloadError::Nowhere)?;
        let mut current = self.0.current.lock().await;
        let new = tokio::task::spawn_blocking(move || reread()).await??;
        new.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let live = with_live_settings(&current, &new);
        let dns = self.0.dns.get();
        let dns_settings = dns.map(|dns| dns.prepare(&live)).transpose()?;
        if live.node_meta != current.node_meta && current.replica_of.is_none() {
            self.0.store.submit(own_node::registration(&live)).await?;
        }
        if let (Some(dns), Some(settings)) = (dns, dns_settings) {
            dns.change(settings);
        }
        self.0.guard.change(live.guard.clone());
        if live.log.level != current.log.level {
            self.0.logs.set_level(&live.log);
        }
        let failed = live.definitions.apply(&self.0.store, &own_node::key(&current)).await;
        let later = after_restart(&current, &new);
        if !later.is_empty() {
            tracing::warn!(settings = later.join(", "), "these change when the agent is started anew");
        }
        *current = live;
        tracing::info!("the configuration was read again");
        if failed.is_empty() { Ok(()) } else { Err(ReloadError::Definitions(failed.join("; "))) }
    }
}

/// What runs from now on: what can change while it runs as `new` has it, all else as `old` has it.
fn with_live_settings(old: &config::Agent, new: &config::Agent) -> config::Agent {
    config::Agent {
        node_meta: new.node_meta.clone(),
        definitions: new.definitions.clone(),
        recursors: new.recursors.clone(),
        dns_settings: new.dns_settings.clone(),
        aliases: new.aliases.clone(),
        trusted_resolvers: new.trusted_resolvers.clone(),
        guard: with_fixed_access_control(&old.guard, &new.guard),
        log: config::Log { level: new.log.level.clone(), ..old.log.clone() },
        ..old.clone()
    }
}

/// Whether tokens and policies count stays as it is: what they need is in the state since the start, or not.
fn with_fixed_access_control(old: &Guard, new: &Guard) -> Guard {
    let mut guard = new.clone();
    guard.access.acl = match (&old.access.acl, &new.access.acl) {
        (Some(old), Some(new)) => Some(Acl { tokens: new.tokens.clone(), ..old.clone() }),
        (old, _) => old.clone(),
    };
    guard
}

/// Of access control, what does not change while the agent runs.
fn live_apart(config: &config::Agent) -> (Option<DefaultPolicy>, Option<Digest>) {
    (config.guard.access.acl.as_ref().map(|acl| acl.default_policy), config.acl_management)
}

/// What is another than before and is not changed while the agent runs.
fn after_restart(old: &config::Agent, new: &config::Agent) -> Vec<&'static str> {
    let differ = [
        ("node_name", old.node_name != new.node_name),
        ("datacenter", old.datacenter != new.datacenter),
        ("domain", old.domain != new.domain || old.alt_domain != new.alt_domain),
        ("advertise_addr", old.advertise != new.advertise),
        ("http_addr", old.http != new.http),
        ("tls", old.tls != new.tls),
        ("dns_addr", old.dns != new.dns),
        ("routable", old.routable != new.routable),
        ("engine", old.engine != new.engine),
        ("replica_of", old.replica_of != new.replica_of),
        ("ports.server", old.server_port != new.server_port),
        ("snapshots", old.snapshots != new.snapshots),
        ("limits", old.limits != new.limits),
        ("session_ttl_min", old.session_ttl_min != new.session_ttl_min),
        ("check_update_interval", old.check_output_interval != new.check_output_interval),
        ("enable_script_checks", old.programs != new.programs),
        ("check_output_max_size", old.check_outputs != new.check_outputs),
        ("enable_agent_tls_for_checks", old.check_trust != new.check_trust),
        ("strict_consul", old.strict_consul != new.strict_consul),
        ("acl", live_apart(old) != live_apart(new)),
        ("log_format", old.log.format != new.log.format),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
