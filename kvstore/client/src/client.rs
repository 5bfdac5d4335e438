//! One method per endpoint, each with a deadline; every one fails in the ways that [`Error`] lists.
#![allow(clippy::missing_errors_doc)] // said once, above

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HOST, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

mod acl;
mod agent;
mod download;
mod lists;
mod query;
mod replication;
mod server;
mod token;
mod txn;

pub use download::Download;
pub use lists::Select;
pub use query::ExecuteQuery;
pub use replication::{ChangesSince, Passed};
pub use server::TlsConfig;
pub use txn::{KvWrite, MAX_KEYS};

use crate::{
    Error, GoDuration, choose_crypto,
    fresh::Fresh,
    pem::FileError,
    tls,
    types::{
        AgentCheck, AgentService, CatalogDeregistration, CatalogNode, CatalogRegistration, CatalogService,
        CatalogServices, CheckRegistration, CheckUpdate, HealthCheck, KvEntry, Node, ServiceEntry, ServiceRegistration,
        Session, SessionRequest,
    },
};
use server::Server;

use std::collections::BTreeMap;

/// An answer is never read beyond this: a registry of a million keys fits, a runaway peer does not.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// How to reach the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`, tried in this order; a bare `HOST:PORT` means http.
    pub addresses: Vec<String>,
    /// How TLS is spoken at those that begin with `https://`.
    pub tls: TlsConfig,
    /// Sent as `X-Consul-Token`.
    pub token: Option<String>,
    /// A file that holds the token, where `token` does not say it; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// For one call, connecting included; a blocking query gets it on top of its wait.
    pub timeout: Duration,
    /// The datacenter asked for; the registry's own unless given.
    pub datacenter: Option<String>,
    /// How new answers must be.
    pub consistency: Consistency,
    /// Name and password for who stands before the registry.
    pub basic_auth: Option<(String, String)>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            addresses: vec!["http://127.0.0.1:8500".into()],
            tls: TlsConfig::default(),
            token: None,
            token_file: None,
            timeout: Duration::from_secs(10),
            datacenter: None,
            consistency: Consistency::default(),
            basic_auth: None,
        }
    }
}

/// How new an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// As new as the registry has it without asking around.
    #[default]
    Default,
    /// Any server may answer, even if what it knows is old.
    Stale,
    /// It is certain to be the newest.
    Consistent,
}

impl Consistency {
    fn parameter(self) -> Option<(&'static str, String)> {
        let name = match self {
            Self::Default => return None,
            Self::Stale => "stale",
            Self::Consistent => "consistent",
        };
        Some((name, String::new()))
    }
}

/// What a read gave, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// `X-Consul-Index`: give it to the next blocking query of the same thing; 0 where the endpoint has none.
    pub index: u64,
    /// The answer.
    pub value: T,
}

/// Which write `PUT /v1/kv/KEY` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvPut {
    /// Kept with the value, without meaning to the registry.
    pub flags: u64,
    /// Compare-and-set: only if the key's `ModifyIndex` is this; 0: only if the key is absent.
    pub cas: Option<u64>,
    /// The key goes when it is not put again in time. Not in Consul.
    pub ttl: Option<GoDuration>,
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

/// One call, before it is sent.
struct Call<'a> {
    method: Method,
    /// Decoded path segments after `/v1`.
    path: &'a [&'a str],
    query: Vec<(&'a str, String)>,
    body: Option<Bytes>,
    wait: Option<Wait>,
}

impl<'a> Call<'a> {
    fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None, wait: None }
    }

    fn put(path: &'a [&'a str]) -> Self {
        Self { method: Method::PUT, ..Self::get(path) }
    }

    fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    fn waiting(mut self, wait: Option<Wait>) -> Self {
        self.wait = wait;
        self
    }

    fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("API types have string keys only").into());
        self
    }

    fn name(&self) -> String {
        format!("{} /v1/{}", self.method, self.path.join("/"))
    }

    fn url(&self, base: &Url, always: &[(&str, String)]) -> Url {
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

    /// `GET /v1/status/leader`: `IP:PORT` of who orders the writes; empty if the registry has nobody.
    pub async fn leader(&self) -> Result<String, Error> {
        Ok(self.read(Call::get(&["status", "leader"])).await?.value)
    }

    /// `GET /v1/agent/self`: the agent's configuration and facts.
    pub async fn agent_self(&self) -> Result<serde_json::Value, Error> {
        Ok(self.read(Call::get(&["agent", "self"])).await?.value)
    }

    /// `GET /v1/agent/services`: the instances of the agent's own node, by id.
    pub async fn agent_services(&self) -> Result<BTreeMap<String, AgentService>, Error> {
        Ok(self.read(Call::get(&["agent", "services"])).await?.value)
    }

    /// `GET /v1/agent/checks`: the checks of the agent's own node, by id.
    pub async fn agent_checks(&self) -> Result<BTreeMap<String, AgentCheck>, Error> {
        Ok(self.read(Call::get(&["agent", "checks"])).await?.value)
    }

    /// `PUT /v1/agent/service/register`; checks of the same instance that the registration does not name are removed.
    pub async fn register_service(&self, service: &ServiceRegistration) -> Result<(), Error> {
        let path = ["agent", "service", "register"];
        self.write(Call::put(&path).with("replace-existing-checks", "true").json(service)).await
    }

    /// `PUT /v1/agent/service/deregister/ID`; an unknown id is status 404.
    pub async fn deregister_service(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["agent", "service", "deregister", id])).await
    }

    /// `PUT /v1/agent/check/register`.
    pub async fn register_check(&self, check: &CheckRegistration) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "register"]).json(check)).await
    }

    /// `PUT /v1/agent/check/deregister/ID`; an unknown id is status 404.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "deregister", id])).await
    }

    /// `PUT /v1/agent/check/update/ID`: sets the state of a TTL check and renews it.
    pub async fn update_check(&self, id: &str, update: &CheckUpdate) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "update", id]).json(update)).await
    }

    /// `PUT /v1/catalog/register`.
    pub async fn catalog_register(&self, registration: &CatalogRegistration) -> Result<(), Error> {
        self.write(Call::put(&["catalog", "register"]).json(registration)).await
    }

    /// `PUT /v1/catalog/deregister`; succeeds also for what is not there.
    pub async fn catalog_deregister(&self, deregistration: &CatalogDeregistration) -> Result<(), Error> {
        self.write(Call::put(&["catalog", "deregister"]).json(deregistration)).await
    }

    /// `GET /v1/catalog/nodes`.
    pub async fn catalog_nodes(&self, wait: Option<Wait>) -> Result<Read<Vec<Node>>, Error> {
        self.read(Call::get(&["catalog", "nodes"]).waiting(wait)).await
    }

    /// `GET /v1/catalog/services`.
    pub async fn catalog_services(&self, wait: Option<Wait>) -> Result<Read<CatalogServices>, Error> {
        self.read(Call::get(&["catalog", "services"]).waiting(wait)).await
    }

    /// `GET /v1/catalog/service/NAME`.
    pub async fn catalog_service(&self, name: &str, wait: Option<Wait>) -> Result<Read<Vec<CatalogService>>, Error> {
        self.read(Call::get(&["catalog", "service", name]).waiting(wait)).await
    }

    /// `GET /v1/catalog/node/NAME`; `None` if there is no such node.
    pub async fn catalog_node(&self, name: &str, wait: Option<Wait>) -> Result<Read<Option<CatalogNode>>, Error> {
        self.read(Call::get(&["catalog", "node", name]).waiting(wait)).await
    }

    /// `GET /v1/health/service/NAME`; only instances all of whose checks pass if `passing`.
    pub async fn health_service(
        &self,
        name: &str,
        passing: bool,
        wait: Option<Wait>,
    ) -> Result<Read<Vec<ServiceEntry>>, Error> {
        self.health_service_of(name, &Select { passing, ..Select::default() }, wait).await
    }

    /// `GET /v1/health/checks/NAME`.
    pub async fn health_checks(&self, name: &str, wait: Option<Wait>) -> Result<Read<Vec<HealthCheck>>, Error> {
        self.read(Call::get(&["health", "checks", name]).waiting(wait)).await
    }

    /// `GET /v1/health/node/NAME`.
    pub async fn health_node(&self, node: &str, wait: Option<Wait>) -> Result<Read<Vec<HealthCheck>>, Error> {
        self.read(Call::get(&["health", "node", node]).waiting(wait)).await
    }

    /// `GET /v1/kv/KEY`; `None` if the key is absent.
    pub async fn kv_get(&self, key: &str, wait: Option<Wait>) -> Result<Read<Option<KvEntry>>, Error> {
        let read: Read<Vec<KvEntry>> = self.read_or_404(Call::get(&["kv", key]).waiting(wait)).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().next() })
    }

    /// `GET /v1/kv/PREFIX?recurse`: every key that begins with `prefix`, sorted.
    pub async fn kv_list(&self, prefix: &str, wait: Option<Wait>) -> Result<Read<Vec<KvEntry>>, Error> {
        self.read_or_404(Call::get(&["kv", prefix]).with("recurse", "").waiting(wait)).await
    }

    /// `GET /v1/kv/PREFIX?keys`: the names only; folded at the first `separator` after the prefix, if one is given.
    pub async fn kv_keys(&self, prefix: &str, separator: Option<&str>) -> Result<Read<Vec<String>>, Error> {
        let path = ["kv", prefix];
        let call = Call::get(&path).with("keys", "");
        self.read_or_404(if let Some(s) = separator { call.with("separator", s) } else { call }).await
    }

    /// `PUT /v1/kv/KEY`; false if the compare-and-set did not match.
    pub async fn kv_put(&self, key: &str, value: impl Into<Bytes>, put: KvPut) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::put(&path);
        if put.flags != 0 {
            call = call.with("flags", put.flags.to_string());
        }
        if let Some(cas) = put.cas {
            call = call.with("cas", cas.to_string());
        }
        if let Some(ttl) = put.ttl {
            call = call.with("ttl", ttl.to_string());
        }
        call.body = Some(value.into());
        Ok(self.read(call).await?.value)
    }

    /// `PUT /v1/kv/KEY?acquire=SESSION`; false if another session holds the lock, or it was torn from one too lately.
    pub async fn kv_acquire(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        flags: u64,
        session: &str,
    ) -> Result<bool, Error> {
        self.kv_lock("acquire", key, value.into(), flags, session).await
    }

    /// `PUT /v1/kv/KEY?release=SESSION`; false if the session does not hold the lock.
    pub async fn kv_release(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        flags: u64,
        session: &str,
    ) -> Result<bool, Error> {
        self.kv_lock("release", key, value.into(), flags, session).await
    }

    async fn kv_lock(&self, what: &'static str, key: &str, value: Bytes, flags: u64, id: &str) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::put(&path).with(what, id).with("flags", flags.to_string());
        call.body = Some(value);
        Ok(self.read(call).await?.value)
    }

    /// `PUT /v1/session/create`: the id of the new session.
    pub async fn session_create(&self, session: &SessionRequest) -> Result<String, Error> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        let created: Read<Created> = self.read(Call::put(&["session", "create"]).json(session)).await?;
        Ok(created.value.id)
    }

    /// `PUT /v1/session/renew/ID`; `None` if there is no such session any more.
    pub async fn session_renew(&self, id: &str) -> Result<Option<Session>, Error> {
        let renewed: Read<Vec<Session>> = self.read_or_404(Call::put(&["session", "renew", id])).await?;
        Ok(renewed.value.into_iter().next())
    }

    /// `PUT /v1/session/destroy/ID`; succeeds also for one that is not there.
    pub async fn session_destroy(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["session", "destroy", id])).await
    }

    /// `GET /v1/session/info/ID`; `None` if there is no such session.
    pub async fn session_info(&self, id: &str, wait: Option<Wait>) -> Result<Read<Option<Session>>, Error> {
        let read: Read<Vec<Session>> = self.read(Call::get(&["session", "info", id]).waiting(wait)).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().next() })
    }

    /// `GET /v1/session/list`.
    pub async fn session_list(&self, wait: Option<Wait>) -> Result<Read<Vec<Session>>, Error> {
        self.read(Call::get(&["session", "list"]).waiting(wait)).await
    }

    /// `GET /v1/session/node/NAME`: the sessions of a host.
    pub async fn session_node(&self, node: &str, wait: Option<Wait>) -> Result<Read<Vec<Session>>, Error> {
        self.read(Call::get(&["session", "node", node]).waiting(wait)).await
    }

    /// `DELETE /v1/kv/KEY`; with `recurse` every key that begins with it. False if the compare-and-set did not match.
    pub async fn kv_delete(&self, key: &str, recurse: bool, cas: Option<u64>) -> Result<bool, Error> {
        let path = ["kv", key];
        let mut call = Call::delete(&path);
        if recurse {
            call = call.with("recurse", "");
        }
        if let Some(cas) = cas {
            call = call.with("cas", cas.to_string());
        }
        Ok(self.read(call).await?.value)
    }
}

/// What a call failed by that got no answer, or only a part of it, within `after`.
fn failed(source: reqwest::Error, call: &Call<'_>, server: &Server, after: Duration) -> Error {
    let (call, address) = (call.name(), server.address.clone());
    if source.is_timeout() && !source.is_connect() {
        Error::Timeout { call, address, after }
    } else if let Some(why) = tls::explain(&source, server.identity.as_ref()) {
        Error::Tls { call, address, why }
    } else {
        Error::Transport { call, address, source: source.without_url() }
    }
}

struct Reply {
    status: StatusCode,
    index: u64,
    /// What the registry says beside a success: why nothing was done.
    reason: Option<String>,
    body: Bytes,
    address: String,
}

impl Reply {
    fn json<T: DeserializeOwned>(&self, call: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|e| Error::Decode {
            call: call.into(),
            address: self.address.clone(),
            why: e.to_string(),
        })
    }

    fn refusal(self, call: &Call<'_>) -> Error {
        let text = String::from_utf8_lossy(&self.body);
        let message = text.trim().chars().take(500).collect();
        Error::Status { call: call.name(), address: self.address, status: self.status.as_u16(), message }
    }
}

fn header_reason(response: &Response) -> Option<String> {
    response.headers().get("X-Consul-Reason").and_then(|v| v.to_str().ok()).map(ToOwned::to_owned)
}

fn header_index(response: &Response) -> u64 {
    response.headers().get("X-Consul-Index").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The whole body; `None` if it is too long.
async fn read_body(mut response: Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.into()))
}

#[cfg(test)]
mod tests {
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
