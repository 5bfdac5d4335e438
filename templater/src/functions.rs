//! What a template can call. Pure: the functions look into the given [`Values`] and note each thing they read.
//!
//! Templates are written in Tera 2 (`{{ value }}`, `{% for %}`, `{% if %}`, `{% set %}`, `{% include %}`,
//! `{% extends %}`, `{% component %}`, `{# comment #}`, `{%- trims white space -%}`). All arguments are named. Nothing is
//! HTML-escaped, an undefined variable is an error, and `x?.y or "default"` opts out of that.
//!
//! # Functions
//!
//! | call | gives |
//! |---|---|
//! | `service(name=, tag=, tags=[], status=, meta={}, live=false, near=, filter=, dc=, min=, raw=false)` | the instances of a service |
//! | `services(tag=, meta={}, counts=false, all=false, dc=)` | `name` and `tags` of each service; the registry's own, `consul`, only with `all` |
//! | `node(name=, dc=)` | a node with its `services`; undefined if there is none |
//! | `nodes(status=, near=, dc=)` | all nodes, or those whose own checks are `passing`, `warning` or `critical` |
//! | `datacenters()` | their names |
//! | `key(path=, dc=)` | a key's value; while the key is absent the file is not written |
//! | `key(path=, default=)` | the same, or `default` while the key is absent; an empty value is a value |
//! | `key_exists(path=, dc=)` | true or false |
//! | `kv_list(prefix=, recurse=false, min=0, dc=)` | the keys below `prefix`; with fewer than `min` the file is not written |
//! | `kv_tree(prefix=, dc=)` | the same as objects within objects, by the segments of the keys; values are texts |
//! | `file(path=, default=)` | a file's text, from the template's directory on; while it is absent and there is no `default`, nothing is written |
//! | `get_env(name=, default=)` | an environment variable; an error if it is unset and there is no `default` |
//! | `host_ip(family=4, interface=, cidr=)` | an address of this host |
//! | `now(format=, unix=false)` | when the data last changed, UTC: the same data give the same bytes |
//! | `range(end=, start=0, step_by=1)`, `throw(message=)` | Tera's own |
//!
//! `status` of `service` is `"passing"` unless given: one of `passing`, `warning`, `critical`, `draining`,
//! `maintenance`, a list of them, or `"any"`. An instance needs all of the `tags` and all pairs of `meta`. `live` leaves
//! only the version that `kvstore release` names, if an instance of it passes. `filter` is an expression of the
//! registry's (`Service.Meta.zone == "a"`), `near` a node to whom the instances are sorted. With fewer than `min` the
//! file is not written. `services` with `counts` or `meta` looks at the instances of each: `instances` and `passing` are
//! their numbers, and one of them must have all pairs of `meta`.
//!
//! An **instance** has `id`, `name`, `address` (its node's if it has none of its own), `port`, `tags` (sorted), `meta`,
//! `status`, `checks` (each `id`, `name`, `status`, `output`, `notes`, `kind`, `service_id`), `weights.passing`,
//! `weights.warning`, `tagged_addresses` (by name: `address`, `port`), `node`, `container.id` (none without a registrar of
//! ours), `dc`, `create_index`, `modify_index`.
//! The list is sorted by node, then id, so that the same data give the same bytes. Instances whose id, name or address
//! could break out of a configuration line are left out, with a warning in the log; `raw=true` includes them.
//! A **node** has `name`, `id`, `address`, `meta`, `tagged_addresses`, `dc`; from `node()` also `services`, each with
//! `id`, `name`, `address`, `port`, `tags`, `meta`. A **key** has `path`, `key` (below the prefix), `value`, `flags`,
//! `create_index`, `modify_index`, `lock_index`, `session`.
//!
//! # Filters and tests
//!
//! Beside Tera's own:
//!
//! | filter | makes |
//! |---|---|
//! | `by_tag` | `{tag: [..]}` of instances or services |
//! | `by_meta(keys=[..], default="")` | `{"v1_eu": [..]}` of instances, by the values of these keys |
//! | `by_key` | `{top: {rest: value}}` of keys |
//! | `addr(net=, family=)` | an instance's address on a Docker network, or of family 4 or 6 |
//! | `hostport` | an instance's `address:port`, IPv6 in brackets |
//! | `slots(n=)` | as many items: the instances, each where it mostly stays, and places without one (`slot`, `used`) |
//! | `has_all(of=[..])`, `has_any(of=[..])` | whether a list has them |
//! | `min`, `max` | the least or greatest of a list |
//! | `merge(with={..}, deep=false)`, `set_key(k=, v=)` | an object with more in it |
//! | `split_map(pair=",", kv=":")` | an object of a text such as `a:1,b:2` |
//! | `from_json`, `from_yaml`, `from_toml`, `json_encode(pretty=)`, `to_yaml`, `to_toml` | data of text, text of data |
//! | `bool` | true of `true`, `yes`, `on`, `1`; false of their opposites |
//! | `b64_encode`, `b64_decode`, `sha256`, `urlencode`, `regex_replace(pattern=, rep=)` | text of text |
//! | `dump(prefix="# ")` | anything as comment lines, to look at |
//! | `nginx_quote`, `haproxy_quote`, `ident` | what somebody else wrote, as one argument or as a name |
//! | `must_be(type=, min=, max=, one_of=[..])` | the same, or an error if it is not `int`, not in bounds, none of these |
//!
//! Test: `matching(pat=)`.
//!
//! ```text
//! backend web
//! {%- for s in service(name="web") %}
//!     server {{ s.id | ident }} {{ s | hostport }} check weight {{ s.weights.passing }}
//! {%- endfor %}
//! ```

mod catalog;
mod host;
mod keys;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tera::{Error, Kwargs, State, Tera, TeraResult, Value};

use crate::{
    filters,
    host::Host,
    values::{Answer, Dependency, Values},
};

/// What surrounds a template, whatever the registry says.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The host that renders.
    pub host: Arc<Host>,
    /// Where relative paths of files start.
    pub directory: PathBuf,
    /// What its files and lists must keep to.
    pub bounds: Bounds,
}

/// What a template may read, and must find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// All files lie below this directory, if it is given.
    pub file_root: Option<PathBuf>,
    /// How many instances a service must have.
    pub floor: Floor,
}

/// How many instances a service must have, and what comes of fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// So many at least, of every `service()` that does not say it itself.
    pub min_instances: usize,
    /// Fewer are an error; else the file is left as it is.
    pub fail: bool,
}

/// What one pass of a template may see, and what it has asked for.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) values: Values,
    /// Everything asked for, answered or not.
    pub(crate) used: BTreeSet<Arc<Dependency>>,
    /// Why the text must not be written although all is answered: a key that is absent, a list that is too short.
    pub(crate) blocked: Vec<String>,
    pub(crate) setting: Setting,
    /// When the values last changed.
    pub(crate) now: Timestamp,
    /// What there is to be a file for.
    pub(crate) items: Vec<Value>,
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

type Function = fn(&SharedScope, &Kwargs) -> TeraResult<Value>;

/// Our functions, with the arguments they take.
const OURS: &[(&str, &[&str], Function)] = &[
    (
        "service",
        &["name", "tag", "tags", "status", "meta", "live", "near", "filter", "dc", "min", "raw"],
        catalog::service,
    ),
    ("services", &["tag", "meta", "counts", "all", "dc"], catalog::services),
    ("node", &["name", "dc"], catalog::node),
    ("nodes", &["status", "near", "dc"], catalog::nodes),
    ("datacenters", &[], catalog::datacenters),
    ("key", &["path", "default", "dc"], keys::key),
    ("key_exists", &["path", "dc"], keys::key_exists),
    ("kv_list", &["prefix", "recurse", "min", "dc"], keys::kv_list),
    ("kv_tree", &["prefix", "dc"], keys::kv_tree),
    ("file", &["path", "default"], host::file),
    ("get_env", &["name", "default"], host::get_env),
    ("host_ip", &["family", "interface", "cidr"], host::host_ip),
    ("now", &["format", "unix"], host::now),
];

/// Every function there is and what it takes, Tera's own too.
pub(crate) fn known() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    const TERAS: [(&str, &[&str]); 2] = [("range", &["start", "end", "step_by"]), ("throw", &["message"])];
    OURS.iter().map(|(name, arguments, _)| (*name, *arguments)).chain(TERAS)
}

/// Adds every function and filter to `tera`; the functions look into `scope`.
pub(crate) fn register(tera: &mut Tera, scope: &SharedScope) {
    for (name, known, function) in OURS {
        let scope = scope.clone();
        tera.register_function(*name, move |kwargs: Kwargs, _: &State| {
            check_arguments(name, known, &kwargs)?;
            function(&scope, &kwargs)
        });
    }
    filters::register(tera);
}

/// Those given by `...rest` too, which cannot be seen before a pass.
fn check_arguments(function: &str, known: &[&str], kwargs: &Kwargs) -> TeraResult<()> {
    let names = kwargs.iter().filter_map(|(name, _)| name.as_str());
    match names.into_iter().find(|name| !known.contains(name)) {
        Some(unknown) => Err(Error::message(unknown_argument(&format!("{function}()"), unknown, known))),
        None => Ok(()),
    }
}

/// In words.
pub(crate) fn unknown_argument(of: &str, unknown: &str, known: &[&str]) -> String {
    let takes = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("{of} has no argument `{unknown}`; it takes {takes}")
}

fn empty_list() -> Value {
    Vec::<Value>::new().into()
}

#[cfg(test)]
#[path = "functions/tests.rs"]
mod tests;
