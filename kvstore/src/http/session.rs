//! `/v1/session`: claims to be alive that hold locks.

use std::{str::FromStr, time::Duration};

use kvstore_client::{GoDuration, types};
use kvstore_core::{
    Command, State, WatchKey,
    names::{CheckId, NodeKey, SessionId},
    row::{Behavior, ServiceCheck, Session, Stamped},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, App, Call,
    blocking::{Found, Read, required},
    error::ApiError,
    json as to_json,
    json::{compact, decode_known},
};

/// The longest TTL, and the longest time for which a lock is kept from others.
const MAX_TTL: Duration = Duration::from_hours(24);
const MAX_LOCK_DELAY: Duration = Duration::from_mins(1);

/// For how long a lock is kept from others unless the session says it.
const LOCK_DELAY: Duration = Duration::from_secs(15);

/// The check that a session depends on unless it says another.
const ALIVE: &str = "serfHealth";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    name: String,
    node: String,
    lock_delay: Value,
    behavior: String,
    #[serde(rename = "TTL")]
    ttl: String,
    node_checks: Option<Vec<CheckId>>,
    service_checks: Option<Vec<RequestedCheck>>,
    /// The older form of both.
    checks: Option<Vec<CheckId>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestedCheck {
    #[serde(rename = "ID")]
    id: CheckId,
    #[serde(default)]
    namespace: String,
}

pub(super) async fn create(app: &App, call: Call) -> Answer {
    let request = if call.body.is_empty() { Request::default() } else { decode_known(&call.body)? };
    let session = session(request, &app.about.node, app.about.session_ttl_min)?;
    let id = session.id.clone();
    app.submit(&call.caller, Command::CreateSession { session: Box::new(session) }).await?;
    Ok(to_json(&json!({"ID": id})))
}

fn session(request: Request, own_node: &NodeKey, ttl_min: Duration) -> Result<Session, ApiError> {
    let node = if request.node.is_empty() { own_node.clone() } else { NodeKey::new(&request.node)? };
    let alive = || vec![CheckId::new(ALIVE).expect("a constant name")];
    let service_check = |check: RequestedCheck| ServiceCheck { id: check.id, namespace: check.namespace };
    Ok(Session {
        id: SessionId::new(&uuid::Uuid::new_v4().to_string()).expect("a UUID is a name"),
        name: request.name,
        node,
        lock_delay: lock_delay(&request.lock_delay)?,
        behavior: match request.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(ApiError::Rejected(format!("Invalid Behavior setting '{other}'"))),
        },
        ttl: ttl(&request.ttl, ttl_min)?,
        ttl_text: request.ttl,
        node_checks: request.node_checks.or(request.checks).unwrap_or_else(alive),
        service_checks: request.service_checks.map(|checks| checks.into_iter().map(service_check).collect()),
        ending: false,
    })
}

/// A text, or a number: below 1000 seconds, else nanoseconds.
fn lock_delay(given: &Value) -> Result<Duration, ApiError> {
    let invalid = || ApiError::BadRequest(format!("Request decode failed: LockDelay {given} is not a duration"));
    let delay = match given {
        Value::Null => LOCK_DELAY,
        Value::String(text) => GoDuration::from_str(text).map_err(|_| invalid())?.0,
        number => match number.as_u64().or_else(|| whole(number)).ok_or_else(invalid)? {
            seconds @ 0..1000 => Duration::from_secs(seconds),
            nanos => Duration::from_nanos(nanos),
        },
    };
    Ok(delay.min(MAX_LOCK_DELAY))
}

/// `15.0` and `1.5e10`: some clients have no whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range, and cut on purpose
fn whole(number: &Value) -> Option<u64> {
    number.as_f64().filter(|n| (0.0..1e18).contains(n)).map(|n| n as u64)
}

fn ttl(text: &str, min: Duration) -> Result<Duration, ApiError> {
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let invalid = |why| ApiError::Rejected(format!("Session TTL '{text}' invalid: {why}"));
    let ttl = GoDuration::from_str(text).map_err(invalid)?.0;
    if ttl.is_zero() || (min..=MAX_TTL).contains(&ttl) {
        return Ok(ttl);
    }
    let (nanos, min, max) = (ttl.as_nanos(), GoDuration(min), GoDuration(MAX_TTL));
    Err(ApiError::Rejected(format!("Invalid Session TTL '{nanos}', must be between [{min}={max}]")))
}

fn id(call: &Call) -> Result<&str, ApiError> {
    required(&call.rest, "Missing session")
}

pub(super) async fn destroy(app: &App, call: Call) -> Answer {
    if let Ok(session) = SessionId::new(id(&call)?) {
        app.submit(&call.caller, Command::DestroySession { session }).await?;
    }
    Ok(to_json(&true))
}

pub(super) async fn renew(app: &App, call: Call) -> Answer {
    let unknown = |id: &str| ApiError::NotFound(format!("Session id '{id}' not found"));
    let session = SessionId::new(id(&call)?).map_err(|_| unknown(&call.rest))?;
    app.submit(&call.caller, Command::RenewSession { session: session.clone() }).await?;
    let state = app.state(&call.caller);
    let row = state.session(&session).ok_or_else(|| unknown(&call.rest))?;
    Ok(to_json(&[shown(&state, row)]))
}

pub(super) fn info(_: &App, call: &Call) -> Result<Read, ApiError> {
    let session = SessionId::new(id(call)?).ok();
    Ok(read(move |state| listed(state, session.iter().filter_map(|id| state.session(id).map(|row| &**row)))))
}

pub(super) fn node(_: &App, call: &Call) -> Result<Read, ApiError> {
    let node = NodeKey::new(required(&call.rest, "Missing node name")?)?;
    Ok(read(move |state| listed(state, state.sessions_on(&node).map(|row| &**row))))
}

pub(super) fn list(_: &App, _: &Call) -> Result<Read, ApiError> {
    Ok(read(|state| listed(state, state.sessions().map(|row| &**row))))
}

fn read(render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Read {
    // They show the name of their host as it is spelled.
    Read::of_kv(WatchKey::Sessions, render).shared_while([WatchKey::Sessions, WatchKey::Nodes])
}

fn listed<'a>(state: &State, sessions: impl Iterator<Item = &'a Stamped<Session>>) -> Found {
    Found::Json(compact(&sessions.map(|row| shown(state, row)).collect::<Vec<_>>()))
}

fn shown(state: &State, row: &Stamped<Session>) -> types::Session {
    let check = |check: &ServiceCheck| types::SessionServiceCheck {
        id: check.id.to_string(),
        namespace: check.namespace.clone(),
    };
    types::Session {
        id: row.id.to_string(),
        name: row.name.clone(),
        node: state.node(&row.node).map_or_else(|| row.node.to_string(), |node| node.name.clone()),
        lock_delay: GoDuration(row.lock_delay),
        behavior: match row.behavior {
            Behavior::Release => "release".into(),
            Behavior::Delete => "delete".into(),
        },
        ttl: row.ttl_text.clone(),
        node_checks: row.node_checks.iter().map(ToString::to_string).collect(),
        service_checks: row.service_checks.as_ref().map(|checks| checks.iter().map(check).collect()),
        create_index: row.created.0,
        modify_index: row.modified.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<Session, String> {
        let request = decode_known(body.as_bytes()).map_err(|e| e.to_string())?;
        session(request, &NodeKey::new("here").unwrap(), Duration::from_secs(10)).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_has_consuls_defaults() {
        let session = parsed("{}").unwrap();
        assert_eq!((session.node.as_str(), session.lock_delay, session.ttl), ("here", LOCK_DELAY, Duration::ZERO));
        assert_eq!((session.node_checks, session.service_checks), (vec![CheckId::new(ALIVE).unwrap()], None));
        let none = |body| parsed(body).unwrap().node_checks.is_empty();
        assert!(none(r#"{"Checks":[]}"#) && none(r#"{"NodeChecks":[]}"#) && none(r#"{"nodechecks":[],"Bogus":1}"#));
    }

    #[test]
    fn a_lock_delay_is_a_text_seconds_or_nanoseconds() {
        for (given, expected) in [
            ("0", 0),
            ("15", 15_000),
            ("15.0", 15_000),
            ("\"1m30s\"", 60_000),
            ("\"250ms\"", 250),
            ("5000000000", 5000),
            ("5e9", 5000),
            ("1e17", 60_000),
        ] {
            let session = parsed(&format!("{{\"LockDelay\":{given}}}")).unwrap();
            assert_eq!(session.lock_delay, Duration::from_millis(expected), "{given}");
        }
        for given in ["-1", "\"soon\"", "[]", "true", "1e300"] {
            assert!(parsed(&format!("{{\"LockDelay\":{given}}}")).is_err(), "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_consuls_words() {
        for (body, why) in [
            (r#"{"TTL":"5s"}"#, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"25h"}"#, "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]"),
            (r#"{"Behavior":"x"}"#, "Invalid Behavior setting 'x'"),
        ] {
            assert_eq!(parsed(body).unwrap_err(), why);
        }
        assert!(parsed(r#"{"TTL":"bad"}"#).unwrap_err().starts_with("Session TTL 'bad' invalid: "));
        assert_eq!(parsed(r#"{"TTL":"0s"}"#).unwrap().ttl, Duration::ZERO);
    }
}
