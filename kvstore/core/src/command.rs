//! Every change there is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Index, KvVerb, TxnStep,
    credentials::{Policy, Token},
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey, PolicyId, SessionId, TokenId},
    prepared_query::{PreparedQuery, QueryId},
    row::{Check, Instance, Node, Probe, Row, Session, Stamped},
};

/// What of a node [`Command::Deregister`] takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The host with all that is on it.
    Node,
    /// An instance and its checks.
    Instance(InstanceId),
    /// A check.
    Check(CheckId),
}

/// A change somebody wants. Names in it are valid; whether it fits the state is for [`crate::decide()`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes a key.
    KvPut {
        /// Which.
        key: Key,
        /// Its new content.
        value: Bytes,
        /// Its new flags.
        flags: u64,
        /// Only if its modify index is this; 0: only if it is absent.
        cas: Option<u64>,
        /// It goes when it is not put again for this long; zero: never.
        ttl: Duration,
    },
    /// Writes a key and takes its lock, or keeps it. Not matched if another session holds it or it is delayed.
    KvLock {
        /// Which.
        key: Key,
        /// Its new content.
        value: Bytes,
        /// Its new flags.
        flags: u64,
        /// For whom.
        session: SessionId,
        /// Whether the lock was torn from an ended session so lately that nobody may have it yet; said by the writer,
        /// who has a clock.
        delayed: bool,
    },
    /// Writes a key and gives its lock back. Not matched if the session does not hold it.
    KvUnlock {
        /// Which.
        key: Key,
        /// Its new content.
        value: Bytes,
        /// Its new flags.
        flags: u64,
        /// By whom.
        session: SessionId,
    },
    /// Deletes a key.
    KvDelete {
        /// Which.
        key: Key,
        /// Only if its modify index is this, or if it is absent.
        cas: Option<u64>,
    },
    /// Deletes every key that begins with a prefix.
    KvDeleteTree {
        /// Empty: all of them.
        prefix: String,
    },
    /// A key with a TTL was not put for too long.
    ExpireKey {
        /// Which.
        key: Key,
    },
    /// Makes all steps or none.
    Txn {
        /// In order; a later one sees what earlier ones did.
        steps: Vec<TxnStep>,
    },
    /// Begins a session.
    CreateSession {
        /// With an id of its own.
        session: Box<Session>,
    },
    /// Its client is still there.
    RenewSession {
        /// Which.
        session: SessionId,
    },
    /// Ends a session; it need not exist.
    DestroySession {
        /// Which.
        session: SessionId,
    },
    /// A session with a TTL was not renewed for too long.
    ExpireSession {
        /// Which.
        session: SessionId,
    },
    /// Keeps a new prepared query.
    CreateQuery {
        /// With an id of its own.
        query: Box<PreparedQuery>,
    },
    /// Puts another definition in the place of a prepared query's.
    UpdateQuery {
        /// With the id of the old one.
        query: Box<PreparedQuery>,
    },
    /// Takes a prepared query away: it must exist.
    DeleteQuery {
        /// Which.
        query: QueryId,
    },
    /// Puts what access control cannot be without, where it is not there: the policy that permits everything, and the
    /// anonymous token.
    PrepareAcl {
        /// Since 1970.
        now: Duration,
        /// A token that permits everything; of no effect if there is one with its secret. It is the first one if there is
        /// none yet.
        management: Option<Box<Token>>,
    },
    /// Makes the first token, which permits everything: once, or again if told the index of the last time.
    BootstrapAcl {
        /// With an accessor id and a secret of its own.
        token: Box<Token>,
        /// The index of the last time.
        reset: Option<Index>,
    },
    /// Makes a token.
    CreateToken {
        /// With an accessor id and a secret of its own.
        token: Box<Token>,
    },
    /// Changes what a token is for.
    UpdateToken {
        /// Which.
        token: TokenId,
        /// Its new description.
        description: String,
        /// Its new policies.
        policies: Vec<PolicyId>,
    },
    /// Takes a token away: it must exist.
    DeleteToken {
        /// Which.
        token: TokenId,
    },
    /// A token's time is over.
    ExpireToken {
        /// Which.
        token: TokenId,
    },
    /// Makes a policy.
    CreatePolicy {
        /// With an id of its own.
        policy: Box<Policy>,
    },
    /// Puts another policy in the place of one.
    UpdatePolicy {
        /// With the id of the old one.
        policy: Box<Policy>,
    },
    /// Takes a policy away, from the tokens that have it too: it must exist.
    DeletePolicy {
        /// Which.
        policy: PolicyId,
    },
    /// Puts a host, an instance on it and checks, all or none. What an agent has put stays that agent's: its checks go
    /// on being run, and report over what is put here.
    Register {
        /// The host. Not changed where `keep_node` is set and it exists.
        node: Node,
        /// Leave an existing host as it is.
        keep_node: bool,
        /// At most one instance; its `node` is the host's key.
        instance: Option<Box<Instance>>,
        /// Checks of the host or of its instances.
        checks: Vec<Check>,
    },
    /// Puts an instance of the agent's own node. Checks it had keep their status and output.
    RegisterInstance {
        /// The instance, on a node that exists.
        instance: Box<Instance>,
        /// Its checks.
        checks: Vec<Check>,
        /// Whether checks it had that are not in `checks` go.
        replace_checks: bool,
    },
    /// Puts a check of the agent's own node. A check of that id keeps its status and output.
    RegisterCheck {
        /// The check; its instance exists.
        check: Box<Check>,
    },
    /// Takes something away by the catalog's rules: it need not exist.
    Deregister {
        /// The host.
        node: NodeKey,
        /// What of it.
        target: Target,
    },
    /// Takes an instance or check of the agent's own node away: it must exist and be the agent's.
    DeregisterOwn {
        /// The agent's node.
        node: NodeKey,
        /// What of it; never the node.
        target: Target,
    },
    /// Takes away what a configuration file defined; of no effect if somebody else has put it since.
    Undefine {
        /// The agent's node.
        node: NodeKey,
        /// What of it; never the node.
        target: Target,
    },
    /// A client reports the state of a TTL check.
    ReportTtl {
        /// The agent's node.
        node: NodeKey,
        /// The check.
        check: CheckId,
        /// Its state.
        status: Status,
        /// What it says.
        output: String,
    },
    /// A TTL check was silent for too long.
    ExpireTtl {
        /// The agent's node.
        node: NodeKey,
        /// The check.
        check: CheckId,
    },
    /// A check was critical for as long as its probe allows: its instance goes. Of no effect if that holds no more.
    ReapCritical {
        /// The host.
        node: NodeKey,
        /// The check.
        check: CheckId,
        /// The probe that allowed it.
        probe: Arc<Probe>,
    },
    /// The rows of a snapshot take the place of all there is. Each is modified by this, at an index above all that the
    /// registry gave out that the snapshot is from.
    Restore {
        /// Every row.
        rows: Vec<Stamped<Row>>,
        /// The index of the snapshot.
        index: Index,
    },
    /// A probe has run. Of no effect if the check is gone or has another probe by now.
    ProbeResult {
        /// The agent's node.
        node: NodeKey,
        /// The check.
        check: CheckId,
        /// The probe that ran.
        probe: Arc<Probe>,
        /// What it found.
        status: Status,
        /// What it says.
        output: String,
    },
}

impl Command {
    /// Says of every lock in it whether it is delayed.
    pub fn delay_locks(&mut self, is_delayed: impl Fn(&Key) -> bool) {
        match self {
            Self::KvLock { key, delayed, .. } => *delayed = is_delayed(key),
            Self::Txn { steps } => {
                for step in steps {
                    if let TxnStep::Kv { verb: KvVerb::Lock { delayed, .. }, key, .. } = step {
                        *delayed = is_delayed(key);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether losing it in a crash is harmless, because it is found out again at once after the restart.
    pub fn is_lazy(&self) -> bool {
        matches!(self, Self::ProbeResult { .. })
    }
}
