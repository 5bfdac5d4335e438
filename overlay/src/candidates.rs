//! Where a peer is tried. Pure. Its candidates are tried in turn, each for as long as a handshake needs, until it is heard;
//! then WireGuard follows it by itself, and the turn waits until it falls silent.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use crate::record::Candidate;

/// For one candidate: WireGuard tries again after 5 seconds, so there is one whole attempt in it.
const TRY: Duration = Duration::from_secs(6);

/// The candidates of one peer, and whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    candidates: Vec<SocketAddr>,
    at: usize,
    /// When this one's turn began, on a clock that only goes forward.
    since: Duration,
    /// It was heard, and has not been given up since.
    heard: bool,
}

impl Turn {
    /// Where the peer is to be tried at the time `now`; `None` if there is nothing to be tried, as it comes to us.
    pub fn endpoint(&mut self, candidates: Vec<SocketAddr>, heard: bool, now: Duration) -> Option<SocketAddr> {
        if candidates != self.candidates {
            // The one that works stays; whoever is silent begins anew with what is new.
            let current = self.current().filter(|_| heard);
            self.at = current.and_then(|c| candidates.iter().position(|other| *other == c)).unwrap_or(0);
            (self.candidates, self.since) = (candidates, now);
        } else if !heard && self.heard {
            // It has fallen silent: where it was heard is tried once more.
            self.since = now;
        } else if !heard && now.saturating_sub(self.since) >= TRY && !self.candidates.is_empty() {
            (self.at, self.since) = ((self.at + 1) % self.candidates.len(), now);
        }
        self.heard = heard;
        self.current()
    }

    fn current(&self) -> Option<SocketAddr> {
        self.candidates.get(self.at).copied()
    }
}

/// In which order candidates are tried: what its operator said; addresses in a subnet of ours; where others hear it;
/// the rest. Families that this host has no route for go last; our own addresses are nobody else's.
pub fn order(candidates: &[Candidate], ours: &[IpNet]) -> Vec<SocketAddr> {
    use crate::record::Source::{Local, Observed, Set};
    let near = |ip: IpAddr| ours.iter().any(|net| net.prefix_len() > 0 && net.contains(&ip));
    let own = |ip: IpAddr| ours.iter().any(|net| net.addr() == ip);
    let family = |ip: IpAddr| ours.iter().any(|net| net.addr().is_ipv4() == ip.is_ipv4());
    let usable = |c: &&Candidate| {
        let ip = c.address.ip();
        c.address.port() > 0 && !own(ip) && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()
    };
    let rank = |c: &Candidate| match c.source {
        _ if !family(c.address.ip()) => 9,
        Set => 0,
        Local if near(c.address.ip()) => 1,
        Observed => 2,
        Local if c.address.is_ipv4() => 3,
        Local => 4,
    };
    let mut usable: Vec<_> = candidates.iter().filter(usable).map(|c| (rank(c), c.address)).collect();
    usable.sort();
    let mut sorted = Vec::new();
    for (_, address) in usable {
        if !sorted.contains(&address) {
            sorted.push(address);
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 51820))
    }

    #[test]
    fn candidates_are_tried_in_turn_until_one_is_heard() {
        let mut turn = Turn::default();
        let all = vec![at(1), at(2)];
        let mut endpoint = |heard, seconds| turn.endpoint(all.clone(), heard, Duration::from_secs(seconds)).unwrap();
        assert_eq!([endpoint(false, 0), endpoint(false, 5), endpoint(false, 6)], [at(1), at(1), at(2)]);
        assert_eq!([endpoint(true, 8), endpoint(true, 100)], [at(2), at(2)], "it stays where it is heard");
        assert_eq!([endpoint(false, 101), endpoint(false, 106), endpoint(false, 107)], [at(2), at(2), at(1)]);
        assert_eq!(endpoint(false, 113), at(2), "and round again");
    }

    #[test]
    fn new_candidates_begin_anew_unless_the_peer_is_heard() {
        let mut turn = Turn::default();
        let second = Duration::from_secs;
        assert_eq!(turn.endpoint(vec![at(1)], true, second(0)), Some(at(1)));
        assert_eq!(turn.endpoint(vec![at(2), at(1)], true, second(1)), Some(at(1)), "it works");
        assert_eq!(turn.endpoint(vec![at(3), at(1)], false, second(2)), Some(at(3)));
        assert_eq!(turn.endpoint(Vec::new(), false, second(20)), None);
    }

    #[test]
    fn the_likely_ones_come_first() {
        let of = |source, text: &str| Candidate { source, address: text.parse().unwrap() };
        let candidates = [
            of(Source::Local, "192.168.9.9:1"),
            of(Source::Local, "[2001:db8::1]:1"),
            of(Source::Local, "10.0.0.9:1"),
            of(Source::Observed, "10.0.0.9:1"),
            of(Source::Observed, "203.0.113.1:7"),
            of(Source::Set, "198.51.100.1:1"),
            of(Source::Local, "10.0.0.5:1"),
            of(Source::Local, "127.0.0.1:1"),
            of(Source::Local, "192.0.2.1:0"),
        ];
        let ours: Vec<IpNet> = vec!["10.0.0.5/24".parse().unwrap()];
        let sorted: Vec<_> = order(&candidates, &ours).iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["198.51.100.1:1", "10.0.0.9:1", "203.0.113.1:7", "192.168.9.9:1", "[2001:db8::1]:1"]);
    }
}
