//! Paths that are not written in the shortest way: `//`, `/./` and `/../`. Pure.
//!
//! Consul sends every client elsewhere by a 301, which turns a PUT into a GET. Here only reads are sent elsewhere, and
//! what a path ends in may be a name with any of these in it: keys are never touched.

use std::borrow::Cow;

use hyper::{
    Method, Response, StatusCode, Uri,
    header::{HeaderValue, LOCATION},
};

use super::{Answer, Body, error::ApiError};

/// Keys may begin with `/` and have `//` and `..` in them.
pub(super) const KEYS: &str = "/v1/kv/";

/// The path to be answered; `None` if the client is to ask again under [`cleaned`]. `exists` says whether there is an
/// endpoint. As Consul does it if `strict`: every method is sent elsewhere, keys too.
pub(super) fn canonical<'a>(
    path: &'a str,
    method: &Method,
    strict: bool,
    exists: impl Fn(&str) -> bool,
) -> Option<Cow<'a, str>> {
    if strict {
        return matches!(cleaned(path), Cow::Borrowed(_)).then_some(path.into());
    }
    if path.starts_with(KEYS) {
        return Some(path.into());
    }
    let Cow::Owned(clean) = cleaned(path) else { return Some(path.into()) };
    match *method {
        Method::GET => None,
        _ if exists(path) => Some(path.into()),
        _ => Some(clean.into()),
    }
}

/// `path` without empty, `.` and `..` parts; a `/` at the end stays.
fn cleaned(path: &str) -> Cow<'_, str> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let inner = path.strip_prefix('/').unwrap_or(path);
    if inner.is_empty() || inner.strip_suffix('/').unwrap_or(inner).split('/').all(is_plain) {
        return path.into();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in inner.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let end = if parts.is_empty() || !path.ends_with('/') { "" } else { "/" };
    format!("/{}{end}", parts.join("/")).into()
}

/// 301 to the cleaned path with the same parameters.
pub(super) fn redirect(uri: &Uri) -> Answer {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}{query}", cleaned(uri.path()))).map_err(|_| ApiError::BadPath)?;
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_elsewhere_writes_are_answered_and_keys_stay() {
        let exists = |path: &str| path.starts_with("/v1/agent/check/pass/");
        let canonical = |method: &Method, path: &str| canonical(path, method, false, exists).map(Cow::into_owned);
        for (method, path, answered) in [
            (Method::GET, "/v1/agent/self", Some("/v1/agent/self")),
            (Method::GET, "/", Some("/")),
            (Method::GET, "/ui/", Some("/ui/")),
            (Method::GET, "*", Some("*")),
            (Method::GET, "//v1/agent/self", None),
            (Method::GET, "/v1/agent/../self", None),
            (Method::PUT, "//v1/agent/leave", Some("/v1/agent/leave")),
            (Method::PUT, "/v1/agent/check/pass/a//b", Some("/v1/agent/check/pass/a//b")),
            (Method::GET, "/v1/kv//a/../b", Some("/v1/kv//a/../b")),
            (Method::PUT, "/v1/kv//a", Some("/v1/kv//a")),
        ] {
            assert_eq!(canonical(&method, path).as_deref(), answered, "{method} {path}");
        }
    }

    #[test]
    fn strictly_as_consul_every_method_is_sent_elsewhere() {
        for (path, answered) in [
            ("/v1/kv/a/b", true),
            ("/v1/kv/a/", true),
            ("/v1/kv//a", false),
            ("/v1/kv/a/../b", false),
            ("//v1/agent/leave", false),
        ] {
            let is_answered = canonical(path, &Method::PUT, true, |_| true).is_some();
            assert_eq!(is_answered, answered, "{path}");
        }
    }

    #[test]
    fn cleaning_never_leaves_this_host() {
        for (path, clean) in [
            ("//evil.example/", "/evil.example/"),
            ("/..//evil.example", "/evil.example"),
            ("//", "/"),
            ("/../..", "/"),
            ("/v1//catalog/./nodes", "/v1/catalog/nodes"),
            ("/v1/catalog/service//", "/v1/catalog/service/"),
            ("/a/b/..", "/a"),
        ] {
            assert_eq!(cleaned(path), clean, "{path}");
            let uri: Uri = format!("http://h{path}?a=1").parse().unwrap();
            assert_eq!(redirect(&uri).unwrap().headers()[LOCATION], format!("{clean}?a=1"));
        }
    }
}
