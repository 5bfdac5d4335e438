//! Makes a container's link as it was asked for, and removes it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use kvstore_client::with_causes;
use tracing::warn;

use crate::{
    link::{LinkError, Links, Mac, Namespace, Owner, Peer, Route, Way, mac_of},
    plugin::{AttachedWay, Attachment, Holder, ends},
    state::HeldNetwork,
};

/// Where the link of a container in a network of the mesh leads.
#[derive(Clone, Debug)]
pub(super) struct Inside<'a> {
    /// The network.
    pub(super) held: &'a HeldNetwork,
    /// Its bridge here.
    pub(super) bridge: String,
    /// The gateways there.
    pub(super) gateways: Vec<IpAddr>,
}

/// What a container calls its link.
pub(super) fn name(number: u8) -> String {
    format!("ov{number}")
}

/// Has the container whose first process is `pid` have its link, with addresses and routes.
///
/// # Errors
/// [`LinkError`]; nothing is left then that was not there.
pub(super) async fn plumb(
    links: &Links,
    namespace: &Namespace,
    attachment: &Attachment,
    network: Option<&Inside<'_>>,
) -> Result<(), LinkError> {
    let Holder::Container { id, number, .. } = &attachment.holder else { return Ok(()) };
    let inside = Links::inside(namespace).map_err(|source| LinkError::Refused {
        what: "enter the container's network; is CAP_SYS_ADMIN given?".into(),
        source,
    })?;
    let name = name(*number);
    match (inside.find(&name).await?, network) {
        (None, _) => give(links, namespace, attachment, network).await?,
        (Some(_), Some(network)) => rejoin(links, &ends(id, *number).0, &network.bridge).await?,
        // It is a port for as long as the bridge is there, which somebody else made.
        (Some(_), None) => {}
    }
    let made = set_up(&inside, &name, attachment, network).await;
    if made.is_err() {
        remove(links, Some(&inside), id, *number).await;
    }
    made
}

/// The bridge may have been made anew.
async fn rejoin(links: &Links, end: &str, bridge: &str) -> Result<(), LinkError> {
    let (end, bridge) = (links.get(end).await?, links.get(bridge).await?);
    if end.bridge == Some(bridge.index) { Ok(()) } else { links.join(&end.name, &bridge.name).await }
}

/// The link, in the container, without anything else.
async fn give(
    links: &Links,
    namespace: &Namespace,
    attachment: &Attachment,
    network: Option<&Inside<'_>>,
) -> Result<(), LinkError> {
    let Holder::Container { id, name, number } = &attachment.holder else { return Ok(()) };
    let (end, peer) = ends(id, *number);
    let alias = format!("overlay: container {name}");
    let mac = attachment.mac.or_else(|| attachment.addresses.first().map(|address| mac_of(address.addr())));
    match (&attachment.way, network) {
        (AttachedWay::Network { .. }, Some(inside)) => {
            let peer = Peer { name: peer.clone(), mtu: inside.held.mtu.into(), mac };
            links.veth(&end, &peer, &alias, Some(&inside.bridge)).await?;
        }
        (AttachedWay::Network { name, .. }, None) => return Err(LinkError::Missing(name.to_string())),
        (AttachedWay::Bridge(bridge), _) => {
            let mtu = links.get(bridge).await?.mtu;
            links.veth(&end, &Peer { name: peer.clone(), mtu, mac }, &alias, Some(bridge)).await?;
        }
        (AttachedWay::Parent { link, vlan }, _) => parent(links, &peer, &alias, mac, link, *vlan).await?,
    }
    let given = links.give(&peer, namespace, &self::name(*number)).await;
    if given.is_err() {
        let _ = links.remove(&peer).await;
    }
    given
}

async fn parent(
    links: &Links,
    peer: &str,
    alias: &str,
    mac: Option<Mac>,
    link: &str,
    vlan: Option<u16>,
) -> Result<(), LinkError> {
    let parent = links.get(link).await?;
    let peer = Peer { name: peer.to_owned(), mtu: parent.mtu, mac };
    let Some(id) = vlan else { return links.macvlan(&peer, alias, link).await };
    let on = vlan_name(parent.index, id);
    let others = links.find(&on).await?.is_some();
    links.vlan(&on, link, id, &format!("overlay: VLAN {id} of {link}")).await?;
    let made = links.macvlan(&peer, alias, &on).await;
    if made.is_err() && !others {
        let _ = links.remove(&on).await;
    }
    made
}

/// The link of a VLAN, whatever its parent is called.
pub(super) fn vlan_name(parent: u32, id: u16) -> String {
    format!("ovv{parent}.{id}")
}

async fn set_up(
    inside: &Links,
    name: &str,
    attachment: &Attachment,
    network: Option<&Inside<'_>>,
) -> Result<(), LinkError> {
    let mut addresses: BTreeSet<IpNet> = attachment.addresses.iter().copied().collect();
    // Docker turns it off in a container that has no network with IPv6.
    if !inside.has_ipv6(name) {
        addresses.retain(|address| address.addr().is_ipv4());
    }
    inside.set_addresses(name, &addresses).await?;
    inside.up(name).await?;
    let link = || Way::Link(name.to_owned());
    let near = |ip: &IpAddr| addresses.iter().any(|address| address.contains(ip));
    if let Some(network) = network {
        for subnet in [IpNet::V4(network.held.network.subnet), IpNet::V6(network.held.network.subnet6)] {
            let same = |ip: &IpAddr| ip.is_ipv4() == subnet.addr().is_ipv4();
            let Some(address) = addresses.iter().find(|address| same(&address.addr())) else { continue };
            let Some(gateway) = network.gateways.iter().find(|gateway| same(gateway)) else { continue };
            // Of a network that is all on this host everything is right behind the link.
            if address.trunc() == subnet {
                continue;
            }
            if !near(gateway) {
                inside.add_route(Owner::Containers, &Route::new(IpNet::from(*gateway), link())).await?;
            }
            inside.add_route(Owner::Containers, &Route::new(subnet, Way::Via(*gateway))).await?;
        }
    }
    match attachment.gateway {
        Some(gateway) => {
            if !near(&gateway) {
                inside.add_route(Owner::Containers, &Route::new(IpNet::from(gateway), link())).await?;
            }
            let all = if gateway.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
            let all = IpNet::new(all, 0).expect("no bits are too many for nobody");
            // In the place of Docker's, whose metric this is.
            let metric = if gateway.is_ipv4() { 0 } else { 1024 };
            inside.add_route(Owner::Containers, &Route { metric, ..Route::new(all, Way::Via(gateway)) }).await
        }
        None => Ok(()),
    }
}

/// Removes a container's link, wherever it is.
pub(super) async fn remove(links: &Links, inside: Option<&Links>, id: &str, number: u8) {
    let (end, peer) = ends(id, number);
    let mut results = vec![links.remove(&end).await, links.remove(&peer).await];
    // One of a parent has no end here.
    if let Some(inside) = inside {
        results.push(inside.remove(&name(number)).await);
    }
    for error in results.into_iter().filter_map(Result::err) {
        warn!("a container's link is left behind: {}", with_causes(&error));
    }
}
