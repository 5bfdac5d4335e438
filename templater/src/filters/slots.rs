//! A fixed number of places for instances that come and go, so that a proxy's configuration keeps its structure.
#![allow(clippy::needless_pass_by_value)] // the engine hands them over

use sha2::{Digest as _, Sha256};
use tera::{Error, Kwargs, State, TeraResult, Value, value::Map};

/// More would be a mistake, and one that fills the memory.
const MAX_SLOTS: usize = 65_536;

/// As many items as there are slots, each an instance or a place without one: with `slot`, from 1 on, and `used`.
pub(super) fn slots(items: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let count = kwargs.must_get::<usize>("n")?;
    if !(1..=MAX_SLOTS).contains(&count) {
        return Err(Error::message(format!("slots: n is {count}; use a number from 1 to {MAX_SLOTS}")));
    }
    // On two nodes there may be the same id.
    let id = |item: &Value| {
        let text = |name| item.get_from_path(name).and_then(Value::as_str);
        Some(format!("{} {}", text("id")?, text("node.name").unwrap_or_default()))
    };
    let ids: Option<Vec<_>> = items.iter().map(id).collect();
    let ids =
        ids.ok_or_else(|| Error::message("slots: an item of the list has no `id`; use instances of service()"))?;
    let by_slot = assign(&ids, count).into_iter().enumerate().map(|(slot, item)| {
        let mut map = item.and_then(|item| items[item].as_map().cloned()).unwrap_or_else(nobody);
        map.insert("slot".into(), (slot + 1).into());
        map.insert("used".into(), item.is_some().into());
        Value::from(map)
    });
    Ok(by_slot.collect::<Vec<_>>().into())
}

/// What stands where no instance is: an address at which nobody is reached.
fn nobody() -> Map {
    let one = Value::from(1_u64);
    let weights: Map = ["passing", "warning"].into_iter().map(|name| (name.into(), one.clone())).collect();
    [
        ("id", Value::from("")),
        ("name", Value::from("")),
        ("address", Value::from("127.0.0.1")),
        ("port", one.clone()),
        ("weights", Value::from(weights)),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value))
    .collect()
}

/// Which of `ids` has each slot. One has the slot that its id leads to, of several the first by name; the others have the
/// next free ones behind it. So most stay where they are when others come and go, and nothing needs to be remembered.
/// With more ids than slots there are two, four, eight times as many slots.
fn assign(ids: &[String], count: usize) -> Vec<Option<usize>> {
    let mut size = count;
    while size < ids.len() {
        size *= 2;
    }
    let mut slots = vec![None; size];
    let mut sorted: Vec<_> = ids.iter().zip(0..).collect();
    sorted.sort();
    let mut displaced = Vec::new();
    for (id, item) in sorted {
        let home = home(id, size);
        if slots[home].is_none() {
            slots[home] = Some(item);
        } else {
            displaced.push((home, item));
        }
    }
    for (home, item) in displaced {
        let free = (home..size).chain(0..home).find(|slot| slots[*slot].is_none());
        slots[free.expect("there are as many slots as items")] = Some(item);
    }
    slots
}

fn home(id: &str, size: usize) -> usize {
    let digest = Sha256::digest(id);
    let number = digest.iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
    number % size
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ids(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("web-{n}")).collect()
    }

    /// Where each id is.
    fn places(ids: &[String], count: usize) -> BTreeMap<String, usize> {
        let slots = assign(ids, count).into_iter().enumerate();
        slots.filter_map(|(slot, item)| Some((ids[item?].clone(), slot))).collect()
    }

    #[test]
    fn every_instance_has_a_slot_of_its_own_whatever_the_order() {
        for count in [1, 3, 10, 100] {
            for n in 0..40 {
                let (all, mut other) = (ids(0..n), ids(0..n));
                other.reverse();
                let places = places(&all, count);
                assert_eq!(places.len(), n);
                assert_eq!(places, self::places(&other, count));
                assert_eq!(assign(&all, count).iter().flatten().count(), n);
                assert!(assign(&all, count).len() < 2 * n.max(count));
            }
        }
    }

    #[test]
    fn most_stay_where_they_are() {
        let (mut moved, mut stayed) = (0, 0);
        for n in 1..50 {
            let (before, after) = (places(&ids(0..n), 100), places(&ids(0..n + 1), 100));
            moved += before.iter().filter(|(id, slot)| after[*id] != **slot).count();
            stayed += before.iter().filter(|(id, slot)| after[*id] == **slot).count();
        }
        assert!(moved * 20 < stayed, "{moved} moved, {stayed} stayed");
    }
}
