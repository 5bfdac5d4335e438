//! Calls of a replica: what has changed, and requests of others that are passed on. Not in Consul.
#![allow(clippy::missing_errors_doc)] // said in the parent

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{HOST, HeaderMap},
};

use super::{Call, Client, Wait, reply::failed};
use crate::Error;

/// What has changed since a replica asked last, as the registry tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangesSince {
    /// This.
    Told(Bytes),
    /// It no longer knows; the replica is to fetch everything.
    Missed(Bytes),
}

/// The answer to a request that was passed on.
#[derive(Debug)]
pub struct Passed {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    response: Response,
}

impl Passed {
    /// The next piece of the body; `None` at the end, or where it was cut.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.response.chunk().await.ok().flatten()
    }
}

impl Client {
    /// `GET /v1/internal/flotilla/changes`: what came after `wait.index` of that life of the registry.
    pub async fn changes(&self, life: &str, wait: Wait) -> Result<ChangesSince, Error> {
        let path = ["internal", "flotilla", "changes"];
        let call = Call::get(&path).with("life", life).waiting(Some(wait));
        let reply = self.send(&call).await?;
        match reply.status {
            StatusCode::GONE => Ok(ChangesSince::Missed(reply.body)),
            status if status.is_success() => Ok(ChangesSince::Told(reply.body)),
            _ => Err(reply.refusal(&call)),
        }
    }

    /// Sends a request that somebody else made: its path and query as they are, its token and no other. The answer's head
    /// must come within `after`.
    ///
    /// A path that cannot be sent just as it is (with `/../` in it) is [`Error::Address`].
    pub async fn pass(
        &self,
        method: Method,
        (path, query): (&str, Option<&str>),
        headers: HeaderMap,
        body: Bytes,
        after: Duration,
    ) -> Result<Passed, Error> {
        let (_, server) = self.server();
        let mut url = server.base.clone();
        let whole = format!("{}{path}", server.base.path().trim_end_matches('/'));
        url.set_path(&whole);
        url.set_query(query);
        if url.path() != whole {
            return Err(Error::Address { address: whole, why: "such a path is not passed on".into() });
        }
        let call = Call { method, ..Call::get(&[]) };
        let mut request = server.http.get().request(call.method.clone(), url).headers(headers).body(body);
        if let Some(host) = &server.host {
            request = request.header(HOST, host);
        }
        if let Some((user, password)) = &self.inner.basic_auth {
            request = request.basic_auth(user, Some(password));
        }
        let timed_out =
            |_| Error::Timeout { call: format!("{} {path}", call.method), address: server.address.clone(), after };
        let sent = tokio::time::timeout(after, request.send()).await.map_err(timed_out)?;
        let response = sent.map_err(|source| failed(source, &call, server, after))?;
        Ok(Passed { status: response.status(), headers: response.headers().clone(), response })
    }
}
