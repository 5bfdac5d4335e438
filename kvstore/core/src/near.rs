//! Sorting by distance: who is near to whom is known outside, what follows from it is decided here.

use std::fmt;

use crate::names::NodeKey;

/// How far hosts are from each other, as far as that is known.
pub trait Distances: fmt::Debug + Send + Sync {
    /// The times from `from` to each of `to`, infinite where that is not known; `None` if nothing is known of `from`.
    fn distances(&self, from: &NodeKey, to: &[&NodeKey]) -> Option<Vec<f64>>;
}

/// Where nothing is known, nothing is near.
impl Distances for () {
    fn distances(&self, _: &NodeKey, _: &[&NodeKey]) -> Option<Vec<f64>> {
        None
    }
}

/// Sorts `rows` by how near their hosts are to `from`: nearest first, those whose place is not known last and as they
/// were. If nothing is known of `from`, nothing is moved.
pub fn sort<T>(distances: &dyn Distances, from: &NodeKey, rows: &mut Vec<T>, node_of: impl Fn(&T) -> &NodeKey) {
    let to: Vec<&NodeKey> = rows.iter().map(&node_of).collect();
    let Some(times) = distances.distances(from, &to) else { return };
    let mut measured: Vec<(f64, T)> = times.into_iter().zip(rows.drain(..)).collect();
    measured.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rows.extend(measured.into_iter().map(|(_, row)| row));
}
