//! How many replies one network gets over UDP. Who asks in its name, so that the replies flood it, is held to that.
//!
//! Counts are per second, in a table of fixed size: networks that fall on one place of it share what they get, and since
//! the places follow from a secret, nobody can choose with whom.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use ipnet::IpNet;

use super::DnsConfig;

/// Places of the table; 512 KiB.
const PLACES: usize = 1 << 16;

/// What may be sent to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The reply.
    Reply,
    /// That it is to come over TCP: [`super::cut`].
    Cut,
    /// Nothing.
    Nothing,
}

/// Counts replies by network. Many threads may ask it at once.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    trusted: Vec<IpNet>,
    secret: u64,
    /// The second, and how many questions came in it.
    places: Box<[AtomicU64]>,
}

impl RateLimit {
    /// The limit that `config` sets, if it does. Its resolvers that are trusted have none.
    pub fn new(config: &DnsConfig, secret: u64) -> Option<Self> {
        let places = || (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let (per_second, trusted) = (config.response_rate_limit, config.trusted_resolvers.clone());
        (per_second > 0).then(|| Self { per_second, trusted, secret, places: places() })
    }

    /// Counts a question, and says what may be sent. Beyond the limit every second one is told to come over TCP, so that
    /// who really is in that network gets on. Allocates nothing.
    pub fn count(&self, from: IpAddr, unix_seconds: u32) -> Allowed {
        let from = from.to_canonical();
        let beyond = self.counted(from, unix_seconds).checked_sub(self.per_second);
        match beyond {
            None | Some(0) => Allowed::Reply,
            Some(_) if from.is_loopback() || self.trusted.iter().any(|net| net.contains(&from)) => Allowed::Reply,
            Some(beyond) if beyond % 2 == 1 => Allowed::Cut,
            Some(_) => Allowed::Nothing,
        }
    }

    /// How many questions came from that network in this second, with this one.
    fn counted(&self, from: IpAddr, second: u32) -> u32 {
        let count = |then: u64| {
            let (then, count) = parts(then);
            let count = if then == second { count.saturating_add(1) } else { 1 };
            u64::from(second) << 32 | u64::from(count)
        };
        let place = &self.places[self.place(from)];
        let before = place.fetch_update(Relaxed, Relaxed, |then| Some(count(then)));
        parts(count(before.unwrap_or_default())).1
    }

    fn place(&self, from: IpAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.secret, network(from)).hash(&mut hasher);
        usize::try_from(hasher.finish() % PLACES as u64).expect("it is less than a usize")
    }
}

/// The second and the count of a place.
fn parts(place: u64) -> (u32, u32) {
    let [half, other] = [place >> 32, place & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or_default());
    (half, other)
}

/// The /24 or /56 of an address: what one site has, about.
fn network(ip: IpAddr) -> IpNet {
    let bits = if ip.is_ipv4() { 24 } else { 56 };
    IpNet::new_assert(ip, bits).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of so many questions a second gets: `r`eply, `c`ut, or nothing.
    fn told(limit: &RateLimit, from: &str, second: u32, questions: usize) -> String {
        let one = |_| match limit.count(from.parse().unwrap(), second) {
            Allowed::Reply => 'r',
            Allowed::Cut => 'c',
            Allowed::Nothing => '-',
        };
        (0..questions).map(one).collect()
    }

    fn limit(per_second: u32) -> RateLimit {
        let trusted_resolvers = vec!["10.1.0.0/16".parse().unwrap()];
        let config = DnsConfig { response_rate_limit: per_second, trusted_resolvers, ..DnsConfig::default() };
        RateLimit::new(&config, 1).expect("a limit")
    }

    #[test]
    fn a_network_gets_so_many_replies_a_second() {
        let limit = limit(3);
        assert_eq!(told(&limit, "192.0.2.1", 100, 8), "rrrc-c-c");
        assert_eq!(told(&limit, "192.0.2.250", 100, 2), "-c", "another host of that network");
        assert_eq!(told(&limit, "::ffff:192.0.2.7", 100, 2), "-c", "and over IPv6 sockets");
        assert_eq!(told(&limit, "192.0.3.1", 100, 4), "rrrc", "another network");
        assert_eq!(told(&limit, "192.0.2.1", 101, 4), "rrrc", "the next second");
        assert_eq!(told(&limit, "192.0.2.1", 90, 4), "rrrc", "a clock that was put back");
        assert_eq!(told(&limit, "2001:db8::1", 100, 4), "rrrc");
        assert_eq!(told(&limit, "2001:db8:0:ff::1", 100, 2), "-c", "the same /56");
        assert_eq!(told(&limit, "2001:db8:0:100::1", 100, 4), "rrrc", "another /56");
    }

    #[test]
    fn this_host_and_trusted_resolvers_have_no_limit() {
        let limit = limit(1);
        for from in ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!(told(&limit, from, 5, 5), "rrrrr", "{from}");
        }
        assert_eq!(told(&limit, "10.2.0.1", 5, 3), "rc-");
    }

    #[test]
    fn without_a_setting_there_is_no_table() {
        assert!(RateLimit::new(&DnsConfig::default(), 1).is_none());
    }

    /// Each of many networks is counted by itself, but for the few that share a place.
    #[test]
    fn networks_are_spread_over_the_table() {
        let limit = limit(1);
        let first = (0..2000_u32).map(|i| IpAddr::from((0x0b00_0000 + (i << 8)).to_be_bytes()));
        let replies = first.filter(|from| limit.count(*from, 9) == Allowed::Reply).count();
        assert!(replies > 1900, "{replies} of 2000 had their first question answered");
    }

    /// Threads that count at once lose nothing.
    #[test]
    fn many_threads_share_one_limit() {
        let limit = limit(1000);
        let replies = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let allowed = limit.count([192, 0, 2, 1].into(), 7);
                        replies.fetch_add(u64::from(allowed == Allowed::Reply), Relaxed);
                    }
                });
            }
        });
        assert_eq!(replies.into_inner(), 1000);
    }
}
