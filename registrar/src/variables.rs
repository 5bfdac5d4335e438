//! `SERVICE_*` variables and labels of a container, as they apply to one of its ports. Pure.

use std::collections::BTreeMap;

use crate::container::{Container, Port};

/// What `SERVICE_*` says about one port. Keys are lower case and without the prefix: `name`, `check_http`.
///
/// A variable for the port (`SERVICE_80_NAME`) wins over a general one, one for port and protocol
/// (`SERVICE_53_UDP_NAME`) over both; among equals a label wins over the environment.
#[derive(Debug, Default)]
pub struct Variables<'a> {
    values: BTreeMap<String, (Scope, &'a str)>,
}

/// How closely a variable fits; the order is the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    General,
    Port,
    PortAndProtocol,
}

impl<'a> Variables<'a> {
    /// Those that apply to `port`, or the general ones if `None`.
    pub fn of(container: &'a Container, port: Option<Port>) -> Self {
        let mut found = Self::default();
        let labels = container.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let env = container.env.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in env.chain(labels) {
            let Some(key) = key.strip_prefix("SERVICE_") else { continue };
            if let Some((scope, key)) = applies(&key.to_lowercase(), port) {
                found.put(scope, key, value);
            }
        }
        found
    }

    fn put(&mut self, scope: Scope, key: String, value: &'a str) {
        let old = self.values.get(&key).map(|(scope, _)| *scope);
        if old.is_none_or(|old| old <= scope) {
            self.values.insert(key, (scope, value));
        }
    }

    /// The value of `key`; one that is set but empty counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether `key` was given for this very port.
    pub fn is_for_port(&self, key: &str) -> bool {
        self.get(key).is_some() && self.values.get(key).is_some_and(|(scope, _)| *scope > Scope::General)
    }

    /// `key` read as yes or no. Any other word counts as yes, as it did in Registrator, and is complained of.
    pub fn flag(&self, key: &str, warnings: &mut Vec<String>) -> Option<bool> {
        let value = self.get(key)?;
        Some(boolean(value).unwrap_or_else(|| {
            let key = key.to_uppercase();
            warnings.push(format!("SERVICE_{key}: {value:?} is neither yes nor no; taken as yes"));
            true
        }))
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, (_, value))| (key.as_str(), *value))
    }
}

/// With which precedence `key` applies to `port`, and what it is called without the port.
fn applies(key: &str, port: Option<Port>) -> Option<(Scope, String)> {
    let Some((number, rest)) = key.split_once('_') else {
        return Some((Scope::General, key.to_owned()));
    };
    if rest.is_empty() || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Some((Scope::General, key.to_owned()));
    }
    let port = port.filter(|p| number.parse() == Ok(p.number))?;
    for protocol in ["tcp", "udp", "sctp"] {
        if let Some(rest) = rest.strip_prefix(protocol).and_then(|r| r.strip_prefix('_')) {
            return (protocol == port.protocol.as_str()).then(|| (Scope::PortAndProtocol, rest.to_owned()));
        }
    }
    Some((Scope::Port, rest.to_owned()))
}

/// The usual words for yes and no.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Splits at commas; `\,` is a comma that belongs to the item. Empty items are dropped, the order is kept.
pub fn list(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                items.last_mut().expect("never empty").push(',');
            }
            ',' => items.push(String::new()),
            c => items.last_mut().expect("never empty").push(c),
        }
    }
    let trimmed = items.iter().map(|item| item.trim().to_owned());
    trimmed.filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `variables` are `KEY=value` of the environment, or of the labels after a `+`.
    fn check(variables: &[&str], port: &str, key: &str, expected: Option<&str>) {
        let mut labels = serde_json::Map::new();
        let mut env = Vec::new();
        for variable in variables {
            match variable.strip_prefix('+') {
                Some(label) => {
                    let (key, value) = label.split_once('=').unwrap();
                    labels.insert(key.into(), value.into());
                }
                None => env.push(*variable),
            }
        }
        let container = crate::container::tests::container(&json!({"Config": {"Env": env, "Labels": labels}}));
        let found = Variables::of(&container, Some(port.parse().unwrap()));
        assert_eq!(found.get(key), expected, "{variables:?} {port} {key}");
    }

    #[test]
    fn the_closest_variable_wins_then_the_label() {
        check(&["SERVICE_NAME=env", "+SERVICE_NAME=label"], "80", "name", Some("label"));
        check(&["SERVICE_80_NAME=port", "+SERVICE_NAME=label"], "80", "name", Some("port"));
        check(&["SERVICE_80_NAME=port", "+SERVICE_80_NAME=label"], "80", "name", Some("label"));
        check(&["SERVICE_80_NAME=port", "SERVICE_NAME=all"], "81", "name", Some("all"));
        check(&["SERVICE_53_UDP_NAME=u", "+SERVICE_53_NAME=both"], "53/udp", "name", Some("u"));
        check(&["SERVICE_53_UDP_NAME=u", "+SERVICE_53_NAME=both"], "53/tcp", "name", Some("both"));
        check(&["SERVICE_80_NAME=other"], "8080", "name", None);
        check(&["SERVICE_NAME=a", "SERVICE_NAME=b"], "80", "name", Some("b"));
    }

    #[test]
    fn odd_keys_are_general_ones() {
        check(&["SERVICE_80=x"], "80", "80", Some("x"));
        check(&["SERVICE_80_=x"], "80", "80_", Some("x"));
        check(&["SERVICE_=x"], "80", "", Some("x"));
        check(&["SERVICE_99999999999999999999_NAME=x"], "80", "name", None);
        check(&["SERVICE_NAME=  "], "80", "name", None);
        check(&["service_name=x"], "80", "name", None);
    }

    #[test]
    fn registrator_took_false_for_true() {
        for (value, yes) in [("false", false), ("0", false), ("No", false), ("true", true), ("1", true), ("ok", true)] {
            let mut found = Variables::default();
            found.put(Scope::General, "ignore".into(), value);
            let mut warnings = Vec::new();
            assert_eq!(found.flag("ignore", &mut warnings), Some(yes), "{value}");
            assert_eq!(warnings.len(), usize::from(value == "ok"));
        }
    }

    #[test]
    fn registrator_reversed_the_tags() {
        for (text, items) in [
            (r"v1,blue,esc\,aped", &["v1", "blue", "esc,aped"][..]),
            (" a , ,b,", &["a", "b"]),
            (r"back\slash\\,x", &[r"back\slash\,x"]),
            ("", &[]),
        ] {
            assert_eq!(list(text), items, "{text}");
        }
    }
}
