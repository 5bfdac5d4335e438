//! One call, before it is sent.

use bytes::Bytes;
use reqwest::{Method, Url};
use serde::Serialize;

use super::Wait;
use crate::GoDuration;

/// One call, before it is sent.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Decoded path segments after `/v1`.
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Bytes>,
    pub(super) wait: Option<Wait>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None, wait: None }
    }

    pub(super) fn put(path: &'a [&'a str]) -> Self {
        Self { method: Method::PUT, ..Self::get(path) }
    }

    pub(super) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    pub(super) fn waiting(mut self, wait: Option<Wait>) -> Self {
        self.wait = wait;
        self
    }

    pub(super) fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("API types have string keys only").into());
        self
    }

    pub(super) fn name(&self) -> String {
        format!("{} /v1/{}", self.method, self.path.join("/"))
    }

    pub(super) fn url(&self, base: &Url, always: &[(&str, String)]) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1");
            // A key's slashes are part of the path; everything else in it is escaped.
            segments.extend(self.path.iter().flat_map(|s| s.split('/')));
        }
        if !self.query.is_empty() || !always.is_empty() || self.wait.is_some() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in self.query.iter().chain(always) {
                if value.is_empty() {
                    pairs.append_key_only(name);
                } else {
                    pairs.append_pair(name, value);
                }
            }
            if let Some(wait) = self.wait {
                pairs.append_pair("index", &wait.index.to_string());
                pairs.append_pair("wait", &GoDuration(wait.wait).to_string());
            }
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn url(call: &Call<'_>) -> String {
        call.url(&Url::parse("http://h:1").unwrap(), &[]).to_string()
    }

    #[test]
    fn keys_keep_their_slashes_and_lose_nothing_else() {
        assert_eq!(url(&Call::get(&["kv", "a/b c/\u{e4}?#%"])), "http://h:1/v1/kv/a/b%20c/%C3%A4%3F%23%25");
        assert_eq!(url(&Call::get(&["kv", "dir/"]).with("recurse", "")), "http://h:1/v1/kv/dir/?recurse");
        assert_eq!(url(&Call::get(&["kv", "a//b"])), "http://h:1/v1/kv/a//b");
        let wait = Wait { index: 7, wait: Duration::from_mins(1) };
        assert_eq!(
            url(&Call::get(&["catalog", "services"]).waiting(Some(wait))),
            "http://h:1/v1/catalog/services?index=7&wait=1m0s"
        );
    }
}
