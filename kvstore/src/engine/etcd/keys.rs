//! What is kept where in etcd. Pure.
//!
//! ```text
//! PREFIX/store       {"format":1,"base":1700000000000}     what one must understand to take part, and where indexes begin
//! PREFIX/last                                             put by every change; its revision is that of the newest
//! PREFIX/rows/k/web  {"key":"web","value":"hello"}         a row, under the key that every engine gives it
//! PREFIX/guards/s/ID                                      put by what joins the row `s/ID`, gone with it
//! PREFIX/alive/s/ID       11                              there, under a lease of so many seconds, as long as somebody
//!                                                         renews the row `s/ID`
//! PREFIX/agents/ID   3                                    the number of the newest process of the host with this id
//! ```
//!
//! A row's index is the base plus the revision at which etcd last put it, so the value says at most when it was created.

use std::collections::BTreeMap;

use kvstore_core::row::RowRange;

/// The keys of one registry.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// All keys from one to before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Store,
    Row(&'a str),
    /// The sign of life of a row.
    Alive(&'a str),
    /// The newest process of a host.
    Agent(&'a str),
    /// The mark, a guard, or nothing of ours.
    Other,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    pub(super) fn store(&self) -> String {
        format!("{}/store", self.prefix)
    }

    pub(super) fn last(&self) -> String {
        format!("{}/last", self.prefix)
    }

    pub(super) fn row(&self, key: &str) -> String {
        format!("{}/rows/{key}", self.prefix)
    }

    pub(super) fn guard(&self, key: &str) -> String {
        format!("{}/guards/{key}", self.prefix)
    }

    pub(super) fn alive(&self, key: &str) -> String {
        format!("{}/alive/{key}", self.prefix)
    }

    pub(super) fn agent(&self, host: &str) -> String {
        format!("{}/agents/{host}", self.prefix)
    }

    /// Everything of ours.
    pub(super) fn all(&self) -> Span {
        Span::below(&format!("{}/", self.prefix))
    }

    pub(super) fn rows(&self) -> Span {
        Span::below(&self.row(""))
    }

    /// Every sign of life.
    pub(super) fn all_alive(&self) -> Span {
        Span::below(&self.alive(""))
    }

    pub(super) fn guards(&self) -> Span {
        Span::below(&self.guard(""))
    }

    /// Where the rows of `range` are.
    pub(super) fn rows_in(&self, range: &RowRange) -> Vec<Span> {
        spans(&self.row(&range.prefix()), range)
    }

    /// Where the guards of the rows of `range` are.
    pub(super) fn guards_in(&self, range: &RowRange) -> Vec<Span> {
        spans(&self.guard(&range.prefix()), range)
    }

    /// Where the signs of life of the rows of `range` are.
    pub(super) fn alive_in(&self, range: &RowRange) -> Vec<Span> {
        spans(&self.alive(&range.prefix()), range)
    }

    pub(super) fn place<'a>(&self, key: &'a [u8]) -> Place<'a> {
        let Ok(key) = std::str::from_utf8(key) else { return Place::Other };
        match key.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')) {
            Some("store") => Place::Store,
            Some(rest) => match rest.split_once('/') {
                Some(("rows", row)) => Place::Row(row),
                Some(("alive", row)) => Place::Alive(row),
                Some(("agents", host)) => Place::Agent(host),
                _ => Place::Other,
            },
            None => Place::Other,
        }
    }
}

fn spans(start: &str, range: &RowRange) -> Vec<Span> {
    match range {
        // Other hosts' names may begin with this one's.
        RowRange::Node(_) => vec![Span::of(start), Span::below(&format!("{start}/"))],
        RowRange::All | RowRange::Queries | RowRange::Acl | RowRange::KvPrefix(_) => vec![Span::below(start)],
    }
}

impl Span {
    /// One key.
    pub(super) fn of(key: &str) -> Self {
        Self { from: key.into(), to: after(key.as_bytes()) }
    }

    /// All keys that begin with `prefix`.
    fn below(prefix: &str) -> Self {
        let mut to = prefix.as_bytes().to_vec();
        // No byte of UTF-8 is the greatest.
        *to.last_mut().expect("all that is ours begins with a slash") += 1;
        Self { from: prefix.into(), to }
    }

    /// What is left without `keys`: etcd does not take a transaction that deletes a key and puts it.
    pub(super) fn without<V>(&self, keys: &BTreeMap<String, V>) -> Vec<Self> {
        let mut left = Vec::new();
        let mut from = self.from.clone();
        for key in keys.keys().map(String::as_bytes).filter(|key| self.contains(key)) {
            if from.as_slice() < key {
                left.push(Self { from, to: key.into() });
            }
            from = after(key);
        }
        if from < self.to {
            left.push(Self { from, to: self.to.clone() });
        }
        left
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }
}

/// The key right after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use kvstore_core::names::NodeKey;

    use super::*;

    fn node(name: &str) -> RowRange {
        RowRange::Node(NodeKey::new(name).unwrap())
    }

    #[test]
    fn ranges_hold_their_rows_and_no_others() {
        let keys = Keys::new("/f");
        let stored = ["n/a", "n/a/i/x", "n/a/c/y", "n/a-2", "n/ab", "k/a", "k/ab", "k/\u{10FFFF}", "q/1", "s/1"];
        let ranges = [
            RowRange::All,
            node("a"),
            RowRange::Queries,
            RowRange::KvPrefix(String::new()),
            RowRange::KvPrefix("a".into()),
            RowRange::KvPrefix("\u{10FFFF}".into()),
        ];
        for range in ranges {
            for key in stored {
                let inside = keys.rows_in(&range).iter().any(|span| span.contains(keys.row(key).as_bytes()));
                assert_eq!(inside, range.contains(key), "{range:?} {key}");
            }
            assert!(!keys.rows_in(&range).iter().any(|span| span.contains(keys.store().as_bytes())));
        }
        assert!(keys.guards_in(&node("a")).iter().any(|span| span.contains(b"/f/guards/n/a")));
    }

    #[test]
    fn what_is_put_is_left_out_of_what_is_deleted() {
        let span = Keys::new("/f").rows_in(&RowRange::KvPrefix("a".into())).remove(0);
        let holes = ["/f/rows/k/a", "/f/rows/k/ab", "/f/rows/k/b"].map(|key| (key.to_owned(), ()));
        let left = span.without(&holes.into());
        for (key, inside) in [("a", false), ("aa", true), ("ab", false), ("ab\0", true), ("az", true), ("b", false)] {
            let key = format!("/f/rows/k/{key}");
            assert_eq!(left.iter().any(|span| span.contains(key.as_bytes())), inside, "{key}");
        }
        assert_eq!(left.len(), 2, "nothing is before the first");
    }

    #[test]
    fn a_key_tells_what_it_is() {
        let keys = Keys::new("/f");
        for (key, place) in [
            ("/f/store", Place::Store),
            ("/f/rows/k/a/b", Place::Row("k/a/b")),
            ("/f/last", Place::Other),
            ("/f/guards/s/1", Place::Other),
            ("/f/alive/n/a/c/x", Place::Alive("n/a/c/x")),
            ("/f/agents/1", Place::Agent("1")),
            ("/flotilla/store", Place::Other),
            ("/f", Place::Other),
        ] {
            assert_eq!(keys.place(key.as_bytes()), place, "{key}");
        }
        assert_eq!(keys.place(b"/f/rows/\xff"), Place::Other);
    }
}
