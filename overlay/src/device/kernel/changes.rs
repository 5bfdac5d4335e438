//! What the kernel is told so that its peers become those that are wanted. Pure: nothing is told of who stays as it is,
//! so that its session and the place where it was last heard from stay too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardMessage,
    WireguardPeer, WireguardPeerAttribute as Attribute, WireguardPeerFlags,
};

use crate::{
    device::{Peer, PeerStatus},
    keys::PublicKey,
};

/// Peers that the kernel has, those that it was told by us, and those that are wanted: what to tell it, removals first.
pub(super) fn changes(
    there: &BTreeSet<PublicKey>,
    told: &BTreeMap<PublicKey, Peer>,
    wanted: &[Peer],
) -> Vec<WireguardPeer> {
    let stays: BTreeSet<_> = wanted.iter().map(|peer| peer.key).collect();
    let gone = there.difference(&stays).map(removal);
    let known = |peer: &Peer| told.get(&peer.key).filter(|_| there.contains(&peer.key));
    let changed = wanted.iter().filter(|peer| known(peer) != Some(peer));
    let leftover = |peer: &Peer| there.contains(&peer.key) && known(peer).is_none();
    gone.chain(changed.map(|peer| {
        // Where a peer of an earlier life was heard from last is better than what is written down.
        let same = leftover(peer) || known(peer).is_some_and(|told| told.endpoint == peer.endpoint);
        change(peer, peer.endpoint.filter(|_| !same))
    }))
    .collect()
}

fn removal(key: &PublicKey) -> WireguardPeer {
    WireguardPeer(vec![Attribute::PublicKey(*key.as_bytes()), Attribute::Flags(WireguardPeerFlags::RemoveMe)])
}

fn change(peer: &Peer, endpoint: Option<std::net::SocketAddr>) -> WireguardPeer {
    let seconds = peer.keepalive.map_or(0, |keepalive| u16::try_from(keepalive.as_secs()).unwrap_or(u16::MAX).max(1));
    let mut attributes = vec![
        Attribute::PublicKey(*peer.key.as_bytes()),
        Attribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        Attribute::PresharedKey(*peer.preshared.as_bytes()),
        Attribute::PersistentKeepalive(seconds),
    ];
    attributes.extend(endpoint.map(Attribute::Endpoint));
    attributes.push(Attribute::AllowedIps(peer.allowed.iter().map(|net| allowed(*net)).collect()));
    WireguardPeer(attributes)
}

fn allowed(net: IpNet) -> WireguardAllowedIp {
    let family = if net.addr().is_ipv4() { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.network()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ])
}

/// The peers that the kernel tells of, at the time `now`.
pub(super) fn peers(answers: &[WireguardMessage], now: SystemTime) -> Vec<PeerStatus> {
    // A peer whose addresses do not fit one message goes on in the next.
    let mut peers: BTreeMap<PublicKey, PeerStatus> = BTreeMap::new();
    for attribute in answers.iter().flat_map(|answer| &answer.attributes) {
        let WireguardAttribute::Peers(told) = attribute else { continue };
        for status in told.iter().filter_map(|peer| status(peer, now)) {
            peers.entry(status.key).or_insert(status);
        }
    }
    peers.into_values().collect()
}

fn status(peer: &WireguardPeer, now: SystemTime) -> Option<PeerStatus> {
    let key = peer.0.iter().find_map(|attribute| match attribute {
        Attribute::PublicKey(key) => Some(PublicKey::new(*key)),
        _ => None,
    })?;
    let mut status = PeerStatus { key, endpoint: None, handshake: None, received_bytes: 0, sent_bytes: 0 };
    for attribute in &peer.0 {
        match attribute {
            Attribute::Endpoint(endpoint) => status.endpoint = Some(*endpoint),
            Attribute::LastHandshake(at) if at.seconds > 0 => {
                let at = Duration::from_secs(at.seconds.unsigned_abs());
                status.handshake = Some(now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(at));
            }
            Attribute::RxBytes(bytes) => status.received_bytes = *bytes,
            Attribute::TxBytes(bytes) => status.sent_bytes = *bytes,
            _ => {}
        }
    }
    Some(status)
}

/// The key of the device that the kernel tells of.
pub(super) fn public_key(answers: &[WireguardMessage]) -> Option<PublicKey> {
    answers.iter().flat_map(|answer| &answer.attributes).find_map(|attribute| match attribute {
        WireguardAttribute::PublicKey(key) => Some(PublicKey::new(*key)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, slice::from_ref};

    use netlink_packet_wireguard::WireguardTimeSpec;

    use super::*;
    use crate::keys::PresharedKey;

    fn peer(n: u8) -> Peer {
        Peer {
            key: PublicKey::new([n; 32]),
            preshared: PresharedKey::new([100 + n; 32]),
            endpoint: Some(([192, 0, 2, n], 51_820).into()),
            allowed: [format!("10.210.{n}.0/24"), format!("fd00::{n}:0/112")].map(|net| net.parse().unwrap()).into(),
            keepalive: None,
        }
    }

    fn told(peers: &[Peer]) -> BTreeMap<PublicKey, Peer> {
        peers.iter().map(|peer| (peer.key, peer.clone())).collect()
    }

    /// The changes as one reads them.
    fn shown(there: &[u8], before: &[Peer], wanted: &[Peer]) -> Vec<String> {
        let there = there.iter().map(|n| PublicKey::new([*n; 32])).collect();
        let show = |peer: &WireguardPeer| {
            let attribute = |attribute: &Attribute| match attribute {
                Attribute::PublicKey(key) => key[0].to_string(),
                Attribute::Flags(flags) if *flags == WireguardPeerFlags::RemoveMe => " goes".into(),
                Attribute::Flags(flags) => {
                    assert_eq!(*flags, WireguardPeerFlags::ReplaceAllowedIps);
                    " is".into()
                }
                Attribute::PresharedKey(key) => format!(" {}", key[0]),
                Attribute::PersistentKeepalive(seconds) => format!(" every {seconds}"),
                Attribute::Endpoint(endpoint) => format!(" at {endpoint}"),
                Attribute::AllowedIps(nets) => format!(" for {}", nets.len()),
                other => panic!("{other:?}"),
            };
            peer.0.iter().map(attribute).collect::<String>()
        };
        changes(&there, &told(before), wanted).iter().map(show).collect()
    }

    #[test]
    fn only_what_changes_is_told() {
        let (one, two) = (peer(1), peer(2));
        assert_eq!(
            shown(&[], &[], &[one.clone(), two.clone()]),
            ["1 is 101 every 0 at 192.0.2.1:51820 for 2", "2 is 102 every 0 at 192.0.2.2:51820 for 2"]
        );
        assert!(shown(&[1, 2], &[one.clone(), two.clone()], &[two.clone(), one.clone()]).is_empty());
        assert_eq!(shown(&[1, 2], &[one.clone(), two.clone()], from_ref(&two)), ["1 goes"]);
        let often = Peer { keepalive: Some(Duration::from_secs(25)), ..one.clone() };
        assert_eq!(shown(&[1], from_ref(&one), &[often]), ["1 is 101 every 25 for 2"], "it stays where it is");
        let soon = Peer { keepalive: Some(Duration::from_millis(200)), ..one.clone() };
        assert_eq!(shown(&[1], from_ref(&one), &[soon]), ["1 is 101 every 1 for 2"], "the kernel knows whole seconds");
        let moved = Peer { endpoint: two.endpoint, ..one.clone() };
        assert_eq!(shown(&[1], from_ref(&one), &[moved]), ["1 is 101 every 0 at 192.0.2.2:51820 for 2"]);
        assert_eq!(shown(&[1, 9], &[], from_ref(&one)), ["9 goes", "1 is 101 every 0 for 2"], "of an earlier life");
        assert_eq!(
            shown(&[], from_ref(&one), from_ref(&one)),
            ["1 is 101 every 0 at 192.0.2.1:51820 for 2"],
            "somebody removed it by hand"
        );
    }

    #[test]
    fn addresses_are_told_as_prefixes() {
        let WireguardPeer(attributes) = change(&peer(3), None);
        let Some(Attribute::AllowedIps(nets)) = attributes.last() else { panic!("{attributes:?}") };
        let v4: IpAddr = "10.210.3.0".parse().unwrap();
        assert!(nets[0].0.contains(&WireguardAllowedIpAttr::IpAddr(v4)));
        assert!(nets[0].0.contains(&WireguardAllowedIpAttr::Cidr(24)));
        assert!(nets[1].0.contains(&WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv6)));
    }

    #[test]
    fn what_the_kernel_tells_of_peers_is_read() {
        let at = |seconds| WireguardTimeSpec { seconds, nano_seconds: 0 };
        let one = WireguardPeer(vec![
            Attribute::PublicKey([1; 32]),
            Attribute::Endpoint(([192, 0, 2, 1], 1).into()),
            Attribute::LastHandshake(at(1_000)),
            Attribute::RxBytes(5),
            Attribute::TxBytes(6),
        ]);
        let never = WireguardPeer(vec![Attribute::PublicKey([2; 32]), Attribute::LastHandshake(at(0))]);
        let more = WireguardPeer(vec![Attribute::PublicKey([1; 32])]);
        let answer =
            |attributes| WireguardMessage { cmd: netlink_packet_wireguard::WireguardCmd::GetDevice, attributes };
        let answers = [
            answer(vec![WireguardAttribute::PublicKey([9; 32]), WireguardAttribute::Peers(vec![one, never])]),
            answer(vec![WireguardAttribute::Peers(vec![more])]),
        ];
        let found = peers(&answers, UNIX_EPOCH + Duration::from_secs(1_030));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].received_bytes, found[0].sent_bytes), (5, 6));
        assert_eq!((found[0].handshake, found[1].handshake), (Some(Duration::from_secs(30)), None));
        assert_eq!(public_key(&answers), Some(PublicKey::new([9; 32])));
    }
}
