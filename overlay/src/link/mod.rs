//! What there is of the network on this host, and in its containers: links, addresses, routes; changed by netlink. Decides
//! nothing. Whatever it makes is marked, so that all of it can be found and removed: links by their group, routes by
//! their protocol.

mod mac;
mod make;
mod namespace;
mod routes;
mod settings;

use std::{io, time::Duration};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::link::{LinkAttribute, LinkMessage},
};
use tokio::time::timeout;

pub use self::{
    mac::{Mac, mac_of},
    make::Peer,
    namespace::Namespace,
    routes::{Owner, Route, Way},
};

/// The group of links that are ours: "ov".
const GROUP: u32 = 0x6f76;
/// The kernel answers at once; whoever waits longer waits for ever.
const LIMIT: Duration = Duration::from_secs(5);

/// A link, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; never given again in this namespace while it is there.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What a person reads in `ip link`: whose it is.
    pub alias: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its hardware address, if it has one.
    pub mac: Option<Mac>,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
    /// Whether it was made here.
    pub ours: bool,
}

/// Why the network is not as it should be. What was changed before stays so; every call may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused.
    #[error("cannot {what}")]
    Refused {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such link.
    #[error("there is no interface {0}")]
    Missing(String),
    /// A link has that name, and somebody else made it.
    #[error("the interface {0} is not ours; remove or rename it, then try again")]
    Foreign(String),
}

impl LinkError {
    fn refused(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Refused { what: what.into(), source: source.into() }
    }

    /// With what the kernel's error means here.
    fn because(self, meaning: impl FnOnce(i32) -> Option<&'static str>) -> Self {
        match self {
            Self::Refused { what, source } => {
                let meaning = source.raw_os_error().and_then(meaning);
                Self::Refused { what: meaning.map_or(what.clone(), |meaning| format!("{what}: {meaning}")), source }
            }
            other => other,
        }
    }
}

/// The links of a namespace.
#[derive(Clone)]
pub struct Links {
    handle: Handle,
    namespace: Namespace,
}

impl Links {
    /// Those that this program sees.
    ///
    /// # Errors
    /// If netlink cannot be spoken.
    pub fn here() -> io::Result<Self> {
        Self::inside(&Namespace::own()?)
    }

    /// Those in a namespace. Wants a tokio runtime around.
    ///
    /// # Errors
    /// If it cannot be entered.
    pub fn inside(namespace: &Namespace) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let connect = || {
            let _context = runtime.enter();
            rtnetlink::new_connection()
        };
        let (connection, handle, _) = namespace.enter(connect)??;
        // It ends when the last handle is gone.
        tokio::spawn(connection);
        Ok(Self { handle, namespace: namespace.clone() })
    }

    /// Where they are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The link of this name.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match limited(found.try_next()).await {
            Ok(message) => Ok(message.as_ref().map(link)),
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Err(e) => Err(LinkError::refused(format!("look at {name}"), e)),
        }
    }

    /// The same, where it must be there.
    ///
    /// # Errors
    /// [`LinkError::Missing`] else.
    pub async fn get(&self, name: &str) -> Result<Link, LinkError> {
        self.find(name).await?.ok_or_else(|| LinkError::Missing(name.to_owned()))
    }

    /// All links.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub async fn all(&self) -> Result<Vec<Link>, LinkError> {
        let all = self.handle.link().get().execute().map_ok(|message| link(&message)).try_collect();
        limited(all).await.map_err(|e| LinkError::refused("list the interfaces", e))
    }

    /// Those that are ours.
    ///
    /// # Errors
    /// As [`Links::all`].
    pub async fn ours(&self) -> Result<Vec<Link>, LinkError> {
        Ok(self.all().await?.into_iter().filter(|link| link.ours).collect())
    }

    /// Removes a link of ours, and with it its other end; whether there was one.
    ///
    /// # Errors
    /// [`LinkError::Foreign`] if somebody else made it.
    pub async fn remove(&self, name: &str) -> Result<bool, LinkError> {
        let Some(link) = self.find(name).await? else { return Ok(false) };
        if !link.ours {
            return Err(LinkError::Foreign(name.to_owned()));
        }
        match limited(self.handle.link().del(link.index).execute()).await {
            Ok(()) => Ok(true),
            // Its other end went just before.
            Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
            Err(e) => Err(LinkError::refused(format!("remove {name}"), e)),
        }
    }

    /// Removes all links and routes that are ours; their names.
    ///
    /// # Errors
    /// The first that could not be removed.
    pub async fn reset(&self) -> Result<Vec<String>, LinkError> {
        for owner in [Owner::Mesh, Owner::Containers] {
            self.set_routes(owner, &[]).await?;
        }
        let mut removed = Vec::new();
        for link in self.ours().await? {
            // The other end of one that has just gone is gone too.
            if self.remove(&link.name).await? {
                removed.push(link.name);
            }
        }
        Ok(removed)
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        mtu: 0,
        mac: None,
        bridge: None,
        ours: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::Controller(index) => link.bridge = Some(*index),
            LinkAttribute::Group(group) => link.ours = *group == GROUP,
            _ => {}
        }
    }
    link
}

/// The kernel's answer, with the errors of the system.
async fn limited<T>(call: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
    match timeout(LIMIT, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(message.to_io()),
        Ok(Err(other)) => Err(io::Error::other(other.to_string())),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer")),
    }
}

#[cfg(test)]
mod tests;
