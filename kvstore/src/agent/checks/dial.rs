//! A connection to what is probed, with or without TLS.

use std::io;

use kvstore_core::row::ProbeTls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::tls::{Speaks, Tls};

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `address` (`HOST:PORT`, every address of the host tried in turn).
pub(super) async fn plain(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A port that outgoing connections use too can, while nobody listens, be met by the connection's own other end.
    if is_own_echo(&stream) {
        return Err(io::Error::from_raw_os_error(nix::errno::Errno::ECONNREFUSED as i32));
    }
    Ok(stream)
}

fn is_own_echo(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}

/// The same, and then TLS if that is wanted.
pub(super) async fn with(
    tls: &Tls,
    address: &str,
    how: Option<&ProbeTls>,
    speaks: Speaks,
) -> io::Result<Box<dyn Stream>> {
    let stream = plain(address).await?;
    // A probe is one small question: waiting for more to send only makes it late.
    stream.set_nodelay(true)?;
    match how {
        None => Ok(Box::new(stream)),
        Some(how) => Ok(Box::new(tls.connect(stream, host(address), how, speaks).await?)),
    }
}

/// `HOST` of `HOST:PORT`.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_connection_with_itself_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = plain(&listener.local_addr().unwrap().to_string()).await.unwrap();
        assert!(!is_own_echo(&stream));
        // One with itself is a matter of chance; this is how it looks.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_own_echo(&stream));
    }

    #[test]
    fn the_host_of_an_address() {
        for (address, expected) in [("web:80", "web"), ("[::1]:80", "[::1]"), ("web", "web")] {
            assert_eq!(host(address), expected);
        }
    }
}
