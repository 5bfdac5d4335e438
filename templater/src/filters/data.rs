//! Of lists, objects and whole documents.
#![allow(clippy::needless_pass_by_value)] // the engine hands them over

use serde::Serialize;
use tera::{Error, Kwargs, State, TeraResult, Value, value::Map};

pub(super) fn has_all(list: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<bool> {
    Ok(kwargs.must_get::<&[Value]>("of")?.iter().all(|wanted| list.contains(wanted)))
}

pub(super) fn has_any(list: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<bool> {
    Ok(kwargs.must_get::<&[Value]>("of")?.iter().any(|wanted| list.contains(wanted)))
}

pub(super) fn min(list: &[Value], _: Kwargs, state: &State) -> TeraResult<Value> {
    state.call_filter("first", &sorted("min", list, state)?, Kwargs::default())
}

pub(super) fn max(list: &[Value], _: Kwargs, state: &State) -> TeraResult<Value> {
    state.call_filter("last", &sorted("max", list, state)?, Kwargs::default())
}

fn sorted(filter: &str, list: &[Value], state: &State) -> TeraResult<Value> {
    if list.is_empty() {
        return Err(Error::message(format!("{filter}: the list is empty")));
    }
    state.call_filter("sort", &list.into(), Kwargs::default())
}

/// What `with` has wins; with `deep` objects within objects are merged too.
pub(super) fn merge(map: &Map, kwargs: Kwargs, _: &State) -> TeraResult<Map> {
    let with = kwargs.must_get::<&Map>("with")?;
    Ok(merged(map, with, kwargs.get::<bool>("deep")?.unwrap_or(false)))
}

fn merged(base: &Map, with: &Map, deep: bool) -> Map {
    let mut map = base.clone();
    for (key, value) in with {
        let both = map.get(key).and_then(Value::as_map).zip(value.as_map()).filter(|_| deep);
        let value = both.map_or_else(|| value.clone(), |(old, new)| merged(old, new, true).into());
        map.insert(key.clone(), value);
    }
    map
}

pub(super) fn set_key(map: &Map, kwargs: Kwargs, _: &State) -> TeraResult<Map> {
    let mut map = map.clone();
    map.insert(kwargs.must_get::<String>("k")?.into(), kwargs.must_get::<Value>("v")?);
    Ok(map)
}

/// A pair without `kv` has an empty value.
pub(super) fn split_map(text: &str, kwargs: Kwargs, _: &State) -> TeraResult<Map> {
    let pair = kwargs.get::<&str>("pair")?.unwrap_or(",");
    let kv = kwargs.get::<&str>("kv")?.unwrap_or(":");
    let pairs = text.split(pair).map(str::trim).filter(|p| !p.is_empty());
    let pairs = pairs.map(|p| p.split_once(kv).unwrap_or((p, "")));
    Ok(pairs.map(|(k, v)| (k.trim().to_owned().into(), Value::from(v.trim()))).collect())
}

pub(super) fn bool(value: Value, _: Kwargs, _: &State) -> TeraResult<bool> {
    match value.to_string().to_lowercase().as_str() {
        "true" | "t" | "yes" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "off" | "0" | "" => Ok(false),
        other => Err(Error::message(format!("bool: {other:?} is neither true nor false"))),
    }
}

/// The empty text, which is what an unanswered key gives, is nothing.
pub(super) fn from_json(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    if text.trim().is_empty() {
        return Ok(Value::none());
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| failed("from_json", &e))?;
    Value::try_from_serializable(&value)
}

pub(super) fn from_yaml(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| failed("from_yaml", &e))?;
    Value::try_from_serializable(&value)
}

pub(super) fn from_toml(text: &str, _: Kwargs, _: &State) -> TeraResult<Value> {
    let value: toml::Table = toml::from_str(text).map_err(|e| failed("from_toml", &e))?;
    Value::try_from_serializable(&value)
}

pub(super) fn to_yaml(value: &Value, _: Kwargs, _: &State) -> TeraResult<String> {
    serde_yaml::to_string(value).map_err(|e| failed("to_yaml", &e))
}

pub(super) fn to_toml(value: &Map, _: Kwargs, _: &State) -> TeraResult<String> {
    toml::to_string(&ByName(value)).map_err(|e| failed("to_toml", &e))
}

/// A table's keys are texts.
struct ByName<'a>(&'a Map);

impl Serialize for ByName<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.to_string(), value)))
    }
}

fn failed(filter: &str, error: &dyn std::fmt::Display) -> Error {
    Error::message(format!("{filter}: {error}"))
}

/// As JSON, each line behind `prefix`.
pub(super) fn dump(value: &Value, kwargs: Kwargs, _: &State) -> TeraResult<String> {
    let prefix = kwargs.get::<&str>("prefix")?.unwrap_or("# ");
    let json = serde_json::to_string_pretty(value).map_err(|e| failed("dump", &e))?;
    Ok(json.lines().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n"))
}

/// `value` itself, if it is what the arguments say; a number if it is to be one.
pub(super) fn must_be(value: Value, kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let text = value.to_string();
    let refused = |what: String| Err(Error::message(format!("must_be: {text:?} is not {what}")));
    if let Some(of) = kwargs.get::<Vec<String>>("one_of")?
        && !of.contains(&text)
    {
        return refused(format!("one of {}", of.join(", ")));
    }
    let (min, max) = (kwargs.get::<i64>("min")?, kwargs.get::<i64>("max")?);
    match kwargs.get::<&str>("type")? {
        None if min.is_none() && max.is_none() => return Ok(value),
        None | Some("int") => {}
        Some(other) => return Err(Error::message(format!("must_be: type {other:?} is not known; it is int"))),
    }
    let Ok(number) = text.trim().parse::<i64>() else { return refused("a whole number".into()) };
    if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
        let bound = |bound: Option<i64>, none: &str| bound.map_or(none.to_owned(), |b| b.to_string());
        return refused(format!("between {} and {}", bound(min, "-∞"), bound(max, "∞")));
    }
    Ok(number.into())
}
