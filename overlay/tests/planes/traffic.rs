//! What is sent arrives, whole and from whom it says; and nobody on the way can read it.

use std::{
    io::{ErrorKind, Read, Write},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::switch::Switch;
use socket2::{Domain, Protocol, Socket, Type};

use crate::hosts::{deliver, inner, inner_v6, mesh, transfer, udp};

/// Three hosts; each reaches each, by both families, and sees who it is.
pub(crate) fn pairs() {
    let (hosts, switch) = mesh(3);
    for from in &hosts {
        for to in hosts.iter().filter(|to| to.n != from.n) {
            for inside in [inner, inner_v6] {
                let sockets = (udp(&switch, from.n, inside(from.n)), udp(&switch, to.n, inside(to.n)));
                deliver(&sockets.0, &sockets.1, format!("{} to {}", from.n, to.n).as_bytes());
            }
        }
    }
    for host in &hosts {
        let status = host.tunnel.peers();
        assert!(status.iter().all(|peer| peer.handshake.is_some() && peer.received_bytes > 0), "{status:?}");
        assert_eq!((host.tunnel.dropped().spoofed, host.tunnel.dropped().malformed), (0, 0));
    }
}

/// Datagrams of all sizes, those that the kernel has to cut up among them.
pub(crate) fn sizes() {
    let (_hosts, switch) = mesh(2);
    for inside in [inner, inner_v6] {
        let (from, to) = (udp(&switch, 1, inside(1)), udp(&switch, 2, inside(2)));
        for size in [0, 1, 15, 16, 17, 100, 1_352, 1_372, 1_373, 1_391, 1_392, 1_393, 2_800, 9_000, 40_000, 65_000] {
            let payload: Vec<u8> = (0..=250).cycle().take(size).collect();
            deliver(&from, &to, &payload);
        }
    }
}

/// Much at once over TCP: of one direction, of both, by both families; every byte is looked at.
pub(crate) fn bulk() {
    let (hosts, switch) = mesh(2);
    for inside in [inner, inner_v6] {
        let took = transfer(&switch, 1, 2, inside(2), 40 << 20);
        println!("40 MiB to {} in {took:.2?}", inside(2));
    }
    thread::scope(|threads| {
        for (from, to) in [(1, 2), (2, 1), (1, 2)] {
            let switch = &switch;
            threads.spawn(move || transfer(switch, from, to, inner(to), 20 << 20));
        }
    });
    for host in &hosts {
        let dropped = host.tunnel.dropped();
        assert_eq!((dropped.malformed, dropped.replayed, dropped.spoofed, dropped.unfit), (0, 0, 0, 0));
    }
}

/// The first packet to a peer waits for the handshake, and no longer.
pub(crate) fn first_packet() {
    let (_hosts, switch) = mesh(2);
    let (from, to) = (udp(&switch, 1, inner(1)), udp(&switch, 2, inner(2)));
    let took = deliver(&from, &to, b"first");
    println!("the first packet took {took:.2?}");
    assert!(took < Duration::from_millis(50), "{took:?}");
}

/// Who listens on the link never sees what is sent.
pub(crate) fn no_clear_text() {
    const ETH_P_ALL: u16 = 3;
    const MARKER: &[u8] = b"flotilla-marker-that-nobody-is-to-see";
    let (hosts, switch) = mesh(2);
    let tap = switch
        .on(0, || Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETH_P_ALL.to_be())))))
        .unwrap();
    tap.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (ended, mut frames, mut seen) = (AtomicBool::new(false), 0, 0);
    let (from, to) = (udp(&switch, 1, inner(1)), udp(&switch, 2, inner(2)));
    let outside = [1, 2].map(|n| udp(&switch, n, Switch::address(n)));
    thread::scope(|threads| {
        let listener = threads.spawn(|| {
            let mut frame = vec![0; 65_536];
            let mut counts = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                match (&tap).read(&mut frame) {
                    Ok(n) => {
                        counts.0 += 1;
                        counts.1 += usize::from(frame[..n].windows(MARKER.len()).any(|w| w == MARKER));
                    }
                    Err(e) => assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}"),
                }
            }
            counts
        });
        for _ in 0..50 {
            deliver(&from, &to, MARKER);
        }
        // Also when there is no tunnel any more.
        drop(hosts);
        let _ = from.send_to(MARKER, to.local_addr().unwrap());
        thread::sleep(Duration::from_millis(200));
        ended.store(true, Ordering::Relaxed);
        (frames, seen) = listener.join().unwrap();
    });
    assert!(frames >= 50, "only {frames} frames were seen");
    assert_eq!(seen, 0, "of {frames} frames");
    drop(outside);
}

/// One packet of twenty is lost on the way: TCP gets through.
pub(crate) fn loss() {
    let (_hosts, switch) = mesh(2);
    let rules = "table inet loss {\nchain input {\ntype filter hook input priority 0\niifname up0 numgen random mod 20 0 drop\n}\n}\n";
    let mut nft = switch.command(2, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    let start = Instant::now();
    transfer(&switch, 1, 2, inner(2), 2 << 20);
    println!("2 MiB with 5 % lost in {:.2?}", start.elapsed());
}
