//! Binds the sockets, starts what answers on them, and stops it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, Guard};
use domain::base::iana::OptRcode;
use kvstore_core::{
    State,
    dns::{
        Allowed, Answer, Asked, ConfigError, DnsConfig, Forward, RateLimit, Reaction, Replies, Transport, Zone, cut,
        may_answer, respond,
    },
    near::Distances,
};
use socket2::Socket;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{asker::Asker, forward::Forwarder, tcp, udp};
use crate::{
    metrics::{DnsCounts, DnsMetrics},
    remedy::remedy,
};

/// With port 0, how often another port is tried when UDP cannot have the one TCP got.
const PORT_ATTEMPTS: usize = 16;

/// Why an address is not served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve DNS on {address} over {transport}; {}", remedy(source, "--dns-addr", "127.0.0.1:8600"))]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// The system's word.
    #[source]
    pub source: io::Error,
}

/// Answers DNS questions; may listen on several addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Dns {
    shared: Arc<Shared>,
}

/// What every socket answers from.
#[derive(Debug)]
pub(super) struct Shared {
    settings: ArcSwap<Settings>,
    /// Of the settings.
    changed: Notify,
    snapshots: Arc<ArcSwap<State>>,
    /// None: everything is everybody's.
    asker: Option<Asker>,
    metrics: DnsMetrics,
    distances: Arc<dyn Distances>,
}

/// What may change while questions are answered.
#[derive(Debug)]
pub(crate) struct Settings {
    zone: Zone,
    /// For all sockets together.
    rate_limit: Option<RateLimit>,
    forwarder: Option<Arc<Forwarder>>,
    /// Another one for each.
    revision: u64,
}

impl Settings {
    /// Answers for the zone of `config`; for other names by `forwarder`, if there is one.
    pub(super) fn new(config: DnsConfig, forwarder: Option<Forwarder>) -> Result<Self, ConfigError> {
        let recursion = forwarder.as_ref().map(Forwarder::domains).unwrap_or_default();
        let zone = Zone::new(DnsConfig { recursion, ..config })?;
        let rate_limit = RateLimit::new(zone.config(), rand::random());
        Ok(Self { zone, rate_limit, forwarder: forwarder.map(Arc::new), revision: 0 })
    }
}

/// An address that is served.
#[derive(Debug)]
pub(crate) struct Listening {
    /// With the port that was taken, the same for UDP and TCP.
    pub address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    tcp: tokio::task::JoinHandle<()>,
    forwards: TaskTracker,
}

impl Dns {
    /// Answers for the zone of `config` from the newest of `snapshots`; for other names by `forwarder`, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] if no zone can be made of `config`.
    pub(crate) fn new(
        config: DnsConfig,
        snapshots: Arc<ArcSwap<State>>,
        forwarder: Option<Forwarder>,
    ) -> Result<Self, ConfigError> {
        let settings = ArcSwap::from_pointee(Settings::new(config, forwarder)?);
        let (changed, metrics) = (Notify::new(), DnsMetrics::default());
        let (asker, distances) = (None, Arc::new(()));
        Ok(Self { shared: Arc::new(Shared { settings, changed, snapshots, asker, metrics, distances }) })
    }

    /// Answers by `settings` from now on.
    pub(super) fn change(&self, settings: Settings) {
        let revision = self.shared.settings.load().revision + 1;
        self.shared.settings.store(Arc::new(Settings { revision, ..settings }));
        self.shared.changed.notify_one();
    }

    /// Who is asked about names that are not ours.
    pub(super) fn forwarder(&self) -> Option<Arc<Forwarder>> {
        self.shared.forwarder()
    }

    /// Keeps finding out which recursors lead back to us; does not end.
    pub(super) async fn watch_recursors(&self) {
        loop {
            let changed = self.shared.changed.notified();
            match self.forwarder() {
                Some(forwarder) => tokio::select! { () = changed => {} () = forwarder.watch() => {} },
                None => changed.await,
            }
        }
    }

    /// The same, counting in `metrics`; to be called before anything is served.
    pub(crate) fn counting_in(mut self, metrics: DnsMetrics) -> Self {
        Arc::get_mut(&mut self.shared).expect("nobody has it yet").metrics = metrics;
        self
    }

    /// The same, sorting by what `distances` knows; to be called before anything is served.
    pub(crate) fn sorting_by(mut self, distances: Arc<dyn Distances>) -> Self {
        Arc::get_mut(&mut self.shared).expect("nobody has it yet").distances = distances;
        self
    }

    /// The same, showing what `asker` may see; to be called before anything is served.
    pub(super) fn asked_by(mut self, asker: Option<Asker>) -> Self {
        Arc::get_mut(&mut self.shared).expect("nobody has it yet").asker = asker;
        self
    }

    /// Serves `address` over UDP and TCP until `shutdown`; to be called in a runtime. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`]; nothing is served there then.
    pub(crate) fn listen(&self, address: SocketAddr, shutdown: &CancellationToken) -> Result<Listening, BindError> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let (listener, sockets) = bind(address, count)?;
        let failed = |transport| move |source| BindError { address, transport, source };
        let bound = listener.local_addr().map_err(failed("TCP"))?;
        let listener = TcpListener::from_std(listener).map_err(failed("TCP"))?;

        let (stop, forwards) = (shutdown.child_token(), TaskTracker::new());
        let mut threads = Vec::new();
        for (i, socket) in sockets.iter().enumerate() {
            let server = udp::Server {
                socket: socket.clone(),
                sockets: count,
                shared: self.shared.clone(),
                shutdown: stop.clone(),
                runtime: tokio::runtime::Handle::current(),
                forwards: forwards.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("dns-{i}")).spawn(move || server.run());
            // Those that were started end with the rest.
            threads.push(thread.inspect_err(|_| stop.cancel()).map_err(failed("UDP"))?);
        }
        let tcp = tcp::serve(listener, self.shared.clone(), stop.clone());
        let wake = async move {
            stop.cancelled().await;
            for socket in &sockets {
                udp::wake(socket);
            }
        };
        let tcp = tokio::spawn(async move {
            tokio::join!(tcp, wake);
        });
        Ok(Listening { address: bound, threads, tcp, forwards })
    }
}

impl Listening {
    /// Waits for the shutdown, and for all that was under way to end.
    pub(crate) async fn stopped(self) {
        if let Err(error) = self.tcp.await {
            tracing::error!(%error, "DNS over TCP ended badly");
        }
        for thread in self.threads {
            // Joining blocks, so it is done where that is allowed.
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("DNS over UDP ended badly");
            }
        }
        self.forwards.close();
        self.forwards.wait().await;
    }
}

/// One TCP listener and `count` UDP sockets on the same port.
fn bind(address: SocketAddr, count: usize) -> Result<(std::net::TcpListener, Vec<Arc<Socket>>), BindError> {
    let failed = |transport| move |source| BindError { address, transport, source };
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        // TCP first: it shares its port with nobody, so that two agents never split the questions between them.
        let listener = tcp::bind(address).map_err(failed("TCP"))?;
        let bound = listener.local_addr().map_err(failed("TCP"))?;
        let sockets: io::Result<Vec<_>> = (0..count).map(|_| udp::bind(bound).map(Arc::new)).collect();
        match sockets {
            Ok(sockets) => return Ok((listener, sockets)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(failed("UDP")(error)),
        }
    }
}

impl Shared {
    /// Answers from the state that is the newest now.
    pub(super) fn now(&self, by: Transport) -> Now<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Serial numbers wrap around. RFC 1982.
        let unix_seconds = u32::try_from(now & u64::from(u32::MAX)).unwrap_or_default();
        let settings = self.settings.load();
        let (state, changes) = match &self.asker {
            None => (self.snapshots.load(), 0),
            Some(asker) => {
                let (seen, changes) = asker.see(|| self.snapshots.load_full());
                (Guard::from_inner(seen), changes)
            }
        };
        // None of them ever goes back.
        let revision = settings.revision + changes + state.life();
        Now { shared: self, settings, state, revision, by, unix_seconds, counts: DnsCounts::default() }
    }

    /// A connection was closed for another's sake.
    pub(super) fn crowded_out(&self, connections: usize) {
        self.metrics.crowded_out(connections);
    }

    /// Who is asked about names that are not ours.
    pub(super) fn forwarder(&self) -> Option<Arc<Forwarder>> {
        self.settings.load().forwarder.clone()
    }

    /// Writes the reply over `out`; `found` is what the upstream resolvers said, nothing if they were not asked.
    pub(super) fn finish(&self, forward: Forward, found: Option<Answer>, by: Transport, out: &mut Vec<u8>) -> Reaction {
        let found = found.unwrap_or_else(|| Answer::error(OptRcode::SERVFAIL));
        forward.finish(found, by, &self.settings.load().zone, out)
    }
}

/// One moment: questions that came together are answered from the same state.
pub(super) struct Now<'a> {
    shared: &'a Shared,
    settings: Guard<Arc<Settings>>,
    state: Guard<Arc<State>>,
    /// Another one once replies of before may not be given again.
    revision: u64,
    by: Transport,
    unix_seconds: u32,
    counts: DnsCounts,
}

impl Now<'_> {
    /// Answers a question; a reply is written over `out`.
    pub(super) fn respond(&mut self, packet: &[u8], from: IpAddr, seed: u64, out: &mut Vec<u8>) -> Reaction {
        let reaction = respond(packet, &self.asked(from, seed), &self.state, &self.settings.zone, out);
        self.counts.add(&reaction, out);
        reaction
    }

    /// The same over UDP, where one of `replies` will do, and who asks may be somebody else.
    pub(super) fn respond_again(
        &mut self,
        replies: &mut Replies,
        packet: &[u8],
        from: SocketAddr,
        seed: u64,
        out: &mut Vec<u8>,
    ) -> Reaction {
        replies.keep_to(self.revision);
        let (allowed, zone) = (self.allowed(from), &self.settings.zone);
        let reaction = match allowed {
            Allowed::Reply => replies.respond(packet, &self.asked(from.ip(), seed), &self.state, zone, out),
            Allowed::Cut => cut(packet, zone, out),
            Allowed::Nothing => Reaction::Ignore,
        };
        self.counts.add(&reaction, out);
        self.counts.again += replies.take_hits();
        reaction
    }

    fn allowed(&mut self, from: SocketAddr) -> Allowed {
        if !may_answer(from.port()) {
            return Allowed::Nothing;
        }
        let Some(limit) = &self.settings.rate_limit else { return Allowed::Reply };
        let allowed = limit.count(from.ip(), self.unix_seconds);
        self.counts.limited += u64::from(allowed != Allowed::Reply);
        allowed
    }

    fn asked(&self, from: IpAddr, seed: u64) -> Asked<'_> {
        let (by, unix_seconds) = (self.by, self.unix_seconds);
        Asked { from, by, seed, unix_seconds, distances: &*self.shared.distances }
    }
}

impl Drop for Now<'_> {
    fn drop(&mut self) {
        self.shared.metrics.count(self.by, self.counts);
    }
}
