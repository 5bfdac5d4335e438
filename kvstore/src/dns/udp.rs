//! Questions over UDP: a plain thread a socket, each question answered in place.
//!
//! The kernel deals the questions out among the sockets of one port. Only names that are not ours go to a task.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Shutdown, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use kvstore_core::dns::{Forward, Reaction, Transport};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{forward::Forwarder, serve::Shared};

/// Longer packets are no questions; what is beyond is cut off and makes them unreadable.
const MAX_QUESTION_BYTES: usize = 4096;

/// How long a receive sleeps at most. [`wake`] ends it at once; this is for systems where it does not.
const NAP: Duration = Duration::from_secs(1);

/// How long a send waits for room in the socket's buffer, before the reply is dropped.
const SEND_DEADLINE: Duration = Duration::from_millis(100);

/// After a receive that failed for a reason of its own.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds a socket that shares its port with others of ours.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_read_timeout(Some(NAP))?;
    socket.set_write_timeout(Some(SEND_DEADLINE))?;
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
    pub(super) shared: Arc<Shared>,
    pub(super) shutdown: CancellationToken,
    pub(super) runtime: Handle,
    pub(super) forwards: TaskTracker,
}

/// Where a question came from, and at which of our addresses.
#[derive(Clone, Copy)]
struct Asker {
    from: SockaddrStorage,
    at: Option<LocalAddress>,
}

#[derive(Clone, Copy)]
enum LocalAddress {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Server {
    /// Answers until the shutdown.
    pub(super) fn run(self) {
        let mut packet = vec![0; MAX_QUESTION_BYTES];
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut out = Vec::with_capacity(MAX_QUESTION_BYTES);
        // One after the other is chance enough: the core mixes it.
        let mut seed: u64 = rand::random();
        while !self.shutdown.is_cancelled() {
            match receive(&self.socket, &mut packet, &mut control) {
                Ok((bytes, asker)) => {
                    seed = seed.wrapping_add(1);
                    self.answer(&packet[..bytes], asker, seed, &mut out);
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive a DNS question");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn answer(&self, packet: &[u8], asker: Asker, seed: u64, out: &mut Vec<u8>) {
        let Some(from) = asker.ip() else { return };
        match self.shared.respond(packet, from, Transport::Udp, seed, out) {
            Reaction::Ignore => {}
            Reaction::Reply => send(&self.socket, out, &asker),
            Reaction::Forward(forward) => self.forward(*forward, asker, out),
        }
    }

    /// Asks others in a task; if too many wait for them already, says at once that it failed.
    fn forward(&self, forward: Forward, asker: Asker, out: &mut Vec<u8>) {
        let Some(slot) = self.shared.forwarder().and_then(Forwarder::slot) else {
            if let Reaction::Reply = self.shared.finish(forward, None, Transport::Udp, out) {
                send(&self.socket, out, &asker);
            }
            return;
        };
        let (socket, shared) = (self.socket.clone(), self.shared.clone());
        let work = async move {
            let found = match shared.forwarder() {
                Some(forwarder) => Some(forwarder.ask(&forward.question).await),
                None => None,
            };
            drop(slot);
            let mut out = Vec::new();
            if let Reaction::Reply = shared.finish(forward, found, Transport::Udp, &mut out) {
                send(&socket, &out, &asker);
            }
        };
        let shutdown = self.shutdown.clone();
        self.forwards.spawn_on(async move { shutdown.run_until_cancelled(work).await }, &self.runtime);
    }
}

impl Asker {
    fn ip(&self) -> Option<IpAddr> {
        let v4 = self.from.as_sockaddr_in().map(|from| from.ip().into());
        v4.or_else(|| self.from.as_sockaddr_in6().map(|from| from.ip().into()))
    }
}

fn receive(socket: &Socket, packet: &mut [u8], control: &mut [u8]) -> Result<(usize, Asker), Errno> {
    let mut parts = [IoSliceMut::new(packet)];
    let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    // Without a sender it is no packet but the end of a sleep.
    let from = received.address.ok_or(Errno::EAGAIN)?;
    let at = received.cmsgs().ok().and_then(|mut messages| messages.find_map(|message| local_address(&message)));
    Ok((received.bytes, Asker { from, at }))
}

fn local_address(message: &ControlMessageOwned) -> Option<LocalAddress> {
    match message {
        // The interface is left to routing: the asker may be behind another one.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(LocalAddress::V4(libc::in_pktinfo { ipi_ifindex: 0, ..*info }))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(LocalAddress::V6(*info)),
        _ => None,
    }
}

/// Sends a reply from the address that was asked. What cannot be sent is lost, as anything may be over UDP.
fn send(socket: &Socket, reply: &[u8], asker: &Asker) {
    let parts = [IoSlice::new(reply)];
    let control = match &asker.at {
        Some(LocalAddress::V4(info)) => Some(ControlMessage::Ipv4PacketInfo(info)),
        Some(LocalAddress::V6(info)) => Some(ControlMessage::Ipv6PacketInfo(info)),
        None => None,
    };
    let sent = sendmsg(socket.as_raw_fd(), &parts, control.as_slice(), MsgFlags::empty(), Some(&asker.from));
    if let Err(error) = sent {
        tracing::debug!(%error, "cannot send a DNS reply");
    }
}
