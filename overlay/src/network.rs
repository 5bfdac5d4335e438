//! Networks, the blocks they are split in, and who they are for. Pure: names and numbers, each checked once, here.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest name of a network: what Docker shows in a column.
const MAX_NAME_BYTES: usize = 63;
/// A network has at most this many blocks, by power of two: so many of IPv6, a /64 each, are in a /48.
const MAX_BLOCK_COUNT_BITS: u8 = 16;
/// Blocks hold 4 to 65,536 addresses.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 16..=30;

/// A name or a number that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// What a network is called: a letter or digit, then letters, digits, `_`, `.` and `-`, as Docker wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// One network in the course of time: a later one of the same name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub Uuid);

/// A host in the mesh: a digest of its keys, so that nobody else can be it. 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(pub [u8; 16]);

/// Whose containers may be in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hosts {
    /// Those of every host.
    #[default]
    All,
    /// Those of the hosts of these names.
    List(BTreeSet<String>),
}

/// A subnet whose containers reach each other, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What it is called.
    pub name: NetworkName,
    /// Which of those that had the name.
    pub id: NetworkId,
    /// All its IPv4 addresses.
    pub subnet: Ipv4Net,
    /// All its IPv6 addresses, a /48 of RFC 4193.
    pub subnet6: Ipv6Net,
    /// The length of the prefix of its blocks; that of `subnet` where there is but one.
    pub block_bits: u8,
    /// It does not leave this host, and no other knows of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// Whose it is.
    #[serde(default)]
    pub hosts: Hosts,
    /// When it was made, in milliseconds since 1970.
    pub since: u64,
}

/// The part of a network that one host gives addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Of which network.
    pub network: NetworkId,
    /// Its IPv4 addresses.
    pub v4: Ipv4Net,
    /// Its IPv6 addresses, a /64.
    pub v6: Ipv6Net,
}

impl NetworkName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if begins && all && text.len() <= MAX_NAME_BYTES {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid(format!(
            "{text:?} is no name of a network: a letter or digit, then letters, digits, _ . and -, {MAX_NAME_BYTES} at most"
        )))
    }
}

impl TryFrom<String> for NetworkName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl NodeId {
    /// Before all others.
    pub(crate) const MIN: Self = Self([0; 16]);
    /// Behind all others.
    pub(crate) const MAX: Self = Self([0xff; 16]);

    /// Eight digits: for messages and file names, where a few hosts are told apart.
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid(format!("{text:?} is no id of a host: 32 hexadecimal digits are"));
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(invalid());
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| invalid())
    }
}

impl TryFrom<String> for NodeId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

impl Hosts {
    /// Whether the host called `name` is one of them.
    pub fn include(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::List(names) => names.contains(name),
        }
    }
}

impl Network {
    /// A new one. Its IPv6 addresses follow from `id`.
    ///
    /// # Errors
    /// For numbers that do not fit each other.
    pub fn new(name: NetworkName, id: NetworkId, subnet: Ipv4Net, block_bits: u8, since: u64) -> Result<Self, Invalid> {
        let network = Self {
            name,
            id,
            subnet: subnet.trunc(),
            subnet6: unique_local(id),
            block_bits,
            local: false,
            hosts: Hosts::All,
            since,
        };
        if subnet != subnet.trunc() {
            return Err(Invalid(format!("{subnet} is no subnet, but an address in {}", subnet.trunc())));
        }
        network.check().map(|()| network)
    }

    /// Whether its numbers fit each other; for what comes from elsewhere.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Invalid> {
        let (subnet, bits) = (self.subnet, self.block_bits);
        let refuse = |why: String| Err(Invalid(format!("network {}: {why}", self.name)));
        if subnet != subnet.trunc() || self.subnet6 != self.subnet6.trunc() {
            return refuse(format!("{subnet} and {} are not both subnets", self.subnet6));
        }
        if !BLOCK_BITS.contains(&bits) {
            return refuse(format!("blocks of /{bits} are too {}", if bits > 30 { "small" } else { "large" }));
        }
        if bits < subnet.prefix_len() || bits - subnet.prefix_len() > MAX_BLOCK_COUNT_BITS {
            let most = 1_u32 << MAX_BLOCK_COUNT_BITS;
            return refuse(format!("{subnet} is to have 1 to {most} blocks; with /{bits} it has another number"));
        }
        if self.subnet6.prefix_len() != 48 || self.subnet6.network().segments()[0] >> 8 != 0xfd {
            return refuse(format!("{} is no /48 of unique local addresses", self.subnet6));
        }
        let ip = subnet.network();
        if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_link_local() || ip.octets()[0] >= 240 {
            return refuse(format!("hosts have no addresses in {subnet}"));
        }
        Ok(())
    }

    /// How many blocks it has.
    pub fn block_count(&self) -> u32 {
        1 << (self.block_bits - self.subnet.prefix_len())
    }

    /// The `n`th block, of [`Self::block_count`].
    pub fn block(&self, n: u32) -> Block {
        let first = u32::from(self.subnet.network()) | n << (32 - self.block_bits);
        let v6 = u128::from(self.subnet6.network()) | u128::from(n) << 64;
        Block {
            network: self.id,
            v4: Ipv4Net::new(Ipv4Addr::from(first), self.block_bits).expect("at most 30 bits"),
            v6: Ipv6Net::new(Ipv6Addr::from(v6), 64).expect("at most 128 bits"),
        }
    }

    /// The block of exactly these addresses, if it is one of this network's.
    pub fn block_of(&self, v4: Ipv4Net) -> Option<Block> {
        let fits = v4.prefix_len() == self.block_bits && v4 == v4.trunc() && self.subnet.contains(&v4);
        fits.then(|| self.block((u32::from(v4.network()) - u32::from(self.subnet.network())) >> (32 - self.block_bits)))
    }
}

impl Block {
    /// What the host itself has in it, and its containers send all by: the first address.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.v4.network()) + 1)
    }

    /// The same of IPv6.
    pub fn gateway6(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.v6.network()) + 1)
    }
}

/// RFC 4193: fd, 40 bits that nobody else is likely to have, and 16 for the blocks.
fn unique_local(id: NetworkId) -> Ipv6Net {
    let random = u128::from_be_bytes(*id.0.as_bytes());
    // The last 48 bits of a UUID are all random.
    let prefix = 0xfd << 40 | (random & 0xff_ffff_ffff);
    Ipv6Net::new(Ipv6Addr::from(prefix << 80), 48).expect("at most 128 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnet: &str, bits: u8) -> Result<Network, Invalid> {
        let id = NetworkId(Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef));
        Network::new("web".parse().unwrap(), id, subnet.parse().unwrap(), bits, 1)
    }

    #[test]
    fn names_are_those_that_docker_takes() {
        for good in ["web", "9.a_b-c", &"x".repeat(63)] {
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<NetworkName>("\"a/b\"").is_err());
    }

    #[test]
    fn a_host_s_id_reads_as_it_is_written() {
        let id = NodeId([0xa0; 16]);
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        assert_eq!(id.short(), "a0a0a0a0");
        for bad in ["", "a0", &"A0".repeat(16), &"+".repeat(32), &"a0".repeat(17)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn blocks_tile_a_network() {
        let web = network("10.210.0.0/16", 24).unwrap();
        assert_eq!(web.subnet6.to_string(), "fd67:89ab:cdef::/48");
        assert_eq!(web.block_count(), 256);
        let seventh = web.block(7);
        assert_eq!(
            (seventh.v4.to_string(), seventh.v6.to_string()),
            ("10.210.7.0/24".into(), "fd67:89ab:cdef:7::/64".into())
        );
        assert_eq!(
            (seventh.gateway().to_string(), seventh.gateway6().to_string()),
            ("10.210.7.1".into(), "fd67:89ab:cdef:7::1".into())
        );
        for n in 0..web.block_count() {
            assert_eq!(web.block_of(web.block(n).v4), Some(web.block(n)));
        }
        for other in ["10.211.0.0/24", "10.210.7.0/25", "10.210.7.1/24"] {
            assert_eq!(web.block_of(other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(network("10.1.0.0/24", 24).unwrap().block(0).v4.to_string(), "10.1.0.0/24");
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for (subnet, bits) in [
            ("10.0.0.0/16", 15),
            ("10.0.0.0/24", 31),
            ("10.0.0.0/25", 24),
            ("10.0.0.0/8", 25),
            ("10.0.0.1/16", 24),
            ("127.0.0.0/16", 24),
            ("224.0.0.0/16", 24),
            ("240.0.0.0/16", 24),
            ("169.254.0.0/16", 24),
            ("0.0.0.0/16", 24),
        ] {
            assert!(network(subnet, bits).is_err(), "{subnet} /{bits}");
        }
    }
}
