//! A program's YAML or JSON file; every fault with its line.

use serde::de::DeserializeOwned;

/// What `text`, the file called `name`, sets. Key by key, so that one fault does not hide another.
pub fn read_settings<S: DeserializeOwned + Default>(name: &str, text: &str, faults: &mut Vec<String>) -> S {
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

/// `:LINE` of a key at the top level; nothing if it is written in a way that we do not find.
fn line_of(text: &str, key: &str) -> String {
    let starts = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '\t', '"', '\'', ',']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().position(starts).map_or(String::new(), |at| format!(":{}", at + 1))
}
