//! `/v1/snapshot`: the whole state as one archive, out and in.

use std::{
    io::{self, BufWriter, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes};
use futures_util::stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use kvstore_client::with_causes;
use kvstore_core::{Command, Index};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Answer, App, Body, Call, Received, blocking, empty, error::ApiError};
use crate::{
    replica::LIFE_HEADER,
    snapshot::{self, Archive},
};

/// Snapshots that are taken at the same time; each holds the state of its moment in memory.
pub(super) const MAX_SAVES: usize = 4;

/// An archive is sent in pieces of this many bytes, and so many pieces wait for a slow reader.
const PIECE_BYTES: usize = 64 << 10;
const MAX_WAITING: usize = 4;

/// A reader who takes no piece for this long has gone.
const READ_DEADLINE: Duration = Duration::from_mins(1);

/// The time a client may take to send an archive.
pub(super) const SEND_DEADLINE: Duration = Duration::from_mins(10);

/// Streams an archive of the state as it is now; nobody waits for it, and changes go on meanwhile.
pub(super) fn save(app: &App, call: &Call) -> Answer {
    let consistency = call.query.consistency()?;
    let Ok(slot) = app.saves.clone().try_acquire_owned() else {
        return Err(ApiError::Busy("as many snapshots as allowed are being taken"));
    };
    // A part of it would be no snapshot; the rule of its route is that the caller may change who may what.
    // The life before the state: if another begins in between, the replica that asks is told so by its next question.
    let life = app.registry.feed().life();
    let (state, about) = (app.registry.whole(), app.about.clone());
    let (index, request) = (state.index(), call.id.clone());
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let out = Pieces { sender, runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = snapshot::id(index, since_1970);
        let address = format!("{}:{}", about.advertise, about.server_port);
        let (node_name, time) = (&about.node_name, since_1970.as_secs());
        let archive = Archive { state: &state, id: &id, node_name, address: &address, time };
        match archive.write(BufWriter::with_capacity(PIECE_BYTES, out)) {
            Ok(()) => tracing::info!(%index, %request, "a snapshot was taken"),
            Err(error) => tracing::info!(%index, %request, %error, "a snapshot was not taken to its end"),
        }
        drop(slot);
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut response = Response::new(Body::pieces(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-gzip"));
    blocking::describe(response.headers_mut(), index, Some(consistency));
    if !app.about.strict_consul {
        let life = HeaderValue::try_from(life.to_string()).expect("a life is hexadecimal digits");
        response.headers_mut().insert(LIFE_HEADER, life);
    }
    Ok(response)
}

/// Hands each piece to the connection.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let send = self.sender.send_timeout(Bytes::copy_from_slice(bytes), READ_DEADLINE);
        match self.runtime.block_on(send) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "its reader has gone")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts the rows of an archive in place of all there is, once the archive was found whole. One at a time.
pub(super) async fn restore(app: &App, call: Call, body: Received) -> Answer {
    let Ok(_slot) = app.restores.try_acquire() else {
        return Err(ApiError::Busy("another snapshot is being restored"));
    };
    let max_bytes = app.about.max_snapshot_bytes;
    let archive = receive(body, max_bytes).await?;
    let read = tokio::task::spawn_blocking(move || snapshot::read(archive.reader(), max_bytes as u64));
    let read = read.await.map_err(|error| ApiError::Rejected(format!("failed to read snapshot file: {error}")))?;
    let (meta, rows) = read.map_err(|damage| ApiError::Rejected(damage.to_string()))?;
    let (id, count) = (meta.id, rows.len());
    let (_, index) = app.submit(&call.caller, Command::Restore { rows, index: Index(meta.index) }).await?;
    tracing::warn!(id, rows = count, %index, request = %call.id, "the state of a snapshot has taken the place of all there was");
    // The snapshot may be of a time, or of a registry, that did not have this node.
    if let Err(error) = app.reload.register_own_node().await {
        tracing::error!(error = with_causes(&error), request = %call.id, "this node cannot be put into the restored catalog");
    }
    Ok(empty())
}

/// The archive as it came, in pieces, so that it is not in memory twice.
async fn receive(body: Received, max_bytes: usize) -> Result<impl Buf + Send + 'static, ApiError> {
    let collect = Limited::new(body, max_bytes).collect();
    match tokio::time::timeout(SEND_DEADLINE, collect).await {
        Ok(Ok(collected)) => Ok(collected.aggregate()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge { bytes: None, max_bytes }),
        Ok(Err(error)) => Err(ApiError::BrokenBody(error.to_string())),
        Err(_) => Err(ApiError::SlowBody),
    }
}
