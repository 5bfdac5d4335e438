//! When everything is looked at again: whenever Docker or the mesh tells that something happened, soon where something is
//! not as it should be, and now and then. What there is to look at is the business of whoever looks.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use kvstore_client::Backoff;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::state::Held;

/// A Docker that is away is asked again after that.
pub(crate) const AWAY: Duration = Duration::from_secs(1);
/// Without news everything is looked at that often.
const RESYNC: Duration = Duration::from_mins(1);
/// Events come in groups: what comes within that of the first one is looked at together with it.
const GATHER: Duration = Duration::from_millis(50);

/// Why it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is the first time, or something happened.
    News,
    /// It was time.
    Time,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// What is not as it should be.
    pub(crate) wrong: BTreeSet<String>,
    /// Some of it may be put right by trying again: nobody tells when what was in the way is gone.
    pub(crate) again: bool,
    /// By then it is to be looked again in any case, if sooner than usual.
    pub(crate) within: Option<Duration>,
}

impl Found {
    /// Notes what did not succeed, and may the next time.
    pub(crate) fn failed(&mut self, wrong: impl IntoIterator<Item = String>) {
        let before = self.wrong.len();
        self.wrong.extend(wrong);
        self.again |= self.wrong.len() > before;
    }
}

/// What was told to be wrong, so that it is told once.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeSet<String>);

impl Told {
    pub(crate) fn tell(&mut self, wrong: BTreeSet<String>) {
        for text in wrong.difference(&self.0) {
            warn!("{text}");
        }
        self.0 = wrong;
    }
}

/// Whoever looks.
pub(crate) trait Look: Send {
    /// Why a look did not even come to an end.
    type Error: Send;

    /// Looks at everything, and does what is to be done.
    fn look(&mut self, why: Why) -> impl Future<Output = Result<Found, Self::Error>> + Send;
}

/// Has `keeper` look now and then as said above, until `events` end or break, or there is no mesh any more.
///
/// # Errors
/// Those of a look.
pub(crate) async fn watch<T, B, K: Look>(
    mut changes: watch::Receiver<Arc<Held>>,
    events: impl Stream<Item = Result<T, B>> + Send,
    told: &mut Told,
    keeper: &mut K,
) -> Result<(), K::Error> {
    let mut events = pin!(events);
    let mut backoff = Backoff::between(AWAY, RESYNC);
    let mut why = Why::News;
    loop {
        changes.mark_unchanged();
        let found = keeper.look(why).await?;
        told.tell(found.wrong);
        let pause = if found.again { backoff.delay() } else { RESYNC };
        let pause = found.within.map_or(pause, |within| pause.min(within.max(AWAY)));
        tokio::select! {
            () = sleep(pause) => {
                why = Why::Time;
                continue;
            }
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            event = events.next() => {
                let group = async { while let Some(Ok(_)) = events.next().await {} };
                if !matches!(event, Some(Ok(_))) || timeout(GATHER, group).await.is_ok() {
                    return Ok(());
                }
            }
        }
        why = Why::News;
        backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::{sync::mpsc, time::Instant};

    use super::*;
    use crate::{
        mesh::{Ends, Mesh},
        network::NodeId,
    };

    /// Takes so many milliseconds for a look.
    struct Slow<F>(u64, F);

    impl<F: FnMut(Why) -> Found + Send> Look for Slow<F> {
        type Error = Infallible;

        async fn look(&mut self, why: Why) -> Result<Found, Infallible> {
            let found = self.1(why);
            sleep(Duration::from_millis(self.0)).await;
            Ok(found)
        }
    }

    const NOTHING: Found = Found { wrong: BTreeSet::new(), again: false, within: None };

    fn mesh() -> (Mesh, Ends) {
        Mesh::new(Held { node: NodeId([1; 16]), host: "a".into(), tunnel: "wg7".into(), networks: Vec::new() })
    }

    /// When it is looked and why, in milliseconds, while events come at these times and then never again, and each look
    /// takes as long and finds what `look` says; for ten minutes.
    async fn looks(events: Vec<u64>, takes: u64, look: impl Fn(usize) -> Found + Send + Sync) -> Vec<(u64, Why)> {
        let begin = Instant::now();
        let (send, receive) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for at in events {
                tokio::time::sleep_until(begin + Duration::from_millis(at)).await;
                send.send(Ok::<_, Infallible>(())).unwrap();
            }
            std::future::pending::<()>().await;
        });
        let events = stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
        let ((mesh, _ends), mut told, mut all) = (mesh(), Told::default(), Vec::new());
        let mut by = Slow(takes, |why| {
            all.push((u64::try_from(begin.elapsed().as_millis()).unwrap(), why));
            look(all.len())
        });
        let work = watch(mesh.changes(), events, &mut told, &mut by);
        assert!(timeout(10 * RESYNC, work).await.is_err(), "it goes on");
        all
    }

    /// Those for news.
    fn for_news(looks: &[(u64, Why)]) -> Vec<u64> {
        looks.iter().filter(|(_, why)| *why == Why::News).map(|(at, _)| *at).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn many_events_cost_few_looks() {
        for (name, events, takes, wanted) in [
            ("none", vec![], 0, vec![0]),
            ("one", vec![100], 0, vec![0, 150]),
            ("a hundred at once", vec![100; 100], 0, vec![0, 150]),
            ("thirty, one every three milliseconds", (0..30).map(|n| 100 + 3 * n).collect(), 0, vec![0, 150, 201]),
            ("a hundred during the first look", (100..200).collect(), 1000, vec![0, 1050]),
            ("one after the other", vec![100, 300, 500], 0, vec![0, 150, 350, 550]),
        ] {
            assert_eq!(for_news(&looks(events, takes, |_| NOTHING).await), wanted, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_news_it_is_looked_now_and_then_and_sooner_where_something_is_wrong() {
        let times = |looks: Vec<(u64, Why)>| looks.into_iter().map(|(at, _)| at / 1000).collect::<Vec<_>>();
        let calm = times(looks(vec![], 0, |_| NOTHING).await);
        assert_eq!(calm[..10], (0..10).map(|n| n * 60).collect::<Vec<_>>());
        // Three times in vain: after one, two and four seconds, more or less.
        let found = |nth| Found { again: nth <= 3, ..NOTHING };
        let retried = times(looks(vec![], 0, found).await);
        assert!(retried[1] <= 1 && (1..=3).contains(&(retried[2] - retried[1])), "{retried:?}");
        assert!((2..=5).contains(&(retried[3] - retried[2])) && retried[4] - retried[3] == 60, "{retried:?}");
        // For ever in vain: not more and more often.
        assert!((12..=18).contains(&looks(vec![], 0, |_| Found { again: true, ..NOTHING }).await.len()));
        let soon = Found { within: Some(Duration::from_secs(7)), ..NOTHING };
        assert_eq!(times(looks(vec![], 0, |_| soon.clone()).await)[..3], [0, 7, 14]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_mesh_s_changes_are_looked_at_and_the_end_of_events_is_the_end() {
        let ((mesh, ends), mut told, mut count) = (mesh(), Told::default(), 0);
        let events = stream::pending::<Result<(), Infallible>>();
        let mut by = Slow(0, |_| {
            count += 1;
            // What changes during a look is looked at again.
            if count < 4 {
                ends.held.send_replace(mesh.held());
            }
            NOTHING
        });
        let work = watch(mesh.changes(), events, &mut told, &mut by);
        assert!(timeout(AWAY, work).await.is_err());
        assert_eq!(count, 4);
        for broken in [vec![], vec![Err("broken")], vec![Ok(()), Err("broken")], vec![Ok(())]] {
            let mut by = Slow(0, |_| NOTHING);
            let work = watch(mesh.changes(), stream::iter(broken), &mut told, &mut by);
            assert_eq!(timeout(AWAY, work).await, Ok(Ok(())));
        }
    }
}
