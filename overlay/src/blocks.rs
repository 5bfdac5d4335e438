//! Which blocks this host holds, should claim, and lets go. Pure. Blocks are claimed seldom, chosen by a hash of who
//! wants one, and a claim that another one turns out to have made before is given up, so that whatever the registry
//! loses or doubles ends in one holder a block.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};

use crate::{
    network::{Block, Network, NetworkId, NodeId},
    record::{Holding, Key},
    state::Usage,
    world::{Now, World},
};

/// A network gets another block when so much of what it has is used.
const GROW_AT_PERCENT: u64 = 80;
/// A claim whose host does not say that it holds the block is left over, in milliseconds.
const CLAIM_LASTS_MS: u64 = 60_000;

/// This host.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// Which.
    pub node: NodeId,
    /// What it is called.
    pub name: &'a str,
    /// The blocks that it says to hold.
    pub held: &'a [Holding],
    /// Those of them that are not for containers.
    pub apart: &'a [Holding],
}

/// What is to be done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the record of this block where `cas` is the index; if that succeeds, hold it.
    Claim {
        /// Which.
        block: Block,
        /// What to compare with.
        cas: u64,
    },
    /// Another host held it first: give out no more of it.
    Yield(Holding),
    /// Its network is gone, or not for this host any more.
    Release(Holding),
    /// This host holds it, but the registry does not have its claim.
    Restore(Block),
}

/// What to do, given how full the blocks of each network are.
pub fn plan(world: &World, me: Me<'_>, usage: &BTreeMap<NetworkId, Usage>, now: Now) -> Vec<Step> {
    let networks: BTreeMap<_, _> = world.networks().into_iter().map(|network| (network.id, network)).collect();
    let holders = world.holders(now);
    let mut steps = Vec::new();
    let mut kept: BTreeMap<NetworkId, usize> = BTreeMap::new();
    for holding in me.held {
        let network = networks.get(&holding.network).filter(|network| network.hosts.include(me.name));
        let block = network.and_then(|network| network.block_of(holding.block));
        let Some(block) = block else {
            steps.push(Step::Release(*holding));
            continue;
        };
        match holders.get(&block) {
            Some((since, node)) if (*since, *node) < (holding.since, me.node) => steps.push(Step::Yield(*holding)),
            _ => {
                *kept.entry(holding.network).or_default() += usize::from(!me.apart.contains(holding));
                if world.index(&Key::Block(block.network, block.v4)) == 0 {
                    steps.push(Step::Restore(block));
                }
            }
        }
    }
    let mine = networks.values().filter(|network| network.hosts.include(me.name));
    for network in mine {
        let blocks = kept.get(&network.id).copied().unwrap_or(0);
        if blocks == 0 || is_full(usage.get(&network.id)) {
            steps.extend(choose(world, network, me.node, &holders, now).map(|(block, cas)| Step::Claim { block, cas }));
        }
    }
    steps
}

/// What a host that comes back lost while it was away: the registry has forgotten it, and another member has the block.
/// To be asked once, with what was read first, and when this host was last alive before that. Who was away for less than
/// the grace time has lost nothing: then it is the registry that has, and whoever has the block meanwhile gives way.
pub fn lost_while_away(world: &World, me: NodeId, held: &[Holding], alive: Option<u64>, now: Now) -> Vec<Holding> {
    let briefly = alive.is_some_and(|seen| seen.saturating_add(now.grace) > now.seconds);
    if world.index(&Key::Node(me)) > 0 || briefly {
        return Vec::new();
    }
    let others = world.members(now).filter(|(id, _)| *id != me);
    let taken: BTreeSet<_> = others.flat_map(|(_, node)| &node.blocks).map(|held| (held.network, held.block)).collect();
    held.iter().filter(|holding| taken.contains(&(holding.network, holding.block))).copied().collect()
}

fn is_full(usage: Option<&Usage>) -> bool {
    usage.is_some_and(|usage| usage.capacity > 0 && usage.used * 100 >= usage.capacity * GROW_AT_PERCENT)
}

/// A block of `network` that nobody has, and what to compare with when it is claimed.
pub fn free(world: &World, network: &Network, node: NodeId, now: Now) -> Option<(Block, u64)> {
    choose(world, network, node, &world.holders(now), now)
}

/// A block of `network` that nobody has: the first from where the hash of the two says.
fn choose(
    world: &World,
    network: &Network,
    node: NodeId,
    holders: &BTreeMap<Block, (u64, NodeId)>,
    now: Now,
) -> Option<(Block, u64)> {
    let kept_back = world.kept_back(now);
    let count = network.block_count();
    let first = first_choice(network.id, node) % count;
    let mut all = (0..count).map(|n| network.block((first + n) % count));
    let block = all.find(|block| {
        !holders.contains_key(block) && !kept_back.contains(block) && !is_claimed(world, block, node, now)
    })?;
    Some((block, world.index(&Key::Block(block.network, block.v4))))
}

/// Somebody else asked for it just now and will say so in a moment.
fn is_claimed(world: &World, block: &Block, me: NodeId, now: Now) -> bool {
    let key = Key::Block(block.network, block.v4);
    let recent = |rev: u64| rev.saturating_add(CLAIM_LASTS_MS) > now.seconds * 1000;
    let other = |author| author != me && !world.evicted(author);
    world.index(&key) > 0 && world.record(&key).is_some_and(|claim| other(claim.author()) && recent(claim.rev))
}

fn first_choice(network: NetworkId, node: NodeId) -> u32 {
    let hash = digest(&SHA256, &[network.0.as_bytes().as_slice(), &node.0].concat());
    u32::from_be_bytes(hash.as_ref()[..4].try_into().expect("32 bytes have 4"))
}

/// Claims in the registry whose host neither holds the block nor asked for it just now, for the one member who clears up:
/// the live one of the lowest id. With what to compare.
pub fn left_over(world: &World, me: NodeId, now: Now) -> Vec<(Key, u64)> {
    let cleaner = world.members(now).map(|(id, _)| id).find(|id| world.live(*id));
    if cleaner != Some(me) {
        return Vec::new();
    }
    let held: BTreeSet<_> =
        world.holders(now).into_keys().chain(world.kept_back(now)).map(|b| (b.network, b.v4)).collect();
    let members: BTreeSet<_> = world.members(now).map(|(id, _)| id).collect();
    let old = |key: &Key| match world.record(key) {
        Some(record) => record.rev.saturating_add(CLAIM_LASTS_MS) <= now.seconds * 1000,
        None => true,
    };
    let over = |key: &&Key| match key {
        Key::Block(network, block) => !held.contains(&(*network, *block)) && old(key),
        Key::Links(id) | Key::Live(id) => !members.contains(id) && old(key),
        Key::Seen(id, by) => !(members.contains(id) && members.contains(by)) && old(key),
        Key::Node(id) => !members.contains(id) && !world.evicted(*id) && old(key),
        _ => false,
    };
    world.keys().filter(over).map(|key| (key.clone(), world.index(key))).collect()
}

#[cfg(test)]
mod tests;
