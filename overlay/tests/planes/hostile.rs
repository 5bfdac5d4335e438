//! What others may send: it is counted, dropped, and stops nothing.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use flotilla_tests::switch::Switch;
use overlay::device::Peer;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::hosts::{PORT, arrives, deliver, inner, mesh, udp};

/// A peer who sends from an address that is not behind it.
pub(crate) fn spoofed() {
    let (hosts, switch) = mesh(3);
    deliver(&udp(&switch, 1, inner(1)), &udp(&switch, 2, inner(2)), b"honest");
    // The third's address.
    switch.ip(1, &format!("address add {}/32 dev ovl0", inner(3)));
    let (liar, to) = (udp(&switch, 1, inner(3)), udp(&switch, 2, inner(2)));
    for _ in 0..10 {
        liar.send_to(b"I am the third", to.local_addr().unwrap()).unwrap();
    }
    assert_eq!(arrives(&to, b"I am the third"), None);
    assert_eq!(hosts[1].tunnel.dropped().spoofed, 10);
    deliver(&udp(&switch, 1, inner(1)), &to, b"honest again");
}

/// Somebody on the way repeats each datagram, and changes some: each packet arrives once, as it was sent.
pub(crate) fn replayed() {
    let (hosts, switch) = mesh(2);
    let relay = switch.on(1, || UdpSocket::bind("127.0.0.1:0")).unwrap();
    relay.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let by_relay = Peer { endpoint: Some(relay.local_addr().unwrap()), ..hosts[1].as_peer() };
    hosts[0].tunnel.set_peers(&[by_relay]).unwrap();
    // Only the first begins.
    hosts[1].tunnel.set_peers(&[Peer { endpoint: None, ..hosts[0].as_peer() }]).unwrap();
    let outside = switch.on(1, || UdpSocket::bind((Switch::address(1), 0))).unwrap();
    outside.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| repeat(&relay, &outside, (Switch::address(2), PORT).into(), &ended));
        threads.spawn(|| repeat(&outside, &relay, (std::net::Ipv4Addr::LOCALHOST, PORT).into(), &ended));
        let (from, to) = (udp(&switch, 1, inner(1)), udp(&switch, 2, inner(2)));
        to.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        for n in 0..50 {
            let payload = format!("once {n}");
            deliver(&from, &to, payload.as_bytes());
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!(arrives(&to, b"once 49"), None, "it came twice");
        ended.store(true, Ordering::Relaxed);
    });
    let dropped = hosts[1].tunnel.dropped();
    assert!(dropped.replayed >= 50 && dropped.malformed >= 50, "{dropped:?}");
}

/// Passes on each datagram once with a bit changed, then twice as it is.
fn repeat(from: &UdpSocket, by: &UdpSocket, to: SocketAddr, ended: &AtomicBool) {
    let mut buffer = [0; 2_048];
    while !ended.load(Ordering::Relaxed) {
        let Ok((n, _)) = from.recv_from(&mut buffer) else { continue };
        buffer[n - 1] ^= 1;
        by.send_to(&buffer[..n], to).unwrap();
        buffer[n - 1] ^= 1;
        for _ in 0..2 {
            by.send_to(&buffer[..n], to).unwrap();
        }
    }
}

/// A flood of random bytes, some of which begin like WireGuard's messages: all counted, and the peers go on talking.
pub(crate) fn garbage() {
    let (hosts, switch) = mesh(3);
    let (from, to) = (udp(&switch, 1, inner(1)), udp(&switch, 2, inner(2)));
    deliver(&from, &to, b"before");
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let stranger = udp(&switch, 3, Switch::address(3));
    let before = hosts[1].tunnel.dropped().malformed;
    let count = 5_000;
    for n in 0..count {
        let size = [0, 1, 3, 4, 16, 31, 32, 33, 64, 92, 148, 149, 1_400][random.random_range(0..13)];
        let mut bytes = vec![0; size];
        random.fill(&mut bytes[..]);
        if size >= 4 && random.random() {
            bytes[..4].copy_from_slice(&[random.random_range(1..=4), 0, 0, 0]);
        }
        stranger.send_to(&bytes, (Switch::address(2), PORT)).unwrap();
        if n % 100 == 0 {
            deliver(&from, &to, format!("meanwhile {n}").as_bytes());
        }
    }
    deliver(&from, &to, b"after");
    let counted = hosts[1].tunnel.dropped().malformed - before;
    assert_eq!(counted, count, "each is counted");
}
