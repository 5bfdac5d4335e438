//! By what a request is known in the log: the id that came with it, such as a proxy's, else one of our own.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer one would only fill the log.
const MAX_GIVEN_BYTES: usize = 64;

/// Tells the ids of one run of the agent from those of the next.
static RUN: LazyLock<u32> = LazyLock::new(rand::random);
static LAST: AtomicU64 = AtomicU64::new(0);

/// Written only where something is logged; until then it costs a number.
#[derive(Clone, Debug)]
pub(super) enum RequestId {
    Given(HeaderValue),
    Ours(u64),
}

impl RequestId {
    /// That of a request with these headers. What is long, or could be taken for something else in a log, does not count.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let fits =
            |given: &&HeaderValue| (1..=MAX_GIVEN_BYTES).contains(&given.len()) && given.as_bytes().iter().all(plain);
        match headers.get(X_REQUEST_ID).filter(fits) {
            Some(given) => Self::Given(given.clone()),
            None => Self::Ours(LAST.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(given) => f.write_str(given.to_str().unwrap_or_default()),
            Self::Ours(number) => write!(f, "{:08x}-{number}", *RUN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_plain_ids_are_kept_and_all_others_are_ours() {
        let of = |given: &str| {
            let headers = [(X_REQUEST_ID, HeaderValue::from_str(given).unwrap())];
            RequestId::of(&headers.into_iter().collect()).to_string()
        };
        for given in ["a", "0af7651916cd43dd-8448.eb_21", &"x".repeat(64)] {
            assert_eq!(of(given), given);
        }
        for odd in ["", "a b", "a\"b", "a=b", &"x".repeat(65)] {
            assert_ne!(of(odd), odd);
        }
        assert_ne!(RequestId::of(&HeaderMap::new()).to_string(), RequestId::of(&HeaderMap::new()).to_string());
    }
}
