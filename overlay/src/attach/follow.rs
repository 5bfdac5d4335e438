//! Keeps links as they were asked for, while containers, Docker, the mesh and this program come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, future::Either};
use kvstore_client::with_causes;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Desk, listed, namespace};
use crate::{
    docker::Docker,
    mesh::Refusal,
    network::NetworkId,
    plugin::{Attachment, Holder},
};

/// Docker that is away is asked again after that.
const AWAY: Duration = Duration::from_secs(1);
/// Without news everything is looked at that often.
const RESYNC: Duration = Duration::from_mins(1);
/// Events come in groups; the whole group is looked at once.
const GATHER: Duration = Duration::from_millis(50);
/// A container that has ended keeps its addresses that long, as in Weave: it may be just restarting.
const ENDED: Duration = Duration::from_secs(30);
/// A network that is missing for that long is gone.
const GONE: Duration = Duration::from_secs(20);

/// What was seen, and since when.
#[derive(Default)]
struct Since {
    /// Containers that do not run.
    ended: BTreeMap<String, Instant>,
    /// Networks that the mesh does not have.
    gone: BTreeMap<NetworkId, Instant>,
    /// What was told, so that it is told once.
    told: BTreeSet<String>,
}

impl Desk {
    /// Until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let mut since = Since::default();
        let work = async {
            loop {
                // Docker that is away is told of by those who keep its networks.
                let _ = self.life(&mut since).await;
                sleep(AWAY).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    /// One life of Docker's; or of the mesh alone, where there is no Docker.
    async fn life(&self, since: &mut Since) -> Result<(), Refusal> {
        let mut changes = self.0.mesh.changes();
        let docker = match &self.0.docker {
            Some(_) => match self.docker().await {
                Ok(docker) => Some(docker),
                Err(refusal) => {
                    // This host's own addresses need no Docker.
                    self.look(None, since).await;
                    return Err(refusal);
                }
            },
            None => None,
        };
        let events =
            docker.as_ref().map_or(Either::Right(futures_util::stream::pending()), |d| Either::Left(d.events()));
        let mut events = std::pin::pin!(events);
        loop {
            changes.mark_unchanged();
            self.look(docker.as_ref(), since).await;
            let next =
                since.ended.values().map(|then| *then + ENDED).chain(since.gone.values().map(|then| *then + GONE));
            let until = next.min().unwrap_or(Instant::now() + RESYNC).max(Instant::now() + AWAY);
            tokio::select! {
                () = sleep_until(until) => {}
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                event = events.next() => match event {
                    Some(Ok(_)) => sleep(GATHER).await,
                    Some(Err(_)) | None => return Ok(()),
                },
            }
        }
    }

    async fn look(&self, docker: Option<&Docker>, since: &mut Since) {
        let _turn = self.0.turn.lock().await;
        let all = self.0.plugin.attachments().await;
        since.only(&all);
        let mut told = BTreeSet::new();
        for attachment in &all {
            let looked = match self.without_network(attachment, since) {
                Some(true) => self.take(attachment, None).await,
                Some(false) => Ok(()),
                None => self.look_at(attachment, docker, since).await,
            };
            if let Err(refusal) = looked {
                told.insert(format!("{} is not as it should be: {refusal}", listed(attachment)));
            }
        }
        for text in told.difference(&since.told) {
            warn!("{text}");
        }
        since.told = told;
    }

    /// Whether the network of a link is missing: gone for good, or perhaps not told of yet.
    fn without_network(&self, attachment: &Attachment, since: &mut Since) -> Option<bool> {
        let id = attachment.network()?;
        if self.0.mesh.held().network(id).is_some() {
            since.gone.remove(&id);
            return None;
        }
        let then = *since.gone.entry(id).or_insert_with(Instant::now);
        Some(then.elapsed() >= GONE)
    }

    async fn look_at(
        &self,
        attachment: &Attachment,
        docker: Option<&Docker>,
        since: &mut Since,
    ) -> Result<(), Refusal> {
        let away = |e: &dyn std::error::Error| Refusal::Away(with_causes(e));
        let Holder::Container { id, name, .. } = &attachment.holder else {
            let mesh = self.0.mesh.held();
            // Without a block there is nowhere to have it yet.
            let held = attachment.network().and_then(|id| mesh.network(id)).filter(|held| !held.blocks.is_empty());
            let Some(held) = held else { return Ok(()) };
            return self.0.plugin.bridge_to(held).await.map(|_| ()).map_err(|e| away(&e));
        };
        let Some(docker) = docker else { return Ok(()) };
        match docker.container(id).await.map_err(|e| away(&e))? {
            None => {
                info!("container {name} is gone, and with it {}", listed(attachment));
                self.take(attachment, None).await
            }
            Some(container) => match container.pid {
                None if !attachment.kept => Ok(()),
                None => {
                    let then = *since.ended.entry(id.clone()).or_insert_with(Instant::now);
                    if then.elapsed() >= ENDED {
                        info!("container {name} has ended; others may have {}", listed(attachment));
                        self.0.plugin.let_go(attachment).await?;
                    }
                    Ok(())
                }
                Some(pid) => {
                    since.ended.remove(id);
                    let attachment = if attachment.kept {
                        attachment.clone()
                    } else {
                        let next = self.0.plugin.resume(attachment).await?;
                        info!("container {name} runs again, and has {}", listed(&next));
                        next
                    };
                    self.have(&attachment, &namespace(pid, name)?).await.map_err(|e| away(&e))
                }
            },
        }
    }
}

impl Since {
    /// Forgets what nothing is asked for any more; of what has been let go nobody waits for the end.
    fn only(&mut self, all: &[Attachment]) {
        let is = |there: &Attachment, wanted: &String| {
            there.kept && matches!(&there.holder, Holder::Container { id, .. } if id == wanted)
        };
        self.ended.retain(|id, _| all.iter().any(|there| is(there, id)));
        self.gone.retain(|id, _| all.iter().any(|there| there.network() == Some(*id)));
    }
}
