//! Questions over TCP: several may be under way on one connection, replies come as they are ready. RFC 7766.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use kvstore_core::dns::{Reaction, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::serve::Shared;

/// Connections at the same time on one address; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;

/// Questions under way on one connection; with 64 KiB each way at worst, and all connections, some 256 MiB.
const PIPELINE: usize = 8;

/// From one question's end to the next one's, and for a reply to be taken.
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Answers until `shutdown`; questions under way are answered still, in a short grace.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    while let Some((stream, from, slot)) = shutdown.run_until_cancelled(accept(&listener, &slots)).await {
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        let conversation = async move {
            if let Err(error) = converse(stream, from, &shared, &shutdown).await {
                tracing::debug!(%from, %error, "a DNS connection broke off");
            }
            drop(slot);
        };
        connections.spawn(cut.clone().run_until_cancelled_owned(conversation));
    }
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, from, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the questions of one connection, until the asker goes, or is silent or slow for too long.
async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let questions = stream::unfold(read, next_question).take_until(shutdown.cancelled());
    let mut replies = pin!(questions.map(|packet| answer(packet, from, shared)).buffer_unordered(PIPELINE));
    while let Some(reply) = replies.next().await {
        if let Some(reply) = reply {
            timeout(IDLE, send(&mut write, &reply)).await??;
        }
    }
    Ok(())
}

/// The next question, with the half of the connection it came from; `None` at its end.
async fn next_question(mut read: OwnedReadHalf) -> Option<(Vec<u8>, OwnedReadHalf)> {
    let packet = timeout(IDLE, async {
        let bytes = read.read_u16().await?;
        let mut packet = vec![0; bytes.into()];
        read.read_exact(&mut packet).await?;
        io::Result::Ok(packet)
    });
    let packet = packet.await.ok()?.ok()?;
    Some((packet, read))
}

async fn answer(packet: Vec<u8>, from: SocketAddr, shared: &Shared) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let reaction = shared.now(Transport::Tcp).respond(&packet, from.ip(), rand::random(), &mut out);
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
    let bytes = u16::try_from(reply.len()).expect("a reply over TCP fits its length");
    let mut frame = Vec::with_capacity(reply.len() + 2);
    frame.extend_from_slice(&bytes.to_be_bytes());
    frame.extend_from_slice(reply);
    write.write_all(&frame).await
}
