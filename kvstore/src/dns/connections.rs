//! Connections over TCP: how many there are at the same time, and which one goes when another comes.
//!
//! Nobody waits for those who came before: when all places are taken, one of whoever has the most is closed, the one
//! that has got on least lately. So a client that opens many, or lets them lie, takes places from itself.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The places of one address that is served.
#[derive(Debug)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    source: IpAddr,
    /// When its last question was read, or its last reply taken.
    progress: Instant,
    closed: CancellationToken,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    connections: Arc<Connections>,
    /// Says that the place is needed for another.
    pub(super) closed: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(most)), open: Mutex::default() })
    }

    /// A place for a connection from there. If all are taken, closes one of them and says so by `crowded_out`.
    pub(super) async fn admit(self: &Arc<Self>, from: IpAddr, crowded_out: impl FnOnce()) -> Place {
        let places = self.places.clone();
        if places.available_permits() == 0 && self.open().close_one() {
            crowded_out();
        }
        let permit = places.acquire_owned().await.expect("the semaphore is never closed");
        let (closed, progress) = (CancellationToken::new(), Instant::now());
        let connection = Connection { source: source(from), progress, closed: closed.clone() };
        let number = self.open().add(connection);
        Place { number, connections: self.clone(), closed, _permit: permit }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn add(&mut self, connection: Connection) -> u64 {
        self.next += 1;
        self.by_number.insert(self.next, connection);
        self.next
    }

    /// Closes one, if there is one that is not closed yet.
    fn close_one(&mut self) -> bool {
        let all = self.by_number.iter().map(|(number, one)| (*number, one.source, one.progress));
        let Some(connection) = least_missed(all).and_then(|number| self.by_number.remove(&number)) else {
            return false;
        };
        connection.closed.cancel();
        true
    }
}

impl Place {
    /// A question was read, or a reply was taken.
    pub(super) fn got_on(&self) {
        if let Some(connection) = self.connections.open().by_number.get_mut(&self.number) {
            connection.progress = Instant::now();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().by_number.remove(&self.number);
    }
}

/// Of the source that has the most connections, the one whose last progress is the longest ago.
fn least_missed<T: Ord + Copy>(all: impl Iterator<Item = (u64, IpAddr, T)> + Clone) -> Option<u64> {
    let mut count: HashMap<IpAddr, usize> = HashMap::new();
    for (_, source, _) in all.clone() {
        *count.entry(source).or_default() += 1;
    }
    all.max_by_key(|(number, source, progress)| (count[source], Reverse((*progress, *number))))
        .map(|(number, ..)| number)
}

/// Who is one client: an address, or over IPv6 the /64 that a single host may have.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_the_most_gives_up_what_rested_longest() {
        let check = |all: &[(&str, u32)], want: Option<usize>| {
            let all = all
                .iter()
                .zip(0..)
                .map(|((from, progress), number)| (number, source(from.parse().unwrap()), *progress));
            let found = least_missed(all);
            assert_eq!(found, want.map(|number| number as u64));
        };
        check(&[], None);
        check(&[("10.0.0.1", 5)], Some(0));
        check(&[("10.0.0.1", 5), ("10.0.0.2", 3), ("10.0.0.3", 9)], Some(1));
        check(&[("10.0.0.1", 1), ("10.0.0.2", 8), ("10.0.0.2", 7)], Some(2));
        check(&[("10.0.0.1", 1), ("::ffff:10.0.0.2", 8), ("10.0.0.2", 9)], Some(1));
        check(&[("10.0.0.1", 1), ("2001:db8::1", 8), ("2001:db8::2", 7), ("2001:db8:0:1::", 1)], Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_takes_the_place_of_another() {
        let connections = Connections::new(2);
        let (greedy, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let nobody = || panic!("there is room");
        let first = connections.admit(greedy, nobody).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = connections.admit(greedy, nobody).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        first.got_on();

        let mut crowded = 0;
        let third = {
            let mut waiting = std::pin::pin!(connections.admit(other, || crowded += 1));
            assert!(futures_util::poll!(&mut waiting).is_pending(), "the place is not free yet");
            assert!(second.closed.is_cancelled() && !first.closed.is_cancelled());
            drop(second);
            waiting.await
        };
        assert_eq!(crowded, 1);
        assert_eq!(connections.open().by_number.len(), 2);
        drop((first, third));
        assert!(connections.open().by_number.is_empty());
    }
}
