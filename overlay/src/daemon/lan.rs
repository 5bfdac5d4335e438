//! Subnets beside the mesh that containers of all hosts reach through this one, and what in them has a name.

use ipnet::Ipv4Net;
use kvstore_client::{
    Client,
    types::{CatalogDeregistration, CatalogRegistration, NodeService},
    with_causes,
};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Daemon;
use crate::{
    lans,
    mesh::{NewLan, Refusal},
    overlap,
    state::{Lan, Named},
};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

impl Daemon {
    /// Has the others send to this subnet through this host.
    pub(super) async fn expose_lan(&mut self, new: NewLan) -> Result<Value, Refusal> {
        let subnet = self.check_lan(new.subnet)?;
        let named = new.named()?;
        if let Some(named) = &named {
            self.needs_registry()?;
            let put = self.client.catalog_register(&registration(named)).await;
            put.map_err(|e| Refusal::Away(format!("{} has no name: {}", named.address, with_causes(&e))))?;
        }
        let position = self.saved.lans.iter().position(|lan| lan.subnet == subnet);
        let position = position.unwrap_or_else(|| {
            self.saved.lans.push(Lan { subnet, names: Vec::new() });
            self.saved.lans.len() - 1
        });
        let lan = &mut self.saved.lans[position];
        if let Some(named) = named {
            lan.names.retain(|other| other.name != named.name);
            lan.names.push(named);
        }
        let shown = json!(lan);
        self.store()?;
        info!("others reach {subnet} through this host");
        Ok(shown)
    }

    fn check_lan(&self, subnet: Ipv4Net) -> Result<Ipv4Net, Refusal> {
        if subnet != subnet.trunc() {
            return Err(Refusal::Wrong(format!("{subnet} is no subnet, but an address in {}", subnet.trunc())));
        }
        if !overlap::may_be_lan(subnet) {
            return Err(Refusal::Wrong(format!(
                "{subnet} is no LAN: other hosts take only what is within 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12 and \
                 192.168.0.0/16 for one"
            )));
        }
        let networks = self.world.networks().into_iter().chain(&self.saved.local);
        if let Some(network) = networks.into_iter().find(|network| overlap::overlap(network.subnet, subnet)) {
            return Err(Refusal::Conflict(format!("{subnet} overlaps with the network {}", network.name)));
        }
        let own = self.saved.lans.iter().map(|lan| lan.subnet);
        let own =
            own.into_iter().find(|lan| *lan != subnet && overlap::overlap(*lan, subnet)).map(|lan| (lan, self.me()));
        if let Some((lan, host)) = own.or_else(|| lans::other_than(&self.world, subnet, self.now())) {
            let host = self.name(host);
            return Err(Refusal::Conflict(format!(
                "{subnet} overlaps with {lan} behind {host}; expose the same subnet"
            )));
        }
        // Set by whoever runs the host; after a reset nobody would know whether to take it back.
        if std::fs::read_to_string(FORWARDING).is_ok_and(|value| value.trim() != "1") {
            let how = "sysctl --write net.ipv4.ip_forward=1, and a file in /etc/sysctl.d for the next boot";
            return Err(Refusal::Conflict(format!("this host passes no packets on to {subnet}: {how}")));
        }
        Ok(subnet)
    }

    /// Has nobody send there through this host any more.
    pub(super) async fn hide_lan(&mut self, subnet: Ipv4Net) -> Result<Value, Refusal> {
        let Some(there) = self.saved.lans.iter().position(|lan| lan.subnet == subnet) else {
            return Err(Refusal::Unknown(format!(
                "{subnet} is not exposed by this host; `overlay status` shows what is"
            )));
        };
        let lan = self.saved.lans.remove(there);
        self.store()?;
        info!("others do not reach {subnet} through this host any more");
        let left = self.forget_names(&lan.names).await;
        Ok(json!({ "subnet": subnet, "names": lan.names, "pending": left }))
    }

    /// Forgets all; what the registry could not be told.
    pub(super) async fn hide_all(&mut self) -> Option<String> {
        let names: Vec<_> = std::mem::take(&mut self.saved.lans).into_iter().flat_map(|lan| lan.names).collect();
        self.forget_names(&names).await
    }

    async fn forget_names(&self, names: &[Named]) -> Option<String> {
        for named in names {
            let gone = CatalogDeregistration { node: node(&named.name), ..CatalogDeregistration::default() };
            if let Err(error) = self.client.catalog_deregister(&gone).await {
                return Some(format!("{} is still in the registry: {}", named.name, with_causes(&error)));
            }
        }
        None
    }

    /// The registry may have lost the names: it is told again, by a task of its own.
    pub(super) fn name_again(&self) {
        let names: Vec<Named> = self.saved.lans.iter().flat_map(|lan| lan.names.clone()).collect();
        if !names.is_empty() && self.belongs() {
            tokio::spawn(tell(self.client.clone(), names));
        }
    }

    /// What others say to be behind them, and whether this host sends there; in the latter case only.
    pub(super) fn lan_is_taken(&self, lan: Ipv4Net) -> Result<(), String> {
        if let Some(own) =
            self.tunnel.used().iter().find(|own| own.prefix_len() > 0 && own.contains(&ipnet::IpNet::V4(lan)))
        {
            return Err(format!("this host has a route of its own to {own}"));
        }
        // Else what the tunnel sends would go into the tunnel.
        let hosts = self.plan.peers.iter().filter_map(|(_, peer)| peer.endpoint);
        match hosts.into_iter().find(|host| ipnet::IpNet::V4(lan).contains(&host.ip())) {
            Some(host) => Err(format!("the host at {host} is in it")),
            None => Ok(()),
        }
    }
}

async fn tell(client: Client, names: Vec<Named>) {
    for named in names {
        if let Err(error) = client.catalog_register(&registration(&named)).await {
            warn!("{} has no name in the registry: {}", named.address, with_causes(&error));
        }
    }
}

/// An external service: a node of its own, of which nobody checks anything.
fn registration(named: &Named) -> CatalogRegistration {
    let service = NodeService { service: named.name.clone(), port: named.port, ..NodeService::default() };
    CatalogRegistration {
        node: node(&named.name),
        address: named.address.to_string(),
        node_meta: Some([("external-node".to_owned(), "true".to_owned())].into_iter().collect()),
        service: Some(service),
        ..CatalogRegistration::default()
    }
}

fn node(name: &str) -> String {
    format!("lan-{name}")
}
