//! What this host believes of the mesh: the newest authentic record of each key, whoever lost it since. Pure. A record
//! that is missing in the registry is no news; only a newer one, a tombstone, or the grace time takes something away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use crate::{
    network::{Block, Network, NetworkId, NetworkName, NodeId},
    record::{Body, Holding, Key, NodeRecord, PREFIX, Record, RecordError},
    secret::Keyring,
};

/// A key of the registry with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With [`PREFIX`].
    pub key: String,
    /// As it is there.
    pub value: Vec<u8>,
    /// For compare-and-set.
    pub modify_index: u64,
    /// A session holds it.
    pub locked: bool,
}

/// Why what the registry has is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is no authentic record.
    Record(RecordError),
    /// A newer one was there before.
    Old {
        /// What this one says.
        rev: u64,
        /// What was there.
        known: u64,
    },
    /// Its author is out for good.
    Evicted(NodeId),
    /// Its author says to have held a block before a record in which it did not.
    Backdated(Holding),
    /// There are two records of the same time; this is the one that all hosts leave aside.
    Twin,
}

/// What came of looking at the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Something is believed that was not before.
    pub changed: bool,
    /// What was not believed.
    pub doubts: Vec<(String, Doubt)>,
}

/// What is believed.
#[derive(Clone, Debug, Default)]
pub struct World {
    records: BTreeMap<Key, Record>,
    /// The index of what the registry has at each key, believed or not.
    indexes: BTreeMap<Key, u64>,
    /// The time of what it has there, where that is authentic.
    there: BTreeMap<Key, u64>,
    /// Hosts whose session is there.
    live: BTreeSet<NodeId>,
    /// When each host was last seen alive, or first heard of; seconds since 1970.
    alive: BTreeMap<NodeId, u64>,
    changes: Changes,
}

/// How often what is believed has changed since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In any record.
    pub all: u64,
    /// In what no host alone stands for: networks, and who is out for good.
    pub shared: u64,
}

/// What time it is, and how long a host may be away before what it holds is given to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Seconds.
    pub grace: u64,
}

impl World {
    /// What was believed before this start: records as they were written, and when hosts were alive.
    pub fn remembered(keyring: &Keyring, records: &BTreeMap<String, String>, alive: BTreeMap<NodeId, u64>) -> Self {
        let read = |(key, text): (&String, &String)| {
            let key: Key = key.parse().ok()?;
            Some((key.clone(), Record::read(keyring, &key, text.as_bytes()).ok()?))
        };
        Self { records: records.iter().filter_map(read).collect(), alive, ..Self::default() }
    }

    /// To be given to [`Self::remembered`] after the next start.
    pub fn to_remember(&self) -> (BTreeMap<String, String>, BTreeMap<NodeId, u64>) {
        let text = |(key, record): (&Key, &Record)| (key.to_string(), record.text.clone());
        (self.records.iter().map(text).collect(), self.alive.clone())
    }

    /// Looks at all that the registry has below [`PREFIX`].
    pub fn absorb(&mut self, keyring: &Keyring, entries: &[Entry], now: u64) -> Report {
        let mut report = Report::default();
        let before = self.live.clone();
        (self.live, self.indexes, self.there) = Default::default();
        let mut read = Vec::new();
        for entry in entries {
            let key = entry.key.strip_prefix(PREFIX).unwrap_or(&entry.key);
            match key.parse::<Key>() {
                Ok(Key::Live(id)) if entry.locked => drop(self.live.insert(id)),
                Ok(Key::Live(_)) => {}
                Ok(key) => {
                    self.indexes.insert(key.clone(), entry.modify_index);
                    // What is believed was verified once; that is most of what is there.
                    if let Some(known) = self.records.get(&key)
                        && known.text.as_bytes() == entry.value
                    {
                        self.there.insert(key, known.rev);
                        continue;
                    }
                    match Record::read(keyring, &key, &entry.value) {
                        Ok(record) => read.push((key, record)),
                        Err(error) => report.doubts.push((entry.key.clone(), Doubt::Record(error))),
                    }
                }
                Err(error) => report.doubts.push((entry.key.clone(), Doubt::Record(error))),
            }
        }
        // Tombstones first: what their hosts say besides is then seen in their light.
        read.sort_by_key(|(key, _)| !matches!(key, Key::Gone(_)));
        for (key, record) in read {
            self.there.insert(key.clone(), record.rev);
            match self.believe(&key, record) {
                Ok(new) => report.changed |= new,
                Err(doubt) => report.doubts.push((key.path(), doubt)),
            }
        }
        self.note_alive(now);
        report.changed |= before != self.live;
        report
    }

    /// Takes one record, of the registry or one that this host is about to put there. True if it is new.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn believe(&mut self, key: &Key, record: Record) -> Result<bool, Doubt> {
        if let Some(tombstone) = self.records.get(&Key::Gone(record.author()))
            && record.rev > tombstone.rev
            && self.records.get(key).is_none_or(|known| *known != record)
        {
            return Err(Doubt::Evicted(record.author()));
        }
        if let Some(known) = self.records.get(key) {
            if known.text == record.text {
                return Ok(false);
            }
            if known.rev > record.rev {
                return Err(Doubt::Old { rev: record.rev, known: known.rev });
            }
            if known.rev == record.rev && known.text > record.text {
                return Err(Doubt::Twin);
            }
            if let Some(holding) = backdated(known, &record) {
                return Err(Doubt::Backdated(holding));
            }
        }
        self.records.insert(key.clone(), record);
        self.changes.all += 1;
        self.changes.shared += u64::from(matches!(key, Key::Network(_) | Key::Gone(_)));
        Ok(true)
    }

    /// How often what is believed has changed since the start.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    fn note_alive(&mut self, now: u64) {
        let nodes: Vec<_> = self.nodes().map(|(id, _)| id).collect();
        for id in nodes {
            let seen = self.alive.entry(id).or_insert(now);
            if self.live.contains(&id) {
                *seen = now;
            }
        }
    }

    /// Forgets the hosts that are away for longer than the grace time and that the registry has forgotten, too, with all
    /// that hangs on them. Tombstones stay. True if there was anything.
    pub fn forget(&mut self, now: Now) -> bool {
        let known: Vec<_> = self.nodes().map(|(id, _)| id).collect();
        let over: BTreeSet<_> = known
            .into_iter()
            .filter(|id| self.lapsed(*id, now) && !self.indexes.contains_key(&Key::Node(*id)))
            .collect();
        let about = |key: &Key| match key {
            Key::Node(id) | Key::Links(id) => over.contains(id),
            Key::Seen(id, by) => over.contains(id) || over.contains(by),
            _ => false,
        };
        let before = self.records.len();
        self.records.retain(|key, _| !about(key));
        self.alive.retain(|id, _| !over.contains(id));
        let forgotten = self.records.len() != before;
        self.changes.all += u64::from(forgotten);
        forgotten
    }

    /// What is believed, and the registry does not have, or has an older one of.
    pub fn missing(&self) -> BTreeSet<Key> {
        let lost = |(key, record): &(&Key, &Record)| self.there.get(key).is_none_or(|rev| *rev < record.rev);
        self.records.iter().filter(lost).map(|(key, _)| key.clone()).collect()
    }

    /// All records.
    pub fn records(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.iter()
    }

    /// The record of a key.
    pub fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(key)
    }

    /// What to compare with when `key` is written: 0 if the registry has nothing there.
    pub fn index(&self, key: &Key) -> u64 {
        self.indexes.get(key).copied().unwrap_or(0)
    }

    /// The keys that the registry has, whatever is in them.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.indexes.keys()
    }

    /// All hosts that were ever heard of and not forgotten.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        let nodes = self.records.range(Key::Node(NodeId::MIN)..=Key::Node(NodeId::MAX));
        nodes.filter_map(|(key, record)| match (key, &record.body) {
            (Key::Node(id), Body::Node(node)) => Some((*id, &**node)),
            _ => None,
        })
    }

    /// A host's record.
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        match &self.records.get(&Key::Node(id))?.body {
            Body::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Whether a host is out for good.
    pub fn evicted(&self, id: NodeId) -> bool {
        self.records.contains_key(&Key::Gone(id))
    }

    /// Whether its session is there.
    pub fn live(&self, id: NodeId) -> bool {
        self.live.contains(&id)
    }

    /// When it was last seen alive; seconds since 1970.
    pub fn last_alive(&self, id: NodeId) -> Option<u64> {
        self.alive.get(&id).copied()
    }

    fn lapsed(&self, id: NodeId, now: Now) -> bool {
        !self.live(id) && self.last_alive(id).is_some_and(|seen| seen.saturating_add(now.grace) <= now.seconds)
    }

    /// The hosts that belong to the mesh: neither evicted, nor left, nor away for too long.
    pub fn members(&self, now: Now) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes().filter(move |(id, node)| !node.left && !self.evicted(*id) && !self.lapsed(*id, now))
    }

    /// Whether a host is one of them.
    pub fn is_member(&self, id: NodeId, now: Now) -> bool {
        self.node(id).is_some_and(|node| !node.left) && !self.evicted(id) && !self.lapsed(id, now)
    }

    /// The networks, by name. Two never overlap: the one made later is left out.
    pub fn networks(&self) -> Vec<&Network> {
        let (mut kept, _) = self.sorted_out();
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        kept
    }

    /// Those that are left out, each with one that is in its way.
    pub fn left_out(&self) -> Vec<(&Network, &Network)> {
        self.sorted_out().1
    }

    fn sorted_out(&self) -> (Vec<&Network>, Vec<(&Network, &Network)>) {
        // They stand before all other keys.
        let all = self.records.values().map_while(|record| match &record.body {
            Body::Network(network) => Some(network.network.as_ref()),
            _ => None,
        });
        let all = all.flatten();
        let mut by_age: Vec<_> = all.collect();
        by_age.sort_by_key(|network| (network.since, network.id));
        let (mut kept, mut left_out): (Vec<&Network>, _) = (Vec::new(), Vec::new());
        for network in by_age {
            let clash = |other: &&Network| {
                crate::overlap::overlap(other.subnet, network.subnet) || other.subnet6 == network.subnet6
            };
            match kept.iter().copied().find(clash) {
                Some(other) => left_out.push((network, other)),
                None => kept.push(network),
            }
        }
        (kept, left_out)
    }

    /// The network called so.
    pub fn network(&self, name: &NetworkName) -> Option<&Network> {
        self.networks().into_iter().find(|network| network.name == *name)
    }

    /// Whether there is one called so, be it left out.
    pub fn has_network(&self, name: &NetworkName) -> bool {
        let record = self.record(&Key::Network(name.clone()));
        record.is_some_and(|record| matches!(&record.body, Body::Network(network) if network.network.is_some()))
    }

    /// Who holds each block, and since when: of those who say so, the one with the lower (since, id).
    pub fn holders(&self, now: Now) -> BTreeMap<Block, (u64, NodeId)> {
        let networks: BTreeMap<NetworkId, &Network> = self.networks().into_iter().map(|n| (n.id, n)).collect();
        let mut holders = BTreeMap::new();
        for (id, node) in self.members(now) {
            for holding in &node.blocks {
                let network = networks.get(&holding.network).filter(|network| network.hosts.include(&node.name));
                let Some(block) = network.and_then(|network| network.block_of(holding.block)) else { continue };
                let claim = (holding.since, id);
                let first = holders.entry(block).or_insert(claim);
                *first = claim.min(*first);
            }
        }
        holders
    }

    /// Blocks that more than one host says to hold; all but the first are about to let go.
    pub fn double_claims(&self, now: Now) -> usize {
        let mut claims: BTreeMap<_, usize> = BTreeMap::new();
        for (_, node) in self.members(now) {
            for holding in &node.blocks {
                *claims.entry((holding.network, holding.block)).or_default() += 1;
            }
        }
        claims.values().filter(|count| **count > 1).count()
    }

    /// The blocks that nobody may have yet though their host is out: until the grace time is over somebody may still
    /// send from there.
    pub fn kept_back(&self, now: Now) -> BTreeSet<Block> {
        let networks: BTreeMap<NetworkId, &Network> = self.networks().into_iter().map(|n| (n.id, n)).collect();
        let recent = |id: NodeId| {
            let tombstone = self.records.get(&Key::Gone(id));
            tombstone.is_some_and(|gone| gone.rev / 1000 + now.grace > now.seconds)
        };
        let out = self.nodes().filter(|(id, node)| !node.left && recent(*id));
        let blocks = out.flat_map(|(_, node)| &node.blocks);
        blocks.filter_map(|held| networks.get(&held.network)?.block_of(held.block)).collect()
    }

    /// Where a host is heard, and by whom.
    pub fn seen(&self, id: NodeId) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let seen = self.records.range(Key::Seen(id, NodeId::MIN)..=Key::Seen(id, NodeId::MAX));
        seen.filter_map(|(key, record)| match (key, &record.body) {
            (Key::Seen(_, by), Body::Seen(seen)) => Some((*by, seen.address)),
            _ => None,
        })
    }

    /// Whom each host says it does not reach without another one between: seldom anybody.
    pub fn cut_off(&self) -> impl Iterator<Item = (NodeId, &[NodeId])> {
        let links = self.records.range(Key::Links(NodeId::MIN)..=Key::Links(NodeId::MAX));
        links.filter_map(|(key, record)| match (key, &record.body) {
            (Key::Links(from), Body::Links(links)) => Some((*from, &*links.not_to)),
            _ => None,
        })
    }
}

/// A block that `new` has since before `known`, which does not have it.
fn backdated(known: &Record, new: &Record) -> Option<Holding> {
    let (Body::Node(known_node), Body::Node(node)) = (&known.body, &new.body) else { return None };
    let before = |holding: &&Holding| holding.since < known.rev && !known_node.blocks.contains(holding);
    node.blocks.iter().find(before).copied()
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Old { rev, known } => write!(f, "it is older ({rev}) than one that was there before ({known})"),
            Self::Evicted(id) => write!(f, "its author, {id}, was evicted"),
            Self::Backdated(holding) => {
                write!(f, "its author says to have {} since before it did not have it", holding.block)
            }
            Self::Twin => f.write_str("its author wrote another one at the same time"),
        }
    }
}

impl Doubt {
    /// In a word, to count by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Record(RecordError::Forged | RecordError::Signature | RecordError::Author { .. }) => "forged",
            Self::Record(RecordError::Epoch(_)) => "epoch",
            Self::Record(_) => "malformed",
            Self::Old { .. } | Self::Twin => "old",
            Self::Evicted(_) => "evicted",
            Self::Backdated(_) => "backdated",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
