//! The wait loop behind every read with `?index=`, and the headers that say where a read stood.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use kvstore_core::{Index, State, WatchKey};
use tokio::time::Instant;

use super::{
    Answer, App, Body, Call,
    caller::Caller,
    error::ApiError,
    json_body,
    query::{Consistency, Waiting},
    shared::{Rendered, Shape},
};

/// What a read found.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// JSON, rendered.
    Json(Bytes),
    /// The bytes of a value.
    Raw(Bytes),
    /// 404 with the headers of a read and nothing else.
    Nothing,
}

/// So long a reader whose index is ahead waits for this kvstore to catch up.
const LAG: Duration = Duration::from_secs(1);

type Render = Box<dyn Fn(&State) -> Found + Send + Sync>;

/// What a read depends on, and how it is rendered.
pub(super) struct Read {
    /// What is waited on, and whose index is told.
    keys: Vec<WatchKey>,
    render: Render,
    /// All that is shown, if that is known: who asks the same while it is unchanged gets the same bytes.
    shows: Option<Vec<WatchKey>>,
    /// Whether the answer says how consistent it is, as catalog and health reads do.
    tells_consistency: bool,
    /// Whether it shows what is in nobody's view; the rule of its route guards that.
    whole: bool,
}

impl Read {
    /// A read that waits on `keys`.
    pub(super) fn of(keys: impl Into<Vec<WatchKey>>, render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Self {
        Self { keys: keys.into(), render: Box::new(render), shows: None, tells_consistency: true, whole: false }
    }

    /// A read of keys and values.
    pub(super) fn of_kv(key: WatchKey, render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Self {
        Self { tells_consistency: false, ..Self::of([key], render) }
    }

    /// A read of what never changes: who waits for it waits until its patience ends.
    pub(super) fn unchanging(json: Bytes) -> Self {
        Self::of([], move |_| Found::Json(json.clone()))
    }

    /// What it shows is what it waits on, and nothing else: neither clock nor chance nor anything outside the state.
    pub(super) fn shared(self) -> Self {
        let shows = self.keys.clone();
        self.shared_while(shows)
    }

    /// The same where it shows more than it waits on.
    pub(super) fn shared_while(self, shows: impl Into<Vec<WatchKey>>) -> Self {
        Self { shows: Some(shows.into()), ..self }
    }

    /// Of the whole state, whoever asks.
    pub(super) fn of_all(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Not shared, and answered after each change, if what it shows or waits on depends on more than its keys say, as
    /// an order by distance does.
    pub(super) fn alone_if(self, depends_on_more: bool) -> Self {
        if depends_on_more { Self { shows: None, ..self } } else { self }
    }

    /// The index of what is waited on.
    fn index(&self, state: &State) -> Index {
        newest(&self.keys, state)
    }
}

/// The index of the last change of any of `keys`; it rises with each of them, since a change has a later index than all
/// before it.
fn newest(keys: &[WatchKey], state: &State) -> Index {
    keys.iter().map(|key| state.index_of(key)).max().unwrap_or(Index(1))
}

/// A read as one client asked for it.
struct Asked<'a> {
    app: &'a App,
    caller: Caller,
    read: Read,
    /// What its answer is known by among those that are shared.
    shape: Option<Shape>,
}

/// What is answered, and the index that goes with it.
type Answered = (Arc<Rendered>, Index);

impl Asked<'_> {
    fn rendered(&self, state: &State) -> Arc<Rendered> {
        let render = || (self.read.render)(state);
        match (&self.shape, &self.read.shows) {
            (Some(shape), Some(shows)) if shape.is_of(state) => {
                self.app.answers.get(shape, state.index(), || newest(shows, state), render)
            }
            _ => Arc::new(Rendered::new(render())),
        }
    }

    fn state(&self) -> Arc<State> {
        if self.read.whole { self.app.registry.whole() } else { self.app.state(&self.caller) }
    }

    fn now(&self) -> Answered {
        let state = self.state();
        (self.rendered(&state), self.read.index(&state))
    }

    /// The answer once it is newer than `waiting.index` and shows something else, or the newest when patience ends.
    ///
    /// What does not show is for instance the failure of an instance that the filter leaves out, or one more with tags
    /// that are listed already. The client keeps its older index then, which is right: nothing it has seen has changed
    /// since.
    async fn newer(&self, waiting: Waiting) -> Answered {
        let app = self.app;
        let until = end_of(waiting.wait);
        let mut enlisted = app.registry.enlist(&self.read.keys);
        let mut state = self.state();
        if waiting.index > state.index().0 {
            // Another kvstore may have told it, which is ahead of this one; but not for long.
            let _ = tokio::time::timeout(LAG, app.come_up_to(Index(waiting.index))).await;
            state = self.state();
        }
        let index = self.read.index(&state);
        // An index ahead of everything is from another life of the registry: the client learns ours at once.
        if index.0 > waiting.index || waiting.index > state.index().0 {
            return (self.rendered(&state), index);
        }
        let print = |rendered: &Rendered| rendered.print(&app.answers.hashers);
        // Nothing that is waited on has changed since the client's index, so this is what it has. What is not shared
        // shows each change.
        let had = self.shape.as_ref().map(|_| print(&self.rendered(&state)));
        drop(state);
        let end = tokio::time::sleep_until(until);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = enlisted.touched() => {}
                () = &mut end => return self.now(),
                () = app.shutdown.cancelled() => return self.now(),
            }
            let state = self.state();
            let index = self.read.index(&state);
            if waiting.index > state.index().0 {
                // Indexes went back under who waits: that is another life, too.
                return (self.rendered(&state), index);
            }
            if index.0 > waiting.index {
                let rendered = self.rendered(&state);
                if had.is_none_or(|had| print(&rendered) != had) {
                    return (rendered, index);
                }
            }
        }
    }
}

/// Renders `read` from the newest state, once it is newer than what the client has. `route` is the number of the
/// endpoint that `call` asks.
pub(super) async fn answer(app: &App, route: usize, call: Call, mut read: Read) -> Answer {
    let (consistency, waiting) = (call.query.consistency()?, call.query.waiting()?);
    let Call { rest, query, caller, .. } = call;
    if caller.token.is_some() {
        // Other rows may be seen under another policy: who asks again after its change must not wait.
        read.keys.push(WatchKey::Acl);
    }
    let shape = read.shows.is_some().then(|| {
        let life = app.registry.whole().life();
        Shape::of(life, route, rest, query, caller.authority().cloned())
    });
    if consistency == Consistency::Consistent {
        app.registry.catch_up().await?;
    }
    let asked = Asked { app, caller, read, shape };
    let (rendered, index) = match waiting {
        None => asked.now(),
        Some(waiting) => asked.newer(waiting).await,
    };
    let mut response = match &rendered.found {
        Found::Json(_) => json_body(Body::shared(&rendered)),
        Found::Raw(bytes) => raw(bytes.clone()),
        Found::Nothing => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    describe(response.headers_mut(), index, asked.read.tells_consistency.then_some(consistency));
    Ok(response)
}

impl App {
    /// Waits until the state has what another kvstore has told, if there are others to have it from.
    async fn come_up_to(&self, index: Index) {
        match &self.hub {
            Some(_) => self.registry.reach(index).await,
            None => drop(self.registry.catch_up().await),
        }
    }
}

/// When who begins to wait now has waited for `wait`; up to a sixteenth later, so that a pack of watchers spreads out.
pub(super) fn end_of(wait: Duration) -> Instant {
    Instant::now() + wait + wait.mul_f64(rand::random::<f64>() / 16.0)
}

pub(super) fn describe(headers: &mut HeaderMap, index: Index, consistency: Option<Consistency>) {
    const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
    const BACKEND: HeaderName = HeaderName::from_static("x-consul-query-backend");
    const CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
    headers.insert(INDEX, HeaderValue::from(index.0.max(1)));
    describe_without_index(headers);
    headers.insert(BACKEND, HeaderValue::from_static("blocking-query"));
    if let Some(consistency) = consistency {
        headers.insert(CONSISTENCY, HeaderValue::from_static(consistency.as_str()));
    }
}

const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

/// How old the state may be, in an answer that says so, where it is others who write.
pub(super) fn tell_age(app: &App, headers: &mut HeaderMap) {
    if !headers.contains_key(KNOWN_LEADER) {
        return;
    }
    let (known, silent) = match (&app.hub, app.registry.silence()) {
        (Some(hub), _) => (hub.silence().is_none(), hub.contact().silent),
        (None, Some(silent)) => (false, silent),
        (None, None) => return,
    };
    headers.insert(KNOWN_LEADER, HeaderValue::from_static(if known { "true" } else { "false" }));
    headers.insert(LAST_CONTACT, HeaderValue::from(u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)));
}

/// What a read says that cannot be waited on.
pub(super) fn describe_without_index(headers: &mut HeaderMap) {
    headers.insert(KNOWN_LEADER, HeaderValue::from_static("true"));
    headers.insert(LAST_CONTACT, HeaderValue::from_static("0"));
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
