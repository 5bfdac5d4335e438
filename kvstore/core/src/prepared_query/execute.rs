//! Which instances a query finds, and in which order.

use std::net::IpAddr;

use super::definition::ServiceQuery;
use crate::{
    InstanceView, State,
    health::Status,
    names::{NodeKey, ServiceKey},
    near::{self, Distances},
    row::Meta,
    shuffle::Shuffle,
};

/// Who asks, and what of the answer is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The host whose neighbours come first, `_agent` or `_ip`, before what the query says; empty: as the query says.
    pub near: &'a str,
    /// `_agent`: the host whose registry is asked.
    pub agent: &'a NodeKey,
    /// `_ip`: who asks, if that is known.
    pub from: Option<IpAddr>,
    /// How far hosts are from each other.
    pub distances: &'a dyn Distances,
    /// So many instances at most; 0: all.
    pub limit: usize,
    /// Only instances that are in a mesh, whatever the query says.
    pub connect: bool,
    /// Shuffles what is not sorted.
    pub seed: u64,
}

/// The instances that `query` finds, in the order of the answer: by chance, or the nearest first.
pub fn execute<'a>(state: &'a State, query: &ServiceQuery, ask: &Ask<'_>) -> Vec<InstanceView<'a>> {
    let mut found = selected(state, query, ask.connect);
    Shuffle::new(ask.seed).shuffle(&mut found);
    if let Some(from) = start(state, query, ask) {
        near::sort(ask.distances, &from, &mut found, |view| &view.instance.node);
        // The host itself is nearest, whatever was measured.
        if let Some(at) = found.iter().position(|view| view.instance.node == from) {
            found[..=at].rotate_right(1);
        }
    }
    if ask.limit > 0 {
        found.truncate(ask.limit);
    }
    found
}

/// The host that distances are measured from.
fn start(state: &State, query: &ServiceQuery, ask: &Ask<'_>) -> Option<NodeKey> {
    let near = if ask.near.is_empty() { query.near.as_str() } else { ask.near };
    match near {
        "" => None,
        "_agent" => Some(ask.agent.clone()),
        "_ip" => state.holders_of(ask.from?).find(|(_, instance)| instance.is_none()).map(|(node, _)| node.clone()),
        name => NodeKey::new(name).ok(),
    }
}

fn selected<'a>(state: &'a State, query: &ServiceQuery, connect: bool) -> Vec<InstanceView<'a>> {
    // There is neither a mesh nor another cluster.
    let elsewhere = query.connect || connect || !query.peer.is_empty();
    let service = ServiceKey::new(&query.service).ok().filter(|_| !elsewhere);
    let tags = Tags::of(query.tags.as_deref().unwrap_or_default());
    let takes = |view: &InstanceView<'a>| {
        is_healthy(view, query)
            && has_meta(view.node.meta.as_ref(), query.node_meta.as_ref())
            && has_meta(view.instance.meta.as_ref(), query.service_meta.as_ref())
            && tags.take(&view.instance.tags)
    };
    service.iter().flat_map(|service| state.instances_of(service)).filter(takes).collect()
}

/// Whether none of the checks that count is against it.
fn is_healthy(view: &InstanceView<'_>, query: &ServiceQuery) -> bool {
    let ignored = query.ignore_check_ids.as_deref().unwrap_or_default();
    let counting = view.checks().filter(|check| !ignored.iter().any(|id| id == check.id.as_str()));
    let worst = Status::worst(counting.map(|check| check.status));
    if query.only_passing { worst == Status::Passing } else { worst < Status::Critical }
}

fn has_meta(meta: Option<&Meta>, wanted: Option<&Meta>) -> bool {
    let has = |(key, value): (&String, &String)| meta.and_then(|meta| meta.get(key)) == Some(value);
    wanted.is_none_or(|wanted| wanted.iter().all(has))
}

/// The tags of a query in lower case.
struct Tags {
    wanted: Vec<String>,
    unwanted: Vec<String>,
}

impl Tags {
    fn of(tags: &[String]) -> Self {
        let (unwanted, wanted): (Vec<_>, Vec<_>) =
            tags.iter().map(|tag| tag.to_lowercase()).partition(|tag| tag.starts_with('!'));
        Self { wanted, unwanted: unwanted.into_iter().map(|tag| tag[1..].to_owned()).collect() }
    }

    fn take(&self, tags: &[String]) -> bool {
        if self.wanted.is_empty() && self.unwanted.is_empty() {
            return true;
        }
        let own: Vec<String> = tags.iter().map(|tag| tag.to_lowercase()).collect();
        self.wanted.iter().all(|tag| own.contains(tag)) && !self.unwanted.iter().any(|tag| own.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        row::{Check, Instance, Node},
        tests::{carry_out, check, given, instance, node, node_key, register},
    };

    /// Hosts `a`, `b`, `c` and `d` at 10.0.0.1 to 4 with an instance each, and what their checks say.
    fn state() -> State {
        let meta = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Meta>())
        };
        let mut state = given([]);
        for (number, (host, tags, status)) in [
            ("a", &["v1", "Primary"][..], Status::Passing),
            ("b", &["v1"], Status::Warning),
            ("c", &["V2", "primary"], Status::Critical),
            ("d", &[], Status::Passing),
        ]
        .into_iter()
        .enumerate()
        {
            let row = Node {
                address: format!("10.0.0.{}", number + 1),
                meta: meta(&[("rack", if number < 2 { "r1" } else { "r2" })]),
                ..node(host, "")
            };
            let instance = Instance {
                tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
                meta: (number == 0).then(|| meta(&[("team", "x")])).flatten(),
                ..instance(host, "i", "web")
            };
            let check = Check { status, ..check(host, "c1", "i") };
            carry_out(&mut state, &register(row, Some(instance), vec![check]));
        }
        state
    }

    /// Hosts on a line: the place of each is its letter.
    #[derive(Debug)]
    struct Line;

    impl Distances for Line {
        fn distances(&self, from: &NodeKey, to: &[&NodeKey]) -> Option<Vec<f64>> {
            let place = |node: &NodeKey| f64::from(node.as_str().as_bytes()[0]);
            let known = |node: &&NodeKey| node.as_str() != "b";
            known(&from).then(|| {
                let time = |to: &&NodeKey| if known(to) { (place(to) - place(from)).abs() } else { f64::INFINITY };
                to.iter().map(time).collect()
            })
        }
    }

    fn ask<'a>(near: &'a str, agent: &'a NodeKey) -> Ask<'a> {
        let from = Some("10.0.0.4".parse().unwrap());
        Ask { near, agent, from, distances: &Line, limit: 0, connect: false, seed: 1 }
    }

    fn found(state: &State, query: Value, ask: &Ask<'_>) -> String {
        let query: ServiceQuery = serde_json::from_value(query).unwrap();
        execute(state, &query, ask).iter().map(|view| view.node.name.clone()).collect()
    }

    fn sorted(text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters.into_iter().collect()
    }

    #[test]
    fn a_definition_selects() {
        let (state, agent) = (state(), node_key("a"));
        for (query, want) in [
            (json!({}), "abd"),
            (json!({"only_passing": true}), "ad"),
            (json!({"ignore_check_ids": ["c1"]}), "abcd"),
            (json!({"ignore_check_ids": ["C1", "c"]}), "abd"),
            (json!({"ignore_check_ids": ["c1"], "only_passing": true}), "abcd"),
            (json!({"tags": ["V1"]}), "ab"),
            (json!({"tags": ["v1", "primary"]}), "a"),
            (json!({"tags": ["!PRIMARY"]}), "bd"),
            (json!({"tags": ["v1", "!primary"]}), "b"),
            (json!({"tags": [""]}), ""),
            (json!({"tags": ["!"]}), "abd"),
            (json!({"tags": []}), "abd"),
            (json!({"tags": ["v2"], "ignore_check_ids": ["c1"]}), "c"),
            (json!({"node_meta": {"rack": "r1"}}), "ab"),
            (json!({"node_meta": {"rack": "R1"}}), ""),
            (json!({"node_meta": {"rack": "r1", "x": ""}}), ""),
            (json!({"service_meta": {"team": "x"}}), "a"),
            (json!({"node_meta": {}, "service_meta": {}}), "abd"),
            (json!({"connect": true}), ""),
            (json!({"peer": "other"}), ""),
            (json!({"service": "WEB"}), "abd"),
            (json!({"service": "nope"}), ""),
            (json!({"service": "no\nname"}), ""),
        ] {
            let mut whole = query.clone();
            whole["service"] = query.get("service").cloned().unwrap_or(json!("web"));
            assert_eq!(sorted(&found(&state, whole, &ask("", &agent))), want, "{query}");
        }
        let in_mesh = Ask { connect: true, ..ask("", &agent) };
        assert_eq!(found(&state, json!({"service": "web"}), &in_mesh), "");
    }

    #[test]
    fn the_nearest_come_first() {
        let (state, agent) = (state(), node_key("d"));
        let all = json!({"service": "web", "ignore_check_ids": ["c1"]});
        let by = |near: &str, own: &str| {
            let mut query = all.clone();
            query["near"] = json!(own);
            found(&state, query, &ask(near, &agent))
        };
        assert_eq!(by("", "A"), "acdb");
        assert_eq!(by("", "_agent"), "dcab");
        assert_eq!(by("", "_ip"), "dcab");
        assert_eq!(by("c", "a"), "cdab", "who asks knows better");
        // Nothing is known of its place, but it is nearest to itself.
        assert!(by("", "b").starts_with('b') && sorted(&by("", "b")) == "abcd");
        assert_eq!(sorted(&by("nope", "")), "abcd");
        let limited = Ask { limit: 2, ..ask("a", &agent) };
        assert_eq!(found(&state, all.clone(), &limited), "ac");
        let stranger = Ask { from: None, ..ask("_ip", &agent) };
        assert_eq!(sorted(&found(&state, all.clone(), &stranger)), "abcd");
    }

    #[test]
    fn without_a_place_to_start_from_the_order_is_chance() {
        let (state, agent) = (state(), node_key("a"));
        let orders = (0..50).map(|seed| {
            let asked = Ask { seed, ..ask("", &agent) };
            found(&state, json!({"service": "web"}), &asked)
        });
        assert_eq!(orders.collect::<std::collections::BTreeSet<_>>().len(), 6);
    }
}
