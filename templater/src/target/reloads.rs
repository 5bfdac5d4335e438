//! The queue of reloads of each target: one at a time, no sooner than its pause allows, and one for all that asked while
//! they waited, for their files are live by then.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::readers::ReloadError;

/// The queues of all targets.
#[derive(Debug, Default)]
pub struct Reloads {
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    counts: Arc<Counts>,
}

/// How many reloads there were.
#[derive(Debug, Default)]
pub struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
}

/// The queue of one target.
#[derive(Debug, Default)]
pub struct Queue {
    asked: AtomicU64,
    turn: tokio::sync::Mutex<Turn>,
    counts: Arc<Counts>,
    ended: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Whose wish the last reload fulfilled: everybody's up to this one.
    served: u64,
    told: String,
}

impl Reloads {
    /// The queue of the target that is known by this name.
    pub fn of(&self, target: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody holds has nobody waiting, and its pause has mostly passed.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        let new = || Arc::new(Queue { counts: self.counts.clone(), ..Queue::default() });
        queues.entry(target.to_owned()).or_insert_with(new).clone()
    }

    /// How many there were, by what they came to.
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("done", count(&self.counts.done)), ("failed", count(&self.counts.failed))]
    }
}

impl Queue {
    /// Does `reload` when it is its turn, at least `pause` after the last one or when `hurry` says so; or nothing, if a
    /// good one that began after this call has ended by then.
    ///
    /// # Errors
    /// What `reload` says; nobody else is told that.
    pub async fn ask(
        &self,
        pause: Duration,
        hurry: &CancellationToken,
        reload: impl Future<Output = Result<String, ReloadError>>,
    ) -> Result<String, ReloadError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut turn = self.turn.lock().await;
        if turn.served >= ticket {
            return Ok(turn.told.clone());
        }
        if let Some(ready) = self.ready(pause) {
            tokio::select! {
                () = sleep_until(ready) => {}
                () = hurry.cancelled() => {}
            }
        }
        let served = self.asked.load(Ordering::SeqCst);
        let result = reload.await;
        let counter = if result.is_ok() { &self.counts.done } else { &self.counts.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if let Ok(told) = &result {
            *turn = Turn { served, told: told.clone() };
        }
        result
    }

    /// When the next reload may begin; `None` if there has been none.
    pub fn ready(&self, pause: Duration) -> Option<Instant> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).map(|ended| ended + pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const PAUSE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_share_one_reload_and_the_pause_is_kept() {
        let (queue, count, start) = (Queue::default(), AtomicUsize::new(0), Instant::now());
        let hurry = CancellationToken::new();
        let one = || {
            queue.ask(PAUSE, &hurry, async {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(String::new())
            })
        };
        // The first begins at once; the others ask while it runs, so their files may have come too late for it.
        let all = tokio::join!(one(), one(), one(), one());
        assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
        assert_eq!((count.load(Ordering::SeqCst), start.elapsed()), (2, Duration::from_secs(1 + 5 + 1)));
        assert_eq!(queue.ready(PAUSE), Some(start + Duration::from_secs(7 + 5)));
        // Who is to stop does not wait, and owes nothing.
        let (told, ()) = tokio::join!(one(), async { hurry.cancel() });
        assert!(told.is_ok());
        assert_eq!((count.load(Ordering::SeqCst), start.elapsed()), (3, Duration::from_secs(8)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_one_only() {
        let (queue, count) = (Queue::default(), AtomicUsize::new(0));
        let hurry = CancellationToken::new();
        let failed = || ReloadError { cause: "it".into(), rejected: false };
        let one = || {
            queue.ask(Duration::ZERO, &hurry, async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if count.fetch_add(1, Ordering::SeqCst) == 0 { Err(failed()) } else { Ok("done".into()) }
            })
        };
        let (first, second, third) = tokio::join!(one(), one(), one());
        assert_eq!((first, second, third), (Err(failed()), Ok("done".into()), Ok("done".into())));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!((queue.counts.done.load(Ordering::Relaxed), queue.counts.failed.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_target_has_one_queue_as_long_as_somebody_holds_it() {
        let reloads = Reloads::default();
        let (a, b) = (reloads.of("nginx pid 1"), reloads.of("nginx pid 2"));
        assert!(Arc::ptr_eq(&a, &reloads.of("nginx pid 1")) && !Arc::ptr_eq(&a, &b));
    }
}
