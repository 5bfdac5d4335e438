//! What there is of the network on this host, and in its containers: links, addresses, routes; changed by netlink. Decides
//! nothing. Whatever it makes is marked, so that all of it can be found and removed: links by their group, routes by
//! their protocol.

mod namespace;
mod routes;

use std::{fmt, io, net::IpAddr, time::Duration};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, MacVlanMode},
};
use tokio::time::timeout;

pub use self::{
    namespace::Namespace,
    routes::{Owner, Route, Way},
};

/// The group of links that are ours: "ov".
const GROUP: u32 = 0x6f76;
/// The kernel answers at once; whoever waits longer waits for ever.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest name of a link, in bytes.
pub const NAME_BYTES: usize = 15;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no hardware address; use the form 02:42:0a:d2:00:02"))
    }
}

fn octet(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u8::from_str_radix(text, 16).ok())?
}

/// The hardware address that goes with an address of IPv4, as Docker's own drivers make it: whoever gets the address next
/// has it too, so that neighbours need not learn anew.
pub fn mac_of(address: IpAddr) -> Mac {
    let bytes = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => *address.octets().last_chunk().expect("16 bytes"),
    };
    let [a, b, c, d] = bytes;
    Mac([0x02, 0x42, a, b, c, d])
}

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

    /// Has a bridge of this name, up. It keeps `mac` whatever its ports have: else it would change with the containers,
    /// and with it what they know their gateway by.
    ///
    /// # Errors
    /// [`LinkError::Foreign`] if somebody else made one of that name.
    pub async fn bridge(&self, name: &str, alias: &str, mtu: u32, mac: Mac) -> Result<Link, LinkError> {
        if self.find(name).await?.is_none() {
            let make = marked(LinkBridge::new(name)).address(mac.0.to_vec()).mtu(mtu).build();
            self.add(make, format!("make the bridge {name}")).await?;
        }
        self.settle(name, alias, mtu).await
    }

    /// Has a pair of links that are each other's ends: `name`, up and a port of `bridge`, and `peer`, which waits for
    /// [`Links::give`]. What is left of an earlier pair goes first.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn veth(&self, name: &str, peer: &Peer, alias: &str, bridge: Option<&str>) -> Result<(), LinkError> {
        self.remove(name).await?;
        self.remove(&peer.name).await?;
        let end = marked(LinkUnspec::new_with_name(&peer.name)).mtu(peer.mtu);
        let end = peer.mac.into_iter().fold(end, |end, mac| end.address(mac.0.to_vec())).build();
        let pair = marked(LinkVeth::new(name, &peer.name)).mtu(peer.mtu).up();
        let pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(end)));
        self.add(pair.build(), format!("make the interfaces {name} and {}", peer.name)).await?;
        self.label(&peer.name, alias).await?;
        self.settle(name, alias, peer.mtu).await?;
        match bridge {
            Some(bridge) => self.join(name, bridge).await,
            None => Ok(()),
        }
    }

    /// Has a link of its own in the network behind `parent`; it waits for [`Links::give`].
    ///
    /// # Errors
    /// [`LinkError::Missing`] if there is no such parent.
    pub async fn macvlan(&self, peer: &Peer, alias: &str, parent: &str) -> Result<(), LinkError> {
        self.remove(&peer.name).await?;
        let parent = self.get(parent).await?;
        let make = marked(LinkMacVlan::new(&peer.name, parent.index, MacVlanMode::Bridge)).mtu(peer.mtu);
        let make = peer.mac.into_iter().fold(make, |make, mac| make.address(mac.0.to_vec()));
        let made = self.add(make.build(), format!("make an interface on {}", parent.name)).await;
        made.map_err(|error| error.because(lacks_macvlan))?;
        self.label(&peer.name, alias).await
    }

    /// Has `name`, up, for the packets of VLAN `id` on `parent`.
    ///
    /// # Errors
    /// [`LinkError::Refused`] too where the kernel knows no 802.1q, or somebody else has made that VLAN.
    pub async fn vlan(&self, name: &str, parent: &str, id: u16, alias: &str) -> Result<Link, LinkError> {
        let parent = self.get(parent).await?;
        if self.find(name).await?.is_none() {
            let make = marked(LinkVlan::new(name, parent.index, id)).up().build();
            let made = self.add(make, format!("make VLAN {id} of {}", parent.name)).await;
            // By now the kernel has looked for the module itself.
            made.map_err(|error| error.because(|errno| lacks_vlan(errno, self.knows_vlans())))?;
        }
        self.settle(name, alias, parent.mtu).await
    }

    /// Whether the kernel has 802.1q, as a module that is loaded or built in.
    fn knows_vlans(&self) -> bool {
        self.namespace.enter(|| std::path::Path::new("/proc/thread-self/net/vlan").exists()).unwrap_or_default()
    }

    /// Makes a link that somebody has just made for us ours, and sets it up.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn adopt(&self, name: &str, alias: &str, mtu: u32) -> Result<Link, LinkError> {
        let change = marked(LinkUnspec::new_with_name(name)).build();
        self.change(change, format!("mark {name}")).await?;
        self.settle(name, alias, mtu).await
    }

    /// Makes `name` a port of `bridge`.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn join(&self, name: &str, bridge: &str) -> Result<(), LinkError> {
        let bridge = self.get(bridge).await?;
        let change = LinkUnspec::new_with_name(name).controller(bridge.index).build();
        self.change(change, format!("make {name} a port of {}", bridge.name)).await
    }

    /// Moves `name` into another namespace, where it is called `new_name` and is down until [`Links::up`].
    ///
    /// # Errors
    /// [`LinkError::Refused`], too if there is one of that name.
    pub async fn give(&self, name: &str, to: &Namespace, new_name: &str) -> Result<(), LinkError> {
        let index = self.get(name).await?.index;
        let change = LinkUnspec::new_with_index(index).name(new_name).setns_by_fd(to.as_raw_fd()).build();
        self.change(change, format!("move {name} into the container, as {new_name}")).await
    }

    /// Sets it up.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn up(&self, name: &str) -> Result<(), LinkError> {
        self.change(LinkUnspec::new_with_name(name).up().build(), format!("set {name} up")).await
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

    /// Writes a setting of the kernel's for this namespace, such as `net/ipv4/conf/NAME/forwarding`, unless it is so.
    ///
    /// # Errors
    /// If it is not there, or `/proc/sys` cannot be written, as in a container.
    pub fn set(&self, setting: &str, value: &str) -> Result<(), LinkError> {
        if self.setting(setting)? == value {
            return Ok(());
        }
        let path = format!("/proc/sys/{setting}");
        let written = self.namespace.enter(|| std::fs::write(&path, value));
        written.flatten().map_err(|e| LinkError::refused(format!("write {value} to {path}"), e))
    }

    /// The value of such a setting, without the line break.
    ///
    /// # Errors
    /// If it is not there.
    pub fn setting(&self, setting: &str) -> Result<String, LinkError> {
        let path = format!("/proc/sys/{setting}");
        let read = self.namespace.enter(|| std::fs::read_to_string(&path)).flatten();
        read.map(|text| text.trim_end().to_owned()).map_err(|e| LinkError::refused(format!("read {path}"), e))
    }

    /// Whether a link has IPv6, which is turned on for it where it can be.
    pub fn has_ipv6(&self, name: &str) -> bool {
        let setting = format!("net/ipv6/conf/{name}/disable_ipv6");
        self.setting(&setting).is_ok_and(|value| value == "0" || self.set(&setting, "0").is_ok())
    }

    /// Brings a link of ours that is there into shape.
    async fn settle(&self, name: &str, alias: &str, mtu: u32) -> Result<Link, LinkError> {
        let link = self.get(name).await?;
        if !link.ours {
            return Err(LinkError::Foreign(name.to_owned()));
        }
        self.label(name, alias).await?;
        let change = LinkUnspec::new_with_index(link.index).mtu(mtu).up().build();
        self.change(change, format!("set {name} up with packets of {mtu} bytes")).await?;
        Ok(Link { alias: alias.to_owned(), mtu, ..link })
    }

    /// The kernel takes an alias only for what is there already.
    async fn label(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        let change = LinkUnspec::new_with_name(name).append_extra_attribute(alias).build();
        self.change(change, format!("label {name}")).await
    }

    async fn add(&self, message: LinkMessage, what: String) -> Result<(), LinkError> {
        limited(self.handle.link().add(message).execute()).await.map_err(|e| LinkError::refused(what, e))
    }

    async fn change(&self, message: LinkMessage, what: String) -> Result<(), LinkError> {
        limited(self.handle.link().change(message).execute()).await.map_err(|e| LinkError::refused(what, e))
    }
}

/// The kernel says the same of a kind of link that it does not know, and of a parent that takes none of that kind.
fn lacks_macvlan(errno: i32) -> Option<&'static str> {
    (errno == nix::libc::EOPNOTSUPP).then_some("this kernel has no macvlan; modprobe macvlan")
}

fn lacks_vlan(errno: i32, known: bool) -> Option<&'static str> {
    match errno {
        nix::libc::EOPNOTSUPP if known => Some("that interface takes no VLANs"),
        nix::libc::EOPNOTSUPP => Some("this kernel has no 802.1q; modprobe 8021q"),
        nix::libc::EEXIST => Some("somebody else has made it; give its interface as the parent, without a VLAN"),
        _ => None,
    }
}

/// A link for a container, before it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name for now.
    pub name: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its hardware address; None leaves that to the kernel.
    pub mac: Option<Mac>,
}

fn marked<T>(builder: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    builder.append_extra_attribute(LinkAttribute::Group(GROUP))
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
