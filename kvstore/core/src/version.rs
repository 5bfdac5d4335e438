//! Which version of a service a caller gets, so that old programs keep talking to old ones while new ones talk to new.
//!
//! A version is an instance's `version` in its metadata. A caller is known by the address it asks from, and by its host:
//! a container by the addresses it has on its networks, anything else by the address it is registered with. What is not
//! registered has a version if a key `callers/NODE/ADDRESS/NAME` says one. Who is not known, or has no version, gets the
//! live one: what the key `release/SERVICE` says, if an instance of it passes.

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

/// Keys that say which version somebody has, registered or not, begin so: `callers/NODE/ADDRESS/NAME`.
pub const CALLERS: &str = "callers/";

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

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address.
    pub address: IpAddr,
    /// The resolver that asks on its behalf.
    pub through: Option<IpAddr>,
}

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        Self { address, through: None }
    }
}

impl Callers {
    /// The version of who asks; none if nobody is known there, or several that differ.
    pub fn version<'a>(&self, state: &'a State, from: impl Into<Caller>) -> Option<&'a str> {
        let caller = from.into();
        let registered = self.at(state, caller).map(version_of);
        let told = state.told_callers_at(caller.address.to_canonical());
        let told = told.filter(|(node, _)| self.is_meant(state, caller, node)).map(|(_, version)| version);
        let mut versions = registered.chain(told);
        let first = versions.next()?;
        if versions.all(|other| other == first) { first } else { None }
    }

    /// The hosts on which an instance has the address.
    pub fn nodes<'a>(&self, state: &'a State, from: IpAddr) -> impl Iterator<Item = NodeKey> + use<'a, '_> {
        self.at(state, from.into()).map(|instance| instance.node.clone())
    }

    fn at<'a>(&self, state: &'a State, from: Caller) -> impl Iterator<Item = &'a Instance> + use<'a, '_> {
        let found = state.callers_at(from.address.to_canonical());
        found.filter(move |instance| self.is_meant(state, from, &instance.node))
    }

    /// Whether the address, said here, means somebody on this node.
    fn is_meant(&self, state: &State, caller: Caller, node: &NodeKey) -> bool {
        let address = caller.address.to_canonical();
        // Those of the overlay's networks mean one container, wherever they are asked from.
        if self.routable.iter().any(|net| net.contains(&address)) || state.networks().of(address).is_some() {
            return true;
        }
        // A resolver speaks for its own host.
        let resolver = caller.through.map(|resolver| resolver.to_canonical()).filter(|r| state.is_host(*r));
        match resolver {
            Some(resolver) if !resolver.is_loopback() => state.has_address(node, resolver),
            _ => self.here.as_ref().is_some_and(|here| here == node || state.share_address(here, node)),
        }
    }
}

/// The host and the address in a key of [`CALLERS`].
pub(crate) fn told_caller(key: &Key) -> Option<(NodeKey, IpAddr)> {
    let mut parts = key.as_str().strip_prefix(CALLERS)?.rsplitn(3, '/').skip(1);
    let address = parts.next()?.parse().ok()?;
    Some((NodeKey::new(parts.next()?).ok()?, address))
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

/// The version that a key's value names.
pub(crate) fn told(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(str::trim).filter(|version| !version.is_empty())
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
        versions.get(told(&entry.value.value)?)
    };
    if versions.is_empty() { None } else { own.or_else(live).copied() }
}

/// The addresses that tell who asks from them: of a container's networks, each where it is told.
pub(crate) fn network_addresses(instance: &Instance) -> impl Iterator<Item = IpAddr> {
    let tagged = instance.tagged_addresses.iter().filter(|(tag, _)| tag.starts_with(NETWORK_TAG));
    tagged.filter_map(|(_, address)| address.address.parse().ok())
}
