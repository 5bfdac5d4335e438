//! What a command would change, or why not. Reads rows, changes nothing.

mod acl;
mod catalog;
mod draft;
mod kv;
mod query;
mod session;
mod txn;

use std::time::Duration;

pub use self::{acl::AclRefusal, query::QueryRefusal};

use self::draft::Draft;
use crate::{
    Command, Index, State, TxnError, TxnResult,
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    row::{Row, RowKey, RowRange, Stamped},
};

/// A row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The content.
    pub row: Row,
    /// When the row was created; `None`: by this change.
    pub created: Option<Index>,
}

/// Something a decision relied on. If it no longer holds when the decision is committed, the decision is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The row was last modified at this index.
    Row(RowKey, Index),
    /// There is no such row.
    Absent(RowKey),
    /// No row in the range was put after this index. One that is gone meanwhile is for each decision to expect by itself.
    Unchanged(RowRange, Index),
    /// Nothing that was put after this index joined the row; see [`Changes::joins`].
    Unjoined(RowKey, Index),
    /// The deadline of the row has passed, and nobody has had it begin anew; see [`Changes::renews`].
    Lapsed(RowKey),
}

/// A deadline that begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// What ends at it.
    pub row: RowKey,
    /// How far off it is from now.
    pub within: Duration,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // nearly every step is a put
pub enum Op {
    /// Writes a row.
    Put(Put),
    /// Takes a row away.
    Delete(RowKey),
    /// Takes every row of a range away.
    DeleteRange(RowRange),
}

/// What a command changes; empty if all is already as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was read to decide.
    pub expects: Vec<Expect>,
    /// The steps, in order, all or none; a later one may concern the row of an earlier one.
    pub ops: Vec<Op>,
    /// Rows whose end concerns what is put, though it does not stand below them: the session of a lock, the host of a
    /// session. Who ends such a row relies on knowing all that has joined it.
    pub joins: Vec<RowKey>,
    /// Deadlines that begin anew. They are no rows, so this alone is no change.
    pub renews: Vec<Renewal>,
    /// Their index is above this one too: it was given out in another life of the registry.
    pub above: Index,
}

impl Changes {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Their index, if `last` was that of the change before.
    #[must_use]
    pub fn index_after(&self, last: Index) -> Index {
        last.max(self.above).next()
    }
}

/// How a command ended, if it was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Done,
    /// Its compare-and-set did not match, or the lock is not to be had; nothing changed.
    NotMatched,
    /// A transaction's results, in the order of its steps. Rows that it changed show the index that they get if the
    /// change comes next.
    Txn(Vec<TxnResult>),
}

impl Outcome {
    /// Has rows that were to be changed at `decided` show that it was at `committed`.
    pub fn move_index(&mut self, decided: Index, committed: Index) {
        if let Self::Txn(results) = self {
            for result in results {
                result.move_index(decided, committed);
            }
        }
    }
}

/// A command's changes and how it ends once they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to commit.
    pub changes: Changes,
    /// What to answer.
    pub outcome: Outcome,
    /// Keys whose lock is torn from a session that ends, each with the time for which nobody may lock it.
    pub freed: Vec<(Key, Duration)>,
    /// Sessions that end in steps, and have not given all back once this is made: destroy them again, until this is empty.
    pub ending: Vec<SessionId>,
}

/// Why a command is refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent has no such instance.
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownInstance(InstanceId),
    /// The agent has no such check.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(CheckId),
    /// A check for an instance that the agent does not have.
    #[error("ServiceID {0:?} does not exist")]
    CheckOfUnknownInstance(InstanceId),
    /// A catalog check for an instance that its node does not have.
    #[error("Unknown service ID '{instance}' for check ID '{check}'")]
    CatalogCheckOfUnknownInstance {
        /// The instance it names.
        instance: InstanceId,
        /// The check.
        check: CheckId,
    },
    /// A report for a check that is probed, not reported.
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(CheckId),
    /// Nothing is known of the node.
    #[error("Unknown node {0:?}")]
    UnknownNode(NodeKey),
    /// The name belongs to another node, which is alive.
    #[error("Node name {name} is reserved by node {id} with name {name} ({address})")]
    NodeNameTaken {
        /// The name.
        name: String,
        /// The UUID of its owner.
        id: String,
        /// The address of its owner.
        address: String,
    },
    /// A lock for a session that is not there.
    #[error("raft apply failed: invalid session {0:?}")]
    InvalidSession(SessionId),
    /// Nothing is known of the session.
    #[error("Session id '{0}' not found")]
    UnknownSession(SessionId),
    /// A session on a host that is not there.
    #[error("apply failed: Missing node registration")]
    SessionOnUnknownNode(NodeKey),
    /// A session that depends on a check that its host does not have.
    #[error("apply failed: Missing check '{0}' registration")]
    SessionOfUnknownCheck(CheckId),
    /// A session that depends on a check that would end it at once.
    #[error("apply failed: Check '{0}' is in critical state")]
    SessionOfCriticalCheck(CheckId),
    /// A prepared query that is not kept.
    #[error(transparent)]
    Query(#[from] QueryRefusal),
    /// A token or policy that is not to be had.
    #[error(transparent)]
    Acl(#[from] AclRefusal),
    /// Steps of a transaction failed, so none was made.
    #[error("{} of the transaction's operations failed", .0.len())]
    Txn(Vec<TxnError>),
    /// Others changed what the command relied on, again and again.
    #[error("the rows changed while the command was decided; try again")]
    Conflict,
}

/// What `command` would do to `state`.
///
/// # Errors
/// The [`Refusal`], in which case the command changes nothing.
pub fn decide(state: &State, command: &Command) -> Result<Decision, Refusal> {
    decide_by(Draft::new(state), command)
}

/// The same in small changes, for an engine that does not take at once all that hangs on a session: one that ends is
/// marked as ending, and [`Decision::ending`] says that its locks are still to be given back. It is there until then, so
/// nobody ever sees a lock without its holder.
///
/// # Errors
/// As [`decide()`].
pub fn decide_in_steps(state: &State, command: &Command) -> Result<Decision, Refusal> {
    decide_by(Draft::in_steps(state), command)
}

fn decide_by(mut draft: Draft<'_>, command: &Command) -> Result<Decision, Refusal> {
    let outcome = draft.decide(command)?;
    Ok(draft.decision(outcome))
}

impl Draft<'_> {
    fn decide(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::KvPut { key, value, flags, cas, ttl } => return Ok(self.kv_put(key, value, *flags, *cas, *ttl)),
            Command::KvLock { key, value, flags, session, delayed } => {
                return self.kv_lock(key, value, *flags, session, *delayed);
            }
            Command::KvUnlock { key, value, flags, session } => {
                return Ok(self.kv_unlock(key, value, *flags, session));
            }
            Command::KvDelete { key, cas } => return Ok(self.kv_delete(key, *cas)),
            Command::KvDeleteTree { prefix } => self.delete_range(&RowRange::KvPrefix(prefix.clone())),
            Command::ExpireKey { key } => self.expire_key(key),
            Command::CreateSession { session } => self.create_session(session)?,
            Command::RenewSession { session } => self.renew_session(session)?,
            Command::DestroySession { session } => self.end_session(session),
            Command::ExpireSession { session } => self.expire_session(session),
            Command::CreateQuery { query } => self.create_query(query)?,
            Command::UpdateQuery { query } => self.update_query(query)?,
            Command::DeleteQuery { query } => self.delete_query(query)?,
            Command::PrepareAcl { now, management } => self.prepare_acl(*now, management.as_deref()),
            Command::BootstrapAcl { token, reset } => self.bootstrap_acl(token, *reset)?,
            Command::CreateToken { token } => self.create_token(token)?,
            Command::UpdateToken { token, description, policies } => self.update_token(token, description, policies)?,
            Command::DeleteToken { token } => self.delete_token(token)?,
            Command::ExpireToken { token } => self.expire_token(token),
            Command::CreatePolicy { policy } => self.create_policy(policy)?,
            Command::UpdatePolicy { policy } => self.update_policy(policy)?,
            Command::DeletePolicy { policy } => self.delete_policy(policy)?,
            Command::Txn { steps } => return self.txn(steps).map(Outcome::Txn),
            Command::Register { node, keep_node, instance, checks } => {
                self.register(node, *keep_node, instance.as_deref(), checks)?;
            }
            Command::RegisterInstance { instance, checks, replace_checks } => {
                self.register_instance(instance, checks, *replace_checks)?;
            }
            Command::RegisterCheck { check } => self.register_check(check)?,
            Command::Deregister { node, target } => self.deregister(node, target),
            Command::DeregisterOwn { node, target } => self.deregister_own(node, target)?,
            Command::Undefine { node, target } => self.undefine(node, target),
            Command::ReportTtl { node, check, status, output } => self.report_ttl(node, check, *status, output)?,
            Command::ExpireTtl { node, check } => self.expire_ttl(node, check),
            Command::ReapCritical { node, check, probe } => self.reap(node, check, probe),
            Command::Restore { rows, index } => self.restore(rows, *index),
            Command::ProbeResult { node, check, probe, status, output } => {
                self.probe_result(node, check, probe, *status, output);
            }
        }
        Ok(Outcome::Done)
    }

    /// Takes everything away and puts `rows`. What was there and comes again is modified too: who waits looks anew.
    fn restore(&mut self, rows: &[Stamped<Row>], index: Index) {
        self.delete_range(&RowRange::All);
        for row in rows {
            self.put_as_created(row);
        }
        self.raise_index_above(index);
    }
}

#[cfg(test)]
mod tests;
