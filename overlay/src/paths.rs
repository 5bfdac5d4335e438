//! Who is reached through whom. Pure. Every host computes the same shortest ways through the same links, and no two ways
//! are equally long; so a way is the same in both directions and from every host on it, and WireGuard, which takes a
//! source address from one peer only, takes what is passed on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use ring::digest::{SHA256, digest};

use crate::network::NodeId;

/// Ways are not longer: packets lose one of their hops at each host.
const MAX_HOPS: u32 = 16;

/// Links between hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Each link once, the lower id first.
    pub links: BTreeSet<(NodeId, NodeId)>,
    /// Who passes on what is for others.
    pub relays: BTreeSet<NodeId>,
}

/// How long a way is: hops, then what makes it unlike every other.
type Length = (u32, u128);

impl Graph {
    /// Adds or removes the link of two hosts.
    pub fn set(&mut self, one: NodeId, other: NodeId, there: bool) {
        let link = (one.min(other), one.max(other));
        if there {
            self.links.insert(link);
        } else {
            self.links.remove(&link);
        }
    }

    /// The neighbour through which each host is reached from `me`; those that are not reached are not in it.
    pub fn next_hops(&self, me: NodeId) -> BTreeMap<NodeId, NodeId> {
        let mut neighbours: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (one, other) in &self.links {
            neighbours.entry(*one).or_default().push(*other);
            neighbours.entry(*other).or_default().push(*one);
        }
        let mut found = BTreeMap::new();
        let mut queue = BinaryHeap::from([Reverse(((0, 0), me, me))]);
        while let Some(Reverse((length, node, first))) = queue.pop() {
            if found.contains_key(&node) {
                continue;
            }
            found.insert(node, first);
            if length.0 == MAX_HOPS || node != me && !self.relays.contains(&node) {
                continue;
            }
            for next in neighbours.get(&node).into_iter().flatten().filter(|next| !found.contains_key(next)) {
                let first = if node == me { *next } else { first };
                queue.push(Reverse((longer(length, node, *next), *next, first)));
            }
        }
        found.remove(&me);
        found
    }
}

fn longer((hops, unlike): Length, one: NodeId, other: NodeId) -> Length {
    let hash = digest(&SHA256, &[one.min(other).0, one.max(other).0].concat());
    // 96 bits of each link: sums of them are unlike each other, and do not overflow.
    let link = u128::from_be_bytes(hash.as_ref()[..16].try_into().expect("32 bytes have 16")) >> 32;
    (hops + 1, unlike + link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn graph(links: &[(u8, u8)], relays: impl IntoIterator<Item = u8>) -> Graph {
        let mut graph = Graph { relays: relays.into_iter().map(id).collect(), ..Graph::default() };
        for (a, b) in links {
            graph.set(id(*a), id(*b), true);
        }
        graph
    }

    /// The hosts on the way from one to another, as each of them sees its next one.
    fn walk(graph: &Graph, from: u8, to: u8) -> Vec<NodeId> {
        let mut way = vec![id(from)];
        while *way.last().unwrap() != id(to) {
            let Some(next) = graph.next_hops(*way.last().unwrap()).get(&id(to)).copied() else { return Vec::new() };
            assert!(!way.contains(&next), "no way goes in circles");
            way.push(next);
        }
        way
    }

    #[test]
    fn a_chain_is_walked_from_end_to_end() {
        let mut chain = graph(&[(1, 2), (2, 3), (3, 4)], 1..=4);
        assert_eq!(walk(&chain, 1, 4), [1, 2, 3, 4].map(id));
        chain.relays.remove(&id(3));
        assert_eq!(walk(&chain, 1, 4), [], "the third passes on nothing");
        assert_eq!(walk(&chain, 1, 3), [1, 2, 3].map(id), "but is reached itself");
        chain.set(id(1), id(4), true);
        assert_eq!(walk(&chain, 1, 4), [1, 4].map(id), "no detour where there is a link");
    }

    #[test]
    fn ways_are_the_same_there_and_back_whatever_the_links() {
        for seed in 0..40_u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let mut links = Vec::new();
            for a in 0..12 {
                links.extend((0..a).filter(|_| next() % 4 == 0).map(|b| (a, b)));
            }
            let relays: Vec<u8> = (0..12).filter(|_| next() % 4 != 0).collect();
            let graph = graph(&links, relays);
            for (from, to) in (0..12).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let mut back = walk(&graph, to, from);
                back.reverse();
                assert_eq!(walk(&graph, from, to), back, "seed {seed}: {from} to {to}");
            }
        }
    }
}
