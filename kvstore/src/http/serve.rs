//! Listeners, connections and their limits.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http_body_util::Either;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener},
};

use super::{
    App, answer,
    tls::{Handshakes, ServerTls, TlsError},
};
use crate::{config::HttpAddr, connections::Place, remedy::remedy};

/// Connections at the same time on all addresses; each watcher holds one. One more has others closed.
const MAX_CONNECTIONS: usize = 50_000;

/// What may be open beside connections: DNS, the store, probes.
const OTHER_FILES: usize = 1000;

/// The time a client may take to send the head of a request, and an idle connection to send its next one.
const HEAD_DEADLINE: Duration = Duration::from_mins(5);

/// The head of a request, and so a key in its path, is refused beyond this.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// Connections that wait to be accepted. Beyond that a client tries again by itself only after a second.
const BACKLOG: u32 = 4096;

/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections get to finish after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// An address that is bound.
#[derive(Debug)]
pub(crate) struct Listener {
    /// With the port that was taken.
    pub address: HttpAddr,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Tls(TcpListener, Handshakes),
    Unix(UnixListener),
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is in use, or may not be used.
    #[error(transparent)]
    System(#[from] io::Error),
    /// TLS cannot be spoken there.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is nothing to speak TLS with.
    #[error("no certificate is configured")]
    NoCertificate,
}

impl BindError {
    /// What to do about it, where it was to be `address`.
    pub(crate) fn remedy(&self, address: &HttpAddr) -> String {
        match (self, address) {
            (Self::Tls(_) | Self::NoCertificate, _) => "--tls-cert and --tls-key name a certificate and its key".into(),
            (Self::System(source), HttpAddr::Unix(_)) if source.kind() == io::ErrorKind::PermissionDenied => {
                "this user has to be able to write in its directory; --http-addr takes another address".into()
            }
            (Self::System(source), HttpAddr::Tls(_)) => remedy(source, "--https-addr", "127.0.0.1:8501"),
            (Self::System(source), _) => remedy(source, "--http-addr", "127.0.0.1:8500"),
        }
    }
}

impl Listener {
    /// Binds `address`, where `tls` is spoken if it is one of HTTPS. A socket file nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`BindError`]
    pub(crate) fn bind(address: &HttpAddr, tls: Option<&ServerTls>) -> Result<Self, BindError> {
        match address {
            HttpAddr::Tcp(wanted) => {
                let listener = listen(*wanted)?;
                Ok(Self { address: HttpAddr::Tcp(listener.local_addr()?), socket: Socket::Tcp(listener) })
            }
            HttpAddr::Tls(wanted) => {
                let handshakes = Handshakes::new(tls.ok_or(BindError::NoCertificate)?.clone())?;
                let listener = listen(*wanted)?;
                Ok(Self { address: HttpAddr::Tls(listener.local_addr()?), socket: Socket::Tls(listener, handshakes) })
            }
            HttpAddr::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
                {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                Ok(Self { address: address.clone(), socket: Socket::Unix(listener) })
            }
        }
    }
}

/// Listens there, also right after an agent that did.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How many connections a process may have that may have `open_files`: half of them, if there are few.
pub(super) fn max_connections(open_files: u64) -> usize {
    let files = usize::try_from(open_files).unwrap_or(usize::MAX);
    files.saturating_sub(OTHER_FILES).max(files / 2).clamp(1, MAX_CONNECTIONS)
}

/// Answers on `listener` until the app shuts down, then lets what is under way finish for a short grace.
pub(crate) async fn serve(listener: Listener, app: Arc<App>) {
    let graceful = GracefulShutdown::new();
    while let Some(accepted) = app.shutdown.run_until_cancelled(accept(&listener)).await {
        let from = accepted.from.unwrap_or(UNIX_CLIENT);
        let place = app.connections.admit(from, |closed| app.metrics.requests.crowded_out(closed));
        let Some(place) = app.shutdown.run_until_cancelled(place).await else { break };
        let (app, watcher) = (app.clone(), graceful.watcher());
        tokio::spawn(async move {
            let closed = place.closed.clone();
            if let Some(Err(error)) = closed.run_until_cancelled(accepted.serve(app, place, watcher)).await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still busy after {GRACE:?}");
    }
    if let HttpAddr::Unix(path) = &listener.address {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
}

/// Stands for all who come by a Unix socket, where places are counted.
const UNIX_CLIENT: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// A connection, and whose it is.
struct Accepted {
    stream: Box<dyn Stream>,
    from: Option<IpAddr>,
    tls: Option<Handshakes>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The next connection. Why there is none for now is said once.
async fn accept(listener: &Listener) -> Accepted {
    let mut said = false;
    loop {
        match try_accept(&listener.socket).await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, address = %listener.address, "cannot accept connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn try_accept(socket: &Socket) -> io::Result<Accepted> {
    let (listener, tls) = match socket {
        Socket::Unix(listener) => {
            return Ok(Accepted { stream: Box::new(listener.accept().await?.0), from: None, tls: None });
        }
        Socket::Tcp(listener) => (listener, None),
        Socket::Tls(listener, handshakes) => (listener, Some(handshakes.clone())),
    };
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(Accepted { stream: Box::new(stream), from: Some(peer.ip().to_canonical()), tls })
}

impl Accepted {
    /// Answers what comes, until the client or the app ends it.
    async fn serve(self, app: Arc<App>, place: Place, watcher: Watcher) -> Result<(), Box<dyn Error + Send + Sync>> {
        place.idles();
        let Self { stream, from, tls } = self;
        let stream: Box<dyn Stream> = match tls {
            None => stream,
            Some(handshakes) => Box::new(tokio::select! {
                shaken = handshakes.accept(stream) => shaken?,
                () = app.shutdown.cancelled() => return Ok(()),
            }),
        };
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MAX_HEAD_BYTES);
        let shared = Arc::new((app, place));
        let service = service_fn(move |request| {
            let shared = shared.clone();
            let request = request.map(Either::Left);
            async move {
                let (app, place) = &*shared;
                place.works();
                let answer = answer(app, request, from).await;
                place.idles();
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        Ok(watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_all_else() {
        for (files, connections) in
            [(0, 1), (256, 128), (1024, 512), (4096, 3096), (20_000, 19_000), (u64::MAX, MAX_CONNECTIONS)]
        {
            assert_eq!(max_connections(files), connections, "{files}");
        }
    }
}
