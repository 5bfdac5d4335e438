//! Hosts that do not reach each other simply: behind a NAT, in another subnet, through others, over bad ways.

use std::time::{Duration, Instant};

use flotilla_tests::switch::Switch;

use crate::{
    bed::Bed,
    end,
    traffic::{nft, shell, transfer},
};

/// The third host gets a subnet of its own, with the fourth between it and the others.
fn put_behind(bed: &Bed, network: &str) {
    let router = bed.switch.namespace(4);
    bed.switch.ip(3, "link delete up0");
    bed.switch.ip(3, &format!("link add up0 type veth peer name down0 netns {router}"));
    bed.switch.ip(3, &format!("address add {network}.2/24 dev up0"));
    bed.switch.ip(4, &format!("address add {network}.1/24 dev down0"));
    bed.switch.ip(3, "link set up0 up");
    bed.switch.ip(4, "link set down0 up");
    bed.switch.ip(3, &format!("route add default via {network}.1"));
    shell(&bed.switch, 4, "echo 1 > /proc/sys/net/ipv4/ip_forward");
}

fn starts(bed: &mut Bed, hosts: &[u8]) {
    for n in hosts {
        bed.start(*n);
    }
    bed.network(hosts);
}

/// A host behind a NAT that gives it other ports reaches all and is reached by all, also from a new place.
pub(crate) fn nat() {
    let mut bed = Bed::idle(4);
    put_behind(&bed, "192.168.77");
    let nat = "chain post {\ntype nat hook postrouting priority 100\nip protocol udp oifname \"up0\" masquerade to :40000-50000 random\noifname \"up0\" masquerade\n}";
    nft(&bed.switch, 4, "ip nat", nat);
    let started = Instant::now();
    starts(&mut bed, &[1, 2, 3]);
    for n in [1, 2] {
        bed.until("there is no other between", |bed| bed.way(n, 3) == "direct" && bed.way(3, n) == "direct");
        let endpoint = bed.peer(n, 3)["endpoint"].as_str().unwrap_or_default().to_owned();
        assert!(endpoint.starts_with("10.216.0.4:4"), "{endpoint}");
    }
    println!("a host behind a NAT reaches all and is reached by all {:?} after the start", started.elapsed());
    let before = bed.peer(1, 3)["endpoint"].clone();
    bed.switch.ip(4, "address add 10.216.0.99/24 dev up0");
    bed.switch.ip(4, &format!("address delete {}/24 dev up0", Switch::address(4)));
    bed.switch.ip(4, "address replace 10.216.0.99/24 dev up0");
    let changed = Instant::now();
    bed.until("the new place is known", |bed| bed.peer(1, 3)["endpoint"] != before && bed.reaches(1, 3));
    println!("it is reached again {:?} after the NAT gave it another address", changed.elapsed());
    bed.pairs(&[1, 2, 3]);
}

/// A host in another subnet, behind a router.
pub(crate) fn router() {
    let mut bed = Bed::idle(4);
    put_behind(&bed, "10.217.0");
    for n in [1, 2] {
        bed.switch.ip(n, &format!("route add 10.217.0.0/24 via {}", Switch::address(4)));
    }
    starts(&mut bed, &[1, 2, 3]);
    bed.until("there is no other between", |bed| bed.way(1, 3) == "direct" && bed.way(3, 2) == "direct");
    assert_eq!(bed.peer(1, 3)["endpoint"], "10.217.0.2:51820");
}

/// Four hosts of which each sees its neighbours only.
pub(crate) fn chain() {
    let mut bed = Bed::new(4);
    let all = [1, 2, 3, 4];
    bed.network(&all);
    bed.until("all is direct", |bed| all.iter().all(|n| all.iter().all(|m| n == m || bed.way(*n, *m) == "direct")));
    let stream = bed.stream(1, 4);
    for (n, others) in [(1, [3, 4]), (2, [4, 4]), (3, [1, 1]), (4, [1, 2])] {
        bed.cut(n, &others);
    }
    let cut = Instant::now();
    bed.until("the first reaches the last over two others", |bed| {
        bed.way(1, 4) == "through h2" && bed.way(4, 1) == "through h3" && bed.reaches(1, 4)
    });
    let replaced = cut.elapsed();
    bed.pairs(&all);
    println!("in a chain of four the ends reach each other {replaced:?} after the cut");
    for n in all {
        bed.cut(n, &[]);
    }
    let open = Instant::now();
    bed.until("all is direct again", |bed| bed.way(1, 4) == "direct" && bed.way(4, 1) == "direct");
    let (sent, received) = end(stream);
    println!("they do so directly {:?} after it is whole again; {received} of {sent} pings came", open.elapsed());
    assert!(replaced < Duration::from_secs(30) && open.elapsed() < Duration::from_mins(1), "on a busy machine");
    // A host that comes while the ways are cut finds its place in the chain, too.
    bed.kill(4);
    bed.cut(1, &[3, 4]);
    bed.cut(2, &[4]);
    bed.cut(4, &[1, 2]);
    bed.cut(3, &[1]);
    bed.start(4);
    bed.pairs(&[1, 4]);
}

/// Ways that lose packets are used all the same: a tenth, a fifth, a third.
pub(crate) fn loss() {
    let bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    bed.until("all is direct", |bed| bed.way(1, 2) == "direct" && bed.way(2, 1) == "direct");
    for percent in [10, 20, 30] {
        let rules = format!(
            "chain in {{\ntype filter hook input priority 0\nudp dport 51820 numgen random mod 100 < {percent} drop\n}}"
        );
        nft(&bed.switch, 2, "inet loss", &rules);
        let stream = bed.stream(1, 2);
        let began = Instant::now();
        let (source, to) = (bed.address(1, "app").unwrap(), bed.address(2, "app").unwrap());
        let bytes = if percent == 10 { 1 << 20 } else { 1 << 17 };
        let took = transfer(&bed.switch, (1, &source), (2, &to), bytes);
        while began.elapsed() < Duration::from_secs(12) {
            assert_eq!(bed.way(1, 2), "direct", "{percent} %");
            std::thread::sleep(Duration::from_millis(200));
        }
        let (sent, received) = end(stream);
        println!("{percent} % lost: {received} of {sent} pings came, {} KiB over TCP took {took:?}", bytes >> 10);
    }
    assert!(!bed.log(1).contains("is not reached directly"), "it was never taken to be cut");
}

/// A router on the way drops what is large and says nothing.
pub(crate) fn black_hole() {
    let mut bed = Bed::idle(6);
    put_behind(&bed, "10.217.0");
    for n in [1, 2] {
        bed.switch.ip(n, &format!("route add 10.217.0.0/24 via {}", Switch::address(4)));
    }
    let swallow = |bed: &Bed, above: u16| {
        let rules =
            format!("chain through {{\ntype filter hook forward priority 0\nip length > {above} counter drop\n}}");
        nft(&bed.switch, 4, "inet hole", &rules);
    };
    // Cut up before it leaves: the router is to see what a real one would.
    for n in [1, 3] {
        bed.switch.ip(n, "link set up0 gso_max_segs 1");
    }
    starts(&mut bed, &[1, 2, 3]);
    let mtu = |bed: &Bed, n, m| bed.peer(n, m)["mtu"].as_u64().unwrap_or(0);
    let known = |bed: &Bed, n, m| bed.peer(n, m)["mtu_known"] == true;
    bed.until("all gets through", |bed| mtu(bed, 1, 3) == 1420 && mtu(bed, 3, 1) == 1420 && known(bed, 1, 3));
    let container = containers(&bed);
    // The first sends by BBR, where the kernel has it, which takes a silence for a way of some kbit/s.
    for (n, control) in [(1, "bbr"), (3, "reno"), (5, "reno")] {
        let has = "grep -qw {} /proc/sys/net/ipv4/tcp_available_congestion_control".replace("{}", control);
        let use_it = format!("if {has}; then echo {control} > /proc/sys/net/ipv4/tcp_congestion_control; fi");
        shell(&bed.switch, n, &use_it);
    }
    let (first, third) = (bed.address(1, "app").unwrap(), bed.address(3, "app").unwrap());
    // In the middle of life: 20 for IPv4, 8 for UDP, 32 for WireGuard leave 1340.
    swallow(&bed, 1400);
    for (from, to) in [((1, &*first), (3, &*third)), ((3, &*third), (1, &*first)), ((5, &*container), (3, &*third))] {
        let took = transfer(&bed.switch, from, to, 8 << 20);
        println!(
            "8 MiB from {} to {} through a router that has begun to swallow above 1400 took {took:?}",
            from.1, to.1
        );
    }
    let good = |bed: &Bed, n, m| known(bed, n, m) && (1330..=1340).contains(&mtu(bed, n, m));
    bed.until("the size is known", |bed| good(bed, 1, 3) && good(bed, 3, 1));
    assert_eq!(mtu(&bed, 1, 2), 1420, "of this way only");
    println!("{}", bed.overlay(1, &["status", "peers"]).unwrap());
    // From the start, and for containers, both ways.
    bed.kill(1);
    bed.start(1);
    bed.until("it is back", |bed| bed.reaches(1, 3));
    for (from, to) in [((3, &*third), (5, &*container)), ((5, &*container), (3, &*third))] {
        let took = transfer(&bed.switch, from, to, 8 << 20);
        println!("8 MiB from {} to {} took {took:?}", from.1, to.1);
    }
    // So narrow that only IPv4 is carried.
    swallow(&bed, 1300);
    bed.until("the size is known", |bed| (1232..=1240).contains(&mtu(bed, 1, 3)) && known(bed, 1, 3));
    let took = transfer(&bed.switch, (1, &first), (3, &third), 1 << 20);
    println!("1 MiB through 1300 took {took:?}");
}

/// What stands for a container of the first host: the fifth one, on a link of the first; its address.
fn containers(bed: &Bed) -> String {
    let gateway = bed.address(1, "app").unwrap();
    let address = format!("{}.130", gateway.strip_suffix(".1").unwrap());
    let host = bed.switch.namespace(1);
    bed.switch.ip(5, "link delete up0");
    bed.switch.ip(5, &format!("link add up0 mtu 1420 type veth peer name box0 netns {host}"));
    bed.switch.ip(5, &format!("address add {address}/32 dev up0"));
    bed.switch.ip(5, "link set up0 up");
    bed.switch.ip(1, "link set box0 mtu 1420 up");
    bed.switch.ip(5, &format!("route add {gateway} dev up0"));
    bed.switch.ip(5, &format!("route add default via {gateway}"));
    bed.switch.ip(1, &format!("route add {address} dev box0"));
    shell(&bed.switch, 1, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    address
}
