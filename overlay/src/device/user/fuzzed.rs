//! Packets of containers and of other hosts: none panics. What is joined for the kernel is what came, once it is cut again;
//! what is cut loses and adds nothing. The first byte says which: packets, each behind its length, or one packet behind the
//! kernel's header.

use super::{
    cut::{Unfit, cut},
    join::{Joiner, without_checksum},
    made::Made,
    packet, vnet,
    vnet::{Cut, Header},
};

fn behind_lengths(packets: &[Vec<u8>]) -> Vec<u8> {
    let one = |packet: &Vec<u8>| [&u16::try_from(packet.len()).expect("a packet").to_be_bytes()[..], packet].concat();
    packets.iter().flat_map(one).collect()
}

/// The packets that `header` and `packet` stand for.
fn pieces(header: Header, mut packet: Vec<u8>) -> Result<Vec<Vec<u8>>, Unfit> {
    let mut pieces = Vec::new();
    cut(header, &mut packet, |piece| pieces.push(piece.to_vec()))?;
    Ok(pieces)
}

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, v4) in [(Cut::Tcp, true), (Cut::Tcp, false), (Cut::Udp, true), (Cut::Udp, false)] {
        for (payload, flags, options) in [(300, 0x18, false), (250, 0x11, true), (0, 0x02, false)] {
            let made = Made { kind, v4, payload, flags, options, ..Made::default() };
            let (header, packet) = made.whole(100);
            let mut head = [0; vnet::LENGTH];
            header.write(&mut head, v4, made.head());
            seeds.push([&[1][..], &head, &packet].concat());
            seeds.push([&[0][..], &behind_lengths(&pieces(header, packet).expect("a packet"))].concat());
        }
    }
    seeds
}

/// One input.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((kind, rest)) if kind % 2 == 0 => joined(rest),
        Some((_, rest)) => parted(rest),
        None => {}
    }
}

fn parted(data: &[u8]) {
    let Some((head, packet)) = data.split_first_chunk() else { return };
    let Ok(header) = Header::read(head) else { return };
    let Ok(pieces) = pieces(header, packet.to_vec()) else { return };
    let Some((_, size)) = header.cut else { return assert_eq!(pieces.len(), 1) };
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= packet.len()));
    // Each piece but one has headers of its own.
    let (start, _) = header.checksum.expect("else it is unfit");
    let (copies, added) = (pieces.len() - 1, pieces.iter().map(Vec::len).sum::<usize>() - packet.len());
    assert!(if copies == 0 { added == 0 } else { added % copies == 0 && added / copies >= start && size > 0 });
}

fn joined(mut data: &[u8]) {
    let mut packets = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (packet, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*length).into()));
        packets.push(packet.to_vec());
        data = rest;
    }
    let (mut joiner, mut written) = (Joiner::new(true), Vec::new());
    for packet in &packets {
        packet::destination(packet);
        packet::mark_congested(&mut packet.clone());
        joiner.push(packet, |bytes| written.push(bytes.to_vec()));
    }
    joiner.flush(|bytes| written.push(bytes.to_vec()));
    let delivered = written.iter().flat_map(|bytes| {
        let (header, packet) = bytes.split_first_chunk().expect("a header");
        pieces(Header::read(header).expect("a header that we wrote"), packet.to_vec()).expect("a packet that we made")
    });
    // Checksums inside may have been made right.
    let blind = |packets: Vec<Vec<u8>>| packets.iter().map(|packet| without_checksum(packet)).collect::<Vec<_>>();
    assert_eq!(blind(delivered.collect()), blind(packets));
}
