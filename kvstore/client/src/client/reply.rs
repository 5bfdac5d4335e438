//! What came back: an answer, or why there is none.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;

use super::{Call, server::Server};
use crate::{Error, tls};

/// An answer is never read beyond this: a registry of a million keys fits, a runaway peer does not.
pub(super) const MAX_ANSWER_BYTES: usize = 512 << 20;

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) index: u64,
    /// What the registry says beside a success: why nothing was done.
    pub(super) reason: Option<String>,
    pub(super) body: Bytes,
    pub(super) address: String,
}

impl Reply {
    pub(super) fn json<T: DeserializeOwned>(&self, call: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|e| Error::Decode {
            call: call.into(),
            address: self.address.clone(),
            why: e.to_string(),
        })
    }

    pub(super) fn refusal(self, call: &Call<'_>) -> Error {
        let text = String::from_utf8_lossy(&self.body);
        let message = text.trim().chars().take(500).collect();
        Error::Status { call: call.name(), address: self.address, status: self.status.as_u16(), message }
    }
}

/// What a call failed by that got no answer, or only a part of it, within `after`.
pub(super) fn failed(source: reqwest::Error, call: &Call<'_>, server: &Server, after: Duration) -> Error {
    let (call, address) = (call.name(), server.address.clone());
    if source.is_timeout() && !source.is_connect() {
        Error::Timeout { call, address, after }
    } else if let Some(why) = tls::explain(&source, server.identity.as_ref()) {
        Error::Tls { call, address, why }
    } else {
        Error::Transport { call, address, source: source.without_url() }
    }
}

pub(super) fn header_reason(response: &Response) -> Option<String> {
    response.headers().get("X-Consul-Reason").and_then(|v| v.to_str().ok()).map(ToOwned::to_owned)
}

pub(super) fn header_index(response: &Response) -> u64 {
    response.headers().get("X-Consul-Index").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The whole body; `None` if it is too long.
pub(super) async fn read_body(mut response: Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.into()))
}
