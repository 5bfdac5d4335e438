//! What was used lately, within bounds: a young generation, and the one before it.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Keeps what is used; once the young are too many, they become the old, and the old are forgotten. What is found
/// among the old is young again.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    young_bytes: usize,
    old: HashMap<K, V>,
    most_bytes: usize,
}

/// What an entry takes, about.
pub trait Size {
    /// In bytes, with all that it holds.
    fn bytes(&self) -> usize;
}

impl<K: Eq + Hash + Size, V: Size> Generations<K, V> {
    /// Each of the two generations takes at most `most_bytes`.
    pub fn new(most_bytes: usize) -> Self {
        Self { young: HashMap::new(), young_bytes: 0, old: HashMap::new(), most_bytes }
    }

    /// What is kept under `key`. It must not be made larger in place.
    pub fn find<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.keep(key, value);
        }
        self.young.get_mut(key)
    }

    /// Keeps `value`, in the place of what was kept under `key`; not if it is larger than a generation.
    pub fn keep(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if let Some((key, value)) = self.young.remove_entry(&key) {
            self.young_bytes -= size(&key, &value);
        }
        let bytes = size(&key, &value);
        if bytes > self.most_bytes {
            return;
        }
        if self.young_bytes + bytes > self.most_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, value);
    }

    /// What both generations take.
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old.iter().map(|(key, value)| size(key, value)).sum::<usize>()
    }
}

fn size<K: Size, V: Size>(key: &K, value: &V) -> usize {
    key.bytes() + value.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Size for String {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_kept_is_bounded() {
        let mut kept = Generations::new(100);
        kept.keep("wanted".to_owned(), "yes".to_owned());
        for n in 0..50 {
            kept.keep(format!("{n:02}"), "x".repeat(20));
            assert_eq!(kept.find("wanted").map(|value| value.as_str()), Some("yes"));
            assert!(kept.young_bytes <= 100 && kept.bytes() <= 200);
        }
        assert!(kept.find("00").is_none());
        assert!(kept.find("49").is_some());
    }

    #[test]
    fn what_is_replaced_is_counted_once_and_what_is_too_large_is_not_kept() {
        let mut kept = Generations::new(100);
        for _ in 0..99 {
            kept.keep("key".to_owned(), "value".to_owned());
        }
        assert_eq!(kept.bytes(), 8);
        kept.keep("key".to_owned(), "x".repeat(98));
        assert!(kept.find("key").is_none(), "the older value is gone too");
        assert_eq!(kept.bytes(), 0);
    }
}
