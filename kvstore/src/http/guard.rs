//! What this agent's owner closed, and what is added to every answer: Consul's `http_config`.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use hyper::{
    Method,
    header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN},
};
use ipnet::IpNet;

use super::{
    access::{Access, AgentTokens},
    error::ApiError,
};

/// A guard that can be exchanged. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveGuard(Arc<ArcSwap<Guard>>);

impl LiveGuard {
    /// Begins with `guard`.
    pub(crate) fn new(guard: Guard) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(guard)))
    }

    /// The one that counts now.
    pub(crate) fn now(&self) -> Arc<Guard> {
        self.0.load_full()
    }

    /// Lets the agent have other tokens from the next request on.
    pub(super) fn change_tokens(&self, change: impl Fn(&mut AgentTokens)) {
        self.0.rcu(|guard| {
            let mut guard = Guard::clone(guard);
            guard.access.acl.as_mut().into_iter().for_each(|acl| change(&mut acl.tokens));
            guard
        });
    }

    /// Lets `guard` count from the next request on.
    pub(crate) fn change(&self, guard: Guard) {
        self.0.store(guard.into());
    }
}

/// Guards every request, before it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// Which tokens let a request read and write.
    pub access: Access,
    /// Paths that begin with one of these are refused.
    pub blocked: Vec<String>,
    /// Who may write; empty: everybody. Who comes by a Unix socket may: the file's mode guards that.
    pub writers: Vec<IpNet>,
    /// Added to every answer.
    pub headers: HeaderMap,
}

impl Guard {
    /// Whether a request for the canonical `path` is let through. Old clients write by GET too: `writes` says so.
    pub(super) fn check(&self, path: &str, writes: bool, from: Option<IpAddr>) -> Result<(), ApiError> {
        if self.blocked.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            return Err(ApiError::Forbidden("Endpoint is blocked by agent configuration"));
        }
        let may_write = || match from {
            Some(ip) => self.writers.iter().any(|net| net.contains(&ip.to_canonical())),
            None => true,
        };
        if writes && !self.writers.is_empty() && !may_write() {
            return Err(ApiError::Forbidden("Access is restricted"));
        }
        Ok(())
    }
}

/// Whether a page of another site has a browser send this: such a page may not change anything with what its visitor may.
/// By Fetch Metadata, and by `Origin` where a browser does not send that.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match header(&HeaderName::from_static("sec-fetch-site")) {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => header(&ORIGIN).is_some_and(|origin| {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_none() || host != header(&HOST)
        }),
    }
}

/// Whether a request may change something, as far as its method tells.
pub(super) fn writes(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::POST | Method::DELETE | Method::PATCH)
}

/// The beginning of a path that is to be closed.
pub(crate) fn path_prefix(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(format!("{text:?} is no path; they begin with /")) }
}

/// A header of an answer.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
    parsed.ok_or_else(|| format!("{name:?}: {value:?} cannot be a header; names are letters, digits and hyphens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_known_by_what_browsers_send() {
        for (sent, expected) in [
            ("", false),
            ("sec-fetch-site: same-origin", false),
            // Typed in, or a bookmark.
            ("sec-fetch-site: none", false),
            ("sec-fetch-site: cross-site", true),
            ("sec-fetch-site: same-site", true),
            ("origin: http://registry:8500", false),
            ("origin: http://registry", true),
            ("origin: https://evil.example", true),
            ("origin: null", true),
        ] {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("registry:8500"))]);
            if let Some((name, value)) = sent.split_once(": ") {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_cross_site(&headers), expected, "{sent}");
        }
    }

    #[test]
    fn what_is_closed_is_refused_and_nothing_else() {
        let guard = Guard {
            blocked: vec!["/v1/agent/".into(), "/v1/kv/secret".into()],
            writers: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..Guard::default()
        };
        let (near, far) = ("10.1.2.3", "192.0.2.1");
        for (path, writes, from, want) in [
            ("/v1/agent/self", false, Some(near), Some("Endpoint is blocked by agent configuration")),
            ("/v1/kv/secret/x", true, Some(near), Some("Endpoint is blocked by agent configuration")),
            ("/v1/kv/other", true, Some(near), None),
            ("/v1/kv/other", true, Some("::ffff:10.0.0.1"), None),
            ("/v1/kv/other", true, Some("::1"), None),
            ("/v1/kv/other", true, Some(far), Some("Access is restricted")),
            ("/v1/kv/other", false, Some(far), None),
            ("/v1/kv/other", true, None, None),
        ] {
            let from = from.map(|ip| ip.parse().unwrap());
            let refused = guard.check(path, writes, from).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), want, "{path} {from:?}");
        }
        assert!(Guard::default().check("/v1/kv/other", true, Some(far.parse().unwrap())).is_ok());
    }
}
