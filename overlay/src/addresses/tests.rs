use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn of(subnet: &str, ranges: &[&str]) -> Addresses {
    let mut addresses = Addresses::new(net(subnet));
    addresses.set_ranges(ranges.iter().map(|range| net(range)));
    addresses
}

/// What is given when `want` are asked for, one after the other.
fn given(addresses: &mut Addresses, want: usize) -> Vec<String> {
    (0..want).map(|_| addresses.take_any().map_or_else(|e| e.to_string(), |a| a.to_string())).collect()
}

#[test]
fn addresses_come_in_order_and_those_freed_last_come_last() {
    let mut block = of("10.1.0.0/16", &["10.1.7.0/29"]);
    block.reserve(ip("10.1.7.1")).unwrap();
    assert_eq!(given(&mut block, 3), ["10.1.7.2", "10.1.7.3", "10.1.7.4"]);
    assert!(block.release(ip("10.1.7.3")) && block.release(ip("10.1.7.2")) && !block.release(ip("10.1.7.2")));
    let rest = ["10.1.7.5", "10.1.7.6", "10.1.7.3", "10.1.7.2", "all addresses are in use"];
    assert_eq!(given(&mut block, 5), rest);
}

#[test]
fn a_second_block_is_used_when_the_first_is_full() {
    let mut block = of("10.1.0.0/16", &["10.1.7.0/30"]);
    assert_eq!(given(&mut block, 3), ["10.1.7.1", "10.1.7.2", "all addresses are in use"]);
    block.set_ranges(["10.1.7.0/30", "10.1.9.0/30"].map(net));
    assert_eq!((given(&mut block, 1), block.capacity()), (vec!["10.1.9.1".to_owned()], 4));
    // A block that is no longer ours gives nothing more, and what it has given is still known.
    block.set_ranges([net("10.1.9.0/30")]);
    block.release(ip("10.1.7.1"));
    assert_eq!(given(&mut block, 2), ["10.1.9.2", "all addresses are in use"]);
    assert!(block.taken().contains(&ip("10.1.7.2")));
}

#[test]
fn a_given_address_is_checked() {
    let mut block = of("10.1.0.0/16", &["10.1.0.0/24", "10.1.255.0/24"]);
    for (address, result) in [
        ("10.1.0.9", Ok(())),
        ("10.1.0.9", Err(Refusal::Taken)),
        ("10.1.0.255", Ok(())),
        ("10.1.0.0", Err(Refusal::Reserved)),
        ("10.1.255.255", Err(Refusal::Reserved)),
        ("10.1.8.1", Err(Refusal::Elsewhere)),
        ("10.2.0.1", Err(Refusal::Outside(net("10.1.0.0/16")))),
        ("fd00::1", Err(Refusal::Outside(net("10.1.0.0/16")))),
    ] {
        assert_eq!(block.take(ip(address)), result, "{address}");
    }
    assert_eq!(block.reserve(ip("10.1.8.1")), Ok(()), "the gateway may be anywhere");
}

#[test]
fn small_and_large_networks_have_their_ends() {
    for (subnet, capacity, offered, last) in [
        ("10.0.0.4/30", 2, &["10.0.0.5", "10.0.0.6"][..], "10.0.0.6"),
        ("10.0.0.4/31", 2, &["10.0.0.4", "10.0.0.5"], "10.0.0.5"),
        ("10.0.0.4/32", 1, &["10.0.0.4"], "10.0.0.4"),
        ("10.0.0.0/8", 65_534, &["10.0.0.1", "10.0.0.2"], "10.255.255.254"),
        ("fd00::/64", 65_534, &["fd00::1", "fd00::2"], "fd00::ffff:ffff:ffff:ffff"),
        ("255.255.255.0/24", 254, &["255.255.255.1"], "255.255.255.254"),
        ("::/0", 65_534, &["::1"], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ] {
        let mut all = Addresses::new(net(subnet));
        assert_eq!(all.capacity(), capacity, "{subnet}");
        assert_eq!(given(&mut all, offered.len()), offered, "{subnet}");
        all.release(ip(last));
        assert_eq!(all.take(ip(last)), Ok(()), "{subnet}: {last}");
    }
    assert_eq!(first(net("10.1.0.0/16")), Some(ip("10.1.0.1")));
    assert_eq!(first(net("fd00:1::/64")), Some(ip("fd00:1::1")));
    assert_eq!((first(net("10.1.0.0/31")), first(net("10.1.0.0/32"))), (None, None));
}

/// The same, as one would do it by hand: each address, and when it was freed.
struct Naive(Vec<(IpAddr, Option<u32>, bool)>);

impl Naive {
    fn any(&mut self) -> Option<IpAddr> {
        let free = self.0.iter_mut().filter(|(.., taken)| !taken);
        let (address, _, taken) = free.min_by_key(|(address, freed, _)| (*freed, *address))?;
        *taken = true;
        Some(*address)
    }
}

#[test]
fn random_work_goes_as_in_a_naive_model() {
    for seed in 0..300 {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let range = if seed % 2 == 0 { "10.1.3.16/28" } else { "fd00::10/124" };
        let (subnet, range) = (if seed % 2 == 0 { "10.1.0.0/16" } else { "fd00::/64" }, net(range));
        let mut addresses = of(subnet, &[&range.to_string()]);
        let hosts: Vec<_> = candidates(range).collect();
        assert_eq!(hosts.len(), 14);
        let mut model = Naive(hosts.iter().map(|host| (*host, None, false)).collect());
        for time in 0..200 {
            let n = rng.random_range(0..hosts.len());
            match rng.random_range(0..10) {
                0..4 => assert_eq!(addresses.take_any().ok(), model.any(), "at {time}"),
                4 => {
                    let (address, _, taken) = &mut model.0[n];
                    assert_eq!(addresses.take(*address).is_ok(), !*taken, "at {time}: {address}");
                    *taken = true;
                }
                5 => {
                    // As after a restart.
                    let text = serde_json::to_string(&addresses).unwrap();
                    addresses = serde_json::from_str(&text).unwrap();
                }
                _ => {
                    let (address, freed, taken) = &mut model.0[n];
                    assert_eq!(addresses.release(*address), *taken, "at {time}: {address}");
                    if std::mem::take(taken) {
                        *freed = Some(time);
                    }
                }
            }
            let taken: BTreeSet<_> =
                model.0.iter().filter(|(.., taken)| *taken).map(|(address, ..)| *address).collect();
            assert_eq!(*addresses.taken(), taken, "at {time}");
        }
    }
}
