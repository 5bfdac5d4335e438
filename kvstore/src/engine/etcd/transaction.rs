//! A proposal as a transaction of etcd: what it relied on is compared, what it changes is put and deleted. Pure.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp};
use kvstore_core::{Changes, Expect, Index, Op, row::RowKey};

use super::{
    super::{Rejected, delta::Delta},
    keys::{Keys, Span},
    lease::Lease,
    meta::Base,
};

/// So many operations, and so many comparisons, etcd takes in one transaction (`--max-txn-ops`).
pub(super) const MAX_OPERATIONS: usize = 128;

/// So many bytes etcd takes in one request (`--max-request-bytes`: 1.5 MiB), less what the request adds to each of the
/// operations.
pub(super) const MAX_BYTES: usize = (3 << 19) - (32 << 10);

/// What a proposal is judged by.
pub(super) struct Basis<'a> {
    pub(super) keys: &'a Keys,
    pub(super) base: Base,
    /// The revision of the row `store`; nothing is written once it has another.
    pub(super) store_revision: i64,
    /// Rows that are there and cannot be read: to us they are absent.
    pub(super) unreadable: &'a BTreeMap<String, i64>,
    /// Rows whose deadlines are kept, as far as we know.
    pub(super) alive: &'a BTreeMap<String, Lease>,
    /// The index of the state on which the batch was decided.
    pub(super) start: Index,
    /// The key of our host's newest process, and our number.
    pub(super) incarnation: Option<(String, u64)>,
    /// Whether all before it in the batch have the index with which they were decided.
    pub(super) exact: bool,
}

/// A key's new value, and the lease that takes it away again, 0 for none.
type NewValue = (Vec<u8>, i64);

/// The transaction that makes `changes`, and puts the signs of life of the rows in `leases`, if all that they relied on
/// holds; its index follows from the base beside it. If it does not hold, the answer has the row `last`, and after it that of
/// our host's newest process.
///
/// # Errors
/// [`Rejected`] if that is known beforehand.
pub(super) fn transaction(
    changes: &Changes,
    leases: &[(String, Lease)],
    basis: &Basis<'_>,
) -> Result<(Txn, Base), Rejected> {
    let compares = compares(changes, basis)?;
    let mut puts = puts(changes, leases, basis.keys);
    let mut base = basis.base;
    if changes.above > basis.start {
        base = Base::going_on(changes.above, base.revision(basis.start));
        puts.insert(basis.keys.store(), (base.encode(), 0));
    }
    let deletes = deletes(changes, basis, &puts);
    let operations = puts.len() + deletes.len();
    if operations > MAX_OPERATIONS || compares.len() > MAX_OPERATIONS {
        return Err(Rejected::TooLarge(format!(
            "this changes {operations} rows at once and depends on {}; etcd takes {MAX_OPERATIONS} in one transaction",
            compares.len()
        )));
    }
    let bytes: usize = puts.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Rejected::TooLarge(format!(
            "this writes {bytes} bytes at once; etcd takes {MAX_BYTES} in one transaction"
        )));
    }
    let delete = |span: Span| TxnOp::delete(span.from, Some(DeleteOptions::new().with_range(span.to)));
    let put = |(key, (value, lease)): (String, NewValue)| {
        TxnOp::put(key, value, (lease != 0).then(|| PutOptions::new().with_lease(lease)))
    };
    let operations = deletes.into_iter().map(delete).chain(puts.into_iter().map(put));
    let looked_at = [basis.keys.last()].into_iter().chain(basis.incarnation.as_ref().map(|(key, _)| key.clone()));
    let look: Vec<_> = looked_at.map(|key| TxnOp::get(key, None)).collect();
    Ok((Txn::new().when(compares).and_then(operations.collect::<Vec<_>>()).or_else(look), base))
}

fn compares(changes: &Changes, basis: &Basis<'_>) -> Result<Vec<Compare>, Rejected> {
    let Basis { keys, base, .. } = basis;
    let revision = |index: Index| {
        // An index that none of the batch has got after all was another's, if anybody's.
        if index > basis.start && !basis.exact { Err(Rejected::Conflict) } else { Ok(base.revision(index)) }
    };
    let not_after =
        |span: Span, revision: i64| Compare::mod_revision(span.from, CompareOp::Less, revision + 1).with_range(span.to);
    let is_at = |key: String, revision: i64| Compare::mod_revision(key, CompareOp::Equal, revision);
    // A row may have been read several times, for the same reason each time.
    let mut rows = BTreeMap::from([(keys.store(), basis.store_revision)]);
    let mut ranges = Vec::new();
    for expect in &changes.expects {
        match expect {
            Expect::Row(key, index) => drop(rows.insert(keys.row(&key.encode()), revision(*index)?)),
            Expect::Absent(key) => {
                let key = key.encode();
                let there = basis.unreadable.get(&key).copied().unwrap_or(0);
                rows.insert(keys.row(&key), there);
            }
            Expect::Unchanged(range, index) => {
                let revision = revision(*index)?;
                ranges.extend(keys.rows_in(range).into_iter().map(|span| (span, revision)));
            }
            Expect::Unjoined(key, index) => ranges.push((Span::of(&keys.guard(&key.encode())), revision(*index)?)),
            Expect::Lapsed(key) => drop(rows.insert(keys.alive(&key.encode()), 0)),
        }
    }
    ranges.dedup();
    let ranges = ranges.into_iter().map(|(span, revision)| not_after(span, revision));
    let incarnation = basis.incarnation.iter();
    let is_ours = incarnation.map(|(key, ours)| Compare::value(key.clone(), CompareOp::Equal, ours.to_string()));
    Ok(rows.into_iter().map(|(key, revision)| is_at(key, revision)).chain(ranges).chain(is_ours).collect())
}

/// Keys with their new values.
fn puts(changes: &Changes, leases: &[(String, Lease)], keys: &Keys) -> BTreeMap<String, NewValue> {
    let mut delta = Delta::default();
    delta.add_unstamped(changes);
    let rows = delta.puts().map(|(key, value)| (keys.row(key), (value.to_vec(), 0)));
    let guards = changes.joins.iter().map(|row| (keys.guard(&row.encode()), (Vec::new(), 0)));
    let alive = leases.iter().map(|(row, lease)| (keys.alive(row), (lease.value(), lease.id)));
    rows.chain(guards).chain(alive).chain([(keys.last(), (Vec::new(), 0))]).collect()
}

/// Spans to be emptied, none of which has a key that is put.
fn deletes(changes: &Changes, basis: &Basis<'_>, puts: &BTreeMap<String, NewValue>) -> Vec<Span> {
    let Basis { keys, alive, .. } = basis;
    let mut spans = Vec::new();
    for op in &changes.ops {
        match op {
            Op::Put(_) => {}
            // What stands beside a row goes with it. A sign of life that we have not heard of goes by itself.
            Op::Delete(key) => {
                let encoded = key.encode();
                spans.push(Span::of(&keys.row(&encoded)));
                if matches!(key, RowKey::Node(_) | RowKey::Session(_)) {
                    spans.push(Span::of(&keys.guard(&encoded)));
                }
                if alive.contains_key(&encoded) {
                    spans.push(Span::of(&keys.alive(&encoded)));
                }
            }
            Op::DeleteRange(range) => {
                spans.extend(keys.rows_in(range));
                spans.extend(keys.guards_in(range));
                spans.extend(keys.alive_in(range));
            }
        }
    }
    spans.iter().flat_map(|span| span.without(puts)).collect()
}

#[cfg(test)]
mod tests {
    use kvstore_core::{
        Command, State, decide,
        names::{Key, NodeKey, SessionId},
        row::{RowKey, RowRange},
    };

    use super::*;

    const BASE: Base = Base(Index(1000));

    fn basis<'a>(keys: &'a Keys, unreadable: &'a BTreeMap<String, i64>, exact: bool) -> Basis<'a> {
        static NONE: BTreeMap<String, Lease> = BTreeMap::new();
        let (start, incarnation) = (Index(1010), None);
        Basis { alive: &NONE, keys, base: BASE, store_revision: 2, unreadable, start, incarnation, exact }
    }

    fn changes(ops: Vec<Op>, expects: Vec<Expect>) -> Changes {
        Changes { ops, expects, ..Changes::default() }
    }

    fn put(key: &str, value: &[u8]) -> Changes {
        let (key, value) = (Key::new(key).unwrap(), value.to_vec().into());
        let command = Command::KvPut { key, value, flags: 0, cas: None, ttl: std::time::Duration::ZERO };
        decide(&State::empty(Index(1010)), &command).unwrap().changes
    }

    #[test]
    fn what_relied_on_an_index_that_was_not_given_is_void() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        let row = RowKey::Kv(Key::new("a").unwrap());
        for (index, exact, holds) in [(1010, false, true), (1011, true, true), (1011, false, false)] {
            for expect in [
                Expect::Row(row.clone(), Index(index)),
                Expect::Unchanged(RowRange::All, Index(index)),
                Expect::Unjoined(row.clone(), Index(index)),
            ] {
                let planned = transaction(&changes(vec![], vec![expect]), &[], &basis(&keys, &none, exact));
                assert_eq!(planned.is_ok(), holds, "{index} {exact}");
            }
        }
    }

    #[test]
    fn more_than_etcd_takes_is_refused_in_clear_words() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        let refused = |changes: &Changes| match transaction(changes, &[], &basis(&keys, &none, true)) {
            Err(Rejected::TooLarge(why)) => why,
            other => panic!("{:?}", other.map(drop)),
        };
        let ops = (0..127).flat_map(|n| put(&n.to_string(), b"").ops);
        let mut many = changes(ops.collect(), vec![]);
        assert!(transaction(&many, &[], &basis(&keys, &none, true)).is_ok(), "127 rows and the mark");
        many.ops.extend(put("one more", b"").ops);
        assert!(refused(&many).starts_with("this changes 129 rows at once"), "{}", refused(&many));
        assert!(refused(&put("a", &vec![b'x'; 2 << 20])).contains("etcd takes 1540096 in one transaction"));
        assert!(transaction(&put("a", &vec![b'x'; 1 << 20]), &[], &basis(&keys, &none, true)).is_ok());
    }

    #[test]
    fn what_stands_beside_a_row_is_put_with_it_and_goes_with_it() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        let session = RowKey::Session(SessionId::new("s").unwrap());
        let joining = Changes { joins: vec![session.clone()], ..put("a", b"") };
        let lease = Lease { id: 7, seconds: 11 };
        let put = puts(&joining, &[("s/s".into(), lease)], &keys);
        assert_eq!(put.keys().collect::<Vec<_>>(), ["/f/alive/s/s", "/f/guards/s/s", "/f/last", "/f/rows/k/a"]);
        assert_eq!(put["/f/alive/s/s"], (b"11".to_vec(), 7));
        let node = RowRange::Node(NodeKey::new("n").unwrap());
        let ending = changes(vec![Op::Delete(session.clone()), Op::DeleteRange(node)], vec![]);
        let alive = BTreeMap::from([("s/s".into(), lease)]);
        let basis = Basis { alive: &alive, ..basis(&keys, &none, true) };
        let spans = deletes(&ending, &basis, &BTreeMap::new());
        for gone in
            ["rows/s/s", "guards/s/s", "alive/s/s", "rows/n/n", "rows/n/n/i/x", "guards/n/n", "alive/n/n/c/serfHealth"]
        {
            assert!(spans.iter().any(|span| span.contains(format!("/f/{gone}").as_bytes())), "{gone}");
        }
        let key = changes(vec![Op::Delete(RowKey::Kv(Key::new("a").unwrap()))], vec![]);
        assert_eq!(deletes(&key, &basis, &BTreeMap::new()).len(), 1, "a key has nothing beside it");
        let ended = changes(vec![], vec![Expect::Lapsed(session)]);
        let compared = format!("{:?}", compares(&ended, &basis).unwrap());
        let absent = format!("{:?}", Compare::mod_revision("/f/alive/s/s", CompareOp::Equal, 0));
        assert!(compared.contains(&absent), "{compared}");
    }

    #[test]
    fn a_process_compares_that_it_is_the_newest_of_its_host() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        let newest = Compare::value("/f/agents/h1", CompareOp::Equal, "3");
        for (incarnation, compared) in [(None, false), (Some((keys.agent("h1"), 3)), true)] {
            let basis = Basis { incarnation, ..basis(&keys, &none, true) };
            let made = format!("{:?}", compares(&put("a", b""), &basis).unwrap());
            assert_eq!(made.contains(&format!("{newest:?}")), compared, "{made}");
        }
    }

    #[test]
    fn a_restore_raises_the_base_where_it_must() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        for (above, base) in [(0, 1000), (1010, 1000), (1011, 1001), (5000, 4990)] {
            let restore = Changes { above: Index(above), ..put("a", b"") };
            let (_, raised) = transaction(&restore, &[], &basis(&keys, &none, true)).unwrap();
            assert_eq!(raised, Base(Index(base)), "{above}");
            assert_eq!(raised.index(11), restore.index_after(Index(1010)), "as it is decided");
        }
    }
}
