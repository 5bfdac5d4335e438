//! The least that a server does: `bench echo PORT BYTES` takes packets in batches as large as ours, and sends each back,
//! marked as a reply and made so many bytes long.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::UdpSocket,
    os::fd::AsRawFd,
    time::Duration,
};

use flotilla_tests::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use super::questions;

const PACKETS: usize = 64;
const PACKET_BYTES: usize = 1024;

/// Which byte of a packet of DNS, and which bit of it, tells that it is a reply.
const REPLY: (usize, u8) = (2, 0x80);

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running one.
pub(super) struct Echo {
    pub(super) program: Program,
    pub(super) port: u16,
}

impl Echo {
    pub(super) fn start(reply_bytes: usize) -> Self {
        let port = free_port();
        let args = ["echo".to_owned(), port.to_string(), reply_bytes.to_string()];
        Self { program: Launch::ours("bench").args(args).start(), port }
    }

    /// Waits until it does.
    pub(super) async fn answers(&self, packet: &[u8]) {
        let reply = eventually!("the echo answers", START_LIMIT, async { questions::ask(self.port, packet).await });
        assert_eq!(reply[REPLY.0 + 1..packet.len()], packet[REPLY.0 + 1..]);
    }
}

/// Is one, if these arguments ask for it, until something fails.
pub(crate) fn asked_for(args: &[String]) -> Option<io::Error> {
    let [echo, port, reply_bytes] = args else { return None };
    let (port, reply_bytes) = (port.parse().ok()?, reply_bytes.parse().ok()?);
    (echo == "echo").then(|| serve(port, reply_bytes).err()).flatten()
}

fn serve(port: u16, reply_bytes: usize) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let mut packets: Box<[_; PACKETS]> = vec![[0; PACKET_BYTES]; PACKETS].try_into().expect("it has as many");
    let mut headers = [(); 2].map(|()| MultiHeaders::<SockaddrIn>::preallocate(PACKETS, None));
    let mut askers = [None; PACKETS];
    loop {
        let mut parts = packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        let came = recvmmsg(socket.as_raw_fd(), &mut headers[0], &mut parts, MsgFlags::MSG_WAITFORONE, None)?;
        let mut count = 0;
        for packet in came {
            askers[count] = packet.address;
            count += 1;
        }
        for packet in &mut packets[..count] {
            packet[REPLY.0] |= REPLY.1;
        }
        let parts = packets.each_ref().map(|packet| [IoSlice::new(&packet[..reply_bytes])]);
        let (parts, askers) = (&parts[..count], &askers[..count]);
        let plain: [ControlMessage<'_>; 0] = [];
        sendmmsg(socket.as_raw_fd(), &mut headers[1], parts, askers, plain, MsgFlags::empty())?;
    }
}
