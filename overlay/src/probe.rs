//! Which peers answer through the tunnel without another one between: echo requests to the address that only they have,
//! answered by their kernels, whether their daemons run or not.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

use crate::network::NodeId;

/// So often each peer is asked.
pub const EVERY: Duration = Duration::from_secs(2);
/// Who has not answered for this long is not reached directly any more.
const SILENT: Duration = Duration::from_millis(6500);
/// Who has not answered for this long is asked more often.
const LATE: Duration = Duration::from_millis(2500);

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// The header of IPv6, in bytes.
const V6_HEAD: usize = 40;

/// Which peers were heard, and when.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    /// Since when each is asked, and when it last answered.
    peers: BTreeMap<NodeId, (Instant, Option<Instant>)>,
}

impl Hearing {
    /// These are the peers now.
    pub fn keep(&mut self, peers: impl Iterator<Item = NodeId>, now: Instant) {
        let old = std::mem::take(&mut self.peers);
        self.peers = peers.map(|id| (id, old.get(&id).copied().unwrap_or((now, None)))).collect();
    }

    /// It answered. True if it was not heard before.
    pub fn answered(&mut self, id: NodeId, now: Instant) -> bool {
        let Some((_, heard)) = self.peers.get_mut(&id) else { return false };
        heard.replace(now).is_none_or(|then| now.duration_since(then) >= SILENT)
    }

    /// Whether its answer is overdue.
    pub fn is_late(&self, id: NodeId, now: Instant) -> bool {
        self.peers.get(&id).is_some_and(|(asked, heard)| now.duration_since(heard.unwrap_or(*asked)) > LATE)
    }

    /// Whether each is heard; who was asked only just now and has not answered is not in it.
    pub fn heard(&self, now: Instant) -> BTreeMap<NodeId, bool> {
        let recent = |then: Instant| now.duration_since(then) < SILENT;
        let judge = |(id, (asked, heard)): (&NodeId, &(Instant, Option<Instant>))| match heard {
            Some(heard) => Some((*id, recent(*heard))),
            None if recent(*asked) => None,
            None => Some((*id, false)),
        };
        self.peers.iter().filter_map(judge).collect()
    }
}

/// Who answered, and a question of how many bytes; 0 for a short one.
pub type Answer = (Ipv6Addr, u16);

/// A socket for echo requests from this host's own address in the tunnel.
#[derive(Debug)]
pub struct Prober {
    socket: tokio::net::UdpSocket,
    /// Tells our requests from those of others.
    id: u16,
}

impl Prober {
    /// Needs the address to be there, and the right to open raw sockets.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(own: Ipv6Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV6::new(own, 0, 0, 0).into())?;
        let socket = tokio::net::UdpSocket::from_std(UdpSocket::from(socket))?;
        let id = u16::try_from(std::process::id() & 0xffff).expect("16 bits");
        Ok(Self { socket, id })
    }

    /// Asks the peer at `address` by a packet of `size` bytes, or, if it is 0, by a short one. The answer is as long, and
    /// comes in one piece, as the question goes: no route to such an address takes less than its interface. If it
    /// cannot be sent, it is not answered.
    pub async fn ask(&self, address: Ipv6Addr, size: u16) {
        let (id, number) = (self.id.to_be_bytes(), size.to_be_bytes());
        // The kernel adds the checksum (RFC 3542, section 3.1).
        let mut request = vec![ECHO_REQUEST, 0, 0, 0, id[0], id[1], number[0], number[1]];
        request.resize(usize::from(size).saturating_sub(V6_HEAD).max(request.len()), 0);
        let _ = self.socket.send_to(&request, SocketAddr::new(address.into(), 0)).await;
    }

    /// The next answer.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn answer(&self) -> io::Result<Answer> {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            if length >= 8
                && buffer[0] == ECHO_REPLY
                && buffer[4..6] == self.id.to_be_bytes()
                && let IpAddr::V6(address) = from.ip()
            {
                return Ok((address, u16::from_be_bytes([buffer[6], buffer[7]])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_heard_until_it_is_silent() {
        let (a, b) = (NodeId([1; 16]), NodeId([2; 16]));
        let mut hearing = Hearing::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        hearing.keep([a, b].into_iter(), at(0));
        assert_eq!(hearing.heard(at(2000)), [].into(), "nobody knows yet");
        assert!(hearing.answered(a, at(2900)) && !hearing.answered(a, at(3000)));
        assert_eq!(hearing.heard(at(6500)), [(a, true), (b, false)].into());
        assert!(!hearing.is_late(a, at(5400)) && hearing.is_late(a, at(5600)) && hearing.is_late(b, at(5400)));
        assert_eq!(hearing.heard(at(9500)), [(a, false), (b, false)].into());
        assert!(hearing.answered(b, at(9600)) && hearing.answered(a, at(9600)), "it had fallen silent");
        hearing.keep([b].into_iter(), at(9600));
        assert_eq!(hearing.heard(at(9700)), [(b, true)].into(), "it is back at once");
    }
}
