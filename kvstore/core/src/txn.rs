//! Transactions: steps that are made all or none, each seeing what those before it did.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Index,
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    row::{Check, Instance, KvEntry, Node, Stamped},
};

/// What is done to a key, or asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvVerb {
    /// Writes it.
    Set,
    /// Writes it if its modify index is this; 0: if it is absent.
    Cas(u64),
    /// Writes it and takes its lock.
    Lock {
        /// For whom.
        session: SessionId,
        /// As in [`crate::Command::KvLock`].
        delayed: bool,
    },
    /// Writes it and gives its lock back.
    Unlock(SessionId),
    /// Reads it; it must be there.
    Get,
    /// Reads it.
    GetOrEmpty,
    /// It must be there with this modify index.
    CheckIndex(u64),
    /// It must be there, with its lock held by this session; empty: by nobody.
    CheckSession(String),
    /// It must be absent.
    CheckNotExists,
    /// Deletes it.
    Delete,
    /// Deletes it if its modify index is this, or if it is absent.
    DeleteCas(u64),
}

/// What is done to a row of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerb {
    /// Reads it; it must be there.
    Get,
    /// Writes it.
    Set,
    /// Writes it if its modify index is this; 0: if it is absent.
    Cas(u64),
    /// Deletes it.
    Delete,
    /// Deletes it if its modify index is this.
    DeleteCas(u64),
}

impl RowVerb {
    fn reads(self) -> bool {
        self == Self::Get
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnStep {
    /// Of one key.
    Kv {
        /// What is done.
        verb: KvVerb,
        /// Which.
        key: Key,
        /// Its new content, where it is written.
        value: Bytes,
        /// Its new flags, where it is written.
        flags: u64,
    },
    /// Reads every key that begins with this.
    KvGetTree(String),
    /// Deletes every key that begins with this.
    KvDeleteTree(String),
    /// Of a host. To be read or deleted, its name or its id suffices.
    Node {
        /// What is done.
        verb: RowVerb,
        /// Its name; none: the host with this id.
        name: Option<NodeKey>,
        /// Its content, where it is written.
        node: Box<Node>,
    },
    /// Of an instance.
    Instance {
        /// What is done.
        verb: RowVerb,
        /// Its host.
        node: NodeKey,
        /// Its id.
        id: InstanceId,
        /// Its content, where it is written.
        instance: Option<Box<Instance>>,
    },
    /// Of a check.
    Check {
        /// What is done.
        verb: RowVerb,
        /// Its host.
        node: NodeKey,
        /// Its id.
        id: CheckId,
        /// Its content, where it is written.
        check: Option<Box<Check>>,
    },
    /// Not possible, whatever the state is.
    Wrong {
        /// Why.
        what: String,
    },
}

impl TxnStep {
    /// Whether it changes nothing, whatever the state is.
    pub fn reads(&self) -> bool {
        match self {
            Self::Kv { verb, .. } => matches!(
                verb,
                KvVerb::Get
                    | KvVerb::GetOrEmpty
                    | KvVerb::CheckIndex(_)
                    | KvVerb::CheckSession(_)
                    | KvVerb::CheckNotExists
            ),
            Self::KvGetTree(_) | Self::Wrong { .. } => true,
            Self::KvDeleteTree(_) => false,
            Self::Node { verb, .. } | Self::Instance { verb, .. } | Self::Check { verb, .. } => verb.reads(),
        }
    }
}

/// What a step gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is its own documented type
pub enum TxnResult {
    Kv {
        entry: Arc<Stamped<KvEntry>>,
        /// Whether its value was asked for.
        with_value: bool,
    },
    /// A key that may be absent and is.
    NoSuchKey(Key),
    Node(Arc<Stamped<Node>>),
    Instance(Arc<Stamped<Instance>>),
    Check(Arc<Stamped<Check>>),
}

impl TxnResult {
    /// Has what was to be modified at `decided` show that it was modified at `committed`.
    pub fn move_index(&mut self, decided: Index, committed: Index) {
        fn moved<T: Clone>(row: &mut Arc<Stamped<T>>, decided: Index, committed: Index) {
            if row.modified == decided {
                let row = Arc::make_mut(row);
                row.modified = committed;
                if row.created == decided {
                    row.created = committed;
                }
            }
        }
        match self {
            Self::Kv { entry, .. } => moved(entry, decided, committed),
            Self::Node(row) => moved(row, decided, committed),
            Self::Instance(row) => moved(row, decided, committed),
            Self::Check(row) => moved(row, decided, committed),
            Self::NoSuchKey(_) => {}
        }
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnError {
    /// Its place, from 0.
    pub step: usize,
    /// In Consul's words.
    pub what: String,
}
