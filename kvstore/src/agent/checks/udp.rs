//! The UDP probe: an answer passes and so does silence; only a refusal is critical.

use std::time::Duration;

use kvstore_core::health::Status;
use tokio::{net::UdpSocket, time::timeout};

use super::{Finding, failed, found};

/// What is sent; a service that knows nothing of it need not answer.
const GREETING: &[u8] = b"hello";

/// Sends a datagram to `address` (`HOST:PORT`) and waits for an answer.
pub(super) async fn probe(address: &str, what: &str, within: Duration) -> Finding {
    match timeout(within, ask(address)).await {
        Ok(Err(error)) => failed(what, &error),
        // UDP need not answer: a timeout is no sign of trouble, as in Consul.
        Ok(Ok(())) | Err(_) => found(Status::Passing, format!("{what}: Success")),
    }
}

async fn ask(address: &str) -> std::io::Result<()> {
    let to = tokio::net::lookup_host(address).await?.next();
    let to = to.ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    socket.send(GREETING).await?;
    // The kernel reports a refusal (ICMP) at the next call.
    socket.recv(&mut [0; 1]).await.map(drop)
}
