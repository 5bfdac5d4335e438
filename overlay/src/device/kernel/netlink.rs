//! One request to the kernel and its answer: a call that waits, since the kernel answers at once.

use std::{io, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
        NetlinkSerializable,
    },
    sys::{Socket, SocketAddr},
};

/// Whoever waits longer for the kernel waits for ever; in milliseconds.
const LIMIT: u16 = 5_000;
/// Messages begin at multiples of this many bytes.
const ALIGNED: usize = 4;

/// A line to one part of the kernel, in the network namespace of the thread that made it.
pub(super) struct Line {
    socket: Socket,
    sequence: u32,
}

impl Line {
    /// To the part of this number.
    pub(super) fn to(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks `what`, with these flags besides, and returns all that is answered.
    pub(super) fn ask<T>(&mut self, what: impl Into<NetlinkPayload<T>>, flags: u16) -> io::Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), what.into());
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            self.wait()?;
            let (bytes, _) = self.socket.recv_from_full()?;
            if read(&bytes, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut answer = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut answer, PollTimeout::from(LIMIT))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer")),
            _ => Ok(()),
        }
    }
}

/// Reads the messages in `bytes` that answer the request of this number; whether it was the last of them.
fn read<T: NetlinkDeserializable>(bytes: &[u8], sequence: u32, answers: &mut Vec<T>) -> io::Result<bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<T>::deserialize(rest).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1).next_multiple_of(ALIGNED);
        rest = rest.get(length..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(answer) if answer.code.is_none() => return Ok(true),
            NetlinkPayload::Error(answer) => return Err(answer.to_io()),
            NetlinkPayload::InnerMessage(inner) => answers.push(inner),
            _ => {}
        }
    }
    Ok(false)
}
