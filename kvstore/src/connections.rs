//! Connections, of HTTP and of DNS over TCP: how many there are at the same time, and which ones go when another comes.
//!
//! Nobody waits for those who came before: when all places are taken, connections are closed. First those that have
//! rested for a while, and of them those of whoever has the most; if none does, one of whoever has the most at all. So a
//! client that opens many, or lets them lie, takes places from itself.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Who has sent nothing whole for this long rests. Before that, a connection that is new has had no time to.
const REST: Duration = Duration::from_secs(5);

/// Of so many places one is made free at once, if enough connections rest: to find them all are looked at, which is not
/// to be done for each of the thousands that one who floods opens.
const PLACES_FOR_ONE: usize = 256;

/// The places of what is served.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    at_once: usize,
    open: Mutex<Open>,
    /// What progress is measured from.
    start: Instant,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    source: IpAddr,
    activity: Arc<Activity>,
    closed: CancellationToken,
}

/// Milliseconds from the start to the last progress, times two; odd if it has nothing to do since.
#[derive(Debug)]
struct Activity(AtomicU64);

impl Activity {
    fn set(&self, start: Instant, rests: bool) {
        let progress = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.store(progress << 1 | u64::from(rests), Relaxed);
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
    /// Says that the place is needed for another.
    pub(crate) closed: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let (places, at_once) = (Arc::new(Semaphore::new(most)), most.div_ceil(PLACES_FOR_ONE));
        Arc::new(Self { places, at_once, open: Mutex::default(), start: Instant::now() })
    }

    /// A place for a connection from there, which is at work. If all are taken, closes others and tells `crowded_out` how
    /// many.
    pub(crate) async fn admit(self: &Arc<Self>, from: IpAddr, crowded_out: impl FnOnce(usize)) -> Place {
        let places = self.places.clone();
        if places.available_permits() == 0 {
            crowded_out(self.open().close(self.start.elapsed(), self.at_once));
        }
        let permit = places.acquire_owned().await.expect("the semaphore is never closed");
        let (closed, activity) = (CancellationToken::new(), Arc::new(Activity(AtomicU64::new(0))));
        activity.set(self.start, false);
        let connection = Connection { source: source(from), activity: activity.clone(), closed: closed.clone() };
        let number = self.open().add(connection);
        Place { number, activity, connections: self.clone(), closed, _permit: permit }
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

    /// Closes some, `at_once` at the most, if there are any that are not closed yet, and gives how many.
    fn close(&mut self, now: Duration, at_once: usize) -> usize {
        let all = self.by_number.iter().map(|(number, one)| {
            let activity = one.activity.0.load(Relaxed);
            let (progress, idle) = (Duration::from_millis(activity >> 1), activity & 1 == 1);
            Standing { number: *number, source: one.source, idle, rests: idle && progress + REST <= now, progress }
        });
        let missed = least_missed(all.collect(), at_once);
        for connection in missed.iter().filter_map(|number| self.by_number.remove(number)) {
            connection.closed.cancel();
        }
        missed.len()
    }
}

impl Place {
    /// It has something to do: a request or question was read, or a reply was taken.
    pub(crate) fn works(&self) {
        self.activity.set(self.connections.start, false);
    }

    /// Nothing is to be done until something comes.
    pub(crate) fn idles(&self) {
        self.activity.set(self.connections.start, true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().by_number.remove(&self.number);
    }
}

/// How a connection stands.
#[derive(Clone, Copy)]
struct Standing {
    number: u64,
    source: IpAddr,
    idle: bool,
    /// Is idle for long.
    rests: bool,
    progress: Duration,
}

/// Of those that rest `at_once`, of the sources that have the most of them, those whose last progress is the longest ago.
/// If none rests, one: of the source that has the most, one that is idle before one that works.
fn least_missed(mut all: Vec<Standing>, at_once: usize) -> Vec<u64> {
    let anybody_rests = all.iter().any(|one| one.rests);
    all.retain(|one| one.rests == anybody_rests);
    let mut count: HashMap<IpAddr, usize> = HashMap::new();
    for one in &all {
        *count.entry(one.source).or_default() += 1;
    }
    all.sort_unstable_by_key(|one| (Reverse(count[&one.source]), !one.idle, one.progress, one.number));
    all.truncate(if anybody_rests { at_once } else { 1 });
    all.iter().map(|one| one.number).collect()
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
    use super::*;

    /// Connections as `SOURCE STATE PROGRESS`, and which ones are closed, two at once.
    fn check(all: &[&str], want: &[u64]) {
        let standing = |(text, number): (&&str, u64)| {
            let [from, state, progress] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
            let (idle, rests) = (state != "works", state == "rests");
            let progress = Duration::from_secs(progress.parse().unwrap());
            Standing { number, source: source(from.parse().unwrap()), idle, rests, progress }
        };
        assert_eq!(least_missed(all.iter().zip(0..).map(standing).collect(), 2), want, "{all:?}");
    }

    #[test]
    fn of_those_who_work_who_has_the_most_gives_up_what_got_on_the_longest_ago() {
        check(&[], &[]);
        check(&["10.0.0.1 works 5"], &[0]);
        check(&["10.0.0.1 works 5", "10.0.0.2 works 3", "10.0.0.3 works 9"], &[1]);
        check(&["10.0.0.1 works 1", "10.0.0.2 works 8", "10.0.0.2 works 7"], &[2]);
        check(&["10.0.0.1 works 1", "::ffff:10.0.0.2 works 8", "10.0.0.2 works 9"], &[1]);
        let v6 = ["2001:db8::1 works 8", "2001:db8::2 works 7", "2001:db8:0:1::1 works 1"];
        check(&["10.0.0.1 works 1", v6[0], v6[1], v6[2]], &[2]);
    }

    #[test]
    fn who_rests_goes_before_who_works_and_who_has_just_come() {
        check(&["10.0.0.1 works 1", "10.0.0.1 works 2", "10.0.0.2 rests 9"], &[2]);
        check(&["10.0.0.1 rests 1", "10.0.0.2 rests 9", "10.0.0.2 rests 8", "10.0.0.2 rests 7"], &[3, 2]);
        // Who has many at work does not lose for that the few that rest.
        check(
            &["10.0.0.1 works 1", "10.0.0.1 works 1", "10.0.0.1 rests 1", "10.0.0.2 rests 9", "10.0.0.2 rests 9"],
            &[3, 4],
        );
        // New ones of one source are not those of another.
        check(&["10.0.0.1 works 1", "10.0.0.1 idle 8", "10.0.0.1 idle 9", "10.0.0.2 idle 1"], &[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_takes_the_place_of_another() {
        let connections = Connections::new(2);
        let (greedy, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let nobody = |_| panic!("there is room");
        let first = connections.admit(greedy, nobody).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = connections.admit(greedy, nobody).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        first.works();

        let mut crowded = 0;
        let third = {
            let mut waiting = std::pin::pin!(connections.admit(other, |closed| crowded += closed));
            assert!(futures_util::poll!(&mut waiting).is_pending(), "the place is not free yet");
            assert!(second.closed.is_cancelled() && !first.closed.is_cancelled());
            drop(second);
            waiting.await
        };
        assert_eq!(crowded, 1);
        assert_eq!(connections.open().by_number.len(), 2);

        third.idles();
        tokio::time::advance(REST).await;
        let mut waiting = std::pin::pin!(connections.admit(greedy, |_| ()));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(third.closed.is_cancelled() && !first.closed.is_cancelled(), "who rests goes, and not who works");
        drop((first, third));
        drop(waiting.await);
        assert!(connections.open().by_number.is_empty());
    }
}
