//! Keys and their values.

use std::collections::BTreeMap;

use tera::{Error, Kwargs, TeraResult, Value, value::Map};

use super::{SharedScope, empty_list};
use crate::values::{Answer, Dependency, Pair};

/// A registry key has no leading slash; a template that writes one means the same key.
fn path_of(kwargs: &Kwargs) -> TeraResult<String> {
    let path = kwargs.must_get::<&str>("path")?.trim_start_matches('/');
    if path.is_empty() {
        return Err(Error::message("`path` is empty; give the path of a key"));
    }
    Ok(path.to_owned())
}

pub(super) fn key(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let path = path_of(kwargs)?;
    let default = kwargs.get::<&Value>("default")?;
    let answer = scope.read(Dependency::Key(path.clone()).in_datacenter(kwargs.get("dc")?));
    Ok(match (answer.as_deref(), default) {
        (Some(Answer::Key(Some(value))), _) => value.as_str().into(),
        (_, Some(default)) => default.clone(),
        (Some(_), None) => {
            scope.lock().blocked.push(format!("key {path} is absent"));
            "".into()
        }
        (None, None) => "".into(),
    })
}

pub(super) fn key_exists(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let answer = scope.read(Dependency::Key(path_of(kwargs)?).in_datacenter(kwargs.get("dc")?));
    Ok(matches!(answer.as_deref(), Some(Answer::Key(Some(_)))).into())
}

pub(super) fn kv_list(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let recurse = kwargs.get::<bool>("recurse")?.unwrap_or(false);
    let list = |pairs: &[(&Pair, &str)]| {
        let wanted = pairs.iter().filter(|(_, key)| recurse || !key.contains('/'));
        wanted.map(|(pair, key)| pair_value(pair, key)).collect::<Vec<_>>()
    };
    let Some(found) = below(scope, kwargs, list)? else { return Ok(empty_list()) };
    let min = kwargs.get::<usize>("min")?.unwrap_or(0);
    if found.len() < min {
        let prefix = kwargs.must_get::<&str>("prefix")?;
        let why = format!("{} keys are below {prefix:?}, {min} are required", found.len());
        scope.lock().blocked.push(why);
    }
    Ok(found.into())
}

pub(super) fn kv_tree(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let tree = below(scope, kwargs, |pairs| {
        let mut root = Branch::default();
        for (pair, key) in pairs {
            root.add(key, &pair.value);
        }
        root
    })?;
    Ok(tree.unwrap_or_default().into_map().into())
}

/// What `shape` makes of the keys below `prefix`, each with its path from there; `None` while they are not known.
fn below<T>(scope: &SharedScope, kwargs: &Kwargs, shape: impl FnOnce(&[(&Pair, &str)]) -> T) -> TeraResult<Option<T>> {
    let prefix = kwargs.must_get::<&str>("prefix")?.trim_start_matches('/');
    let answer = scope.read(Dependency::Prefix(prefix.to_owned()).in_datacenter(kwargs.get("dc")?));
    let Some(Answer::Pairs(pairs)) = answer.as_deref() else { return Ok(None) };
    let from_there = pairs.iter().filter_map(|pair| {
        let key = pair.path.strip_prefix(prefix)?.trim_start_matches('/');
        (!key.is_empty()).then_some((pair, key))
    });
    Ok(Some(shape(&from_there.collect::<Vec<_>>())))
}

fn pair_value(pair: &Pair, key: &str) -> Value {
    let mut map = Map::new();
    map.insert("path".into(), pair.path.as_str().into());
    map.insert("key".into(), key.into());
    map.insert("value".into(), pair.value.as_str().into());
    map.insert("flags".into(), pair.flags.into());
    map.insert("create_index".into(), pair.create_index.into());
    map.insert("modify_index".into(), pair.modify_index.into());
    map.insert("lock_index".into(), pair.lock_index.into());
    map.insert("session".into(), pair.session.as_str().into());
    map.into()
}

/// A place in the tree of keys, which may have a value and keys below it too.
#[derive(Default)]
pub(super) struct Branch {
    value: Option<String>,
    below: BTreeMap<String, Branch>,
}

impl Branch {
    pub(super) fn add(&mut self, key: &str, value: &str) {
        let mut place = self;
        for segment in key.split('/').filter(|segment| !segment.is_empty()) {
            place = place.below.entry(segment.to_owned()).or_default();
        }
        // `a/` is a folder, and rarely has a value.
        if !key.ends_with('/') || !value.is_empty() {
            place.value = Some(value.to_owned());
        }
    }

    pub(super) fn into_map(self) -> Map {
        let mut map = Map::new();
        for (name, branch) in self.below {
            map.insert(name.into(), branch.into_value());
        }
        map
    }

    /// The text of a leaf; else an object, in which the place's own value, if it has one, is named by nothing.
    fn into_value(mut self) -> Value {
        let value = self.value.take();
        match value {
            Some(value) if self.below.is_empty() => value.into(),
            value => {
                let mut map = self.into_map();
                if let Some(value) = value {
                    map.insert("".into(), value.into());
                }
                map.into()
            }
        }
    }
}
