//! What an authority may see of a state: a state in which the rest does not exist.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use super::{Authority, Level::Read, permits::guard_of};
use crate::{
    State,
    credentials::Credentials,
    names::InstanceId,
    row::{Check, RowKey, Stamped},
};

/// What an authority sees, kept beside the state that it is a part of. Whoever reads it and nothing else, be it for an
/// answer, a filter, a DNS reply or a prepared query, cannot tell what it may not.
///
/// Keys need `key:read`, hosts `node:read`, instances and their checks `service:read` and `node:read`, sessions
/// `session:read` on their host, prepared queries `query:read`, or without a name `session:read` on the host of their
/// session. Tokens and policies are in no view. Secrets within rows are for those to hide who show them.
///
/// Indexes are those of the whole state, so that whoever waits misses nothing: they may rise without a change that is
/// seen.
#[derive(Clone, Debug)]
pub struct View {
    authority: Authority,
    /// What the view was brought to last.
    whole: Arc<State>,
    seen: State,
}

impl View {
    /// Of nothing yet.
    pub fn new(authority: Authority) -> Self {
        let nothing = State::empty(crate::Index::default());
        Self { authority, whole: Arc::new(nothing.clone()), seen: nothing }
    }

    /// What is seen of `whole`, which may be any state; the next of what it was last time, for best.
    ///
    /// Costs by the rows that differ between the two, each looked up in a few maps; all of them the first time and after
    /// a restore. The maps take memory of their own, the rows do not. Who sees every row is given `whole` itself.
    pub fn at(&mut self, whole: &State) -> State {
        if self.authority.reads_everything() {
            let mut seen = whole.clone();
            seen.credentials = Credentials::new(whole.credentials.changed);
            return seen;
        }
        let changed = changed(&self.whole, whole);
        // First, so that no two rows claim what only one can have.
        for key in &changed {
            self.seen.take_away(key);
        }
        for key in &changed {
            self.seen.show(key, whole, &self.authority);
        }
        self.whole = Arc::new(whole.clone());
        self.seen.index = whole.index;
        self.seen.whole = Some(self.whole.clone());
        self.seen.clone()
    }
}

impl State {
    fn take_away(&mut self, key: &RowKey) {
        match key {
            RowKey::Node(node) => drop(self.remove_node(node)),
            RowKey::Instance(node, id) => drop(self.remove_instance(node, id)),
            RowKey::Check(node, id) => drop(self.remove_check(node, id)),
            RowKey::Session(id) => drop(self.remove_session(id)),
            RowKey::Query(id) => drop(self.queries.remove(id, self.index)),
            RowKey::Kv(key) => drop(self.remove_key(key)),
            RowKey::Token(_) | RowKey::Policy(_) | RowKey::Bootstrap => {}
        }
    }

    /// Puts the row of `whole` if it is there and `authority` may read it.
    fn show(&mut self, key: &RowKey, whole: &Self, authority: &Authority) {
        match key {
            RowKey::Node(node) => {
                if let Some(row) = whole.node(node)
                    && authority.node(node.as_str()) >= Read
                {
                    self.insert_node(row.clone());
                }
            }
            RowKey::Instance(node, id) => {
                if let Some(row) = whole.instance(node, id)
                    && authority.service(&row.service).min(authority.node(node.as_str())) >= Read
                {
                    self.insert_instance(row.clone());
                }
            }
            RowKey::Check(node, id) => {
                if let Some(row) = whole.check(node, id)
                    && reads_check(authority, whole, row)
                {
                    self.insert_check(row.clone());
                }
            }
            RowKey::Session(id) => {
                if let Some(row) = whole.session(id)
                    && authority.session(row.node.as_str()) >= Read
                {
                    self.insert_session(row.clone());
                }
            }
            RowKey::Query(id) => {
                if let Some(row) = whole.query(id) {
                    let (resource, name) = guard_of(whole, row);
                    if authority.level(resource, name) >= Read {
                        self.queries.insert(row.clone());
                    }
                }
            }
            RowKey::Kv(key) => {
                if let Some(row) = whole.key(key)
                    && authority.key(key.as_str()) >= Read
                {
                    self.insert_key(row.clone());
                }
            }
            RowKey::Token(_) | RowKey::Policy(_) | RowKey::Bootstrap => {}
        }
    }
}

fn reads_check(authority: &Authority, state: &State, check: &Check) -> bool {
    let reads_service = |id: &InstanceId| {
        state.instance(&check.node, id).is_some_and(|instance| authority.service(&instance.service) >= Read)
    };
    authority.node(check.node.as_str()) >= Read && check.service.as_ref().is_none_or(reads_service)
}

/// The keys of the rows that differ, and of those that may be seen, or not any more, because another one differs.
fn changed(before: &State, now: &State) -> BTreeSet<RowKey> {
    let mut changed = BTreeSet::new();
    changed.extend(differ(&before.nodes, &now.nodes).map(RowKey::Node));
    for (node, id) in differ(&before.instances, &now.instances) {
        let checks = now.checks_of(&node, Some(&id)).map(|check| check.id.clone());
        changed.extend(checks.map(|check| RowKey::Check(node.clone(), check)));
        changed.insert(RowKey::Instance(node, id));
    }
    changed.extend(differ(&before.checks, &now.checks).map(|(node, id)| RowKey::Check(node, id)));
    changed.extend(differ(&before.sessions, &now.sessions).map(RowKey::Session));
    // Queries do not outlive their session: another one of its id has other queries.
    changed.extend(differ(before.queries.rows(), now.queries.rows()).map(RowKey::Query));
    changed.extend(differ(&before.kv, &now.kv).map(RowKey::Kv));
    changed
}

/// The keys of the rows that are not the same in both. What both have in common is not looked at.
fn differ<'a, K: Ord + Clone, T: Eq>(
    before: &'a OrdMap<K, Arc<Stamped<T>>>,
    now: &'a OrdMap<K, Arc<Stamped<T>>>,
) -> impl Iterator<Item = K> + use<'a, K, T> {
    before.diff(now).map(|difference| match difference {
        DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _) => key.clone(),
    })
}

#[cfg(test)]
mod tests;
