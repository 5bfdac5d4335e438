//! What a replica does not answer itself: writes, and what is not in the rows. It is passed on to the hub with the
//! caller's own token, and judged there; a write is answered once this replica shows it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::{
    Method, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use kvstore_client::{Error, with_causes};
use kvstore_core::Index;
use tokio::time::timeout;

use super::{
    Answer, App, Body, Handler, Received, Route,
    error::ApiError,
    query::{Consistency, Query},
    read_body,
    request_id::{RequestId, X_REQUEST_ID},
    snapshot,
};
use crate::replica::{Hub, Life};

/// The processes by which a request was passed on, with commas between.
const VIA: HeaderName = HeaderName::from_static("x-flotilla-via");

/// Where the state stood when a request that was passed on was answered.
const INDEX: HeaderName = HeaderName::from_static("x-flotilla-index");

/// The head of an answer comes within this, on top of what it is to wait.
const ANSWER: Duration = Duration::from_secs(15);

/// A snapshot that is restored takes longer.
const RESTORE: Duration = Duration::from_mins(10);

/// For so long a write's answer is held back until this replica shows it.
const SHOWN: Duration = Duration::from_secs(2);

/// A request is passed on by this many processes at the most.
const MAX_HOPS: usize = 8;

/// What concerns this process and not the rows, though it is no read.
const OWN: &[&str] = &["/v1/agent/reload", "/v1/agent/leave", "/v1/agent/join/", "/v1/agent/token/"];

/// What is read and is not in the rows: what the hub's agent runs itself, and what it has in memory alone.
const OF_THE_HUB: &[&str] = &[
    "/v1/agent/services",
    "/v1/agent/checks",
    "/v1/agent/service/",
    "/v1/agent/health/service/id/",
    "/v1/agent/health/service/name/",
    "/v1/event/list",
    "/v1/coordinate/nodes",
    "/v1/coordinate/node/",
];

/// Headers of a request that mean something to the hub. Whoever adds others in between adds them for this replica.
const REQUEST: [HeaderName; 5] =
    [HeaderName::from_static("x-consul-token"), AUTHORIZATION, CONTENT_TYPE, ACCEPT, CACHE_CONTROL];

/// Those of an answer that belong to the connection to the hub.
const OF_THE_CONNECTION: &[&str] =
    &["connection", "content-length", "date", "keep-alive", "transfer-encoding", "x-request-id"];

/// Whether a replica passes on what is asked of `route`.
pub(super) fn is_passed_on(route: &Route, query: &Query) -> bool {
    match route.handler {
        Handler::Write(_) | Handler::Upload(_) => !OWN.contains(&route.path),
        Handler::Read(_) if query.consistency().is_ok_and(|wanted| wanted == Consistency::Consistent) => true,
        Handler::Read(_) | Handler::Plain(_) | Handler::Later(_) => OF_THE_HUB.contains(&route.path),
    }
}

/// A request to be passed on.
pub(super) struct Passing<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) id: &'a RequestId,
    pub(super) query: &'a Query,
}

/// Has the hub answer.
pub(super) async fn pass_on(app: &App, hub: &Hub, route: &Route, asked: Passing<'_>, body: Received) -> Answer {
    let via = via(asked.headers, hub.process)?;
    let upstream = hub.followed().await.map_err(ApiError::HubAway)?;
    let (body, after) = match &route.handler {
        Handler::Upload(_) => (read_body(body, app.about.max_snapshot_bytes, snapshot::SEND_DEADLINE).await?, RESTORE),
        Handler::Write(_) => (read_body(body, route.max_bytes(app), super::BODY_DEADLINE).await?, ANSWER),
        _ => {
            (Bytes::new(), ANSWER + asked.query.waiting()?.map_or(Duration::ZERO, |waiting| waiting.wait.mul_f64(1.1)))
        }
    };
    let parts = (asked.uri.path(), asked.uri.query());
    let passing = upstream.bulk.pass(asked.method.clone(), parts, headers(&asked, via), body, after);
    let passed = tokio::select! {
        passed = passing => passed,
        () = hub.until_lost() => return Err(ApiError::HubSilent("contact with the hub was lost meanwhile".into())),
    };
    let mut passed = passed.map_err(failed)?;
    let shown = passed.headers.get(INDEX).and_then(|index| index.to_str().ok()?.parse().ok());
    if let Some(index) = shown {
        // Who reads after it wrote finds it. If this replica is far behind, it is answered nevertheless: it is done.
        let _ = timeout(SHOWN, app.registry.reach(Index(index))).await;
    }
    let (status, headers) = (passed.status, std::mem::take(&mut passed.headers));
    let pieces = stream::unfold(passed, |mut passed| async move { Some((passed.next().await?, passed)) });
    let mut response = Response::new(Body::pieces(pieces));
    *response.status_mut() = status;
    // The index is for who passed it on to here.
    let kept = headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()));
    let kept = kept.filter(|(name, _)| **name != INDEX || was_passed_on(asked.headers));
    response.headers_mut().extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    Ok(response)
}

/// Whether a replica has passed on what has these headers.
pub(super) fn was_passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(VIA)
}

/// Says where the state stands to who passed the request on.
pub(super) fn tell_index(app: &App, headers: &mut HeaderMap) {
    headers.insert(INDEX, HeaderValue::from(app.registry.whole().index().0));
}

/// By whom the request will have been passed on.
fn via(headers: &HeaderMap, own: Life) -> Result<HeaderValue, ApiError> {
    let before = headers.get(VIA).and_then(|via| via.to_str().ok()).unwrap_or_default();
    let hops: Vec<_> = before.split(',').filter(|hop| !hop.is_empty()).collect();
    if hops.len() >= MAX_HOPS || hops.contains(&own.to_string().as_str()) {
        return Err(ApiError::Circle);
    }
    let all = hops.into_iter().map(str::to_owned).chain([own.to_string()]).collect::<Vec<_>>().join(",");
    HeaderValue::try_from(all).map_err(|_| ApiError::Circle)
}

fn headers(asked: &Passing<'_>, via: HeaderValue) -> HeaderMap {
    let given = REQUEST.into_iter().filter_map(|name| Some((name.clone(), asked.headers.get(&name)?.clone())));
    let mut headers: HeaderMap = given.collect();
    headers.insert(VIA, via);
    if let Ok(id) = HeaderValue::try_from(asked.id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers
}

fn failed(error: Error) -> ApiError {
    let why = with_causes(&error);
    match error {
        Error::Timeout { .. } => ApiError::HubSilent(why),
        Error::Address { .. } => ApiError::BadRequest(why),
        Error::Transport { source, .. } if !source.is_connect() => ApiError::HubSilent(why),
        _ => ApiError::HubAway(why),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{TABLES, harness::Harness},
        *,
    };

    fn passed_on(query: &str) -> impl Fn(&Route) -> bool {
        let query = Query::parse(Some(query)).unwrap();
        move |route| is_passed_on(route, &query)
    }

    /// A new endpoint that writes is passed on without anybody's doing.
    #[test]
    fn a_replica_writes_nothing_and_reads_what_is_in_the_rows() {
        let all = || TABLES.iter().copied().flatten();
        let writes = |route: &&Route| matches!(route.handler, Handler::Write(_) | Handler::Upload(_));
        let kept: Vec<_> = all().filter(writes).filter(|route| !passed_on("")(route)).map(|route| route.path).collect();
        assert_eq!(kept, ["/v1/agent/join/", "/v1/agent/leave", "/v1/agent/reload", "/v1/agent/token/"]);
        let asked: Vec<_> =
            all().filter(|route| !writes(route) && passed_on("")(route)).map(|route| route.path).collect();
        assert_eq!(asked.len(), OF_THE_HUB.len(), "{asked:?}");
        for path in ["/v1/kv/", "/v1/health/service/", "/v1/snapshot", "/v1/agent/self", "/v1/query/*/execute"] {
            let route = all().find(|route| route.path == path && !writes(route)).unwrap();
            assert!(!passed_on("stale")(route), "{path}");
            let is_read = matches!(route.handler, Handler::Read(_));
            assert_eq!(passed_on("consistent")(route), is_read, "{path}?consistent");
        }
    }

    #[test]
    fn a_request_is_not_passed_on_in_a_circle() {
        let told = |before: &str| {
            let headers = [(VIA, HeaderValue::from_str(before).unwrap())].into_iter().collect();
            via(&headers, Life(7)).ok().map(|via| via.to_str().unwrap().to_owned())
        };
        let own = "0000000000000007";
        assert_eq!(told(""), Some(own.into()));
        assert_eq!(told("a,b"), Some(format!("a,b,{own}")));
        assert_eq!(told(&format!("a,{own},b")), None);
        assert_eq!(told("1,2,3,4,5,6,7,8"), None);
    }

    #[test]
    fn the_index_is_told_to_who_passes_on_and_nobody_else() {
        let harness = Harness::start();
        let told = |header: &'static str| harness.headers("GET", "/v1/kv/a", header).get(INDEX).cloned();
        assert_eq!(told("x-flotilla-via"), Some(HeaderValue::from(harness.state().index().0)));
        assert_eq!(told("x-other"), None);
    }
}
