//! One request: who asks, which route, what its handler says, and what every answer has.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{HeaderName, HeaderValue, VARY},
};
use kvstore_core::{acl::Resource, credentials::Digest};

use super::{
    Access, Answer, App, Body, Call, Later, Received,
    blocking::{self, Read},
    cached,
    caller::{Caller, Rule},
    compress,
    error::ApiError,
    guard,
    pass_on::{self, Passing},
    path,
    query::{self, Query},
    receive::{BODY_DEADLINE, read_body},
    reply::{allow, options, prettied},
    request_id::{RequestId, X_REQUEST_ID},
    routes::{CHANGES, Handler, Route, find},
    strict, ui,
};

/// Answers one request; never fails: what goes wrong is an answer too.
pub(crate) async fn answer(app: &Arc<App>, request: Request<Received>, from: Option<IpAddr>) -> Response<Body> {
    let api = request.uri().path().starts_with("/v1/");
    let gzip = compress::accepted(request.headers());
    // The path only: a parameter may be a token.
    let logged =
        tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
    let id = RequestId::of(request.headers());
    let (started, mut seen) = (Instant::now(), Seen::default());
    let mut response = route(app, request, from, &id, &mut seen).await.unwrap_or_else(ApiError::into_response);
    if gzip {
        response = compress::worth_it(response).await;
    }
    let status = response.status().as_u16();
    app.metrics.requests.answered(seen.route, seen.waited, status, started);
    if let Some((method, path)) = logged {
        tracing::debug!(%method, path, status, took = ?started.elapsed(), request = %id, "request");
    }
    let guard = app.about.guard.now();
    if api {
        const ACL_POLICY: HeaderName = HeaderName::from_static("x-consul-default-acl-policy");
        let headers = response.headers_mut();
        let policy = guard.access.default_policy();
        headers.insert(ACL_POLICY, HeaderValue::from_static(policy));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    for (name, value) in &guard.headers {
        response.headers_mut().insert(name, value.clone());
    }
    // Who has none of its own does not look for ours.
    if let RequestId::Given(given) = id
        && !app.about.strict_consul
    {
        response.headers_mut().insert(X_REQUEST_ID, given);
    }
    response
}

/// What a request turned out to be, for who counts them.
#[derive(Debug, Default)]
struct Seen {
    route: Option<usize>,
    waited: bool,
}

async fn route(app: &App, request: Request<Received>, from: Option<IpAddr>, id: &RequestId, seen: &mut Seen) -> Answer {
    let (head, incoming) = request.into_parts();
    let strict = app.about.strict_consul;
    let method = if head.method == Method::HEAD && !strict { Method::GET } else { head.method.clone() };
    let Some(path) = path::canonical(head.uri.path(), &method, strict, |path| find(path).is_some()) else {
        return path::redirect(&head.uri);
    };
    let guard = app.about.guard.now();
    guard.check(&path, guard::writes(&head.method), from)?;
    if let Some(file) = ui::answer(&method, &path) {
        return Ok(file);
    }
    let Some((group, rest)) = find(&path) else { return Err(ApiError::no_such_path(&path)) };
    if method == Method::OPTIONS {
        return Ok(options(strict, group.routes));
    }
    if strict && group.routes[0].path == CHANGES {
        return Err(ApiError::no_such_path(&path));
    }
    let taken = |route: &Route| route.method == method && !(strict && route.is_get_as_put());
    let Some(at) = group.routes.iter().position(taken) else {
        let body = format!("method {} not allowed", head.method);
        return Ok(allow(StatusCode::METHOD_NOT_ALLOWED, strict, group.routes, body.into()));
    };
    let route = &group.routes[at];
    if route.is_get_as_put() {
        guard.check(&path, true, from)?;
    }
    if route.writes() && guard::is_cross_site(&head.headers) {
        return Err(ApiError::Forbidden("Pages of other sites may not write"));
    }
    seen.route = Some(group.first + at);
    let rest = query::decode(rest).filter(|rest| !rest.contains(char::is_control)).ok_or(ApiError::BadPath)?;
    let query = Query::parse(head.uri.query())?;
    if let Some(hub) = app.hub.as_deref().filter(|_| pass_on::is_passed_on(route, &query)) {
        let asked = Passing { method: &head.method, uri: &head.uri, headers: &head.headers, id, query: &query };
        return pass_on::pass_on(app, hub, route, asked, incoming).await;
    }
    let caller = admitted(app, &guard.access, route, &rest, guard.access.shown(&head.headers, &query))?;
    query.same_place(&app.about.datacenter)?;
    if strict && let Some(extension) = strict::by_parameters(&method, route.path, &query) {
        return Err(extension.refused());
    }
    let passed_on = pass_on::was_passed_on(&head.headers) && !strict;
    let mut call = Call { rest, query, headers: head.headers, body: Bytes::new(), from, id: id.clone(), caller };
    seen.waited = ["index", "hash"].into_iter().any(|name| call.query.get(name).is_some_and(|v| !v.is_empty()));
    let pretty = call.query.has("pretty");
    let cached = cached::asked(app, route, &call)?;
    let mut response = match &route.handler {
        Handler::Plain(handler) => handler(app, &call)?,
        Handler::Read(_) | Handler::Later(_) if seen.waited && guard.access.is_guarded() => {
            while_admitted(app, group.first + at, route, call).await?
        }
        Handler::Read(handler) => read_once(app, group.first + at, call, *handler).await?,
        Handler::Later(handler) => handler(app, call).await?,
        Handler::Write(handler) => {
            call.body = read_body(incoming, route.max_bytes(app), BODY_DEADLINE).await?;
            handler(app, call).await?
        }
        Handler::Upload(handler) => handler(app, call, incoming).await?,
    };
    blocking::tell_age(app, response.headers_mut());
    if passed_on {
        pass_on::tell_index(app, response.headers_mut());
    }
    cached::tell(cached, &mut response);
    Ok(if pretty { prettied(response) } else { response })
}

/// Who shows this token, if they may ask this of that route.
fn admitted(app: &App, access: &Access, route: &Route, rest: &str, shown: Option<Digest>) -> Result<Caller, ApiError> {
    if route.rule == Rule::Open {
        return Ok(Caller::default());
    }
    let caller = app.registry.caller(access, shown)?;
    caller.admit(route.writes())?;
    // Without access control there is nothing of it to be guarded, which is what the handler says.
    if access.acl.is_some() || !matches!(route.rule, Rule::Needs(Resource::Acl, _)) {
        route.rule.check(&caller, &app.about.node_name, rest)?;
    }
    Ok(caller)
}

async fn read_once(app: &App, number: usize, call: Call, handler: fn(&App, &Call) -> Result<Read, ApiError>) -> Answer {
    let read = handler(app, &call)?;
    blocking::answer(app, number, call, read).await
}

/// Answers who waits: anew once their token lets them do other things than when the wait began, and not at all once it
/// lets them in no more.
async fn while_admitted(app: &App, number: usize, route: &Route, mut call: Call) -> Answer {
    loop {
        let once: Later<'_> = match &route.handler {
            Handler::Later(handler) => handler(app, call.clone()),
            Handler::Read(handler) => Box::pin(read_once(app, number, call.clone(), *handler)),
            _ => unreachable!("nobody waits for another kind of answer"),
        };
        let answer = tokio::select! {
            answer = once => Some(answer),
            () = app.registry.changed(&call.caller, &app.about.guard) => None,
        };
        call.caller = admitted(app, &app.about.guard.now().access, route, &call.rest, call.caller.shown())?;
        if let Some(answer) = answer {
            return answer;
        }
    }
}
