//! What people write for a place: `app`, `10.210.7.9`, `10.210.7.9/24@10.210.7.1`. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    link::Mac,
    mesh::Refusal,
    plugin::{AttachedWay as Way, Place},
};

/// A link for a container, as it is asked for at the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewLink {
    /// The container's name, or the beginning of its id.
    pub container: String,
    /// A network's name, or an address; `@` and a gateway may follow.
    pub at: Option<String>,
    /// A bridge of the host's that is not the overlay's.
    pub bridge: Option<String>,
    /// A link of the host's, whose network the container is to be in.
    pub parent: Option<String>,
    /// The VLAN there.
    pub vlan: Option<u16>,
    /// The hardware address.
    pub mac: Option<Mac>,
}

/// Reads `at`: where, and the gateway.
///
/// # Errors
/// [`Refusal::Wrong`]
pub(super) fn read(at: Option<&str>) -> Result<(Place, Option<IpAddr>), Refusal> {
    let Some(at) = at else { return Ok((Place::Only, None)) };
    let (place, gateway) = at.split_once('@').map_or((at, None), |(place, gateway)| (place, Some(gateway)));
    let gateway = gateway.map(|text| text.parse().map_err(|_| wrong(format!("{text:?} is no address of a gateway"))));
    let gateway = gateway.transpose()?;
    let place = match (place.parse::<IpAddr>(), place.parse::<IpNet>()) {
        (Ok(ip), _) => Place::Address(ip, None),
        (_, Ok(net)) => Place::Address(net.addr(), Some(net.prefix_len())),
        _ if place.contains('/') => return Err(wrong(format!("{place:?} is neither an address nor a network"))),
        _ => Place::Network(place.parse().map_err(|e: crate::network::Invalid| wrong(e.to_string()))?),
    };
    Ok((place, gateway))
}

impl NewLink {
    /// What is meant.
    ///
    /// # Errors
    /// [`Refusal::Wrong`]
    pub(super) fn place(&self) -> Result<(Place, Option<IpAddr>), Refusal> {
        let (place, gateway) = read(self.at.as_deref())?;
        let way = match (&self.bridge, &self.parent) {
            (Some(_), Some(_)) => return Err(wrong("--bridge and --parent exclude each other".into())),
            (Some(bridge), None) => Way::Bridge(bridge.clone()),
            (None, Some(link)) => Way::Parent { link: link.clone(), vlan: self.vlan },
            (None, None) if self.vlan.is_some() => return Err(wrong("--vlan goes with --parent".into())),
            (None, None) => return Ok((place, gateway)),
        };
        if self.vlan.is_some_and(|id| !(1..=4094).contains(&id)) {
            return Err(wrong("a VLAN is a number from 1 to 4094".into()));
        }
        if self.vlan.is_some() && self.bridge.is_some() {
            return Err(wrong("--vlan goes with --parent, not with --bridge".into()));
        }
        let Place::Address(ip, Some(length)) = place else {
            return Err(wrong("outside of the overlay an address is given with its prefix, as in 192.0.2.9/24".into()));
        };
        let address = IpNet::new(ip, length).map_err(|e| wrong(e.to_string()))?;
        if address.prefix_len() < address.max_prefix_len() - 1 && address.addr() == address.network() {
            return Err(wrong(format!("{address} is a network; give the address of the container in it")));
        }
        if let Some(gateway) = gateway.filter(|gateway| !address.contains(gateway)) {
            return Err(wrong(format!("the gateway {gateway} is not in {}", address.trunc())));
        }
        Ok((Place::Outside(address, way), gateway))
    }
}

fn wrong(why: String) -> Refusal {
    Refusal::Wrong(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(at: &str, bridge: &str, parent: &str, vlan: u16) -> Result<(Place, Option<IpAddr>), Refusal> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (at, bridge, parent) = (some(at), some(bridge), some(parent));
        NewLink { at, bridge, parent, vlan: (vlan > 0).then_some(vlan), ..NewLink::default() }.place()
    }

    #[test]
    fn places_read_as_people_write_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (at, wanted) in [
            ("", (Place::Only, None)),
            ("app", (Place::Network("app".parse().unwrap()), None)),
            ("10.1.2.3", (Place::Address(ip("10.1.2.3"), None), None)),
            ("fd00::1/48", (Place::Address(ip("fd00::1"), Some(48)), None)),
            ("10.1.2.3/24@10.1.2.1", (Place::Address(ip("10.1.2.3"), Some(24)), Some(ip("10.1.2.1")))),
        ] {
            assert_eq!(link(at, "", "", 0).unwrap(), wanted, "{at}");
        }
        let address: IpNet = "192.0.2.9/24".parse().unwrap();
        let bridge = Place::Outside(address, Way::Bridge("br0".into()));
        assert_eq!(link("192.0.2.9/24@192.0.2.1", "br0", "", 0).unwrap(), (bridge, Some(ip("192.0.2.1"))));
        let vlan = Place::Outside(address, Way::Parent { link: "eth0".into(), vlan: Some(7) });
        assert_eq!(link("192.0.2.9/24", "", "eth0", 7).unwrap(), (vlan, None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_words() {
        for (at, bridge, parent, vlan, words) in [
            ("a b", "", "", 0, "no name of a network"),
            ("10.1.2.3/33", "", "", 0, "neither an address"),
            ("10.1.2.3@x", "", "", 0, "no address of a gateway"),
            ("192.0.2.9", "br0", "", 0, "with its prefix"),
            ("", "br0", "", 0, "with its prefix"),
            ("app", "", "eth0", 0, "with its prefix"),
            ("192.0.2.0/24", "br0", "", 0, "is a network"),
            ("192.0.2.9/24@198.51.100.1", "br0", "", 0, "is not in 192.0.2.0/24"),
            ("192.0.2.9/24", "br0", "eth0", 0, "exclude each other"),
            ("192.0.2.9/24", "br0", "", 7, "--vlan goes with --parent"),
            ("192.0.2.9/24", "", "", 7, "--vlan goes with --parent"),
            ("192.0.2.9/24", "", "eth0", 4095, "from 1 to 4094"),
        ] {
            let refused = link(at, bridge, parent, vlan).unwrap_err().to_string();
            assert!(refused.contains(words), "{at} {bridge} {parent} {vlan}: {refused}");
        }
    }
}
