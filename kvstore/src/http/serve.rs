//! Listeners, connections and their limits.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::Either;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

use super::{App, answer};
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
    Unix(UnixListener),
}

impl Listener {
    /// Binds `address`. A socket file nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The system's, if it is in use or may not be used.
    pub async fn bind(address: &HttpAddr) -> io::Result<Self> {
        match address {
            HttpAddr::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await?;
                Ok(Self { address: HttpAddr::Tcp(listener.local_addr()?), socket: Socket::Tcp(listener) })
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
        let (stream, from) = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, address = %listener.address, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = app.clone();
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MAX_HEAD_BYTES);
        let service = service_fn(move |request| {
            let app = app.clone();
            let request = request.map(Either::Left);
            async move { Ok::<_, std::convert::Infallible>(answer(&app, request, from).await) }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
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

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The next connection, and whose it is.
async fn accept(socket: &Socket) -> io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Some(peer.ip().to_canonical())))
        }
        Socket::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
    }
}
