//! What a reader of each watch key sees, rendered from the state by its indexes and from the model by looking at all
//! rows.

use std::{collections::BTreeSet, fmt::Debug};

use kvstore_core::{
    Index, State, WatchKey,
    names::{Key, NodeKey, ServiceKey},
    prepared_query::QueryId,
    row::{Check, Instance, Node, Stamped},
    version::Callers,
};

use crate::{
    commands::{KEYS, NODES, QUERIES, QUERY_NAMES, SERVICES},
    naive::Naive,
};

/// One line per thing; none: there is nothing.
pub(crate) type Reading = Vec<String>;

/// Every key that a command of [`crate::commands`] could touch, and some that none does.
pub(crate) fn watch_keys() -> Vec<WatchKey> {
    let mut keys = vec![
        WatchKey::Services,
        WatchKey::Nodes,
        WatchKey::Checks,
        WatchKey::CheckStatuses,
        WatchKey::Sessions,
        WatchKey::Queries,
        WatchKey::Acl,
    ];
    keys.extend(QUERIES.iter().map(|id| WatchKey::Query(QueryId::new(id).unwrap())));
    keys.extend(KEYS.iter().chain(&["never"]).map(|key| WatchKey::Key(Key::new(key).unwrap())));
    keys.extend(["", "a", "a/", "a/b", "never"].map(|prefix| WatchKey::KeyPrefix(prefix.into())));
    for service in SERVICES.iter().chain(&["never"]) {
        let service = ServiceKey::new(service).unwrap();
        keys.extend([WatchKey::Service(service.clone()), WatchKey::ServiceStatus(service)]);
    }
    for node in NODES.iter().chain(&["never"]) {
        let node = NodeKey::new(node).unwrap();
        keys.extend([WatchKey::Node(node.clone()), WatchKey::NodeChecks(node)]);
    }
    keys
}

fn line(thing: impl Debug) -> String {
    format!("{thing:?}")
}

fn without_output(check: &Stamped<Check>) -> Stamped<Check> {
    let value = Check { output: String::new(), ..check.value.clone() };
    Stamped { created: check.created, modified: Index(0), value }
}

fn instance_line<'a>(
    node: &Stamped<Node>,
    instance: &Stamped<Instance>,
    checks: impl Iterator<Item = &'a Stamped<Check>>,
    output: bool,
) -> String {
    let checks: Vec<_> = checks.map(|check| if output { check.clone() } else { without_output(check) }).collect();
    line((node, instance, checks))
}

fn listing(instance: &Instance) -> String {
    line((&instance.service, &instance.tags, &instance.node, &instance.id))
}

/// A check as answers show it: with its host's name, and the name and tags of its service.
fn check_line(node: Option<&Stamped<Node>>, instance: Option<&Stamped<Instance>>, check: &Stamped<Check>) -> String {
    line((check, node.map(|node| &node.name), instance.map(|i| (&i.service, &i.tags))))
}

pub(crate) fn of_state(state: &State, key: &WatchKey) -> Reading {
    let check = |check: &Stamped<Check>| {
        check_line(state.node(&check.node).map(|n| &**n), state.instance_of(check).map(|i| &**i), check)
    };
    let service = |service: &ServiceKey, output| {
        let views = state.instances_of(service);
        assert_eq!(state.has_service(service), state.instances_of(service).next().is_some());
        views.map(|v| instance_line(v.node, v.instance, v.checks().map(|c| &**c), output)).collect()
    };
    match key {
        WatchKey::Key(key) => state.key(key).map(line).into_iter().collect(),
        WatchKey::KeyPrefix(prefix) => state.keys(prefix).map(line).collect(),
        WatchKey::Service(name) => service(name, true),
        WatchKey::ServiceStatus(name) => service(name, false),
        WatchKey::Services => {
            assert!(state.services().all(|service| state.has_service(service)));
            let instances = state.services().flat_map(|service| state.instances_of(service));
            instances.map(|view| listing(view.instance)).collect()
        }
        WatchKey::Nodes => state.nodes().map(|(_, node)| line(node)).collect(),
        WatchKey::Node(node) => {
            let instances = state.instances_on(node).map(line);
            state.node(node).map(line).into_iter().chain(instances).collect()
        }
        WatchKey::NodeChecks(node) => state.checks_on(node).map(|c| check(c)).collect(),
        WatchKey::Checks => state.checks().map(|c| check(c)).collect(),
        WatchKey::CheckStatuses => state.checks().map(|c| check(&without_output(c))).collect(),
        WatchKey::Queries => state.queries().map(line).collect(),
        WatchKey::Query(id) => state.query(id).map(line).into_iter().collect(),
        WatchKey::Acl => {
            let credentials = state.credentials();
            let tokens = credentials.tokens().map(|token| {
                let found = token.secret.and_then(|secret| credentials.token_of(&secret));
                assert!(token.secret.is_none() || found == Some(token));
                line(token)
            });
            let policies = credentials.policies().map(|policy| {
                assert_eq!(credentials.policy_named(&policy.name), Some(policy));
                line(policy)
            });
            tokens.chain(policies).chain(credentials.bootstrap().map(line)).collect()
        }
        WatchKey::Sessions => {
            // In a view, not all of their hosts are there.
            let nodes: BTreeSet<_> = NODES.iter().map(|node| NodeKey::new(node).unwrap()).collect();
            let on_nodes = nodes.iter().flat_map(|node| state.sessions_on(node));
            let mut on_nodes: Vec<_> = on_nodes.map(|session| (session.id.clone(), line(session))).collect();
            on_nodes.sort();
            assert!(on_nodes.iter().map(|(_, line)| line.clone()).eq(state.sessions().map(line)));
            on_nodes.into_iter().map(|(_, line)| line).collect()
        }
    }
}

pub(crate) fn of_naive(naive: &Naive, key: &WatchKey) -> Reading {
    let check = |check: &Stamped<Check>| {
        let instance = check.service.as_ref().and_then(|id| naive.instances.get(&(check.node.clone(), id.clone())));
        check_line(naive.nodes.get(&check.node), instance, check)
    };
    let service = |service: &ServiceKey, output| {
        let instances = naive.instances.values().filter(|i| i.service_key() == *service);
        let checks_of = |i: &Stamped<Instance>, of_host: bool| {
            let (node, id) = (i.node.clone(), i.id.clone());
            naive.checks.values().filter(move |c| {
                c.node == node && if of_host { c.service.is_none() } else { c.service.as_ref() == Some(&id) }
            })
        };
        let render = |i: &Stamped<Instance>| {
            instance_line(&naive.nodes[&i.node], i, checks_of(i, true).chain(checks_of(i, false)), output)
        };
        instances.map(render).collect()
    };
    match key {
        WatchKey::Key(key) => naive.kv.get(key.as_str()).map(line).into_iter().collect(),
        WatchKey::KeyPrefix(prefix) => {
            naive.kv.iter().filter(|(key, _)| key.starts_with(prefix.as_str())).map(|(_, entry)| line(entry)).collect()
        }
        WatchKey::Service(name) => service(name, true),
        WatchKey::ServiceStatus(name) => service(name, false),
        WatchKey::Services => {
            let mut instances: Vec<_> = naive.instances.values().collect();
            instances.sort_by_key(|i| (i.service_key(), i.node.clone(), i.id.clone()));
            instances.into_iter().map(|i| listing(i)).collect()
        }
        WatchKey::Nodes => naive.nodes.values().map(line).collect(),
        WatchKey::Node(node) => {
            let instances = naive.instances.values().filter(|i| i.node == *node).map(line);
            naive.nodes.get(node).map(line).into_iter().chain(instances).collect()
        }
        WatchKey::NodeChecks(node) => naive.checks.values().filter(|c| c.node == *node).map(check).collect(),
        WatchKey::Checks => naive.checks.values().map(check).collect(),
        WatchKey::CheckStatuses => naive.checks.values().map(|c| check(&without_output(c))).collect(),
        WatchKey::Sessions => naive.sessions.values().map(line).collect(),
        WatchKey::Queries => naive.queries.values().map(line).collect(),
        WatchKey::Query(id) => naive.queries.get(id).map(line).into_iter().collect(),
        WatchKey::Acl => {
            let (tokens, policies) = (naive.tokens.values().map(line), naive.policies.values().map(line));
            tokens.chain(policies).chain(naive.bootstrap.values().map(line)).collect()
        }
    }
}

/// The keys that each session holds.
pub(crate) fn held_in_state(state: &State) -> Reading {
    state.sessions().map(|session| line((&session.id, state.held_by(&session.id).collect::<Vec<_>>()))).collect()
}

pub(crate) fn held_in_naive(naive: &Naive) -> Reading {
    let held = |id| naive.kv.values().filter(move |entry| entry.session.as_ref() == Some(id)).map(|entry| &entry.key);
    naive.sessions.keys().map(|id| line((id, held(id).collect::<Vec<_>>()))).collect()
}

/// Who has an IP address: hosts, and instances with one of their own.
pub(crate) fn holders_in_state(state: &State, address: &str) -> Reading {
    state.holders_of(address.parse().unwrap()).map(line).collect()
}

pub(crate) fn holders_in_naive(naive: &Naive, address: &str) -> Reading {
    let hosts = naive.nodes.iter().filter(|(_, node)| node.address == address).map(|(key, _)| (key, None));
    let instances = naive.instances.iter().filter(|(_, instance)| instance.address == address);
    let mut holders: Vec<_> = hosts.chain(instances.map(|((node, id), _)| (node, Some(id)))).collect();
    holders.sort();
    holders.into_iter().map(line).collect()
}

/// Which version asks from an address, on each host and anywhere.
pub(crate) fn versions_in_state(state: &State, address: &str, nodes: &[NodeKey]) -> Reading {
    let from: std::net::IpAddr = address.parse().unwrap();
    let here = nodes.iter().map(|node| Callers { here: Some(node.clone()), routable: vec![] });
    let anywhere = Callers { here: None, routable: vec!["10.0.0.0/8".parse().unwrap()] };
    here.chain([anywhere]).map(|callers| line(callers.version(state, from))).collect()
}

pub(crate) fn versions_in_naive(naive: &Naive, address: &str, nodes: &[NodeKey]) -> Reading {
    let asks = |instance: &&Instance| {
        let mut networks = instance.tagged_addresses.iter().filter(|(tag, _)| tag.starts_with("net.")).peekable();
        if networks.peek().is_some() {
            return networks.any(|(_, at)| at.address == address);
        }
        match &*instance.address {
            "" => naive.nodes.get(&instance.node).is_some_and(|node| node.address == address),
            own => own == address,
        }
    };
    let asking: Vec<&Instance> = naive.instances.values().map(|row| &row.value).filter(asks).collect();
    let registered = asking.iter().map(|instance| {
        let version = instance.meta.as_ref().and_then(|meta| meta.get("version"));
        (instance.node.clone(), version.map(String::as_str))
    });
    let told = naive.kv.iter().filter_map(|(key, entry)| {
        let (node, name) = key.strip_prefix("callers/")?.split_once(&format!("/{address}/"))?;
        assert_eq!(name, "c", "as in KEYS");
        let version = std::str::from_utf8(&entry.value.value).ok().filter(|text| !text.is_empty());
        Some((NodeKey::new(node).unwrap(), version))
    });
    let asking: Vec<_> = registered.chain(told).collect();
    let address_of = |node: &NodeKey| naive.nodes.get(node).map(|node| &node.address);
    let is_one = |one: &NodeKey, other: &NodeKey| {
        one == other || address_of(one).is_some_and(|own| own != "host" && Some(own) == address_of(other))
    };
    let version = |here: Option<&NodeKey>| {
        let near = asking.iter().filter(|(node, _)| here.is_none_or(|here| is_one(here, node)));
        let versions: BTreeSet<_> = near.map(|(_, version)| *version).collect();
        if versions.len() == 1 { versions.into_iter().next().flatten() } else { None }
    };
    nodes.iter().map(Some).chain([None]).map(|here| line(version(here))).collect()
}

/// What names and ids mean as prepared queries.
pub(crate) fn resolved_in_state(state: &State) -> Reading {
    let meant = |name: &str| {
        let found = state.resolve_query(name).map_err(|_| ())?;
        Ok::<_, ()>(found.map(|found| (found.value.id.clone(), found.value.service.service.clone())))
    };
    asked_names().into_iter().map(|name| line((&name, meant(&name)))).collect()
}

pub(crate) fn resolved_in_naive(naive: &Naive) -> Reading {
    asked_names().into_iter().map(|name| line((&name, naive.resolve(&name)))).collect()
}

/// Every name there may be, as it is and with more behind it.
fn asked_names() -> Vec<String> {
    let names = QUERY_NAMES.iter().chain(QUERIES).chain(&["never"]);
    names
        .flat_map(|name| [(*name).to_owned(), format!("{name}e"), format!("{name}-X")])
        .filter(|n| !n.is_empty())
        .collect()
}
