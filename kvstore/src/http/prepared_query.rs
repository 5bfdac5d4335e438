//! `/v1/query`: prepared queries. What they mean is [`kvstore_core::prepared_query`]'s.

use std::net::IpAddr;

use hyper::{Response, StatusCode};
use kvstore_client::{
    GoDuration,
    types::{
        PreparedQuery, QueryCreated, QueryDns, QueryExecution, QueryExplanation, QueryFailover, QueryFailoverTarget,
        QueryMeta, QueryTemplate, ServiceEntry, ServiceQuery,
    },
};
use kvstore_core::{
    Command, Index, WatchKey,
    acl::{Level, Resource},
    prepared_query::{self as core, Ask, QueryId, Resolved},
    row::Stamped,
};
use uuid::Uuid;

use super::{
    Answer, App, Body, Call, Route, Rule,
    access::digest,
    blocking::{self, Found, Read},
    catalog::shape,
    delete, empty,
    error::ApiError,
    json, later, plain, post, put,
    query::Consistency,
    read, text,
};

pub(super) static ROUTES: &[Route] = &[
    post("/v1/query", Rule::Rows, later!(create)),
    read("/v1/query", Rule::Rows, list),
    plain("/v1/query/*/execute", Rule::Rows, execute),
    plain("/v1/query/*/explain", Rule::Rows, explain),
    later("/v1/query/", Rule::Rows, later!(get)),
    put("/v1/query/", Rule::Rows, later!(update)),
    delete("/v1/query/", Rule::Rows, later!(remove)),
];

/// The answers of templates and executions have no index of their own: they are not waited for.
const NO_INDEX: Index = Index(1);

async fn create(app: &App, call: Call) -> Answer {
    let body: PreparedQuery = super::json::decode(&call.body)?;
    if !body.id.is_empty() {
        return Err(ApiError::Rejected("ID must be empty when creating a new prepared query".into()));
    }
    let id = Uuid::new_v4().hyphenated().to_string();
    let query = definition(body, known_id(&id)?)?;
    app.submit(&call.caller, Command::CreateQuery { query: Box::new(query) }).await?;
    Ok(json(&QueryCreated { id }))
}

async fn update(app: &App, call: Call) -> Answer {
    let body = if call.body.is_empty() { PreparedQuery::default() } else { super::json::decode(&call.body)? };
    // The id of the body does not count.
    let query = definition(body, known_id(&call.rest)?)?;
    app.submit(&call.caller, Command::UpdateQuery { query: Box::new(query) }).await?;
    Ok(empty())
}

async fn remove(app: &App, call: Call) -> Answer {
    app.submit(&call.caller, Command::DeleteQuery { query: known_id(&call.rest)? }).await?;
    Ok(empty())
}

fn list(_: &App, call: &Call) -> Result<Read, ApiError> {
    let secrets = sees_secrets(call);
    Ok(Read::of([WatchKey::Queries], move |state| {
        Found::Json(super::json::compact(&state.queries().map(|query| shown(query, secrets)).collect::<Vec<_>>()))
    })
    .shared())
}

/// One query by its id; names are not known here.
async fn get(app: &App, call: Call) -> Answer {
    let id = known_id(&call.rest)?;
    // Nobody waits for a query to come.
    if app.state(&call.caller).query(&id).is_none() {
        return Ok(not_found());
    }
    let secrets = sees_secrets(&call);
    let read = Read::of([WatchKey::Query(id.clone())], move |state| match state.query(&id) {
        Some(query) => Found::Json(super::json::compact(&[shown(query, secrets)])),
        None => Found::Nothing,
    });
    // It is not shared, so the number of the route is not asked for.
    let response = blocking::answer(app, 0, call, read).await?;
    Ok(if response.status() == StatusCode::NOT_FOUND { not_found() } else { response })
}

fn known_id(text: &str) -> Result<QueryId, ApiError> {
    let why = || format!("prepared query lookup failed: {text:?} is no UUID; only execute and explain take names");
    QueryId::new(text).ok_or_else(|| ApiError::Rejected(why()))
}

fn not_found() -> Response<Body> {
    let mut response = text(StatusCode::NOT_FOUND, "Query not found");
    blocking::describe(response.headers_mut(), NO_INDEX, None);
    response
}

fn execute(app: &App, call: &Call) -> Answer {
    let consistency = consistency(call)?;
    let (limit, connect) = (limit(call)?, connect(call)?);
    // Whoever knows its name may execute it, and sees of what it finds what they may see; as in Consul.
    let (whole, mut state) = (app.registry.whole(), app.state(&call.caller));
    let Some(query) = resolve(&whole, call)? else { return Ok(not_found()) };
    let (service, token) = (&query.value.service, &query.value.token);
    if !token.is_empty() && app.counts_tokens() {
        state = app.state(&app.registry.caller(&app.about.guard.now().access, Some(digest(token)))?);
    }
    let ask = Ask {
        near: call.query.get("near").unwrap_or_default(),
        agent: &app.about.node,
        from: asker(call),
        distances: &*app.coordinates,
        limit,
        connect,
        seed: rand::random(),
    };
    let (shape, found) = (shape(app), core::execute(&state, service, &ask));
    let is_ours = service.peer.is_empty();
    let execution = QueryExecution {
        service: service.service.clone(),
        nodes: found.iter().map(|view| entry(shape.entry(&state, view))).collect(),
        dns: dns(&query.value),
        datacenter: if is_ours { app.about.datacenter.clone() } else { String::new() },
        peer_name: service.peer.clone(),
        // There is nowhere else to look.
        failovers: 0,
        meta: meta(consistency),
    };
    Ok(described(json(&execution), consistency))
}

fn explain(app: &App, call: &Call) -> Answer {
    let consistency = consistency(call)?;
    let state = app.state(&call.caller);
    let Some(query) = resolve(&state, call)? else { return Ok(not_found()) };
    let query = Stamped { created: query.created, modified: query.modified, value: query.value.into_owned() };
    Ok(described(
        json(&QueryExplanation { query: shown(&query, sees_secrets(call)), meta: meta(consistency) }),
        consistency,
    ))
}

/// A row of an execution: there, checks of hosts have no tags at all.
fn entry(mut entry: ServiceEntry) -> ServiceEntry {
    for check in entry.checks.iter_mut().filter(|check| check.service_id.is_empty()) {
        check.service_tags = None;
    }
    entry
}

/// The parameters of a read are checked even where they change nothing.
fn consistency(call: &Call) -> Result<Consistency, ApiError> {
    call.query.waiting()?;
    call.query.consistency()
}

fn resolve<'a>(state: &'a kvstore_core::State, call: &Call) -> Result<Option<Resolved<'a>>, ApiError> {
    state.resolve_query(&call.rest).map_err(|why| ApiError::Rejected(why.to_string()))
}

/// `limit=`; none or less than 1 is no limit.
fn limit(call: &Call) -> Result<usize, ApiError> {
    let Some(text) = call.query.get("limit").filter(|text| !text.is_empty()) else { return Ok(0) };
    let bad = |_| ApiError::Rejected(format!("Bad limit: {text:?} is no whole number"));
    let limit: i64 = text.parse().map_err(bad)?;
    Ok(usize::try_from(limit).unwrap_or(0))
}

fn connect(call: &Call) -> Result<bool, ApiError> {
    let is_given = call.query.get("connect").is_some_and(|text| !text.is_empty());
    let bad = |_| ApiError::Rejected("Error parsing 'connect' value: it is neither true nor false".into());
    if is_given { call.query.flag("connect").map_err(bad) } else { Ok(false) }
}

/// Who asks: the first of those that a proxy names, or whose connection it is. The order of an answer is all that
/// follows from it.
fn asker(call: &Call) -> Option<IpAddr> {
    let named = call.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let first = named.and_then(|list| list.split(',').next()?.trim().parse::<IpAddr>().ok());
    first.map(|ip| ip.to_canonical()).or(call.from)
}

fn meta(consistency: Consistency) -> QueryMeta {
    let consistency_level = consistency.as_str().to_owned();
    QueryMeta { index: NO_INDEX.0, known_leader: true, consistency_level, ..QueryMeta::default() }
}

fn described(mut response: Response<Body>, consistency: Consistency) -> Response<Body> {
    blocking::describe(response.headers_mut(), NO_INDEX, Some(consistency));
    response
}

/// The definition that a body says.
fn definition(body: PreparedQuery, id: QueryId) -> Result<core::PreparedQuery, ApiError> {
    let QueryTemplate { kind, regexp, remove_empty_tags } = body.template;
    Ok(core::PreparedQuery {
        id,
        name: body.name,
        session: body.session.to_lowercase(),
        token: body.token,
        template: core::TemplateOptions { kind, regexp, remove_empty_tags },
        service: service(body.service)?,
        dns_ttl: ttl(body.dns.ttl)?,
    })
}

fn service(body: ServiceQuery) -> Result<core::ServiceQuery, ApiError> {
    let targets = body.failover.targets.iter().flatten();
    let elsewhere = targets.flat_map(|target| [("Partition", &target.partition), ("Namespace", &target.namespace)]);
    let own = [("Partition", &body.partition), ("Namespace", &body.namespace)];
    let foreign = own.into_iter().chain(elsewhere).find(|(_, value)| !matches!(value.as_str(), "" | "default"));
    let group = Some(("SamenessGroup", &body.sameness_group)).filter(|(_, value)| !value.is_empty());
    if let Some((field, value)) = foreign.or(group) {
        return Err(ApiError::BadRequest(format!("Invalid {field} {value:?}: it is a Consul Enterprise feature")));
    }
    let target = |t: QueryFailoverTarget| core::FailoverTarget { peer: t.peer, datacenter: t.datacenter };
    let failover = core::Failover {
        nearest_n: body.failover.nearest_n,
        datacenters: body.failover.datacenters,
        targets: body.failover.targets.map(|list| list.into_iter().map(target).collect()),
    };
    Ok(core::ServiceQuery {
        service: body.service,
        failover,
        only_passing: body.only_passing,
        ignore_check_ids: body.ignore_check_ids,
        near: body.near,
        tags: body.tags,
        node_meta: body.node_meta,
        service_meta: body.service_meta,
        connect: body.connect,
        peer: body.peer,
    })
}

fn ttl(spelled: String) -> Result<Option<core::QueryTtl>, ApiError> {
    if spelled.is_empty() {
        return Ok(None);
    }
    let bad = |why| ApiError::Rejected(format!("Invalid prepared query: Bad DNS TTL '{spelled}': {why}"));
    let ttl: GoDuration = spelled.parse().map_err(bad)?;
    let seconds = u32::try_from(ttl.0.as_secs()).unwrap_or(u32::MAX);
    Ok(Some(core::QueryTtl { spelled, seconds }))
}

fn dns(query: &core::PreparedQuery) -> QueryDns {
    QueryDns { ttl: query.dns_ttl.as_ref().map(|ttl| ttl.spelled.clone()).unwrap_or_default() }
}

/// Whether who asks is shown the tokens of queries.
fn sees_secrets(call: &Call) -> bool {
    call.caller.may(Resource::Acl, "", Level::Write)
}

/// A query as the API shows it.
fn shown(query: &Stamped<core::PreparedQuery>, secrets: bool) -> PreparedQuery {
    let template = query.template.clone();
    PreparedQuery {
        id: query.id.to_string(),
        name: query.name.clone(),
        session: query.session.clone(),
        token: if secrets || query.token.is_empty() { query.token.clone() } else { core::HIDDEN_TOKEN.into() },
        template: QueryTemplate {
            kind: template.kind,
            regexp: template.regexp,
            remove_empty_tags: template.remove_empty_tags,
        },
        service: shown_service(query.service.clone()),
        dns: dns(query),
        create_index: query.created.0,
        modify_index: query.modified.0,
    }
}

fn shown_service(service: core::ServiceQuery) -> ServiceQuery {
    let target = |t: core::FailoverTarget| QueryFailoverTarget {
        peer: t.peer,
        datacenter: t.datacenter,
        ..QueryFailoverTarget::default()
    };
    let failover = QueryFailover {
        nearest_n: service.failover.nearest_n,
        datacenters: service.failover.datacenters,
        targets: service.failover.targets.map(|list| list.into_iter().map(target).collect()),
    };
    ServiceQuery {
        service: service.service,
        failover,
        only_passing: service.only_passing,
        ignore_check_ids: service.ignore_check_ids,
        near: service.near,
        tags: service.tags,
        node_meta: service.node_meta,
        service_meta: service.service_meta,
        connect: service.connect,
        peer: service.peer,
        ..ServiceQuery::default()
    }
}
