//! Orders by chance, from a seed: the same seed gives the same order.

/// A source of chance that is quick rather than unpredictable: `SplitMix64`, by Sebastiano Vigna.
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any order as likely as any other.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A number less than `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let one = self.next() % (end as u64);
        usize::try_from(one).expect("it is less than a usize")
    }

    /// Each place goes to one of those left in proportion to their weights; weight 0 comes last.
    ///
    /// Sorting by `-ln(u) / weight` does that: P. S. Efraimidis, P. G. Spirakis, Weighted random sampling, 2006.
    pub(crate) fn by_weight<T: Clone>(&mut self, items: &mut [T], weight: impl Fn(&T) -> u16) {
        self.shuffle(items);
        let mut keyed: Vec<(f64, T)> = items.iter().map(|item| (self.delay(weight(item)), item.clone())).collect();
        keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        for (place, (_, item)) in items.iter_mut().zip(keyed) {
            *place = item;
        }
    }

    fn delay(&mut self, weight: u16) -> f64 {
        // 32 bits fit exactly; one more than they hold, so that it is never 0.
        let chance = (f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) + 1.0) / (f64::from(u32::MAX) + 1.0);
        -chance.ln() / f64::from(weight)
    }
}

#[cfg(test)]
impl Shuffle {
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_about_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut items = [1, 2, 3];
            Shuffle::new(seed).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn weights_decide_who_is_first() {
        let mut first = [0; 3];
        for seed in 0..4000 {
            let mut items = [(0, 3), (1, 1), (2, 0)];
            Shuffle::new(seed).by_weight(&mut items, |(_, weight)| *weight);
            first[items[0].0] += 1;
            assert_eq!(items[2].0, 2, "weight 0 is last");
        }
        assert!((2850..3150).contains(&first[0]), "three to one: {first:?}");
    }
}
