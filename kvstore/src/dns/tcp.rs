//! Questions over TCP: several may be under way on one connection, replies come as they are ready. RFC 7766.

use std::{
    io::{self, ErrorKind::UnexpectedEof},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Buf;
use futures_util::{StreamExt, stream};
use kvstore_core::dns::{Reaction, Transport, is_question};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::serve::Shared;
use crate::connections::{Connections, Place};

/// Connections at the same time on one address; one more has the least missed of them closed.
const MAX_CONNECTIONS: usize = 256;

/// Questions under way on one connection.
const PIPELINE: usize = 8;

/// What is read of a question; one with a name, EDNS and all its options is shorter. With a reply of 64 KiB, a connection
/// takes some 100 KiB at the most, and all of them 25 MiB.
const QUESTION_BYTES: u16 = 4096;

/// What the system holds for a connection each way; it would let it grow to megabytes for who takes no replies.
const BUFFER_BYTES: usize = 64 << 10;

/// From one question's end to the next one's, and for a reply to be taken, however slowly the bytes trickle.
const IDLE: Duration = Duration::from_secs(10);

/// What connections get after the stop to finish what is under way.
const GRACE: Duration = Duration::from_secs(2);

/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const BACKLOG: i32 = 1024;

/// Binds a listener that takes over from closed ones but shares with none.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit these.
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Answers until `shutdown`; questions under way are answered still, in a short grace.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    let open = Connections::new(MAX_CONNECTIONS);
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    while let Some((stream, from)) = shutdown.run_until_cancelled(accept(&listener)).await {
        let place = open.admit(from.ip(), |closed| shared.crowded_out(closed));
        let Some(place) = shutdown.run_until_cancelled(place).await else { break };
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        let conversation = async move {
            let conversation = converse(stream, from, &place, &shared, &shutdown);
            if let Some(Err(error)) = place.closed.run_until_cancelled(conversation).await {
                tracing::debug!(%from, %error, "a DNS connection broke off");
            }
        };
        connections.spawn(cut.clone().run_until_cancelled_owned(conversation));
    }
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
}

/// The next connection. Why there is none for now is said once.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut said = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "cannot accept DNS connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the questions of one connection, until the asker goes, is silent or slow for too long, or sends what is no
/// question: where the next one would begin is not known then.
async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    place: &Place,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let questions = stream::unfold(Some(read), next_question);
    let questions = questions.take_until(shutdown.cancelled()).inspect(|_| place.works());
    let mut replies = pin!(questions.map(|packet| answer(packet, from, shared)).buffer_unordered(PIPELINE));
    while let Some(reply) = replies.next().await {
        if let Some(reply) = reply {
            timeout(IDLE, send(&mut write, &reply)).await??;
            place.works();
        }
    }
    Ok(())
}

/// The next question, with the half of the connection it came from; `None` at its end. What is no question is the last.
async fn next_question(read: Option<OwnedReadHalf>) -> Option<(Vec<u8>, Option<OwnedReadHalf>)> {
    let mut read = read?;
    let packet = timeout(IDLE, read_question(&mut read)).await.ok()?.ok()?;
    let more = is_question(&packet).then_some(read);
    Some((packet, more))
}

/// Reads a question, and over what is too long to be part of one.
async fn read_question(read: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let bytes = read.read_u16().await?;
    let mut packet = Vec::new();
    let taken = read.take(bytes.min(QUESTION_BYTES).into()).read_to_end(&mut packet).await?;
    let beyond =
        tokio::io::copy(&mut read.take(bytes.saturating_sub(QUESTION_BYTES).into()), &mut tokio::io::sink()).await?;
    if taken as u64 + beyond < bytes.into() { Err(UnexpectedEof.into()) } else { Ok(packet) }
}

async fn answer(packet: Vec<u8>, from: SocketAddr, shared: &Shared) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let reaction = shared.now(Transport::Tcp).respond(&packet, from.ip(), rand::random(), &mut out);
    drop(packet);
    let reaction = match reaction {
        Reaction::Forward(forward) => {
            let slot = shared.forwarder().and_then(|forwarder| Some((forwarder.slot()?, forwarder)));
            let found = match slot {
                Some((_slot, forwarder)) => Some(forwarder.ask(&forward.question).await),
                None => None,
            };
            shared.finish(*forward, found, Transport::Tcp, &mut out)
        }
        reaction => reaction,
    };
    matches!(reaction, Reaction::Reply).then_some(out)
}

/// Sends length and reply in one piece.
async fn send(write: &mut OwnedWriteHalf, reply: &[u8]) -> io::Result<()> {
    let bytes = u16::try_from(reply.len()).expect("a reply over TCP fits its length").to_be_bytes();
    write.write_all_buf(&mut Buf::chain(&bytes[..], reply)).await
}
