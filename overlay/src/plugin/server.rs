//! The socket that Docker calls at: HTTP of which only the path and the bytes of the body count.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use listenfd::ListenFd;
use serde_json::Value;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Plugin, PluginError,
    protocol::{CONTENT_TYPE as PLUGIN_TYPE, CallError, read, refusal},
};

/// No call of Docker's is near that.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Docker keeps a handful.
const MAX_CONNECTIONS: usize = 64;
/// Whoever has begun a request says the rest of it at once.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// What is under way has its two seconds.
const GRACE: Duration = Duration::from_secs(3);

/// Where Docker calls.
pub struct Socket {
    listener: UnixListener,
    /// What is to be removed at the end: a socket that nobody serves would have Docker wait for fifteen seconds.
    path: Option<PathBuf>,
}

/// The socket that systemd has made for us; else one at `path`, in the place of what a former life has left there.
///
/// # Errors
/// [`PluginError::Socket`], too if somebody answers there.
pub async fn bind(path: &Path) -> Result<Socket, PluginError> {
    let failed = |source| PluginError::Socket { path: path.to_owned(), source };
    if let Some(given) = ListenFd::from_env().take_unix_listener(0).map_err(failed)? {
        given.set_nonblocking(true).map_err(failed)?;
        return Ok(Socket { listener: UnixListener::from_std(given).map_err(failed)?, path: None });
    }
    if UnixStream::connect(path).await.is_ok() {
        let taken = "somebody answers there already; one driver of this name is enough for a host";
        return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, taken)));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(Socket { listener, path: Some(path.to_owned()) })
}

/// Answers Docker until `shutdown`; then the socket is gone, and what was asked before is answered.
pub async fn serve(socket: Socket, plugin: Plugin, shutdown: CancellationToken) {
    let Socket { listener, path } = socket;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            // Those that have ended.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = accepted;
        let (plugin, shutdown) = (plugin.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            connection(stream, plugin, shutdown).await;
        });
    }
    if let Some(path) = path {
        let _ = fs::remove_file(path);
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, connections.join_all()).await;
}

async fn accept(listener: &UnixListener, places: &Arc<Semaphore>) -> (UnixStream, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                warn!("cannot take Docker's call: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, plugin: Plugin, shutdown: CancellationToken) {
    let service = service_fn(move |request| {
        let plugin = plugin.clone();
        async move { Ok::<_, Infallible>(respond(&plugin, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!("a call of Docker's ended early: {error}");
    }
}

async fn respond(plugin: &Plugin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return answer(StatusCode::BAD_REQUEST, &refusal(&format!("{method}: {error}"))),
    };
    match read(&method, &body) {
        Ok(call) => match plugin.answer(call).await {
            Ok(done) => answer(StatusCode::OK, &done.body()),
            // Drivers of networks and of addresses both take it so.
            Err(why) => answer(StatusCode::OK, &refusal(&why)),
        },
        Err(error @ CallError::Unknown(_)) => answer(StatusCode::NOT_FOUND, &refusal(&error.to_string())),
        Err(error @ CallError::Malformed { .. }) => answer(StatusCode::BAD_REQUEST, &refusal(&error.to_string())),
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, PLUGIN_TYPE);
    response.body(Full::new(body.to_string().into())).expect("a status and a constant header")
}
