//! Packets in batches: one call of the system receives many, and one sends the replies.
//!
//! `recvmmsg(2)` and `sendmmsg(2)` want arrays of structures that point at each other. They are made for each call from
//! buffers that live as long as the batch, and nothing that points anywhere is kept beyond the call. This is the one
//! module with `unsafe` code.
#![allow(unsafe_code)]

use std::{
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use nix::libc;
use socket2::Socket;

/// Packets in one batch at the most.
const PACKETS: usize = 64;

/// Longer packets are no questions; what is beyond is cut off and makes them unreadable.
const PACKET_BYTES: usize = 4096;

/// Questions that came together, and a place for the reply to each.
pub(super) struct Batch {
    questions: Box<[[u8; PACKET_BYTES]]>,
    lengths: [usize; PACKETS],
    askers: Box<[Asker]>,
    replies: Box<[Vec<u8>]>,
}

/// Who sent a packet, and to which of our addresses: all that is needed to reply.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    name: libc::sockaddr_storage,
    name_bytes: libc::socklen_t,
    control: Control,
    control_bytes: usize,
}

/// Room for one control message of either family, aligned as control messages must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

const _: () = assert!(
    // SAFETY: computes a size, and touches no memory.
    unsafe { libc::CMSG_SPACE(few(size_of::<libc::in6_pktinfo>())) } as usize <= size_of::<Control>(),
    "the kernel's word on either family fits"
);

impl Default for Batch {
    fn default() -> Self {
        Self {
            questions: vec![[0; PACKET_BYTES]; PACKETS].into(),
            lengths: [0; PACKETS],
            askers: vec![Asker::nobody(); PACKETS].into(),
            replies: vec![Vec::new(); PACKETS].into(),
        }
    }
}

impl Batch {
    /// Waits for a packet, as long as the socket's receive timeout, and takes those that are there. Gives how many.
    ///
    /// # Errors
    /// What `recvmmsg` says; `WouldBlock` after the timeout.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        let mut parts = [EMPTY_PART; PACKETS];
        let mut headers = [EMPTY_HEADER; PACKETS];
        let places = self.questions.iter_mut().zip(self.askers.iter_mut());
        for ((question, asker), (part, header)) in places.zip(parts.iter_mut().zip(&mut headers)) {
            *part = libc::iovec { iov_base: question.as_mut_ptr().cast(), iov_len: PACKET_BYTES };
            asker.name_bytes = socklen(size_of::<libc::sockaddr_storage>());
            asker.control_bytes = size_of::<Control>();
            header.msg_hdr = asker.header(part);
        }
        // SAFETY: there are PACKETS headers, and each points at buffers of the lengths that it tells, which nothing else
        // uses until the call returns. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(fd(socket), headers.as_mut_ptr(), few(PACKETS), libc::MSG_WAITFORONE, ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (i, header) in headers.iter().enumerate().take(received) {
            self.lengths[i] = (header.msg_len as usize).min(PACKET_BYTES);
            self.askers[i].name_bytes = header.msg_hdr.msg_namelen;
            self.askers[i].control_bytes = header.msg_hdr.msg_controllen as _;
            self.askers[i].reply_by_any_interface();
        }
        Ok(received)
    }

    /// One of the packets that were received last, who sent it, and where the reply to it goes; one that stays empty is
    /// not sent.
    pub(super) fn packet(&mut self, i: usize) -> (&[u8], Asker, &mut Vec<u8>) {
        (&self.questions[i][..self.lengths[i]], self.askers[i], &mut self.replies[i])
    }

    /// Sends the replies to the first `count` packets. Those that cannot be sent are lost, as anything may be over UDP;
    /// gives how many, and why the last.
    pub(super) fn send(&mut self, socket: &Socket, count: usize) -> Result<(), (usize, io::Error)> {
        let mut parts = [EMPTY_PART; PACKETS];
        let mut headers = [EMPTY_HEADER; PACKETS];
        let mut ready = 0;
        for (reply, asker) in self.replies[..count].iter_mut().zip(self.askers.iter_mut()) {
            if !reply.is_empty() {
                parts[ready] = libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
                headers[ready].msg_hdr = asker.header(&mut parts[ready]);
                ready += 1;
            }
        }
        let (mut done, mut lost) = (0, None);
        while done < ready {
            let left = &mut headers[done..ready];
            // SAFETY: each header points at a reply and an asker of the lengths that it tells; they outlive the call.
            let sent = unsafe { libc::sendmmsg(fd(socket), left.as_mut_ptr(), few(left.len()), 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => {
                    let error = io::Error::last_os_error();
                    // Nobody takes any more for now; to wait for each would keep those who ask waiting.
                    let rest = if error.kind() == io::ErrorKind::WouldBlock { ready - done } else { 1 };
                    lost = Some((lost.map_or(0, |(lost, _)| lost) + rest, error));
                    done += rest;
                }
            }
        }
        lost.map_or(Ok(()), Err)
    }
}

/// Sends one reply.
///
/// # Errors
/// What `sendmsg` says.
pub(super) fn send_one(socket: &Socket, reply: &[u8], mut to: Asker) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
    let header = to.header(&mut part);
    // SAFETY: the header points at the reply, which is only read, and at `to`; both outlive the call.
    let sent = unsafe { libc::sendmsg(fd(socket), &raw const header, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Asker {
    fn nobody() -> Self {
        // SAFETY: an address of unspecified family; all bytes of it may be 0.
        let name = unsafe { mem::zeroed() };
        Self { name, name_bytes: 0, control: Control([0; 64]), control_bytes: 0 }
    }

    /// Where it is; none if the packet came from nowhere, as when the socket was shut down.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let name = ptr::from_ref(&self.name);
        match (libc::c_int::from(self.name.ss_family), self.name_bytes as usize) {
            (libc::AF_INET, bytes) if bytes >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the kernel wrote an address of this family and length, and storage is aligned for any.
                let address = unsafe { &*name.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some((ip, u16::from_be(address.sin_port)).into())
            }
            (libc::AF_INET6, bytes) if bytes >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let address = unsafe { &*name.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                Some((ip, u16::from_be(address.sin6_port)).into())
            }
            _ => None,
        }
    }

    /// A header with one part that points at the fields; right as long as neither is moved.
    fn header(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        let mut header = EMPTY_HEADER.msg_hdr;
        header.msg_name = ptr::from_mut(&mut self.name).cast();
        header.msg_namelen = self.name_bytes;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        if self.control_bytes > 0 {
            header.msg_control = self.control.0.as_mut_ptr().cast();
            header.msg_controllen = self.control_bytes as _;
        }
        header
    }

    /// The reply leaves from the address that was asked, by whatever interface leads to the asker: over IPv4 that may be
    /// another than the packet came in by. Over IPv6 an address may need its interface.
    fn reply_by_any_interface(&mut self) {
        let mut part = EMPTY_PART;
        let header = self.header(&mut part);
        // SAFETY: the header points at our control buffer, of which the kernel filled as much as it tells.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        if first.is_null() {
            return;
        }
        // SAFETY: it is not null, so it lies within the buffer and is aligned.
        let (level, kind) = unsafe { ((*first).cmsg_level, (*first).cmsg_type) };
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
            // SAFETY: the data behind a header of this kind is an `in_pktinfo`, perhaps unaligned.
            unsafe {
                let index = libc::CMSG_DATA(first).byte_add(mem::offset_of!(libc::in_pktinfo, ipi_ifindex));
                index.cast::<[u8; size_of::<libc::c_int>()]>().write([0; _]);
            }
        }
    }
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

// SAFETY: lengths of 0 and null pointers, where any are allowed.
const EMPTY_HEADER: libc::mmsghdr = unsafe { mem::zeroed() };

/// A number of bytes or packets of one batch.
#[allow(clippy::cast_possible_truncation)] // there are never more than a few thousand
const fn few(number: usize) -> libc::c_uint {
    number as libc::c_uint
}

fn fd(socket: &Socket) -> RawFd {
    socket.as_raw_fd()
}

fn socklen(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).expect("an address is short")
}

#[cfg(test)]
mod tests;
