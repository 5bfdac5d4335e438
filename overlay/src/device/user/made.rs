//! Packets made up for tests.

use super::{
    packet::{self, TCP, UDP},
    vnet::{Cut, Header},
};

/// A packet of a flow.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) kind: Cut,
    pub(super) v4: bool,
    pub(super) payload: usize,
    pub(super) sequence: u32,
    pub(super) number: u16,
    pub(super) flags: u8,
    pub(super) port: u16,
    pub(super) traffic: u8,
    pub(super) options: bool,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            kind: Cut::Tcp,
            v4: true,
            payload: 0,
            sequence: 1,
            number: 0,
            flags: 0x10,
            port: 80,
            traffic: 0,
            options: false,
        }
    }
}

impl Made {
    fn start(&self) -> usize {
        if self.v4 { 20 } else { 40 }
    }

    pub(super) fn head(&self) -> usize {
        self.start()
            + match self.kind {
                Cut::Udp => 8,
                Cut::Tcp if self.options => 32,
                Cut::Tcp => 20,
            }
    }

    /// As the kernel hands it over, to be cut into pieces of `size`.
    pub(super) fn whole(&self, size: usize) -> (Header, Vec<u8>) {
        let (start, head) = (self.start(), self.head());
        let mut packet = vec![0; head];
        packet.extend((0..self.payload).map(|i| u8::try_from(i * 37 % 251).unwrap()));
        let length = packet.len();
        let short = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        let protocol = if self.kind == Cut::Tcp { TCP } else { UDP };
        if self.v4 {
            packet[..2].copy_from_slice(&[0x45, self.traffic]);
            packet[2..4].copy_from_slice(&short(length));
            packet[4..6].copy_from_slice(&self.number.to_be_bytes());
            packet[6] = 0x40;
            packet[8..10].copy_from_slice(&[64, protocol]);
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            packet::fill_v4_checksum(&mut packet[..20]);
        } else {
            packet[..2].copy_from_slice(&[0x60, self.traffic << 4]);
            packet[4..6].copy_from_slice(&short(length - 40));
            packet[6..8].copy_from_slice(&[protocol, 64]);
            (packet[23], packet[39]) = (1, 2);
        }
        packet[start + 2..start + 4].copy_from_slice(&self.port.to_be_bytes());
        let offset = match self.kind {
            Cut::Tcp => {
                packet[start + 4..start + 8].copy_from_slice(&self.sequence.to_be_bytes());
                packet[start + 12] = u8::try_from((head - start) / 4).unwrap() << 4;
                packet[start + 13] = self.flags;
                16
            }
            Cut::Udp => {
                packet[start + 4..start + 6].copy_from_slice(&short(length - start));
                6
            }
        };
        let sum = packet::fold(packet::pseudo_header(&packet, protocol, length - start));
        packet[start + offset..start + offset + 2].copy_from_slice(&sum.to_ne_bytes());
        (Header { checksum: Some((start, offset)), cut: Some((self.kind, size)) }, packet)
    }

    pub(super) fn number(&self, packet: &[u8]) -> u16 {
        if self.v4 { u16::from_be_bytes([packet[4], packet[5]]) } else { 0 }
    }

    pub(super) fn sequence(&self, packet: &[u8]) -> u32 {
        u32::from_be_bytes(packet[self.start() + 4..self.start() + 8].try_into().unwrap())
    }

    pub(super) fn flags(&self, packet: &[u8]) -> u8 {
        packet[self.start() + 13]
    }
}

/// Whether a whole packet's lengths and checksums are right.
pub(super) fn checksums_hold(packet: &[u8]) -> bool {
    let (start, protocol, length) = match packet[0] >> 4 {
        4 => (20, packet[9], usize::from(u16::from_be_bytes([packet[2], packet[3]]))),
        _ => (40, packet[6], 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]))),
    };
    let head = start != 20 || !packet::fold(packet::sum(&packet[..20], 0)) == 0;
    let pseudo = packet::pseudo_header(packet, protocol, packet.len() - start);
    head && length == packet.len() && !packet::fold(packet::sum(&packet[start..], pseudo)) == 0
}
