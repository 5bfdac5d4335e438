//! Parameters after the `?`, and decoding of `%XX`.

use std::{str::FromStr, time::Duration};

use kvstore_client::GoDuration;

use super::error::ApiError;

/// The parameters of a request, in order; a name without `=` has an empty value.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

/// How long a blocking query may wait at the most, and by default.
const MAX_WAIT: Duration = Duration::from_mins(10);
const DEFAULT_WAIT: Duration = Duration::from_mins(5);

/// A blocking query's position and patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) index: u64,
    pub(super) wait: Duration,
}

/// How sure a reader wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    Default,
    Consistent,
    Stale,
}

impl Consistency {
    /// The word for it in answers.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Default => "leader",
            Self::Consistent => "consistent",
            Self::Stale => "stale",
        }
    }
}

impl Query {
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, ApiError> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode_plus(name)?, decode_plus(value)?))
        };
        let parts = raw.split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(pair).collect::<Option<Vec<_>>>();
        Ok(Self {
            pairs: pairs
                .ok_or_else(|| ApiError::BadRequest("a parameter is not text once its %XX are decoded".into()))?,
        })
    }

    /// Whether the parameter is there, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first value of the parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of the parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every parameter but those of these names.
    pub(super) fn without(&self, names: &[&str]) -> Vec<&(String, String)> {
        self.pairs.iter().filter(|(n, _)| !names.contains(&n.as_str())).collect()
    }

    /// The same, taken out.
    pub(super) fn into_pairs_without(mut self, names: &[&str]) -> Vec<(String, String)> {
        self.pairs.retain(|(name, _)| !names.contains(&name.as_str()));
        self.pairs
    }

    /// A flag that may be given bare or as a boolean, such as `passing`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(ApiError::BadRequest(format!("Invalid value for ?{name}"))),
        }
    }

    /// A number, refused in Go's words if it is none.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.get(name).map(u64::from_str).transpose().map_err(|_| {
            let value = self.get(name).unwrap_or_default();
            ApiError::Rejected(format!("strconv.ParseUint: parsing {value:?}: invalid syntax"))
        })
    }

    /// `index` and `wait`; `None` for a read that is to be answered at once.
    pub(super) fn waiting(&self) -> Result<Option<Waiting>, ApiError> {
        let wait = self.wait()?;
        let index = match self.get("index").filter(|i| !i.is_empty()) {
            None => 0,
            Some(text) => text.parse().map_err(|_| ApiError::BadRequest("Invalid index".into()))?,
        };
        Ok((index > 0).then_some(Waiting { index, wait }))
    }

    /// How long a read may wait.
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        let Some(text) = self.get("wait").filter(|w| !w.is_empty()) else { return Ok(DEFAULT_WAIT) };
        let invalid = |why| ApiError::BadRequest(format!("Invalid wait time: {why}"));
        let wait = GoDuration::from_str(text).map_err(invalid)?.0;
        // A wait of nothing asks for the default, as with Consul.
        Ok(if wait.is_zero() { DEFAULT_WAIT } else { wait.min(MAX_WAIT) })
    }

    /// `stale`, `consistent` or neither.
    pub(super) fn consistency(&self) -> Result<Consistency, ApiError> {
        if let Some(text) = self.get("max_stale")
            && GoDuration::from_str(text).is_err()
        {
            return Err(ApiError::BadRequest(format!("Invalid max_stale value {text:?}")));
        }
        let conflict = |a: &str, b: &str| {
            Err(ApiError::BadRequest(format!("Cannot specify ?{a} with ?{b}, conflicting semantics.")))
        };
        match (self.has("stale"), self.has("consistent")) {
            (true, true) => conflict("stale", "consistent"),
            (_, true) if self.has("cached") => conflict("cached", "consistent"),
            (true, _) => Ok(Consistency::Stale),
            (_, true) => Ok(Consistency::Consistent),
            _ => Ok(Consistency::Default),
        }
    }

    /// Refuses what asks for another datacenter or for things we do not have.
    pub(super) fn same_place(&self, datacenter: &str) -> Result<(), ApiError> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        same_datacenter(self.get("dc").unwrap_or_default(), datacenter)?;
        for (name, what) in [("ns", "Namespaces are"), ("partition", "Partitions are")] {
            if self.get(name).is_some_and(|v| !v.is_empty() && v != "default") {
                let why = format!("Invalid query parameter: {name:?} - {what} a Consul Enterprise feature");
                return Err(ApiError::BadRequest(why));
            }
        }
        Ok(())
    }
}

/// Refuses `asked` unless it is empty or our own datacenter.
pub(super) fn same_datacenter(asked: &str, own: &str) -> Result<(), ApiError> {
    if asked.is_empty() || asked.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    Err(ApiError::Rejected("No path to datacenter".into()))
}

/// `raw` with its `%XX` decoded; `None` if one is cut or the result is no text.
pub(super) fn decode(raw: &str) -> Option<String> {
    if !raw.contains('%') {
        return Some(raw.to_owned());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| (b? as char).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The same where `+` is a blank.
fn decode_plus(raw: &str) -> Option<String> {
    if raw.contains('+') { decode(&raw.replace('+', "%20")) } else { decode(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw)).unwrap()
    }

    #[test]
    fn parameters_with_and_without_values() {
        let q = query("recurse&keys=&separator=%2F&tag=a&tag=b+c&&x=1=2");
        assert!(q.has("recurse") && q.has("keys") && !q.has("raw"));
        assert_eq!(q.get("separator"), Some("/"));
        assert_eq!(q.all("tag").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(q.get("x"), Some("1=2"));
        assert!(Query::parse(Some("a=%zz")).is_err() && Query::parse(Some("a=%ff")).is_err());
        assert!(Query::parse(Some("a=%4")).is_err());
    }

    #[test]
    fn waiting_is_go_durations_and_whole_numbers() {
        let waiting = |raw: &str| query(raw).waiting().map(|w| w.map(|w| (w.index, w.wait.as_secs())));
        assert_eq!(waiting("").unwrap(), None);
        assert_eq!(waiting("index=0&wait=5s").unwrap(), None);
        assert_eq!(waiting("index=7").unwrap(), Some((7, 300)));
        assert_eq!(waiting("index=7&wait=60000ms").unwrap(), Some((7, 60)));
        assert_eq!(waiting("index=7&wait=20h").unwrap(), Some((7, 600)));
        for bad in ["index=x", "index=-1", "index=1&wait=10", "wait=10minutes"] {
            assert!(waiting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn consistency_words_exclude_each_other() {
        assert_eq!(query("stale").consistency().unwrap(), Consistency::Stale);
        assert_eq!(query("consistent").consistency().unwrap(), Consistency::Consistent);
        assert_eq!(query("cached&stale").consistency().unwrap(), Consistency::Stale);
        for bad in ["stale&consistent", "cached&consistent", "max_stale=x"] {
            assert!(query(bad).consistency().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_our_own_place() {
        for good in ["dc=dc1", "dc=", "dc=DC1", "ns=default", "partition=default", "ns="] {
            assert!(query(good).same_place("dc1").is_ok(), "{good}");
        }
        for bad in ["dc=dc2", "ns=x", "partition=x"] {
            assert!(query(bad).same_place("dc1").is_err(), "{bad}");
        }
    }
}
