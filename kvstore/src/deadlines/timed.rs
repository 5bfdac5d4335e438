//! What has a deadline, and what is proposed once that has passed. Pure.

use kvstore_core::{
    Changes, Command, Op, Put, State,
    health::Status,
    names::{CheckId, Key, NodeKey, SessionId, TokenId},
    row::{Row, RowKey},
};

/// What has a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timed {
    /// The silence of a TTL check.
    Check(NodeKey, CheckId),
    /// A session without a renewal.
    Session(SessionId),
    /// A key that is not put again.
    Key(Key),
    /// A token that is not for ever.
    Token(TokenId),
    /// The delay of a key's lock.
    LockDelay(Key),
}

impl Timed {
    /// What is to be done when its time has come; nothing if it just ends.
    pub(super) fn end(&self) -> Option<Command> {
        Some(match self.clone() {
            Self::Check(node, check) => Command::ExpireTtl { node, check },
            Self::Session(session) => Command::ExpireSession { session },
            Self::Key(key) => Command::ExpireKey { key },
            Self::Token(token) => Command::ExpireToken { token },
            Self::LockDelay(_) => return None,
        })
    }

    /// What of a row has a deadline; nothing if its kind has none.
    pub(super) fn of_row(row: &RowKey) -> Option<Self> {
        Some(match row {
            RowKey::Check(node, id) => Self::Check(node.clone(), id.clone()),
            RowKey::Session(id) => Self::Session(id.clone()),
            RowKey::Kv(key) => Self::Key(key.clone()),
            RowKey::Token(id) => Self::Token(id.clone()),
            _ => return None,
        })
    }

    /// Whether there is anything that its end would change.
    pub(super) fn has_end(&self, state: &State) -> bool {
        match self {
            Self::Check(node, id) => {
                state.check(node, id).is_some_and(|check| check.ttl().is_some() && check.status != Status::Critical)
            }
            Self::Session(id) => {
                state.session(id).is_some_and(|session| session.ending || session.lifetime().is_some())
            }
            Self::Key(key) => state.key(key).is_some_and(|entry| entry.lifetime().is_some()),
            Self::Token(id) => state.credentials().token(id).is_some(),
            Self::LockDelay(_) => true,
        }
    }

    /// Whose end the command is.
    pub(super) fn of_end(command: &Command) -> Option<Self> {
        Some(match command {
            Command::ExpireTtl { node, check } => Self::Check(node.clone(), check.clone()),
            Command::ExpireSession { session } => Self::Session(session.clone()),
            Command::ExpireKey { key } => Self::Key(key.clone()),
            Command::ExpireToken { token } => Self::Token(token.clone()),
            _ => return None,
        })
    }
}

/// What of the rows that `changes` puts has a deadline.
pub(super) fn put_rows(changes: &Changes) -> impl Iterator<Item = Timed> {
    let rows = changes.ops.iter().filter_map(|op| match op {
        Op::Put(Put { row: row @ (Row::Check(_) | Row::Session(_) | Row::Kv(_) | Row::Token(_)), .. }) => {
            Some(row.key())
        }
        _ => None,
    });
    rows.filter_map(|key| Timed::of_row(&key))
}
