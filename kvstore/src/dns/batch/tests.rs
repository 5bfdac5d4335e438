//! The borders of the buffers, which `make asan` also has watched.

use std::{net::UdpSocket, time::Duration};

use super::*;
use crate::dns::udp::bind;

const FAMILIES: [&str; 4] = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];

/// A socket of ours at `address`, and one of somebody who asks it.
fn pair(address: &str) -> (Socket, UdpSocket) {
    let server = bind(address.parse().unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut to = server.local_addr().unwrap().as_socket().unwrap();
    let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    if to.ip().is_unspecified() {
        to.set_ip(from.parse::<SocketAddr>().unwrap().ip());
    }
    let client = UdpSocket::bind(from).unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (server, client)
}

/// Receives until `count` packets have come, and replies to each with what `reply` makes of it.
fn serve(server: &Socket, batch: &mut Batch, count: usize, reply: impl Fn(&[u8]) -> Vec<u8>) -> Vec<SocketAddr> {
    let mut askers = Vec::new();
    while askers.len() < count {
        let received = batch.receive(server).unwrap();
        for i in 0..received {
            let (packet, asker, out) = batch.packet(i);
            *out = reply(packet);
            askers.push(asker.address().expect("it came from somewhere"));
        }
        batch.send(server, received).unwrap();
    }
    askers
}

#[test]
fn packets_of_any_length_are_received_as_far_as_there_is_room() {
    for family in FAMILIES {
        let (server, client) = pair(family);
        let mut batch = Batch::default();
        for length in [0, 1, 12, PACKET_BYTES - 1, PACKET_BYTES, PACKET_BYTES + 1, 60_000] {
            client.send(&vec![7; length]).unwrap();
            let askers = serve(&server, &mut batch, 1, |packet| {
                assert!(packet.iter().all(|byte| *byte == 7));
                packet.len().to_be_bytes().into()
            });
            assert_eq!(askers, [client.local_addr().unwrap()], "{family}");
            let mut reply = [0; 100];
            let read = client.recv(&mut reply).unwrap();
            assert_eq!(reply[..read], length.min(PACKET_BYTES).to_be_bytes(), "{family}");
        }
    }
}

#[test]
fn more_packets_than_a_batch_has_room_for_come_in_the_next() {
    for family in FAMILIES {
        let (server, client) = pair(family);
        let mut batch = Batch::default();
        let count = 2 * PACKETS + 1;
        for n in 0..count {
            client.send(&n.to_be_bytes()).unwrap();
        }
        assert_eq!(batch.receive(&server).unwrap(), PACKETS, "all of them waited");
        for i in 0..PACKETS {
            let (packet, _, out) = batch.packet(i);
            *out = packet.to_vec();
        }
        batch.send(&server, PACKETS).unwrap();
        serve(&server, &mut batch, count - PACKETS, <[u8]>::to_vec);
        for n in 0..count {
            let mut reply = [0; 100];
            let read = client.recv(&mut reply).unwrap();
            assert_eq!(reply[..read], n.to_be_bytes(), "{family}");
        }
    }
}

#[test]
fn replies_that_cannot_be_sent_are_counted_and_the_others_go_out() {
    let (server, client) = pair(FAMILIES[1]);
    let mut batch = Batch::default();
    for _ in 0..3 {
        client.send(b"?").unwrap();
    }
    while batch.receive(&server).unwrap() < 3 {
        for _ in 0..3 {
            client.send(b"?").unwrap();
        }
    }
    for (i, reply) in [vec![1; 9], vec![2; 70_000], Vec::new()].into_iter().enumerate() {
        *batch.packet(i).2 = reply;
    }
    let (lost, error) = batch.send(&server, 3).unwrap_err();
    assert_eq!((lost, error.raw_os_error()), (1, Some(libc::EMSGSIZE)));
    let mut reply = [0; 100];
    assert_eq!(client.recv(&mut reply).unwrap(), 9);
}

#[test]
fn a_reply_may_come_later_and_alone() {
    for family in FAMILIES {
        let (server, client) = pair(family);
        let mut batch = Batch::default();
        client.send(b"?").unwrap();
        batch.receive(&server).unwrap();
        let asker = batch.packet(0).1;
        drop(batch);
        send_one(&server, b"later", asker).unwrap();
        let mut reply = [0; 100];
        assert_eq!(client.recv(&mut reply).unwrap(), 5, "{family}");
    }
}

#[test]
fn who_came_from_nowhere_has_no_address() {
    let mut asker = Asker::nobody();
    assert_eq!(asker.address(), None);
    for (family, bytes) in [(libc::AF_INET, size_of::<libc::sockaddr_in>()), (libc::AF_INET6, 28), (libc::AF_UNIX, 128)]
    {
        asker.name.ss_family = libc::sa_family_t::try_from(family).unwrap();
        asker.name_bytes = socklen(bytes - 1);
        assert_eq!(asker.address(), None, "an address that was cut off");
        asker.name_bytes = socklen(bytes);
        assert_eq!(asker.address().is_some(), family != libc::AF_UNIX);
    }
    asker.reply_by_any_interface();
}
