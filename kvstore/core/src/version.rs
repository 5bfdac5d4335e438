//! Which version of a service a caller gets, so that old programs keep talking to old ones while new ones talk to new.
//!
//! A version is an instance's `version` in its metadata. A caller is known by the address it asks from: a container by
//! the addresses it has on its networks, anything else by the address it is registered with. Who is not known, or has
//! no version, gets the live one: what the key `release/SERVICE` says, if an instance of it passes.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::{
    InstanceView, State,
    health::Status,
    names::{Key, NodeKey, ServiceKey},
    row::Instance,
};

/// The metadata that names an instance's version.
pub const META: &str = "version";

/// Keys that say which version of a service is live begin so.
pub const RELEASES: &str = "release/";

/// Tagged addresses of this prefix are a container's own, one a network.
const NETWORK_TAG: &str = "net.";

/// Where callers are looked for. An address means different containers on different hosts, but for those that are
/// routed between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// The host whose containers ask here.
    pub here: Option<NodeKey>,
    /// Addresses that mean the same on all hosts.
    pub routable: Vec<IpNet>,
}

impl Callers {
    /// The version of who asks from this address; none if nobody is known there, or several that differ.
    pub fn version<'a>(&self, state: &'a State, from: IpAddr) -> Option<&'a str> {
        let mut versions = self.at(state, from).map(version_of);
        let first = versions.next()?;
        if versions.all(|other| other == first) { first } else { None }
    }

    /// The hosts on which the address is somebody's.
    pub fn nodes<'a>(&self, state: &'a State, from: IpAddr) -> impl Iterator<Item = NodeKey> + use<'a, '_> {
        self.at(state, from).map(|instance| instance.node.clone())
    }

    fn at<'a>(&self, state: &'a State, from: IpAddr) -> impl Iterator<Item = &'a Instance> + use<'a, '_> {
        let from = from.to_canonical();
        let anywhere = self.routable.iter().any(|net| net.contains(&from));
        state.callers_at(from).filter(move |instance| anywhere || self.here.as_ref() == Some(&instance.node))
    }
}

/// The key that says which version of a service is live.
#[allow(clippy::missing_panics_doc)] // it is not empty
pub fn release_key(service: &ServiceKey) -> Key {
    Key::new(&format!("{RELEASES}{service}")).expect("not empty")
}

/// The version that an instance says it has.
pub fn version_of(instance: &Instance) -> Option<&str> {
    instance.meta.as_ref()?.get(META).map(String::as_str).filter(|version| !version.is_empty())
}

/// The version of which alone a caller gets instances; none if any will do. `offered` are those that it would get
/// otherwise; a version is only chosen if an instance of it passes.
pub fn choose<'a>(
    state: &'a State,
    service: &ServiceKey,
    offered: impl IntoIterator<Item = InstanceView<'a>>,
    caller: Option<&str>,
) -> Option<&'a str> {
    let passing = offered.into_iter().filter(|view| view.status() == Status::Passing);
    let versions: BTreeSet<&str> = passing.filter_map(|view| version_of(view.instance)).collect();
    let own = caller.and_then(|caller| versions.get(caller));
    let live = || {
        let entry = state.key(&release_key(service))?;
        versions.get(std::str::from_utf8(&entry.value.value).ok()?.trim())
    };
    if versions.is_empty() { None } else { own.or_else(live).copied() }
}

/// The addresses that tell who asks from them: of a container's networks, each where it is told.
pub(crate) fn network_addresses(instance: &Instance) -> impl Iterator<Item = IpAddr> {
    let tagged = instance.tagged_addresses.iter().filter(|(tag, _)| tag.starts_with(NETWORK_TAG));
    tagged.filter_map(|(_, address)| address.address.parse().ok())
}
