//! Which subnets meet, and which are free. Pure.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

/// Where subnets come from that nobody gave: the half of 10.0.0.0/8 that is used less.
const POOL: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// There are this many of /16 in it.
const POOL_COUNT: u32 = 128;

/// Whether two subnets have an address in common.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Where LANs are: what RFC 1918 and RFC 6598 leave to everybody.
const LANS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Whether a host may say of `subnet` that it is behind it: of nothing that the Internet knows.
pub fn may_be_lan(subnet: Ipv4Net) -> bool {
    let all = LANS.map(|(ip, bits)| Ipv4Net::new(ip, bits).expect("at most 32 bits"));
    all.iter().any(|lan| lan.contains(&subnet))
}

/// The first of `used` that meets `subnet`. Default routes use nothing.
pub fn clash(subnet: Ipv4Net, used: &[IpNet]) -> Option<IpNet> {
    let meets = |net: &&IpNet| matches!(net, IpNet::V4(v4) if v4.prefix_len() > 0 && overlap(*v4, subnet));
    used.iter().find(meets).copied()
}

/// A /16 that meets none of `used`; `seed` says where to look first, so that networks made at the same time on different
/// hosts seldom meet.
pub fn free(seed: u32, used: &[IpNet]) -> Option<Ipv4Net> {
    let nth = |n: u32| Ipv4Addr::from(u32::from(POOL) + (((seed + n) % POOL_COUNT) << 16));
    let all = (0..POOL_COUNT).map(|n| Ipv4Net::new(nth(n), 16).expect("at most 32 bits"));
    all.into_iter().find(|subnet| clash(*subnet, used).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn what_meets_is_found() {
        for (subnet, used, wanted) in [
            ("10.130.0.0/16", "0.0.0.0/0 10.129.0.0/16 fd00::/8", None),
            ("10.130.0.0/16", "10.130.7.0/24", Some("10.130.7.0/24")),
            ("10.130.0.0/16", "10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.130.0.0/16", "10.130.0.1/32", Some("10.130.0.1/32")),
        ] {
            let found = clash(subnet.parse().unwrap(), &nets(used));
            assert_eq!(found, wanted.map(|net| net.parse().unwrap()), "{used}");
        }
    }

    #[test]
    fn a_lan_is_nothing_that_the_internet_knows() {
        for (subnet, is) in [
            ("192.168.7.0/24", true),
            ("10.0.0.0/8", true),
            ("172.31.0.0/16", true),
            ("100.64.0.0/10", true),
            ("0.0.0.0/0", false),
            ("0.0.0.0/1", false),
            ("8.8.8.0/24", false),
            ("172.16.0.0/11", false),
            ("192.168.0.0/15", false),
            ("127.0.0.0/8", false),
        ] {
            assert_eq!(may_be_lan(subnet.parse().unwrap()), is, "{subnet}");
        }
    }

    #[test]
    fn a_free_one_is_free() {
        assert_eq!(free(2, &[]).unwrap().to_string(), "10.130.0.0/16");
        assert_eq!(free(2, &nets("10.130.9.0/24 10.131.0.0/16")).unwrap().to_string(), "10.132.0.0/16");
        assert_eq!(free(127, &nets("10.255.0.0/16")).unwrap().to_string(), "10.128.0.0/16");
        assert_eq!(free(0, &nets("10.0.0.0/8")), None);
    }
}
