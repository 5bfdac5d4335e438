//! The TCP probe: a connection that is made passes.

use std::time::Duration;

use kvstore_core::health::Status;
use tokio::{net::TcpStream, time::timeout};

use super::{Finding, critical, failed, found, silent};

/// Connects to `address` (`HOST:PORT`, every address of the host tried in turn) and hangs up.
pub(super) async fn probe(address: &str, what: &str, within: Duration) -> Finding {
    match timeout(within, TcpStream::connect(address)).await {
        // A port that outgoing connections use too can, while nobody listens, be met by the connection's own other end.
        Ok(Ok(stream)) if is_own_echo(&stream) => critical(what, "Connection refused"),
        Ok(Ok(_)) => found(Status::Passing, format!("{what}: Success")),
        Ok(Err(error)) => failed(what, &error),
        Err(_) => silent(what, within),
    }
}

fn is_own_echo(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn a_connection_with_itself_is_known() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_own_echo(&socket.connect(own).await.unwrap()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_own_echo(&stream));
    }
}
