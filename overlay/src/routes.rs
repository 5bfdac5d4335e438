//! Routes and addresses of the tunnel, by netlink. What is ours carries a protocol number of our own, so that it is found
//! again after a crash, and nothing else is ever touched.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkUnspec, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags},
        link::{LinkAttribute, LinkFlags},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType},
    },
};

/// Who made a route; a number that nobody else has in `/etc/iproute2/rt_protos`.
const OURS: u8 = 111;
/// Of the routes that nothing leaves by, which stand behind all others.
const LAST: u32 = 0xffff_fff0;

/// A route that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// By the tunnel; else it leads nowhere, so that nothing leaves in clear when the tunnel is away.
    pub tunnel: bool,
    /// The source of what this host itself sends there.
    pub source: Option<IpAddr>,
    /// The largest packet, if it is not that of the interface.
    pub mtu: Option<u32>,
}

/// What this host has of addresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The tunnel's addresses, but those that the kernel gives by itself.
    pub tunnel: BTreeSet<IpAddr>,
    /// All others, with the subnets around them.
    pub addresses: Vec<IpNet>,
    /// Our routes.
    pub ours: BTreeSet<Route>,
    /// All subnets that routes lead to which are not ours.
    pub used: Vec<IpNet>,
}

/// The kernel does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}; is CAP_NET_ADMIN given?")]
pub struct RouteError {
    what: String,
    #[source]
    source: rtnetlink::Error,
}

/// The kernel.
#[derive(Clone)]
pub struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// Speaks with it by a task of its own.
    ///
    /// # Errors
    /// If the system has no netlink.
    pub fn connect() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The index of the interface called `name`, and whether it is up.
    pub async fn link(&self, name: &str) -> Option<(u32, bool)> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await.ok().flatten()?;
        Some((link.header.index, link.header.flags.contains(LinkFlags::Up)))
    }

    /// Has the interface be up.
    ///
    /// # Errors
    /// [`RouteError`]
    pub async fn set_up(&self, index: u32) -> Result<(), RouteError> {
        let done = self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await;
        done.map_err(|source| RouteError { what: "set the interface up".into(), source })
    }

    /// Removes the interface called `name`, if there is one.
    ///
    /// # Errors
    /// [`RouteError`]
    pub async fn remove_link(&self, name: &str) -> Result<(), RouteError> {
        let Some((index, _)) = self.link(name).await else { return Ok(()) };
        let done = self.handle.link().del(index).execute().await;
        done.map_err(|source| RouteError { what: format!("remove the interface {name}"), source })
    }

    /// Makes `wanted` the addresses of the interface, each for itself, without a subnet around it.
    ///
    /// # Errors
    /// [`RouteError`], for the first that cannot be.
    pub async fn set_addresses(&self, index: u32, wanted: &BTreeSet<IpAddr>) -> Result<(), RouteError> {
        let failed =
            |what: &str, ip: &dyn std::fmt::Display, source| RouteError { what: format!("{what} {ip}"), source };
        let mut there = BTreeSet::new();
        let mut found = self.handle.address().get().set_link_index_filter(index).execute();
        while let Some(message) = found.try_next().await.map_err(|e| failed("list the addresses of", &index, e))? {
            let ip = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let Some(ip) = ip else { continue };
            if wanted.contains(&ip) || is_link_local(ip) {
                there.insert(ip);
            } else {
                self.handle.address().del(message).execute().await.map_err(|e| failed("remove the address", &ip, e))?;
            }
        }
        for ip in wanted.difference(&there) {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            let mut request = self.handle.address().add(index, *ip, length);
            // Nobody else can have it, and it is to be a source at once.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await.map_err(|e| failed("add the address", ip, e))?;
        }
        Ok(())
    }

    /// Makes `wanted` our routes; `tunnel` is the index of its interface, if it is up.
    ///
    /// # Errors
    /// [`RouteError`], for the first that cannot be; all that can be are, and what leads nowhere comes first.
    pub async fn set_routes(&self, tunnel: Option<u32>, wanted: &BTreeSet<Route>) -> Result<(), RouteError> {
        let mut there = BTreeSet::new();
        let mut first_error = Ok(());
        let place = |route: &Route| (route.to, route.tunnel);
        let wanted_places: BTreeSet<_> = wanted.iter().map(place).collect();
        let mut places = BTreeSet::new();
        for (message, route) in self.ours().await? {
            if wanted.contains(&route) || tunnel.is_some() && wanted_places.contains(&place(&route)) {
                places.insert(place(&route));
                there.insert(route);
            } else if let Err(source) = self.handle.route().del(message).execute().await {
                first_error = Err(RouteError { what: format!("remove the route to {}", route.to), source });
            }
        }
        let mut missing: Vec<_> = wanted.difference(&there).collect();
        missing.sort_by_key(|route| route.tunnel);
        for route in missing {
            let Some(message) = message(route, tunnel) else { continue };
            // Not removed before: nothing that is on its way is to find no route.
            let add = self.handle.route().add(message);
            let add = if places.contains(&place(route)) { add.replace() } else { add };
            if let Err(source) = add.execute().await {
                first_error =
                    first_error.and(Err(RouteError { what: format!("add the route to {}", route.to), source }));
            }
        }
        first_error
    }

    /// Everything there is; `tunnel` is the index of its interface.
    ///
    /// # Errors
    /// [`RouteError`]
    pub async fn survey(&self, tunnel: Option<u32>) -> Result<Survey, RouteError> {
        let (addresses, mut survey) = (self.addresses().await?, Survey::default());
        for (index, net) in addresses {
            if Some(index) != tunnel {
                survey.addresses.push(net);
            } else if !is_link_local(net.addr()) {
                survey.tunnel.insert(net.addr());
            }
        }
        for message in self.all().await? {
            if is_ours(&message) {
                survey.ours.extend(route(&message));
            } else if is_main(&message) {
                survey.used.extend(destination(&message));
            }
        }
        Ok(survey)
    }

    /// All subnets that this host has a route to that is not ours, but for those that lead to links whose names begin so.
    ///
    /// # Errors
    /// [`RouteError`]
    pub async fn used_elsewhere(&self, prefix: &str) -> Result<Vec<IpNet>, RouteError> {
        let names = self.names().await?;
        let named = |index: u32| names.iter().any(|(other, name)| *other == index && name.starts_with(prefix));
        let leads = |m: &RouteMessage| m.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(to) if named(*to)));
        let all = self.all().await?;
        let others = all.iter().filter(|message| is_main(message) && !is_ours(message) && !leads(message));
        Ok(others.filter_map(destination).collect())
    }

    /// The addresses of this host's interfaces, by their indexes, with the subnets around them.
    async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, RouteError> {
        let mut all = Vec::new();
        let mut found = self.handle.address().get().execute();
        let failed = |source| RouteError { what: "list this host's addresses".into(), source };
        while let Some(message) = found.try_next().await.map_err(failed)? {
            let ip = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let net = ip.and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok());
            all.extend(net.map(|net| (message.header.index, net)));
        }
        Ok(all)
    }

    /// The names of interfaces by their indexes.
    ///
    /// # Errors
    /// [`RouteError`]
    pub async fn names(&self) -> Result<Vec<(u32, String)>, RouteError> {
        let mut links = self.handle.link().get().execute();
        let mut names = Vec::new();
        let failed = |source| RouteError { what: "list the interfaces".into(), source };
        while let Some(link) = links.try_next().await.map_err(failed)? {
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            names.extend(name.map(|name| (link.header.index, name)));
        }
        Ok(names)
    }

    async fn all(&self) -> Result<Vec<RouteMessage>, RouteError> {
        let failed = |source| RouteError { what: "list the routes".into(), source };
        let mut all = Vec::new();
        for family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let mut found = self.handle.route().get(family).execute();
            while let Some(message) = found.try_next().await.map_err(failed)? {
                all.push(message);
            }
        }
        Ok(all)
    }

    async fn ours(&self) -> Result<Vec<(RouteMessage, Route)>, RouteError> {
        let all = self.all().await?.into_iter();
        Ok(all.filter(is_ours).filter_map(|message| route(&message).map(|route| (message, route))).collect())
    }
}

fn is_ours(message: &RouteMessage) -> bool {
    message.header.protocol == RouteProtocol::Other(OURS)
}

fn is_main(message: &RouteMessage) -> bool {
    message.header.table == RouteHeader::RT_TABLE_MAIN
}

/// Whether the kernel gives it by itself.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn message(route: &Route, tunnel: Option<u32>) -> Option<RouteMessage> {
    let builder =
        RouteMessageBuilder::<IpAddr>::new().destination_prefix(route.to.addr(), route.to.prefix_len()).ok()?;
    let builder = builder.protocol(RouteProtocol::Other(OURS));
    if !route.tunnel {
        return Some(builder.kind(RouteType::Unreachable).priority(LAST).build());
    }
    let builder = builder.output_interface(tunnel?);
    let mut message = match route.source {
        Some(source) => builder.pref_source(source).ok()?.build(),
        None => builder.build(),
    };
    if let Some(mtu) = route.mtu {
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    Some(message)
}

/// What a route of ours is.
fn route(message: &RouteMessage) -> Option<Route> {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let source = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(source) => address(source),
        _ => None,
    });
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) => Some(*mtu),
            _ => None,
        }),
        _ => None,
    });
    let tunnel = message.header.kind != RouteType::Unreachable;
    Some(Route { to: destination(message)?, tunnel, source, mtu })
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    IpNet::new(to?, message.header.destination_prefix_length).ok()
}
