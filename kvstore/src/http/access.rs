//! Which tokens let a request in: those that the configuration names, and where access control is on, the registry's.

use hyper::header::{AUTHORIZATION, HeaderMap};
use kvstore_core::{acl::DefaultPolicy, credentials::Digest};
use sha2::{Digest as _, Sha256};

use super::{error::ApiError, query::Query};

/// Consul's header for tokens.
const HEADER: &str = "x-consul-token";

/// The digest of a token's secret. Secrets are random, so that one digest of each suffices.
pub fn digest(secret: &str) -> Digest {
    Digest(Sha256::digest(secret).into())
}

/// What requests must show. Without a token for writers and without access control nothing is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Any of them lets a request read; none: everybody may, where there is no access control.
    pub readers: Vec<Digest>,
    /// Any of them lets a request read and write.
    pub writers: Vec<Digest>,
    /// Whether tokens and policies count, and how.
    pub acl: Option<Acl>,
}

/// Access control by tokens and policies: Consul's `acl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// What holds where no policy says anything.
    pub default_policy: DefaultPolicy,
    /// What this agent's own requests, and those of others without a token, are made with.
    pub tokens: AgentTokens,
}

/// The tokens that an agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentTokens {
    /// Of requests that show none.
    pub default: Option<Digest>,
    /// Of questions over DNS; without it, the default one.
    pub dns: Option<Digest>,
}

impl Access {
    /// Whether a request must show anything.
    pub(super) fn is_guarded(&self) -> bool {
        self.acl.is_some() || !self.writers.is_empty()
    }

    /// Whether there are some who may not read everything.
    pub(crate) fn guards_reads(&self) -> bool {
        self.acl.is_some() || !self.readers.is_empty()
    }

    /// Whether who shows nothing may write.
    pub(crate) fn is_open(&self) -> bool {
        self.default_policy() == "allow"
    }

    /// What holds for who shows nothing, for the header that tells it.
    pub(super) fn default_policy(&self) -> &'static str {
        match &self.acl {
            Some(Acl { default_policy: DefaultPolicy::Allow, .. }) => "allow",
            None if self.writers.is_empty() => "allow",
            _ => "deny",
        }
    }

    /// Of who shows this token.
    pub(super) fn standing(&self, shown: Option<Digest>) -> Result<Standing, ApiError> {
        let is_in = |tokens: &[Digest]| shown.is_some_and(|shown| tokens.contains(&shown));
        match shown {
            _ if !self.is_guarded() || is_in(&self.writers) => Ok(Standing::Writer),
            _ if is_in(&self.readers) => Ok(Standing::Reader),
            _ if self.acl.is_some() => Ok(Standing::AsPoliciesSay),
            _ if self.readers.is_empty() => Ok(Standing::Unknown),
            Some(_) => Err(ApiError::Forbidden("ACL not found")),
            None => Err(ApiError::Forbidden("Permission denied: a token is needed")),
        }
    }

    /// The digest of the token that a request shows, where it is of use.
    pub(super) fn shown(&self, headers: &HeaderMap, query: &Query) -> Option<Digest> {
        self.is_guarded().then(|| secret(headers, query).map(digest)).flatten()
    }
}

/// What the configuration says of who shows a token, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// They may everything.
    #[default]
    Writer,
    /// They may read.
    Reader,
    /// They may read, since everybody may.
    Unknown,
    /// The registry's own tokens and policies say it.
    AsPoliciesSay,
}

impl Standing {
    /// Whether who has it may write, as far as it says.
    pub(super) fn admit(self, writes: bool) -> Result<(), ApiError> {
        match self {
            Self::Reader if writes => Err(ApiError::Forbidden("Permission denied: this token may read and not write")),
            Self::Unknown if writes => Err(ApiError::Forbidden("Permission denied: a token is needed")),
            _ => Ok(()),
        }
    }
}

/// The token of a request, in Consul's order: parameter, header, bearer.
pub(super) fn secret<'a>(headers: &'a HeaderMap, query: &'a Query) -> Option<&'a str> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || {
        let (scheme, token) = header(AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    };
    let given = [query.get("token"), header(HEADER), bearer()];
    given.into_iter().flatten().find(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Guard,
            harness::{Harness, endpoints},
            routes::WHOLE,
        },
        *,
    };

    fn tokens(all: &[&str]) -> Vec<Digest> {
        all.iter().map(|secret| digest(secret)).collect()
    }

    /// What a request is told: by its parameters and its headers, `NAME: VALUE`.
    fn told(access: &Access, writes: bool, query: &str, header: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header.split_once(": ") {
            headers.insert(hyper::header::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let shown = access.shown(&headers, &Query::parse(Some(query)).unwrap());
        let admitted = access.standing(shown).and_then(|standing| standing.admit(writes));
        admitted.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn readers_read_and_writers_do_both() {
        let access = Access { readers: tokens(&["r1", "r2"]), writers: tokens(&["w"]), acl: None };
        let (none, reader, unknown) = ("a token is needed", "may read and not write", "ACL not found");
        for (query, header, reading, writing) in [
            ("", "", none, none),
            ("token=", "X-Consul-Token: ", none, none),
            ("token=r1", "", "", reader),
            ("", "X-Consul-Token: r2", "", reader),
            ("", "Authorization: Bearer r1", "", reader),
            ("", "Authorization: bearer  w", "", ""),
            ("", "Authorization: Basic dzp3", none, none),
            ("token=w", "X-Consul-Token: r1", "", ""),
            ("token=x", "X-Consul-Token: w", unknown, unknown),
            ("", "X-Consul-Token: W", unknown, unknown),
        ] {
            for (writes, expected) in [(false, reading), (true, writing)] {
                let told = told(&access, writes, query, header);
                assert!(told.ends_with(expected) && told.is_empty() == expected.is_empty(), "{query} {header}: {told}");
            }
        }
    }

    #[test]
    fn without_readers_everybody_reads_and_without_writers_everybody_writes() {
        let only_writers = Access { writers: tokens(&["w"]), ..Access::default() };
        assert_eq!(told(&only_writers, false, "token=x", ""), "");
        assert_ne!(told(&only_writers, true, "", ""), "");
        assert_eq!(told(&Access::default(), true, "", ""), "");
    }

    #[test]
    fn tokens_are_not_printed() {
        let access = Access { readers: tokens(&["secret"]), writers: tokens(&["other"]), acl: None };
        assert_eq!(format!("{access:?}"), "Access { readers: [Digest], writers: [Digest], acl: None }");
    }

    /// Every endpoint there is; a new one is guarded without anybody's doing.
    #[test]
    fn no_endpoint_is_forgotten() {
        let harness = Harness::start();
        let access = Access { readers: tokens(&["r"]), writers: tokens(&["w"]), acl: None };
        harness.guarded(Guard { access, ..Guard::default() });
        let mut open = Vec::new();
        for (method, path) in endpoints() {
            let path = path.replace('*', "x");
            let status = |token: &str| harness.ask(method, &format!("{path}?token={token}"), "").unwrap().status;
            if status("") != 403 {
                open.push(path.clone());
                continue;
            }
            assert_eq!(status("x"), 403, "{method} {path}");
            let writes = method != "GET" || path.starts_with("/v1/agent/check/") || WHOLE.contains(&&*path);
            assert_eq!(status("r") == 403, writes, "{method} {path}");
            assert_ne!(status("w"), 403, "{method} {path}");
        }
        assert_eq!(open, ["/v1/status/leader", "/v1/status/peers"]);
    }
}
