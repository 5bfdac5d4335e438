//! What a message of etcd's watch tells, as entries of the log: one commit for each revision that changed rows. Pure.

use std::collections::BTreeMap;

use etcd_client::{Event, EventType, KeyValue};
use kvstore_client::with_causes;
use kvstore_core::{
    Changes, Op, Put,
    row::{Row, RowKey, Stamped},
};

use super::{
    super::{Commit, Entry},
    incarnation::number,
    keys::{Keys, Place},
    lease::Lease,
    meta::Base,
};

/// What has come.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) entries: Vec<Entry>,
    /// Each row that changed, with its revision if it cannot be read.
    pub(super) unreadable: BTreeMap<String, Option<i64>>,
    /// Each row whose deadline began to be kept, or is kept no more.
    pub(super) alive: BTreeMap<String, Option<Lease>>,
    /// Hosts whose newest process is another, with its number.
    pub(super) agents: Vec<(String, u64)>,
    /// Everything up to it is told; 0: nothing is.
    pub(super) revision: i64,
}

/// The row `store` was put or taken away: what comes then is to be read anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoreChanged;

impl News {
    /// What lapses is `unseen` if that may be because nobody could renew it.
    pub(super) fn of(events: &[Event], keys: &Keys, base: Base, unseen: bool) -> Result<Self, StoreChanged> {
        let mut news = Self::default();
        for events in events.chunk_by(|one, next| revision_of(one) == revision_of(next)) {
            news.take(events, keys, base, unseen)?;
        }
        Ok(news)
    }

    /// Takes what one revision has changed.
    fn take(&mut self, events: &[Event], keys: &Keys, base: Base, unseen: bool) -> Result<(), StoreChanged> {
        let (mut deletes, mut puts, mut deadlines) = (Vec::new(), Vec::new(), Vec::new());
        let mut lapses_only = true;
        for (event, kv) in events.iter().filter_map(|event| Some((event, event.kv()?))) {
            self.revision = kv.mod_revision();
            let gone = event.event_type() == EventType::Delete;
            let place = keys.place(kv.key());
            lapses_only &= gone && matches!(place, Place::Alive(_));
            match place {
                Place::Store => return Err(StoreChanged),
                Place::Row(key) => match self.take_row(key, kv, gone, base) {
                    Some(Stamped { created, value, .. }) => {
                        puts.push(Op::Put(Put { row: value, created: Some(created) }));
                    }
                    None => deletes.extend(RowKey::decode(key).map(Op::Delete)),
                },
                Place::Alive(key) => {
                    self.alive.insert(key.to_owned(), (!gone).then(|| Lease::of(kv)));
                    let entry = |row| if gone { Entry::Lapsed { row, unseen } } else { Entry::Renewed(row) };
                    deadlines.extend(RowKey::decode(key).map(entry));
                }
                // What is taken away says nothing about who is newest.
                Place::Agent(host) if !gone => self.agents.push((host.to_owned(), number(kv))),
                Place::Agent(_) | Place::Other => {}
            }
        }
        // That a lease has ended is no change yet: what it brings about will be one.
        if !lapses_only {
            // What is on a host goes before the host, and comes after it.
            let ops = deletes.into_iter().rev().chain(puts).collect();
            let changes = Changes { ops, ..Changes::default() };
            self.entries.push(Entry::Commit(Commit { index: base.index(self.revision), changes }));
        }
        self.entries.extend(deadlines);
        Ok(())
    }

    fn take_row(&mut self, key: &str, kv: &KeyValue, gone: bool, base: Base) -> Option<Stamped<Row>> {
        let row = if gone { None } else { decoded(key, kv, base) };
        self.unreadable.insert(key.to_owned(), (!gone && row.is_none()).then_some(self.revision));
        row
    }
}

fn revision_of(event: &Event) -> Option<i64> {
    event.kv().map(KeyValue::mod_revision)
}

/// The row under `key`; none, and a line in the log, if it is none.
pub(super) fn decoded(key: &str, kv: &KeyValue, base: Base) -> Option<Stamped<Row>> {
    let row = Row::decode_unstamped(key, kv.value(), base.index(kv.mod_revision()));
    row.inspect_err(|error| tracing::error!(error = with_causes(error), "a row in etcd is no row and is left out")).ok()
}
