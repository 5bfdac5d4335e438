//! How large a packet the way to each peer takes. Pure: says which sizes to ask with, and hears which were answered. No
//! message of a router is needed, so a way that swallows large packets in silence is found out, too (RFC 8899). What is
//! not known to get through is not used: a way begins with what any takes, and gets more as soon as that is answered.

/// What is sent as long as nothing is known: IPv6 has to get through, and ways that cannot carry it with WireGuard around
/// it are rare.
pub const START: u16 = 1280;
/// Nothing smaller is tried. It takes IPv4 only.
const LOWEST: u16 = 576;
/// So close the largest size is found.
const GRAIN: u16 = 8;
/// Sizes of one round.
const SPREAD: u16 = 8;
/// A size that was answered in none of so many rounds does not get through. Others of them were answered, or smaller
/// ones, so the peer is there.
const ROUNDS: u8 = 2;
/// From the second round on each size is sent so often: one lost packet says nothing.
const COPIES: usize = 3;
/// A way on which little is sent is looked at in every so manieth round.
const IDLE_ROUNDS: u16 = 15;
/// After so many rounds more is tried again, if not all got through: 10 minutes.
const RAISE_ROUNDS: u16 = 300;

/// What is known of one way. Sizes are those of packets within the tunnel, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The largest that is wanted.
    max: u16,
    /// This gets through, or is assumed to.
    good: u16,
    /// It was answered.
    known: bool,
    /// This does not, or is not wanted.
    bad: u16,
    /// The sizes of this round, rising.
    asked: Vec<u16>,
    /// The largest that was answered of them.
    answered: Option<u16>,
    /// Rounds in which the same was not answered.
    silent: u8,
    /// Rounds since something was found.
    rounds: u16,
}

impl Way {
    /// One of which nothing is known, where packets of `max` bytes would be wanted.
    pub fn new(max: u16) -> Self {
        let max = max.max(START);
        let (good, bad) = (START, max + 1);
        Self { max, good, known: false, bad, asked: Vec::new(), answered: None, silent: 0, rounds: 0 }
    }

    /// The largest packet that gets through, as far as is known.
    pub fn size(&self) -> u16 {
        self.good
    }

    /// Whether that was answered; else it is only likely.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// A packet of `size` bytes got through, there and back.
    pub fn answered(&mut self, size: u16) {
        if self.asked.contains(&size) {
            self.answered = self.answered.max(Some(size));
            if size >= self.good {
                (self.good, self.known) = (size, true);
                self.bad = self.bad.max(size + 1);
            }
        }
    }

    /// Begins a round: the sizes to ask with now. `max` may have changed; `busy` is a way on which something is sent
    /// that may not get through.
    pub fn round(&mut self, max: u16, busy: bool) -> Vec<u16> {
        if max.max(START) != self.max {
            *self = Self::new(max);
        }
        self.judge();
        self.rounds = self.rounds.saturating_add(1);
        if self.settled() && self.good < self.max && self.rounds >= RAISE_ROUNDS {
            (self.bad, self.rounds) = (self.max + 1, 0);
        }
        self.asked = self.sizes(busy);
        self.answered = None;
        let copies = if self.silent > 0 { COPIES } else { 1 };
        self.asked.iter().flat_map(|size| std::iter::repeat_n(*size, copies)).collect()
    }

    fn settled(&self) -> bool {
        self.known && self.bad - self.good <= if self.bad > self.max { 1 } else { GRAIN }
    }

    fn sizes(&self, busy: bool) -> Vec<u16> {
        if self.settled() {
            let due = busy || self.silent > 0 || self.rounds.is_multiple_of(IDLE_ROUNDS);
            return if due { vec![self.good] } else { Vec::new() };
        }
        let (last, step) = (self.bad - 1, (self.bad - 1 - self.good).div_ceil(SPREAD).max(1));
        let mut sizes: Vec<_> = (self.good..last).step_by(usize::from(step)).collect();
        sizes.push(last);
        sizes
    }

    /// What follows from the answers of the round that ends.
    fn judge(&mut self) {
        let Some(lost) = self.asked.iter().copied().find(|size| Some(*size) > self.answered) else {
            self.silent = 0;
            return;
        };
        self.silent += 1;
        if self.silent < ROUNDS {
            return;
        }
        (self.silent, self.rounds) = (0, 0);
        if lost > self.good {
            self.bad = lost;
        } else {
            // What got through before does not any more.
            (self.bad, self.known) = (self.good, false);
            self.good = if self.good > START { START } else { LOWEST };
            if self.good == self.bad {
                self.bad += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds over a way that takes packets up to `limit`; `lost` of ten packets are lost by chance.
    fn rounds(way: &mut Way, max: u16, limit: u16, count: usize, lost: u64) -> Vec<u16> {
        let mut random = 0x9e37_79b9_u64;
        let mut sizes = Vec::new();
        for _ in 0..count {
            for size in way.round(max, true) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if size <= limit && random % 10 >= lost {
                    way.answered(size);
                }
            }
            sizes.push(way.size());
        }
        sizes
    }

    #[test]
    fn a_usual_way_is_known_after_one_round() {
        let mut way = Way::new(1420);
        assert_eq!((way.size(), way.is_known()), (1280, false));
        assert_eq!(way.round(1420, false), [1280, 1298, 1316, 1334, 1352, 1370, 1388, 1406, 1420]);
        way.answered(1420);
        assert_eq!((way.size(), way.is_known()), (1420, true), "at once");
        assert_eq!(way.round(1420, true), [1420], "and is looked at while much is sent");
        way.answered(1420);
        let mut idle = || {
            let asked = way.round(1420, false);
            for size in &asked {
                way.answered(*size);
            }
            asked.len()
        };
        assert_eq!((0..IDLE_ROUNDS).map(|_| idle()).sum::<usize>(), 1, "seldom else");
    }

    #[test]
    fn a_narrow_way_is_measured_and_a_wider_one_found_later() {
        for limit in [1280, 1281, 1299, 1340, 1355, 1419] {
            let mut way = Way::new(1420);
            let sizes = rounds(&mut way, 1420, limit, 12, 0);
            let found = *sizes.last().unwrap();
            assert!(found <= limit && limit - found < GRAIN && way.is_known(), "{limit}: {sizes:?}");
            assert!(sizes.iter().all(|size| *size <= limit), "nothing too large is ever used: {sizes:?}");
            rounds(&mut way, 1420, 1420, usize::from(RAISE_ROUNDS) + 5, 0);
            assert_eq!(way.size(), 1420);
        }
    }

    #[test]
    fn a_way_that_becomes_narrow_is_found_out() {
        let mut way = Way::new(1420);
        rounds(&mut way, 1420, 1420, 3, 0);
        let sizes = rounds(&mut way, 1420, 1340, 12, 0);
        let stalled = sizes.iter().take_while(|size| **size > 1340).count();
        assert!(stalled <= 2, "{sizes:?}");
        assert!((1333..=1340).contains(sizes.last().unwrap()), "{sizes:?}");
        // Even that IPv6 does not get through any more.
        let sizes = rounds(&mut way, 1420, 1000, 20, 0);
        assert!((993..=1000).contains(sizes.last().unwrap()), "{sizes:?}");
    }

    #[test]
    fn chance_is_not_taken_for_a_narrow_way() {
        let mut way = Way::new(1420);
        let sizes = rounds(&mut way, 1420, 1420, 400, 3);
        let wide = sizes.iter().filter(|size| **size >= 1400).count();
        assert!(wide > 360, "{wide} of 400: {sizes:?}");
    }

    #[test]
    fn other_wishes_begin_anew() {
        let mut way = Way::new(1420);
        rounds(&mut way, 1420, 9000, 2, 0);
        assert_eq!(rounds(&mut way, 8920, 9000, 1, 0), [8920]);
        assert_eq!(rounds(&mut way, 100, 9000, 1, 0), [1280], "no peer can ask for less");
        way.answered(9000);
        assert_eq!(way.size(), 1280, "what was not asked is no answer");
    }
}
