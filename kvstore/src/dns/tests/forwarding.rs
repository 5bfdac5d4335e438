//! Names that are not ours, with upstream resolvers made for the test.

mod cache;
mod loops;
mod nonsense;
mod split;

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Instant,
};

use trust_dns_resolver::proto::{
    op::{MessageType, OpCode, ResponseCode},
    rr::{
        RData, Record,
        rdata::{A, CNAME, MX, NS, NULL, SOA, SRV, TXT},
    },
};

use super::*;
use crate::{
    config::{DnsSettings, Recursor},
    dns::{ForwardError, forward::Forwarder},
};

/// For recursors that answer at once; a loaded machine may take a while longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// For recursors that do not answer.
const HASTE: Duration = Duration::from_secs(1);

/// A resolver that knows what the test says, and counts the questions.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// A port that is free over TCP and UDP alike: what the system gives for one may be somebody's over the other.
fn one_port() -> (std::net::TcpListener, UdpSocket) {
    let attempt = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        let socket = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
        Some((listener, socket))
    };
    (0..100).find_map(|_| attempt()).expect("one of a hundred ports is free")
}

/// Answers as `reply` fills in; the bool says whether the question came over TCP.
fn upstream(reply: impl Fn(&mut Message, bool) + Send + Sync + 'static) -> Upstream {
    let (reply, asked) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
    let (listener, socket) = one_port();
    let address = listener.local_addr().unwrap();
    for std in [listener.set_nonblocking(true), socket.set_nonblocking(true)] {
        std.unwrap();
    }
    let (socket, listener) =
        (tokio::net::UdpSocket::from_std(socket).unwrap(), tokio::net::TcpListener::from_std(listener).unwrap());
    let answer = {
        let asked = asked.clone();
        move |packet: &[u8], tcp| {
            asked.fetch_add(1, SeqCst);
            let mut message = Message::from_vec(packet).unwrap();
            message.metadata.message_type = MessageType::Response;
            message.metadata.op_code = OpCode::Query;
            message.metadata.recursion_available = true;
            reply(&mut message, tcp);
            message.to_vec().unwrap()
        }
    };
    let over_tcp = answer.clone();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((bytes, from)) = socket.recv_from(&mut packet).await {
            socket.send_to(&answer(&packet[..bytes], false), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while let Ok(bytes) = stream.read_u16().await {
                let mut packet = vec![0; bytes.into()];
                stream.read_exact(&mut packet).await.unwrap();
                send(&mut stream, &over_tcp(&packet, true)).await;
            }
        }
    });
    Upstream { address, asked }
}

/// Takes questions and never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn knows(name: &'static str, ip: [u8; 4]) -> impl Fn(&mut Message, bool) + Send + Sync {
    move |message, _| {
        let query = message.queries[0].clone();
        if query.name.to_ascii().eq_ignore_ascii_case(name) && query.query_type == RecordType::A {
            let data = RData::A(A(Ipv4Addr::from(ip)));
            message.add_answer(Record::from_rdata(query.name, 300, data));
            return;
        }
        let zone = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 60);
        message.metadata.response_code = ResponseCode::NXDomain;
        message.add_authority(Record::from_rdata(zone, 60, RData::SOA(soa)));
    }
}

fn forwarder(recursors: &[SocketAddr]) -> Forwarder {
    forwarder_of(&recursors.iter().map(|at| Recursor::At(*at)).collect::<Vec<_>>(), None)
}

fn forwarder_of(recursors: &[Recursor], earlier: Option<&Forwarder>) -> Forwarder {
    forwarder_within(PATIENCE, recursors, earlier)
}

fn forwarder_within(recursor_timeout: Duration, recursors: &[Recursor], earlier: Option<&Forwarder>) -> Forwarder {
    let settings = DnsSettings { recursor_timeout, ..DnsSettings::default() };
    Forwarder::new(recursors, &[], &settings, earlier).unwrap().expect("there are recursors")
}

/// Waits no longer than [`HASTE`] for each of `recursors`.
fn serve_hastily(recursors: &[SocketAddr]) -> Running {
    let recursors: Vec<Recursor> = recursors.iter().map(|at| Recursor::At(*at)).collect();
    start_with("127.0.0.1:0", state(&addresses(1)), Some(forwarder_within(HASTE, &recursors, None)))
}

/// Adds an answer to the question of `message`.
fn add(message: &mut Message, ttl: u32, data: RData) {
    let name = message.queries[0].name.clone();
    message.add_answer(Record::from_rdata(name, ttl, data));
}

/// The reply to a question for addresses over UDP.
async fn ask(server: &Running, name: &str) -> Message {
    over_udp(server.address, packet(7, name)).await
}

fn code(reply: &Message) -> ResponseCode {
    reply.metadata.response_code
}

fn serve(recursors: &[SocketAddr]) -> Running {
    start_with("127.0.0.1:0", state(&addresses(1)), Some(forwarder(recursors)))
}

#[tokio::test(flavor = "multi_thread")]
async fn others_names_are_asked_of_upstream_and_remembered() {
    let upstream = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[upstream.address]);
    for (id, name) in [(1, "www.example."), (2, "WWW.example."), (3, "www.example.")] {
        for reply in
            [over_udp(server.address, packet(id, name)).await, over_tcp(server.address, packet(id, name)).await]
        {
            assert_eq!(shown(&reply), ["198.51.100.7"]);
            let meta = &reply.metadata;
            assert_eq!((meta.id, meta.authoritative, meta.recursion_available), (id, false, true));
            assert_eq!(reply.queries[0].name.to_ascii(), name);
        }
    }
    assert_eq!(upstream.asked.load(SeqCst), 1, "the rest came from the cache");
    assert_eq!(shown(&over_udp(server.address, packet(4, "web.service.consul.")).await), ["10.0.0.1"]);
    let nobody = over_udp(server.address, packet(5, "none.service.consul.")).await;
    assert_eq!(nobody.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(upstream.asked.load(SeqCst), 1, "our names are asked of nobody");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_no_is_passed_on() {
    let upstream = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[upstream.address]);
    let reply = over_udp(server.address, packet(1, "none.example.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
    assert_eq!(reply.authorities[0].name.to_ascii(), "example.");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_recursor_is_passed_over() {
    let (_held, deaf) = silent();
    let upstream = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve_hastily(&[deaf, upstream.address]);
    assert_eq!(server.dns.forwarder().unwrap().asked_about("www.example."), [deaf, upstream.address]);
    assert_eq!(shown(&over_udp(server.address, packet(1, "www.example.")).await), ["198.51.100.7"]);
    assert_eq!(server.dns.forwarder().unwrap().asked_about("www.example."), [upstream.address, deaf]);
    let reply = over_udp(server.address, packet(2, "other.example.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursor_that_fails_is_passed_over_but_one_that_denies_is_believed() {
    let failing = upstream(|message, _| message.metadata.response_code = ResponseCode::ServFail);
    let refusing = upstream(|message, _| message.metadata.response_code = ResponseCode::Refused);
    let denying = upstream(knows("nothing.", [0; 4]));
    let knowing = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[failing.address, refusing.address, knowing.address]);
    assert_eq!(shown(&over_udp(server.address, packet(1, "www.example.")).await), ["198.51.100.7"]);
    server.stop().await;
    let server = serve(&[denying.address, knowing.address]);
    let reply = over_udp(server.address, packet(1, "www.example.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_answer_it_fails_in_time_and_others_do_not_wait() {
    let (_held, deaf) = silent();
    let server = serve_hastily(&[deaf]);
    let since = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, &packet(1, "www.example.")).await;
    send(&mut stream, &packet(2, "web.service.consul.")).await;
    assert_eq!(receive(&mut stream).await.metadata.id, 2, "the quick one first");
    let waiting = tokio::spawn(over_udp(server.address, packet(3, "www.example.")));
    assert_eq!(shown(&over_udp(server.address, packet(4, "web.service.consul.")).await), ["10.0.0.1"]);
    for reply in [receive(&mut stream).await, waiting.await.unwrap()] {
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    assert!(since.elapsed() < Duration::from_secs(20), "took {:?}", since.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_upstream() {
    let (_held, deaf) = silent();
    let settings = DnsSettings { recursor_timeout: Duration::from_mins(1), ..DnsSettings::default() };
    let forwarder = Forwarder::new(&[Recursor::At(deaf)], &[], &settings, None).unwrap();
    let server = start_with("127.0.0.1:0", state(&addresses(1)), forwarder);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&packet(1, "www.example."), server.address).unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, &packet(2, "www.example.")).await;
    over_udp(server.address, packet(3, "web.service.consul.")).await;
    let since = Instant::now();
    server.stop().await;
    assert!(since.elapsed() < Duration::from_secs(4), "took {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_cut_is_asked_again_over_tcp() {
    let upstream = upstream(|message, tcp| {
        let name = message.queries[0].name.clone();
        message.metadata.truncation = !tcp;
        for i in 0..if tcp { 100 } else { 1 } {
            message.add_answer(Record::from_rdata(name.clone(), 300, RData::A(A(Ipv4Addr::new(198, 51, 100, i)))));
        }
    });
    let server = serve(&[upstream.address]);
    assert_eq!(over_tcp(server.address, packet(1, "many.example.")).await.answers.len(), 100);
    let udp = over_udp(server.address, packet(2, "many.example.")).await;
    assert!(udp.metadata.truncation && udp.answers.len() < 40);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_followed_by_upstream() {
    let upstream = upstream(|message, _| {
        let (name, real) = (message.queries[0].name.clone(), Name::from_ascii("real.example.").unwrap());
        message.add_answer(Record::from_rdata(name, 300, RData::CNAME(CNAME(real.clone()))));
        message.add_answer(Record::from_rdata(real, 300, RData::A(A(Ipv4Addr::new(198, 51, 100, 9)))));
    });
    let outside = state(&["www.example.com".to_owned()]);
    let server = start_with("127.0.0.1:0", outside, Some(forwarder(&[upstream.address])));
    let reply = over_udp(server.address, packet(1, "web.service.consul.")).await;
    assert_eq!(shown(&reply), ["198.51.100.9", "real.example.", "www.example.com."]);
    assert!(reply.metadata.authoritative);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursor_that_is_ourselves_is_left_out() {
    let own: SocketAddr = "0.0.0.0:53".parse().unwrap();
    let new = |recursors: &[&str]| {
        let recursors: Vec<Recursor> = recursors.iter().map(|at| Recursor::At(at.parse().unwrap())).collect();
        Forwarder::new(&recursors, &[own], &DnsSettings::default(), None)
    };
    assert!(matches!(new(&["127.0.0.1:53"]), Err(ForwardError::NobodyElse)));
    assert!(new(&["127.0.0.1:53", "10.0.0.1:53"]).unwrap().is_some());
    assert!(new(&["127.0.0.1:5353"]).unwrap().is_some());
    assert!(new(&[]).unwrap().is_none());
}
