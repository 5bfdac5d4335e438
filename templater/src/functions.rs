//! What a template can call. Pure: the functions look into the given [`Values`] and note each thing they read.
//!
//! Templates are written in Tera 2 (`{{ value }}`, `{% for %}`, `{% if %}`, `{% set %}`, `{% include %}`,
//! `{% extends %}`, `{# comment #}`, `{%- trims white space -%}`). All arguments are named. Nothing is HTML-escaped, an
//! undefined variable is an error, and `x?.y or "default"` opts out of that.
//!
//! # Functions
//!
//! | call | gives |
//! |---|---|
//! | `service(name=, tag=, tags=[], status=, meta={}, raw=false)` | the instances of a service |
//! | `services(tag=, all=false)` | `name` and `tags` of each service; the registry's own, `consul`, only with `all` |
//! | `node(name=)` | a node with its `services`; undefined if there is none |
//! | `nodes()` | all nodes |
//! | `key(path=)` | a key's value; while the key is absent the file is not written |
//! | `key(path=, default=)` | the same, or `default` while the key is absent; an empty value is a value |
//! | `key_exists(path=)` | true or false |
//! | `kv_list(prefix=, recurse=false, min=0)` | the keys below `prefix`; with fewer than `min` the file is not written |
//! | `get_env(name=, default=)` | an environment variable; an error if it is unset and there is no `default` |
//! | `range(end=, start=0, step_by=1)`, `throw(message=)` | Tera's own |
//!
//! `status` of `service` is `"passing"` unless given: one of `passing`, `warning`, `critical`, `draining`,
//! `maintenance`, a list of them, or `"any"`. An instance needs all of the `tags` and all pairs of `meta`.
//!
//! An **instance** has `id`, `name`, `address` (its node's if it has none of its own), `port`, `tags` (sorted), `meta`,
//! `status`, `checks` (each `id`, `name`, `status`, `output`, `notes`, `kind`, `service_id`), `weights.passing`,
//! `weights.warning`, `tagged_addresses` (by name: `address`, `port`), `node`, `dc`, `create_index`, `modify_index`.
//! The list is sorted by node, then id, so that the same data give the same bytes. Instances whose id, name or address
//! could break out of a configuration line are left out, with a warning in the log; `raw=true` includes them.
//! A **node** has `name`, `id`, `address`, `meta`, `tagged_addresses`, `dc`; from `node()` also `services`, each with
//! `id`, `name`, `address`, `port`, `tags`, `meta`. A **key** has `path`, `key` (below the prefix), `value`, `flags`,
//! `create_index`, `modify_index`, `lock_index`, `session`.
//!
//! # Filters and tests
//!
//! Beside Tera's own: `by_tag` (instances or services to `{tag: [..]}`), `by_key` (keys to `{top: {rest: value}}`),
//! `from_json`, `from_yaml`, `json_encode(pretty=)`, `b64_encode`, `b64_decode`, `regex_replace(pattern=, rep=)`,
//! `urlencode`, and for text that somebody else wrote: `nginx_quote`, `haproxy_quote`, `ident`. Test: `matching(pat=)`.
//!
//! ```text
//! backend web
//! {%- for s in service(name="web") %}
//!     server {{ s.id | ident }} {{ s.address }}:{{ s.port }} check weight {{ s.weights.passing }}
//! {%- endfor %}
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tera::{Error, Kwargs, State, Tera, TeraResult, Value, value::Map};

use crate::{
    filters,
    values::{Answer, Dependency, Instance, Item, Pair, Values},
};

/// What one pass of a template may see, and what it has asked for.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) values: Values,
    /// Everything asked for, answered or not.
    pub(crate) used: BTreeSet<Arc<Dependency>>,
    /// Why the text must not be written although all is answered: a key that is absent, a list that is too short.
    pub(crate) blocked: Vec<String>,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

/// A scope that the functions of one `Tera` share; its owner fills it before a pass and empties it afterwards.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedScope(Arc<Mutex<Scope>>);

impl SharedScope {
    /// For the moment of one look-up.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Scope> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `dependency` is read; its answer, if there is one.
    fn read(&self, dependency: Dependency) -> Option<Arc<Answer>> {
        let mut scope = self.lock();
        let answer = scope.values.get(&dependency).cloned();
        scope.used.insert(Arc::new(dependency));
        answer
    }
}

/// The functions that [`register`] adds, with the arguments they take: for messages.
pub(crate) const FUNCTIONS: &[(&str, &[&str])] = &[
    ("service", &["name", "tag", "tags", "status", "meta", "raw"]),
    ("services", &["tag", "all"]),
    ("node", &["name"]),
    ("nodes", &[]),
    ("key", &["path", "default"]),
    ("key_exists", &["path"]),
    ("kv_list", &["prefix", "recurse", "min"]),
    ("get_env", &["name", "default"]),
];

/// Adds every function and filter to `tera`; the functions look into `scope`.
pub(crate) fn register(tera: &mut Tera, scope: &SharedScope) {
    let mut add = |name: &'static str, function: fn(&SharedScope, &Kwargs) -> TeraResult<Value>| {
        let scope = scope.clone();
        let checked = move |kwargs: Kwargs, _: &State| {
            check_arguments(name, &kwargs)?;
            function(&scope, &kwargs)
        };
        tera.register_function(name, checked);
    };
    add("service", service);
    add("services", services);
    add("node", node);
    add("nodes", nodes);
    add("key", key);
    add("key_exists", key_exists);
    add("kv_list", kv_list);
    add("get_env", get_env);
    filters::register(tera);
}

fn check_arguments(function: &str, kwargs: &Kwargs) -> TeraResult<()> {
    let known = FUNCTIONS.iter().find(|(name, _)| *name == function).map_or(&[][..], |f| f.1);
    for (name, _) in kwargs.iter() {
        let name = name.as_str().unwrap_or_default();
        if !known.contains(&name) {
            let takes = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::message(format!("{function}() has no argument `{name}`; it takes {takes}")));
        }
    }
    Ok(())
}

fn service(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    if name.is_empty() {
        return Err(Error::message("service(): `name` is empty"));
    }
    let wanted = Wanted::from(kwargs)?;
    let answer = scope.read(Dependency::Service { name: name.to_owned(), passing: wanted.status == Statuses::Passing });
    let Some(Answer::Instances { safe, unsafe_ }) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let raw = if kwargs.get::<bool>("raw")?.unwrap_or(false) { &unsafe_[..] } else { &[] };
    let mut found: Vec<&Item<Instance>> = safe.iter().chain(raw).filter(|i| wanted.fits(&i.data)).collect();
    if !raw.is_empty() {
        found.sort_by(|a, b| (&a.data.node.name, &a.data.id).cmp(&(&b.data.node.name, &b.data.id)));
    }
    Ok(found.into_iter().map(|i| i.value.clone()).collect::<Vec<_>>().into())
}

const STATUSES: [&str; 5] = ["passing", "warning", "critical", "draining", "maintenance"];

#[derive(PartialEq)]
enum Statuses {
    /// The registry filters.
    Passing,
    Any,
    Of(Vec<String>),
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
        let meta = kwargs.get::<&Map>("meta")?;
        let meta = meta.into_iter().flatten().map(|(k, v)| (k.to_string(), v.to_string()));
        Ok(Self { status: Statuses::from(kwargs)?, tags, meta: meta.collect() })
    }

    fn fits(&self, instance: &Instance) -> bool {
        let status = match &self.status {
            Statuses::Passing => instance.status == "passing",
            Statuses::Any => true,
            Statuses::Of(list) => list.iter().any(|s| s == instance.status),
        };
        status
            && self.tags.iter().all(|t| instance.tags.contains(t))
            && self.meta.iter().all(|(k, v)| instance.meta.get(k) == Some(v))
    }
}

impl Statuses {
    fn from(kwargs: &Kwargs) -> TeraResult<Self> {
        let Some(value) = kwargs.get::<&Value>("status")? else {
            return Ok(Self::Passing);
        };
        let list: Vec<String> = match value.as_array() {
            Some(values) => values.iter().map(ToString::to_string).collect(),
            None => vec![value.to_string()],
        };
        if let Some(bad) = list.iter().find(|s| *s != "any" && !STATUSES.contains(&s.as_str())) {
            return Err(Error::message(format!("service(): status {bad:?} is none of any, {}", STATUSES.join(", "))));
        }
        Ok(match &list[..] {
            [one] if one == "passing" => Self::Passing,
            list if list.iter().any(|s| s == "any") => Self::Any,
            _ => Self::Of(list),
        })
    }
}

fn services(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let tag = kwargs.get::<String>("tag")?;
    let all = kwargs.get::<bool>("all")?.unwrap_or(false);
    let answer = scope.read(Dependency::Services);
    let Some(Answer::Services(names)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let wanted = names
        .iter()
        .filter(|s| (all || s.data.name != "consul") && tag.as_ref().is_none_or(|t| s.data.tags.contains(t)));
    Ok(wanted.map(|s| s.value.clone()).collect::<Vec<_>>().into())
}

fn node(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    let answer = scope.read(Dependency::Node(name.to_owned()));
    Ok(match answer.as_deref() {
        Some(Answer::Node(Some(node))) => node.value.clone(),
        _ => Value::undefined(),
    })
}

#[allow(clippy::unnecessary_wraps)] // like the others
fn nodes(scope: &SharedScope, _: &Kwargs) -> TeraResult<Value> {
    let answer = scope.read(Dependency::Nodes);
    let Some(Answer::Nodes(nodes)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    Ok(nodes.iter().map(|n| n.value.clone()).collect::<Vec<_>>().into())
}

/// A registry key has no leading slash; a template that writes one means the same key.
fn path_of(kwargs: &Kwargs) -> TeraResult<String> {
    let path = kwargs.must_get::<&str>("path")?.trim_start_matches('/');
    if path.is_empty() {
        return Err(Error::message("`path` is empty; give the path of a key"));
    }
    Ok(path.to_owned())
}

fn key(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let path = path_of(kwargs)?;
    let default = kwargs.get::<&Value>("default")?;
    let answer = scope.read(Dependency::Key(path.clone()));
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

fn key_exists(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let answer = scope.read(Dependency::Key(path_of(kwargs)?));
    Ok(matches!(answer.as_deref(), Some(Answer::Key(Some(_)))).into())
}

fn kv_list(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let prefix = kwargs.must_get::<&str>("prefix")?.trim_start_matches('/');
    let recurse = kwargs.get::<bool>("recurse")?.unwrap_or(false);
    let min = kwargs.get::<usize>("min")?.unwrap_or(0);
    let answer = scope.read(Dependency::Prefix(prefix.to_owned()));
    let Some(Answer::Pairs(pairs)) = answer.as_deref() else {
        return Ok(empty_list());
    };
    let below = pairs.iter().filter_map(|pair| {
        let key = pair.path.strip_prefix(prefix)?.trim_start_matches('/');
        (!key.is_empty() && (recurse || !key.contains('/'))).then(|| pair_value(pair, key))
    });
    let found: Vec<Value> = below.collect();
    if found.len() < min {
        let why = format!("{} keys are below {prefix:?}, {min} are required", found.len());
        scope.lock().blocked.push(why);
    }
    Ok(found.into())
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

fn get_env(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    let default = kwargs.get::<&Value>("default")?;
    match (scope.lock().environment.get(name), default) {
        (Some(value), _) => Ok(value.as_str().into()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => {
            Err(Error::message(format!("environment variable {name} is not set; set it or give `default`")))
        }
    }
}

fn empty_list() -> Value {
    Vec::<Value>::new().into()
}

#[cfg(test)]
#[path = "functions/tests.rs"]
mod tests;
