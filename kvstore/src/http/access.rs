//! Who may read and who may write: tokens that the configuration names, without policies behind them.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};

use super::{error::ApiError, query::Query};

/// Consul's header for tokens.
const HEADER: &str = "x-consul-token";

/// A token, of which only the SHA-256 digest is kept. To compare digests tells nothing of the tokens, however long it
/// takes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Whoever knows `secret` has the token.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What requests must show. Without a token for writers nothing is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Any of them lets a request read; none: everybody may.
    pub readers: Vec<Token>,
    /// Any of them lets a request read and write.
    pub writers: Vec<Token>,
}

impl Access {
    /// Whether a request must show a token to write.
    pub(super) fn is_guarded(&self) -> bool {
        !self.writers.is_empty()
    }

    /// The token that a request shows, where one is of use.
    pub(super) fn shown(&self, headers: &HeaderMap, query: &Query) -> Option<Token> {
        self.is_guarded().then(|| shown(headers, query).map(Token::new)).flatten()
    }

    /// Whether who shows this token may write, or read.
    pub(super) fn admit(&self, writes: bool, shown: Option<&Token>) -> Result<(), ApiError> {
        if !self.is_guarded() || (!writes && self.readers.is_empty()) {
            return Ok(());
        }
        let Some(shown) = shown else { return Err(ApiError::Forbidden("Permission denied: a token is needed")) };
        match (self.writers.contains(shown), self.readers.contains(shown)) {
            (true, _) => Ok(()),
            (false, true) if !writes => Ok(()),
            (false, true) => Err(ApiError::Forbidden("Permission denied: this token may read and not write")),
            (false, false) => Err(ApiError::Forbidden("ACL not found")),
        }
    }
}

/// The token of a request, in Consul's order: parameter, header, bearer.
fn shown<'a>(headers: &'a HeaderMap, query: &'a Query) -> Option<&'a str> {
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
        },
        *,
    };

    fn tokens(all: &[&str]) -> Vec<Token> {
        all.iter().map(|secret| Token::new(secret)).collect()
    }

    /// What a request is told: by its parameters and its headers, `NAME: VALUE`.
    fn told(access: &Access, writes: bool, query: &str, header: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header.split_once(": ") {
            headers.insert(hyper::header::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let shown = access.shown(&headers, &Query::parse(Some(query)).unwrap());
        let admitted = access.admit(writes, shown.as_ref());
        admitted.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn readers_read_and_writers_do_both() {
        let access = Access { readers: tokens(&["r1", "r2"]), writers: tokens(&["w"]) };
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
        let access = Access { readers: tokens(&["secret"]), writers: tokens(&["other"]) };
        assert_eq!(format!("{access:?}"), "Access { readers: [Token], writers: [Token] }");
    }

    /// Every endpoint there is; a new one is guarded without anybody's doing.
    #[test]
    fn no_endpoint_is_forgotten() {
        let harness = Harness::start();
        let access = Access { readers: tokens(&["r"]), writers: tokens(&["w"]) };
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
            let writes = method != "GET" || path.starts_with("/v1/agent/check/") || path == "/v1/snapshot";
            assert_eq!(status("r") == 403, writes, "{method} {path}");
            assert_ne!(status("w"), 403, "{method} {path}");
        }
        assert_eq!(open, ["/v1/status/leader", "/v1/status/peers"]);
    }
}
