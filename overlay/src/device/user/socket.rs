//! The UDP socket between hosts: both families in one, bursts in one call of the system, buffers that hold them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

/// Holds what comes in a few milliseconds at 10 Gbit/s, so that a thread which had to wait for its turn loses nothing.
const BUFFER_BYTES: usize = 7 << 20;

/// What is sent at once fits a datagram, the largest that the system cuts up.
pub(super) const BURST_BYTES: usize = 65_000;

pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    v6: bool,
}

impl Socket {
    /// On all addresses of this host; without IPv6 where it has none.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        Self::bind(true, port).or_else(|e| match e.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
            _ => Self::bind(false, port),
        })
    }

    fn bind(v6: bool, port: u16) -> io::Result<Self> {
        let (domain, any): (_, IpAddr) = if v6 {
            (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
        } else {
            (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())
        };
        let socket = RawSocket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if v6 {
            socket.set_only_v6(false)?;
        }
        // Above the system's limit with the right to administer the network, else up to it.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
            socket.set_send_buffer_size(BUFFER_BYTES)?;
        }
        socket.bind(&SockAddr::from(SocketAddr::new(any, port)))?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { io: socket.into(), state, v6 })
    }

    /// How many datagrams may be sent at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends `bytes` as datagrams of `size` bytes, the last may be shorter.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8], size: usize, ecn: u8) -> io::Result<()> {
        if bytes.len() <= size || self.most_at_once() > 1 {
            match self.send_once(to, bytes, size, ecn) {
                // The way out cannot do bursts, which quinn-udp has taken notice of.
                Err(_) if bytes.len() > size && self.most_at_once() == 1 => {}
                sent => return sent,
            }
        }
        bytes.chunks(size).try_for_each(|datagram| self.send_once(to, datagram, size, ecn))
    }

    fn send_once(&self, to: SocketAddr, bytes: &[u8], size: usize, ecn: u8) -> io::Result<()> {
        let destination = match to {
            SocketAddr::V4(to) if self.v6 => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()),
            to => to,
        };
        let segment_size = (bytes.len() > size).then_some(size);
        let ecn = EcnCodepoint::from_bits(ecn);
        let transmit = Transmit { destination, ecn, contents: bytes, segment_size, src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    /// Receives what is there into `buffers`; how many of them were filled.
    pub(super) fn receive(&self, buffers: &mut [io::IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        let filled = self.state.recv(UdpSockRef::from(&self.io), buffers, metas)?;
        for meta in &mut metas[..filled] {
            meta.addr.set_ip(meta.addr.ip().to_canonical());
        }
        Ok(filled)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}
