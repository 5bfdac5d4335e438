//! The one owner of what this host holds and does: hears of the registry, of peers that answer and of requests, one after
//! the other, and has the plans made anew and carried out after them. What is decided stands in the pure modules.

mod asking;
mod clients;
mod lan;
mod membership;
mod pace;
mod report;
mod requests;
mod tunnel;
mod wanted;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kvstore_client::{Client, with_causes};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    candidates::Turn,
    config::Config,
    firewall,
    identity::Identity,
    join::Known,
    mesh::{Asked, Ends},
    names,
    network::{Block, NetworkId, NodeId},
    peers::{Plan, View},
    probe::{Answer, Hearing},
    record::Holding,
    registry::Seen,
    secret::{Epoch, Keyring},
    state::{Held, HeldNetwork, Saved, StateError, Upkeep},
    status::Status,
    world::{Doubt, Now, World},
};

use asking::Ways;
use pace::Pace;
use tunnel::Tunnel;
use wanted::Refused;
use writes::Writes;

/// What repairs, if nothing happened meanwhile.
const TICK: Duration = Duration::from_secs(1);
/// A block is given out of only when nobody else turned out to have claimed it by then.
const SETTLE: Duration = Duration::from_millis(300);
/// Doubts are told once an hour each, and no more than so many of them are remembered.
const MAX_DOUBTS: usize = 1000;

/// Everything the daemon has in hand.
pub(crate) struct Daemon {
    config: Config,
    identity: Identity,
    keyring: Keyring,
    client: Client,
    /// For those who follow the registry.
    clients: watch::Sender<Client>,
    /// For those who ask where the registries are.
    known: watch::Sender<Known>,
    world: World,
    saved: Saved,
    upkeep: Upkeep,
    ends: Ends,
    status: Arc<Status>,
    registry_away: Option<String>,
    /// The registry has been read at least once since the start.
    read_once: bool,
    writes: Writes,
    lacks_epoch: Option<Epoch>,
    /// Others are there, and every one of them has another secret.
    is_stranger: bool,
    /// Claims that are not settled yet.
    settling: BTreeMap<Holding, Instant>,
    /// Networks that cannot be on this host, and why.
    refused: BTreeMap<NetworkId, Refused>,
    hearing: Hearing,
    ways: Ways,
    turns: BTreeMap<NodeId, Turn>,
    tunnel: Tunnel,
    plan: Plan,
    /// What was doubted already, so that it is told once.
    doubted: BTreeSet<(String, String)>,
    started: Instant,
}

/// What the daemon is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) keyring: Keyring,
    pub(crate) clients: watch::Sender<Client>,
    pub(crate) known: watch::Sender<Known>,
    pub(crate) saved: Saved,
    pub(crate) ends: Ends,
    pub(crate) status: Arc<Status>,
}

impl Daemon {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, identity, keyring, clients, known, mut saved, ends, status } = parts;
        let client = clients.borrow().clone();
        let world = World::remembered(&keyring, &std::mem::take(&mut saved.records), saved.alive.clone());
        let tunnel = Tunnel::new(&config);
        let now = Instant::now();
        let daemon = Self {
            config,
            identity,
            keyring,
            client,
            clients,
            known,
            world,
            saved,
            upkeep: Upkeep::default(),
            ends,
            status,
            registry_away: None,
            read_once: false,
            writes: Writes::default(),
            lacks_epoch: None,
            is_stranger: false,
            settling: BTreeMap::new(),
            refused: BTreeMap::new(),
            hearing: Hearing::default(),
            ways: Ways::default(),
            turns: BTreeMap::new(),
            tunnel,
            plan: Plan::default(),
            doubted: BTreeSet::new(),
            started: now,
        };
        // At once: whoever opens the doors takes what is not there for gone.
        daemon.ends.held.send_replace(Arc::new(daemon.held()));
        daemon
    }

    /// Until `shutdown`. The kernel's WireGuard goes on without us; ours ends.
    pub(crate) async fn run(mut self, mut seen: watch::Receiver<Seen>, shutdown: CancellationToken) {
        let (tell, mut answers) = mpsc::channel::<Answer>(256);
        let (meddle, mut meddled) = mpsc::channel(1);
        let listener = tokio::spawn(async move {
            if let Err(error) = firewall::listen(meddle).await {
                warn!("whether others change the rules that keep networks apart is not heard: {error}");
            }
        });
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tunnel.open(&self.identity, self.saved.stopped, &tell).await;
        self.tell_known();
        let mut pace = Pace::default();
        pace.news();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = pace.wait() => {
                    let began = Instant::now();
                    self.step().await;
                    pace.stepped(began, Instant::now());
                }
                asked = self.ends.requests.recv() => match asked {
                    Some(Asked { request, reply }) => {
                        let changes = !request.only_asks();
                        // Nobody may wait any more; what was done stays done.
                        let _ = reply.send(self.handle(request, &tell).await);
                        if changes {
                            self.step().await;
                        }
                    }
                    None => break,
                },
                changed = seen.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = seen.borrow_and_update().clone();
                    self.look(&now);
                    pace.news();
                }
                written = self.writes.next() => {
                    self.written(written);
                    pace.news();
                }
                Some((address, size)) = answers.recv() => if self.answered(address, size) {
                    pace.news();
                },
                Some(()) = meddled.recv() => if !self.tunnel.check_rules().await {
                    pace.news();
                },
                _ = tick.tick() => {
                    self.tick(&tell).await;
                    pace.news();
                }
            }
        }
        listener.abort();
        self.keep(true);
        self.tunnel.end().await;
    }

    fn now(&self) -> Now {
        Now { seconds: crate::now_ms() / 1000, grace: self.config.grace.as_secs() }
    }

    fn me(&self) -> NodeId {
        self.identity.node()
    }

    /// The registry has something new, or does not answer any more.
    fn look(&mut self, seen: &Seen) {
        let was_away = self.registry_away.is_some() || !self.read_once;
        self.registry_away.clone_from(&seen.away);
        self.status.registry.store(seen.away.is_none(), std::sync::atomic::Ordering::Relaxed);
        if seen.away.is_some() {
            // From now on it is nowhere else.
            if !was_away {
                self.keep(true);
            }
            return;
        }
        let alive = self.world.last_alive(self.me());
        let report = self.world.absorb(&self.keyring, &seen.entries, self.now().seconds);
        self.writes.seen();
        if !self.read_once {
            self.read_once = true;
            self.find_lost(alive);
        }
        if was_away {
            self.name_again();
        }
        self.lacks_epoch = None;
        self.note_strangers(&report.doubts);
        for (key, doubt) in report.doubts {
            self.note_epoch(&doubt);
            // What this host has written since may not have been there yet.
            if matches!(doubt, Doubt::Old { .. }) && key.contains(&self.me().to_string()) {
                continue;
            }
            self.status.count_doubt(doubt.kind());
            if self.doubted.len() >= MAX_DOUBTS {
                self.doubted.clear();
            }
            if self.doubted.insert((key.clone(), doubt.to_string())) {
                warn!("{key} in the registry is not believed: {doubt}");
            }
        }
        self.learn_registries();
        if self.learn_secrets() {
            // What was written with them could not be read before.
            self.lacks_epoch = None;
            self.world.absorb(&self.keyring, &seen.entries, self.now().seconds);
        }
    }

    async fn tick(&mut self, tell: &mpsc::Sender<Answer>) {
        if self.tunnel.is_lost(self.saved.stopped) {
            self.tunnel.open(&self.identity, self.saved.stopped, tell).await;
        }
        self.tunnel.survey().await;
        if self.registry_away.is_none() && self.world.forget(self.now()) {
            info!("hosts that were away for longer than the grace time are forgotten");
        }
        self.ask().await;
    }

    /// Has everything be as it follows from what is known now.
    async fn step(&mut self) {
        if self.belongs() {
            self.follow_networks();
            self.publish_self();
            self.restore();
            self.clear_up();
        }
        self.make_plan();
        let held = self.held();
        // After a reset nothing is made again.
        if !(self.saved.left && self.saved.stopped) {
            self.tunnel.apply(&self.wanted(&held)).await;
        }
        self.hearing.keep(self.plan.peers.iter().map(|(id, _)| *id), Instant::now());
        self.count(&held);
        names::tell(&self.ends.names, |all| &mut all.clients, self.client_names());
        if **self.ends.held.borrow() != held {
            self.ends.held.send_replace(Arc::new(held));
        }
        self.keep(false);
    }

    fn belongs(&self) -> bool {
        !self.saved.left && !self.world.evicted(self.me())
    }

    fn make_plan(&mut self) {
        let now = self.now();
        let heard = self.hearing.heard(Instant::now());
        let ours: Vec<_> = self.tunnel.addresses().to_vec();
        let members: BTreeSet<_> = self.world.members(now).map(|(id, _)| id).filter(|id| *id != self.me()).collect();
        self.turns.retain(|id, _| members.contains(id));
        let mut endpoints = BTreeMap::new();
        for id in members {
            let candidates = crate::peers::candidates(&self.world, id, now);
            let candidates = crate::candidates::order(&candidates, &ours);
            let is_heard = heard.get(&id).copied().unwrap_or(false);
            let turn = self.turns.entry(id).or_default();
            if let Some(endpoint) = turn.endpoint(candidates, is_heard, self.started.elapsed()) {
                endpoints.insert(id, endpoint);
            }
        }
        let view = View { me: self.me(), heard: &heard, endpoints: &endpoints };
        let plan = crate::peers::plan(&self.world, &self.keyring, &view, now);
        if plan.relayed != self.plan.relayed {
            for (id, hop) in &plan.relayed {
                if self.plan.relayed.get(id) != Some(hop) {
                    info!("{} is not reached directly, but through {}", self.name(*id), self.name(*hop));
                }
            }
        }
        self.plan = plan;
    }

    /// What a host is called.
    fn name(&self, id: NodeId) -> String {
        self.world.node(id).map_or_else(|| id.short(), |node| node.name.clone())
    }

    /// The blocks that are this host's, by all that is known, and settled.
    fn settled(&self, network: NetworkId) -> Vec<Block> {
        let Some(network) = self.world.networks().into_iter().find(|n| n.id == network) else { return Vec::new() };
        let holders = self.world.holders(self.now());
        let mine = self.saved.blocks.iter().filter(|holding| holding.network == network.id);
        // Those for clients are nobody else's.
        let mine = mine.filter(|holding| !self.saved.client_blocks.contains(holding));
        let blocks = mine.filter(|holding| !self.settling.contains_key(*holding));
        let blocks = blocks.filter_map(|holding| network.block_of(holding.block));
        blocks.filter(|block| holders.get(block).is_none_or(|(_, id)| *id == self.me())).collect()
    }

    fn held(&self) -> Held {
        let belongs = self.belongs();
        let shared = self.world.networks().into_iter().filter(|network| belongs && self.takes_part(network));
        let shared = shared.map(|network| HeldNetwork {
            network: network.clone(),
            blocks: self.settled(network.id),
            mtu: self.config.mtu,
        });
        let local = self.saved.local.iter().map(|network| HeldNetwork {
            network: network.clone(),
            blocks: vec![network.block(0)],
            mtu: LOCAL_MTU,
        });
        let mut networks: Vec<_> = shared.chain(local).collect();
        networks.sort_by(|a, b| a.network.name.cmp(&b.network.name));
        let Config { name, interface, .. } = &self.config;
        Held { node: self.me(), host: name.clone(), tunnel: interface.clone(), networks }
    }

    /// Keeps what is believed on the disk, if it is time to.
    fn keep(&mut self, last: bool) {
        if (last || self.upkeep.is_due(self.world.changes(), self.started.elapsed()))
            && let Err(error) = self.save()
        {
            error!("{}; after a restart without the registry this host would not know its peers", with_causes(&error));
        }
    }

    /// Keeps all on the disk, what is believed, too.
    fn save(&mut self) -> Result<(), StateError> {
        self.upkeep.kept(self.world.changes(), self.started.elapsed());
        (self.saved.records, self.saved.alive) = self.world.to_remember();
        let stored = self.saved.store(&self.config.state_dir);
        // The world has them.
        self.saved.records.clear();
        stored
    }
}

/// What is usual on one host.
const LOCAL_MTU: u16 = 1500;
