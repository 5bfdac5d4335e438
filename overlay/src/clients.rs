//! Machines without this program, which reach one network by an ordinary WireGuard. Pure. A client belongs to the member
//! that it was added on: that one is its only peer, and holds its address, in a block that it claims for clients. So all
//! others reach a client as they reach that member's containers, and know nothing of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::{
    device::Peer,
    identity::{Identity, derive},
    keys::{PresharedKey, PublicKey},
    network::{Block, Network, NetworkId, NetworkName},
};

/// What a client sends and gets at once, in bytes: its way is not measured, and any takes this.
pub const MTU: u16 = 1280;
/// The longest name.
const MAX_NAME_BYTES: usize = 63;

/// A client to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    /// What it is to be called.
    pub name: String,
    /// Which network it is to be in.
    pub network: NetworkName,
    /// Its key.
    pub key: String,
    /// Where it reaches this host; one of its addresses, if it does not matter.
    #[serde(default)]
    pub endpoint: Option<SocketAddr>,
}

/// A client of this host, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What it is called.
    pub name: String,
    /// Which network it is in.
    pub network: NetworkId,
    /// Its key, in base64.
    pub key: String,
    /// Its address.
    pub v4: Ipv4Addr,
    /// The same of IPv6.
    pub v6: Ipv6Addr,
}

impl NewClient {
    /// Its key, if all that was said can be.
    ///
    /// # Errors
    /// What cannot.
    pub fn check(&self) -> Result<PublicKey, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES || !self.name.chars().all(good) {
            return Err(format!(
                "{:?} is no name of a client: letters, digits, _ . and -, {MAX_NAME_BYTES} at most",
                self.name
            ));
        }
        self.key.parse().map_err(|e: crate::keys::KeyError| e.to_string())
    }
}

impl Client {
    /// The client of the first address of `block` that none of `others` has. The first one is never given: it would be
    /// this host's, if the block were for containers.
    pub fn new(new: &NewClient, network: &Network, block: Block, others: &[Self]) -> Option<Self> {
        let count = 1_u32 << (32 - block.v4.prefix_len());
        let v4 = |n: u32| Ipv4Addr::from(u32::from(block.v4.network()) + n);
        let n = (2..count - 1).find(|n| !others.iter().any(|other| other.v4 == v4(*n)))?;
        let v6 = Ipv6Addr::from(u128::from(block.v6.network()) + u128::from(n));
        Some(Self { name: new.name.clone(), network: network.id, key: new.key.clone(), v4: v4(n), v6 })
    }

    /// Whether its address is in `block`.
    pub fn is_in(&self, block: Ipv4Net) -> bool {
        block.contains(&self.v4)
    }

    /// Its prefixes.
    pub fn prefixes(&self) -> [IpNet; 2] {
        [IpNet::from(IpAddr::V4(self.v4)), IpNet::from(IpAddr::V6(self.v6))]
    }

    /// As this host's WireGuard is to know it. It comes from wherever it is.
    pub fn peer(&self, identity: &Identity) -> Option<Peer> {
        let key: PublicKey = self.key.parse().ok()?;
        let preshared = preshared(identity, key);
        Some(Peer { key, preshared, endpoint: None, allowed: self.prefixes().into(), keepalive: None })
    }

    /// What it is to be configured with, in the form of wg-quick. Its secret key is where it belongs: with the client.
    pub fn configuration(&self, identity: &Identity, network: &Network, endpoint: SocketAddr, secret: &str) -> String {
        let preshared = self.key.parse().map(|key| preshared(identity, key).text());
        format!(
            "# {name} in the network {network}\n[Interface]\nPrivateKey = {secret}\nAddress = {v4}/32, {v6}/128\nMTU = {MTU}\n\n\
             [Peer]\nPublicKey = {key}\nPresharedKey = {preshared}\nEndpoint = {endpoint}\n\
             AllowedIPs = {subnet}, {subnet6}\nPersistentKeepalive = 25\n",
            name = self.name,
            network = network.name,
            v4 = self.v4,
            v6 = self.v6,
            key = identity.key().public(),
            preshared = preshared.as_ref().map_or("", |text| text.as_str()),
            subnet = network.subnet,
            subnet6 = network.subnet6,
        )
    }
}

/// What this host and a client mix into their handshakes. It follows from this host's key, so it is kept nowhere.
fn preshared(identity: &Identity, client: PublicKey) -> PresharedKey {
    PresharedKey::new(*derive(identity.key().secret().as_bytes(), &[b"overlay/v1 client", client.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::PrivateKey, world::tests::web};

    fn new(name: &str, key: &str) -> NewClient {
        NewClient { name: name.into(), network: web().name, key: key.into(), endpoint: None }
    }

    #[test]
    fn addresses_are_given_once_and_again_when_they_are_free() {
        let key = PrivateKey::generate().unwrap().public().to_string();
        let (network, mut all) = (web(), Vec::new());
        while let Some(client) = Client::new(&new("a", &key), &network, network.block(7), &all) {
            all.push(client);
        }
        assert_eq!(all.len(), 253);
        assert_eq!((all[0].v4.to_string(), all[252].v4.to_string()), ("10.210.7.2".into(), "10.210.7.254".into()));
        assert!(
            network.block(7).v6.contains(&all[252].v6) && all.iter().all(|client| client.is_in(network.block(7).v4))
        );
        let gone = all.remove(100);
        assert_eq!(Client::new(&new("b", &key), &network, network.block(7), &all).unwrap().v4, gone.v4);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let key = PrivateKey::generate().unwrap().public().to_string();
        assert!(new("laptop-1", &key).check().is_ok());
        for (name, key) in [("", &*key), ("a b", &key), (&"x".repeat(64), &key), ("a", ""), ("a", "AAAA")] {
            assert!(new(name, key).check().is_err(), "{name} {key}");
        }
    }

    #[test]
    fn a_configuration_says_what_the_host_expects() {
        let identity = Identity::new(PrivateKey::generate().unwrap());
        let key = PrivateKey::generate().unwrap().public().to_string();
        let client = Client::new(&new("laptop", &key), &web(), web().block(7), &[]).unwrap();
        let text = client.configuration(&identity, &web(), "[2001:db8::1]:51820".parse().unwrap(), "SECRET");
        let peer = client.peer(&identity).unwrap();
        for line in [
            "PrivateKey = SECRET".to_owned(),
            "Address = 10.210.7.2/32, fd00:0:1:7::2/128".into(),
            format!("PublicKey = {}", identity.key().public()),
            format!("PresharedKey = {}", *peer.preshared.text()),
            "Endpoint = [2001:db8::1]:51820".into(),
            "AllowedIPs = 10.210.0.0/16, fd00:0:1::/48".into(),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        assert_eq!(peer.allowed, client.prefixes().into());
        let other = Identity::new(PrivateKey::generate().unwrap());
        assert!(client.peer(&other).unwrap().preshared != peer.preshared);
    }
}
