//! A configuration file as a tree whose parts know their line.
//!
//! The tree is read once, without places; where something is wrong the text is read again up to that point, so that
//! every fault of a file is found in one go and each names its line.

mod line;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Fault;
use line::{Step, line_of};

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    /// Of which places are not known once it is read.
    Hcl,
}

/// A file's content.
#[derive(Debug)]
pub(super) struct Document {
    /// As the user knows it: a path, or the name of a variable.
    name: String,
    text: String,
    format: Format,
    root: Map<String, Value>,
    /// Every key that somebody has asked for.
    #[cfg(test)]
    pub(super) asked: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

impl Document {
    /// Reads `text`, which must be a map or nothing at all.
    pub(super) fn parse(name: &str, text: String, format: Format) -> Result<Self, Fault> {
        let parsed = match format {
            Format::Json => serde_json::from_str::<Value>(&text).map_err(|e| (e.line(), e.to_string())),
            Format::Yaml => serde_yaml::from_str::<Value>(&text)
                .map_err(|e| (e.location().map_or(0, |at| at.line()), e.to_string())),
            Format::Hcl => hcl::from_str::<Value>(&text).map_err(|e| (line_of_hcl(&e), e.to_string())),
        };
        let fault = |line, why| Fault { place: place(name, line), key: String::new(), why };
        let root = match parsed.map_err(|(line, why)| fault(line, why))? {
            Value::Object(root) => root,
            Value::Null => Map::new(),
            other => return Err(fault(1, format!("expected keys and values, found {}", kind(&other)))),
        };
        Ok(Self {
            name: name.into(),
            text,
            format,
            root,
            #[cfg(test)]
            asked: std::cell::RefCell::default(),
        })
    }

    /// Its keys, for [`Section::finish`] to find those that nobody asked for.
    pub(super) fn section<'a>(&'a self, faults: &'a mut Vec<Fault>) -> Section<'a> {
        Section { document: self, faults, path: Vec::new(), map: self.root.clone(), known: Vec::new() }
    }

    /// Where `path` leads; if a key of it is missing, where that should be.
    fn place_of(&self, path: &[Step]) -> String {
        let line = (1..=path.len()).rev().find_map(|steps| line_of(&self.text, self.format, &path[..steps]));
        place(&self.name, line.unwrap_or(0))
    }
}

fn line_of_hcl(error: &hcl::Error) -> usize {
    if let hcl::Error::Parse(error) = error { error.location().line() } else { 0 }
}

fn place(name: &str, line: usize) -> String {
    if line == 0 { name.into() } else { format!("{name}:{line}") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
    }
}

/// A map of a document, whose keys are taken one by one. Faults go to the common list.
#[derive(Debug)]
pub(super) struct Section<'a> {
    document: &'a Document,
    faults: &'a mut Vec<Fault>,
    path: Vec<Step>,
    map: Map<String, Value>,
    /// What was asked for, to suggest when a key is unknown.
    known: Vec<&'static str>,
}

impl Section<'_> {
    fn remove(&mut self, key: &'static str) -> Option<Value> {
        #[cfg(test)]
        self.document.asked.borrow_mut().insert(self.dotted(key));
        self.find(key)
    }

    fn find(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// A value that serde can read.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &'static str, slot: &mut Option<T>) {
        let Some(value) = self.remove(key) else { return };
        match serde_json::from_value(value) {
            Ok(value) => *slot = Some(value),
            Err(error) => self.fault(key, error),
        }
    }

    /// A text that `parse` can read.
    pub(super) fn parse<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        slot: &mut Option<T>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) {
        let mut text: Option<String> = None;
        self.take(key, &mut text);
        if let Some(text) = text {
            match parse(&text) {
                Ok(value) => *slot = Some(value),
                Err(error) => self.fault(key, error),
            }
        }
    }

    /// Texts that `parse` can read, one or a list; added to those of earlier files.
    pub(super) fn parse_list<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        list: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) {
        let items = match self.remove(key) {
            None => return,
            Some(Value::Array(items)) => items,
            Some(single) => vec![single],
        };
        for (n, item) in items.into_iter().enumerate() {
            // Without the value: it may be a secret.
            let parsed = serde_json::from_value::<String>(item).map_err(|_| "expected text, in quotes".to_owned());
            match parsed.and_then(|text| parse(&text).map_err(|e| e.to_string())) {
                Ok(value) => list.push(value),
                Err(why) => self.fault_at(&[Step::Key(key.into()), Step::Item(n)], why),
            }
        }
    }

    /// A map below this one.
    pub(super) fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>)) {
        let mut read = Some(read);
        if matches!(self.map.get(key), Some(Value::Array(_))) {
            self.remove(key);
            self.fault(key, "expected keys and values, found a list");
        }
        self.sections(key, |section| {
            if let Some(read) = read.take() {
                read(section);
            }
        });
    }

    /// Maps below this one, a single one or a list of them.
    pub(super) fn sections(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_>)) {
        let (items, listed) = match self.remove(key) {
            None => return,
            Some(Value::Array(items)) => (items, true),
            Some(single) => (vec![single], false),
        };
        for (n, item) in items.into_iter().enumerate() {
            let mut steps = vec![Step::Key(key.into())];
            steps.extend(listed.then_some(Step::Item(n)));
            let Value::Object(map) = item else {
                self.fault_at(&steps, format!("expected keys and values, found {}", kind(&item)));
                continue;
            };
            let path = self.path.iter().cloned().chain(steps).collect();
            let mut section = Section { document: self.document, faults: self.faults, path, map, known: Vec::new() };
            read(&mut section);
            section.finish();
        }
    }

    /// Takes whichever of `keys` are there and names them in `names`.
    pub(super) fn ignore(&mut self, keys: &[&'static str], names: &mut Vec<String>) {
        for key in keys {
            if self.find(key).is_some() {
                names.push(self.dotted(key));
            }
        }
    }

    /// How many there are so far in the document.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Where it stands, and the keys that lead there.
    pub(super) fn place(&self) -> (String, String) {
        (self.document.place_of(&self.path), dotted(&self.path))
    }

    /// `key` with the sections around it: `ports.http`.
    pub(super) fn dotted(&self, key: &str) -> String {
        dotted(&self.path) + if self.path.is_empty() { "" } else { "." } + key
    }

    /// Something is wrong with `key`.
    pub(super) fn fault(&mut self, key: &str, why: impl fmt::Display) {
        self.fault_at(&[Step::Key(key.into())], why);
    }

    fn fault_at(&mut self, steps: &[Step], why: impl fmt::Display) {
        let path: Vec<_> = self.path.iter().chain(steps).cloned().collect();
        let place = self.document.place_of(&path);
        self.faults.push(Fault { place, key: dotted(&path), why: why.to_string() });
    }

    /// Whatever nobody has taken is unknown.
    pub(super) fn finish(mut self) {
        let mut left: Vec<_> = std::mem::take(&mut self.map).into_iter().map(|(key, _)| key).collect();
        left.sort(); // the map's order hangs on a feature of serde_json that other crates may turn on
        for key in left {
            let why = match self.known.iter().find(|known| is_typo(&key, known)) {
                Some(known) => format!("unknown key; did you mean {known:?}?"),
                None => "unknown key".into(),
            };
            self.fault(&key, why);
        }
    }
}

fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Item(n) => text.extend(["[", &n.to_string(), "]"]),
        }
    }
    text
}

/// Whether two words differ in case, by a swap, or by one letter more, less or other.
fn is_typo(a: &str, b: &str) -> bool {
    let fold = |word: &str| word.to_ascii_lowercase().replace(['-', '.'], "_").into_bytes();
    let (a, b) = (fold(a), fold(b));
    let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
    a.len() <= 1 && b.len() <= 1 || a.len() == 2 && b.len() == 2 && a[0] == b[1] && a[1] == b[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `name` as text and `ports.http` as number, and gives the faults.
    fn faults(text: &str, format: Format) -> Vec<String> {
        let mut faults = Vec::new();
        match Document::parse("f", text.into(), format) {
            Err(fault) => faults.push(fault),
            Ok(document) => {
                let mut top = document.section(&mut faults);
                top.take::<String>("name", &mut None);
                top.section("ports", |ports| ports.take::<u16>("http", &mut None));
                top.parse_list("addresses", &mut Vec::new(), str::parse::<std::net::IpAddr>);
                top.finish();
            }
        }
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_names_its_line() {
        let json = "{\n \"name\": 1,\n \"http\": 2,\n \"ports\": {\n  \"dns\": 1,\n  \"http\": \"x\"\n },\n \
                    \"addresses\": [\"::1\",\n  \"y\"],\n \"Name\": 7\n}";
        let expected = [
            "f:2  name: invalid type: integer `1`, expected a string",
            "f:6  ports.http: invalid type: string \"x\", expected u16",
            "f:5  ports.dns: unknown key",
            "f:9  addresses[1]: invalid IP address syntax",
            "f:10  Name: unknown key; did you mean \"name\"?",
            "f:3  http: unknown key",
        ];
        assert_eq!(faults(json, Format::Json), expected);
        assert_eq!(faults(json, Format::Yaml), expected);
        let yaml = "# comment\nname: 1\nports:\n  # another\n  htp: 1\naddresses:\n- ::1\n- y\n";
        assert_eq!(
            faults(yaml, Format::Yaml),
            [
                "f:2  name: invalid type: integer `1`, expected a string",
                "f:5  ports.htp: unknown key; did you mean \"http\"?",
                "f:8  addresses[1]: invalid IP address syntax",
            ]
        );
    }

    #[test]
    fn what_is_no_map_is_refused_with_its_line() {
        for (text, format, expected) in [
            ("", Format::Yaml, None),
            ("{}", Format::Json, None),
            ("ports: null", Format::Yaml, None),
            ("[1]", Format::Yaml, Some("f:1  expected keys and values, found a list")),
            ("ports: 7", Format::Yaml, Some("f:1  ports: expected keys and values, found a number")),
            ("{\n\"name\": }", Format::Json, Some("f:2  expected value at line 2 column 9")),
        ] {
            assert_eq!(faults(text, format), expected.map(str::to_owned).as_slice(), "{text}");
        }
        assert!(faults("a: [", Format::Yaml)[0].starts_with("f:"));
        assert!(faults("a: b: c", Format::Yaml)[0].starts_with("f:1"));
    }

    #[test]
    fn hcl_says_the_same_without_the_lines_of_keys() {
        let hcl = "# comment\nname = 1\nports {\n  dns = 1\n  http = \"x\"\n}\naddresses = [\"::1\", \"y\"]\n";
        assert_eq!(
            faults(hcl, Format::Hcl),
            [
                "f  name: invalid type: integer `1`, expected a string",
                "f  ports.http: invalid type: string \"x\", expected u16",
                "f  ports.dns: unknown key",
                "f  addresses[1]: invalid IP address syntax",
            ]
        );
        let broken = faults("name = \"a\"\nports {\n", Format::Hcl);
        assert!(broken.len() == 1 && broken[0].starts_with("f:"), "{broken:?}");
    }

    #[test]
    fn a_typo_is_one_slip_away() {
        for (a, b, expected) in [
            ("data_dri", "data_dir", true),
            ("data-dir", "data_dir", true),
            ("datadir", "data_dir", true),
            ("Datacenter", "datacenter", true),
            ("nodename", "node_id", false),
            ("x", "datacenter", false),
        ] {
            assert_eq!(is_typo(a, b), expected, "{a} {b}");
        }
    }
}
