//! Links of running containers, whatever networks Docker has them in, and addresses of this host itself: made when they
//! are asked for, made again when a container is, and taken away with it.

mod api;
mod follow;
mod place;
mod plumb;
mod ps;
mod reset;

use std::{net::IpAddr, sync::Arc};

use kvstore_client::with_causes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tracing::info;

pub use self::{api::router, place::NewLink};

use crate::{
    docker::{Address, Container, Docker},
    link::{LinkError, Links, Namespace},
    mesh::{Mesh, Refusal},
    plugin::{Asked, AttachedWay, Attachment, Holder, Place, Plugin},
    state::HeldNetwork,
};

/// Where links are asked for; cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    plugin: Plugin,
    docker: Option<Address>,
    links: Links,
    mesh: Mesh,
    /// One after the other.
    turn: Mutex<()>,
    /// Something was attached or detached.
    changed: Notify,
}

impl Desk {
    /// One that has its addresses from the book of `plugin`.
    pub fn new(plugin: Plugin, docker: Option<Address>, links: Links, mesh: Mesh) -> Self {
        Self(Arc::new(Inner { plugin, docker, links, mesh, turn: Mutex::default(), changed: Notify::new() }))
    }

    async fn docker(&self) -> Result<Docker, Refusal> {
        let Some(address) = &self.0.docker else {
            let why = "the overlay knows no Docker here: overlay up --docker unix:///var/run/docker.sock";
            return Err(Refusal::Away(why.into()));
        };
        Docker::connect(address).await.map_err(|e| Refusal::Away(with_causes(&e)))
    }

    /// The running container of this name, and its network.
    async fn running(&self, docker: &Docker, name: &str) -> Result<(Container, Namespace), Refusal> {
        let container = self.known(docker, name).await?;
        let Some(pid) = container.pid else {
            return Err(Refusal::Conflict(format!("the container {name} does not run; start it, then attach it")));
        };
        Ok((container, namespace(pid, name)?))
    }

    async fn known(&self, docker: &Docker, name: &str) -> Result<Container, Refusal> {
        let found = docker.container(name).await.map_err(|e| Refusal::Away(with_causes(&e)))?;
        found.ok_or_else(|| Refusal::Unknown(format!("Docker has no container {name}; `docker ps` shows them")))
    }

    /// Gives a running container a link.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub async fn attach(&self, new: &NewLink) -> Result<Attachment, Refusal> {
        let (place, gateway) = new.place()?;
        let (container, namespace) = self.running(&self.docker().await?, &new.container).await?;
        let _turn = self.0.turn.lock().await;
        let holder = Holder::Container { id: container.id, name: container.name, number: 0 };
        let asked = Asked { holder, place, gateway, mac: new.mac };
        self.check_outside(&asked.place).await?;
        let before = self.0.plugin.attachments().await;
        let attachment = self.0.plugin.attach(&asked).await?;
        if let Err(error) = self.have(&attachment, &namespace).await {
            if !before.contains(&attachment) {
                self.0.plugin.detach(&attachment).await?;
            }
            return Err(Refusal::Away(with_causes(&error)));
        }
        self.0.changed.notify_one();
        info!("container {} has {} now", new.container, listed(&attachment));
        Ok(attachment)
    }

    /// What is not there is said before anything is noted.
    async fn check_outside(&self, place: &Place) -> Result<(), Refusal> {
        let Place::Outside(_, way) = place else { return Ok(()) };
        let (AttachedWay::Bridge(link) | AttachedWay::Parent { link, .. }) = way else { return Ok(()) };
        match self.0.links.find(link).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Refusal::Unknown(format!("this host has no interface {link}; `ip link` shows them"))),
            Err(error) => Err(Refusal::Away(with_causes(&error))),
        }
    }

    /// Takes links from a container; which.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn detach(&self, container: &str, at: Option<&str>) -> Result<Vec<Attachment>, Refusal> {
        let (place, _) = place::read(at)?;
        let _turn = self.0.turn.lock().await;
        let all = self.0.plugin.attachments().await;
        let is = |id: &String, name: &String| name == container || (container.len() >= 4 && id.starts_with(container));
        let of = |there: &&Attachment| matches!(&there.holder, Holder::Container { id, name, .. } if is(id, name));
        let gone: Vec<_> = all.iter().filter(of).filter(|there| there.is_at(&place)).cloned().collect();
        if gone.is_empty() {
            let what = at.map_or("nothing is attached to it".into(), |at| format!("{at} is not attached to it"));
            return Err(Refusal::Unknown(format!("{container}: {what}; `overlay ps` shows what is")));
        }
        let docker = self.docker().await?;
        for attachment in &gone {
            let Holder::Container { id, .. } = &attachment.holder else { continue };
            let container = docker.container(id).await.map_err(|e| Refusal::Away(with_causes(&e)))?;
            self.take(attachment, container.and_then(|container| container.pid)).await?;
        }
        Ok(gone)
    }

    /// Removes a link, and forgets it.
    async fn take(&self, attachment: &Attachment, pid: Option<u32>) -> Result<(), Refusal> {
        if let Holder::Container { id, name, number } = &attachment.holder {
            let namespace = pid.and_then(|pid| namespace(pid, name).ok());
            let inside = namespace.and_then(|namespace| Links::inside(&namespace).ok());
            plumb::remove(&self.0.links, inside.as_ref(), id, *number).await;
        }
        self.0.plugin.detach(attachment).await?;
        self.clear_up(attachment).await;
        self.0.changed.notify_one();
        info!("{} is taken away", listed(attachment));
        Ok(())
    }

    /// What nobody uses any more.
    async fn clear_up(&self, gone: &Attachment) {
        let AttachedWay::Parent { link, vlan: Some(id) } = &gone.way else { return };
        if self.0.plugin.attachments().await.iter().any(|there| there.way == gone.way) {
            return;
        }
        if let Ok(Some(parent)) = self.0.links.find(link).await {
            let _ = self.0.links.remove(&plumb::vlan_name(parent.index, *id)).await;
        }
    }

    /// Has a container's link be as it was asked for.
    async fn have(&self, attachment: &Attachment, namespace: &Namespace) -> Result<(), LinkError> {
        let mesh = self.0.mesh.held();
        let held = attachment.network().and_then(|id| mesh.network(id));
        let network = match held {
            Some(held) => {
                let (bridge, gateways) = self.0.plugin.bridge_to(held).await?;
                Some(plumb::Inside { held, bridge, gateways })
            }
            None => None,
        };
        plumb::plumb(&self.0.links, namespace, attachment, network.as_ref()).await
    }

    /// Gives this host an address in a network.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn expose(&self, at: Option<&str>) -> Result<Attachment, Refusal> {
        let (place, gateway) = place::read(at)?;
        if gateway.is_some() {
            return Err(Refusal::Wrong("this host's own gateway stays as it is; leave out the @".into()));
        }
        let _turn = self.0.turn.lock().await;
        let before = self.0.plugin.attachments().await;
        let asked = Asked { holder: Holder::Host, place, gateway: None, mac: None };
        let attachment = self.0.plugin.attach(&asked).await?;
        let mesh = self.0.mesh.held();
        if let Some(held) = attachment.network().and_then(|id| mesh.network(id))
            && let Err(error) = self.0.plugin.bridge_to(held).await
        {
            if !before.contains(&attachment) {
                self.0.plugin.detach(&attachment).await?;
            }
            return Err(Refusal::Away(with_causes(&error)));
        }
        info!("this host has {} now", listed(&attachment));
        Ok(attachment)
    }

    /// Takes addresses from this host; which.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn hide(&self, at: Option<&str>) -> Result<Vec<Attachment>, Refusal> {
        let (place, _) = place::read(at)?;
        let _turn = self.0.turn.lock().await;
        let all = self.0.plugin.attachments().await;
        let ours = all.into_iter().filter(|there| there.holder == Holder::Host && there.is_at(&place));
        let gone: Vec<_> = ours.collect();
        if gone.is_empty() {
            let what = at.map_or("no network".into(), str::to_owned);
            return Err(Refusal::Unknown(format!(
                "this host is not exposed in {what}; `overlay ps` shows where it is"
            )));
        }
        for attachment in &gone {
            self.0.plugin.detach(attachment).await?;
            let mesh = self.0.mesh.held();
            if let Some(held) = attachment.network().and_then(|id| mesh.network(id)) {
                self.unaddress(held, attachment).await?;
            }
            info!("this host has {} no more", listed(attachment));
        }
        Ok(gone)
    }

    async fn unaddress(&self, held: &HeldNetwork, attachment: &Attachment) -> Result<(), Refusal> {
        for ip in attachment.addresses.iter().map(ipnet::IpNet::addr) {
            self.0.plugin.no_address(held, ip).await.map_err(|e| Refusal::Away(with_causes(&e)))?;
        }
        Ok(())
    }
}

/// A container of the host's own network has no network of its own.
fn namespace(pid: u32, name: &str) -> Result<Namespace, Refusal> {
    let failed = |e: std::io::Error| {
        let needs = "are CAP_SYS_PTRACE and, where the overlay is in a container itself, --pid host given?";
        Refusal::Away(format!("cannot look at the network of the container {name}: {e}; {needs}"))
    };
    let namespace = Namespace::of_process(pid).map_err(failed)?;
    if namespace.is_own().map_err(failed)? {
        return Err(Refusal::Conflict(format!(
            "the container {name} is in the host's own network (--net host): what it needs is an address of the host, by \
             `overlay expose`"
        )));
    }
    Ok(namespace)
}

fn listed(attachment: &Attachment) -> String {
    attachment.addresses.iter().map(|address| address.addr().to_string()).collect::<Vec<_>>().join(" and ")
}

/// A link as it is shown.
fn shown(attachment: &Attachment) -> Value {
    let mut shown = match &attachment.holder {
        Holder::Host => json!({ "container": null, "name": null, "interface": null }),
        Holder::Container { id, name, number } => {
            json!({ "container": id, "name": name, "interface": plumb::name(*number) })
        }
    };
    let ips: Vec<IpAddr> = attachment.addresses.iter().map(ipnet::IpNet::addr).collect();
    let mac = attachment.mac.or_else(|| ips.first().map(|ip| crate::link::mac_of(*ip)));
    shown["addresses"] = json!(ips);
    shown["mac"] = if attachment.holder == Holder::Host { Value::Null } else { json!(mac.map(|mac| mac.to_string())) };
    let (network, door) = match &attachment.way {
        AttachedWay::Network { name, .. } => (name.to_string(), "attached"),
        AttachedWay::Bridge(bridge) => (bridge.clone(), "bridge"),
        AttachedWay::Parent { link, vlan: None } => (link.clone(), "parent"),
        AttachedWay::Parent { link, vlan: Some(id) } => (format!("{link}.{id}"), "parent"),
    };
    shown["network"] = json!(network);
    shown["door"] = json!(if attachment.holder == Holder::Host { "exposed" } else { door });
    shown
}
