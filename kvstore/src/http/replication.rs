//! `/v1/internal/flotilla/changes`: what replicas follow by. It tells every row, so its callers may everything.

use std::time::Duration;

use hyper::{Response, StatusCode};
use kvstore_core::Index;

use super::{Answer, App, Body, Call, blocking, error::ApiError};
use crate::replica::{self, Head, Position};

/// What is told at once; the rest comes with the next answer.
const MAX_BYTES: usize = 1 << 20;

/// Nobody waits for longer; who is still there asks anew.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Tells what came after `index` of `life`; waits until there is something.
pub(super) async fn changes(app: &App, call: Call) -> Answer {
    let feed = app.registry.feed();
    let position = position(&call)?;
    let mut published = feed.published();
    let mut told = feed.after(position, MAX_BYTES);
    if let (Some(waiting), Some([])) = (call.query.waiting()?, told.commits.as_deref()) {
        let is_news = |index: &Index| *index != told.at.index;
        tokio::select! {
            _ = published.wait_for(is_news) => {}
            () = tokio::time::sleep(waiting.wait.min(MAX_WAIT)) => {}
            () = app.shutdown.cancelled() => {}
        }
        told = feed.after(position, MAX_BYTES);
    }
    // Who has no contact itself is not to be followed.
    let path = match &app.hub {
        None => vec![feed.process],
        Some(hub) => {
            hub.path().ok_or_else(|| ApiError::HubAway("this replica has no contact with its own hub".into()))?
        }
    };
    let head = Head::new(told.at, path, app.about.guard.now().access.guards_reads());
    let body = replica::answer(&head, told.commits.as_deref().unwrap_or_default());
    let mut response = Response::new(Body::new(body));
    if told.commits.is_none() {
        *response.status_mut() = StatusCode::GONE;
    }
    blocking::describe(response.headers_mut(), told.at.index, None);
    Ok(response)
}

/// Who has nothing yet says so by no life.
fn position(call: &Call) -> Result<Option<Position>, ApiError> {
    let Some(life) = call.query.get("life") else { return Ok(None) };
    let life = life.parse().map_err(|why: &str| ApiError::BadRequest(why.into()))?;
    let index = call.query.waiting()?.map_or(Index(0), |waiting| Index(waiting.index));
    Ok(Some(Position { life, index }))
}
