//! Levels by name: which rule is about one, found in a sorted table.

use std::collections::BTreeMap;

use super::Level;

/// The levels of each name: of itself, and of all that begins with it.
pub(super) type ByName = BTreeMap<Box<str>, (Option<Level>, Option<Level>)>;

/// The rules about the names of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Names {
    /// By name.
    entries: Vec<Entry>,
}

/// What rules say of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    name: Box<str>,
    exact: Option<Level>,
    prefix: Option<Level>,
    /// The longest other name that begins this one and has a prefix rule.
    parent: Option<usize>,
}

impl Names {
    pub(super) fn new(rules: ByName) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(rules.len());
        for (name, (exact, prefix)) in rules {
            let parent = nearest(&entries, entries.len().checked_sub(1), &name);
            entries.push(Entry { name, exact, prefix, parent });
        }
        Self { entries }
    }

    /// What the rules say of `name`: the exact one, else that with the longest beginning of it.
    pub(super) fn level(&self, name: &str) -> Option<Level> {
        self.place(name).ok().and_then(|at| self.entries[at].exact).or_else(|| self.prefix(name))
    }

    /// Whether all that begins with `prefix` has at least `level`, where what no rule is about has `default`.
    pub(super) fn all_below(&self, prefix: &str, level: Level, default: Level) -> bool {
        let (Ok(first) | Err(first)) = self.place(prefix);
        let mut below = self.entries[first..].iter().take_while(|entry| entry.name.starts_with(prefix));
        let says = |entry: &Entry| entry.exact.into_iter().chain(entry.prefix).all(|said| said >= level);
        self.prefix(prefix).unwrap_or(default) >= level && below.all(says)
    }

    /// What the prefix rule with the longest beginning of `name` says.
    fn prefix(&self, name: &str) -> Option<Level> {
        let last = match self.place(name) {
            Ok(at) => Some(at),
            Err(at) => at.checked_sub(1),
        };
        nearest(&self.entries, last, name).and_then(|at| self.entries[at].prefix)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (*entry.name).cmp(name))
    }
}

/// The entry with a prefix rule and the longest beginning of `name`. `at` is the last one that is not behind `name`: of
/// all that begins `name`, the longest is that one or begins it, since whatever stands between them begins with it.
fn nearest(entries: &[Entry], mut at: Option<usize>, name: &str) -> Option<usize> {
    while let Some(entry) = at.map(|at| &entries[at]) {
        if entry.prefix.is_some() && name.starts_with(&*entry.name) {
            break;
        }
        at = entry.parent;
    }
    at
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    /// The same by looking at every rule.
    fn naive(rules: &ByName, name: &str) -> Option<Level> {
        let exact = rules.get(name).and_then(|(exact, _)| *exact);
        let mut beginnings = (0..=name.len()).rev().filter_map(|end| name.get(..end));
        exact.or_else(|| beginnings.find_map(|beginning| rules.get(beginning)?.1))
    }

    #[test]
    fn each_name_has_the_level_of_its_nearest_rule() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..500 {
            let name = |rng: &mut StdRng| -> String {
                (0..rng.random_range(0..5)).map(|_| ['a', 'b', '\u{e4}'][rng.random_range(0..3)]).collect()
            };
            let level = |rng: &mut StdRng| [None, Some(Level::ALL[rng.random_range(0..4)])][rng.random_range(0..2)];
            let rules: ByName = (0..rng.random_range(0..12))
                .map(|_| (name(&mut rng).into(), (level(&mut rng), level(&mut rng))))
                .collect();
            let names = Names::new(rules.clone());
            let asked: Vec<String> = (0..200).map(|_| name(&mut rng)).collect();
            for name in &asked {
                assert_eq!(names.level(name), naive(&rules, name), "{name:?} in {rules:?}");
            }
            for prefix in &asked {
                if names.all_below(prefix, Level::Write, Level::Deny) {
                    let below = asked.iter().filter(|name| name.starts_with(prefix.as_str()));
                    assert!(
                        below.into_iter().all(|name| names.level(name) == Some(Level::Write)),
                        "{prefix:?} {rules:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn all_below_takes_every_rule_there() {
        use Level::{Deny, Read, Write};
        let names = |rules: &[(&str, Option<Level>, Option<Level>)]| {
            Names::new(rules.iter().map(|(name, exact, prefix)| ((*name).into(), (*exact, *prefix))).collect())
        };
        let all = |rules: &[_], prefix: &str, default| names(rules).all_below(prefix, Write, default);
        assert!(all(&[], "a", Write) && !all(&[], "a", Deny));
        assert!(all(&[("", None, Some(Write))], "a", Deny));
        assert!(all(&[("a", None, Some(Write)), ("a/b", Some(Write), None), ("b", Some(Deny), None)], "a", Deny));
        assert!(!all(&[("a", None, Some(Write)), ("a/b", Some(Read), None)], "a", Deny));
        assert!(!all(&[("a", None, Some(Write)), ("a/b", None, Some(Deny))], "a", Write));
        assert!(all(&[("a", None, Some(Write)), ("a/b", None, Some(Deny))], "a/c", Deny));
        assert!(!all(&[("a", Some(Write), None)], "a", Deny), "an exact rule is about no prefix");
    }
}
