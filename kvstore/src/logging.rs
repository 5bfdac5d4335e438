//! Sends the log to standard error: text for people, or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What libraries say below `info` is about themselves; `RUST_LOG` still shows it.
const QUIET_LIBRARIES: &str =
    "hyper=info,hyper_util=info,reqwest=info,mio=info,hickory_resolver=info,hickory_proto=info";

/// Starts the log; once, before anything else is started. A level that was named wins over `RUST_LOG`.
pub(crate) fn start(log: &Log) {
    let named = log.level.as_ref().map(|level| format!("{level},{QUIET_LIBRARIES}"));
    let filter = match named {
        Some(directives) => EnvFilter::new(directives),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only if somebody has started a log before, which then stays.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
