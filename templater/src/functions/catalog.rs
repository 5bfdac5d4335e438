//! Services, nodes and datacenters.

use std::collections::BTreeSet;

use kvstore_client::types::CheckStatus;
use tera::{Error, Kwargs, TeraResult, Value, value::Map};

use super::{Floor, SharedScope, empty_list};
use crate::values::{Answer, Dependency, Instance, Item, ServiceQuery, Status};

/// The metadata that names an instance's version, and how the keys begin that say which version is live.
const VERSION: &str = "version";
const RELEASES: &str = "release/";

pub(super) fn service(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    if name.is_empty() {
        return Err(Error::message("service(): `name` is empty"));
    }
    let wanted = Wanted::from(kwargs)?;
    let query = ServiceQuery {
        name: name.to_owned(),
        passing: wanted.status == Statuses::Passing,
        near: kwargs.get("near")?,
        filter: kwargs.get("filter")?,
    };
    let near = query.near.is_some();
    let dc = kwargs.get::<String>("dc")?;
    let answer = scope.read(Dependency::Service(query).in_datacenter(dc.clone()));
    let live = if kwargs.get::<bool>("live")?.unwrap_or(false) { Some(live_version(scope, name, dc)) } else { None };
    let Some(Answer::Instances { safe, unsafe_ }) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let raw = if kwargs.get::<bool>("raw")?.unwrap_or(false) { &unsafe_[..] } else { &[] };
    let mut found: Vec<&Item<Instance>> = safe.iter().chain(raw).filter(|i| wanted.fits(&i.data)).collect();
    if !raw.is_empty() && !near {
        found.sort_by(|a, b| (&a.data.node.name, &a.data.id).cmp(&(&b.data.node.name, &b.data.id)));
    }
    if let Some(Some(live)) = live {
        keep_version(&mut found, &live);
    }
    enough(scope, name, found.len(), kwargs.get("min")?)?;
    Ok(found.into_iter().map(|i| i.value.clone()).collect::<Vec<_>>().into())
}

/// The version that is released, if one is.
fn live_version(scope: &SharedScope, service: &str, dc: Option<String>) -> Option<String> {
    let key = Dependency::Key(format!("{RELEASES}{}", service.to_lowercase())).in_datacenter(dc);
    match scope.read(key).as_deref() {
        Some(Answer::Key(Some(version))) => Some(version.trim().to_owned()),
        _ => None,
    }
}

/// Leaves only instances of the `live` version, if one of those passes: the registry's own rule.
fn keep_version(found: &mut Vec<&Item<Instance>>, live: &str) {
    let is_live = |i: &&Item<Instance>| i.data.meta.get(VERSION).is_some_and(|version| version == live);
    if found.iter().any(|i| i.data.status == Status::Passing && is_live(i)) {
        found.retain(is_live);
    }
}

/// Notes it if there are fewer instances than the call or the template wants.
fn enough(scope: &SharedScope, name: &str, found: usize, min: Option<usize>) -> TeraResult<()> {
    let Floor { min_instances, fail } = scope.lock().setting.bounds.floor;
    let wanted = min.unwrap_or(min_instances);
    if found >= wanted {
        return Ok(());
    }
    let why = format!("service {name} has {found} of at least {wanted} instances");
    if fail {
        return Err(Error::message(why));
    }
    scope.lock().blocked.push(why);
    Ok(())
}

#[derive(PartialEq)]
enum Statuses {
    /// The registry filters.
    Passing,
    Any,
    Of(Vec<Status>),
}

/// Which instances `service(..)` gives.
struct Wanted {
    status: Statuses,
    tags: Vec<String>,
    meta: Vec<(String, String)>,
}

impl Wanted {
    fn from(kwargs: &Kwargs) -> TeraResult<Self> {
        let mut tags = kwargs.get::<Vec<String>>("tags")?.unwrap_or_default();
        tags.extend(kwargs.get::<String>("tag")?);
        Ok(Self { status: Statuses::from(kwargs)?, tags, meta: pairs(kwargs, "meta")? })
    }

    fn fits(&self, instance: &Instance) -> bool {
        let status = match &self.status {
            Statuses::Passing => instance.status == Status::Passing,
            Statuses::Any => true,
            Statuses::Of(list) => list.contains(&instance.status),
        };
        status && self.tags.iter().all(|t| instance.tags.contains(t)) && has_meta(instance, &self.meta)
    }
}

fn pairs(kwargs: &Kwargs, name: &str) -> TeraResult<Vec<(String, String)>> {
    let map = kwargs.get::<&Map>(name)?;
    Ok(map.into_iter().flatten().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

fn has_meta(instance: &Instance, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(k, v)| instance.meta.get(k) == Some(v))
}

impl Statuses {
    fn from(kwargs: &Kwargs) -> TeraResult<Self> {
        let Some(value) = kwargs.get::<&Value>("status")? else {
            return Ok(Self::Passing);
        };
        let words: Vec<String> = match value.as_array() {
            Some(values) => values.iter().map(ToString::to_string).collect(),
            None => vec![value.to_string()],
        };
        if words.iter().any(|word| word == "any") {
            return Ok(Self::Any);
        }
        let known = |word| Status::ALL.into_iter().find(|s| s.as_str() == word).ok_or(word);
        let list: Result<Vec<Status>, _> = words.iter().map(String::as_str).map(known).collect();
        match list {
            Ok(list) if list == [Status::Passing] => Ok(Self::Passing),
            Ok(list) => Ok(Self::Of(list)),
            Err(bad) => {
                let all = Status::ALL.map(Status::as_str).join(", ");
                Err(Error::message(format!("service(): status {bad:?} is none of any, {all}")))
            }
        }
    }
}

pub(super) fn services(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let tag = kwargs.get::<String>("tag")?;
    let all = kwargs.get::<bool>("all")?.unwrap_or(false);
    let dc = kwargs.get::<String>("dc")?;
    let meta = pairs(kwargs, "meta")?;
    let counts = kwargs.get::<bool>("counts")?.unwrap_or(false);
    let answer = scope.read(Dependency::Services.in_datacenter(dc.clone()));
    let Some(Answer::Services(names)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let mut found = Vec::new();
    for service in names {
        let own = service.data.name == "consul" && !all;
        if own || tag.as_ref().is_some_and(|t| !service.data.tags.contains(t)) {
            continue;
        }
        if meta.is_empty() && !counts {
            found.push(service.value.clone());
            continue;
        }
        let instances = scope.read(Dependency::service(&service.data.name, false).in_datacenter(dc.clone()));
        let Some(Answer::Instances { safe, .. }) = instances.as_deref() else { continue };
        if !meta.is_empty() && !safe.iter().any(|i| has_meta(&i.data, &meta)) {
            continue;
        }
        let passing = safe.iter().filter(|i| i.data.status == Status::Passing).count();
        let mut map = service.value.as_map().cloned().unwrap_or_default();
        map.insert("instances".into(), safe.len().into());
        map.insert("passing".into(), passing.into());
        found.push(map.into());
    }
    Ok(found.into())
}

pub(super) fn node(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    let answer = scope.read(Dependency::Node(name.to_owned()).in_datacenter(kwargs.get("dc")?));
    Ok(match answer.as_deref() {
        Some(Answer::Node(Some(node))) => node.value.clone(),
        _ => Value::undefined(),
    })
}

pub(super) fn nodes(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let dc = kwargs.get::<String>("dc")?;
    let wanted = match kwargs.get::<&str>("status")? {
        None => None,
        Some("passing") => Some(CheckStatus::Passing),
        Some("warning") => Some(CheckStatus::Warning),
        Some("critical") => Some(CheckStatus::Critical),
        Some(other) => {
            return Err(Error::message(format!("nodes(): status {other:?} is none of passing, warning, critical")));
        }
    };
    let answer = scope.read(Dependency::Nodes { near: kwargs.get("near")? }.in_datacenter(dc.clone()));
    let health = wanted.map(|_| scope.read(Dependency::NodeHealth.in_datacenter(dc)));
    let Some(Answer::Nodes(nodes)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let status = |name: &str| match health.as_ref().and_then(|h| h.as_deref()) {
        // A node without checks is well.
        Some(Answer::NodeHealth(worst)) => worst.get(name).copied().unwrap_or(CheckStatus::Passing),
        _ => CheckStatus::Passing,
    };
    let fitting = nodes.iter().filter(|n| wanted.is_none_or(|wanted| status(&n.data.name) == wanted));
    Ok(fitting.map(|n| n.value.clone()).collect::<Vec<_>>().into())
}

#[allow(clippy::unnecessary_wraps)] // like the others
pub(super) fn datacenters(scope: &SharedScope, _: &Kwargs) -> TeraResult<Value> {
    let answer = scope.read(Dependency::Datacenters);
    let Some(Answer::Datacenters(names)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    Ok(names.into_iter().map(Value::from).collect::<Vec<_>>().into())
}
