//! What a replica has is what its hub has: random changes, told in pieces, also where some are missed.

use std::time::Duration;

use kvstore_core::{
    Index, State, WatchKey,
    names::{Key, NodeKey, ServiceKey},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Position, feed::Told, wire};
use crate::{
    engine::{
        Memory,
        tests::{FRESH, random_batches, seeds, stored},
    },
    store::Store,
};

/// A replica in short: what it knows, and how far that is.
struct Follower {
    state: State,
    position: Option<Position>,
    fetched: usize,
}

impl Follower {
    fn new() -> Self {
        Self { state: State::empty(Index(1)), position: None, fetched: 0 }
    }

    /// Asks once, and takes what it is told.
    fn ask(&mut self, hub: &Store, max_bytes: usize) {
        let Told { at, commits } = hub.feed().after(self.position, max_bytes);
        let Some(lines) = commits else {
            let state = hub.state();
            self.state = self.state.load_anew(state.index(), state.rows());
            self.position = Some(Position { life: at.life, index: state.index() });
            self.fetched += 1;
            return;
        };
        let answer = wire::answer(&super::Head::new(at, Vec::new(), false), &lines);
        let (head, commits) = wire::decode(&answer).unwrap();
        for commit in commits {
            self.state.apply(commit.index, &commit.changes);
        }
        self.position = Some(Position { life: head.life, index: head.index });
    }
}

/// Everything that somebody could wait on in these changes.
fn watched() -> Vec<WatchKey> {
    let nodes = ["n0", "n1", "n", "n/1"].map(|node| NodeKey::new(node).unwrap());
    let service = ServiceKey::new("web").unwrap();
    let keys = ["a", "a/b", "ab", "b", "%2F"].map(|key| WatchKey::Key(Key::new(key).unwrap()));
    let prefixes = ["", "a", "a/"].map(|prefix| WatchKey::KeyPrefix(prefix.into()));
    let all = [WatchKey::Services, WatchKey::Nodes, WatchKey::Checks, WatchKey::CheckStatuses, WatchKey::Sessions];
    let of_nodes = nodes.into_iter().flat_map(|node| [WatchKey::Node(node.clone()), WatchKey::NodeChecks(node)]);
    let of_service = [WatchKey::Service(service.clone()), WatchKey::ServiceStatus(service)];
    keys.into_iter().chain(prefixes).chain(all).chain(of_nodes).chain(of_service).collect()
}

#[tokio::test]
async fn a_replica_has_the_rows_and_the_indexes_of_its_hub() {
    for seed in seeds(6) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (hub, writer) = Store::start(Box::new(Memory::new(FRESH))).unwrap();
        let mut replicas = [Follower::new(), Follower::new()];
        // From an empty registry on, so that not even what was marked before differs.
        for replica in &mut replicas {
            replica.ask(&hub, usize::MAX);
        }
        for command in random_batches(seed, 60).into_iter().flatten() {
            drop(hub.submit(command).await);
            let [near, far] = &mut replicas;
            near.ask(&hub, usize::MAX);
            if rng.random_bool(0.2) {
                far.ask(&hub, rng.random_range(1..3000));
            }
            assert_eq!((near.state.index(), stored(&near.state)), (hub.state().index(), stored(&hub.state())));
            for key in watched() {
                assert_eq!(near.state.index_of(&key), hub.state().index_of(&key), "{key:?}");
            }
        }
        let [near, far] = &mut replicas;
        while far.state.index() < hub.state().index() {
            far.ask(&hub, 3000);
        }
        assert_eq!(stored(&far.state), stored(&hub.state()));
        assert_eq!((near.fetched, far.fetched), (1, 1), "nothing was missed");
        writer.stop();
    }
}

#[tokio::test]
async fn who_was_away_for_too_long_fetches_everything_and_goes_on() {
    let (hub, writer) = Store::start(Box::new(Memory::new(FRESH))).unwrap();
    let mut replica = Follower::new();
    let put = |key: &str, bytes: usize| kvstore_core::Command::KvPut {
        key: Key::new(key).unwrap(),
        value: vec![b'x'; bytes].into(),
        flags: 0,
        cas: None,
        ttl: Duration::ZERO,
    };
    for (key, bytes, fetched) in [("a", 1, 1), ("b", 1 << 20, 1), ("huge", 8 << 20, 2), ("c", 1, 2)] {
        replica.ask(&hub, usize::MAX);
        hub.submit(put(key, bytes)).await.unwrap();
        replica.ask(&hub, usize::MAX);
        assert_eq!(stored(&replica.state), stored(&hub.state()), "{key}");
        assert_eq!(replica.fetched, fetched, "{key}");
    }
    writer.stop();
}
