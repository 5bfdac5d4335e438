//! What the configuration files of the agent define, as rows, and the way from the rows that are there to those.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use kvstore_core::{
    Command, State, Target,
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, Instance},
};

use super::registration::Service;
use crate::store::{Store, WriteError};

/// Commands under way at once: far fewer than the writer's queue holds, enough for one fsync to serve many.
const AT_ONCE: usize = 64;

/// The services and checks of the files, of which each has its own id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// With their checks.
    pub services: Vec<Service>,
    /// Checks by themselves, of the node or of an instance.
    pub checks: Vec<Check>,
}

impl Definitions {
    /// The steps that make `state` what the files say, each of which may come after all of the earlier ones: instances
    /// and what they bring along, checks by themselves, and what an earlier reading put and these files no longer define.
    /// What was registered otherwise stays.
    fn steps(&self, state: &State, node: &NodeKey) -> [Vec<Command>; 3] {
        let services = self.services.iter().map(|service| {
            let instance = Box::new(Instance { node: node.clone(), from_file: true, ..service.instance.clone() });
            let checks = service.checks.iter().map(|check| row(check, node)).collect();
            Command::RegisterInstance { instance, checks, replace_checks: false }
        });
        let checks = self.checks.iter().map(|check| Command::RegisterCheck { check: row(check, node).into() });
        let undefine = |target| Command::Undefine { node: node.clone(), target };
        let gone = self.gone(state, node).into_iter().map(undefine);
        [services.collect(), checks.collect(), gone.collect()]
    }

    fn gone(&self, state: &State, node: &NodeKey) -> Vec<Target> {
        let instances: HashSet<&InstanceId> = self.services.iter().map(|service| &service.instance.id).collect();
        let brought = self.services.iter().flat_map(|service| &service.checks);
        let checks: HashSet<&CheckId> = brought.chain(&self.checks).map(|check| &check.id).collect();
        let old = state.instances_on(node).filter(|old| old.from_file && !instances.contains(&old.id));
        let old_checks = state.checks_on(node).filter(|old| old.from_file && !checks.contains(&old.id));
        let old = old.map(|old| Target::Instance(old.id.clone()));
        old.chain(old_checks.map(|old| Target::Check(old.id.clone()))).collect()
    }

    /// Makes the rows of `node` what the files say; gives what could not be done.
    pub(crate) async fn apply(&self, store: &Store, node: &NodeKey) -> Vec<String> {
        let mut failed = Vec::new();
        let steps = self.steps(&store.state(), node);
        for step in steps {
            let mut done = stream::iter(step).map(|command| carry_out(store, command)).buffered(AT_ONCE);
            while let Some(result) = done.next().await {
                failed.extend(result.err());
            }
        }
        failed
    }
}

fn row(check: &Check, node: &NodeKey) -> Check {
    Check { node: node.clone(), from_file: true, ..check.clone() }
}

async fn carry_out(store: &Store, command: Command) -> Result<(), String> {
    let what = match &command {
        Command::RegisterInstance { instance, .. } => format!("the service {:?} of a file", instance.id.as_str()),
        Command::RegisterCheck { check } => format!("the check {:?} of a file", check.id.as_str()),
        _ => "what is no longer defined".into(),
    };
    store.submit(command).await.map(drop).map_err(|error: WriteError| format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kvstore_client::types::{CheckRegistration, ServiceRegistration};
    use kvstore_core::Index;
    use serde_json::json;

    use super::*;
    use crate::{
        agent::registration::{self, Agent},
        engine::Memory,
    };

    fn node() -> NodeKey {
        NodeKey::new("n").unwrap()
    }

    fn definitions(text: &str) -> Definitions {
        let (node, mut all) = (node(), Definitions::default());
        let agent = Agent { node: &node, scripts: false };
        for word in text.split_whitespace() {
            let (name, check) = word.split_once('/').unwrap_or((word, ""));
            if name == "check" {
                let body = CheckRegistration { name: check.into(), ..ttl() };
                all.checks.push(registration::check(agent, body).unwrap().check);
            } else {
                let checks = check.split(',').filter(|id| !id.is_empty());
                let checks = checks.map(|id| CheckRegistration { id: id.into(), ..ttl() }).collect();
                let body = ServiceRegistration { name: name.into(), checks, ..ServiceRegistration::default() };
                all.services.push(registration::service(agent, body).unwrap());
            }
        }
        all
    }

    fn ttl() -> CheckRegistration {
        serde_json::from_value(json!({"TTL": "1h"})).unwrap()
    }

    /// `NAME` of instances and `INSTANCE:CHECK` of checks, sorted; with `!` what a file defines.
    fn shown(state: &State) -> String {
        let mark = |from_file| if from_file { "!" } else { "" };
        let instances = state.instances_on(&node()).map(|i| format!("{}{}", i.id, mark(i.from_file)));
        let of = |check: &Check| check.service.as_ref().map_or("", InstanceId::as_str).to_owned();
        let checks = state.checks_on(&node()).map(|c| format!("{}:{}{}", of(c), c.id, mark(c.from_file)));
        instances.chain(checks).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn what_vanished_from_the_files_goes_and_nothing_else() {
        let (store, writer) = Store::start(Box::new(Memory::new(Index(1000)))).unwrap();
        let row = serde_json::from_value(json!({"name": "n", "address": "10.0.0.1"})).unwrap();
        let host = Command::Register { node: row, keep_node: false, instance: None, checks: vec![] };
        store.submit(host).await.unwrap();
        let by_hand = definitions("api/own");
        let Service { instance, checks, .. } = by_hand.services[0].clone();
        let by_hand = Command::RegisterInstance { instance: instance.into(), checks, replace_checks: false };
        store.submit(by_hand.clone()).await.unwrap();
        for (files, expected) in [
            ("", "api api:own"),
            ("web/a,b db check/disk", ":disk! api api:own db! web! web:a! web:b!"),
            // Unchanged, then a check less, a service less, and a check that moves to another service.
            ("web/a,b db check/disk", ":disk! api api:own db! web! web:a! web:b!"),
            ("web/a db/b check/disk", ":disk! api api:own db! db:b! web! web:a!"),
            ("db/a", "api api:own db! db:a!"),
            // A file takes over what was registered by hand, and takes it along.
            ("api/own", "api! api:own!"),
            ("", ""),
        ] {
            assert_eq!(definitions(files).apply(&store, &node()).await, [""; 0]);
            assert_eq!(shown(&store.state()), expected, "{files}");
        }
        // Registered by hand since: it stays when the file goes.
        assert_eq!(definitions("api/own").apply(&store, &node()).await, [""; 0]);
        store.submit(by_hand).await.unwrap();
        definitions("").apply(&store, &node()).await;
        assert_eq!(shown(&store.state()), "api api:own");
        let mut orphan = definitions("check/x");
        orphan.checks[0].service = InstanceId::new("none").ok();
        let failed = orphan.apply(&store, &node()).await;
        assert_eq!(failed, ["the check \"x\" of a file: ServiceID \"none\" does not exist"]);
        tokio::task::spawn_blocking(move || writer.stop()).await.unwrap();
    }
}
