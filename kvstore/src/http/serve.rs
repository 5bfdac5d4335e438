//! Listeners, connections and their limits.

use std::{error::Error, io, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::Either;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

use super::{
    App, answer,
    tls::{Handshakes, ServerTls, TlsError},
};
use crate::config::HttpAddr;

/// Connections at the same time; each watcher holds one. More wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 50_000;

/// The time a client may take to send the head of a request, and an idle connection to send its next one.
const HEAD_DEADLINE: Duration = Duration::from_mins(5);

/// The head of a request, and so a key in its path, is refused beyond this.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections get to finish after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// An address that is bound.
#[derive(Debug)]
pub struct Listener {
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

impl Listener {
    /// Binds `address`, where `tls` is spoken if it is one of HTTPS. A socket file nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn bind(address: &HttpAddr, tls: Option<&ServerTls>) -> Result<Self, BindError> {
        match address {
            HttpAddr::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await?;
                Ok(Self { address: HttpAddr::Tcp(listener.local_addr()?), socket: Socket::Tcp(listener) })
            }
            HttpAddr::Tls(wanted) => {
                let handshakes = Handshakes::new(tls.ok_or(BindError::NoCertificate)?.clone())?;
                let listener = TcpListener::bind(wanted).await?;
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

/// Answers on `listener` until the app shuts down, then lets what is under way finish for a short grace.
pub async fn serve(listener: Listener, app: Arc<App>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            () = app.shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = accept(&listener.socket) => accepted,
            () = app.shutdown.cancelled() => break,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, address = %listener.address, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, watcher) = (app.clone(), graceful.watcher());
        tokio::spawn(async move {
            if let Err(error) = accepted.serve(app, watcher).await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(slot);
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

/// A connection, and whose it is.
struct Accepted {
    stream: Box<dyn Stream>,
    from: Option<IpAddr>,
    tls: Option<Handshakes>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(socket: &Socket) -> io::Result<Accepted> {
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
    async fn serve(self, app: Arc<App>, watcher: Watcher) -> Result<(), Box<dyn Error + Send + Sync>> {
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
        let service = service_fn(move |request| {
            let app = app.clone();
            let request = request.map(Either::Left);
            async move { Ok::<_, std::convert::Infallible>(answer(&app, request, from).await) }
        });
        Ok(watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await?)
    }
}
