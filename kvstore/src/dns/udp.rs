//! Questions over UDP: a plain thread a socket, each question answered in place.
//!
//! The kernel deals the questions out among the sockets of one port. What comes while a thread is busy is taken in one
//! batch afterwards: the busier, the less a question costs. Only names that are not ours go to a task.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kvstore_core::dns::{Forward, Reaction, Replies, Transport};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batch::{Asker, Batch, send_one},
    serve::Shared,
};

/// How long a receive sleeps at most. [`wake`] ends it at once; this is for systems where it does not.
const NAP: Duration = Duration::from_secs(1);

/// How long a send waits for room in the socket's buffer, before the reply is dropped.
const SEND_DEADLINE: Duration = Duration::from_millis(100);

/// After a receive that failed for a reason of its own.
const PAUSE: Duration = Duration::from_millis(50);

/// What a socket holds of questions while its thread is busy; the kernel may give less.
const RECEIVE_BYTES: usize = 4 << 20;

/// What the replies at hand take, of all sockets together.
const REPLY_BYTES: usize = 64 << 20;

/// Binds a socket that shares its port with others of ours.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_read_timeout(Some(NAP))?;
    socket.set_write_timeout(Some(SEND_DEADLINE))?;
    // Less than that is no reason not to serve.
    let _less = socket.set_recv_buffer_size(RECEIVE_BYTES);
    if address.ip().is_unspecified() {
        // A host of many addresses must answer from the one that was asked, or the asker does not take it.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Ends a receive that sleeps. The system says that the socket is not connected, and wakes it.
pub(super) fn wake(socket: &Socket) {
    let _not_connected = socket.shutdown(Shutdown::Both);
}

/// One socket and what its thread needs.
pub(super) struct Server {
    pub(super) socket: Arc<Socket>,
    /// How many there are of these.
    pub(super) sockets: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) shutdown: CancellationToken,
    pub(super) runtime: Handle,
    pub(super) forwards: TaskTracker,
}

impl Server {
    /// Answers until the shutdown.
    pub(super) fn run(self) {
        let mut batch = Batch::default();
        let mut replies = Replies::new(REPLY_BYTES / self.sockets);
        // One after the other is chance enough: the core mixes it.
        let mut seed: u64 = rand::random();
        while !self.shutdown.is_cancelled() {
            match batch.receive(&self.socket) {
                Ok(count) => {
                    seed = seed.wrapping_add(count as u64);
                    self.answer(&mut batch, count, &mut replies, seed);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive a DNS question");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn answer(&self, batch: &mut Batch, count: usize, replies: &mut Replies, seed: u64) {
        let mut now = self.shared.now(Transport::Udp);
        for i in 0..count {
            let (packet, asker, out) = batch.packet(i);
            out.clear();
            let Some(from) = asker.address() else { continue };
            match now.respond_again(replies, packet, from, seed.wrapping_sub(i as u64), out) {
                Reaction::Reply => {}
                Reaction::Ignore => out.clear(),
                Reaction::Forward(forward) => self.forward(*forward, asker, out),
            }
        }
        // Who has a reply sees it counted.
        drop(now);
        if let Err((lost, error)) = batch.send(&self.socket, count) {
            tracing::debug!(lost, %error, "cannot send DNS replies");
        }
    }

    /// Asks others in a task; if too many wait for them already, says at once that it failed.
    fn forward(&self, forward: Forward, asker: Asker, out: &mut Vec<u8>) {
        let forwarder = self.shared.forwarder();
        let Some((slot, forwarder)) = forwarder.and_then(|forwarder| Some((forwarder.slot()?, forwarder))) else {
            if !matches!(self.shared.finish(forward, None, Transport::Udp, out), Reaction::Reply) {
                out.clear();
            }
            return;
        };
        out.clear();
        let (socket, shared) = (self.socket.clone(), self.shared.clone());
        let work = async move {
            let found = forwarder.ask(&forward.question).await;
            drop(slot);
            let mut out = Vec::new();
            if let Reaction::Reply = shared.finish(forward, Some(found), Transport::Udp, &mut out)
                && let Err(error) = send_one(&socket, &out, asker)
            {
                tracing::debug!(%error, "cannot send a DNS reply");
            }
        };
        let shutdown = self.shutdown.clone();
        self.forwards.spawn_on(async move { shutdown.run_until_cancelled(work).await }, &self.runtime);
    }
}
