//! The registry, as the overlay uses it: everything below one prefix is followed by one blocking query, writes compare
//! and set, and a session says that this host lives.

use std::{sync::Arc, time::Duration};

use kvstore_client::{
    Client, Error, GoDuration, KvPut, Read, Wait, Watch,
    types::{KvEntry, SessionRequest},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    network::NodeId,
    record::{Key, PREFIX},
    world::Entry,
};

/// The longest that one query waits.
const WAIT: Duration = Duration::from_mins(5);
/// After each read, which is of everything, a pause of a millisecond for each entry, and no longer than this: when hosts
/// come in crowds, what they write is read together.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// A session that is not renewed ends after this.
const SESSION_TTL: Duration = Duration::from_secs(30);
/// So often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// What the registry has, and whether it answers.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All entries; as they were last, when it does not answer.
    pub entries: Arc<Vec<Entry>>,
    /// How many times there was something new.
    pub changes: u64,
    /// Why it does not answer.
    pub away: Option<String>,
}

/// Follows all that is below the prefix until `stop`.
pub async fn follow(mut clients: watch::Receiver<Client>, seen: watch::Sender<Seen>, stop: CancellationToken) {
    let mut watch = Watch::new(WAIT);
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(std::mem::take(&mut pause)) => {}
        }
        let client = clients.borrow_and_update().clone();
        let list =
            async |wait: Option<Wait>| -> Result<Read<Vec<KvEntry>>, Error> { client.kv_list(PREFIX, wait).await };
        let next = tokio::select! {
            () = stop.cancelled() => return,
            // Another client asks anew.
            Ok(()) = clients.changed() => continue,
            next = watch.next(list) => next,
        };
        match next {
            Ok(entries) => seen.send_modify(|seen| {
                if seen.away.take().is_some() {
                    info!("the registry answers again");
                }
                seen.entries = Arc::new(entries.into_iter().map(entry).collect());
                seen.changes += 1;
                pause = Duration::from_millis(seen.entries.len() as u64).min(LONGEST_PAUSE);
            }),
            Err(error) => {
                let why = kvstore_client::with_causes(&error);
                if seen.borrow().away.is_none() {
                    warn!("the registry does not answer, all goes on as it is: {why}");
                }
                seen.send_modify(|seen| seen.away = Some(why));
            }
        }
    }
}

fn entry(entry: KvEntry) -> Entry {
    Entry {
        locked: !entry.session.is_empty(),
        key: entry.key,
        value: entry.value.to_vec(),
        modify_index: entry.modify_index,
    }
}

/// Puts `text` at `key` if its index is `cas`; false if it is another.
///
/// # Errors
/// Those of the registry.
pub async fn put(client: &Client, key: &Key, text: String, cas: u64) -> Result<bool, Error> {
    client.kv_put(&key.path(), text, KvPut { cas: Some(cas), ..KvPut::default() }).await
}

/// Removes `key` if its index is `cas`; false if it is another.
///
/// # Errors
/// Those of the registry.
pub async fn delete(client: &Client, key: &Key, cas: u64) -> Result<bool, Error> {
    client.kv_delete(&key.path(), false, Some(cas)).await
}

/// Keeps a session for `node`, and by it its key of life, until `stop`; then ends it.
pub async fn live(clients: watch::Receiver<Client>, node: NodeId, stop: CancellationToken) {
    let mut session: Option<String> = None;
    let mut told = false;
    loop {
        let client = clients.borrow().clone();
        match renew(&client, node, session.take()).await {
            Ok(renewed) => (session, told) = (Some(renewed), false),
            Err(error) => {
                let why = kvstore_client::with_causes(&error);
                // That the registry is away is told by who follows it.
                if matches!(error, Error::Status { .. }) && !std::mem::replace(&mut told, true) {
                    warn!("the registry does not take it that this host lives: {why}");
                } else {
                    tracing::debug!("cannot say that this host lives: {why}");
                }
            }
        }
        let pause = if session.is_some() { RENEW_EVERY } else { Duration::from_secs(1) };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Some(session) = session {
        let client = clients.borrow().clone();
        // Else it ends by itself, a little later.
        let _ = tokio::time::timeout(Duration::from_secs(2), client.session_destroy(&session)).await;
    }
}

async fn renew(client: &Client, node: NodeId, session: Option<String>) -> Result<String, Error> {
    let renewed = match &session {
        Some(id) => client.session_renew(id).await?.is_some(),
        None => false,
    };
    let id = match session {
        Some(id) if renewed => id,
        _ => {
            let request = SessionRequest {
                name: format!("overlay {node}"),
                ttl: Some(GoDuration(SESSION_TTL)),
                behavior: "release".into(),
                lock_delay: Some(GoDuration(Duration::ZERO)),
                // Whoever runs the registry's agent may be another host; only this one's renewals count.
                node_checks: Some(Vec::new()),
                ..SessionRequest::default()
            };
            client.session_create(&request).await?
        }
    };
    let key = Key::Live(node).path();
    let held = client.kv_get(&key, None).await?.value.is_some_and(|entry| entry.session == id);
    // A former session of this host, or of one with a copy of its key, may hold it for some seconds yet.
    if !held && !client.kv_acquire(&key, "", 0, &id).await? {
        tracing::debug!("another session holds {key}");
    }
    Ok(id)
}
