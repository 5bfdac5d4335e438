//! Who belongs to the mesh: secrets that are handed on, hosts that are put out.

use tracing::{info, warn};

use super::Daemon;
use crate::{
    join::{Known, MAX_REGISTRIES},
    network::NodeId,
    record::{Body, GoneRecord, Key, RecordError, SealedRecord},
    registry, seal,
    secret::{Epoch, Secret},
    world::Doubt,
};

/// What a host is told that has another secret than all others.
pub(super) const STRANGER: &str = "every other host in the registry has another secret: to be of their mesh this one is to be \
                                   given what `overlay secret show` prints on one of them";

impl Daemon {
    /// The newest secret that records are written with and that this host lacks: it was evicted, or not told.
    pub(super) fn note_epoch(&mut self, doubt: &Doubt) {
        if let Doubt::Record(RecordError::Epoch(epoch)) = doubt
            && *epoch > self.keyring.current().epoch()
        {
            self.lacks_epoch = self.lacks_epoch.max(Some(*epoch));
        }
    }

    /// Whether the registry has hosts, none of which has this host's secret: it was given a wrong one, or is the first of its
    /// mesh there.
    pub(super) fn note_strangers(&mut self, doubts: &[(String, Doubt)]) {
        let another = |(_, doubt): &(String, Doubt)| matches!(doubt, Doubt::Record(RecordError::Forged));
        let me = self.me();
        let is_stranger = doubts.iter().any(another) && self.world.nodes().all(|(id, _)| id == me);
        if is_stranger && !self.is_stranger {
            warn!("{STRANGER}");
        }
        self.is_stranger = is_stranger;
    }

    /// Takes the secrets that members have sealed for this host. True if there was a new one.
    pub(super) fn learn_secrets(&mut self) -> bool {
        let (me, current) = (self.me(), self.keyring.current().epoch());
        let sealed = self.world.records().filter_map(|(key, record)| match (key, &record.body) {
            (Key::Sealed(epoch, id), Body::Sealed(sealed)) if *id == me && *epoch > current => {
                Some((*epoch, record.by.wireguard, record.author(), sealed.sealed.clone()))
            }
            _ => None,
        });
        let mut learned = false;
        for (epoch, author, id, text) in sealed.collect::<Vec<_>>() {
            if self.world.evicted(id) || self.world.node(id).is_none() {
                continue;
            }
            if let Some(secret) = seal::open(self.identity.key(), author, epoch, &text) {
                info!("the mesh's secret of epoch {epoch} is here, by {}", self.name(id));
                learned |= self.add_secret(secret).is_ok();
            } else {
                warn!("the secret of epoch {epoch} by {} cannot be read", self.name(id));
            }
        }
        self.forget_secrets();
        learned
    }

    /// Keeps the registries that members use, for when those that were given are gone.
    pub(super) fn learn_registries(&mut self) {
        let members = self.world.members(self.now());
        let mut all: Vec<_> = members.flat_map(|(_, node)| &node.registries).cloned().collect();
        all.sort();
        self.use_registries(all);
    }

    /// Puts these before those that are known, which stay as long as there is room: who named them may be gone.
    pub(super) fn use_registries(&mut self, first: Vec<String>) {
        let mut all: Vec<String> = Vec::new();
        for registry in first.into_iter().chain(self.saved.registries.iter().cloned()) {
            if all.len() < MAX_REGISTRIES && !all.contains(&registry) {
                all.push(registry);
            }
        }
        if all == self.saved.registries {
            return;
        }
        self.saved.registries = all;
        match kvstore_client::Client::new(&self.config.registry_and(&self.saved.registries)) {
            Ok(client) => {
                self.client = client.clone();
                self.clients.send_replace(client);
            }
            Err(error) => {
                warn!("the registries of other members cannot be used: {}", kvstore_client::with_causes(&error));
            }
        }
        self.store_or_tell();
        self.tell_known();
    }

    /// For hosts that join by this one.
    pub(super) fn tell_known(&self) {
        let used = self.config.registry_and(&self.saved.registries).addresses;
        let registries = used.into_iter().filter(|address| !Self::is_own(address)).take(MAX_REGISTRIES).collect();
        self.known.send_replace(Known { keyring: self.keyring.clone(), registries });
    }

    pub(super) fn add_secret(&mut self, secret: Secret) -> Result<(), crate::secret::SecretError> {
        let mut ring = self.keyring.clone();
        ring.add(secret);
        ring.store(&self.config.state_dir.join(crate::SECRETS))?;
        self.keyring = ring;
        self.tell_known();
        Ok(())
    }

    /// When every member that lives has the newest secret, the ones before are good for nothing any more.
    fn forget_secrets(&mut self) {
        let current = self.keyring.current().epoch();
        let epoch = |id: NodeId| self.world.record(&Key::Node(id)).map_or(0, |record| record.epoch);
        let mut members = self.world.members(self.now()).peekable();
        if members.peek().is_none() || members.any(|(id, _)| epoch(id) < current) {
            return;
        }
        // Networks and tombstones were written anew by whoever brought the secret.
        let shared = |key: &Key| matches!(key, Key::Network(_) | Key::Gone(_));
        if self.world.records().any(|(key, record)| shared(key) && record.epoch < current) {
            return;
        }
        let mut ring = self.keyring.clone();
        if ring.forget_before(current) && ring.store(&self.config.state_dir.join(crate::SECRETS)).is_ok() {
            self.keyring = ring;
        }
    }

    /// A new secret, sealed for every member; then what no host alone stands for is written with it.
    pub(super) async fn bring_secret(&mut self) -> Result<Epoch, String> {
        let epoch = self.keyring.current().epoch() + 1;
        let secret = Secret::generate(epoch).map_err(|e| e.to_string())?;
        let me = self.me();
        let members: Vec<_> = self.world.members(self.now()).map(|(id, _)| id).filter(|id| *id != me).collect();
        for id in members {
            let Some(to) = self.world.record(&Key::Node(id)).map(|record| record.by.wireguard) else { continue };
            let sealed = seal::seal(self.identity.key(), to, &secret).map_err(|e| e.to_string())?;
            let key = Key::Sealed(epoch, id);
            let record = self.write(&key, Body::Sealed(SealedRecord { sealed }));
            let put = registry::put(&self.client, &key, record.text.clone(), self.world.index(&key)).await;
            match put {
                Ok(true) => drop(self.world.believe(&key, record)),
                Ok(false) => return Err(format!("another host brings a secret of epoch {epoch} just now")),
                Err(error) => return Err(kvstore_client::with_causes(&error)),
            }
        }
        self.add_secret(secret).map_err(|e| kvstore_client::with_causes(&e))?;
        let shared = |key: &Key| matches!(key, Key::Network(_) | Key::Gone(_));
        let again: Vec<_> =
            self.world.records().filter(|(key, _)| shared(key)).map(|(k, r)| (k.clone(), r.body.clone())).collect();
        for (key, body) in again {
            let record = self.write(&key, body);
            let _ = self.world.believe(&key, record);
        }
        info!("the mesh has a new secret, of epoch {epoch}");
        Ok(epoch)
    }

    /// Puts a host out, for good.
    pub(super) fn put_out(&mut self, id: NodeId) {
        let key = Key::Gone(id);
        let record = self.write(&key, Body::Gone(GoneRecord { name: self.name(id) }));
        let _ = self.world.believe(&key, record);
        info!("{} is evicted", self.name(id));
    }

    /// Has the registry know it.
    pub(super) async fn tell_put_out(&self, id: NodeId) -> Result<(), String> {
        let key = Key::Gone(id);
        let text = self.world.record(&key).map(|record| record.text.clone()).unwrap_or_default();
        match registry::put(&self.client, &key, text, self.world.index(&key)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(kvstore_client::with_causes(&error)),
        }
    }
}
