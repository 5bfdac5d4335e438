//! Joins packets of one flow that came one after the other, so that the kernel takes them at once. Pure.
//!
//! Joined is what the kernel's own receive offload would have joined: TCP segments or UDP datagrams that continue each
//! other exactly, alike in all else, and of one size but for the last. Only neighbours are joined, so no packet
//! overtakes another. Checksums inside are not looked at again: the packet came as its sender sealed it, which is all
//! that they could show, and kernel WireGuard tells its own receive offload the same.

use super::{
    packet::{self, CWR, FIN, PSH, RST, SYN, TCP, UDP, URG},
    vnet::{self, Cut, Header},
};

/// The largest packet, by its own length field.
const PACKET_MAX: usize = 65_535;
/// More pieces of one packet than this are refused by older kernels.
const PIECES_MAX: usize = 64;

const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
const DONT_FRAGMENT: u8 = 0x40;

/// Packets on their way to the kernel: at most one, which others may still join.
pub(super) struct Joiner {
    /// The kernel's header, then the packet.
    buffer: Vec<u8>,
    /// The length of both.
    end: usize,
    open: Option<Open>,
    udp: bool,
}

/// What the packet that may grow looks like.
#[derive(Clone, Copy)]
struct Open {
    shape: Shape,
    pieces: usize,
    /// What the sequence number of the next piece must be.
    next: u32,
    /// Whether nothing may follow.
    closed: bool,
}

/// Where the parts of a packet are that may be joined with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: Cut,
    v4: bool,
    /// Where the transport's header starts.
    start: usize,
    /// Where the payload starts.
    head: usize,
    payload: usize,
    sequence: u32,
}

impl Joiner {
    /// Of a device that takes joined UDP datagrams, or none.
    pub(super) fn new(udp: bool) -> Self {
        Self { buffer: vec![0; vnet::LENGTH + PACKET_MAX], end: 0, open: None, udp }
    }

    /// Takes one more packet, and gives `write` what nothing more can join: the kernel's header and a packet.
    pub(super) fn push(&mut self, packet: &[u8], mut write: impl FnMut(&[u8])) {
        if packet.len() > PACKET_MAX {
            return;
        }
        let shape = Shape::of(packet).filter(|s| s.kind == Cut::Tcp || self.udp);
        if shape.is_some_and(|shape| self.append(&shape, packet)) {
            return;
        }
        self.flush(&mut write);
        self.end = vnet::LENGTH + packet.len();
        self.buffer[vnet::LENGTH..self.end].copy_from_slice(packet);
        self.open = shape.map(|shape| Open {
            shape,
            pieces: 1,
            next: shape.sequence.wrapping_add(u32::try_from(shape.payload).expect("within a packet")),
            closed: shape.kind == Cut::Tcp && packet[shape.start + 13] & (PSH | FIN) != 0,
        });
        if self.open.is_none() {
            self.flush(&mut write);
        }
    }

    /// Gives `write` what waits for more.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8])) {
        if self.end == 0 {
            return;
        }
        let (header, packet) = self.buffer[..self.end].split_at_mut(vnet::LENGTH);
        let header = header.try_into().expect("split at its length");
        match self.open.take() {
            Some(open) if open.pieces > 1 => open.shape.finish(header, packet),
            _ => Header::default().write(header, true, 0),
        }
        write(&self.buffer[..self.end]);
        self.end = 0;
    }

    /// Joins `packet`, if it fits.
    fn append(&mut self, shape: &Shape, packet: &[u8]) -> bool {
        let Some(open) = &mut self.open else { return false };
        let whole = &mut self.buffer[vnet::LENGTH..self.end];
        if open.closed
            || open.pieces == PIECES_MAX
            || whole.len() + shape.payload > PACKET_MAX
            || !open.shape.continues(whole, shape, packet, open.pieces, open.next)
        {
            return false;
        }
        if shape.kind == Cut::Tcp {
            let flags = packet[shape.start + 13] & (PSH | FIN);
            whole[shape.start + 13] |= flags;
            open.closed = flags != 0;
        }
        open.closed |= shape.payload < open.shape.payload;
        open.pieces += 1;
        open.next = open.next.wrapping_add(u32::try_from(shape.payload).expect("within a packet"));
        let end = self.end + shape.payload;
        self.buffer[self.end..end].copy_from_slice(&packet[shape.head..]);
        self.end = end;
        true
    }
}

impl Shape {
    /// The shape of `packet`; none if it is never joined.
    fn of(packet: &[u8]) -> Option<Self> {
        let (v4, start, protocol) = match packet.first()? >> 4 {
            // With options it is never joined.
            4 if packet[0] == 0x45 && packet.len() >= 20 => {
                let fragment = u16::from_be_bytes([packet[6], packet[7]]) & MORE_FRAGMENTS_OR_OFFSET != 0;
                let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                (!fragment && length == packet.len()).then_some((true, 20, packet[9]))?
            }
            6 if packet.len() >= 40 => {
                let length = usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40;
                (length == packet.len()).then_some((false, 40, packet[6]))?
            }
            _ => return None,
        };
        let (kind, head) = match protocol {
            TCP if packet.len() >= start + 20 => {
                let flags = packet[start + 13];
                let head = start + usize::from(packet[start + 12] >> 4) * 4;
                (flags & (SYN | RST | URG | CWR) == 0 && head >= start + 20).then_some((Cut::Tcp, head))?
            }
            UDP if packet.len() >= start + 8 => {
                let length = usize::from(u16::from_be_bytes([packet[start + 4], packet[start + 5]]));
                let checked = packet[start + 6..start + 8] != [0, 0];
                (length == packet.len() - start && checked).then_some((Cut::Udp, start + 8))?
            }
            _ => return None,
        };
        let payload = packet.len().checked_sub(head).filter(|&n| n > 0)?;
        let sequence = match kind {
            Cut::Tcp => u32::from_be_bytes(packet[start + 4..start + 8].try_into().ok()?),
            Cut::Udp => 0,
        };
        Some(Self { kind, v4, start, head, payload, sequence })
    }

    /// Whether `packet`, of the shape `other`, goes on where `whole` ends, which is of this shape and has `pieces`.
    fn continues(&self, whole: &[u8], other: &Self, packet: &[u8], pieces: usize, next: u32) -> bool {
        let start = self.start;
        other.kind == self.kind
            && other.v4 == self.v4
            && other.head == self.head
            && other.payload <= self.payload
            && self.same_ip(whole, packet, pieces)
            // Ports.
            && whole[start..start + 4] == packet[start..start + 4]
            && (self.kind == Cut::Udp
                || (other.sequence == next
                    // Acknowledgement and data offset, flags, window, urgent pointer and options.
                    && whole[start + 8..start + 13] == packet[start + 8..start + 13]
                    && (whole[start + 13] ^ packet[start + 13]) & !(PSH | FIN) == 0
                    && whole[start + 14..start + 16] == packet[start + 14..start + 16]
                    && whole[start + 18..self.head] == packet[start + 18..self.head]))
    }

    /// Whether the IP headers say the same, lengths aside.
    fn same_ip(&self, whole: &[u8], packet: &[u8], pieces: usize) -> bool {
        if !self.v4 {
            return whole[..4] == packet[..4] && whole[7..40] == packet[7..40];
        }
        let number = |p: &[u8]| u16::from_be_bytes([p[4], p[5]]);
        let ahead = usize::from(number(packet).wrapping_sub(number(whole)));
        // Numbered on, or never to be put together from fragments, so that the number means nothing. RFC 6864.
        let numbered = ahead == pieces || (ahead == 0 && whole[6] & DONT_FRAGMENT != 0);
        numbered
            && whole[1] == packet[1]
            && whole[6] == packet[6]
            && whole[8..10] == packet[8..10]
            && whole[12..20] == packet[12..20]
    }

    /// Makes the headers of `packet` those of one that is to be cut into pieces of this shape.
    fn finish(&self, header: &mut [u8; vnet::LENGTH], packet: &mut [u8]) {
        let length = packet.len();
        let short = |n: usize| u16::try_from(n).expect("within a packet").to_be_bytes();
        if self.v4 {
            packet[2..4].copy_from_slice(&short(length));
            packet::fill_v4_checksum(&mut packet[..self.start]);
        } else {
            packet[4..6].copy_from_slice(&short(length - 40));
        }
        let (protocol, offset) = match self.kind {
            Cut::Tcp => (TCP, 16),
            Cut::Udp => {
                packet[self.start + 4..self.start + 6].copy_from_slice(&short(length - self.start));
                (UDP, 6)
            }
        };
        let sum = packet::fold(packet::pseudo_header(packet, protocol, length - self.start));
        packet[self.start + offset..self.start + offset + 2].copy_from_slice(&sum.to_ne_bytes());
        let header_of = Header { checksum: Some((self.start, offset)), cut: Some((self.kind, self.payload)) };
        header_of.write(header, self.v4, self.head);
    }
}

/// The packet without its checksums, and without a number that means nothing, where it could have been joined.
#[cfg(any(test, fuzzing))]
pub(super) fn without_checksum(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(shape) = Shape::of(&packet) {
        let at = shape.start + if shape.kind == Cut::Tcp { 16 } else { 6 };
        packet[at..at + 2].fill(0);
        if shape.v4 {
            packet[10..12].fill(0);
            if packet[6] & DONT_FRAGMENT != 0 {
                packet[4..6].fill(0);
            }
        }
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::user::{
        cut::cut,
        made::{Made, checksums_hold},
    };

    /// What is written when these packets come.
    fn joined(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut joiner, mut written) = (Joiner::new(true), Vec::new());
        for packet in packets {
            joiner.push(packet, |bytes| written.push(bytes.to_vec()));
        }
        joiner.flush(|bytes| written.push(bytes.to_vec()));
        written
    }

    /// The packets that the kernel makes of what is written.
    fn delivered(written: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for bytes in written {
            let (header, packet) = bytes.split_first_chunk().unwrap();
            let mut packet = packet.to_vec();
            cut(Header::read(header).unwrap(), &mut packet, |piece| packets.push(piece.to_vec())).unwrap();
        }
        packets
    }

    fn pieces(made: &Made, size: usize) -> Vec<Vec<u8>> {
        let (header, mut packet) = made.whole(size);
        let mut pieces = Vec::new();
        cut(header, &mut packet, |piece| pieces.push(piece.to_vec())).unwrap();
        pieces
    }

    #[test]
    fn a_flow_is_joined_into_what_can_be_cut_into_the_same() {
        for (kind, v4) in [(Cut::Tcp, true), (Cut::Tcp, false), (Cut::Udp, true), (Cut::Udp, false)] {
            for (payload, writes) in [(500, 1), (1_361, 1), (50_000, 1), (63_000, 1)] {
                let made = Made { kind, v4, payload, flags: 0x18, ..Made::default() };
                let packets = pieces(&made, 1_360);
                let written = joined(&packets);
                assert_eq!(written.len(), writes, "{made:?}");
                assert!(delivered(&written) == packets, "{made:?}: exactly what was sent");
                assert!(delivered(&written).iter().all(|packet| checksums_hold(packet)));
            }
        }
    }

    #[test]
    fn no_more_is_joined_than_the_kernel_takes() {
        let small = pieces(&Made { payload: 6_500, ..Made::default() }, 50);
        assert_eq!(joined(&small).len(), 3, "130 pieces, of which 64 go together");
        let two = [
            pieces(&Made { payload: 40_000, ..Made::default() }, 1_000),
            pieces(&Made { payload: 40_000, sequence: 40_001, number: 40, ..Made::default() }, 1_000),
        ]
        .concat();
        let written = joined(&two);
        assert!(written.len() == 2 && written.iter().all(|bytes| bytes.len() <= vnet::LENGTH + PACKET_MAX));
        assert!(delivered(&written) == two);
    }

    #[test]
    fn what_differs_is_not_joined() {
        let first = Made { payload: 1_000, ..Made::default() };
        let next = Made { sequence: first.sequence + 1_000, number: 1, ..first.clone() };
        let one = |made: &Made| pieces(made, 9_000).remove(0);
        let writes = |second: Vec<u8>| {
            let packets = [one(&first), second];
            let written = joined(&packets);
            assert!(delivered(&written) == packets, "in order and unchanged, joined or not");
            written.len()
        };
        assert_eq!(writes(one(&next)), 1, "the next is joined");
        assert_eq!(writes(one(&Made { payload: 1, ..next.clone() })), 1, "also if it is shorter");
        for (why, other) in [
            ("it is longer", Made { payload: 1_001, ..next.clone() }),
            ("there is a gap", Made { sequence: next.sequence + 1, ..next.clone() }),
            ("it is the same again", Made { sequence: first.sequence, ..next.clone() }),
            ("another port", Made { port: 81, ..next.clone() }),
            ("another congestion mark", Made { traffic: 3, ..next.clone() }),
            ("it is numbered otherwise", Made { number: 7, ..next.clone() }),
            ("it begins a connection", Made { flags: 0x12, ..next.clone() }),
            ("it ends one abruptly", Made { flags: 0x14, ..next.clone() }),
            ("it has other options", Made { options: true, ..next.clone() }),
            ("another protocol", Made { kind: Cut::Udp, ..next.clone() }),
            ("another family", Made { v4: false, ..next.clone() }),
            ("nothing in it", Made { payload: 0, ..next.clone() }),
        ] {
            assert_eq!(writes(one(&other)), 2, "{why}");
        }
        let mut fragment = one(&next);
        fragment[6] |= 0x20;
        packet::fill_v4_checksum(&mut fragment[..20]);
        assert_eq!(writes(fragment), 2, "a fragment");
        let pushed = [one(&Made { flags: 0x18, ..first.clone() }), one(&next)];
        assert_eq!(joined(&pushed).len(), 2, "nothing goes behind what is to be delivered at once");
        let unchecked = |made: &Made| {
            let mut packet = one(&Made { kind: Cut::Udp, ..made.clone() });
            packet[26..28].fill(0);
            packet
        };
        assert_eq!(joined(&[unchecked(&first), unchecked(&next)]).len(), 2, "datagrams without a checksum stay so");
        let mut without = Joiner::new(false);
        let mut written = 0;
        for made in [&first, &next] {
            without.push(&one(&Made { kind: Cut::Udp, ..made.clone() }), |_| written += 1);
        }
        assert_eq!(written, 2, "by a device that does not take joined datagrams");
    }

    #[test]
    fn whatever_comes_is_delivered_as_it_came() {
        use rand::{RngExt, SeedableRng, rngs::StdRng};
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..300 {
            let mut packets = Vec::new();
            for _ in 0..random.random_range(1..5) {
                let kind = if random.random() { Cut::Tcp } else { Cut::Udp };
                let payload = random.random_range(0..8_000);
                let made = Made { kind, v4: random.random(), payload, options: random.random(), ..Made::default() };
                packets.extend(pieces(&made, random.random_range(1..2_000).max(payload / 100)));
            }
            for _ in 0..random.random_range(0..4) {
                let n = random.random_range(0..packets.len());
                match (random.random_range(0..3), random.random_range(0..packets[n].len())) {
                    (0, at) => packets[n][at] ^= 1 << random.random_range(0..8),
                    (1, at) => packets[n].truncate(at.max(1)),
                    _ => packets[n] = (0..random.random_range(1..200)).map(|_| random.random()).collect(),
                }
            }
            // A checksum that was wrong may have been made right: what it covers was sealed by its sender.
            let blind = |packets: &[Vec<u8>]| packets.iter().map(|p| without_checksum(p)).collect::<Vec<_>>();
            assert!(blind(&delivered(&joined(&packets))) == blind(&packets));
        }
    }
}
