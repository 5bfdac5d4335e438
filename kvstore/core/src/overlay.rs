//! Networks of the overlay (docs/overlay-docker.md), as far as names go: whose address is in which of them, and what a
//! name means there. The rows are the overlay's, and are only read here.

use std::{net::IpAddr, sync::Arc};

use imbl::OrdMap;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::names::{Key, ServiceKey};

/// Keys that tell of a network begin so: `overlay/v1/nets/NAME`.
const NETWORKS: &str = "overlay/v1/nets/";

/// What ends the name of a service that stands for a name in a network, `NAME.NETWORK.overlay`, and the same in DNS.
/// Programs write it as `names::in_network` of kvstore-client does.
pub(crate) const DOMAIN: &str = ".overlay";

/// All there are. They do not overlap: who is in two at once, because somebody wrote what cannot be, is in none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks(OrdMap<Key, Arc<Network>>);

#[derive(Debug, Deserialize)]
struct Network {
    name: String,
    subnet: Ipv4Net,
    subnet6: Ipv6Net,
}

#[derive(Deserialize)]
struct Record {
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    network: Option<Network>,
}

impl Networks {
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what a key says, if it is about a network.
    pub(crate) fn insert(&mut self, key: &Key, value: &[u8]) {
        let Some(name) = key.as_str().strip_prefix(NETWORKS) else { return };
        let record: Option<Record> = serde_json::from_slice(value).ok();
        match record.and_then(|record| record.body.network).filter(|network| network.name == name) {
            Some(network) => _ = self.0.insert(key.clone(), Arc::new(network)),
            None => _ = self.0.remove(key),
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if key.as_str().starts_with(NETWORKS) {
            self.0.remove(key);
        }
    }

    /// The network that an address is in.
    pub(crate) fn of(&self, address: IpAddr) -> Option<&str> {
        let within = |network: &&Arc<Network>| match address.to_canonical() {
            IpAddr::V4(address) => network.subnet.contains(&address),
            IpAddr::V6(address) => network.subnet6.contains(&address),
        };
        let mut found = self.0.values().filter(within);
        let one = found.next()?;
        found.next().is_none().then_some(&*one.name)
    }
}

/// The service that has what is called `name` in a network.
pub(crate) fn service(name: &str, network: &str) -> Option<ServiceKey> {
    ServiceKey::new(&format!("{name}.{network}{DOMAIN}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, subnet: &str, subnet6: &str) -> String {
        format!(
            "{{\"v\":1,\"rev\":7,\"body\":{{\"network\":{{\"name\":\"{name}\",\"subnet\":\"{subnet}\",\"subnet6\":\"{subnet6}\",\"since\":1}}}}}}"
        )
    }

    #[test]
    fn an_address_is_in_one_network_or_none() {
        let mut networks = Networks::default();
        let mut put = |name: &str, value: &str| {
            networks.insert(&Key::new(&format!("{NETWORKS}{name}")).unwrap(), value.as_bytes());
        };
        put("app", &record("app", "10.1.0.0/16", "fd00:1::/48"));
        put("dev", &record("dev", "10.2.0.0/16", "fd00:2::/48"));
        put("one", &record("one", "10.3.0.0/16", "fd00:3::/48"));
        put("two", &record("two", "10.3.0.0/24", "fd00:4::/48"));
        put("gone", &record("gone", "10.4.0.0/16", "fd00:5::/48"));
        put("gone", "{\"body\":{\"network\":null}}");
        put("other", &record("app", "10.5.0.0/16", "fd00:6::/48"));
        for junk in ["", "{", "[]", "{\"body\":{\"network\":{\"name\":\"junk\",\"subnet\":7}}}"] {
            put("junk", junk);
        }
        networks.insert(&Key::new("elsewhere").unwrap(), record("elsewhere", "10.6.0.0/16", "fd00:7::/48").as_bytes());
        for (address, want) in [
            ("10.1.2.3", Some("app")),
            ("::ffff:10.1.2.3", Some("app")),
            ("fd00:2::1", Some("dev")),
            ("10.3.0.1", None),
            ("10.3.1.1", Some("one")),
            ("10.4.0.1", None),
            ("10.5.0.1", None),
            ("10.6.0.1", None),
            ("10.7.0.1", None),
        ] {
            assert_eq!(networks.of(address.parse().unwrap()), want, "{address}");
        }
        networks.remove(&Key::new("overlay/v1/nets/app").unwrap());
        assert_eq!(networks.of("10.1.2.3".parse().unwrap()), None);
    }
}
