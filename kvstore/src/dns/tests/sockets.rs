//! Sockets: addresses, transports, limits, faults of clients, the stop.

use std::{collections::HashSet, time::Instant};

use trust_dns_resolver::proto::op::ResponseCode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn udp_and_tcp_answer_on_the_same_port() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let server = start(address, 2);
        let want = ["10.0.0.1", "10.0.0.2"];
        assert_eq!(shown(&over_udp(server.address, packet(7, "web.service.consul.")).await), want, "{address}");
        assert_eq!(shown(&over_tcp(server.address, packet(8, "web.service.consul.")).await), want, "{address}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_from_the_address_that_was_asked() {
    let server = start("0.0.0.0:0", 1);
    for ip in ["127.0.0.1", "127.0.0.77"] {
        let to = SocketAddr::new(ip.parse().unwrap(), server.address.port());
        assert_eq!(shown(&over_udp(to, packet(1, "web.service.consul.")).await), ["10.0.0.1"], "{ip}");
    }
    server.stop().await;
    let server = start("[::]:0", 1);
    for ip in ["::1", "127.0.0.78"] {
        let to = SocketAddr::new(ip.parse().unwrap(), server.address.port());
        assert_eq!(shown(&over_udp(to, packet(1, "web.service.consul.")).await), ["10.0.0.1"], "{ip}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_over_udp_is_whole_over_tcp() {
    let server = start("127.0.0.1:0", 2000);
    let udp = over_udp(server.address, packet(1, "web.service.consul.")).await;
    assert!(udp.metadata.truncation && udp.answers.len() < 30);
    let tcp = over_tcp(server.address, packet(2, "web.service.consul.")).await;
    assert!(!tcp.metadata.truncation);
    assert_eq!(shown(&tcp).into_iter().collect::<HashSet<_>>(), addresses(2000).into_iter().collect());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_state_is_answered() {
    let server = start("127.0.0.1:0", 1);
    assert_eq!(over_udp(server.address, packet(1, "web.service.consul.")).await.answers.len(), 1);
    server.snapshots.store(Arc::new(state(&addresses(3))));
    assert_eq!(over_udp(server.address, packet(2, "web.service.consul.")).await.answers.len(), 3);
    server.snapshots.store(Arc::new(State::empty(Index(9))));
    let reply = over_udp(server.address, packet(3, "web.service.consul.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    server.stop().await;
}

/// Many askers at once: every question gets its own reply.
#[tokio::test(flavor = "multi_thread")]
async fn no_reply_is_lost_or_mixed_up() {
    let server = start("127.0.0.1:0", 3);
    let to = server.address;
    let asker = |id: u16| {
        tokio::task::spawn_blocking(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket.connect(to).unwrap();
            for round in 0..200_u16 {
                let id = id * 200 + round;
                let name = format!("x{id}.web.service.consul.");
                socket.send(&packet(id, &name)).unwrap();
                let mut reply = [0; 512];
                let bytes = socket.recv(&mut reply).expect("a reply");
                let reply = Message::from_vec(&reply[..bytes]).unwrap();
                assert_eq!((reply.metadata.id, reply.queries[0].name.to_ascii()), (id, name));
            }
        })
    };
    for asker in (0..16).map(asker).collect::<Vec<_>>() {
        asker.await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_questions() {
    let server = start("127.0.0.1:0", 1);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut all = Vec::new();
    for id in 0..100_u16 {
        let packet = packet(id, "web.service.consul.");
        all.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
        all.extend(packet);
    }
    stream.write_all(&all).await.unwrap();
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let reply = receive(&mut stream).await;
        assert_eq!(shown(&reply), ["10.0.0.1"]);
        ids.insert(reply.metadata.id);
    }
    assert_eq!(ids.len(), 100);
    // A question in small pieces, then no more to say: it is answered still.
    let last = packet(999, "web.service.consul.");
    let length = u16::try_from(last.len()).unwrap().to_be_bytes();
    for byte in length.iter().chain(&last) {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(receive(&mut stream).await.metadata.id, 999);
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0, "closed");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_packets_do_no_harm() {
    let server = start("127.0.0.1:0", 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for junk in [&b""[..], &[0], &[0xff; 11], &[0xff; 600], &[0; 5000], &[0xc0; 40]] {
        socket.send_to(junk, server.address).unwrap();
    }
    let mut cut = packet(5, "web.service.consul.");
    cut.truncate(20);
    assert_eq!(over_udp(server.address, cut.clone()).await.metadata.response_code, ResponseCode::FormErr);

    // What cannot be read is told so; what is no question ends the connection, behind the replies that are due.
    for junk in [Vec::new(), vec![0xff; 11], vec![0xff; 65535]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for packet in [&cut, &packet(6, "web.service.consul."), &junk, &packet(7, "web.service.consul.")] {
            send(&mut stream, packet).await;
        }
        assert_eq!(receive(&mut stream).await.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(receive(&mut stream).await.metadata.id, 6);
        assert!(ends(&mut stream).await, "{} bytes of junk", junk.len());
    }
    server.stop().await;
}

/// Whether nothing but the end comes, orderly or not.
async fn ends(stream: &mut TcpStream) -> bool {
    timeout(SOON, stream.read(&mut [0; 9])).await.expect("an end").unwrap_or(0) == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_over_tcp_may_be_followed_by_anything_up_to_64_kib() {
    let server = start("127.0.0.1:0", 1);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let web = packet(6, "web.service.consul.");
    for bytes in [web.len(), 4095, 4096, 4097, 65535] {
        let mut long = web.clone();
        long.resize(bytes, 0);
        send(&mut stream, &long).await;
        assert_eq!(shown(&receive(&mut stream).await), ["10.0.0.1"], "{bytes} bytes");
    }
    server.stop().await;
}

/// A client that says no more, and one whose last question is incomplete, get what is due to them.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_all_gets_all_replies() {
    let server = start("127.0.0.1:0", 1);
    for rest in [&b""[..], &[0], &[0xff, 0xff, 1, 2, 3]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for id in 0..20 {
            send(&mut stream, &packet(id, "web.service.consul.")).await;
        }
        stream.write_all(rest).await.unwrap();
        stream.shutdown().await.unwrap();
        for _ in 0..20 {
            assert_eq!(shown(&receive(&mut stream).await), ["10.0.0.1"]);
        }
        assert!(ends(&mut stream).await);
    }
    server.stop().await;
}

/// Time is paused: it jumps whenever nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn silent_and_slow_connections_are_closed() {
    let server = start("127.0.0.1:0", 1);
    for start in [&b""[..], &[0], &[0, 30, 1, 2]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0, "{start:?}");
    }
    server.shutdown.cancel();
    server.listening.stopped().await;
}

/// A byte now and then is no progress: the whole question has its time.
#[tokio::test(start_paused = true)]
async fn a_question_that_trickles_is_not_waited_for() {
    let server = start("127.0.0.1:0", 1);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (since, mut sent) = (tokio::time::Instant::now(), 0);
    stream.write_all(&[1, 0]).await.unwrap();
    while stream.write_all(&[1]).await.is_ok() && timeout(Duration::from_secs(3), stream.read_u8()).await.is_err() {
        sent += 1;
        assert!(sent < 10, "still open after {:?}", since.elapsed());
    }
    server.shutdown.cancel();
    server.listening.stopped().await;
}

/// Who asks for much and takes nothing has the reply's time, and no more.
#[tokio::test(start_paused = true)]
async fn replies_that_are_not_taken_end_the_connection() {
    let server = start("127.0.0.1:0", 3000);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut framed = [&[0xff, 0xff][..], &packet(1, "web.service.consul.")].concat();
    framed.resize(2 + 0xffff, 0);
    let flood = async {
        // More than all buffers on the way hold.
        for _ in 0..1000 {
            stream.write_all(&framed).await?;
        }
        std::io::Result::Ok(())
    };
    timeout(Duration::from_mins(1), flood).await.expect("it is closed").expect_err("it is closed");
    server.shutdown.cancel();
    server.listening.stopped().await;
}

/// One client that holds all places costs another nothing: the least used of its own connections makes room.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_nobody_is_locked_out() {
    let server = start("127.0.0.1:0", 1);
    let (one, other) = ("127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap());
    let mut honest = connect_from(other, server.address).await;
    send(&mut honest, &packet(1, "web.service.consul.")).await;
    receive(&mut honest).await;
    let mut held = Vec::new();
    for id in 0..300 {
        let mut stream = connect_from(one, server.address).await;
        send(&mut stream, &packet(id, "web.service.consul.")).await;
        assert_eq!(receive(&mut stream).await.metadata.id, id);
        held.push(stream);
    }
    for gone in &mut held[..45] {
        assert!(ends(gone).await, "there are places for 255 of them");
    }
    for id in 0..50 {
        let mut new = connect_from(other, server.address).await;
        send(&mut new, &packet(id, "web.service.consul.")).await;
        assert_eq!(receive(&mut new).await.metadata.id, id);
    }
    send(&mut honest, &packet(2, "web.service.consul.")).await;
    assert_eq!(receive(&mut honest).await.metadata.id, 2, "it was open all the time");
    let last = held.last_mut().unwrap();
    send(last, &packet(3, "web.service.consul.")).await;
    assert_eq!(receive(last).await.metadata.id, 3, "so was the newest of the others");
    server.stop().await;
}

async fn connect_from(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_at_once_and_frees_the_port() {
    let server = start("127.0.0.1:0", 1);
    let idle = TcpStream::connect(server.address).await.unwrap();
    over_udp(server.address, packet(1, "web.service.consul.")).await;
    let (address, since) = (server.address, Instant::now());
    server.stop().await;
    // A receive that nobody ends sleeps for a second, and who is idle over TCP has two.
    assert!(since.elapsed() < Duration::from_millis(950), "took {:?}", since.elapsed());
    drop(idle);
    start(&address.to_string(), 1).stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told_with_the_way_out() {
    let dns = || {
        let snapshots = Arc::new(ArcSwap::from_pointee(State::empty(Index(1))));
        Dns::new(DnsConfig::default(), snapshots, None).unwrap()
    };
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // A port that is free for TCP, which other tests take ports for too.
    let udp = UdpSocket::bind(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).unwrap();
    let first = start("127.0.0.1:0", 1);
    for (address, transport) in
        [(tcp.local_addr().unwrap(), "TCP"), (udp.local_addr().unwrap(), "UDP"), (first.address, "TCP")]
    {
        let error = dns().listen(address, &CancellationToken::new()).unwrap_err();
        assert_eq!((error.address, error.transport), (address, transport));
        let text = error.to_string();
        for part in [&address.to_string(), transport, "another program has it", "--dns-addr"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let elsewhere = "192.0.2.1:0".parse().unwrap();
    let error = dns().listen(elsewhere, &CancellationToken::new()).unwrap_err();
    assert!(error.to_string().contains("this host has no such address"), "{error}");
    first.stop().await;
}
