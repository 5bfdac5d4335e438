//! Who listens, lies, or dies at a bad moment.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::switch::Switch;

use crate::{
    bed::Bed,
    end,
    traffic::{count, listen, nft, shell, shout, udp},
};

const MARKER: &[u8] = b"flotilla-marker-that-nobody-is-to-see";

fn at(address: &str, port: u16) -> SocketAddr {
    format!("{address}:{port}").parse().unwrap()
}

/// Nothing goes in clear text, whatever happens to the daemon or its interface: also with a default route to the switch.
pub(crate) fn overheard() {
    let mut bed = Bed::new(2);
    bed.network(&[1, 2]);
    bed.switch.ip(1, &format!("route add default via {}", Switch::address(2)));
    let there = bed.address(2, "app").unwrap();
    let to = udp(&bed.switch, 2, &there);
    let port = to.local_addr().unwrap().port();
    // Not bound to an address of the tunnel, so that it is sent also where there is none.
    let from = udp(&bed.switch, 1, "0.0.0.0");
    let (heard, arrived, sent) =
        (listen(&bed.switch, MARKER), count(to, MARKER), shout(from, at(&there, port), MARKER));
    thread::sleep(Duration::from_millis(300));
    bed.kill(1);
    thread::sleep(Duration::from_millis(700));
    bed.start(1);
    bed.until("it is back", |bed| bed.reaches(1, 2));
    bed.switch.ip(1, "link set ovl0 down");
    let took = bed.until("the interface is up again", |bed| bed.reaches(1, 2));
    println!("an interface that was set down is up again after {took:?}");
    bed.switch.ip(1, "link delete ovl0");
    let took = bed.until("there is an interface again", |bed| bed.reaches(1, 2));
    println!("an interface that was removed is there again after {took:?}");
    bed.overlay(1, &["stop"]).unwrap();
    thread::sleep(Duration::from_millis(500));
    bed.overlay(1, &["start"]).unwrap();
    bed.until("it goes on", |bed| bed.reaches(1, 2));
    let (sent, arrived, (frames, seen)) = (sent.end(), arrived.end(), heard.end());
    println!("the marker was sent {sent} times, arrived {arrived} times, and was in {seen} of {frames} frames");
    assert!(arrived > 100 && frames > 100 && seen == 0);
    // The listener would have seen it.
    let (heard, from) = (listen(&bed.switch, MARKER), udp(&bed.switch, 1, "0.0.0.0"));
    from.send_to(MARKER, (Switch::address(2), port)).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(heard.end().1 > 0);
}

/// A member that lies about who sends: as another host, or from another network. Nothing of it arrives.
pub(crate) fn spoofed() {
    let mut bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    bed.overlay(1, &["network", "create", "other"]).unwrap();
    bed.until("all have addresses", |bed| [1, 2, 3].iter().all(|n| bed.address(*n, "other").is_some()));
    let there = bed.address(2, "app").unwrap();
    let honest = bed.address(1, "app").unwrap();
    // Its own firewall is in its own hands.
    bed.start_lawless(1);
    bed.until("it is back", |bed| bed.reaches(1, 2) && bed.reaches(1, 3));
    let third = bed.address(3, "app").unwrap();
    let network = third.rsplit_once('.').unwrap().0.to_owned();
    let lies = [
        ("the third host", third),
        ("a container of the third host", format!("{network}.77")),
        ("a container of the receiver", format!("{}.77", there.rsplit_once('.').unwrap().0)),
        ("another network", bed.address(1, "other").unwrap()),
        ("the LAN", "10.216.0.1".to_owned()),
    ];
    let to = udp(&bed.switch, 2, &there);
    let port = to.local_addr().unwrap().port();
    let arrived = count(to, MARKER);
    let mut sent = 0;
    for (who, address) in &lies {
        shell(&bed.switch, 1, &format!("ip address add {address}/32 dev lo 2>&1 || true"));
        // In spite of the route of its network.
        let from = udp(&bed.switch, 1, address);
        for _ in 0..50 {
            sent += usize::from(from.send_to(MARKER, at(&there, port)).is_ok());
        }
        println!("50 packets as {who}");
    }
    // Another network's address as the destination.
    let elsewhere = bed.address(2, "other").unwrap();
    let crossed = |bed: &Bed| {
        let other = udp(&bed.switch, 2, &elsewhere);
        let address = other.local_addr().unwrap();
        let (crossing, from) = (count(other, MARKER), udp(&bed.switch, 1, &honest));
        let sent = (0..50).filter(|_| from.send_to(MARKER, address).is_ok()).count();
        (sent, crossing.end())
    };
    let (more, crossing) = crossed(&bed);
    sent += more;
    let arrived = arrived.end();
    println!("{sent} lies were sent: {arrived} arrived, {crossing} crossed into another network");
    assert!(sent >= 250 && arrived == 0 && crossing == 0);
    assert!(bed.status(2)["dropped"]["spoofed"].as_u64().unwrap() >= 100, "{}", bed.status(2)["dropped"]);
    // What is true arrives.
    let to = udp(&bed.switch, 2, &there);
    let address = to.local_addr().unwrap();
    let arrived = count(to, MARKER);
    let sent = shout(udp(&bed.switch, 1, &honest), address, MARKER);
    thread::sleep(Duration::from_millis(500));
    assert!(sent.end() > 0 && arrived.end() > 0);
    // It is the receiver's rules that keep them out: without these they cross.
    bed.start_lawless(2);
    bed.until("it is back", |bed| bed.reaches(1, 2));
    let (sent, crossing) = crossed(&bed);
    println!("{crossing} of {sent} cross to a receiver without rules");
    assert!(sent == 50 && crossing > 0, "{crossing} of {sent} came without the rules: they were never on their way");
}

/// Other programs take away rules, routes and addresses of a host; they are put back, once each, and whoever was kept out
/// is kept out again.
pub(crate) fn meddled() {
    let mut bed = Bed::new(2);
    bed.network(&[1, 2]);
    bed.overlay(1, &["network", "create", "other"]).unwrap();
    bed.until("both have addresses", |bed| [1, 2].iter().all(|n| bed.address(*n, "other").is_some()));
    bed.start_lawless(1);
    bed.until("it is back", |bed| bed.reaches(1, 2));
    let (first, second) = (bed.address(1, "app").unwrap(), bed.address(2, "app").unwrap());
    let crosses = |bed: &Bed| {
        let mut ping = bed.switch.command(1, "ping");
        ping.args(["-c", "1", "-W", "1", "-I", &first, &bed.address(2, "other").unwrap()]);
        ping.output().unwrap().status.success()
    };
    let rules = |bed: &Bed| {
        let listed = bed.switch.command(2, "nft").args(["--stateless", "list", "ruleset"]).output().unwrap().stdout;
        String::from_utf8(listed).unwrap()
    };
    let put_back = |bed: &Bed, what: &str| bed.log(2).matches(what).count();
    let made = rules(&bed);
    assert!(made.contains("another network") && !crosses(&bed));
    for (n, meddling) in
        ["flush ruleset", "delete table inet overlay", "flush chain inet overlay input"].iter().enumerate()
    {
        shell(&bed.switch, 2, &format!("nft {meddling}"));
        let took = bed.until("the rules are put back", |bed| rules(bed) == made);
        println!("after nft {meddling} the rules are back within {took:?}");
        assert!(!crosses(&bed));
        // What is put back is a change, too, and other people's tables are none of ours.
        shell(&bed.switch, 2, "nft add table inet others; nft delete table inet others");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(put_back(&bed, "table inet overlay; it is put back"), n + 1, "{}", bed.log(2));
    }
    let own = format!("address delete {second}/32 dev ovl0");
    let routes = bed.switch.command(2, "ip").args(["route", "show", "dev", "ovl0"]).output().unwrap().stdout;
    let routes = String::from_utf8(routes).unwrap();
    let to = routes.split(' ').next().unwrap();
    for (n, meddling) in [own, format!("route delete {to} dev ovl0")].iter().enumerate() {
        bed.switch.ip(2, meddling);
        let took = bed.until("it is put back", |bed| put_back(bed, "routes of the tunnel; they are put back") > n);
        bed.until("it reaches the other", |bed| bed.reaches(2, 1));
        println!("what ip {meddling} took is back within {took:?}");
        thread::sleep(Duration::from_secs(2));
        assert_eq!(put_back(&bed, "routes of the tunnel; they are put back"), n + 1, "{}", bed.log(2));
    }
    // Also right after something else was heard.
    for _ in 0..3 {
        shell(&bed.switch, 2, "nft delete table inet overlay");
        bed.until("the rules are put back", |bed| rules(bed) == made);
    }
}

/// Two hosts ask for the only block of a network at once: one gets it. And when the registry has lost who, and the other
/// one got it meanwhile, the first has it in the end, by all that is known anywhere.
pub(crate) fn one_block() {
    let mut bed = Bed::new(3);
    bed.until("all know each other", |bed| {
        [1, 2, 3].iter().all(|n| bed.status(*n)["peers"].as_array().is_some_and(|all| all.len() == 2))
    });
    let create = ["network", "create", "app", "--subnet", "10.9.0.0/24", "--hosts", "h1,h2"];
    bed.overlay(3, &create).unwrap();
    let holds = |bed: &Bed, n| bed.address(n, "app").is_some();
    bed.until("one has it", |bed| holds(bed, 1) || holds(bed, 2));
    thread::sleep(Duration::from_secs(2));
    assert!(holds(&bed, 1) != holds(&bed, 2), "one of them only");
    let (first, second) = if holds(&bed, 1) { (1, 2) } else { (2, 1) };
    let holder = |bed: &Bed, n| bed.status(n)["ipam"][0]["host"].as_str().unwrap_or_default().to_owned();
    // The registry forgets it while its holder is away, and so does the other host.
    bed.kill(1);
    bed.kill(2);
    bed.kill_registry();
    bed.start_registry();
    std::fs::remove_file(bed.path(&format!("state{second}")).join("state.json")).unwrap();
    bed.start(second);
    bed.until("the second has it", |bed| holds(bed, second));
    bed.start(first);
    let took = bed.until("the second lets go", |bed| holds(bed, first) && !holds(bed, second));
    bed.until("all say the same", |bed| [1, 2, 3].iter().all(|n| holder(bed, *n) == format!("h{first}")));
    println!("h{first} has its block again, which h{second} had got meanwhile, {took:?} after its start");
}

/// A host that is told of a member without a registry learns of all others, and keeps that when the member is gone.
pub(crate) fn join() {
    let mut bed = Bed::idle(4);
    bed.make_secret("another");
    bed.start(1);
    bed.start(2);
    bed.network(&[1, 2]);
    let started = Instant::now();
    bed.join(3, 2);
    bed.until("it has a part in it", |bed| bed.address(3, "app").is_some());
    println!("a host that joins by a member without a registry has addresses after {:?}", started.elapsed());
    bed.pairs(&[1, 2, 3]);
    bed.kill(2);
    bed.kill(3);
    bed.join(3, 2);
    bed.until("it has found the registry", |bed| bed.status(3)["registry"]["read"] == true);
    bed.overlay(3, &["network", "create", "later"]).unwrap();
    bed.until("others know", |bed| bed.address(1, "later").is_some());
    // By one that has itself joined so.
    bed.join(4, 3);
    bed.until("it has a part in it", |bed| bed.address(4, "app").is_some());
    bed.pairs(&[1, 3, 4]);
    let all = bed.status(4)["peers"].as_array().map(Vec::len);
    assert_eq!(all, Some(3), "also the one that is gone");
}

/// A new secret for the mesh costs no packet.
pub(crate) fn rotate() {
    let bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let streams = [(1, 2), (2, 3), (3, 1)].map(|(from, to)| bed.stream(from, to));
    for epoch in 2..=4 {
        let started = Instant::now();
        bed.overlay(1, &["rotate"]).unwrap();
        bed.until("all have the new secret", |bed| {
            [1, 2, 3].iter().all(|n| {
                let status = bed.status(*n);
                let peers = status["peers"].as_array().cloned().unwrap_or_default();
                status["epoch"] == epoch && peers.iter().all(|peer| peer["epoch"] == epoch)
            })
        });
        println!("all have the secret of epoch {epoch} after {:?}", started.elapsed());
        thread::sleep(Duration::from_secs(2));
    }
    let (mut sent, mut lost) = (0, 0);
    for stream in streams {
        let (all, received) = end(stream);
        (sent, lost) = (sent + all, lost + (all - received));
    }
    println!("{lost} of {sent} pings were lost over three rotations");
    assert!(sent > 1000 && lost <= 3, "the last ones may be on their way");
    bed.pairs(&[1, 2, 3]);
}

/// How long an evicted host is still taken packets from.
pub(crate) fn evicted_at_once() {
    let bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let there = bed.address(2, "app").unwrap();
    let to = udp(&bed.switch, 2, &there);
    let port = to.local_addr().unwrap().port();
    to.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let sent = shout(udp(&bed.switch, 3, &bed.address(3, "app").unwrap()), at(&there, port), MARKER);
    to.recv_from(&mut [0; 64]).expect("it arrives before");
    let evicting = Instant::now();
    let command = thread::scope(|threads| {
        let bed = &bed;
        let command = threads.spawn(move || bed.overlay(1, &["evict", "h3"]).map(|_| evicting.elapsed()));
        let mut last = Instant::now();
        while to.recv_from(&mut [0; 64]).is_ok() {
            last = Instant::now();
        }
        println!("the last packet of the evicted host came {:?} after the command was begun", last - evicting);
        assert!(last - evicting < Duration::from_secs(10), "on a busy machine");
        command.join().unwrap()
    });
    println!("the command took {:?}", command.unwrap());
    assert!(sent.end() > 100);
    nft(&bed.switch, 3, "inet overlay", "");
    assert!(!bed.reaches(1, 3));
}
