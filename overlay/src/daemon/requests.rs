//! What the daemon is asked for.

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::info;
use uuid::Uuid;

use super::Daemon;
use crate::{
    mesh::{NewNetwork, Refusal, Request},
    names,
    network::{Network, NetworkId, NetworkName, NodeId},
    overlap,
    probe::Answer,
    record::{Body, Key, NetworkRecord, NodeRecord},
    registry,
};

/// As long as nobody says otherwise: 254 containers a block.
const BLOCK_BITS: u8 = 24;

impl Daemon {
    pub(super) async fn handle(&mut self, request: Request, tell: &mpsc::Sender<Answer>) -> Result<Value, Refusal> {
        match request {
            Request::Status => Ok(self.report()),
            Request::CreateNetwork(_) if self.saved.left => {
                let why = "this host has left the mesh; `overlay start` lets it join again";
                Err(Refusal::Conflict(why.into()))
            }
            Request::AddClient(new) => self.add_client(new).await,
            Request::RemoveClient(name) => self.remove_client(&name),
            Request::Clients => Ok(self.list_clients()),
            Request::Learn(registries) => {
                self.use_registries(registries);
                Ok(json!({}))
            }
            Request::CreateNetwork(new) => {
                // What has gone since the last look is in nobody's way.
                self.tunnel.survey().await;
                let used = self.tunnel.used_by_others().await;
                let network = if new.local { self.create_local(&new, &used)? } else { self.create(new, &used).await? };
                Ok(serde_json::to_value(network).expect("plain data"))
            }
            Request::RemoveNetwork(name) => self.remove(&name).await.map(|()| json!({})),
            Request::Evict(host) => self.evict(&host).await,
            Request::Rotate => {
                self.needs_registry()?;
                let epoch = self.bring_secret().await.map_err(Refusal::Away)?;
                Ok(json!({ "epoch": epoch }))
            }
            Request::Secret => Ok(json!({ "secret": *self.keyring.current().text() })),
            Request::Leave => self.leave().await,
            Request::ExposeLan(new) => self.expose_lan(new).await,
            Request::HideLan(subnet) => self.hide_lan(subnet).await,
            Request::Stop => {
                self.set_stopped(true)?;
                self.tunnel.close();
                info!("the tunnel is stopped; containers of this host still reach each other");
                Ok(json!({}))
            }
            Request::Start => {
                self.saved.left = false;
                self.set_stopped(false)?;
                if self.tunnel.plane().is_none() {
                    self.tunnel.open(&self.identity, false, tell).await;
                }
                Ok(json!({}))
            }
            Request::Reset => {
                // Also where the registry cannot be told: then the grace time does it.
                let named = self.hide_all().await;
                let pending = self.leave().await.err().map(|refusal| refusal.to_string()).or(named);
                self.saved.local.clear();
                self.saved.blocks.clear();
                self.saved.client_blocks.clear();
                self.saved.clients.clear();
                (self.saved.left, self.saved.stopped) = (true, true);
                self.store()?;
                self.tunnel.remove().await.map_err(Refusal::Away)?;
                Ok(json!({ "pending": pending }))
            }
        }
    }

    fn set_stopped(&mut self, stopped: bool) -> Result<(), Refusal> {
        self.saved.stopped = stopped;
        self.store()
    }

    pub(super) fn store(&mut self) -> Result<(), Refusal> {
        self.save().map_err(|e| Refusal::Away(kvstore_client::with_causes(&e)))
    }

    pub(super) fn needs_registry(&self) -> Result<(), Refusal> {
        if self.world.evicted(self.me()) {
            return Err(Refusal::Conflict("this host was evicted from the mesh".into()));
        }
        match &self.registry_away {
            Some(why) => Err(Refusal::Away(format!("the registry does not answer: {why}"))),
            None if !self.read_once => Err(Refusal::Away("the registry has not answered yet".into())),
            None => Ok(()),
        }
    }

    /// All subnets that a new network must not meet; others on this host have `used`.
    fn taken(&self, used: &[IpNet]) -> Vec<IpNet> {
        let networks = self.world.networks().into_iter().chain(&self.saved.local);
        let subnets = networks.flat_map(|network| [IpNet::V4(network.subnet), IpNet::V6(network.subnet6)]);
        let lans = self.world.members(self.now()).flat_map(|(_, node)| node.lan.iter().copied().map(IpNet::V4));
        subnets.chain(lans).chain(used.iter().copied()).collect()
    }

    /// What this host's driver has given to Docker, whether or not the mesh knows of it yet; but for the subnets of `new`
    /// itself, which it may be told of by that.
    fn given_to_docker(&self, new: &NewNetwork) -> Vec<IpNet> {
        let own = [new.subnet.map(IpNet::V4), new.subnet6.map(IpNet::V6)];
        self.ends.pools.borrow().iter().copied().filter(|pool| !own.contains(&Some(*pool))).collect()
    }

    fn design(&self, new: &NewNetwork, bits: Option<u8>, used: &[IpNet]) -> Result<Network, Refusal> {
        let named = |network: &&Network| network.name == new.name;
        if self.world.networks().into_iter().chain(&self.saved.local).any(|network| named(&network)) {
            return Err(Refusal::Conflict(format!("there is a network {} already", new.name)));
        }
        let id = NetworkId(Uuid::new_v4());
        let taken = [self.taken(used), self.given_to_docker(new)].concat();
        let free = || overlap::free(u32::try_from(id.0.as_u128() & 0xffff).expect("sixteen bits"), &taken);
        let subnet = match new.subnet {
            Some(subnet) => match overlap::clash(subnet, &taken) {
                None => subnet,
                Some(other) => {
                    let instead = free().map_or(String::new(), |free| format!("; {free} is free"));
                    return Err(Refusal::Conflict(format!("{subnet} overlaps with {other}, which is in use{instead}")));
                }
            },
            None => free().ok_or_else(|| Refusal::Conflict("no subnet is free: give one by --subnet".into()))?,
        };
        let bits = bits.unwrap_or(subnet.prefix_len());
        let made = Network::new(new.name.clone(), id, subnet, bits, crate::now_ms());
        let made = made.map_err(|e| Refusal::Wrong(e.to_string()))?;
        let subnet6 = new.subnet6.unwrap_or(made.subnet6);
        let network = Network { local: new.local, hosts: new.hosts.clone(), subnet6, ..made };
        network.check().map_err(|e| Refusal::Wrong(e.to_string()))?;
        // An address of its own on a link, as the driver's bridges have it, is in nobody's way.
        let meets = |net: &&IpNet| match net {
            IpNet::V6(v6) => (1..128).contains(&v6.prefix_len()) && (v6.contains(&subnet6) || subnet6.contains(v6)),
            IpNet::V4(_) => false,
        };
        match taken.iter().find(meets).filter(|_| !new.local) {
            Some(other) => Err(Refusal::Conflict(format!("{subnet6} overlaps with {other}, which is in use"))),
            None => Ok(network),
        }
    }

    fn create_local(&mut self, new: &NewNetwork, used: &[IpNet]) -> Result<Network, Refusal> {
        let network = self.design(new, None, used)?;
        self.saved.local.push(network.clone());
        if let Err(refusal) = self.store() {
            self.saved.local.pop();
            return Err(refusal);
        }
        info!("network {} is {}, on this host only", network.name, network.subnet);
        Ok(network)
    }

    async fn create(&mut self, new: NewNetwork, used: &[IpNet]) -> Result<Network, Refusal> {
        self.needs_registry()?;
        let bits = new.block_bits.unwrap_or_else(|| new.subnet.map_or(BLOCK_BITS, |s| s.prefix_len().max(BLOCK_BITS)));
        let network = self.design(&new, Some(bits), used)?;
        let key = Key::Network(network.name.clone());
        self.put_network(key, Some(network.clone())).await?;
        info!("network {} is {}", network.name, network.subnet);
        Ok(network)
    }

    async fn put_network(&mut self, key: Key, network: Option<Network>) -> Result<(), Refusal> {
        let record = self.write(&key, Body::Network(NetworkRecord { network }));
        match registry::put(&self.client, &key, record.text.clone(), self.world.index(&key)).await {
            Ok(true) => {
                let _ = self.world.believe(&key, record);
                Ok(())
            }
            Ok(false) => Err(Refusal::Conflict("another host changed this network just now; look again".into())),
            Err(error) => Err(Refusal::Away(kvstore_client::with_causes(&error))),
        }
    }

    async fn remove(&mut self, name: &NetworkName) -> Result<(), Refusal> {
        if let Some(found) = self.saved.local.iter().position(|network| network.name == *name) {
            let removed = self.saved.local.remove(found);
            if let Err(refusal) = self.store() {
                self.saved.local.insert(found, removed);
                return Err(refusal);
            }
        } else if self.world.has_network(name) {
            self.needs_registry()?;
            self.put_network(Key::Network(name.clone()), None).await?;
        } else {
            return Err(Refusal::Unknown(format!("there is no network {name}; `overlay network ls` shows them")));
        }
        info!("network {name} is gone");
        Ok(())
    }

    /// The one host that is called so, or whose id begins so.
    fn find(&self, host: &str) -> Result<NodeId, Refusal> {
        let fits = |(id, node): &(NodeId, &NodeRecord)| node.name == host || id.to_string().starts_with(host);
        let found: Vec<_> = self.world.members(self.now()).filter(fits).map(|(id, _)| id).collect();
        match found[..] {
            [id] => Ok(id),
            [] => Err(Refusal::Unknown(format!("no host is called {host}; `overlay status peers` shows them"))),
            _ => {
                let ids: Vec<_> = found.iter().map(|id| id.short()).collect();
                Err(Refusal::Wrong(format!("{host} is several hosts; say which by its id: {}", ids.join(", "))))
            }
        }
    }

    async fn evict(&mut self, host: &str) -> Result<Value, Refusal> {
        let id = self.find(host)?;
        if id == self.me() {
            return Err(Refusal::Wrong("this is this host; `overlay leave` takes it out".into()));
        }
        self.put_out(id);
        // Here at once, however long the registry takes.
        self.step().await;
        let written = self.tell_put_out(id).await;
        names::forget_soon(&self.client, id);
        let rotated = match written {
            Ok(()) => self.bring_secret().await,
            Err(why) => Err(why),
        };
        Ok(json!({ "id": id, "epoch": rotated.as_ref().ok(), "pending": rotated.err() }))
    }

    /// Takes this host out: the others forget it at once, and what it held is free.
    async fn leave(&mut self) -> Result<Value, Refusal> {
        let key = Key::Node(self.me());
        let name = self.config.name.clone();
        let record = self.write(&key, Body::Node(Box::new(NodeRecord { name, left: true, ..NodeRecord::default() })));
        if !self.world.evicted(self.me()) {
            self.needs_registry()?;
            let put = registry::put(&self.client, &key, record.text.clone(), self.world.index(&key)).await;
            match put {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::Conflict("the registry has just changed; do it again".into())),
                Err(error) => return Err(Refusal::Away(kvstore_client::with_causes(&error))),
            }
            for holding in std::mem::take(&mut self.saved.blocks) {
                let key = Key::Block(holding.network, holding.block);
                // What is not removed now is by another member, later.
                let _ = registry::delete(&self.client, &key, self.world.index(&key)).await;
            }
            let _ = self.world.believe(&key, record);
        }
        self.saved.blocks.clear();
        self.saved.client_blocks.clear();
        self.saved.clients.clear();
        self.saved.left = true;
        self.store()?;
        info!("this host has left the mesh");
        Ok(json!({}))
    }
}
