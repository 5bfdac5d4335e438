//! How a program is told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
            let name = tokio::select! { _ = int.recv() => "INT", _ = term.recv() => "TERM" };
            if token.is_cancelled() {
                tracing::warn!(signal = name, "stopping at once");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "stopping; once more to stop at once");
            token.cancel();
        }
    });
    Ok(stop)
}
