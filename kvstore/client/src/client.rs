//! A registry, over HTTP. Calls stand in a file an area: one method per endpoint, each with a deadline; every one fails in
//! the ways that [`Error`] lists.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{
    StatusCode,
    header::{HOST, HeaderValue},
};
use serde::de::DeserializeOwned;

mod acl;
mod agent;
mod call;
mod catalog;
mod config;
mod download;
mod health;
mod kv;
mod query;
mod registry;
mod replication;
mod reply;
mod select;
mod server;
mod session;
mod token;
mod txn;

pub use config::{ClientConfig, Consistency};
pub use download::Download;
pub use kv::KvPut;
pub use query::ExecuteQuery;
pub use replication::{ChangesSince, Passed};
pub use select::Select;
pub use server::TlsConfig;
pub use txn::{KvWrite, MAX_KEYS};

use crate::{Error, choose_crypto, fresh::Fresh, pem::FileError};
use call::Call;
use reply::{MAX_ANSWER_BYTES, Reply, failed, header_index, header_reason, read_body};
use server::Server;

/// What a read gave, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// `X-Consul-Index`: give it to the next blocking query of the same thing; 0 where the endpoint has none.
    pub index: u64,
    /// The answer.
    pub value: T,
}

/// A position to wait behind: ends when the thing read changes after `index`, or after `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// From the last [`Read`].
    pub index: u64,
    /// The longest time to wait.
    pub wait: Duration,
}

/// A registry, over HTTP. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Parameters of every call.
    always: Arc<[(&'static str, String)]>,
}

struct Inner {
    servers: Vec<Server>,
    /// The server that answered last.
    current: AtomicUsize,
    token: Fresh<Option<HeaderValue>, FileError>,
    timeout: Duration,
    basic_auth: Option<(String, String)>,
}

impl Client {
    /// A client for `config`; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`] for the first address that cannot be used, [`Error::File`], [`Error::Token`].
    pub fn new(config: &ClientConfig) -> Result<Self, Error> {
        choose_crypto();
        let servers = config.addresses.iter().map(|a| Server::new(a, config)).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(Error::Address { address: String::new(), why: "no address given".into() });
        }
        let current = AtomicUsize::new(0);
        let datacenter = config.datacenter.clone().map(|name| ("dc", name));
        let always = datacenter.into_iter().chain(config.consistency.parameter()).collect();
        let (token, basic_auth) = (token::source(config)?, config.basic_auth.clone());
        let inner = Inner { servers, current, token, timeout: config.timeout, basic_auth };
        Ok(Self { inner: Arc::new(inner), always })
    }

    /// The same registry, asked about another datacenter.
    pub fn in_datacenter(&self, name: &str) -> Self {
        let others = self.always.iter().filter(|(parameter, _)| *parameter != "dc").cloned();
        Self { inner: self.inner.clone(), always: others.chain([("dc", name.to_owned())]).collect() }
    }

    /// The same registry, which answers only what is known to be the newest.
    pub fn consistent(&self) -> Self {
        let others = self.always.iter().filter(|(parameter, _)| !["stale", "consistent"].contains(parameter)).cloned();
        Self { inner: self.inner.clone(), always: others.chain(Consistency::Consistent.parameter()).collect() }
    }

    /// The registry that answered last, or the first one: for messages.
    pub fn address(&self) -> &str {
        &self.server().1.address
    }

    fn server(&self) -> (usize, &Server) {
        let at = self.inner.current.load(Ordering::Relaxed);
        (at, &self.inner.servers[at])
    }

    /// Sends `call` to the current server; if it cannot be reached or cannot serve, the next call goes to the next one.
    async fn send(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let (at, server) = self.server();
        let sent = self.send_to(server, call).await;
        let away = match &sent {
            Ok(reply) => reply.status.is_server_error(),
            Err(error) => matches!(error, Error::Transport { .. } | Error::Tls { .. } | Error::Timeout { .. }),
        };
        if away && self.inner.servers.len() > 1 {
            let next = (at + 1) % self.inner.servers.len();
            // Another call may have moved on already; then its choice stands.
            let _ = self.inner.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        sent
    }

    async fn send_to(&self, server: &Server, call: &Call<'_>) -> Result<Reply, Error> {
        // The server adds up to a sixteenth to the wait, so that a pack of watchers spreads out.
        let after = self.inner.timeout + call.wait.map_or(Duration::ZERO, |w| w.wait + w.wait / 16);
        let failed = |source| failed(source, call, server, after);
        let response = self.request(server, call).timeout(after).send().await.map_err(failed)?;
        let (status, index, reason) = (response.status(), header_index(&response), header_reason(&response));
        let body = read_body(response).await.map_err(failed)?.ok_or_else(|| Error::Decode {
            call: call.name(),
            address: server.address.clone(),
            why: format!("it is over {MAX_ANSWER_BYTES} bytes"),
        })?;
        Ok(Reply { status, index, reason, body, address: server.address.clone() })
    }

    fn request(&self, server: &Server, call: &Call<'_>) -> reqwest::RequestBuilder {
        let inner = &*self.inner;
        let mut request = server.http.get().request(call.method.clone(), call.url(&server.base, &self.always));
        if let Some(host) = &server.host {
            request = request.header(HOST, host);
        }
        if let Some(token) = inner.token.get() {
            request = request.header("X-Consul-Token", token);
        }
        if let Some((user, password)) = &inner.basic_auth {
            request = request.basic_auth(user, Some(password));
        }
        match &call.body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
    }

    /// Sends and takes only a success, or a 404 where that is an answer.
    async fn call(&self, call: Call<'_>, not_found_is_answer: bool) -> Result<Reply, Error> {
        let reply = self.send(&call).await?;
        if reply.status.is_success() || not_found_is_answer && reply.status == StatusCode::NOT_FOUND {
            return Ok(reply);
        }
        Err(reply.refusal(&call))
    }

    async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Read<T>, Error> {
        let name = call.name();
        let reply = self.call(call, false).await?;
        Ok(Read { index: reply.index, value: reply.json(&name)? })
    }

    async fn write(&self, call: Call<'_>) -> Result<(), Error> {
        self.call(call, false).await.map(|_| ())
    }

    /// A read that answers 404 when there is nothing.
    async fn read_or_404<T: DeserializeOwned + Default>(&self, call: Call<'_>) -> Result<Read<T>, Error> {
        let name = call.name();
        let reply = self.call(call, true).await?;
        let value = if reply.status == StatusCode::NOT_FOUND { T::default() } else { reply.json(&name)? };
        Ok(Read { index: reply.index, value })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    #[test]
    fn a_client_asks_as_it_is_told_and_its_variants_otherwise() {
        let client = |consistency| Client::new(&ClientConfig { consistency, ..ClientConfig::default() }).unwrap();
        let asks =
            |client: &Client| Call::get(&["x"]).url(&Url::parse("http://h:1").unwrap(), &client.always).to_string();
        let stale = client(Consistency::Stale);
        assert_eq!(asks(&client(Consistency::Default)), "http://h:1/v1/x");
        assert_eq!(asks(&stale), "http://h:1/v1/x?stale");
        assert_eq!(asks(&stale.in_datacenter("a").in_datacenter("b")), "http://h:1/v1/x?stale&dc=b");
        assert_eq!(asks(&stale.in_datacenter("b").consistent()), "http://h:1/v1/x?dc=b&consistent");
        assert_eq!(asks(&stale.consistent().consistent()), "http://h:1/v1/x?consistent");
    }

    #[test]
    fn a_bad_address_is_named() {
        for bad in ["ftp://x", "http://", "https://", ""] {
            let config = ClientConfig { addresses: vec![bad.into()], ..ClientConfig::default() };
            assert!(matches!(Client::new(&config), Err(Error::Address { .. })), "{bad}");
        }
    }
}
