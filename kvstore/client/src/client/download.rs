//! Answers that are too long to be kept, or that have no end.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::timeout;

use super::{
    Call, Client,
    reply::{MAX_ANSWER_BYTES, Reply, failed, header_index, read_body},
};
use crate::Error;

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Download {
    /// `X-Consul-Index`; 0 where the endpoint has none.
    pub index: u64,
    response: Response,
    call: String,
    address: String,
    /// The longest time for a piece; none where silence is no fault.
    patience: Option<Duration>,
}

impl Download {
    /// A header of the answer, if it has it as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Transport`] if the connection broke, [`Error::Timeout`] if nothing came in time.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.response.chunk();
        let piece = match self.patience {
            None => piece.await,
            Some(after) => timeout(after, piece).await.map_err(|_| Error::Timeout {
                call: self.call.clone(),
                address: self.address.clone(),
                after,
            })?,
        };
        piece.map_err(|source| Error::Transport {
            call: self.call.clone(),
            address: self.address.clone(),
            source: source.without_url(),
        })
    }
}

impl Client {
    /// Sends `call`; the head must come in time, and each piece too if `patient` is not said.
    pub(super) async fn download(&self, call: Call<'_>, patient: bool) -> Result<Download, Error> {
        let (_, server) = self.server();
        let (after, address) = (self.inner.timeout, server.address.clone());
        let sent = timeout(after, self.request(server, &call).send()).await;
        let response = sent
            .map_err(|_| Error::Timeout { call: call.name(), address: address.clone(), after })?
            .map_err(|source| failed(source, &call, server, after))?;
        let (status, index) = (response.status(), header_index(&response));
        if status.is_success() {
            let patience = (!patient).then_some(after);
            return Ok(Download { index, response, call: call.name(), address, patience });
        }
        let body = timeout(after, read_body(response)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        debug_assert!(body.len() <= MAX_ANSWER_BYTES);
        Err(Reply { status, index, reason: None, body, address }.refusal(&call))
    }
}
