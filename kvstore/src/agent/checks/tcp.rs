//! The TCP probe: a connection that is made passes; with TLS the handshake too.

use std::time::Duration;

use kvstore_core::{health::Status, row::ProbeTls};
use tokio::time::timeout;

use super::{
    Finding, dial, failed, found, silent,
    tls::{Speaks, Tls},
};

/// Connects to `address` (`HOST:PORT`) and hangs up.
pub(super) async fn probe(tls: &Tls, address: &str, how: Option<&ProbeTls>, what: &str, within: Duration) -> Finding {
    match timeout(within, dial::with(tls, address, how, Speaks::Anything)).await {
        Ok(Ok(_)) => found(Status::Passing, format!("{what}: Success")),
        Ok(Err(error)) => failed(what, &error),
        Err(_) => silent(what, within),
    }
}
