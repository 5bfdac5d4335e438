//! Hosts with a tunnel each.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use flotilla_tests::switch::Switch;
use overlay::{
    device::{self, Choice, Dataplane, Peer, Plane, Settings},
    keys::{PresharedKey, PrivateKey},
};

pub(crate) const PORT: u16 = 51_820;
pub(crate) const MTU: u16 = 1_420;
/// Longer than anything here takes that works.
const LIMIT: Duration = Duration::from_secs(10);

/// A host with a tunnel.
pub(crate) struct Host {
    pub(crate) n: u8,
    pub(crate) key: PrivateKey,
    pub(crate) tunnel: Box<dyn Dataplane>,
}

impl Host {
    /// The `n`th host of `switch` gets a tunnel without peers.
    pub(crate) fn new(switch: &Switch, n: u8) -> Self {
        Self::with(switch, n, PrivateKey::generate().unwrap())
    }

    pub(crate) fn with(switch: &Switch, n: u8, key: PrivateKey) -> Self {
        let settings = settings(&key);
        let opened = switch.on(n, || device::open(&settings, Choice::Only(Plane::User)));
        let tunnel = opened.unwrap_or_else(|e| panic!("{e}")).tunnel;
        for address in [format!("{}/16", inner(n)), format!("{}/32 nodad", inner_v6(n))] {
            switch.ip(n, &format!("address add {address} dev ovl0"));
        }
        Self { n, key, tunnel }
    }

    /// This host, as others are to know it.
    pub(crate) fn as_peer(&self) -> Peer {
        Peer {
            key: self.key.public(),
            preshared: PresharedKey::new([7; 32]),
            endpoint: Some((Switch::address(self.n), PORT).into()),
            allowed: BTreeSet::from(
                [format!("{}/32", inner(self.n)), format!("{}/128", inner_v6(self.n))].map(|net| net.parse().unwrap()),
            ),
            keepalive: None,
        }
    }
}

pub(crate) fn settings(key: &PrivateKey) -> Settings {
    Settings { interface: "ovl0".into(), key: key.clone(), port: PORT, mtu: MTU }
}

/// The address of the `n`th host inside.
pub(crate) fn inner(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 210, n, 1).into()
}

pub(crate) fn inner_v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x210, 0, 0, 0, 0, 0, n.into()).into()
}

/// So many hosts on a switch, each with all others as its peers. The hosts first, so that they go first.
pub(crate) fn mesh(count: u8) -> (Vec<Host>, Switch) {
    let switch = Switch::new(count);
    let hosts: Vec<_> = (1..=count).map(|n| Host::new(&switch, n)).collect();
    for host in &hosts {
        host.tunnel.set_peers(&others(&hosts, host.n)).unwrap();
    }
    (hosts, switch)
}

pub(crate) fn others(hosts: &[Host], n: u8) -> Vec<Peer> {
    hosts.iter().filter(|host| host.n != n).map(Host::as_peer).collect()
}

/// A socket of the `n`th host.
pub(crate) fn udp(switch: &Switch, n: u8, address: IpAddr) -> UdpSocket {
    let socket = switch.on(n, || UdpSocket::bind((address, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Sends `payload` until it arrives, by a lossless way once; how long that took. Whence it came is looked at too.
pub(crate) fn deliver(from: &UdpSocket, to: &UdpSocket, payload: &[u8]) -> Duration {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        from.send_to(payload, to.local_addr().unwrap()).unwrap();
        if let Some(source) = arrives(to, payload) {
            assert_eq!(source, from.local_addr().unwrap(), "a packet comes from the address that sent it");
            return start.elapsed();
        }
    }
    panic!("{} bytes from {from:?} did not reach {to:?} within {LIMIT:?}", payload.len());
}

/// Whence `payload` came, if it comes within the socket's time limit.
pub(crate) fn arrives(to: &UdpSocket, payload: &[u8]) -> Option<SocketAddr> {
    let mut buffer = vec![0; 65_536];
    loop {
        match to.recv_from(&mut buffer) {
            Ok((n, source)) if buffer[..n] == *payload => return Some(source),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
            Err(e) => panic!("{to:?}: {e}"),
        }
    }
}

/// Sends `bytes` bytes of a known pattern over TCP, and looks at each that arrives; how long it took.
pub(crate) fn transfer(switch: &Switch, from: u8, to: u8, address: IpAddr, bytes: usize) -> Duration {
    let listener = switch.on(to, || TcpListener::bind((address, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let mut stream = switch.on(from, || TcpStream::connect_timeout(&at, LIMIT)).unwrap();
    let start = Instant::now();
    let sender = thread::spawn(move || {
        let block = block();
        for _ in 0..bytes / BLOCK {
            stream.write_all(&block).unwrap();
        }
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (expected, mut found) = (block(), vec![0; BLOCK]);
    for n in 0..bytes / BLOCK {
        stream.read_exact(&mut found).unwrap_or_else(|e| panic!("after {n} blocks of {BLOCK} bytes: {e}"));
        assert!(found == expected, "block {n} differs");
    }
    sender.join().unwrap();
    start.elapsed()
}

/// A prime, so that no two packets of one size have the same content.
const BLOCK: usize = 65_521;

fn block() -> Vec<u8> {
    let mut state = 1u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(BLOCK)
    .collect()
}
