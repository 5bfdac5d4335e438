//! The H2PING probe: a ping of HTTP/2 that is answered passes.

use std::{io, time::Duration};

use h2::Ping;
use kvstore_core::{health::Status, row::ProbeTls};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Finding, dial, failed, found, silent,
    tls::{Speaks, Tls},
};

/// Opens HTTP/2 to `address` (`HOST:PORT`), without the upgrade from HTTP/1.1, and pings.
pub(super) async fn probe(tls: &Tls, address: &str, how: Option<&ProbeTls>, within: Duration) -> Finding {
    let what = format!("HTTP2 ping {address}");
    match timeout(within, ping(tls, address, how)).await {
        Ok(Ok(())) => found(Status::Passing, "HTTP2 ping was successful".into()),
        Ok(Err(error)) => failed(&what, &error),
        Err(_) => silent(&what, within),
    }
}

async fn ping(tls: &Tls, address: &str, how: Option<&ProbeTls>) -> io::Result<()> {
    let stream = dial::with(tls, address, how, Speaks::Http2).await?;
    // The connection ends with the last handle to it, so this one is kept.
    let (_requests, mut connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let mut pings = connection.ping_pong().expect("it is asked for once");
    let driving = AbortOnDropHandle::new(tokio::spawn(connection));
    tokio::select! {
        answered = pings.ping(Ping::opaque()) => answered.map(drop).map_err(io::Error::other),
        // The connection knows better than the ping what went wrong.
        ended = driving => match ended {
            Ok(Err(error)) => Err(io::Error::other(error)),
            _ => Err(io::Error::other("the connection was closed")),
        },
    }
}
