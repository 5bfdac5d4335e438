//! What is on its way to the registry: one write a key at a time, none of them waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kvstore_client::{Client, Error, with_causes};
use tokio::{task::JoinSet, time::Instant};
use tracing::{debug, info};

use super::Daemon;
use crate::{
    blocks::{self, Me, Step},
    names,
    network::{Block, Network},
    record::{BlockRecord, Body, Candidate, Holding, Key, LinksRecord, NodeRecord, Record, SeenRecord, Source},
    registry,
};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// By then the watch has shown what was written.
const SHOWN: Duration = Duration::from_secs(3);
/// Where others are heard changes often behind some NATs; it is told no more often than this.
const SEEN_EVERY: Duration = Duration::from_secs(10);
/// That links are there again is told no more often.
const LINKS_EVERY: Duration = Duration::from_secs(2);
/// That they are gone, no more often: where one host falls silent, others may.
const LINKS_GONE_EVERY: Duration = Duration::from_millis(300);

/// A write that has ended.
pub(super) struct Written {
    key: Key,
    /// A claim of this block.
    claim: Option<Block>,
    result: Result<bool, Error>,
}

#[derive(Default)]
pub(super) struct Writes {
    running: JoinSet<Written>,
    /// Keys that are being written, or whose outcome is not seen yet; until when at the most.
    pending: BTreeMap<Key, Option<Instant>>,
    /// When it was last told where each peer is heard.
    told: BTreeMap<Key, Instant>,
    /// When it was last told whom this host reaches.
    links_told: Option<Instant>,
}

impl Writes {
    /// The next one that ends; never, if there is none.
    pub(super) async fn next(&mut self) -> Written {
        match self.running.join_next().await {
            Some(Ok(written)) => written,
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    /// The registry has been read: what has ended is in what was read, or is to be tried again.
    pub(super) fn seen(&mut self) {
        self.pending.retain(|_, until| until.is_none());
    }

    fn is_pending(&self, key: &Key) -> bool {
        self.pending.get(key).is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }

    fn put(&mut self, client: &Client, key: Key, text: String, cas: u64, claim: Option<Block>) {
        self.pending.insert(key.clone(), None);
        let client = client.clone();
        self.running.spawn(async move {
            let result = registry::put(&client, &key, text, cas).await;
            Written { key, claim, result }
        });
    }

    fn delete(&mut self, client: &Client, key: Key, cas: u64) {
        self.pending.insert(key.clone(), None);
        let client = client.clone();
        self.running.spawn(async move {
            let result = registry::delete(&client, &key, cas).await;
            Written { key, claim: None, result }
        });
    }
}

impl Daemon {
    pub(super) fn written(&mut self, written: Written) {
        let Written { key, claim, result } = written;
        let pause = match &result {
            Ok(true) => SHOWN,
            Ok(false) => {
                debug!("{key} has been written by another one meanwhile");
                SHOWN
            }
            Err(error) => {
                debug!("{key} could not be written: {}", with_causes(error));
                AGAIN
            }
        };
        self.writes.pending.insert(key, Some(Instant::now() + pause));
        if let (Some(block), Ok(true)) = (claim, &result) {
            // Not before this host last said that it does not have it: it may have said so while the claim was on its way,
            // and nobody, not even itself, would believe it.
            let since = self.next_rev(&Key::Node(self.me()));
            let holding = Holding { network: block.network, block: block.v4, since };
            info!("this host has the block {} now", block.v4);
            self.saved.blocks.push(holding);
            self.settling.insert(holding, Instant::now() + super::SETTLE);
            self.store_or_tell();
        }
    }

    pub(super) fn store_or_tell(&mut self) {
        if let Err(error) = self.save() {
            tracing::error!("{}", with_causes(&error));
        }
    }

    /// A time for a record of `key` that is later than all before.
    pub(super) fn next_rev(&self, key: &Key) -> u64 {
        let known = self.world.record(key).map_or(0, |record| record.rev);
        crate::now_ms().max(known + 1)
    }

    /// Whether the containers of this host may be in `network`, and nothing else here has its addresses.
    pub(super) fn takes_part(&self, network: &Network) -> bool {
        network.hosts.include(&self.config.name) && !self.refused.contains_key(&network.id)
    }

    /// Claims blocks and lets them go.
    pub(super) fn follow_networks(&mut self) {
        self.refuse_clashes();
        let now = Instant::now();
        self.settling.retain(|_, until| *until > now);
        // Whoever has not read the registry does not know what is taken.
        if !self.read_once || self.registry_away.is_some() {
            return;
        }
        let usage = self.ends.usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let (held, apart) = (&*self.saved.blocks, &*self.saved.client_blocks);
        let me = Me { node: self.me(), name: &self.config.name, held, apart };
        let steps = blocks::plan(&self.world, me, &usage, self.now());
        for step in steps {
            match step {
                Step::Claim { block, cas } => {
                    let claiming = |key: &Key| matches!(key, Key::Block(network, _) if *network == block.network);
                    let refused = self.refused.contains_key(&block.network);
                    if !refused && !self.writes.pending.keys().any(|key| claiming(key) && self.writes.is_pending(key)) {
                        self.claim(block, cas);
                    }
                }
                Step::Yield(holding) => {
                    tracing::error!(
                        "{} was another host's before; this one gives it up, and containers that have addresses of it \
                         are not reached from other hosts until they are started again",
                        holding.block
                    );
                    self.status.yielded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.let_go(holding);
                }
                Step::Release(holding) => {
                    info!("this host gives back the block {}", holding.block);
                    self.let_go(holding);
                    let key = Key::Block(holding.network, holding.block);
                    let cas = self.world.index(&key);
                    if cas > 0 && !self.writes.is_pending(&key) {
                        self.writes.delete(&self.client, key, cas);
                    }
                }
                Step::Restore(block) => {
                    let key = Key::Block(block.network, block.v4);
                    if !self.writes.is_pending(&key) {
                        let since = self.saved.blocks.iter().find(|held| held.block == block.v4).map_or(0, |h| h.since);
                        let record = self.write(&key, Body::Block(BlockRecord { since }));
                        self.writes.put(&self.client, key, record.text, 0, None);
                    }
                }
            }
        }
    }

    /// At the first look at the registry: what others were given while this host was away.
    pub(super) fn find_lost(&mut self, alive: Option<u64>) {
        for holding in blocks::lost_while_away(&self.world, self.me(), &self.saved.blocks, alive, self.now()) {
            tracing::warn!(
                "{} went to another host while this one was away for longer than the grace time",
                holding.block
            );
            self.let_go(holding);
        }
    }

    fn let_go(&mut self, holding: Holding) {
        self.saved.blocks.retain(|other| *other != holding);
        self.settling.remove(&holding);
        self.forget_client_block(holding);
        self.store_or_tell();
    }

    fn claim(&mut self, block: Block, cas: u64) {
        let key = Key::Block(block.network, block.v4);
        let since = self.next_rev(&Key::Node(self.me()));
        let record = self.write(&key, Body::Block(BlockRecord { since }));
        self.writes.put(&self.client, key, record.text, cas, Some(block));
    }

    pub(super) fn write(&self, key: &Key, body: Body) -> Record {
        Record::write(&self.identity, &self.keyring, key, self.next_rev(key), body)
    }

    /// Writes what this host says, where it says something else than before; it is believed here at once.
    pub(super) fn publish_self(&mut self) {
        let me = self.me();
        self.say(&Key::Node(me), Body::Node(Box::new(self.self_record())));
        let heard = self.hearing.heard(Instant::now());
        let not_to = heard.iter().filter(|(_, heard)| !**heard).map(|(id, _)| *id).collect();
        self.say_links(LinksRecord { not_to });
        for (id, address) in self.observed() {
            let key = Key::Seen(id, me);
            if self.writes.told.get(&key).is_none_or(|then| then.elapsed() >= SEEN_EVERY)
                && heard.get(&id) == Some(&true)
                && self.say(&key, Body::Seen(SeenRecord { address }))
            {
                self.writes.told.insert(key, Instant::now());
            }
        }
        let known: BTreeSet<_> = self.plan.peers.iter().map(|(id, _)| *id).collect();
        self.writes.told.retain(|key, _| matches!(key, Key::Seen(id, _) if known.contains(id)));
    }

    /// A link that is gone is told at once, that one is there again now and then: when a host goes or comes, all others
    /// tell of it, and each that hears of it reads everything. Who reaches all says nothing.
    fn say_links(&mut self, links: LinksRecord) {
        let key = Key::Links(self.me());
        let known = match self.world.record(&key).map(|record| &record.body) {
            Some(Body::Links(known)) => known.not_to.as_slice(),
            None if links.not_to.is_empty() => return,
            _ => &[],
        };
        let gone = links.not_to.iter().any(|id| !known.contains(id));
        let pause = if gone { LINKS_GONE_EVERY } else { LINKS_EVERY };
        let recent = self.writes.links_told.is_some_and(|then| then.elapsed() < pause);
        if !recent && self.say(&key, Body::Links(links)) {
            self.writes.links_told = Some(Instant::now());
        }
    }

    /// Peers that are heard from elsewhere than they say.
    fn observed(&self) -> Vec<(crate::network::NodeId, std::net::SocketAddr)> {
        let stats = self.tunnel.stats();
        let ids: BTreeMap<_, _> = self.plan.peers.iter().map(|(id, peer)| (peer.key, *id)).collect();
        let seen = stats.into_iter().filter_map(|stat| Some((*ids.get(&stat.key)?, stat.endpoint?)));
        let says = |id, address| {
            self.world.node(id).is_some_and(|node| node.endpoints.iter().any(|said| said.address == address))
        };
        seen.filter(|(id, address)| !says(*id, *address)).collect()
    }

    /// True if it is something new.
    fn say(&mut self, key: &Key, body: Body) -> bool {
        if let Some(known) = self.world.record(key) {
            // Whoever restarts says the same as before, but never less than what was read of it just now.
            if known.body == body && known.epoch == self.keyring.current().epoch() {
                return false;
            }
        }
        let record = self.write(key, body);
        self.world.believe(key, record).is_ok_and(|new| new)
    }

    fn self_record(&self) -> NodeRecord {
        let of = |source, address| Candidate { source, address };
        let set = self.config.endpoints.iter().map(|address| of(Source::Set, *address));
        let port = self.config.port;
        let local = self.tunnel.own_places().into_iter().map(|ip| of(Source::Local, (ip, port).into()));
        NodeRecord {
            name: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            plane: self.tunnel.plane(),
            endpoints: set.chain(local).take(32).collect(),
            mtu: self.config.mtu,
            relay: self.config.relay,
            blocks: self.saved.blocks.clone(),
            lan: self.saved.lans.iter().map(|lan| lan.subnet).collect(),
            registries: self.reachable_registries(),
            left: false,
        }
    }

    /// The registries of this host that others may reach, too. Who has none, but was told of a member, knows no more than
    /// that one.
    fn reachable_registries(&self) -> Vec<String> {
        let given = self.config.registry.addresses.iter().filter(|_| !self.config.joining);
        given.filter(|address| !Self::is_own(address)).cloned().collect()
    }

    /// Whether only this host reaches a registry of this address.
    pub(super) fn is_own(address: &str) -> bool {
        let host = address.split_once("://").map_or(address, |(_, host)| host);
        ["unix:", "127.", "localhost", "[::1]"].iter().any(|part| address.starts_with(part) || host.starts_with(part))
    }

    /// Puts into the registry what it has lost, or never had: what is ours, and what no host alone stands for.
    pub(super) fn restore(&mut self) {
        if !self.read_once || self.registry_away.is_some() {
            return;
        }
        let me = self.me();
        for key in self.world.missing() {
            let ours = match &key {
                Key::Node(id) | Key::Links(id) | Key::Seen(_, id) => *id == me,
                Key::Network(_) | Key::Gone(_) => true,
                Key::Sealed(..) => self.world.record(&key).is_some_and(|record| record.author() == me),
                Key::Block(..) | Key::Live(_) => false,
            };
            if ours && !self.writes.is_pending(&key) {
                let text = self.world.record(&key).map(|record| record.text.clone()).unwrap_or_default();
                let cas = self.world.index(&key);
                self.writes.put(&self.client, key, text, cas, None);
            }
        }
    }

    /// Removes what hosts left behind, if it is this one's turn.
    pub(super) fn clear_up(&mut self) {
        if !self.read_once || self.registry_away.is_some() {
            return;
        }
        for (key, cas) in blocks::left_over(&self.world, self.me(), self.now()) {
            if !self.writes.is_pending(&key) {
                info!("{key} is removed from the registry: its host is gone");
                if let Key::Node(id) = key {
                    names::forget_soon(&self.client, id);
                }
                self.writes.delete(&self.client, key, cas);
            }
        }
    }
}
