//! The state as a command has changed it so far.

use std::{sync::Arc, time::Duration};

use super::{Changes, Decision, Expect, Op, Outcome, Put, Renewal};
use crate::{
    Index, State,
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    prepared_query::{PreparedQuery, QueryId},
    row::{Check, Instance, KvEntry, Node, Row, RowKey, RowRange, Session, Stamped},
};

/// Reads rows, noting each as relied on, and collects steps; a later read sees what earlier steps did.
pub(super) struct Draft<'a> {
    /// As it was before the command.
    base: &'a State,
    /// `base` with the first `made` steps; made when it is first asked for.
    working: Option<State>,
    made: usize,
    changes: Changes,
    freed: Vec<(Key, Duration)>,
    /// Whether sessions end in steps.
    pub(super) in_steps: bool,
    ending: Vec<SessionId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(base: &'a State) -> Self {
        Self {
            base,
            working: None,
            made: 0,
            changes: Changes::default(),
            freed: Vec::new(),
            in_steps: false,
            ending: Vec::new(),
        }
    }

    pub(super) fn in_steps(base: &'a State) -> Self {
        Self { in_steps: true, ..Self::new(base) }
    }

    pub(super) fn decision(self, outcome: Outcome) -> Decision {
        Decision { changes: self.changes, outcome, freed: self.freed, ending: self.ending }
    }

    /// The state with every step so far.
    pub(super) fn state(&mut self) -> &State {
        let ops = &self.changes.ops;
        if ops.is_empty() {
            return self.base;
        }
        let base = self.base;
        let working = self.working.get_or_insert_with(|| base.at(base.index().next()));
        working.make(&ops[self.made..]);
        self.made = ops.len();
        working
    }

    pub(super) fn kv(&mut self, key: &Key) -> Option<Arc<Stamped<KvEntry>>> {
        self.rely_on(RowKey::Kv(key.clone()));
        self.state().key(key).cloned()
    }

    pub(super) fn session(&mut self, id: &SessionId) -> Option<Arc<Stamped<Session>>> {
        self.rely_on(RowKey::Session(id.clone()));
        self.state().session(id).cloned()
    }

    pub(super) fn query(&mut self, id: &QueryId) -> Option<Arc<Stamped<PreparedQuery>>> {
        self.rely_on(RowKey::Query(id.clone()));
        self.state().query(id).cloned()
    }

    pub(super) fn node(&mut self, key: &NodeKey) -> Option<Arc<Stamped<Node>>> {
        self.rely_on(RowKey::Node(key.clone()));
        self.state().node(key).cloned()
    }

    pub(super) fn instance(&mut self, node: &NodeKey, id: &InstanceId) -> Option<Arc<Stamped<Instance>>> {
        self.rely_on(RowKey::Instance(node.clone(), id.clone()));
        self.state().instance(node, id).cloned()
    }

    pub(super) fn check(&mut self, node: &NodeKey, id: &CheckId) -> Option<Arc<Stamped<Check>>> {
        self.rely_on(RowKey::Check(node.clone(), id.clone()));
        self.state().check(node, id).cloned()
    }

    pub(super) fn rely_on_range(&mut self, range: RowRange) {
        self.changes.expects.push(Expect::Unchanged(range, self.base.index()));
    }

    /// Relies on knowing all that has joined the row.
    pub(super) fn rely_on_joined(&mut self, key: RowKey) {
        self.changes.expects.push(Expect::Unjoined(key, self.base.index()));
    }

    /// Relies on nobody having renewed the row.
    pub(super) fn rely_on_lapsed(&mut self, key: RowKey) {
        self.changes.expects.push(Expect::Lapsed(key));
    }

    /// Has the row's deadline begin anew.
    pub(super) fn renew(&mut self, row: RowKey, within: Duration) {
        self.changes.renews.push(Renewal { row, within });
    }

    /// What is put joins the row.
    pub(super) fn join(&mut self, key: RowKey) {
        self.changes.joins.push(key);
    }

    /// What is expected is expected of the state before the command.
    pub(super) fn rely_on(&mut self, key: RowKey) {
        if let Some(Expect::Row(last, _) | Expect::Absent(last)) = self.changes.expects.last()
            && *last == key
        {
            return;
        }
        self.changes.expects.push(match self.base.stamps(&key) {
            Some((_, modified)) => Expect::Row(key, modified),
            None => Expect::Absent(key),
        });
    }

    /// Puts a row unless it is there already, letter for letter.
    pub(super) fn put(&mut self, row: Row) {
        let (key, base) = (row.key(), self.base.index());
        let state = self.state();
        if !state.has(&row) {
            // A row that is as old as this change is created by it.
            let created = state.stamps(&key).map(|(created, _)| created).filter(|created| *created <= base);
            let critical = match &row {
                Row::Check(check) if check.status == Status::Critical => Some((check.node.clone(), check.id.clone())),
                _ => None,
            };
            self.rely_on(key);
            self.changes.ops.push(Op::Put(Put { row, created }));
            if let Some((node, check)) = critical {
                self.end_sessions_of_check(&node, &check);
            }
        }
    }

    /// Puts a row of a snapshot in an emptied state.
    pub(super) fn put_as_created(&mut self, row: &Stamped<Row>) {
        self.changes.ops.push(Op::Put(Put { row: row.value.clone(), created: Some(row.created) }));
    }

    pub(super) fn raise_index_above(&mut self, index: Index) {
        self.changes.above = index;
    }

    pub(super) fn delete(&mut self, key: &RowKey) {
        if self.state().stamps(key).is_some() {
            self.rely_on(key.clone());
            self.changes.ops.push(Op::Delete(key.clone()));
            if let RowKey::Check(node, check) = key {
                self.end_sessions_of_check(node, check);
            }
        }
    }

    pub(super) fn delete_range(&mut self, range: &RowRange) {
        let state = self.state();
        let occupied = match range {
            RowRange::All => state.rows().next().is_some(),
            RowRange::Node(node) => state.node(node).is_some(),
            RowRange::Queries => state.queries().next().is_some(),
            RowRange::Acl => state.credentials().rows().next().is_some(),
            RowRange::KvPrefix(prefix) => state.keys(prefix).next().is_some(),
        };
        self.rely_on_range(range.clone());
        if occupied {
            self.changes.ops.push(Op::DeleteRange(range.clone()));
            if let RowRange::Node(node) = range {
                self.end_sessions_on(node);
            }
        }
    }

    /// Notes that the session has not given all back yet.
    pub(super) fn ends_further(&mut self, id: &SessionId) {
        self.ending.push(id.clone());
    }

    /// Notes that nobody may lock the key for a while.
    pub(super) fn free(&mut self, key: &Key, delay: Duration) {
        if !delay.is_zero() {
            self.freed.push((key.clone(), delay));
        }
    }
}
