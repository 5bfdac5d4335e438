//! A proposal as a transaction of etcd: what it relied on is compared, what it changes is put and deleted. Pure.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use kvstore_core::{Changes, Expect, Index, Op};

use super::{
    super::{Rejected, delta::Delta},
    keys::{Keys, Span},
    meta::Base,
};

/// So many operations, and so many comparisons, etcd takes in one transaction (`--max-txn-ops`).
const MAX_OPERATIONS: usize = 128;

/// So many bytes etcd takes in one request (`--max-request-bytes`: 1.5 MiB), less what the request adds to each of the
/// operations.
const MAX_BYTES: usize = (3 << 19) - (32 << 10);

/// What a proposal is judged by.
pub(super) struct Basis<'a> {
    pub(super) keys: &'a Keys,
    pub(super) base: Base,
    /// The revision of the row `store`; nothing is written once it has another.
    pub(super) store_revision: i64,
    /// Rows that are there and cannot be read: to us they are absent.
    pub(super) unreadable: &'a BTreeMap<String, i64>,
    /// The index of the state on which the batch was decided.
    pub(super) start: Index,
    /// Whether all before it in the batch have the index with which they were decided.
    pub(super) exact: bool,
}

/// The transaction that makes `changes`, if all that they relied on holds; its index follows from the base beside it. If
/// it does not hold, the answer has the row `last`.
///
/// # Errors
/// [`Rejected`] if that is known beforehand.
pub(super) fn transaction(changes: &Changes, basis: &Basis<'_>) -> Result<(Txn, Base), Rejected> {
    let compares = compares(changes, basis)?;
    let mut puts = puts(changes, basis.keys);
    let mut base = basis.base;
    if changes.above > basis.start {
        base = Base::going_on(changes.above, base.revision(basis.start));
        puts.insert(basis.keys.store(), base.encode());
    }
    let deletes = deletes(changes, basis.keys, &puts);
    let operations = puts.len() + deletes.len();
    if operations > MAX_OPERATIONS || compares.len() > MAX_OPERATIONS {
        return Err(Rejected::TooLarge(format!(
            "this changes {operations} rows at once and depends on {}; etcd takes {MAX_OPERATIONS} in one transaction",
            compares.len()
        )));
    }
    let bytes: usize = puts.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Rejected::TooLarge(format!(
            "this writes {bytes} bytes at once; etcd takes {MAX_BYTES} in one transaction"
        )));
    }
    let delete = |span: Span| TxnOp::delete(span.from, Some(DeleteOptions::new().with_range(span.to)));
    let operations = deletes.into_iter().map(delete);
    let operations = operations.chain(puts.into_iter().map(|(key, value)| TxnOp::put(key, value, None)));
    let last = TxnOp::get(basis.keys.last(), None);
    Ok((Txn::new().when(compares).and_then(operations.collect::<Vec<_>>()).or_else([last]), base))
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
        }
    }
    ranges.dedup();
    let ranges = ranges.into_iter().map(|(span, revision)| not_after(span, revision));
    Ok(rows.into_iter().map(|(key, revision)| is_at(key, revision)).chain(ranges).collect())
}

/// Keys with their new values.
fn puts(changes: &Changes, keys: &Keys) -> BTreeMap<String, Vec<u8>> {
    let mut delta = Delta::default();
    delta.add_unstamped(changes);
    let mut puts: BTreeMap<_, _> = delta.puts().map(|(key, value)| (keys.row(key), value.to_vec())).collect();
    puts.extend(changes.joins.iter().map(|row| (keys.guard(&row.encode()), Vec::new())));
    puts.insert(keys.last(), Vec::new());
    puts
}

/// Spans to be emptied, none of which has a key that is put.
fn deletes(changes: &Changes, keys: &Keys, puts: &BTreeMap<String, Vec<u8>>) -> Vec<Span> {
    let mut spans = Vec::new();
    for op in &changes.ops {
        match op {
            Op::Put(_) => {}
            Op::Delete(key) => {
                let encoded = key.encode();
                spans.push(Span::of(&keys.row(&encoded)));
                // A guard goes with what it guards.
                spans.push(Span::of(&keys.guard(&encoded)));
            }
            Op::DeleteRange(range) => {
                spans.extend(keys.rows_in(range));
                spans.extend(keys.guards_in(range));
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
        Basis { keys, base: BASE, store_revision: 2, unreadable, start: Index(1010), exact }
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
                let planned = transaction(&changes(vec![], vec![expect]), &basis(&keys, &none, exact));
                assert_eq!(planned.is_ok(), holds, "{index} {exact}");
            }
        }
    }

    #[test]
    fn more_than_etcd_takes_is_refused_in_clear_words() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        let refused = |changes: &Changes| match transaction(changes, &basis(&keys, &none, true)) {
            Err(Rejected::TooLarge(why)) => why,
            other => panic!("{:?}", other.map(drop)),
        };
        let ops = (0..127).flat_map(|n| put(&n.to_string(), b"").ops);
        let mut many = changes(ops.collect(), vec![]);
        assert!(transaction(&many, &basis(&keys, &none, true)).is_ok(), "127 rows and the mark");
        many.ops.extend(put("one more", b"").ops);
        assert!(refused(&many).starts_with("this changes 129 rows at once"), "{}", refused(&many));
        assert!(refused(&put("a", &vec![b'x'; 2 << 20])).contains("etcd takes 1540096 in one transaction"));
        assert!(transaction(&put("a", &vec![b'x'; 1 << 20]), &basis(&keys, &none, true)).is_ok());
    }

    #[test]
    fn guards_are_put_by_who_joins_and_go_with_the_row() {
        let keys = Keys::new("/f");
        let session = RowKey::Session(SessionId::new("s").unwrap());
        let joining = Changes { joins: vec![session.clone()], ..put("a", b"") };
        let put = puts(&joining, &keys);
        assert_eq!(put.keys().collect::<Vec<_>>(), ["/f/guards/s/s", "/f/last", "/f/rows/k/a"]);
        let node = RowRange::Node(NodeKey::new("n").unwrap());
        let ending = changes(vec![Op::Delete(session), Op::DeleteRange(node)], vec![]);
        let spans = deletes(&ending, &keys, &BTreeMap::new());
        for gone in ["rows/s/s", "guards/s/s", "rows/n/n", "rows/n/n/i/x", "guards/n/n"] {
            assert!(spans.iter().any(|span| span.contains(format!("/f/{gone}").as_bytes())), "{gone}");
        }
    }

    #[test]
    fn a_restore_raises_the_base_where_it_must() {
        let (keys, none) = (Keys::new("/f"), BTreeMap::new());
        for (above, base) in [(0, 1000), (1010, 1000), (1011, 1001), (5000, 4990)] {
            let restore = Changes { above: Index(above), ..put("a", b"") };
            let (_, raised) = transaction(&restore, &basis(&keys, &none, true)).unwrap();
            assert_eq!(raised, Base(Index(base)), "{above}");
            assert_eq!(raised.index(11), restore.index_after(Index(1010)), "as it is decided");
        }
    }
}
