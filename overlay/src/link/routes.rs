//! Addresses and routes.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType},
    },
};

use super::{LinkError, Links, limited};

/// Which part of this program keeps a route; the protocol that the route carries tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// What leads to other hosts: 111 in `ip route`.
    Mesh,
    /// What leads to containers of this host: 112.
    Containers,
}

impl Owner {
    fn protocol(self) -> RouteProtocol {
        RouteProtocol::Other(match self {
            Self::Mesh => 111,
            Self::Containers => 112,
        })
    }
}

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Out of this link: the destination is right behind it.
    Link(String),
    /// To a neighbour, which a route to it leads to.
    Via(IpAddr),
    /// Nowhere, and the sender is told.
    Unreachable,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// What it is for.
    pub to: IpNet,
    /// Where it leads.
    pub way: Way,
    /// The largest packet that goes this way, in bytes; else that of the link.
    pub mtu: Option<u32>,
    /// Of several routes to the same the lowest counts.
    pub metric: u32,
    /// The address that packets of this host's own have as theirs.
    pub source: Option<IpAddr>,
}

impl Route {
    /// A route that way, with nothing special.
    pub fn new(to: IpNet, way: Way) -> Self {
        // Zero is not kept by IPv6, which makes it this.
        Self { to: to.trunc(), way, mtu: None, metric: 1024, source: None }
    }
}

impl Links {
    /// The addresses of a link, but those that the kernel gives by itself.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn addresses(&self, name: &str) -> Result<BTreeSet<IpNet>, LinkError> {
        Ok(self.address_messages(name).await?.iter().filter_map(address).collect())
    }

    /// Adds an address to a link; nothing changes if it has it.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let index = self.get(name).await?.index;
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len()).replace();
        if address.addr().is_ipv6() {
            // Nobody else has it, by construction: it need not be looked for, and can be used at once.
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        limited(request.execute())
            .await
            .map_err(|e| LinkError::refused(format!("give {name} the address {address}"), e))
    }

    /// Has packets of IPv6 passed on, which the kernel does for all links or for none. A host that does would forget what it
    /// has learned from routers around it, unless it is told to listen to them all the same.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn forward_ipv6(&self) -> Result<(), LinkError> {
        const ALL: &str = "net/ipv6/conf/all/forwarding";
        if self.setting(ALL)? == "1" {
            return Ok(());
        }
        for link in self.all().await? {
            let listens = format!("net/ipv6/conf/{}/accept_ra", link.name);
            // One that has just gone says nothing.
            if self.setting(&listens).is_ok_and(|listens| listens == "1") {
                let _ = self.set(&listens, "2");
            }
        }
        self.set(ALL, "1")
    }

    /// Gives a link these addresses, and takes all others from it.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn set_addresses(&self, name: &str, wanted: &BTreeSet<IpNet>) -> Result<(), LinkError> {
        let mut there = BTreeSet::new();
        for message in self.address_messages(name).await? {
            match address(&message) {
                Some(found) if wanted.contains(&found) => _ = there.insert(found),
                Some(found) => self.delete_address(name, found, message).await?,
                None => {}
            }
        }
        for address in wanted.difference(&there) {
            self.add_address(name, *address).await?;
        }
        Ok(())
    }

    /// Takes an address from a link; nothing changes if it does not have it.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn remove_address(&self, name: &str, unwanted: IpNet) -> Result<(), LinkError> {
        for message in self.address_messages(name).await? {
            if address(&message) == Some(unwanted) {
                self.delete_address(name, unwanted, message).await?;
            }
        }
        Ok(())
    }

    async fn delete_address(&self, name: &str, address: IpNet, message: AddressMessage) -> Result<(), LinkError> {
        let removed = limited(self.handle.address().del(message).execute()).await;
        removed.map_err(|e| LinkError::refused(format!("take the address {address} from {name}"), e))
    }

    async fn address_messages(&self, name: &str) -> Result<Vec<AddressMessage>, LinkError> {
        let index = self.get(name).await?.index;
        let all = self.handle.address().get().set_link_index_filter(index).execute().try_collect();
        limited(all).await.map_err(|e| LinkError::refused(format!("list the addresses of {name}"), e))
    }

    /// Has this route, in place of one to the same with the same metric.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn add_route(&self, owner: Owner, route: &Route) -> Result<(), LinkError> {
        let message = self.message(owner, route).await?;
        let added = limited(self.handle.route().add(message).replace().execute()).await;
        added.map_err(|e| LinkError::refused(format!("make the route to {}", route.to), e))
    }

    /// Removes a route; nothing changes if it is not there.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn remove_route(&self, owner: Owner, route: &Route) -> Result<(), LinkError> {
        let message = match self.message(owner, route).await {
            // With its link it went by itself.
            Err(LinkError::Missing(_)) => return Ok(()),
            message => message?,
        };
        match limited(self.handle.route().del(message).execute()).await {
            Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => {
                Err(LinkError::refused(format!("remove the route to {}", route.to), e))
            }
            _ => Ok(()),
        }
    }

    /// The routes that this part keeps.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn routes(&self, owner: Owner) -> Result<BTreeSet<Route>, LinkError> {
        let names: Vec<(u32, String)> = self.all().await?.into_iter().map(|link| (link.index, link.name)).collect();
        let name = |index: u32| names.iter().find(|(i, _)| *i == index).map(|(_, name)| name.clone());
        let mut found = BTreeSet::new();
        for message in self.route_messages().await? {
            if message.header.protocol == owner.protocol() {
                found.extend(route(&message, name));
            }
        }
        Ok(found)
    }

    /// Makes these the routes that this part keeps: what is missing is made first, then the rest is removed.
    ///
    /// # Errors
    /// The first that could not be made or removed; the others are tried all the same.
    pub async fn set_routes(&self, owner: Owner, wanted: &[Route]) -> Result<(), LinkError> {
        let wanted: BTreeSet<Route> = wanted.iter().cloned().collect();
        let there = self.routes(owner).await?;
        let mut result = Ok(());
        for route in wanted.difference(&there) {
            result = result.and(self.add_route(owner, route).await);
        }
        let replaced = |old: &Route| wanted.iter().any(|new| (new.to, new.metric) == (old.to, old.metric));
        for route in there.difference(&wanted).filter(|old| !replaced(old)) {
            result = result.and(self.remove_route(owner, route).await);
        }
        result
    }

    /// Everybody's routes to anything inside `net` or that contain it, but the default route: with them a new network
    /// would be in somebody's way.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn overlapping(&self, net: IpNet) -> Result<BTreeSet<IpNet>, LinkError> {
        let all = self.route_messages().await?;
        let destinations = all.iter().filter_map(destination).filter(|to| to.prefix_len() > 0);
        Ok(destinations.filter(|to| to.contains(&net) || net.contains(to)).collect())
    }

    /// Those of the main table, of both families.
    async fn route_messages(&self) -> Result<Vec<RouteMessage>, LinkError> {
        let mut found = Vec::new();
        for question in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let all = self.handle.route().get(question).execute().try_collect::<Vec<_>>();
            found.extend(limited(all).await.map_err(|e| LinkError::refused("list the routes", e))?);
        }
        found.retain(|message| message.header.table == rtnetlink::packet_route::route::RouteHeader::RT_TABLE_MAIN);
        Ok(found)
    }

    async fn message(&self, owner: Owner, route: &Route) -> Result<RouteMessage, LinkError> {
        let inconsistent = |e: &dyn std::fmt::Display| {
            LinkError::refused(format!("make the route to {}", route.to), io::Error::other(e.to_string()))
        };
        let builder = RouteMessageBuilder::<IpAddr>::new().protocol(owner.protocol()).priority(route.metric);
        let builder = builder.destination_prefix(route.to.addr(), route.to.prefix_len());
        let mut builder = builder.map_err(|e| inconsistent(&e))?;
        if let Some(source) = route.source {
            builder = builder.pref_source(source).map_err(|e| inconsistent(&e))?;
        }
        builder = match &route.way {
            Way::Link(name) => {
                let index = self.get(name).await?.index;
                builder.output_interface(index).scope(rtnetlink::packet_route::route::RouteScope::Link)
            }
            Way::Via(gateway) => builder.gateway(*gateway).map_err(|e| inconsistent(&e))?,
            Way::Unreachable => builder.kind(RouteType::Unreachable),
        };
        let mut message = builder.build();
        if let Some(mtu) = route.mtu {
            message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        Ok(message)
    }
}

/// None for what the kernel has made itself.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let find = |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    let local = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let address = find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
    // Of a link between two points the one is ours and the other is theirs.
    let ip = local.or(address)?;
    let automatic = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!automatic).then(|| IpNet::new(ip, message.header.prefix_len).ok())?
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let to = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(to) => ip(to),
        _ => None,
    });
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new(to.unwrap_or(any), message.header.destination_prefix_length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn route(message: &RouteMessage, name: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let (mut link, mut via) = (None, None);
    let mut found = Route { metric: 0, ..Route::new(destination(message)?, Way::Unreachable) };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = name(*index),
            RouteAttribute::Gateway(gateway) => via = ip(gateway),
            RouteAttribute::Priority(metric) => found.metric = *metric,
            RouteAttribute::PrefSource(source) => found.source = ip(source),
            RouteAttribute::Metrics(metrics) => {
                found.mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
            }
            _ => {}
        }
    }
    if message.header.kind != RouteType::Unreachable {
        found.way = via.map(Way::Via).or(link.map(Way::Link))?;
    }
    Some(found)
}
