//! What nobody sends who means well, over real sockets; and what the agent then says that it had.

#[path = "../../../core/src/dns/tests/tricks.rs"]
mod tricks;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use domain::base::Message;
use trust_dns_resolver::proto::op::Message as Decoded;

use crate::common::{Agent, settings};

/// For what takes milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// `consul. SOA` with that id: always answered.
fn sound(id: [u8; 2]) -> Vec<u8> {
    [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], b"\x06consul\0\0\x06\0\x01"].concat()
}

fn udp(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut reply = [0; 4096];
    let (bytes, _) = socket.recv_from(&mut reply).expect("a reply");
    reply[..bytes].to_vec()
}

/// The code of a reply, once it is found to be one to `packet`.
fn code(packet: &[u8], reply: &[u8]) -> String {
    assert_eq!((&reply[..2], reply[2] & 0xf8), (&packet[..2], 0x80 | packet[2] & 0x78), "the id, and a reply");
    if packet[2] & 0x78 == 0 {
        Decoded::from_vec(reply).expect("a reply that others can read");
    }
    Message::from_octets(reply).expect("a reply").opt_rcode().to_string()
}

/// One after the other from one socket, each followed by a question that is always answered: the replies keep the order.
fn over_udp(to: SocketAddr) {
    let socket = udp("127.0.0.1:0");
    for (what, packet, want) in tricks::tricks() {
        socket.send_to(&packet, to).unwrap();
        socket.send_to(&sound([0xab, 0xcd]), to).unwrap();
        if want != "dropped" {
            assert_eq!(code(&packet, &receive(&socket)), want, "{what}");
        }
        assert_eq!(receive(&socket)[..2], [0xab, 0xcd], "{what}");
    }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

fn next(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    let mut reply = vec![0; u16::from_be_bytes(bytes).into()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// What is answered, on one connection; what is not ends one.
fn over_tcp(to: SocketAddr) {
    let mut one = connect(to);
    for (what, packet, want) in tricks::tricks() {
        if want == "dropped" {
            let mut stream = connect(to);
            stream.write_all(&framed(&packet)).unwrap();
            assert_eq!(next(&mut stream).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{what}");
        } else {
            one.write_all(&framed(&packet)).unwrap();
            assert_eq!(code(&packet, &next(&mut one).expect(what)), want, "{what}");
        }
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// One of the agent's counters.
async fn counted(agent: &Agent, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/v1/agent/metrics?format=prometheus", agent.base)).await.unwrap();
    let text = text.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("kvstore_dns_{name}_total ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

async fn reaches(agent: &Agent, name: &str, want: u64) {
    let until = Instant::now() + SOON;
    while counted(agent, name).await < want {
        assert!(Instant::now() < until, "{name} does not reach {want}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_are_answered_by_the_rules_and_counted() {
    let agent = Agent::start("n").await;
    let to = agent.dns();
    let of = |code: &str| tricks::tricks().iter().filter(|(.., want)| *want == code).count() as u64;
    blocking(move || over_udp(to)).await;
    reaches(&agent, "malformed", of("FORMERR")).await;
    assert_eq!(counted(&agent, "ignored").await, of("dropped"));
    blocking(move || over_tcp(to)).await;
    reaches(&agent, "malformed", 2 * of("FORMERR")).await;
    assert_eq!(counted(&agent, "ignored").await, 2 * of("dropped"));
    assert_eq!(counted(&agent, "limited").await, 0);
    agent.stop().await;
}

/// Two that answer everything would never stop.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_a_character_generator_is_not_answered() {
    let socket = match UdpSocket::bind("127.0.0.19:19") {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("SKIPPED: port 19 needs root");
            return;
        }
        bound => bound.unwrap(),
    };
    let agent = Agent::start("n").await;
    socket.set_nonblocking(true).unwrap();
    socket.send_to(&sound([1, 2]), agent.dns()).unwrap();
    reaches(&agent, "ignored", 1).await;
    assert_eq!(socket.recv(&mut [0; 512]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    agent.stop().await;
}

/// An address of this host that is not loopback, which has no limit.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_gets_so_many_replies_a_second_and_can_come_over_tcp() {
    const LIMIT: usize = 5;
    let Some(own) = own_address() else {
        println!("SKIPPED: this host has no address but loopback");
        return;
    };
    let mut settings = settings("n");
    settings.dns = vec![([0, 0, 0, 0], 0).into()];
    settings.dns_settings.response_rate_limit = 5;
    let agent = Agent::with(settings).await;
    let to = SocketAddr::new(own, agent.dns().port());

    let since = Instant::now();
    let flood = move || {
        let socket = udp("0.0.0.0:0");
        let mut replies = Vec::new();
        // The next is sent when the one before is answered, or was not in good time: nothing is lost for want of room.
        for id in 0..60 {
            socket.send_to(&sound([9, id]), to).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut reply = [0; 512];
            if let Ok((bytes, _)) = socket.recv_from(&mut reply) {
                replies.push(Decoded::from_vec(&reply[..bytes]).unwrap());
            }
        }
        replies
    };
    let replies = tokio::task::spawn_blocking(flood).await.unwrap();
    let seconds = usize::try_from(since.elapsed().as_secs()).unwrap() + 2;
    let (cut, whole): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.metadata.truncation);
    assert!((1..=LIMIT * seconds).contains(&whole.len()), "{} replies in {seconds} seconds", whole.len());
    assert!(whole.iter().all(|reply| reply.answers.len() == 1));
    assert!(cut.iter().all(|reply| reply.answers.is_empty() && reply.queries.len() == 1));
    if seconds < 6 {
        assert!(!cut.is_empty() && counted(&agent, "limited").await >= 60 - (LIMIT * seconds) as u64);
    }

    blocking(move || {
        let mut stream = connect(to);
        for id in 0..60 {
            stream.write_all(&framed(&sound([8, id]))).unwrap();
            assert_eq!(Decoded::from_vec(&next(&mut stream).unwrap()).unwrap().answers.len(), 1);
        }
        let socket = udp("127.0.0.1:0");
        for id in 0..60 {
            socket.send_to(&sound([7, id]), ("127.0.0.1", to.port())).unwrap();
            assert!(!Decoded::from_vec(&receive(&socket)).unwrap().metadata.truncation, "loopback has no limit");
        }
    })
    .await;
    agent.stop().await;
}
