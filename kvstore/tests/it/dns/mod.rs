//! A started agent asked over its DNS sockets.

mod forwarding;
mod hostile;
mod live;
mod recorded;

use std::net::SocketAddr;

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Duration, timeout},
};

use crate::common::Agent;

/// For what takes milliseconds; a loaded machine may take a while longer.
const SOON: Duration = Duration::from_secs(20);

/// A question as an ordinary resolver asks it.
fn question(name: &str, qtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect(name), qtype));
    message
}

/// The reply to the agent about `name` over UDP.
pub(crate) async fn ask(agent: &Agent, name: &str, qtype: RecordType) -> Message {
    over_udp(agent.dns(), &question(name, qtype)).await
}

/// What the answers say, sorted; nothing but the code if there are none.
pub(crate) fn shown(reply: &Message) -> String {
    let mut all: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    all.sort();
    if all.is_empty() { format!("{:?}", reply.metadata.response_code) } else { all.join(", ") }
}

/// The reply to `question` over UDP.
async fn over_udp(to: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.unwrap();
    let mut packet = vec![0; 65536];
    let bytes = timeout(SOON, socket.recv(&mut packet)).await.expect("a reply in time").unwrap();
    Message::from_vec(&packet[..bytes]).expect("a readable reply")
}

/// The reply to `question` over TCP.
async fn over_tcp(to: SocketAddr, question: &Message) -> Message {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let packet = question.to_vec().unwrap();
        stream.write_u16(packet.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&packet).await.unwrap();
        let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut reply).await.unwrap();
        reply
    };
    let reply = timeout(SOON, exchange).await.expect("a reply in time");
    Message::from_vec(&reply).expect("a readable reply")
}

/// Has the agent do what it must not refuse.
async fn call(agent: &Agent, method: Method, path: &str, body: &Value) {
    let request = reqwest::Client::new().request(method, format!("{}{path}", agent.base)).body(body.to_string());
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
}
