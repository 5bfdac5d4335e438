//! The daemon's socket, `/run/overlay.sock`: JSON over HTTP, for the commands and for those who want to look. Whoever
//! may open the socket is root or of its group, and may do everything.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as Segment, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::{
    attach::{self, Desk},
    mesh::{Mesh, NewNetwork, Refusal, Request},
};

/// Where it is unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/overlay.sock";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error("an overlay runs already: it answers at {}; stop it first, or give another --socket", .0.display())]
    Taken(PathBuf),
    /// The system does not let us.
    #[error("cannot listen at {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens at `path`. A socket that a former daemon left there is replaced.
///
/// # Errors
/// [`SocketError`]
pub async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken(path.to_owned()));
    }
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Answers at `listener` until `shutdown`.
pub async fn serve(listener: UnixListener, router: Router, shutdown: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("the socket is not served any more: {error}");
    }
}

/// Everything that is answered. Where there is no way to links, there are none to be asked for.
pub fn router(mesh: Mesh, desk: Option<Desk>) -> Router {
    let links = desk.clone().map(attach::router).unwrap_or_default();
    let reset = async |State((mesh, desk)): State<(Mesh, Option<Desk>)>| reset(&mesh, desk.as_ref()).await;
    let reset = Router::new().route("/v1/reset", post(reset)).with_state((mesh.clone(), desk));
    daemons(mesh).merge(links).merge(reset)
}

/// The daemon's part of it.
fn daemons(mesh: Mesh) -> Router {
    Router::new()
        .route("/v1/held", get(held))
        .route("/v1/status", get(status))
        .route("/v1/evict/{host}", post(evict))
        .route("/v1/rotate", post(async |State(mesh): State<Mesh>| plain(&mesh, Request::Rotate).await))
        .route("/v1/secret", get(async |State(mesh): State<Mesh>| plain(&mesh, Request::Secret).await))
        .route("/v1/leave", post(async |State(mesh): State<Mesh>| plain(&mesh, Request::Leave).await))
        .route("/v1/stop", post(async |State(mesh): State<Mesh>| plain(&mesh, Request::Stop).await))
        .route("/v1/start", post(async |State(mesh): State<Mesh>| plain(&mesh, Request::Start).await))
        .route("/v1/lans", post(expose_lan))
        .route("/v1/lans/{address}/{bits}", delete(hide_lan))
        .route("/v1/networks", post(create_network))
        .route("/v1/networks/{name}", delete(remove_network))
        .route(
            "/v1/clients",
            post(add_client).get(async |State(mesh): State<Mesh>| plain(&mesh, Request::Clients).await),
        )
        .route("/v1/clients/{name}", delete(remove_client))
        .with_state(mesh)
}

async fn held(State(mesh): State<Mesh>) -> Response {
    json(&*mesh.held())
}

async fn status(State(mesh): State<Mesh>) -> Result<Response, Refusal> {
    plain(&mesh, Request::Status).await
}

async fn evict(State(mesh): State<Mesh>, Segment(host): Segment<String>) -> Result<Response, Refusal> {
    plain(&mesh, Request::Evict(host)).await
}

async fn reset(mesh: &Mesh, desk: Option<&Desk>) -> Result<Response, Refusal> {
    let done = mesh.ask(Request::Reset).await?;
    if let Some(desk) = desk {
        desk.reset().await?;
    }
    Ok(json(&done))
}

async fn plain(mesh: &Mesh, request: Request) -> Result<Response, Refusal> {
    Ok(json(&mesh.ask(request).await?))
}

async fn create_network(State(mesh): State<Mesh>, body: Bytes) -> Result<Response, Refusal> {
    let new: NewNetwork = parse(&body)?;
    Ok(json(&mesh.ask(Request::CreateNetwork(new)).await?))
}

async fn add_client(State(mesh): State<Mesh>, body: Bytes) -> Result<Response, Refusal> {
    plain(&mesh, Request::AddClient(parse(&body)?)).await
}

async fn remove_client(State(mesh): State<Mesh>, Segment(name): Segment<String>) -> Result<Response, Refusal> {
    plain(&mesh, Request::RemoveClient(name)).await
}

async fn remove_network(State(mesh): State<Mesh>, Segment(name): Segment<String>) -> Result<Response, Refusal> {
    let name = name.parse().map_err(|e: crate::network::Invalid| Refusal::Wrong(e.to_string()))?;
    Ok(json(&mesh.ask(Request::RemoveNetwork(name)).await?))
}

async fn expose_lan(State(mesh): State<Mesh>, body: Bytes) -> Result<Response, Refusal> {
    plain(&mesh, Request::ExposeLan(parse(&body)?)).await
}

async fn hide_lan(
    State(mesh): State<Mesh>,
    Segment((address, bits)): Segment<(String, String)>,
) -> Result<Response, Refusal> {
    let subnet = format!("{address}/{bits}");
    let subnet = subnet.parse().map_err(|_| Refusal::Wrong(format!("{subnet:?} is no subnet")))?;
    plain(&mesh, Request::HideLan(subnet)).await
}

/// The body of a request.
///
/// # Errors
/// For what is no such JSON.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| Refusal::Wrong(format!("the request cannot be read: {e}")))
}

/// The body of an answer.
pub fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("plain data");
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = match self {
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (code, json(&serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind(&path).await.unwrap());
        assert!(path.exists(), "as after a crash");
        let alive = bind(&path).await.unwrap();
        assert!(matches!(bind(&path).await, Err(SocketError::Taken(_))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(alive);
        assert!(matches!(bind(&dir.path().join("no/such")).await, Err(SocketError::Io { .. })));
    }
}
