//! What the tunnel reads and writes of the packets that it carries: addresses, lengths, congestion marks, checksums.
//! Pure. Whatever is read here came from a stranger or a container: nothing is taken to be as long as it says.

use std::net::IpAddr;

/// Protocol numbers.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Flags of TCP. RFC 9293 section 3.1, and RFC 3168 for CWR.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const URG: u8 = 0x20;
pub(super) const CWR: u8 = 0x80;

const V4_HEAD: usize = 20;
const V6_HEAD: usize = 40;

/// The two bits of congestion notification: not able, able (two kinds), congested. RFC 3168, section 5.
pub(super) const NOT_ECT: u8 = 0b00;
pub(super) const CE: u8 = 0b11;

fn is_v4(packet: &[u8]) -> bool {
    packet.len() >= V4_HEAD && packet[0] >> 4 == 4
}

fn is_v6(packet: &[u8]) -> bool {
    packet.len() >= V6_HEAD && packet[0] >> 4 == 6
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// Where it goes; none if it is no IP packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet {
        p if is_v4(p) => Some(array::<4>(p, 16).into()),
        p if is_v6(p) => Some(array::<16>(p, 24).into()),
        _ => None,
    }
}

/// Its congestion mark.
pub(super) fn ecn(packet: &[u8]) -> u8 {
    match packet {
        p if is_v4(p) => p[1] & 0b11,
        p if is_v6(p) => p[1] >> 4 & 0b11,
        _ => NOT_ECT,
    }
}

/// Marks it as having met congestion.
pub(super) fn mark_congested(packet: &mut [u8]) {
    if is_v4(packet) {
        packet[1] |= CE;
        let head = usize::from(packet[0] & 0xf) * 4;
        if let Some(head) = packet.get_mut(..head.max(V4_HEAD)) {
            fill_v4_checksum(head);
        }
    } else if is_v6(packet) {
        packet[1] |= CE << 4;
    }
}

/// Writes the checksum of an IPv4 header.
pub(super) fn fill_v4_checksum(head: &mut [u8]) {
    head[10..12].fill(0);
    let checksum = !fold(sum(head, 0));
    head[10..12].copy_from_slice(&checksum.to_ne_bytes());
}

/// Adds `bytes` to a sum of the internet checksum, as words of this machine: RFC 1071, section 2 (B), so the result
/// is written down as it is, without turning its bytes. All pieces but the last have an even length.
pub(super) fn sum(bytes: &[u8], sum: u64) -> u64 {
    // Eight lanes, so that the compiler can add them at once.
    let mut lanes = [0u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, last) = rest.as_chunks::<2>();
    let rest: u64 = words.iter().map(|w| u64::from(u16::from_ne_bytes(*w))).sum();
    let last = last.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    sum + lanes.iter().sum::<u64>() + rest + last
}

/// The sixteen bits of a sum.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to sixteen bits")
}

/// The sum of what a transport's checksum covers beside its own bytes: RFC 9293, section 3.1, RFC 8200, section 8.1.
/// `packet` has a whole IP header; `length` is that of the transport's header and payload.
pub(super) fn pseudo_header(packet: &[u8], protocol: u8, length: usize) -> u64 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sum(&length.to_be_bytes(), sum(&[0, protocol], sum(addresses, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_the_rfc() {
        // RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 add up to ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)).to_ne_bytes(), [0xdd, 0xf2]);
        // However long it is: the same as word after word.
        let bytes: Vec<u8> = (0..=255).cycle().take(1_399).map(|b: u8| b.wrapping_mul(37)).collect();
        for length in [0, 1, 2, 3, 31, 32, 33, 63, 64, 1_398, 1_399] {
            let mut slow = 0u32;
            for pair in bytes[..length].chunks(2) {
                slow += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
                slow = (slow & 0xffff) + (slow >> 16);
            }
            assert_eq!(u16::from_be_bytes(fold(sum(&bytes[..length], 0)).to_ne_bytes()), u16::try_from(slow).unwrap());
        }
    }

    #[test]
    fn an_ipv4_header_is_marked_and_its_checksum_follows() {
        // The example of Wikipedia's page on the IPv4 header's checksum: b861.
        let mut head = *b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\x00\x00\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";
        fill_v4_checksum(&mut head);
        assert_eq!(head[10..12], [0xb8, 0x61]);
        assert_eq!(destination(&head), Some("192.168.0.199".parse().unwrap()));
        mark_congested(&mut head);
        assert_eq!(ecn(&head), CE);
        assert_eq!(!fold(sum(&head, 0)), 0, "a header with its checksum sums up to nothing");
    }

    #[test]
    fn an_ipv6_header_is_read_and_marked() {
        let mut head = [0; 40];
        head[0] = 0x60;
        head[39] = 7;
        assert_eq!(destination(&head), Some("::7".parse().unwrap()));
        assert_eq!(ecn(&head), NOT_ECT);
        mark_congested(&mut head);
        assert_eq!((ecn(&head), head[0]), (CE, 0x60));
    }

    #[test]
    fn what_is_no_packet_has_no_address() {
        for bytes in [&[][..], &[0x45], &[0x45; 19], &[0x60; 39], &[0xff; 60]] {
            assert_eq!(destination(bytes), None);
            mark_congested(&mut bytes.to_vec());
        }
        // A header that claims to be longer than the packet is.
        mark_congested(&mut [0x4f; 20]);
    }
}
