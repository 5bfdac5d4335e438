//! The header that the kernel puts before each packet of a TUN device with offloads: what it left to us, or we leave to
//! it. Pure. Linux, `include/uapi/linux/virtio_net.h`; numbers are in the machine's own order.

/// Its length in bytes.
pub(super) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP: u8 = 5;
/// Set beside the others where TCP's congestion bits are to be kept from being repeated.
const ECN: u8 = 0x80;

/// What a packet is to be cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// TCP segments.
    Tcp,
    /// UDP datagrams.
    Udp,
}

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Where the checksum starts, and how far from there its place is; at that place the pseudo header's sum is.
    pub(super) checksum: Option<(usize, usize)>,
    /// Into what the packet is to be cut, and the bytes of payload in each piece.
    pub(super) cut: Option<(Cut, usize)>,
}

/// A kind of packet that we did not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown;

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(super) fn read(bytes: &[u8; LENGTH]) -> Result<Self, Unknown> {
        let number = |at| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let checksum = (bytes[0] & NEEDS_CHECKSUM != 0).then(|| (number(6), number(8)));
        let cut = match bytes[1] & !ECN {
            0 => None,
            TCP_V4 | TCP_V6 => Some((Cut::Tcp, number(4))),
            UDP => Some((Cut::Udp, number(4))),
            _ => return Err(Unknown),
        };
        Ok(Self { checksum, cut })
    }

    /// Writes it for a packet of IPv4 or IPv6, whose headers end after `head` bytes.
    pub(super) fn write(self, bytes: &mut [u8; LENGTH], v4: bool, head: usize) {
        let mut put = |at: usize, number: usize| {
            let number = u16::try_from(number).expect("within a packet");
            bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        };
        let (start, offset) = self.checksum.unwrap_or_default();
        put(6, start);
        put(8, offset);
        put(2, if self.cut.is_some() { head } else { 0 });
        put(4, self.cut.map_or(0, |(_, size)| size));
        bytes[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        bytes[1] = match self.cut {
            None => 0,
            Some((Cut::Tcp, _)) if v4 => TCP_V4,
            Some((Cut::Tcp, _)) => TCP_V6,
            Some((Cut::Udp, _)) => UDP,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let cases = [
            Header::default(),
            Header { checksum: Some((20, 6)), cut: None },
            Header { checksum: Some((20, 16)), cut: Some((Cut::Tcp, 1_360)) },
            Header { checksum: Some((40, 6)), cut: Some((Cut::Udp, 1_200)) },
        ];
        for (header, v4) in cases.iter().flat_map(|h| [(h, true), (h, false)]) {
            let mut bytes = [0xff; LENGTH];
            header.write(&mut bytes, v4, 52);
            assert_eq!(Header::read(&bytes).as_ref(), Ok(header));
        }
        assert_eq!(Header::read(&[0; LENGTH]), Ok(Header::default()));
        assert_eq!(Header::read(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Unknown), "fragments of UDP are not asked for");
    }
}
