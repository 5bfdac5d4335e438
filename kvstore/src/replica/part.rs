//! A replica as a part of its agent: opened with what it had, then followed.

use std::{path::Path, sync::Arc};

use kvstore_core::Index;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Hub, Inbox,
    copy::{Copy, CopyDir},
    follow::Follower,
    wire::Position,
};
use crate::{
    config,
    engine::{EngineError, Loaded},
    store::Store,
};

/// A replica that does not follow yet.
pub(crate) struct Replica {
    hub: Arc<Hub>,
    inbox: Inbox,
    copy: Option<Copy>,
    position: Option<Position>,
}

impl Replica {
    /// Opens the copy in `data_dir`, if there is one to be kept, and gives the engine that begins with it.
    ///
    /// # Errors
    /// [`EngineError::Open`] if another process uses it, or it cannot be made.
    pub(crate) fn open(hub: Arc<Hub>, data_dir: Option<&Path>) -> Result<(Inbox, Self), EngineError> {
        let (copy, loaded, position) = match data_dir {
            None => (None, Loaded { index: Index(1), rows: Vec::new() }, None),
            Some(data_dir) => {
                let (copy, loaded, position) = CopyDir::in_data_dir(data_dir).open()?;
                (Some(copy), loaded, position)
            }
        };
        let inbox = Inbox::new(hub.clone(), loaded);
        Ok((inbox.clone(), Self { hub, inbox, copy, position }))
    }

    /// Whom it follows.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        self.hub.clone()
    }

    /// Follows from now on. Returns once there is something to show: whoever asks one that has never had anything must
    /// not be told that nothing exists.
    pub(crate) async fn follow(
        self,
        config: &config::Agent,
        store: &Store,
        shutdown: &CancellationToken,
        parts: &mut JoinSet<()>,
    ) {
        let Self { hub, inbox, copy, position } = self;
        let all: Vec<_> = hub.upstreams.iter().map(|upstream| upstream.address.as_str()).collect();
        let all = all.join(",");
        if let Some(Position { index, .. }) = position {
            tracing::info!(hub = all, %index, "this replica begins with what it had");
        } else {
            tracing::info!(hub = all, "this replica has nothing yet, and waits for its hub");
        }
        let follower = Follower {
            hub,
            inbox,
            store: store.clone(),
            copy,
            position,
            guarded: config.guard.access.guards_reads(),
            max_snapshot_bytes: config.limits.snapshot_bytes,
        };
        let first = watch::Sender::new(position.is_some());
        let mut there = first.subscribe();
        parts.spawn(follower.run(first, shutdown.clone()));
        tokio::select! {
            _ = there.wait_for(|there| *there) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
