//! Snapshots that the agent takes by itself, one after the other, each there whole and read back, or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kvstore_client::with_causes;
use kvstore_core::State;
use tokio_util::sync::CancellationToken;

use super::{
    Archive, Damage, id, read,
    schedule::{self, UNFINISHED},
};
use crate::{
    config::{self, Snapshots},
    metrics::SnapshotMetrics,
    store::Store,
    whole_file,
};

/// After one that could not be taken, unless the next one is due earlier.
const RETRY: Duration = Duration::from_mins(1);

/// Takes snapshots.
#[derive(Debug)]
pub(crate) struct Regular {
    settings: Snapshots,
    store: Store,
    node_name: String,
    address: String,
    metrics: SnapshotMetrics,
}

/// Why there is no snapshot now.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("cannot {} {}", .0, .1.display())]
    File(&'static str, PathBuf, #[source] io::Error),
    #[error("what was written to {} is not what is read there", .0.display())]
    Damaged(PathBuf, #[source] Damage),
}

impl Regular {
    /// Of `store`, the registry of the agent of that configuration.
    pub(crate) fn new(settings: Snapshots, store: Store, agent: &config::Agent, metrics: SnapshotMetrics) -> Self {
        let address = format!("{}:{}", agent.advertise, agent.server_port);
        Self { settings, store, node_name: agent.node_name.clone(), address, metrics }
    }

    /// Takes one whenever it is due, until `shutdown`; `clock` tells the time.
    pub(crate) async fn run(self, clock: impl Fn() -> Timestamp, shutdown: CancellationToken) {
        let this = Arc::new(self);
        loop {
            let (step, now) = (this.clone(), clock());
            let done = tokio::task::spawn_blocking(move || step.take_if_due(now)).await;
            let wait = match done {
                Ok(Ok(wait)) => wait,
                Ok(Err(error)) => this.failed(&with_causes(&error)),
                Err(error) => this.failed(&error.to_string()),
            };
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    fn failed(&self, error: &str) -> Duration {
        let wait = RETRY.min(self.settings.every);
        tracing::error!(error, next_try = ?wait, "no snapshot was taken; those that are there stay");
        self.metrics.failed();
        wait
    }

    /// Takes one now if it is due, and gives the time until the next.
    fn take_if_due(&self, now: Timestamp) -> Result<Duration, Failed> {
        let Snapshots { directory, every, keep } = &self.settings;
        let mut there = list(directory)?;
        let wait = schedule::due_in(&there, *every, now);
        if !wait.is_zero() {
            return Ok(wait);
        }
        let state = self.store.state();
        let path = directory.join(schedule::name(now));
        self.take(&state, &path, now)?;
        tracing::info!(path = %path.display(), index = %state.index(), "a snapshot was taken and verified");
        self.metrics.taken(now.as_second());
        there.push(now);
        for old in schedule::surplus(there, *keep) {
            let old = directory.join(schedule::name(old));
            if let Err(error) = fs::remove_file(&old) {
                tracing::warn!(%error, path = %old.display(), "an old snapshot is not removed");
            }
        }
        Ok(*every)
    }

    fn take(&self, state: &State, path: &Path, now: Timestamp) -> Result<(), Failed> {
        let unfinished = Unfinished(path.with_added_extension(&UNFINISHED[1..]));
        let beside = &unfinished.0;
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| Failed::File(what, path, error)
        };
        let since_1970 = Duration::try_from(now.as_duration()).unwrap_or_default();
        let id = id(state.index(), since_1970);
        let (node_name, address) = (&self.node_name, &self.address);
        let archive = Archive { state, id: &id, node_name, address, time: since_1970.as_secs() };
        // For nobody else to read: keys may be secrets.
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside);
        let file = open.map_err(failed("create", beside))?;
        let written = archive.write(BufWriter::new(&file)).and_then(|()| file.sync_all());
        written.map_err(failed("write", beside))?;
        let file = File::open(beside).map_err(failed("read", beside))?;
        read(BufReader::new(file), u64::MAX).map_err(|damage| Failed::Damaged(beside.clone(), damage))?;
        whole_file::put(beside, path).map_err(failed("rename", beside))
    }
}

/// When the snapshots in `directory` were taken. What a crash left unfinished is removed.
fn list(directory: &Path) -> Result<Vec<Timestamp>, Failed> {
    let failed = |error| Failed::File("read", directory.to_owned(), error);
    let mut there = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(at) = schedule::taken_at(name) {
            there.push(at);
        } else if name.strip_suffix(UNFINISHED).and_then(schedule::taken_at).is_some() {
            let _ = fs::remove_file(directory.join(name));
        }
    }
    Ok(there)
}

/// A file that is not what it should become; removed when dropped, unless it has another name by then.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kvstore_core::Index;
    use tokio::time::Instant;

    use super::*;
    use crate::engine::Memory;

    /// What is in a directory, in order.
    fn files(directory: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Snapshots every minute, of which two are kept, on a clock that began at 12:00.
    struct Running {
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        metrics: SnapshotMetrics,
    }

    impl Running {
        fn start(directory: &Path, store: &Store, began: Instant) -> Self {
            let settings = Snapshots { directory: directory.into(), every: Duration::from_mins(1), keep: 2 };
            let (metrics, shutdown) = (SnapshotMetrics::default(), CancellationToken::new());
            let agent = config::Agent::in_memory("n");
            let regular = Regular::new(settings, store.clone(), &agent, metrics.clone());
            let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
            let clock = move || noon + began.elapsed();
            Self { task: tokio::spawn(regular.run(clock, shutdown.clone())), shutdown, metrics }
        }

        async fn stop(self) {
            self.shutdown.cancel();
            self.task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_taken_kept_and_removed_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::start(Box::new(Memory::new(Index(1)))).unwrap();
        for name in ["mine.snap", "kvstore-20260101T115900Z.snap.unfinished"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let began = Instant::now();
        let second = |s| tokio::time::sleep_until(began + Duration::from_secs(s));
        let running = Running::start(dir.path(), &store, began);
        second(10).await;
        assert_eq!(files(dir.path()), ["kvstore-20260101T120000Z.snap", "mine.snap"]);
        let mode = fs::metadata(dir.path().join("kvstore-20260101T120000Z.snap")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        running.stop().await;

        // The next is due a minute after the last, whenever the agent was started.
        let running = Running::start(dir.path(), &store, began);
        second(59).await;
        assert_eq!(files(dir.path()).len(), 2);
        second(150).await;
        let kept = ["kvstore-20260101T120100Z.snap", "kvstore-20260101T120200Z.snap", "mine.snap"];
        assert_eq!(files(dir.path()), kept);
        running.stop().await;
        let whole = File::open(dir.path().join(kept[1])).unwrap();
        assert_eq!(read(BufReader::new(whole), u64::MAX).unwrap().0.index, store.state().index().0);
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_none_can_be_taken_it_is_tried_on() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("disk");
        let (store, writer) = Store::start(Box::new(Memory::new(Index(1)))).unwrap();
        let began = Instant::now();
        let running = Running::start(&gone, &store, began);
        tokio::time::sleep_until(began + Duration::from_secs(90)).await;
        assert_eq!(running.metrics.counts(), (0, 2));
        assert!(!gone.exists(), "it may be that the disk is not mounted, and the directory is to be on no other");
        fs::create_dir(&gone).unwrap();
        tokio::time::sleep_until(began + Duration::from_secs(130)).await;
        assert_eq!((files(&gone), running.metrics.counts()), (vec!["kvstore-20260101T120200Z.snap".into()], (1, 2)));
        running.stop().await;
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
}
