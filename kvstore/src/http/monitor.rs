//! `/v1/agent/monitor`: the agent's log as it is written.

use bytes::Bytes;
use futures_util::stream;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use tracing::level_filters::LevelFilter;

use super::{Answer, App, Body, Call, error::ApiError, text};

/// Lines until the client goes, the agent stops, or the client has fallen too far behind.
pub(super) fn follow(app: &App, call: &Call) -> Answer {
    let level = level(call.query.get("loglevel").unwrap_or_default())?;
    let as_json = call.query.has("logjson");
    let follower = match app.logs.follow(level) {
        Ok(follower) => follower,
        Err(error) => return Ok(text(StatusCode::TOO_MANY_REQUESTS, error.to_string())),
    };
    tracing::info!(%level, request = %call.id, "a client follows the log");
    let next = move |state| async move {
        let (mut follower, shutdown): (crate::logging::Follower, tokio_util::sync::CancellationToken) = state?;
        // What was written before the stop is told first: the reason for it is.
        let line = tokio::select! {
            biased;
            line = follower.next() => line,
            () = shutdown.cancelled() => None,
        };
        match line? {
            Ok(line) => {
                let shown = if as_json { line.json() } else { line.text() };
                Some((Bytes::from(shown), Some((follower, shutdown))))
            }
            Err(lost) => Some((Bytes::from(format!("the reader was too slow and has lost {lost} lines\n")), None)),
        }
    };
    let mut response = Response::new(Body::pieces(stream::unfold(Some((follower, app.shutdown.clone())), next)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

fn level(word: &str) -> Result<LevelFilter, ApiError> {
    match word.to_ascii_lowercase().as_str() {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "" | "info" => Ok(LevelFilter::INFO),
        "warn" => Ok(LevelFilter::WARN),
        "err" | "error" => Ok(LevelFilter::ERROR),
        _ => Err(ApiError::BadRequest(format!("Unknown log level: {word}"))),
    }
}
