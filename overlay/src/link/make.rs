//! Makes links, and has those that are there be as they are wanted.

use rtnetlink::{
    LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, MacVlanMode},
};

use super::{GROUP, Link, LinkError, Links, Mac, Namespace, limited};

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

impl Links {
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

fn marked<T>(builder: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    builder.append_extra_attribute(LinkAttribute::Group(GROUP))
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn why_there_is_no_vlan_is_said_by_what_the_kernel_answers() {
        use nix::libc::{EEXIST, EOPNOTSUPP, EPERM};
        for (errno, known, words) in [
            (EOPNOTSUPP, false, "this kernel has no 802.1q; modprobe 8021q"),
            (EOPNOTSUPP, true, "that interface takes no VLANs"),
            (EEXIST, true, "somebody else has made it"),
            (EPERM, false, ""),
        ] {
            let refused = LinkError::refused("make VLAN 7 of eth0", io::Error::from_raw_os_error(errno));
            let said = refused.because(|errno| lacks_vlan(errno, known)).to_string();
            assert!(said.starts_with("cannot make VLAN 7 of eth0") && said.contains(words), "{said}");
            assert_eq!(said.contains("8021q"), errno == EOPNOTSUPP && !known, "{said}");
        }
    }
}
