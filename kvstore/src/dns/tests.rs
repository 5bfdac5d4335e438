//! Real sockets, and another library's decoder at the other end.

mod forwarding;
mod sockets;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use kvstore_core::{
    Command, Index, State, decide,
    dns::{DnsConfig, ServiceTtls},
    names::NodeKey,
    row::{Instance, Node},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use trust_dns_resolver::proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};

use super::{Dns, Forwarder, Listening, Settings};

/// For anything that should take milliseconds.
const SOON: Duration = Duration::from_secs(5);

/// Instances of `web`, one a host with this address.
fn state(addresses: &[String]) -> State {
    let mut state = State::empty(Index(1));
    for (i, address) in addresses.iter().enumerate() {
        let name = format!("n{i}");
        let node: Node = serde_json::from_value(json!({"name": name, "address": address})).unwrap();
        let node_key = NodeKey::new(&name).unwrap();
        let instance = json!({"node": node_key, "id": "web", "service": "web", "port": 80});
        let instance: Instance = serde_json::from_value(instance).unwrap();
        let command = Command::Register { node, keep_node: false, instance: Some(instance.into()), checks: vec![] };
        let decision = decide(&state, &command).unwrap();
        state.apply(state.index().next(), &decision.changes);
    }
    state
}

fn addresses(count: u32) -> Vec<String> {
    (1..=count).map(|i| format!("10.0.{}.{}", i / 250, i % 250)).collect()
}

/// A server that ends with the test.
struct Running {
    address: SocketAddr,
    snapshots: Arc<ArcSwap<State>>,
    dns: Dns,
    shutdown: CancellationToken,
    listening: Listening,
}

fn start(address: &str, instances: u32) -> Running {
    start_with(address, state(&addresses(instances)), None)
}

fn start_with(address: &str, state: State, forwarder: Option<Forwarder>) -> Running {
    let snapshots = Arc::new(ArcSwap::from_pointee(state));
    let dns = Dns::new(DnsConfig::default(), snapshots.clone(), forwarder).unwrap();
    let shutdown = CancellationToken::new();
    let listening = dns.listen(address.parse().unwrap(), &shutdown).expect("a free port");
    Running { address: listening.address, snapshots, dns, shutdown, listening }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        timeout(SOON, self.listening.stopped()).await.expect("it stops");
    }
}

fn question(id: u16, name: &str, qtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), qtype));
    message
}

fn packet(id: u16, name: &str) -> Vec<u8> {
    question(id, name, RecordType::A).to_vec().unwrap()
}

/// The reply to a packet over UDP; takes it only from the address that was asked.
async fn over_udp(to: SocketAddr, packet: Vec<u8>) -> Message {
    let work = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.connect(to).unwrap();
        socket.send(&packet).unwrap();
        let mut reply = [0; 4096];
        let bytes = socket.recv(&mut reply).expect("a reply");
        Message::from_vec(&reply[..bytes]).expect("a readable reply")
    });
    work.await.unwrap()
}

async fn send(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], packet].concat()).await.unwrap();
}

async fn receive(stream: &mut TcpStream) -> Message {
    let work = async {
        let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut reply).await.unwrap();
        reply
    };
    let reply = timeout(SOON, work).await.expect("a reply");
    Message::from_vec(&reply).expect("a readable reply")
}

async fn over_tcp(to: SocketAddr, packet: Vec<u8>) -> Message {
    let mut stream = TcpStream::connect(to).await.unwrap();
    send(&mut stream, &packet).await;
    receive(&mut stream).await
}

fn shown(reply: &Message) -> Vec<String> {
    let mut all: Vec<String> = reply.answers.iter().map(|r| r.data.to_string()).collect();
    all.sort();
    all
}
