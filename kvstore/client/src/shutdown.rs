//! How a program is told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Cancelled at INT or TERM; a second one ends the process at once, with 1.
///
/// # Errors
/// If signals cannot be listened for.
pub fn until_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = int.recv() => "SIGINT",
                _ = term.recv() => "SIGTERM",
            };
            if token.is_cancelled() {
                std::process::exit(1);
            }
            info!("stopping at {name}");
            token.cancel();
        }
    });
    Ok(stop)
}
