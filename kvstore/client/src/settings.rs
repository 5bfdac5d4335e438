//! What a program's settings are read by: its YAML or JSON file, where every fault has its line, and texts of which each
//! is one of a few.

use std::{fmt, path::Path};

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The name and the text of the file that a program was given, if it was given one.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn file(path: Option<&Path>) -> Result<Option<(String, String)>, String> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    Ok(Some((path.display().to_string(), text)))
}

/// What `text`, the file called `name`, sets. Key by key, so that one fault does not hide another.
pub fn read<S: DeserializeOwned + Default>(name: &str, text: &str, faults: &mut Vec<String>) -> S {
    let all: serde_yaml::Value = match serde_yaml::from_str(text) {
        Ok(all) => all,
        Err(error) => {
            let line = error.location().map_or(String::new(), |at| format!(":{}", at.line()));
            faults.push(format!("{name}{line}: this is no YAML or JSON: {error}"));
            return S::default();
        }
    };
    let keys = match all {
        serde_yaml::Value::Mapping(keys) => keys,
        serde_yaml::Value::Null => return S::default(),
        _ => {
            faults.push(format!("{name}: it is no list of keys and values"));
            return S::default();
        }
    };
    let mut good = serde_yaml::Mapping::new();
    for (key, value) in keys {
        let key = key.as_str().unwrap_or_default().to_owned();
        let one = serde_yaml::Mapping::from_iter([(key.clone().into(), value.clone())]);
        match serde_yaml::from_value::<S>(one.into()) {
            Ok(_) => drop(good.insert(key.into(), value)),
            Err(error) => {
                let error = error.to_string();
                let why = error.strip_prefix(&format!("{key}: ")).unwrap_or(&error);
                faults.push(format!("{name}{}: {key}: {why}", line_of(text, &key)));
            }
        }
    }
    // What is left to go wrong is one key in two spellings.
    serde_yaml::from_value(good.into()).unwrap_or_else(|error| {
        faults.push(format!("{name}: {error}"));
        S::default()
    })
}

/// A list of one may be written without its brackets; for serde's `deserialize_with`.
///
/// # Errors
/// For what is neither.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

/// The value that `text` names, or the usual one; another text is a fault that tells all there are.
pub fn choice<T: ValueEnum + Default>(key: &str, text: Option<String>, faults: &mut Vec<String>) -> T {
    let Some(text) = text else { return T::default() };
    let parsed = T::from_str(&text, false).map_err(|_| {
        let all: Vec<_> =
            T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
        format!("{key}: {text:?} is none of {}", all.join(", "))
    });
    or_fault(parsed, faults).unwrap_or_default()
}

/// What there is; else its fault is one of the `faults`.
pub fn or_fault<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// `:LINE` of a key at the top level; nothing if it is written in a way that we do not find.
fn line_of(text: &str, key: &str) -> String {
    let starts = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '\t', '"', '\'', ',']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().position(starts).map_or(String::new(), |at| format!(":{}", at + 1))
}
