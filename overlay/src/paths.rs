//! Who is reached through whom. Pure. Every host computes the same shortest ways through the same links, and no two ways
//! are equally long; so a way is the same in both directions and from every host on it, and WireGuard, which takes a
//! source address from one peer only, takes what is passed on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use ring::digest::{SHA256, digest};

use crate::network::NodeId;

/// Ways are not longer: packets lose one of their hops at each host.
const MAX_HOPS: u32 = 16;

/// Hosts, all of which have links to each other but for those that are said to be missing: few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// All.
    pub hosts: BTreeSet<NodeId>,
    /// Each missing link once, the lower id first.
    missing: BTreeSet<(NodeId, NodeId)>,
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
            self.missing.remove(&link);
        } else {
            self.missing.insert(link);
        }
    }

    fn has(&self, one: NodeId, other: NodeId) -> bool {
        !self.missing.contains(&(one.min(other), one.max(other)))
    }

    /// The neighbour through which each host is reached from `me`; those that are not reached are not in it.
    pub fn next_hops(&self, me: NodeId) -> BTreeMap<NodeId, NodeId> {
        let others = self.hosts.iter().copied().filter(|host| *host != me);
        // No way is shorter than one hop. So ways of more are looked for only to who has no link to `me`.
        let (near, far): (Vec<_>, Vec<_>) = others.partition(|host| self.has(me, *host));
        let mut far: BTreeSet<_> = far.into_iter().collect();
        let mut found: BTreeMap<_, _> = near.iter().map(|host| (*host, *host)).collect();
        if far.is_empty() {
            return found;
        }
        let mut queue: BinaryHeap<_> =
            near.into_iter().map(|host| Reverse((longer((0, 0), me, host), host, host))).collect();
        while let Some(Reverse((length, node, first))) = queue.pop() {
            if length.0 > 1 && !far.remove(&node) {
                continue;
            }
            found.insert(node, first);
            if length.0 == MAX_HOPS || !self.relays.contains(&node) {
                continue;
            }
            let next = far.iter().filter(|next| self.has(node, **next));
            queue.extend(next.map(|next| Reverse((longer(length, node, *next), *next, first))));
        }
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

    /// Of the hosts below 12, with these links only.
    fn graph(links: &[(u8, u8)], relays: impl IntoIterator<Item = u8>) -> Graph {
        let hosts = 0..12_u8;
        let mut graph = Graph {
            hosts: hosts.clone().map(id).collect(),
            relays: relays.into_iter().map(id).collect(),
            ..Graph::default()
        };
        for (a, b) in hosts.clone().flat_map(|a| (0..a).map(move |b| (a, b))) {
            graph.set(id(a), id(b), links.contains(&(a, b)) || links.contains(&(b, a)));
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
