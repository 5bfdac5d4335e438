//! `?cached`: what an agent's cache would say of the answer.
//!
//! Every answer comes from memory and is current, so there is nothing to cache. Clients are told what they expect: the
//! first of equal requests was a miss, later ones are hits with an age of 0.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use hyper::{
    Method, Response,
    header::{AGE, CACHE_CONTROL, HeaderValue},
};

use super::{App, Body, Call, Route, error::ApiError};

/// The endpoints that an agent caches.
const CACHED: &[&str] = &[
    "/v1/catalog/services",
    "/v1/catalog/service/",
    "/v1/catalog/datacenters",
    "/v1/health/service/",
    "/v1/query/*/execute",
];

/// So many different requests are remembered; then all are forgotten at once.
const MAX_REMEMBERED: usize = 8192;

/// Which requests were made with `?cached`.
#[derive(Debug, Default)]
pub(super) struct Asked {
    hasher: RandomState,
    hashes: Mutex<HashSet<u64>>,
}

impl Asked {
    /// Remembers a request; whether it was made before.
    fn again(&self, path: &str, call: &Call) -> bool {
        let hash = self.hasher.hash_one((path, &call.rest, call.query.without(&["index", "wait"])));
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if hashes.len() >= MAX_REMEMBERED {
            hashes.clear();
        }
        !hashes.insert(hash)
    }
}

/// What is said of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    Miss,
    Hit,
}

/// What to say of the answer to `call`; `None` where nothing is cached.
///
/// # Errors
/// [`ApiError::BadRequest`] for a `Cache-Control` that is none.
pub(super) fn asked(app: &App, route: &Route, call: &Call) -> Result<Option<Cached>, ApiError> {
    if route.method != Method::GET || !CACHED.contains(&route.path) {
        return Ok(None);
    }
    let fresh = wants_fresh(call)?;
    if !call.query.has("cached") {
        return Ok(None);
    }
    let again = app.asked.again(route.path, call);
    Ok(Some(if again && !fresh { Cached::Hit } else { Cached::Miss }))
}

/// Whether `Cache-Control` asks for an answer that is not from the cache.
fn wants_fresh(call: &Call) -> Result<bool, ApiError> {
    let Some(value) = call.headers.get(CACHE_CONTROL) else { return Ok(false) };
    let invalid = || ApiError::BadRequest("Invalid Cache-Control header.".into());
    let directives = value.to_str().map_err(|_| invalid())?.to_ascii_lowercase();
    let mut fresh = false;
    for directive in directives.split(',').map(str::trim) {
        fresh |= directive == "must-revalidate";
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            fresh |= seconds.parse::<u32>().map_err(|_| invalid())? == 0;
        } else if let Some(seconds) = directive.strip_prefix("stale-if-error=") {
            seconds.parse::<u32>().map_err(|_| invalid())?;
        }
    }
    Ok(fresh)
}

pub(super) fn tell(cached: Option<Cached>, response: &mut Response<Body>) {
    let Some(cached) = cached else { return };
    let headers = response.headers_mut();
    headers.insert("x-cache", HeaderValue::from_static(if cached == Cached::Hit { "HIT" } else { "MISS" }));
    if cached == Cached::Hit {
        headers.insert(AGE, HeaderValue::from_static("0"));
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use super::*;
    use crate::http::{caller::Caller, query::Query, request_id::RequestId};

    fn call(query: &str, cache_control: &'static str) -> Call {
        let mut headers = HeaderMap::new();
        if !cache_control.is_empty() {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        }
        let query = Query::parse(Some(query)).unwrap();
        Call {
            rest: "web".into(),
            query,
            headers,
            body: bytes::Bytes::new(),
            from: None,
            caller: Caller::default(),
            id: RequestId::of(&HeaderMap::new()),
        }
    }

    #[test]
    fn equal_requests_are_known_whatever_they_wait_for() {
        let asked = Asked::default();
        assert!(!asked.again("/a/", &call("cached&tag=x", "")));
        assert!(asked.again("/a/", &call("cached&tag=x&index=7&wait=1s", "")));
        assert!(!asked.again("/a/", &call("cached&tag=y", "")));
        assert!(!asked.again("/b/", &call("cached&tag=x", "")));
        for n in 0..2 * MAX_REMEMBERED {
            asked.again("/a/", &call(&format!("cached&tag={n}"), ""));
        }
        assert!(asked.hashes.lock().unwrap().len() <= MAX_REMEMBERED);
    }

    #[test]
    fn cache_control_is_read() {
        for (value, fresh) in [
            ("", Some(false)),
            ("max-age=10, stale-if-error=60", Some(false)),
            ("no-cache", Some(false)),
            ("Max-Age=0", Some(true)),
            ("must-revalidate", Some(true)),
            ("max-age=-1", None),
            ("max-age=", None),
            ("max-age=x", None),
            ("stale-if-error=1s", None),
        ] {
            assert_eq!(wants_fresh(&call("", value)).ok(), fresh, "{value}");
        }
    }
}
