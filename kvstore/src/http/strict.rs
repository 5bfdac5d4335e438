//! `--strict-consul`: what is taken here beyond what a genuine Consul takes, and its refusal. Pure.
//!
//! This is the one list of our extensions; what runs against an agent with the flag runs against Consul.

use std::time::Duration;

use hyper::Method;

use kvstore_client::{
    GoDuration,
    types::{CheckRegistration, HealthCheck},
};

use super::{error::ApiError, query::Query};

/// What is taken, and what comes of it with the flag, as in Consul.
pub(super) const EXTENSIONS: &[(&str, &str)] = &[
    (
        "`PUT /v1/kv/KEY?ttl=`, `/v1/health/service/NAME?for=`, `Definition.TTL` of a check of the catalog",
        "400: Consul does without what was asked for",
    ),
    ("`GET` on `/v1/agent/check/pass/ID` and its like, which Consul took long ago", "405"),
    ("`HEAD` wherever there is a `GET`", "405"),
    ("writes to, and keys with, `//`, `/./` and `/../`", "301 to the cleaned path"),
    ("`Definition.DeregisterCriticalServiceAfter` of a check of the catalog", "kept, and not acted on"),
    ("`DeregisterCriticalServiceAfter` from a second on", "raised to a minute"),
    ("`GET /v1/internal/flotilla/changes`, by which replicas follow a registry", "404: it has no replicas"),
    ("`X-Request-Id` of a request comes back with its answer", "it does not"),
];

/// Consul raises a shorter `DeregisterCriticalServiceAfter` to this.
const MIN_DEREGISTER_AFTER: Duration = Duration::from_mins(1);

/// What a client asks for that Consul would not do, though it may take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// `PUT /v1/kv/KEY?ttl=`: the key goes when it is not put again in time.
    KeyTtl,
    /// `/v1/health/service/NAME?for=ADDRESS`: the instances that go with who is asking.
    AskedFor,
    /// `Definition.TTL` of a check put through the catalog: it turns critical when it is not put again in time.
    CatalogTtl,
}

impl Extension {
    /// What is refused, for the client.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::KeyTtl => "a key with ?ttl=",
            Self::AskedFor => "?for= on the instances of a service",
            Self::CatalogTtl => "Definition.TTL on a check of the catalog",
        }
    }

    /// The refusal.
    pub(super) fn refused(self) -> ApiError {
        ApiError::BadRequest(format!(
            "{} is not in Consul, and this agent takes nothing else (--strict-consul)",
            self.describe()
        ))
    }
}

/// The extension that a request uses by its parameters alone.
pub(super) fn by_parameters(method: &Method, path: &str, query: &Query) -> Option<Extension> {
    match path {
        "/v1/kv/" if *method == Method::PUT && query.has("ttl") => Some(Extension::KeyTtl),
        "/v1/health/service/" if query.has("for") => Some(Extension::AskedFor),
        _ => None,
    }
}

/// The extension that checks put through the catalog use.
pub(super) fn by_checks<'a>(checks: impl IntoIterator<Item = &'a HealthCheck>) -> Option<Extension> {
    checks.into_iter().any(|check| check.definition.ttl.is_some()).then_some(Extension::CatalogTtl)
}

/// Raises what Consul raises.
pub(super) fn raise(check: &mut CheckRegistration) {
    let after = &mut check.deregister_critical_service_after;
    *after = after.map(|after| if after.0.is_zero() { after } else { GoDuration(after.0.max(MIN_DEREGISTER_AFTER)) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_ours_are_known() {
        for (method, path, query, extension) in [
            (Method::PUT, "/v1/kv/", "flags=1&ttl=30s", Some(Extension::KeyTtl)),
            (Method::PUT, "/v1/kv/", "flags=1", None),
            (Method::GET, "/v1/kv/", "ttl=30s", None),
            (Method::GET, "/v1/health/service/", "passing&for=10.0.0.1", Some(Extension::AskedFor)),
            (Method::GET, "/v1/catalog/service/", "for=10.0.0.1", None),
        ] {
            let query = Query::parse(Some(query)).unwrap();
            assert_eq!(by_parameters(&method, path, &query), extension, "{method} {path}");
        }
    }
}
