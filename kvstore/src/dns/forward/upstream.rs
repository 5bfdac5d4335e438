//! One upstream resolver: its cache, whether it answers, and the names about which it would only ask us.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use trust_dns_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RecordType},
};

use super::ForwardError;

/// How long a recursor that did not answer is asked last.
const SILENCE: Duration = Duration::from_secs(10);

/// Answers that are remembered of one recursor.
const CACHED_ANSWERS: u64 = 8192;

/// Domains about which one recursor leads back to us that are known apart; of more, it is left out altogether.
const MAX_LOOPS: usize = 16;

/// One recursor.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) timeout: Duration,
    resolver: TokioResolver,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    silent_since: Option<Instant>,
    /// It asks us about names in these domains, when we ask it.
    loops: Vec<Name>,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Result<Self, ForwardError> {
        let config = ResolverConfig::from_name_servers(vec![name_server(address)]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = timeout;
        // A packet that is lost is sent again within the timeout.
        options.attempts = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = CACHED_ANSWERS;
        let resolver = builder.build().map_err(|source| ForwardError::Setup { recursor: address, source })?;
        Ok(Self { address, timeout, resolver, state: Mutex::default() })
    }

    /// What it knows, or remembers; waits no longer than its timeout and `at_most`.
    pub(super) async fn ask(&self, name: Name, qtype: RecordType, at_most: Duration) -> Result<Lookup, NetError> {
        let lookup = self.resolver.lookup(name, qtype);
        let found = tokio::time::timeout(self.timeout.min(at_most), lookup).await.unwrap_or(Err(NetError::Timeout));
        self.note(&found);
        found
    }

    pub(super) fn is_silent(&self) -> bool {
        self.state().silent_since.is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Whether it would ask us about `name`.
    pub(super) fn leads_back(&self, name: &Name) -> bool {
        self.state().loops.iter().any(|domain| domain.zone_of(name))
    }

    /// The domains about which it asked us.
    pub(super) fn loops(&self) -> Vec<Name> {
        self.state().loops.clone()
    }

    /// It asked us about a name in `domain`, or no longer does; says so when that is new.
    pub(super) fn set_loop(&self, domain: &Name, leads_back: bool) {
        let mut state = self.state();
        let known = state.loops.iter().any(|known| if leads_back { known.zone_of(domain) } else { known == domain });
        if known == leads_back {
            return;
        }
        if leads_back {
            let domain = if state.loops.len() < MAX_LOOPS { domain.clone() } else { Name::root() };
            tracing::warn!(
                recursor = %self.address, %domain,
                "the recursor leads back to this agent: it is not asked about that domain; see where it forwards to"
            );
            state.loops.retain(|known| !domain.zone_of(known));
            state.loops.push(domain);
        } else {
            tracing::info!(recursor = %self.address, %domain, "the recursor leads back no longer; it is asked again");
            state.loops.retain(|known| known != domain);
        }
    }

    /// Remembers whether it answered, and says so when that changes.
    fn note(&self, found: &Result<Lookup, NetError>) {
        let answered = matches!(found, Ok(_) | Err(NetError::Dns(_)));
        let mut state = self.state();
        match (answered, state.silent_since.is_some()) {
            (true, true) => {
                tracing::info!(recursor = %self.address, "the recursor answers again");
            }
            (false, false) => {
                tracing::warn!(recursor = %self.address, "the recursor does not answer; it is asked last");
            }
            _ => {}
        }
        state.silent_since = (!answered).then(Instant::now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
