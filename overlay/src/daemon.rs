//! The one owner of what this host holds: takes requests one after the other, keeps what follows on the disk, and
//! publishes it.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::{
    config::Config,
    mesh::{Asked, Ends, NewNetwork, Refusal, Request},
    network::{Network, NetworkId, NetworkName, NodeId},
    state::{Held, HeldNetwork, Saved},
};

/// What a network is that nobody gave a number to.
const LOCAL_MTU: u16 = 1500;

/// Everything the daemon has in hand.
pub(crate) struct Daemon {
    config: Config,
    node: NodeId,
    saved: Saved,
    ends: Ends,
}

impl Daemon {
    pub(crate) fn new(config: Config, node: NodeId, saved: Saved, ends: Ends) -> Self {
        let daemon = Self { config, node, saved, ends };
        daemon.publish();
        daemon
    }

    /// Until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                asked = self.ends.requests.recv() => asked,
            };
            let Some(Asked { request, reply }) = asked else { return };
            // Nobody may wait any more; what was done stays done.
            let _ = reply.send(self.handle(request));
        }
    }

    fn handle(&mut self, request: Request) -> Result<serde_json::Value, Refusal> {
        match request {
            Request::CreateNetwork(new) => {
                let network = self.create(new)?;
                Ok(serde_json::to_value(network).expect("plain data"))
            }
            Request::RemoveNetwork(name) => self.remove(&name).map(|()| json!({})),
            Request::Status => Ok(json!({
                "version": env!("CARGO_PKG_VERSION"),
                "node": self.node,
                "host": self.config.name,
                "networks": self.held().networks,
            })),
        }
    }

    fn create(&mut self, new: NewNetwork) -> Result<Network, Refusal> {
        if !new.local {
            return Err(Refusal::Away("this version has networks of one host only: give --local".into()));
        }
        if self.saved.local.iter().any(|network| network.name == new.name) {
            return Err(Refusal::Conflict(format!("there is a network {} already", new.name)));
        }
        let Some(subnet) = new.subnet else { return Err(Refusal::Wrong("give the subnet".into())) };
        let id = NetworkId(Uuid::new_v4());
        let made = Network::new(new.name, id, subnet, subnet.prefix_len(), crate::now_ms());
        let network = Network { local: true, hosts: new.hosts, ..made.map_err(|e| Refusal::Wrong(e.to_string()))? };
        self.saved.local.push(network.clone());
        if let Err(refusal) = self.keep() {
            self.saved.local.pop();
            return Err(refusal);
        }
        info!("network {} is {}, on this host only", network.name, network.subnet);
        self.publish();
        Ok(network)
    }

    fn remove(&mut self, name: &NetworkName) -> Result<(), Refusal> {
        let found = self.saved.local.iter().position(|network| network.name == *name);
        let Some(found) = found else { return Err(Refusal::Unknown(format!("there is no network {name}"))) };
        let removed = self.saved.local.remove(found);
        if let Err(refusal) = self.keep() {
            self.saved.local.insert(found, removed);
            return Err(refusal);
        }
        info!("network {name} is gone");
        self.publish();
        Ok(())
    }

    fn keep(&self) -> Result<(), Refusal> {
        self.saved.store(&self.config.state_dir).map_err(|e| Refusal::Away(kvstore_client::with_causes(&e)))
    }

    fn held(&self) -> Held {
        let local = self.saved.local.iter();
        let networks = local.map(|network| HeldNetwork {
            network: network.clone(),
            blocks: vec![network.block(0)],
            mtu: LOCAL_MTU,
        });
        let mut networks: Vec<_> = networks.collect();
        networks.sort_by(|a, b| a.network.name.cmp(&b.network.name));
        Held { node: self.node, host: self.config.name.clone(), networks }
    }

    fn publish(&self) {
        self.ends.held.send_replace(Arc::new(self.held()));
    }
}
