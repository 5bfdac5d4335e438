//! Peers that come, go, move and change; and who is no peer.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::switch::Switch;
use overlay::{
    device::{self, Choice, Peer},
    keys::{PresharedKey, PrivateKey},
};

use crate::hosts::{Host, PORT, arrives, deliver, inner, mesh, others, settings, udp};

/// Another key, or another secret of the pair: no handshake, no packet.
pub(crate) fn strangers() {
    let (hosts, switch) = mesh(2);
    let other_secret = Peer { preshared: PresharedKey::new([8; 32]), ..hosts[0].as_peer() };
    let other_key = Peer { key: PrivateKey::generate().unwrap().public(), ..hosts[0].as_peer() };
    for wrong in [other_secret, other_key] {
        hosts[1].tunnel.set_peers(&[wrong]).unwrap();
        let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
        for (from, to) in [(0, 1), (1, 0)] {
            sockets[from].send_to(b"let me in", sockets[to].local_addr().unwrap()).unwrap();
            assert_eq!(arrives(&sockets[to], b"let me in"), None);
        }
        assert!(hosts.iter().all(|host| host.tunnel.peers()[0].handshake.is_none()));
    }
}

/// A host gets another address; as soon as it is heard from, it is reached there.
pub(crate) fn moved() {
    let (hosts, switch) = mesh(2);
    let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
    deliver(&sockets[0], &sockets[1], b"before");
    let after = "10.216.0.77";
    switch.ip(1, &format!("address delete {}/24 dev up0", Switch::address(1)));
    switch.ip(1, &format!("address add {after}/24 dev up0"));
    deliver(&sockets[0], &sockets[1], b"after");
    let told = Duration::from_secs(1);
    let took = deliver(&sockets[1], &sockets[0], b"to the new place");
    assert!(took < told, "{took:?}");
    assert_eq!(hosts[1].tunnel.peers()[0].endpoint, Some(format!("{after}:{PORT}").parse().unwrap()));
    // Told again what was told before, a tunnel keeps what it learned.
    hosts[1].tunnel.set_peers(&others(&hosts, 2)).unwrap();
    assert_eq!(hosts[1].tunnel.peers()[0].endpoint, Some(format!("{after}:{PORT}").parse().unwrap()));
}

/// Who is no peer any more is not heard from then on, and who is one again is.
pub(crate) fn removed() {
    let (hosts, switch) = mesh(2);
    let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
    deliver(&sockets[0], &sockets[1], b"as a peer");
    hosts[1].tunnel.set_peers(&[]).unwrap();
    thread::sleep(Duration::from_millis(5));
    sockets[0].send_to(b"removed", sockets[1].local_addr().unwrap()).unwrap();
    assert_eq!(arrives(&sockets[1], b"removed"), None);
    assert!(hosts[1].tunnel.dropped().malformed > 0);
    hosts[1].tunnel.set_peers(&others(&hosts, 2)).unwrap();
    deliver(&sockets[1], &sockets[0], b"a peer again");
}

/// While other peers come and go, nothing of a conversation is lost.
pub(crate) fn others_change() {
    let (hosts, switch) = mesh(2);
    let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
    deliver(&sockets[0], &sockets[1], b"begin");
    let handshake = |host: &Host| host.tunnel.peers().iter().find_map(|p| p.handshake).unwrap();
    let (start, before) = (Instant::now(), handshake(&hosts[1]));
    let stranger = |n: u8| Peer {
        key: PrivateKey::generate().unwrap().public(),
        endpoint: Some((Switch::address(200), PORT).into()),
        allowed: [format!("10.210.{n}.0/24").parse().unwrap()].into(),
        keepalive: Some(Duration::from_secs(1)),
        ..hosts[0].as_peer()
    };
    let once = |socket: &UdpSocket, to: &UdpSocket, payload: &[u8]| {
        socket.send_to(payload, to.local_addr().unwrap()).unwrap();
        assert!(arrives(to, payload).is_some(), "{} was lost", String::from_utf8_lossy(payload));
    };
    for n in 0..100 {
        let mut peers = others(&hosts, 2);
        peers.extend((100..100 + n % 7).map(stranger));
        // How often it hears from us may change too.
        peers[0].keepalive = (n % 2 == 0).then_some(Duration::from_secs(25));
        hosts[1].tunnel.set_peers(&peers).unwrap();
        once(&sockets[0], &sockets[1], format!("there {n}").as_bytes());
        once(&sockets[1], &sockets[0], format!("back {n}").as_bytes());
    }
    let slack = Duration::from_secs(1);
    assert!(handshake(&hosts[1]) + slack >= before + start.elapsed(), "it is the session from the beginning");
}

/// The two of a pair change what they mix into handshakes, one long before the other, and nothing of a conversation is
/// lost; nor does anybody get in who has only the key of before.
pub(crate) fn secrets_change() {
    let (hosts, switch) = mesh(2);
    let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
    deliver(&sockets[0], &sockets[1], b"begin");
    let with = |n: usize, byte| Peer { preshared: PresharedKey::new([byte; 32]), ..hosts[n].as_peer() };
    let talk = |what: &str, milliseconds: u64| {
        let (until, mut sent) = (Instant::now() + Duration::from_millis(milliseconds), 0);
        while Instant::now() < until {
            for (from, to) in [(0, 1), (1, 0)] {
                let payload = format!("{what} {sent}");
                sockets[from].send_to(payload.as_bytes(), sockets[to].local_addr().unwrap()).unwrap();
                assert!(arrives(&sockets[to], payload.as_bytes()).is_some(), "{payload} was lost");
            }
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        sent
    };
    let mut sent = 0;
    for (round, byte) in [(1, 8), (2, 9), (3, 10)] {
        hosts[0].tunnel.set_peers(&[with(1, byte)]).unwrap();
        // Longer than a handshake takes to be tried again.
        sent += talk(&format!("one changed, round {round}"), if round == 1 { 6_000 } else { 300 });
        hosts[1].tunnel.set_peers(&[with(0, byte)]).unwrap();
        sent += talk(&format!("both changed, round {round}"), 1_000);
    }
    println!("none of {sent} packets was lost each way");
    let young = |host: &Host| host.tunnel.peers()[0].handshake.is_some_and(|age| age < Duration::from_secs(2));
    assert!(hosts.iter().all(young), "there is a session by the new secret");
}

/// A host whose program is started again goes on with the first packet that it sends.
pub(crate) fn restarted() {
    let (mut hosts, switch) = mesh(2);
    deliver(&udp(&switch, 1, inner(1)), &udp(&switch, 2, inner(2)), b"before");
    let first = hosts.remove(0);
    let key = first.key.clone();
    drop(first);
    let again = Host::with(&switch, 1, key);
    again.tunnel.set_peers(&[hosts[0].as_peer()]).unwrap();
    let took = deliver(&udp(&switch, 1, inner(1)), &udp(&switch, 2, inner(2)), b"after");
    println!("back after {took:.2?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// What cannot be is refused by its name, and nothing is left behind.
pub(crate) fn refuses() {
    let switch = Switch::new(1);
    let key = PrivateKey::generate().unwrap();
    let why = |settings: &device::Settings| {
        let refused = switch.on(1, || device::open(settings, Choice::Auto).map(drop));
        refused.expect_err("it is to be refused").to_string()
    };
    switch.ip(1, "link add ovl0 type bridge");
    assert!(why(&settings(&key)).contains("an interface of this name already"));
    switch.ip(1, "link delete ovl0");
    switch.ip(1, "tuntap add ovl0 mode tun");
    assert!(why(&settings(&key)).contains("an interface of this name already"), "also a TUN device of somebody else");
    switch.ip(1, "link delete ovl0");
    let taken = switch.on(1, || UdpSocket::bind(("0.0.0.0", PORT))).unwrap();
    assert!(why(&settings(&key)).contains("port 51820 is taken"));
    drop(taken);
    assert!(
        why(&device::Settings { interface: "a-name-too-long-for-it".into(), ..settings(&key) }).contains("15 bytes")
    );
    let host = Host::with(&switch, 1, key);
    let [one, mut two] = [1, 2].map(|_| Peer { key: PrivateKey::generate().unwrap().public(), ..host.as_peer() });
    let refused = host.tunnel.set_peers(&[one.clone(), two.clone()]).expect_err("one prefix cannot be behind two");
    assert!(refused.to_string().contains(&two.key.to_string()), "{refused}");
    assert!(host.tunnel.peers().is_empty());
    two.allowed.clear();
    host.tunnel.set_peers(&[one, two]).unwrap();
}
