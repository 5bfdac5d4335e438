//! Cuts what the kernel hands over whole, up to 64 KiB of one flow, into packets that fit the link; and completes
//! checksums that it left to be done. Pure.
//!
//! Nothing is copied: the headers of a piece are written over the end of the piece before, which has been dealt with.

use super::{
    packet::{self, CWR, FIN, PSH, TCP, UDP},
    vnet::{Cut, Header},
};

/// The longest headers of a packet that is cut: more than those of IPv4 and TCP with all options.
const HEAD_MAX: usize = 256;

const TCP_HEAD: usize = 20;
const UDP_HEAD: usize = 8;

/// A packet that is not what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit;

/// Gives each packet that `packet` stands for to `each`, in order.
pub(super) fn cut(header: Header, packet: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<(), Unfit> {
    let Some((kind, size)) = header.cut else {
        if let Some((start, offset)) = header.checksum {
            complete(packet, start, offset)?;
        }
        each(packet);
        return Ok(());
    };
    let (start, _) = header.checksum.ok_or(Unfit)?;
    let template = Template::of(kind, packet, start)?;
    let payload = packet.len() - template.length;
    if size == 0 {
        return Err(Unfit);
    }
    let pieces = payload.div_ceil(size).max(1);
    for i in 0..pieces {
        let at = i * size;
        let piece = &mut packet[at..(at + size).min(payload) + template.length];
        template.fill(piece, i, size, i + 1 == pieces);
        each(piece);
    }
    Ok(())
}

/// The checksum of what follows `start`, whose place holds the sum of the pseudo header.
fn complete(packet: &mut [u8], start: usize, offset: usize) -> Result<(), Unfit> {
    let at = start + offset;
    if packet.len() < at + 2 {
        return Err(Unfit);
    }
    let checksum = nonzero(!packet::fold(packet::sum(&packet[start..], 0)));
    packet[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    Ok(())
}

/// Zero means "no checksum" in UDP, where all ones mean the same as zero; in TCP both say the same. RFC 768.
fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The headers that all pieces begin with, but for a few fields.
struct Template {
    bytes: [u8; HEAD_MAX],
    length: usize,
    /// Where the transport's header starts.
    start: usize,
    kind: Cut,
    v4: bool,
}

impl Template {
    fn of(kind: Cut, packet: &[u8], start: usize) -> Result<Self, Unfit> {
        let v4 = match packet.first().ok_or(Unfit)? >> 4 {
            4 if start >= 20 => true,
            6 if start >= 40 => false,
            _ => return Err(Unfit),
        };
        let transport = match kind {
            Cut::Udp => UDP_HEAD,
            Cut::Tcp => usize::from(packet.get(start + 12).ok_or(Unfit)? >> 4) * 4,
        };
        let length = start + transport;
        if (kind == Cut::Tcp && transport < TCP_HEAD) || length > HEAD_MAX || length > packet.len() {
            return Err(Unfit);
        }
        let mut bytes = [0; HEAD_MAX];
        bytes[..length].copy_from_slice(&packet[..length]);
        Ok(Self { bytes, length, start, kind, v4 })
    }

    /// Writes the headers of the `i`th piece, each but the last of which has `size` bytes of payload.
    fn fill(&self, piece: &mut [u8], i: usize, size: usize, last: bool) {
        piece[..self.length].copy_from_slice(&self.bytes[..self.length]);
        let length = piece.len();
        self.fill_ip(&mut piece[..self.start], i, length);
        let (sum, at) = match self.kind {
            Cut::Tcp => {
                let tcp = &mut piece[self.start..];
                let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
                let sequence = sequence.wrapping_add(u32::try_from(i * size).expect("within a packet"));
                tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
                // What ends something is said once, at the end; that the window was reduced, at the beginning.
                tcp[13] &= if last { 0xff } else { !(FIN | PSH) };
                tcp[13] &= if i == 0 { 0xff } else { !CWR };
                (packet::pseudo_header(piece, TCP, length - self.start), self.start + 16)
            }
            Cut::Udp => {
                let datagram = u16::try_from(length - self.start).expect("within a packet");
                piece[self.start + 4..self.start + 6].copy_from_slice(&datagram.to_be_bytes());
                (packet::pseudo_header(piece, UDP, length - self.start), self.start + 6)
            }
        };
        piece[at..at + 2].fill(0);
        let checksum = nonzero(!packet::fold(packet::sum(&piece[self.start..], sum)));
        piece[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    }

    fn fill_ip(&self, head: &mut [u8], i: usize, length: usize) {
        if self.v4 {
            head[2..4].copy_from_slice(&u16::try_from(length).expect("within a packet").to_be_bytes());
            let number = u16::from_be_bytes([head[4], head[5]]).wrapping_add(u16::try_from(i).expect("few pieces"));
            head[4..6].copy_from_slice(&number.to_be_bytes());
            packet::fill_v4_checksum(head);
        } else {
            head[4..6].copy_from_slice(&u16::try_from(length - 40).expect("within a packet").to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::user::made::{Made, checksums_hold};

    fn pieces(header: Header, packet: &mut [u8]) -> Result<Vec<Vec<u8>>, Unfit> {
        let mut pieces = Vec::new();
        cut(header, packet, |piece| pieces.push(piece.to_vec())).map(|()| pieces)
    }

    #[test]
    fn a_flow_is_cut_into_what_its_sender_would_have_sent() {
        for (kind, v4) in [(Cut::Tcp, true), (Cut::Tcp, false), (Cut::Udp, true), (Cut::Udp, false)] {
            for (payload, size) in
                [(1, 1_360), (1_360, 1_360), (1_361, 1_360), (60_000, 1_360), (10, 1), (64_000, 1_000)]
            {
                let made = Made { kind, v4, payload, flags: 0x19, ..Made::default() };
                let (header, mut packet) = made.whole(size);
                let whole = packet.clone();
                let pieces = pieces(header, &mut packet).unwrap();
                assert_eq!(pieces.len(), usize::div_ceil(payload, size));
                let mut joined = Vec::new();
                for (i, piece) in pieces.iter().enumerate() {
                    assert!(checksums_hold(piece), "{made:?}: piece {i} of {size}");
                    assert_eq!(made.number(piece), if v4 { u16::try_from(i).unwrap() } else { 0 });
                    if kind == Cut::Tcp {
                        let last = i + 1 == pieces.len();
                        assert_eq!(made.flags(piece), if last { 0x19 } else { 0x10 });
                        assert_eq!(made.sequence(piece) as usize, made.sequence(&whole) as usize + i * size);
                    }
                    joined.extend_from_slice(&piece[made.head()..]);
                }
                assert!(joined == whole[made.head()..], "{made:?}: the payload is the same");
            }
        }
    }

    #[test]
    fn a_checksum_left_to_us_is_completed_and_another_is_not_touched() {
        for (kind, v4) in [(Cut::Tcp, true), (Cut::Udp, false)] {
            let made = Made { kind, v4, payload: 333, ..Made::default() };
            let (header, mut packet) = made.whole(1_400);
            let finished = pieces(Header { cut: None, ..header }, &mut packet).unwrap();
            assert!(checksums_hold(&finished[0]));
            assert_eq!(pieces(Header::default(), &mut packet).unwrap(), finished);
        }
    }

    #[test]
    fn that_the_window_was_reduced_is_said_once() {
        let made = Made { payload: 3_000, flags: 0x90, ..Made::default() };
        let (header, mut packet) = made.whole(1_000);
        let flags: Vec<_> = pieces(header, &mut packet).unwrap().iter().map(|piece| made.flags(piece)).collect();
        assert_eq!(flags, [0x90, 0x10, 0x10]);
    }

    #[test]
    fn what_its_header_does_not_fit_is_refused() {
        let (header, packet) = Made { payload: 3_000, ..Made::default() }.whole(1_000);
        let (start, offset) = header.checksum.unwrap();
        for (why, wrong) in [
            ("no size", Header { cut: Some((Cut::Tcp, 0)), ..header }),
            ("no place for the checksum", Header { checksum: None, ..header }),
            ("behind the end", Header { checksum: Some((60_000, offset)), ..header }),
            ("a checksum behind the end", Header { checksum: Some((start, 60_000)), cut: None }),
            ("inside the IP header", Header { checksum: Some((4, offset)), ..header }),
        ] {
            assert_eq!(pieces(wrong, &mut packet.clone()), Err(Unfit), "{why}");
        }
        assert_eq!(pieces(header, &mut []), Err(Unfit));
        assert_eq!(pieces(header, &mut packet[..39].to_vec()), Err(Unfit), "no whole TCP header");
    }
}
