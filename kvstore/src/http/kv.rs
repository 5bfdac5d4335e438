//! `/v1/kv`.

use bytes::Bytes;
use std::{str::FromStr, time::Duration};

use kvstore_client::GoDuration;
use kvstore_core::{
    Command, Outcome, State, WatchKey,
    acl::{Level, Resource},
    names::{Key, SessionId},
};

use super::{
    Answer, App, Call,
    blocking::{Found, Read},
    error::ApiError,
    json, shape,
};

/// The shortest life of a key: its end is noticed about as often.
const MIN_TTL: Duration = Duration::from_secs(1);

pub(super) fn get(_: &App, call: &Call) -> Result<Read, ApiError> {
    let (name, query) = (call.rest.clone(), &call.query);
    if query.has("keys") {
        // Old clients spell it wrong.
        let separator = query.get("separator").or(query.get("seperator")).unwrap_or_default().to_owned();
        let prefix = WatchKey::KeyPrefix(name.clone());
        return Ok(Read::of_kv(prefix, move |state| keys(state, &name, &separator)).shared());
    }
    if query.has("recurse") {
        return Ok(Read::of_kv(WatchKey::KeyPrefix(name.clone()), move |state| tree(state, &name)).shared());
    }
    let key = Key::new(&name).ok_or_else(|| ApiError::BadRequest("Missing key name".into()))?;
    call.caller.require(Resource::Key, &name, Level::Read)?;
    let raw = query.has("raw");
    Ok(Read::of_kv(WatchKey::Key(key.clone()), move |state| match state.key(&key) {
        None => Found::Nothing,
        Some(entry) if raw => Found::Raw(entry.value.value.clone()),
        Some(entry) => Found::Json(json::compact(&[shape::kv(entry)])),
    }))
}

fn tree(state: &State, prefix: &str) -> Found {
    let entries: Vec<_> = state.keys(prefix).map(|entry| shape::kv(entry)).collect();
    if entries.is_empty() { Found::Nothing } else { Found::Json(json::compact(&entries)) }
}

/// Names only, folded after the first separator that follows the prefix.
fn keys(state: &State, prefix: &str, separator: &str) -> Found {
    let mut names: Vec<&str> = Vec::new();
    let entries: Vec<_> = state.keys(prefix).collect();
    for entry in &entries {
        let name = entry.key.as_str();
        let end = match name[prefix.len()..].find(separator) {
            Some(at) if !separator.is_empty() => prefix.len() + at + separator.len(),
            _ => name.len(),
        };
        if names.last() != Some(&&name[..end]) {
            names.push(&name[..end]);
        }
    }
    if names.is_empty() && !prefix.is_empty() { Found::Nothing } else { Found::Json(json::compact(&names)) }
}

/// Parameters that make one write two different ones.
fn refuse_conflicts(call: &Call, names: &[&str]) -> Result<(), ApiError> {
    let given: Vec<String> = names
        .iter()
        .filter_map(|name| {
            call.query
                .get(name)
                .map(|value| if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") })
        })
        .collect();
    if given.len() > 1 {
        return Err(ApiError::BadRequest(format!("Conflicting flags: {}", given.join("&"))));
    }
    Ok(())
}

pub(super) async fn put(app: &App, call: Call) -> Answer {
    refuse_conflicts(&call, &["acquire", "cas", "release"])?;
    refuse_conflicts(&call, &["acquire", "release", "ttl"])?;
    let key = Key::new(&call.rest).ok_or_else(|| ApiError::BadRequest("Missing key name".into()))?;
    let (value, flags) = (detach(&call.body), call.query.number("flags")?.unwrap_or(0));
    let session = |id: &str| SessionId::new(id).map_err(|_| ApiError::Rejected(format!("invalid session {id:?}")));
    let command = if let Some(id) = call.query.get("acquire") {
        Command::KvLock { key, value, flags, session: session(id)?, delayed: false }
    } else if let Some(id) = call.query.get("release") {
        Command::KvUnlock { key, value, flags, session: session(id)? }
    } else {
        let (cas, ttl) = (call.query.number("cas")?, ttl(&call)?);
        Command::KvPut { key, value, flags, cas, ttl }
    };
    write(app, &call, command).await
}

/// How long the key is to stay without being put again: an extension of ours.
fn ttl(call: &Call) -> Result<Duration, ApiError> {
    let Some(text) = call.query.get("ttl") else { return Ok(Duration::ZERO) };
    match GoDuration::from_str(text) {
        Ok(GoDuration(ttl)) if ttl >= MIN_TTL => Ok(ttl),
        _ => Err(ApiError::BadRequest(format!("Invalid ttl {text:?}: a duration of at least 1s is wanted, as in 30s"))),
    }
}

pub(super) async fn delete(app: &App, call: Call) -> Answer {
    refuse_conflicts(&call, &["cas", "recurse"])?;
    let cas = call.query.number("cas")?;
    if call.query.has("recurse") {
        return write(app, &call, Command::KvDeleteTree { prefix: call.rest.clone() }).await;
    }
    let key = Key::new(&call.rest).ok_or_else(|| ApiError::BadRequest("Missing key name".into()))?;
    write(app, &call, Command::KvDelete { key, cas }).await
}

/// `true`, or `false` if a compare-and-set did not match.
async fn write(app: &App, call: &Call, command: Command) -> Answer {
    let (outcome, _) = app.submit(&call.caller, command).await?;
    Ok(super::json(&(outcome == Outcome::Done)))
}

/// The value by itself: a slice of the connection's read buffer would keep the whole buffer alive with the row.
fn detach(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(body)
}
