//! Tells the registry which version asks from which address: one key for each address of a container that names a
//! version, `callers/NODE/ADDRESS/CONTAINER`. So a container is known as a caller whether it is registered or not.
//!
//! Plain keys, which a genuine Consul keeps too. Ours carry a number made of Docker's ID in their flags; no others are
//! touched, so a person may add some by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use kvstore_client::{Backoff, Error, KvPut, types::KvEntry, with_causes};
use tokio::{sync::watch, time::timeout};
use tracing::{debug, warn};

use crate::{
    container::Container,
    mapping::{Instance, Policy, fnv, named_version},
    plan::Mark,
    registry::Registry,
};

/// What all keys about callers begin with.
const PREFIX: &str = "callers/";
/// The metadata that names a version.
pub(crate) const VERSION: &str = "version";
/// Between attempts while the registry does not take what is to be told.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What this host's keys should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The version by the caller's address and the container's short id.
    pub versions: BTreeMap<(IpAddr, String), String>,
    /// Short ids of containers that cannot be read just now: their keys stay.
    pub unreadable: BTreeSet<String>,
    /// Whose keys these are; never 0.
    pub owner: u64,
}

impl Wanted {
    /// Nothing, by the owner of this mark.
    pub fn nothing(mark: &Mark) -> Self {
        Self { owner: fnv(mark.docker.as_bytes()).max(1), ..Self::default() }
    }
}

/// The version of a container as a caller: that of its instances if they agree, else what it says without any.
pub fn version(container: &Container, instances: &[Instance], policy: &Policy) -> Option<String> {
    let Some(first) = instances.first() else { return named_version(container, policy) };
    let of = |instance: &Instance| instance.service.meta.get(VERSION).cloned();
    of(first).filter(|version| instances.iter().all(|other| of(other).as_ref() == Some(version)))
}

/// One write. `index` is that of the key as it was seen, 0 if it was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Put { key: String, version: String, index: u64 },
    Delete { key: String, index: u64 },
}

/// What makes the keys `held` below `PREFIX` and the node those that are wanted.
fn plan(node: &str, wanted: &Wanted, held: &[KvEntry]) -> Vec<Step> {
    let key = |(address, container): &(IpAddr, String)| format!("{PREFIX}{node}/{address}/{container}");
    let mut missing: BTreeMap<_, _> = wanted.versions.iter().map(|(caller, version)| (key(caller), version)).collect();
    let mut steps = Vec::new();
    for entry in held {
        let version = missing.remove(&entry.key);
        let (key, index) = (entry.key.clone(), entry.modify_index);
        let container = key.rsplit('/').next().unwrap_or_default();
        match version {
            _ if entry.flags != wanted.owner => {}
            Some(version) if entry.value == version.as_bytes() => {}
            Some(version) => steps.push(Step::Put { key, version: version.clone(), index }),
            None if wanted.unreadable.contains(container) => {}
            None => steps.push(Step::Delete { key, index }),
        }
    }
    steps.extend(missing.into_iter().map(|(key, version)| Step::Put { key, version: version.clone(), index: 0 }));
    steps
}

/// Keeps the keys as wanted whenever that changes or is said again, until nobody says it any more.
pub async fn keep(registry: Arc<Registry>, mut wanted: watch::Receiver<Option<Wanted>>) {
    let mut backoff = Backoff::between(RETRY.0, RETRY.1);
    let mut is_refused = false;
    while wanted.changed().await.is_ok() {
        loop {
            let Some(now) = wanted.borrow_and_update().clone() else { break };
            match sync(&registry, &now).await {
                Ok(true) => break,
                Ok(false) => debug!("keys about callers are changed by others at the same time"),
                Err(error) => {
                    // The other calls complain of a registry that is away.
                    if error.status().is_some() && !is_refused && !now.versions.is_empty() {
                        warn!(
                            "the registry takes no keys below {PREFIX}: {error}; who asks has no version until it does"
                        );
                        is_refused = true;
                    }
                    debug!("{}", with_causes(&error));
                }
            }
            // News end the wait: there may be less to tell, or the registry may be back.
            let _ = timeout(backoff.delay(), wanted.changed()).await;
        }
        backoff.reset();
        is_refused = false;
    }
}

/// Makes the keys as wanted; false if somebody else changed one meanwhile.
///
/// # Errors
/// [`Error`]; some may have been changed.
pub async fn sync(registry: &Registry, wanted: &Wanted) -> Result<bool, Error> {
    let (client, node) = (registry.client(), registry.node_name().await?);
    let held = client.kv_list(&format!("{PREFIX}{node}/"), None).await?.value;
    let mut done = true;
    for step in plan(&node, wanted, &held) {
        debug!(?step, "a caller");
        done &= match step {
            Step::Put { key, version, index } => {
                let put = KvPut { flags: wanted.owner, cas: Some(index), ..KvPut::default() };
                client.kv_put(&key, version, put).await?
            }
            Step::Delete { key, index } => client.kv_delete(&key, false, Some(index)).await?,
        };
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        container::tests::container,
        mapping::{
            Choices, Network, map,
            tests::{choosing, policy},
        },
    };
    use serde_json::json;

    const OURS: u64 = 7;

    fn held(key: &str, version: &str, flags: u64) -> KvEntry {
        let value = version.to_owned().into_bytes().into();
        KvEntry {
            key: key.into(),
            value,
            flags,
            modify_index: 5,
            create_index: 5,
            lock_index: 0,
            session: String::new(),
        }
    }

    fn wanted(callers: &[(&str, &str, &str)]) -> Wanted {
        let versions = callers.iter().map(|(a, c, v)| ((a.parse().unwrap(), (*c).to_owned()), (*v).to_owned()));
        Wanted { versions: versions.collect(), unreadable: ["odd".to_owned()].into(), owner: OURS }
    }

    #[test]
    fn only_what_differs_and_is_ours_is_written() {
        let put = |key: &str, version: &str, index| Step::Put { key: key.into(), version: version.into(), index };
        let delete = |key: &str| Step::Delete { key: key.into(), index: 5 };
        let key = "callers/n/10.0.0.2/c1";
        let one = wanted(&[("10.0.0.2", "c1", "v1")]);
        for (wanted, held, want) in [
            (&one, vec![], vec![put(key, "v1", 0)]),
            (&one, vec![held(key, "v1", OURS)], vec![]),
            (&one, vec![held(key, "v2", OURS)], vec![put(key, "v1", 5)]),
            // By hand, or another registrar's.
            (&one, vec![held(key, "v2", 0)], vec![]),
            (&one, vec![held(key, "v2", 8)], vec![]),
            (
                &one,
                vec![held("callers/n/10.0.0.9/c1", "v1", OURS)],
                vec![delete("callers/n/10.0.0.9/c1"), put(key, "v1", 0)],
            ),
            (&wanted(&[]), vec![held(key, "v1", OURS), held("callers/n/::1/x", "v1", 0)], vec![delete(key)]),
            (&wanted(&[]), vec![held("callers/n/10.0.0.2/odd", "v1", OURS)], vec![]),
            (&wanted(&[("fd00::2", "c", "v")]), vec![], vec![put("callers/n/fd00::2/c", "v", 0)]),
        ] {
            assert_eq!(plan("n", wanted, &held), want, "{wanted:?} {held:?}");
        }
    }

    #[test]
    fn a_container_has_the_version_of_its_instances() {
        let env = |env: &[&str]| json!({"Config": {"Env": env}});
        let portless = |env: &[&str]| {
            json!({"Config": {"Env": env, "ExposedPorts": null}, "HostConfig": {"PortBindings": null},
                "NetworkSettings": {"Ports": null}})
        };
        for (patch, want) in [
            (env(&["SERVICE_VERSION=v1"]), Some("v1")),
            (env(&["SERVICE_80_VERSION=v1"]), Some("v1")),
            (env(&["SERVICE_NAME=web"]), None),
            (env(&["SERVICE_VERSION=v1", "SERVICE_IGNORE=yes"]), Some("v1")),
            (portless(&["SERVICE_VERSION=v1"]), Some("v1")),
            (portless(&["SERVICE_VERSION= "]), None),
            (portless(&["SERVICE_80_VERSION=v1"]), None),
        ] {
            let container = container(&patch);
            let mapped = map(&container, Network::Own, &policy());
            assert_eq!(version(&container, &mapped.instances, &policy()).as_deref(), want, "{patch}");
        }
        let (tagged, by_tag) =
            (container(&portless(&[])), choosing(Choices { version_from_tag: true, ..Choices::default() }));
        assert_eq!(version(&tagged, &[], &by_tag).as_deref(), Some("1"), "by the image's tag");
        let mut mapped = map(&container(&env(&["SERVICE_VERSION=v1"])), Network::Own, &policy());
        mapped.instances.extend(mapped.instances.clone());
        mapped.instances[1].service.meta.insert("version".into(), "v2".into());
        assert_eq!(version(&container(&json!({})), &mapped.instances, &policy()), None, "they differ");
    }
}
