//! Names that are not ours: asked of the upstream resolvers one after the other, each with a cache of its own.
//!
//! They are not asked at the same time: with several, the first often knows names that the others deny. A domain that has
//! recursors of its own is asked of nobody else; of such domains the longest counts.

mod probe;
mod record;
mod upstream;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::base::iana::OptRcode;
use kvstore_core::dns::{Answer, Question, Record};
use rand::seq::SliceRandom;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trust_dns_resolver::{
    config::NameServerConfig,
    net::{DnsError, NetError},
    proto::{
        ProtoError,
        rr::{Name, RecordType},
        serialize::binary::BinDecodable,
    },
    system_conf::read_system_conf,
};

use self::{probe::Probes, upstream::Upstream};
use crate::config::{DnsSettings, Recursor};

/// Questions that may wait for upstream at the same time; more get SERVFAIL at once.
const MAX_WAITING: usize = 1024;

/// However many recursors there are, a question waits no longer than this, or one recursor's timeout if that is longer:
/// after five seconds the usual asker asks anew. Each recursor gets an equal share of what is left.
const MAX_WAIT: Duration = Duration::from_millis(4500);

/// How many aliases are followed that lead from the recursors of one domain to others'.
const MAX_ALIASES: usize = 4;

/// Where a name is made up that tells whether a recursor of all domains leads back to us. RFC 6761 §6.2.
const PROBE_DOMAIN: &str = "test.";

/// How often a recursor that leads back to us is tried again.
const EXAMINED_EVERY: Duration = Duration::from_secs(30);

/// From one look into suspicions to the next: an outage of a recursor brings many.
const SUSPICION_PAUSE: Duration = Duration::from_secs(5);

/// Why other domains cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The host's own resolvers are unknown.
    #[error("--recursor auto: cannot read /etc/resolv.conf; name a resolver with --recursor IP[:PORT]")]
    SystemConfig(#[source] NetError),
    /// All recursors are ourselves.
    #[error("every --recursor is this very agent; name another resolver with --recursor IP[:PORT]")]
    NobodyElse,
    /// A domain that has recursors of its own is none.
    #[error("--recursor {domain}=...: that is no domain")]
    Domain {
        /// As it was given.
        domain: String,
        /// Why.
        #[source]
        source: ProtoError,
    },
    /// A resolver cannot be set up.
    #[error("cannot set up the recursor {recursor}")]
    Setup {
        /// Which.
        recursor: SocketAddr,
        /// Why.
        #[source]
        source: NetError,
    },
}

/// Asks the upstream resolvers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// The longest domains first.
    routes: Vec<Route>,
    random: bool,
    slots: Arc<Semaphore>,
    probes: Arc<Probes>,
}

/// Who is asked about names in a domain.
#[derive(Debug)]
struct Route {
    domain: Name,
    recursors: Vec<Arc<Upstream>>,
}

impl Forwarder {
    /// Asks `recursors` in their order, or any order; none if there are none. Those that are ourselves, who listen on
    /// `own`, are left out: the question would go round for ever. Those of an `earlier` one go on with what they
    /// remember.
    ///
    /// # Errors
    /// [`ForwardError`] if nobody is left for a domain, or the host's resolvers cannot be read.
    pub(crate) fn new(
        recursors: &[Recursor],
        own: &[SocketAddr],
        settings: &DnsSettings,
        earlier: Option<&Self>,
    ) -> Result<Option<Self>, ForwardError> {
        if recursors.is_empty() {
            return Ok(None);
        }
        let mut known: Vec<Arc<Upstream>> = earlier.into_iter().flat_map(Self::upstreams).cloned().collect();
        let mut upstream = |address: SocketAddr| {
            let same = |known: &&Arc<Upstream>| known.address == address && known.timeout == settings.recursor_timeout;
            if let Some(known) = known.iter().find(same) {
                return Ok(known.clone());
            }
            let new = Arc::new(Upstream::new(address, settings.recursor_timeout)?);
            known.push(new.clone());
            Ok(new)
        };
        let mut routes = Vec::new();
        for (domain, mut servers) in by_domain(recursors)? {
            servers.retain(|server| !own.iter().any(|own| is_same(*own, *server)));
            if servers.is_empty() {
                return Err(ForwardError::NobodyElse);
            }
            routes.push(Route { domain, recursors: servers.into_iter().map(&mut upstream).collect::<Result<_, _>>()? });
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.domain.num_labels()));
        Ok(Some(Self {
            routes,
            random: settings.random_recursor,
            slots: earlier.map_or_else(|| Arc::new(Semaphore::new(MAX_WAITING)), |earlier| earlier.slots.clone()),
            probes: earlier.map(|earlier| earlier.probes.clone()).unwrap_or_default(),
        }))
    }

    /// The domains that others are asked about, `.` for all.
    pub(super) fn domains(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.domain.to_ascii()).collect()
    }

    /// A place among those who wait; none if there are too many.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// What the first upstream resolver that knows says; SERVFAIL if none does, REFUSED if it is for nobody.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        let Ok(mut name) = Name::from_bytes(question.name.as_slice()) else {
            return Answer::error(OptRcode::FORMERR);
        };
        if self.probes.is_back(&name) {
            return Answer::error(OptRcode::REFUSED);
        }
        let qtype = RecordType::from(question.qtype.to_int());
        let until = Instant::now() + self.longest_wait();
        let mut aliases = Vec::new();
        loop {
            let Some(route) = self.route(&name) else {
                return record::behind(aliases, Answer::error(OptRcode::REFUSED));
            };
            let found = self.ask_about(route, &name, qtype, until).await;
            if found.rcode != OptRcode::SERVFAIL || aliases.len() >= MAX_ALIASES {
                return record::behind(aliases, found);
            }
            let Some((alias, target)) = self.alias_elsewhere(route, &name, qtype, until).await else {
                return record::behind(aliases, found);
            };
            aliases.push(alias);
            name = target;
        }
    }

    async fn ask_about(&self, route: &Route, name: &Name, qtype: RecordType, until: Instant) -> Answer {
        let asking = self.probes.asking(name, qtype);
        let recursors = self.in_order(route, name);
        for (i, recursor) in recursors.iter().enumerate() {
            let left = u32::try_from(recursors.len() - i).unwrap_or(u32::MAX);
            let share = until.saturating_duration_since(Instant::now()) / left;
            if share.is_zero() {
                break;
            }
            match recursor.ask(name.clone(), qtype, share).await {
                Ok(found) => return record::positive(&found, name),
                Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) if record::is_no(&nothing) => {
                    return record::negative(nothing);
                }
                Err(error) => {
                    asking.failed();
                    tracing::debug!(%name, recursor = %recursor.address, %error, "asking the next one");
                }
            }
        }
        Answer::error(OptRcode::SERVFAIL)
    }

    /// A server of one domain may know of an alias whose target only others know: that alias, and the target.
    async fn alias_elsewhere(
        &self,
        route: &Route,
        name: &Name,
        qtype: RecordType,
        until: Instant,
    ) -> Option<(Record, Name)> {
        if self.routes.len() < 2 || qtype == RecordType::CNAME {
            return None;
        }
        for recursor in self.in_order(route, name).into_iter().filter(|recursor| !recursor.is_silent()) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(found) = recursor.ask(name.clone(), RecordType::CNAME, left).await else { continue };
            if let Some((alias, target)) = record::alias(&found, name) {
                return (!route.domain.zone_of(&target)).then_some((alias, target));
            }
        }
        None
    }

    fn longest_wait(&self) -> Duration {
        self.upstreams().map(|recursor| recursor.timeout).max().unwrap_or_default().max(MAX_WAIT)
    }

    fn route(&self, name: &Name) -> Option<&Route> {
        self.routes.iter().find(|route| route.domain.zone_of(name))
    }

    /// Those of `route` that do not lead back to us.
    fn in_order<'a>(&self, route: &'a Route, name: &Name) -> Vec<&'a Upstream> {
        let mut order: Vec<_> = route.recursors.iter().map(Arc::as_ref).collect();
        order.retain(|recursor| !recursor.leads_back(name));
        if self.random {
            order.shuffle(&mut rand::rng());
        }
        // Stable: among those who answer, and those who do not, the order stays.
        order.sort_by_key(|recursor| recursor.is_silent());
        order
    }

    /// Who is asked about `name`.
    #[cfg(test)]
    pub(super) fn asked_about(&self, name: &str) -> Vec<SocketAddr> {
        let name = Name::from_ascii(name).expect("a name");
        let route = self.route(&name).map(|route| self.in_order(route, &name));
        route.into_iter().flatten().map(|recursor| recursor.address).collect()
    }

    fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.routes.iter().flat_map(|route| &route.recursors)
    }
}

/// Which recursors lead back to us.
impl Forwarder {
    /// Finds out about all of them, then about those that seem to, and, again and again, about those that did. Does not
    /// end.
    pub(super) async fn watch(&self) {
        self.examine().await;
        let mut again = tokio::time::interval_at(tokio::time::Instant::now() + EXAMINED_EVERY, EXAMINED_EVERY);
        loop {
            tokio::select! {
                _ = again.tick() => self.examine_again().await,
                () = self.probes.suspicion() => {
                    self.examine_suspects().await;
                    // Whatever is suspected meanwhile has its turn then.
                    tokio::time::sleep(SUSPICION_PAUSE).await;
                }
            }
        }
    }

    /// Finds out about all of them: in the domains they are for, and in those in which they did.
    pub(super) async fn examine(&self) {
        for route in &self.routes {
            for recursor in &route.recursors {
                self.examine_one(recursor, &route.domain).await;
            }
        }
        self.examine_again().await;
    }

    /// Finds out whether those that did still do.
    pub(super) async fn examine_again(&self) {
        for recursor in self.upstreams() {
            for domain in recursor.loops() {
                self.examine_one(recursor, &domain).await;
            }
        }
    }

    /// Looks into what is suspected.
    async fn examine_suspects(&self) {
        for name in self.probes.take_suspects() {
            let Some(route) = self.route(&name) else { continue };
            for recursor in &route.recursors {
                self.examine_one(recursor, &route.domain).await;
                if !recursor.leads_back(&name) {
                    self.examine_one(recursor, &name).await;
                }
            }
        }
    }

    /// Asks `recursor` about a made-up name in `domain`. If that comes back to us, so does every question about it.
    async fn examine_one(&self, recursor: &Upstream, domain: &Name) {
        let below = if domain.is_root() { Name::from_ascii(PROBE_DOMAIN).ok() } else { Some(domain.clone()) };
        let Some(probe) = below.and_then(|below| self.probes.make_up(&below)) else { return };
        let found = recursor.ask(probe.name.clone(), RecordType::TXT, MAX_WAIT).await;
        if probe.came_back() {
            recursor.set_loop(domain, true);
        } else if matches!(found, Ok(_) | Err(NetError::Dns(_))) {
            recursor.set_loop(domain, false);
        }
    }
}

/// Each domain with its servers, in the order of `recursors`.
fn by_domain(recursors: &[Recursor]) -> Result<Vec<(Name, Vec<SocketAddr>)>, ForwardError> {
    let mut all: Vec<(Name, Vec<SocketAddr>)> = Vec::new();
    for recursor in recursors {
        let (domain, servers) = match recursor {
            Recursor::At(address) => (Name::root(), vec![*address]),
            Recursor::System => (Name::root(), system_servers()?),
            Recursor::For { domain, at } => {
                let wrong = |source| ForwardError::Domain { domain: domain.clone(), source };
                (Name::from_ascii(format!("{domain}.")).map_err(wrong)?, vec![*at])
            }
        };
        match all.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, known)) => known.extend(servers),
            None => all.push((domain, servers)),
        }
    }
    Ok(all)
}

fn system_servers() -> Result<Vec<SocketAddr>, ForwardError> {
    let (system, _) = read_system_conf().map_err(ForwardError::SystemConfig)?;
    let port = |server: &NameServerConfig| server.connections.first().map_or(53, |c| c.port);
    Ok(system.name_servers().iter().map(|server| SocketAddr::new(server.ip, port(server))).collect())
}

/// Whether a question to `server` would come back to `own`.
fn is_same(own: SocketAddr, server: SocketAddr) -> bool {
    let everywhere = own.ip().is_unspecified() && (server.ip().is_loopback() || server.ip().is_unspecified());
    own.port() == server.port() && (own.ip() == server.ip() || everywhere)
}
