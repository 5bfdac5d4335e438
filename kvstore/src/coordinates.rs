//! Where hosts are to each other in time: the coordinates that others work out and put here, in memory.
//!
//! A coordinate is a point in a space where the distance of two points is the round-trip time of their hosts in seconds.
//! Nobody here measures; what is put is kept until the host leaves the catalog, and lists may be sorted by it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use kvstore_client::types::Coordinate;
use kvstore_core::{names::NodeKey, near::Distances};
use tokio::sync::watch;

/// Dimensions of the space, as every Serf has it.
pub(crate) const DIMENSIONS: usize = 8;

/// So many are kept; a host beyond that has none.
const MAX_COORDINATES: usize = 16_384;

/// Why a coordinate is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidCoordinate {
    /// Not a number, or without end.
    #[error("invalid coordinate")]
    NotFinite,
    /// Of another space.
    #[error("incompatible coordinate")]
    Dimensions,
    /// No room.
    #[error("there are {MAX_COORDINATES} coordinates already")]
    TooMany,
}

/// Checks that it is a point of our space.
///
/// # Errors
/// [`InvalidCoordinate`].
pub(crate) fn check(point: &Coordinate) -> Result<(), InvalidCoordinate> {
    if !point.vec.iter().chain([&point.error, &point.adjustment, &point.height]).all(|number| number.is_finite()) {
        return Err(InvalidCoordinate::NotFinite);
    }
    if point.vec.len() == DIMENSIONS { Ok(()) } else { Err(InvalidCoordinate::Dimensions) }
}

/// The round-trip time between two points, in seconds.
pub(crate) fn distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let squares = a.vec.iter().zip(&b.vec).map(|(a, b)| (a - b).powi(2));
    let raw = squares.sum::<f64>().sqrt() + a.height + b.height;
    let adjusted = raw + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
}

/// The coordinates by host and segment, and who waits for others.
#[derive(Debug)]
pub(crate) struct Coordinates {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Kept {
    /// Of the last change.
    index: u64,
    points: BTreeMap<(NodeKey, String), Coordinate>,
}

impl Default for Coordinates {
    fn default() -> Self {
        // Nothing of an earlier life is ahead of the clock: nobody puts a thousand coordinates a second for long.
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_millis());
        let index = u64::try_from(millis).unwrap_or(1).max(1);
        Self { kept: Mutex::new(Kept { index, points: BTreeMap::new() }), changed: watch::Sender::new(()) }
    }
}

impl Coordinates {
    /// Keeps `coordinate` for the host. `is_there` says which hosts are; what others had makes room.
    ///
    /// # Errors
    /// [`InvalidCoordinate`].
    pub(crate) fn put(
        &self,
        node: NodeKey,
        segment: String,
        coordinate: Coordinate,
        is_there: impl Fn(&NodeKey) -> bool,
    ) -> Result<(), InvalidCoordinate> {
        check(&coordinate)?;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.points.len() >= MAX_COORDINATES {
                kept.points.retain(|(node, _), _| is_there(node));
            }
            let key = (node, segment);
            if kept.points.len() >= MAX_COORDINATES && !kept.points.contains_key(&key) {
                return Err(InvalidCoordinate::TooMany);
            }
            kept.index += 1;
            kept.points.insert(key, coordinate);
        }
        self.changed.send_replace(());
        Ok(())
    }

    /// What `choose` makes of the coordinates, by host and segment, and the index of their last change.
    pub(crate) fn read<T>(&self, choose: impl Fn(&NodeKey, &str, &Coordinate) -> Option<T>) -> (u64, Vec<T>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = kept.points.iter().filter_map(|((node, segment), point)| choose(node, segment, point));
        (kept.index, chosen.collect())
    }

    /// Changes with each coordinate. Take it first, then read, then wait.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Distances for Coordinates {
    fn distances(&self, from: &NodeKey, to: &[&NodeKey]) -> Option<Vec<f64>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |node: &NodeKey| {
            kept.points.range((node.clone(), String::new())..).take_while({
                let node = node.clone();
                move |((of, _), _)| *of == node
            })
        };
        let start: BTreeMap<&str, &Coordinate> =
            of(from).map(|((_, segment), point)| (segment.as_str(), point)).collect();
        let distance = |node: &&NodeKey| {
            let same_segment = of(node).filter_map(|((_, segment), point)| Some((start.get(segment.as_str())?, point)));
            same_segment.map(|(a, b)| self::distance(a, b)).fold(f64::INFINITY, f64::min)
        };
        (!start.is_empty()).then(|| to.iter().map(distance).collect())
    }
}

#[cfg(test)]
mod tests {
    use kvstore_core::near;

    use super::*;

    fn at(x: f64) -> Coordinate {
        Coordinate { vec: vec![x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], height: 0.001, ..Coordinate::default() }
    }

    fn node(name: &str) -> NodeKey {
        NodeKey::new(name).unwrap()
    }

    fn put(coordinates: &Coordinates, name: &str, point: Coordinate) -> Result<(), InvalidCoordinate> {
        coordinates.put(node(name), String::new(), point, |node| node.as_str() == "stays")
    }

    #[test]
    fn only_points_of_our_space_are_kept() {
        let coordinates = Coordinates::default();
        assert_eq!(put(&coordinates, "a", at(f64::NAN)), Err(InvalidCoordinate::NotFinite));
        assert_eq!(put(&coordinates, "a", Coordinate::default()), Err(InvalidCoordinate::Dimensions));
        assert_eq!(
            put(&coordinates, "a", Coordinate { error: f64::INFINITY, ..at(0.0) }),
            Err(InvalidCoordinate::NotFinite)
        );
        assert_eq!(put(&coordinates, "a", at(1.0)), Ok(()));
    }

    #[test]
    fn distances_are_serfs() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(distance(&at(0.0), &at(0.010)), 0.012));
        let adjusted = Coordinate { adjustment: -0.004, ..at(0.010) };
        assert!(close(distance(&at(0.0), &adjusted), 0.008));
        let too_much = Coordinate { adjustment: -1.0, ..at(0.010) };
        assert!(close(distance(&at(0.0), &too_much), 0.012), "an adjustment below 0 does not count");
    }

    #[test]
    fn rows_are_sorted_with_the_unknown_last_and_in_order() {
        let coordinates = Coordinates::default();
        for (name, x) in [("a", 0.0), ("far", 9.0), ("mid", 3.0), ("near", -1.0)] {
            put(&coordinates, name, at(x)).unwrap();
        }
        coordinates.put(node("z"), "other".into(), at(0.0), |_| true).unwrap();
        let sorted = |from: &str| {
            let mut rows: Vec<_> = ["z", "far", "x", "a", "mid", "near"].map(node).into();
            near::sort(&coordinates, &node(from), &mut rows, |row| row);
            rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(sorted("a"), "a near mid far z x");
        assert_eq!(sorted("z"), "z far x a mid near");
        assert_eq!(sorted("x"), "z far x a mid near");
    }

    #[test]
    fn their_number_is_bounded_and_gone_hosts_make_room() {
        let coordinates = Coordinates::default();
        put(&coordinates, "stays", at(0.0)).unwrap();
        for n in 1..MAX_COORDINATES {
            put(&coordinates, &format!("n{n}"), at(0.0)).unwrap();
        }
        let (before, _) = coordinates.read(|_, _, _| Some(()));
        put(&coordinates, "new", at(0.0)).unwrap();
        let (after, left) = coordinates.read(|node, _, _| Some(node.clone()));
        assert_eq!((after, left), (before + 1, vec![node("new"), node("stays")]));
    }
}
