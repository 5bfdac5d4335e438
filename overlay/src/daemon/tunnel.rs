//! The tunnel with all that belongs to it. What is to be becomes interfaces, peers, rules and routes: only what differs from
//! what was done before, and what keeps out before what lets in.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{error, info, warn};

use super::wanted::{Wanted, within};
use crate::{
    config::Config,
    device::{self, Dropped, Opened, PeerStatus, Plane},
    firewall,
    identity::Identity,
    peers::tunnel_address,
    probe::{Answer, Prober},
    routes::{Kernel, Survey},
};

/// The tunnel with all that belongs to it.
pub(super) struct Tunnel {
    settings: (String, u16, u16),
    plane: Option<Opened>,
    /// Why there is none, or something of it does not hold.
    troubles: Vec<String>,
    /// How many of them, the first, are of opening the tunnel: having something else be does not end them.
    opening: usize,
    told: String,
    kernel: Option<Kernel>,
    index: Option<u32>,
    prober: Option<(Arc<Prober>, JoinHandle<()>)>,
    done: Wanted,
    /// The rules as the kernel had them when they were made.
    rules: Option<String>,
    /// Nothing of what was done is known to hold.
    stale: bool,
    addresses: Vec<IpNet>,
    used: Vec<IpNet>,
}

impl Tunnel {
    pub(super) fn new(config: &Config) -> Self {
        Self::unopened(&config.interface, config.port, config.mtu)
    }

    fn unopened(interface: &str, port: u16, mtu: u16) -> Self {
        Self {
            settings: (interface.to_owned(), port, mtu),
            plane: None,
            troubles: Vec::new(),
            opening: 0,
            told: String::new(),
            kernel: None,
            index: None,
            prober: None,
            done: Wanted::default(),
            rules: None,
            stale: true,
            addresses: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Makes the interface, unless it is `stopped`; what cannot be is tried again.
    pub(super) async fn open(&mut self, identity: &Identity, stopped: bool, tell: &mpsc::Sender<Answer>) {
        let others = self.troubles.split_off(self.opening);
        self.troubles.clear();
        if self.kernel.is_none() {
            match Kernel::connect() {
                Ok(kernel) => self.kernel = Some(kernel),
                Err(error) => self.trouble(format!("no netlink: {error}")),
            }
        }
        self.stale = true;
        if !stopped && self.plane.is_none() {
            self.open_plane(identity).await;
        }
        self.survey().await;
        if self.plane.is_some() && self.prober.is_none() {
            self.open_prober(identity, tell).await;
        }
        self.opening = self.troubles.len();
        self.troubles.extend(others);
        self.tell();
    }

    async fn open_plane(&mut self, identity: &Identity) {
        let (interface, port, mtu) = self.settings.clone();
        if self.kernel.is_none() {
            return;
        }
        let settings = device::Settings { interface: interface.clone(), key: identity.key().clone(), port, mtu };
        match device::open(&settings, device::Choice::Auto) {
            Ok(opened) => {
                let plane = opened.tunnel.plane();
                info!("the tunnel {interface} is up, by WireGuard of the {plane}: {}", opened.why);
                self.plane = Some(opened);
                if let Some(kernel) = &self.kernel {
                    self.index = kernel.link(&interface).await.map(|(index, _)| index);
                }
            }
            Err(error) => self.trouble(error.to_string()),
        }
    }

    async fn open_prober(&mut self, identity: &Identity, tell: &mpsc::Sender<Answer>) {
        let own = tunnel_address(identity.node());
        let (Some(kernel), Some(index)) = (&self.kernel, self.index) else { return };
        let interface = &self.settings.0;
        // Where IPv6 is off by default, it is on for the tunnel.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "0");
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad"), "0");
        // What others send to containers here, or through here, is passed on.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/forwarding"), "1");
        let address = [IpAddr::V6(own)].into();
        if let Err(error) = kernel.set_addresses(index, &address).await {
            self.trouble(format!("{}; who is reached directly is not known", kvstore_client::with_causes(&error)));
            return;
        }
        match Prober::open(own) {
            Ok(prober) => {
                let prober = Arc::new(prober);
                let (ours, tell) = (prober.clone(), tell.clone());
                let task = tokio::spawn(async move {
                    while let Ok(answer) = ours.answer().await {
                        // Whoever answers faster than it is read is heard all the same.
                        let _ = tell.try_send(answer);
                    }
                });
                if let Some((_, old)) = self.prober.replace((prober, task)) {
                    old.abort();
                }
            }
            Err(error) => self.trouble(format!("no echo requests ({error}); is CAP_NET_RAW given?")),
        }
    }

    /// Whether the tunnel, or what asks through it, is not there though it should be.
    pub(super) fn is_lost(&self, stopped: bool) -> bool {
        !stopped && (self.plane.is_none() || self.prober.is_none())
    }

    pub(super) fn close(&mut self) {
        self.plane = None;
        self.index = None;
        self.stale = true;
        if let Some((_, task)) = self.prober.take() {
            task.abort();
        }
    }

    /// At the end of the daemon: rules and routes that lead nowhere stay, so that nothing leaves in clear.
    pub(super) async fn end(&mut self) {
        self.close();
        if let Some(kernel) = &self.kernel {
            let closed = self.done.routes.iter().filter(|route| !route.tunnel).copied().collect();
            if let Err(error) = kernel.set_routes(None, &closed).await {
                warn!("{}", kvstore_client::with_causes(&error));
            }
        }
    }

    /// Removes all that is ours.
    pub(super) async fn remove(&mut self) -> Result<(), String> {
        self.close();
        let told = |error: &dyn std::error::Error| kvstore_client::with_causes(error);
        if let Some(kernel) = &self.kernel {
            kernel.set_routes(None, &BTreeSet::new()).await.map_err(|e| told(&e))?;
            kernel.remove_link(&self.settings.0).await.map_err(|e| told(&e))?;
        }
        self.rules = None;
        firewall::remove().await.map_err(|e| told(&e))?;
        self.done = Wanted::default();
        Ok(())
    }

    /// Looks at this host's addresses and routes.
    pub(super) async fn survey(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let link = kernel.link(&self.settings.0).await;
        self.stale |= self.index != link.map(|(index, _)| index);
        self.index = link.map(|(index, _)| index);
        // Whoever takes it away or down by hand has `overlay stop` for that; its routes went with it.
        match link {
            Some((index, false)) if self.plane.is_some() => {
                warn!("the tunnel's interface {} was down", self.settings.0);
                let up = kernel.set_up(index).await;
                self.stale = true;
                if let Err(error) = up {
                    self.trouble(kvstore_client::with_causes(&error));
                }
            }
            None if self.plane.is_some() => {
                warn!("the tunnel's interface {} was removed", self.settings.0);
                return self.close();
            }
            _ => {}
        }
        let Some(kernel) = &self.kernel else { return };
        if let Ok(survey) = kernel.survey(self.index).await {
            if !self.stale && !self.stands(&survey) {
                warn!("another program changed addresses or routes of the tunnel; they are put back");
                self.stale = true;
            }
            self.addresses = survey.addresses;
            self.used = survey.used;
        }
    }

    /// Whether addresses and routes are what they were made.
    fn stands(&self, survey: &Survey) -> bool {
        let is_open = self.index.is_some() && self.plane.is_some();
        let routes = self.done.routes.iter().filter(|route| is_open || !route.tunnel);
        survey.ours.iter().eq(routes) && (!is_open || survey.tunnel == self.done.addresses)
    }

    /// Some rules of nftables were changed: whether ours are still what they were made.
    pub(super) async fn check_rules(&mut self) -> bool {
        let Some(made) = &self.rules else { return true };
        match firewall::standing().await {
            Ok(stands) if stands.as_ref() == Some(made) => return true,
            Ok(_) => warn!("another program changed or removed nftables' table {}; it is put back", firewall::TABLE),
            Err(error) => warn!(
                "whether nftables' table {} still stands is not seen, so it is made anew: {error}",
                firewall::TABLE
            ),
        }
        self.rules = None;
        self.stale = true;
        false
    }

    /// Asks peers with packets of these sizes.
    pub(super) async fn ask(&mut self, questions: &[Answer]) {
        let Some((prober, _)) = &self.prober else { return };
        for (peer, size) in questions {
            prober.ask(*peer, *size).await;
        }
    }

    /// Has `wanted` be.
    pub(super) async fn apply(&mut self, wanted: &Wanted) {
        if !self.stale && self.done == *wanted {
            return;
        }
        self.troubles.truncate(self.opening);
        // Rules before routes: nothing gets through that may not.
        let held = self.apply_rules(wanted).await;
        let stopped = self.plane.is_none();
        let peers = match &self.plane {
            Some(plane) if self.stale || self.done.peers != wanted.peers => {
                plane.tunnel.set_peers(if held { &wanted.peers } else { &[] })
            }
            _ => Ok(()),
        };
        let peers = peers.map_err(|error| self.trouble(error.to_string())).is_ok();
        let routes = self.apply_routes(wanted).await;
        if held && peers && routes {
            self.done = wanted.clone();
            self.stale = false;
        }
        if stopped {
            self.done.peers.clear();
        }
        self.tell();
    }

    async fn apply_rules(&mut self, wanted: &Wanted) -> bool {
        if !self.stale && self.done.rules == wanted.rules {
            return true;
        }
        match wanted.rules.apply().await {
            Ok(()) => {
                self.done.rules = wanted.rules.clone();
                self.rules = firewall::standing().await.ok().flatten();
                true
            }
            Err(error) => {
                self.trouble(format!("{}; no packet is let through", kvstore_client::with_causes(&error)));
                false
            }
        }
    }

    async fn apply_routes(&mut self, wanted: &Wanted) -> bool {
        let Some(kernel) = self.kernel.clone() else { return false };
        if !self.stale && (&self.done.addresses, &self.done.routes) == (&wanted.addresses, &wanted.routes) {
            return true;
        }
        let mut result = Ok(());
        if let Some(index) = self.index.filter(|_| self.plane.is_some()) {
            result = kernel.set_addresses(index, &wanted.addresses).await;
        }
        let index = self.index.filter(|_| self.plane.is_some());
        let routes: BTreeSet<_> = wanted.routes.iter().filter(|r| index.is_some() || !r.tunnel).copied().collect();
        let result = result.and(kernel.set_routes(index, &routes).await);
        if let Err(error) = &result {
            self.trouble(kvstore_client::with_causes(error));
        }
        result.is_ok()
    }

    fn trouble(&mut self, text: String) {
        self.troubles.push(text);
    }

    /// Logs troubles that were not told before.
    fn tell(&mut self) {
        let text = self.troubles.join("; ");
        if text != self.told {
            if text.is_empty() {
                info!("the tunnel is as it should be again");
            } else {
                error!("{text}");
            }
            self.told = text;
        }
    }

    pub(super) fn plane(&self) -> Option<Plane> {
        self.plane.as_ref().map(|plane| plane.tunnel.plane())
    }

    /// Why it is this kind.
    pub(super) fn plane_why(&self) -> Option<&str> {
        self.plane.as_ref().map(|plane| &*plane.why)
    }

    pub(super) fn troubles(&self) -> &[String] {
        &self.troubles
    }

    pub(super) fn stats(&self) -> Vec<PeerStatus> {
        self.plane.as_ref().map(|plane| plane.tunnel.peers()).unwrap_or_default()
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.plane.as_ref().map(|plane| plane.tunnel.dropped()).unwrap_or_default()
    }

    /// This host's addresses with their subnets, but for those in the tunnel.
    pub(super) fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// Subnets that this host has routes to; not our own.
    pub(super) fn used(&self) -> &[IpNet] {
        &self.used
    }

    /// The same as of just now, but for those of our bridges: what Docker's driver has made has one before the mesh has it.
    pub(super) async fn used_by_others(&self) -> Vec<IpNet> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        kernel.used_elsewhere(crate::docker::BRIDGES).await.unwrap_or_else(|_| self.used.clone())
    }

    /// Where others might find this host.
    pub(super) fn own_places(&self) -> BTreeSet<IpAddr> {
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let mesh = |ip: &IpAddr| self.done.rules.networks.iter().any(|network| within(network, *ip));
        self.addresses.iter().map(IpNet::addr).filter(usable).filter(|ip| !mesh(ip)).collect()
    }
}
