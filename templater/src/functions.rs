//! What a template can call. Pure: the functions look into the given [`Values`] and note each thing they read.
//!
#![doc = include_str!("functions.md")]

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
mod tests;
