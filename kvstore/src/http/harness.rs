//! Requests without a socket, for tests and for `kvstore/fuzz`: every endpoint over a registry in memory.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Request, Uri};
use kvstore_core::{Command, Index, State, decide, row::Row};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{App, Guard, TABLES, answer, caller::Caller};
use crate::{
    config::{self, Layer},
    engine::Memory,
    logging::Logs,
    own_node,
    reload::Reload,
    server,
    store::{Store, Writer},
};

/// An app that is asked, and what it stands on.
#[derive(Debug)]
pub struct Harness {
    app: Arc<App>,
    writer: Option<Writer>,
    runtime: Runtime,
    /// What [`Harness::restored`] goes back to.
    initial: State,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, if it is no stream.
    pub body: Bytes,
}

impl Reply {
    /// What is wrong with it as the answer to `uri`, whatever was sent: a 500 that is ours.
    pub fn fault(&self, uri: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        match self.status {
            0..500 | 501 => None,
            // What the next request interrupted makes room a moment later.
            503 if uri.contains("/v1/snapshot") => None,
            // The health of an instance as a status.
            503 if uri.contains("/agent/health/") => None,
            500 if CONSULS.iter().any(|known| text.starts_with(known)) => None,
            status => Some(format!("{status} {text}")),
        }
    }
}

/// Method and path of every endpoint but those that end the agent. What follows a path goes after its last `/`.
pub fn endpoints() -> Vec<(&'static str, &'static str)> {
    let all = TABLES.iter().copied().flatten().map(|route| (route.method.as_str(), route.path));
    all.filter(|(_, path)| *path != "/v1/agent/leave").collect()
}

impl Harness {
    /// A registry with a host of each kind, an instance, checks and keys. Its clock jumps: who waits waits no time.
    ///
    /// # Panics
    /// If the machine has no threads left, or its environment configures the agent wrongly.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime can be made");
        let initial = initial();
        let (store, writer) = Store::start(Box::new(Memory::new(Index(1000)))).expect("memory has room");
        let layer = Layer {
            dev: Some(true),
            node_name: Some("n".into()),
            node_id: Some("11111111-1111-4111-8111-111111111111".into()),
            advertise: Some([127, 0, 0, 1].into()),
            script_checks: Some(true),
            snapshot_bytes: Some(1 << 20),
            ..Layer::default()
        };
        let config = config::load(&[], layer).expect("a configuration without a fault");
        let logs = Logs::default();
        let reload = Reload::new(config.clone(), None, store.clone(), logs.clone());
        let about = server::about(&config, own_node::key(&config), reload.guard());
        let app =
            runtime.block_on(async { App::new(store, Arc::default(), about, CancellationToken::new(), logs, reload) });
        let harness = Self { app: Arc::new(app), writer: Some(writer), runtime, initial };
        harness.restored();
        harness
    }

    /// Sends a request; `None` if its parts make no request, which then no client could send.
    pub fn ask(&self, method: &str, uri: &str, body: impl Into<Bytes>) -> Option<Reply> {
        let uri: Uri = uri.parse().ok()?;
        let request = Request::builder().method(method).uri(uri).body(Either::Right(Full::new(body.into()))).ok()?;
        let response = self.runtime.block_on(answer(&self.app, request, None));
        let status = response.status().as_u16();
        Some(Reply { status, body: response.body().whole().cloned().unwrap_or_default() })
    }

    /// Sends what `kvstore/fuzz` has: `METHOD PATH?QUERY`, a line end, and the body.
    ///
    /// # Panics
    /// If it is answered by a 500 of ours, or leaves something that cannot be stored and read again.
    pub fn endure(&self, data: &[u8]) {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let Ok(head) = std::str::from_utf8(&data[..end]) else { return };
        let Some((method, uri)) = head.split_once(' ').filter(|(_, uri)| !uri.contains("/agent/leave")) else { return };
        let before = self.state().index();
        let Some(reply) = self.ask(method, uri, data.get(end + 1..).unwrap_or_default().to_vec()) else { return };
        if let Some(fault) = reply.fault(uri) {
            panic!("{fault}");
        }
        if self.state().index() != before {
            for row in self.state().rows() {
                let (key, value) = (row.value.key().encode(), row.value.encode(row.created, row.modified));
                let again = Row::decode(&key, &value).unwrap_or_else(|error| panic!("{key} is lost: {error}"));
                assert_eq!(again, row, "{key} comes back as another");
            }
            self.restored();
        }
    }

    /// The headers of the answer to a request that has this one.
    #[cfg(test)]
    pub(super) fn headers(&self, method: &str, uri: &str, header: &'static str) -> hyper::HeaderMap {
        let request = Request::builder().method(method).uri(uri).header(header, "x");
        let request = request.body(Either::Right(Full::default())).expect("a plain request");
        self.runtime.block_on(answer(&self.app, request, None)).headers().clone()
    }

    /// Lets `guard` count from now on.
    pub fn guarded(&self, guard: Guard) {
        self.app.about.guard.change(guard);
    }

    /// The registry's state.
    pub fn state(&self) -> Arc<State> {
        self.app.registry.whole()
    }

    /// Lets it hold these rows, stored as `(key, value)`, and no others.
    ///
    /// # Panics
    /// If they are none.
    pub fn holding<'a>(&self, rows: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let rows = rows.into_iter().map(|(key, value)| Row::decode(key, value.as_bytes()).expect("a row"));
        let command = Command::Restore { rows: rows.collect(), index: self.initial.index() };
        let written = self.runtime.block_on(self.app.submit(&Caller::default(), command));
        written.expect("what was a state can be one again");
    }

    /// Takes back all that was changed.
    ///
    /// # Panics
    /// If that is refused.
    pub fn restored(&self) {
        let command = Command::Restore { rows: self.initial.rows().collect(), index: self.initial.index() };
        let written = self.runtime.block_on(self.app.submit(&Caller::default(), command));
        written.expect("what was a state can be one again");
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
        if let Some(writer) = self.writer.take() {
            writer.stop();
        }
    }
}

/// How the texts begin that Consul has for mistakes of clients that are a 500 there, and so here; clients match on some.
const CONSULS: &[&str] = &[
    "Bad evaluation: ",
    "Bad limit: ",
    "Bad node ID: ",
    "Cannot modify non-existent prepared query",
    "Cannot provide tag filter without service filter",
    "CheckID ",
    "Connect must be enabled in order to use this endpoint",
    "Error parsing 'connect' value",
    "Failed to create boolean expression evaluator: ",
    "Failed to join ",
    "ID must be empty when creating a new prepared query",
    "Invalid ",
    "Missing Query ID",
    "Must ",
    "Network segments are not supported",
    "No path to datacenter",
    "Node ",
    "Node name ",
    "ServiceID ",
    "Session TTL ",
    "Session id ",
    "Unknown ",
    "agent: No node found with name ",
    "apply failed: ",
    "failed checking integrity of snapshot: ",
    "failed to ",
    "incompatible coordinate",
    "invalid ",
    "invalid coordinate",
    "line ",
    "prepared query lookup failed: ",
    "prepared query templates can only be resolved up by name, not by ID",
    "raft apply failed: ",
    "strconv.ParseUint: parsing ",
    "the check id ",
    "the node name ",
    "the service id ",
    "the service name ",
    "the state in this snapshot ",
    "there are ",
    "this agent has no configuration to read again",
    "user event exceeds ",
];

/// Rows as they are stored, one of each table and more.
pub const ROWS: &[(&str, &str)] = &[
    (
        "n/n",
        r#"{"created":1,"modified":1,"name":"n","id":"11111111-1111-4111-8111-111111111111","address":"127.0.0.1"}"#,
    ),
    (
        "n/n/i/web-1",
        r#"{"created":1,"modified":1,"node":"n","id":"web-1","service":"web","tags":["v2"],"port":80,"owner":"agent",
            "meta":{"version":"2"}}"#,
    ),
    (
        "n/n/c/t",
        r#"{"created":1,"modified":1,"node":"n","id":"t","status":"passing","service":"web-1","owner":"agent",
            "kind":"ttl","probe":{"kind":{"ttl":{"ttl":600000}}}}"#,
    ),
    ("n/n/c/serfHealth", r#"{"created":1,"modified":1,"node":"n","id":"serfHealth","status":"passing"}"#),
    ("n/ext", r#"{"created":1,"modified":1,"name":"Ext","address":"10.0.0.9","meta":{"rack":"r1"}}"#),
    ("n/ext/i/db", r#"{"created":1,"modified":1,"node":"ext","id":"db","service":"db","port":5432}"#),
    ("n/ext/c/c", r#"{"created":1,"modified":1,"node":"ext","id":"c","status":"critical","service":"db"}"#),
    ("k/a", r#"{"created":1,"modified":1,"key":"a","value":"1"}"#),
    ("k/a/b", r#"{"created":1,"modified":1,"key":"a/b","value":{"base64":"/wA="},"flags":7}"#),
    (
        "s/11111111-1111-4111-8111-000000000001",
        r#"{"created":1,"modified":1,"id":"11111111-1111-4111-8111-000000000001","name":"s","node":"n"}"#,
    ),
    (
        "k/lock",
        r#"{"created":1,"modified":1,"key":"lock","value":"","lock_index":1,
            "session":"11111111-1111-4111-8111-000000000001"}"#,
    ),
    (
        "q/00000001-0000-4000-8000-00000000000a",
        r#"{"created":1,"modified":1,"id":"00000001-0000-4000-8000-00000000000a","name":"geo-",
            "template":{"kind":"name_prefix_match","regexp":"^geo-(.*?)-?([^-]*)$","remove_empty_tags":true},
            "service":{"service":"${match(1)}","tags":["${match(2)}","!old"],"near":"_agent"}}"#,
    ),
];

fn initial() -> State {
    let row = |(key, value): &(&str, &str)| Row::decode(key, value.as_bytes()).expect("the rows above are rows");
    let mut state = State::load(Index(1), ROWS.iter().map(row));
    // As the writer would have made it.
    let command = Command::Restore { rows: state.rows().collect(), index: Index(1) };
    let changes = decide(&state, &command).expect("a restore is never refused").changes;
    state.apply(changes.index_after(state.index()), &changes);
    state
}
