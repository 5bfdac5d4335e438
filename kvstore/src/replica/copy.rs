//! The replica's rows in its data directory, to begin with after a restart while the hub is away. It may be a little
//! behind what is shown; the hub tells the rest again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kvstore_client::with_causes;
use kvstore_core::State;
use tokio::{task::spawn_blocking, time::Instant};

use super::wire::{Life, Position};
use crate::engine::{Commit, Embedded, Engine as _, EngineError, Loaded};

/// From one attempt to write again after a failed one to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Where the copy is: a directory of its own, so that no registry's own data are ever taken for it.
#[derive(Clone, Debug)]
pub(super) struct CopyDir(PathBuf);

impl CopyDir {
    pub(super) fn in_data_dir(data_dir: &Path) -> Self {
        Self(data_dir.join("replica"))
    }

    /// Opens it, and gives what it holds, and how far that is; none of a copy that is empty.
    ///
    /// # Errors
    /// [`EngineError::Open`] if another process uses it, or it cannot be made.
    pub(super) fn open(&self) -> Result<(Copy, Loaded, Option<Position>), EngineError> {
        let mut store = Embedded::open_copy(&self.0)?;
        let loaded = store.load()?;
        let position = store.copy_of().map(|life| Position { life: Life(life), index: loaded.index });
        Ok((Copy { store: Some(Box::new(store)), failed: None }, loaded, position))
    }
}

/// An open copy.
#[derive(Debug)]
pub(super) struct Copy {
    /// Always there but while it is written.
    store: Option<Box<Embedded>>,
    /// When writing failed. Changes are missing then.
    failed: Option<Instant>,
}

/// What is to be written.
enum Work {
    Commits(Vec<Commit>),
    All(Life, Arc<State>),
}

impl Copy {
    /// Keeps `commits`, which `state`, of that life, shows last of all.
    pub(super) async fn follow(&mut self, commits: Vec<Commit>, life: Life, state: impl FnOnce() -> Arc<State>) {
        match self.failed {
            None => self.write(Work::Commits(commits)).await,
            Some(when) if when.elapsed() > PAUSE => self.write(Work::All(life, state())).await,
            Some(_) => {}
        }
    }

    /// Keeps all of `state` and nothing else.
    pub(super) async fn replace(&mut self, life: Life, state: Arc<State>) {
        self.write(Work::All(life, state)).await;
    }

    async fn write(&mut self, work: Work) {
        let Some(mut store) = self.store.take() else { return };
        let written = spawn_blocking(move || {
            let result = work.carry_out(&mut store);
            (store, result)
        });
        let why = match written.await {
            Ok((store, result)) => {
                self.store = Some(store);
                result.err().map(|error| with_causes(&error))
            }
            // Without its store it is left alone from now on; the next start makes another.
            Err(error) => Some(error.to_string()),
        };
        match (&why, self.failed) {
            (None, Some(_)) => tracing::info!("the replica's copy can be written again"),
            (Some(why), None) => {
                tracing::error!(why, "the replica's copy cannot be written; a restart would begin with an older one");
            }
            _ => {}
        }
        self.failed = why.map(|_| Instant::now());
    }

    /// Closes it in order, which blocks.
    pub(super) async fn close(self) {
        let closed = spawn_blocking(move || drop(self.store));
        if let Err(error) = closed.await {
            tracing::error!(%error, "the replica's copy was not closed in order");
        }
    }
}

impl Work {
    fn carry_out(self, store: &mut Embedded) -> Result<(), EngineError> {
        match self {
            Self::Commits(commits) => store.follow(commits),
            Self::All(life, state) => store.replace(life.0, state.index(), state.rows()),
        }
    }
}
