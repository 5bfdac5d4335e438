//! What a batch makes of the rows, apart from where they are kept: gathered in memory, written as text, read back.

use std::collections::BTreeMap;

use kvstore_core::{
    Changes, Index, Op, Put,
    row::{Row, RowRange, Stamped},
};
use serde_json::value::RawValue;

/// New content of rows: first the ranges are emptied, then each row is put or taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) ranges: Vec<RowRange>,
    /// As encoded; `None`: to be absent.
    pub(super) rows: BTreeMap<String, Option<Vec<u8>>>,
}

impl Delta {
    /// These rows and no others.
    pub(super) fn of_all(rows: impl Iterator<Item = Stamped<Row>>) -> Self {
        let encoded = |row: Stamped<Row>| (row.value.key().encode(), Some(row.value.encode(row.created, row.modified)));
        Self { ranges: vec![RowRange::All], rows: rows.map(encoded).collect() }
    }

    /// Has `changes`, made at `index`, follow what is here.
    pub(super) fn add(&mut self, changes: &Changes, index: Index) {
        self.add_as(changes, |put| put.row.encode(put.created.unwrap_or(index), index));
    }

    /// The same for a store that stamps rows itself.
    #[cfg(feature = "etcd")]
    pub(super) fn add_unstamped(&mut self, changes: &Changes) {
        self.add_as(changes, |put| put.row.encode_unstamped(put.created));
    }

    fn add_as(&mut self, changes: &Changes, encode: impl Fn(&Put) -> Vec<u8>) {
        for op in &changes.ops {
            match op {
                Op::Put(put) => drop(self.rows.insert(put.row.key().encode(), Some(encode(put)))),
                Op::Delete(key) => drop(self.rows.insert(key.encode(), None)),
                Op::DeleteRange(range) => self.empty(range.clone()),
            }
        }
    }

    /// Has `later` follow what is here.
    pub(super) fn extend(&mut self, later: Self) {
        later.ranges.into_iter().for_each(|range| self.empty(range));
        self.rows.extend(later.rows);
    }

    fn empty(&mut self, range: RowRange) {
        let prefix = range.prefix();
        let from = self.rows.range(prefix.clone()..).map(|(key, _)| key);
        let inside = from.take_while(|key| key.starts_with(&prefix)).filter(|key| range.contains(key));
        for key in inside.cloned().collect::<Vec<_>>() {
            self.rows.remove(&key);
        }
        self.ranges.push(range);
    }

    /// Writes it as lines: a range, or `[KEY,ROW]`, where `null` stands for a row taken away. What is written after
    /// it is read as following it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for range in &self.ranges {
            serde_json::to_writer(&mut *out, range).expect("a range is text");
            out.push(b'\n');
        }
        for (key, value) in &self.rows {
            out.push(b'[');
            serde_json::to_writer(&mut *out, key).expect("a key is text");
            out.push(b',');
            out.extend_from_slice(value.as_deref().unwrap_or(b"null"));
            out.extend_from_slice(b"]\n");
        }
    }

    /// # Errors
    /// If a line is neither a range nor a row.
    pub(super) fn decode(lines: &[u8]) -> serde_json::Result<Self> {
        let mut delta = Self::default();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"[") {
                let (key, row): (String, Option<&RawValue>) = serde_json::from_slice(line)?;
                delta.rows.insert(key, row.map(|row| row.get().into()));
            } else {
                delta.empty(serde_json::from_slice(line)?);
            }
        }
        Ok(delta)
    }

    /// The rows put, each with its key.
    pub(super) fn puts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.rows.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)))
    }
}
