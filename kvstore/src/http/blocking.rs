//! The wait loop behind every read with `?index=`, and the headers that say where a read stood.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use kvstore_core::{Index, State, WatchKey};
use tokio::time::Instant;

use super::{
    Answer, App, Body,
    error::ApiError,
    json_bytes,
    query::{Consistency, Query, Waiting},
};

/// What a read found.
pub(super) enum Found {
    /// JSON, rendered.
    Json(Bytes),
    /// The bytes of a value.
    Raw(Bytes),
    /// 404 with the headers of a read and nothing else.
    Nothing,
}

type Render = Box<dyn Fn(&State) -> Found + Send + Sync>;

/// What a read depends on, and how it is rendered.
pub(super) struct Read {
    keys: Vec<WatchKey>,
    render: Render,
    /// Whether the answer says how consistent it is, as catalog and health reads do.
    tells_consistency: bool,
}

impl Read {
    /// A read of what `keys` name.
    pub(super) fn of(keys: impl Into<Vec<WatchKey>>, render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Self {
        Self { keys: keys.into(), render: Box::new(render), tells_consistency: true }
    }

    /// A read of keys and values.
    pub(super) fn of_kv(key: WatchKey, render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Self {
        Self { tells_consistency: false, ..Self::of([key], render) }
    }

    /// A read of what never changes: who waits for it waits until its patience ends.
    pub(super) fn unchanging(json: Bytes) -> Self {
        Self::of([], move |_| Found::Json(json.clone()))
    }

    fn index(&self, state: &State) -> Index {
        self.keys.iter().map(|key| state.index_of(key)).max().unwrap_or(Index(1))
    }
}

/// Renders `read` from the newest state, once it is newer than what the client has.
pub(super) async fn answer(app: &App, query: &Query, read: Read) -> Answer {
    let consistency = query.consistency()?;
    let state = match query.waiting()? {
        None => app.store.state(),
        Some(waiting) => newer(app, &read, waiting).await,
    };
    let found = (read.render)(&state);
    let mut response = match found {
        Found::Json(bytes) => json_bytes(bytes),
        Found::Raw(bytes) => raw(bytes),
        Found::Nothing => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    describe(response.headers_mut(), read.index(&state), read.tells_consistency.then_some(consistency));
    Ok(response)
}

/// The first state in which `read` is newer than `waiting.index`, or the newest when patience ends.
async fn newer(app: &App, read: &Read, waiting: Waiting) -> std::sync::Arc<State> {
    let until = end_of(waiting.wait);
    let mut enlisted = app.store.enlist(&read.keys);
    loop {
        let state = app.store.state();
        let index = read.index(&state).0;
        // An index ahead of everything is from another life of the registry: the client learns ours at once.
        if index > waiting.index || waiting.index > state.index().0 {
            return state;
        }
        tokio::select! {
            () = enlisted.touched() => {}
            () = tokio::time::sleep_until(until) => return app.store.state(),
            () = app.shutdown.cancelled() => return app.store.state(),
        }
    }
}

/// When who begins to wait now has waited for `wait`; up to a sixteenth later, so that a pack of watchers spreads out.
pub(super) fn end_of(wait: std::time::Duration) -> Instant {
    Instant::now() + wait + wait.mul_f64(rand::random::<f64>() / 16.0)
}

pub(super) fn describe(headers: &mut HeaderMap, index: Index, consistency: Option<Consistency>) {
    const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
    const LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
    const CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
    const BACKEND: HeaderName = HeaderName::from_static("x-consul-query-backend");
    const CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
    headers.insert(INDEX, HeaderValue::from(index.0.max(1)));
    headers.insert(LEADER, HeaderValue::from_static("true"));
    headers.insert(CONTACT, HeaderValue::from_static("0"));
    headers.insert(BACKEND, HeaderValue::from_static("blocking-query"));
    if let Some(consistency) = consistency {
        let word = match consistency {
            Consistency::Default => "leader",
            Consistency::Consistent => "consistent",
            Consistency::Stale => "stale",
        };
        headers.insert(CONSISTENCY, HeaderValue::from_static(word));
    }
}

/// A value as it is; a browser must neither guess its type nor run it.
fn raw(bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("content-security-policy", HeaderValue::from_static("sandbox"));
    response
}

/// A parameter that must not be empty, such as a service's name.
pub(super) fn required<'a>(value: &'a str, missing: &str) -> Result<&'a str, ApiError> {
    if value.is_empty() { Err(ApiError::BadRequest(missing.to_owned())) } else { Ok(value) }
}
