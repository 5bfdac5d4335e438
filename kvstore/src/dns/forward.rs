//! Names that are not ours: asked of the upstream resolvers one after the other, each with a cache of its own.
//!
//! They are not asked at the same time: with several, the first often knows names that the others deny.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::base::{
    Name, Ttl, UnknownRecordData,
    iana::{Class, OptRcode, Rtype},
};
use kvstore_core::dns::{Answer, Data, Question, Record};
use rand::seq::SliceRandom;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trust_dns_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name as UpstreamName, Record as UpstreamRecord, RecordType},
        serialize::binary::{BinDecodable, BinEncodable, BinEncoder, NameEncoding},
    },
    system_conf::read_system_conf,
};

use crate::config::{DnsSettings, Recursor};

/// Questions that may wait for upstream at the same time; more get SERVFAIL at once.
const MAX_WAITING: usize = 1024;

/// Why other domains cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The host's own resolvers are unknown.
    #[error("--recursor auto: cannot read /etc/resolv.conf; name a resolver with --recursor IP[:PORT]")]
    SystemConfig(#[source] NetError),
    /// All recursors are ourselves.
    #[error("every --recursor is this very agent; name another resolver with --recursor IP[:PORT]")]
    NobodyElse,
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

/// How long a recursor that did not answer is asked last.
const SILENCE: Duration = Duration::from_secs(10);

/// Asks the upstream resolvers.
#[derive(Debug)]
pub struct Forwarder {
    recursors: Vec<Upstream>,
    random: bool,
    /// For one question to one recursor.
    timeout: Duration,
    slots: Arc<Semaphore>,
}

/// One recursor.
struct Upstream {
    address: SocketAddr,
    resolver: TokioResolver,
    silent_since: Mutex<Option<Instant>>,
}

impl Forwarder {
    /// Asks `recursors` in their order, or any order; none if there are none. Those that are ourselves, who listen on
    /// `own`, are left out: the question would go round for ever.
    ///
    /// # Errors
    /// [`ForwardError`] if nobody is left, or the host's resolvers cannot be read.
    pub fn new(
        recursors: &[Recursor],
        own: &[SocketAddr],
        settings: &DnsSettings,
    ) -> Result<Option<Self>, ForwardError> {
        if recursors.is_empty() {
            return Ok(None);
        }
        let mut servers = addresses(recursors)?;
        servers.retain(|server| !own.iter().any(|own| is_same(*own, *server)));
        if servers.is_empty() {
            return Err(ForwardError::NobodyElse);
        }
        let upstream = |address| Upstream::new(address, settings.recursor_timeout);
        Ok(Some(Self {
            recursors: servers.into_iter().map(upstream).collect::<Result<_, _>>()?,
            random: settings.random_recursor,
            timeout: settings.recursor_timeout,
            slots: Arc::new(Semaphore::new(MAX_WAITING)),
        }))
    }

    /// A place among those who wait; none if there are too many.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// What the first upstream resolver that knows says; SERVFAIL if none does.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        let Ok(name) = UpstreamName::from_bytes(question.name.as_slice()) else {
            return Answer::error(OptRcode::FORMERR);
        };
        let qtype = RecordType::from(question.qtype.to_int());
        for recursor in self.in_order() {
            let lookup = recursor.resolver.lookup(name.clone(), qtype);
            let found = tokio::time::timeout(self.timeout, lookup).await.unwrap_or(Err(NetError::Timeout));
            recursor.note(&found);
            match found {
                Ok(found) => {
                    let answers = found.answers().iter().filter_map(record).collect();
                    return Answer { answers, ..Answer::error(OptRcode::NOERROR) };
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) if is_no(nothing.response_code) => {
                    return negative(nothing);
                }
                Err(error) => {
                    tracing::debug!(name = %question.name, recursor = %recursor.address, %error, "asking the next one");
                }
            }
        }
        Answer::error(OptRcode::SERVFAIL)
    }

    fn in_order(&self) -> Vec<&Upstream> {
        let mut order: Vec<_> = self.recursors.iter().collect();
        if self.random {
            order.shuffle(&mut rand::rng());
        }
        // Stable: among those who answer, and those who do not, the order stays.
        order.sort_by_key(|recursor| recursor.is_silent());
        order
    }
}

impl Upstream {
    fn new(address: SocketAddr, timeout: Duration) -> Result<Self, ForwardError> {
        let config = ResolverConfig::from_name_servers(vec![name_server(address)]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = timeout;
        // A packet that is lost is sent again within the timeout.
        options.attempts = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|source| ForwardError::Setup { recursor: address, source })?;
        Ok(Self { address, resolver, silent_since: Mutex::new(None) })
    }

    fn is_silent(&self) -> bool {
        self.silent_since().is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Remembers whether it answered, and says so when that changes.
    fn note(&self, found: &Result<Lookup, NetError>) {
        let answered = matches!(found, Ok(_) | Err(NetError::Dns(_)));
        let mut since = self.silent_since();
        match (answered, since.is_some()) {
            (true, true) => {
                tracing::info!(recursor = %self.address, "the recursor answers again");
            }
            (false, false) => {
                tracing::warn!(recursor = %self.address, "the recursor does not answer; it is asked last");
            }
            _ => {}
        }
        *since = (!answered).then(Instant::now);
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An answer, though without records; all else is a failure of the one who was asked.
fn is_no(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn negative(nothing: NoRecords) -> Answer {
    let rcode = OptRcode::masked_from_int(nothing.response_code.into());
    let soa = nothing.soa.and_then(|soa| record(&soa.into_record_of_rdata()));
    Answer { authority: soa.into_iter().collect(), ..Answer::error(rcode) }
}

/// A record as the core has it; none if it cannot be one, which no upstream resolver sends.
fn record(found: &UpstreamRecord) -> Option<Record> {
    let owner = Name::from_octets(Bytes::from(wire(&found.name)?)).ok()?;
    let rtype = Rtype::from_int(found.record_type().into());
    let data = UnknownRecordData::from_octets(rtype, Bytes::from(wire(&found.data)?)).ok()?;
    Some(Record::new(owner, Class::IN, Ttl::from_secs(found.ttl), Data::Unknown(data)))
}

/// On its own, and so without pointers to names elsewhere.
fn wire(part: &impl BinEncodable) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    part.emit(&mut encoder).ok()?;
    Some(bytes)
}

fn addresses(recursors: &[Recursor]) -> Result<Vec<SocketAddr>, ForwardError> {
    let mut all = Vec::new();
    for recursor in recursors {
        match recursor {
            Recursor::At(address) => all.push(*address),
            Recursor::System => {
                let (system, _) = read_system_conf().map_err(ForwardError::SystemConfig)?;
                let port = |server: &NameServerConfig| server.connections.first().map_or(53, |c| c.port);
                all.extend(system.name_servers().iter().map(|server| SocketAddr::new(server.ip, port(server))));
            }
        }
    }
    Ok(all)
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Whether a question to `server` would come back to `own`.
fn is_same(own: SocketAddr, server: SocketAddr) -> bool {
    let everywhere = own.ip().is_unspecified() && (server.ip().is_loopback() || server.ip().is_unspecified());
    own.port() == server.port() && (own.ip() == server.ip() || everywhere)
}
