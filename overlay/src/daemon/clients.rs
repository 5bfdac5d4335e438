//! Clients: machines that have this host for their only peer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde_json::{Value, json};
use tracing::info;

use super::Daemon;
use crate::{
    blocks,
    clients::{Client, MTU, NewClient},
    device::Peer,
    mesh::Refusal,
    names::Name,
    network::{Block, Network, NetworkId},
    record::{BlockRecord, Body, Holding, Key},
    registry,
    routes::Route,
};

/// Stands where the secret key of a client is to be, which this host never sees.
const SECRET: &str = "(the secret key of the public key that was given)";

impl Daemon {
    pub(super) async fn add_client(&mut self, new: NewClient) -> Result<Value, Refusal> {
        let key = new.check().map_err(Refusal::Wrong)?;
        let network = self.world.network(&new.network).cloned();
        let network = network.filter(|network| self.takes_part(network)).ok_or_else(|| {
            Refusal::Unknown(format!(
                "there is no network {} on this host; `overlay network ls` shows them",
                new.network
            ))
        })?;
        let known = self.saved.clients.iter().find(|client| client.name == new.name || client.key == new.key);
        if let Some(client) = known {
            return Err(Refusal::Conflict(format!("there is a client {} already, with {}", client.name, client.key)));
        }
        if key == self.identity.key().public() || self.plan.peers.iter().any(|(_, peer)| peer.key == key) {
            return Err(Refusal::Wrong("this is the key of a member".into()));
        }
        let endpoint = new.endpoint.or_else(|| self.place()).ok_or_else(|| {
            Refusal::Wrong("this host knows no address where a client would find it: give one by --endpoint".into())
        })?;
        if self.room(&new, &network).is_none() {
            self.claim_for_clients(&network).await?;
        }
        let small = || Refusal::Conflict("the network's blocks are too small for clients".into());
        let client = self.room(&new, &network).ok_or_else(small)?;
        self.saved.clients.push(client.clone());
        if let Err(refusal) = self.store() {
            self.saved.clients.pop();
            return Err(refusal);
        }
        info!("the client {} has {} in {}", client.name, client.v4, network.name);
        let configuration = client.configuration(&self.identity, &network, endpoint, SECRET);
        Ok(json!({ "client": client, "configuration": configuration, "secret": SECRET }))
    }

    /// The client, if there is room for it in a block that this host has for clients.
    fn room(&self, new: &NewClient, network: &Network) -> Option<Client> {
        let blocks = self.saved.client_blocks.iter().filter(|holding| holding.network == network.id);
        let mut blocks = blocks.filter_map(|holding| network.block_of(holding.block));
        blocks.find_map(|block| Client::new(new, network, block, &self.saved.clients))
    }

    /// A block that no container gets an address of.
    async fn claim_for_clients(&mut self, network: &Network) -> Result<(), Refusal> {
        self.needs_registry()?;
        let full = || Refusal::Conflict(format!("the network {} has no block that is free", network.name));
        let (block, cas) = blocks::free(&self.world, network, self.me(), self.now()).ok_or_else(full)?;
        let key = Key::Block(block.network, block.v4);
        let since = self.next_rev(&Key::Node(self.me()));
        let record = self.write(&key, Body::Block(BlockRecord { since }));
        match registry::put(&self.client, &key, record.text.clone(), cas).await {
            Ok(true) => drop(self.world.believe(&key, record)),
            Ok(false) => return Err(Refusal::Away("another host took the block just now; do it again".into())),
            Err(error) => return Err(Refusal::Away(kvstore_client::with_causes(&error))),
        }
        let holding = Holding { network: block.network, block: block.v4, since };
        self.saved.blocks.push(holding);
        self.saved.client_blocks.push(holding);
        Ok(())
    }

    /// Where a client is told to find this host.
    fn place(&self) -> Option<SocketAddr> {
        let own = self.tunnel.own_places().into_iter().map(|ip| SocketAddr::new(ip, self.config.port));
        self.config.endpoints.first().copied().or_else(|| own.into_iter().next())
    }

    pub(super) fn remove_client(&mut self, name: &str) -> Result<Value, Refusal> {
        let found = self.saved.clients.iter().position(|client| client.name == name);
        let found = found.ok_or_else(|| {
            Refusal::Unknown(format!("this host has no client {name}; `overlay client list` shows them"))
        })?;
        let removed = self.saved.clients.remove(found);
        if let Err(refusal) = self.store() {
            self.saved.clients.insert(found, removed);
            return Err(refusal);
        }
        info!("the client {name} is removed");
        Ok(json!({}))
    }

    pub(super) fn list_clients(&self) -> Value {
        let stats = self.tunnel.stats();
        let networks = self.world.networks();
        let show = |client: &Client| {
            let stat = stats.iter().find(|stat| stat.key.to_string() == client.key);
            json!({
                "name": client.name, "key": client.key, "address": client.v4, "address6": client.v6,
                "network": networks.iter().find(|network| network.id == client.network).map(|network| &network.name),
                "endpoint": stat.and_then(|stat| stat.endpoint),
                "handshake_seconds": stat.and_then(|stat| stat.handshake).map(|age| age.as_secs()),
                "received_bytes": stat.map(|stat| stat.received_bytes),
                "sent_bytes": stat.map(|stat| stat.sent_bytes),
            })
        };
        self.saved.clients.iter().map(show).collect()
    }

    /// Clients that this host has an address for just now.
    fn served(&self) -> impl Iterator<Item = &Client> {
        let held = |client: &&Client| {
            let mut blocks = self.saved.client_blocks.iter().filter(|holding| holding.network == client.network);
            blocks.any(|holding| client.is_in(holding.block))
        };
        self.saved.clients.iter().filter(move |client| self.belongs() && held(client))
    }

    /// What they are called in their networks.
    pub(super) fn client_names(&self) -> BTreeSet<Name> {
        let networks = self.world.networks();
        let name = |client: &Client| {
            let network = networks.iter().find(|network| network.id == client.network)?;
            let addresses = [IpAddr::V4(client.v4), IpAddr::V6(client.v6)].into();
            Some(Name { name: client.name.clone(), network: network.name.clone(), addresses })
        };
        self.served().filter_map(name).collect()
    }

    /// As the tunnel is to know them.
    pub(super) fn client_peers(&self) -> impl Iterator<Item = Peer> {
        self.served().filter_map(|client| client.peer(&self.identity))
    }

    /// What is sent to them is to fit.
    pub(super) fn client_routes(&self, source: impl Fn(NetworkId) -> Option<Block>) -> Vec<Route> {
        let of = |client: &Client| {
            let block = source(client.network)?;
            let sources = [block.gateway().into(), block.gateway6().into()];
            let routes = client.prefixes().into_iter().zip(sources);
            Some(routes.map(|(to, source)| Route { to, tunnel: true, source: Some(source), mtu: Some(u32::from(MTU)) }))
        };
        self.served().filter_map(of).flatten().collect()
    }

    /// The block is not this host's any more, and nobody's address in it holds.
    pub(super) fn forget_client_block(&mut self, holding: Holding) {
        self.saved.client_blocks.retain(|other| *other != holding);
        let network = holding.network;
        self.saved.clients.retain(|client| client.network != network || !client.is_in(holding.block));
    }
}
