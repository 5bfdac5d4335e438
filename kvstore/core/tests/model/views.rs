//! What authorities see, kept up to date now and then, against what is taken out of the model by hand.

use kvstore_core::{
    Index, State, Touched, WatchKey,
    acl::{Authority, DefaultPolicy, Rules, View},
    names::{InstanceId, NodeKey, SessionId},
};

use crate::{
    naive::Naive,
    readings::{self, Reading},
    rows, told,
};

/// Who sees a part of the state.
pub(crate) struct Watcher {
    view: View,
    sees: Sees,
    authority: Authority,
    /// What was seen last, and when.
    seen: Vec<Reading>,
    at: Index,
    touched: Touched,
}

/// What an authority's rules say, by name, folded where case does not count.
struct Sees {
    key: fn(&str) -> bool,
    service: fn(&str) -> bool,
    node: fn(&str) -> bool,
    session: fn(&str) -> bool,
    query: fn(&str) -> bool,
}

pub(crate) fn watchers() -> Vec<Watcher> {
    let nothing = Sees { key: |_| false, service: |_| false, node: |_| false, session: |_| false, query: |_| false };
    let all = || Sees { key: |_| true, service: |_| true, node: |_| true, session: |_| true, query: |_| true };
    let one_service = Sees {
        key: |key| key.starts_with("a/") && key != "a/b",
        service: |service| service == "web",
        node: |_| true,
        session: |node| node.starts_with("n/"),
        query: |query| query == "q",
    };
    let one_host = Sees {
        key: |key| !key.starts_with("callers/n"),
        service: |_| true,
        node: |node| node == "n1",
        session: |_| false,
        query: |query| query.starts_with("qu"),
    };
    let most = Sees {
        key: |key| key != "a",
        service: |service| service != "db/1",
        node: |node| node != "n",
        session: |node| node != "n1",
        query: |query| !query.is_empty(),
    };
    let rules = |text| Rules::parse(text).unwrap();
    let of = |text, default| Authority::of([&rules(text)], default);
    [
        (nothing, of("acl = \"write\"", DefaultPolicy::Deny)),
        (
            one_service,
            of(
                r#"key_prefix "a/" { policy = "list" } key "a/b" { policy = "deny" } service "WEB" { policy = "read" }
                node_prefix "" { policy = "write" } session_prefix "N/" { policy = "read" } query "q" { policy = "write" }"#,
                DefaultPolicy::Deny,
            ),
        ),
        (
            one_host,
            of(
                r#"key_prefix "" { policy = "read" } key_prefix "callers/n" { policy = "deny" } node "n1" { policy = "read" }
                service_prefix "" { policy = "read" } query_prefix "qu" { policy = "read" }"#,
                DefaultPolicy::Deny,
            ),
        ),
        (
            most,
            of(
                r#"key "a" { policy = "deny" } service "db/1" { policy = "deny" } node "n" { policy = "deny" }
                session "n1" { policy = "deny" } query "" { policy = "deny" }"#,
                DefaultPolicy::Allow,
            ),
        ),
        (all(), of(r#"key_prefix "" { policy = "read" } service "web" { policy = "read" }"#, DefaultPolicy::Allow)),
        (all(), Authority::reader()),
    ]
    .map(|(sees, authority)| {
        let view = View::new(authority.clone());
        Watcher { view, sees, authority, seen: vec![], at: Index(0), touched: Touched::default() }
    })
    .into()
}

impl Sees {
    /// The model without what is not seen.
    fn part_of(&self, whole: &Naive) -> Naive {
        let mut part = whole.clone();
        let service = |node: &NodeKey, id: &InstanceId| {
            let instance = whole.instances.get(&(node.clone(), id.clone()));
            (self.node)(node.as_str()) && instance.is_some_and(|row| (self.service)(row.service_key().as_str()))
        };
        let session = |id: &str| {
            let session = SessionId::new(id).ok().and_then(|id| whole.sessions.get(&id));
            session.is_some_and(|session| (self.session)(session.node.as_str()))
        };
        part.kv.retain(|key, _| (self.key)(key));
        part.nodes.retain(|node, _| (self.node)(node.as_str()));
        part.instances.retain(|(node, id), _| service(node, id));
        part.checks.retain(|(node, _), check| match &check.service {
            Some(id) => service(node, id),
            None => (self.node)(node.as_str()),
        });
        part.sessions.retain(|_, row| (self.session)(row.node.as_str()));
        part.queries.retain(|_, query| {
            if query.name.is_empty() && !query.is_template() {
                session(&query.session)
            } else {
                (self.query)(&query.name.to_lowercase())
            }
        });
        part.tokens.clear();
        part.policies.clear();
        part.bootstrap.clear();
        part
    }
}

impl Watcher {
    /// Remembers what a change touched since it looked last.
    pub(crate) fn told(&mut self, touched: &Touched) {
        self.touched.extend(touched.iter().cloned());
    }

    /// Brings the view to `whole`, and compares it.
    pub(crate) fn look(&mut self, whole: &State, naive: &Naive, watched: &[WatchKey]) {
        let (seen, part) = (self.view.at(whole), self.sees.part_of(naive));
        assert_eq!(seen.index(), whole.index());
        assert_eq!(rows(&seen), part.rows(), "{:?}", self.authority);
        let anew = View::new(self.authority.clone()).at(whole);
        let first = self.seen.is_empty();
        let mut readings = vec![];
        for (place, key) in watched.iter().enumerate() {
            let reading = readings::of_state(&seen, key);
            assert_eq!(reading, readings::of_naive(&part, key), "{key:?} {:?}", self.authority);
            assert_eq!(reading, readings::of_state(&anew, key), "{key:?} {:?}", self.authority);
            assert_eq!(seen.index_of(key), whole.index_of(key), "{key:?} {:?}", self.authority);
            if !first && reading != self.seen[place] {
                assert!(told(key, &self.touched), "{key:?} changed and was not touched: {:?}", self.authority);
                assert!(seen.index_of(key) > self.at, "{key:?} changed below its index: {:?}", self.authority);
            }
            readings.push(reading);
        }
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            let nodes: Vec<_> = naive.nodes.keys().cloned().collect();
            assert_eq!(readings::holders_in_state(&seen, address), readings::holders_in_naive(&part, address));
            let versions = readings::versions_in_naive(&part, address, &nodes);
            assert_eq!(readings::versions_in_state(&seen, address, &nodes), versions, "{address} {:?}", self.authority);
        }
        assert_eq!(readings::held_in_state(&seen), readings::held_in_naive(&part), "{:?}", self.authority);
        assert_eq!(readings::resolved_in_state(&seen), readings::resolved_in_naive(&part), "{:?}", self.authority);
        (self.seen, self.at, self.touched) = (readings, whole.index(), Touched::default());
    }
}
