//! The configuration file: its keys and their types. Unknown keys are errors with their line.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use kvstore_client::{Access, Consistency, GoDuration, logging::LogFormat};
use nix::sys::signal::Signal;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    command::CommandLine,
    target::{Kind, absolute, runtime::Socket},
};

/// A whole file.
#[allow(clippy::struct_field_names)] // the names are the keys
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(deserialize_with = "one_or_many")]
    pub(super) registry: Option<Vec<String>>,
    #[serde(flatten)]
    pub(super) access: Access,
    pub(super) debounce: Option<DebounceEntry>,
    pub(super) state_dir: Option<PathBuf>,
    #[serde(deserialize_with = "log_format")]
    pub(super) log_format: Option<LogFormat>,
    pub(super) file_root: Option<PathBuf>,
    pub(super) consistency: Option<Consistency>,
    pub(super) max_drop: Option<Percent>,
    pub(super) drop_hold: Option<GoDuration>,
    pub(super) empty_hold: Option<GoDuration>,
    pub(super) keep_data: Option<bool>,
    pub(super) follow_templates: Option<bool>,
    pub(super) min_instances: Option<usize>,
    pub(super) on_empty: Option<OnEmpty>,
    pub(super) exec: Option<ExecEntry>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) http_addr: Option<SocketAddr>,
    pub(super) templates: Vec<TemplateEntry>,
}

/// The program to run beside.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExecEntry {
    pub(super) command: Option<CommandEntry>,
    pub(super) reload_signal: Option<SignalName>,
    pub(super) kill_signal: Option<SignalName>,
    pub(super) kill_timeout: Option<GoDuration>,
    pub(super) splay: Option<GoDuration>,
}

/// What comes of a service with too few instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnEmpty {
    /// The file is left as it is.
    Keep,
    /// What there is is rendered.
    Render,
    /// It is an error.
    Fail,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DebounceEntry {
    pub(super) quiet: Option<GoDuration>,
    pub(super) max: Option<GoDuration>,
}

/// One of `templates`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TemplateEntry {
    // What `FileEntry` has, for the usual case of one file; flattened by hand, since serde would lose unknown keys.
    pub(super) source: Option<PathBuf>,
    pub(super) inline: Option<String>,
    pub(super) for_each: Option<String>,
    pub(super) destination: Option<PathBuf>,
    pub(super) mode: Option<FileMode>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) create_dirs: bool,
    pub(super) files: Option<Vec<FileEntry>>,
    pub(super) target: TargetName,
    pub(super) check_cmd: Option<CommandEntry>,
    pub(super) stage_dir: Option<PathBuf>,
    pub(super) reload_cmd: Option<CommandEntry>,
    pub(super) reload_unit: Option<String>,
    pub(super) reload_signal: Option<SignalName>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) container: Option<String>,
    pub(super) runtime_socket: Option<SocketName>,
    pub(super) min_reload_interval: Option<GoDuration>,
    pub(super) command_timeout: Option<GoDuration>,
    pub(super) rollback: Option<bool>,
    pub(super) keep_versions: Option<usize>,
    pub(super) debounce: Option<DebounceEntry>,
    pub(super) min_instances: Option<usize>,
    pub(super) on_empty: Option<OnEmpty>,
}

impl TemplateEntry {
    /// The one file.
    pub(super) fn take_file(&mut self) -> FileEntry {
        FileEntry {
            source: self.source.take(),
            inline: self.inline.take(),
            for_each: self.for_each.take(),
            destination: self.destination.take(),
            mode: self.mode.take(),
            user: self.user.take(),
            group: self.group.take(),
            create_dirs: self.create_dirs,
        }
    }
}

/// One of the `files` that go live together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileEntry {
    pub(super) source: Option<PathBuf>,
    pub(super) inline: Option<String>,
    pub(super) for_each: Option<String>,
    pub(super) destination: Option<PathBuf>,
    pub(super) mode: Option<FileMode>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) create_dirs: bool,
}

impl File {
    /// Puts what `over` says over this one; relative paths of `over` start at `base`.
    pub(super) fn update(&mut self, over: Self, base: &Path) {
        let path = |p: PathBuf| absolute(base, &p);
        self.access = over.access.at(base).over(std::mem::take(&mut self.access));
        self.registry = over.registry.or(self.registry.take());
        self.debounce = over.debounce.or(self.debounce.take());
        self.state_dir = over.state_dir.map(path).or(self.state_dir.take());
        self.exec = over.exec.or(self.exec.take());
        self.pid_file = over.pid_file.map(path).or(self.pid_file.take());
        self.http_addr = over.http_addr.or(self.http_addr);
        self.log_format = over.log_format.or(self.log_format.take());
        self.file_root = over.file_root.map(path).or(self.file_root.take());
        self.consistency = over.consistency.or(self.consistency);
        self.max_drop = over.max_drop.or(self.max_drop);
        self.drop_hold = over.drop_hold.or(self.drop_hold);
        self.empty_hold = over.empty_hold.or(self.empty_hold);
        self.keep_data = over.keep_data.or(self.keep_data);
        self.follow_templates = over.follow_templates.or(self.follow_templates);
        self.min_instances = over.min_instances.or(self.min_instances);
        self.on_empty = over.on_empty.or(self.on_empty);
        self.templates.extend(over.templates);
    }
}

/// Reads `path`: JSON if it ends so, else YAML.
pub(super) fn read(path: &Path) -> Result<File, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("configuration {}: {e}", path.display()))?;
    parse(&text, path.extension().is_some_and(|e| e == "json"))
        .map_err(|e| format!("configuration {}: {e}", path.display()))
}

pub(super) fn parse(text: &str, json: bool) -> Result<File, String> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    if json {
        serde_json::from_str(text).map_err(|e| e.to_string())
    } else {
        serde_yaml::from_str(text).map_err(|e| {
            let message = e.to_string();
            let why = message.split(" at line ").next().unwrap_or_default();
            match culprit(text) {
                Some((key, line)) if !message.starts_with(&key) => format!("{key}: {why} at line {line}"),
                _ => message,
            }
        })
    }
}

/// The first key at the top that cannot be read, and its line: the parser forgets the name or the place of some.
fn culprit(text: &str) -> Option<(String, usize)> {
    let keys: serde_yaml::Mapping = serde_yaml::from_str(text).ok()?;
    let key = keys.into_iter().find_map(|(key, value)| {
        let name = key.as_str()?.to_owned();
        let alone = serde_yaml::Mapping::from_iter([(key, value)]);
        serde_yaml::from_value::<File>(alone.into()).is_err().then_some(name)
    })?;
    let names_it = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '"', '\'']);
        line.strip_prefix(&key).is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let line = text.lines().position(names_it)? + 1;
    Some((key, line))
}

/// Who reads the file: `auto`, `haproxy`, `nginx`, `command`, `signal`, `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TargetName {
    #[default]
    Auto,
    Known(Kind),
    Command,
    Signal,
    None,
}

impl<'de> Deserialize<'de> for TargetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(Self::Auto),
            "haproxy" => Ok(Self::Known(Kind::HaProxy)),
            "nginx" => Ok(Self::Known(Kind::Nginx)),
            "command" => Ok(Self::Command),
            "signal" => Ok(Self::Signal),
            "none" => Ok(Self::None),
            other => Err(de::Error::custom(format!(
                "{other:?} is no target; use auto, haproxy, nginx, command, signal or none"
            ))),
        }
    }
}

fn log_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogFormat>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "text" => Ok(Some(LogFormat::Text)),
        "json" => Ok(Some(LogFormat::Json)),
        other => Err(de::Error::custom(format!("{other:?} is no log format; use text or json"))),
    }
}

/// A part of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent(pub(super) u8);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_suffix('%').and_then(|n| n.trim().parse().ok()).filter(|n| *n <= 100);
        number
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no part of a whole; use a form such as 50%")))
    }
}

/// A signal, with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignalName(pub(super) Signal);

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_uppercase();
        let name = format!("SIG{}", name.strip_prefix("SIG").unwrap_or(&name));
        name.parse().map(Self).map_err(|_| format!("{text:?} is no signal; give its name, such as HUP"))
    }
}

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Where HAProxy takes commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketName(pub(super) Socket);

impl<'de> Deserialize<'de> for SocketName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

/// A file mode: octal, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMode(pub(super) u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;
        impl Visitor<'_> for Octal {
            type Value = FileMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an octal mode in quotes, such as \"0644\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<FileMode, E> {
                let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|m| *m <= 0o7777);
                mode.map(FileMode).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Octal)
    }
}

/// A command: a line for the shell, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandEntry(pub(super) CommandLine);

impl<'de> Deserialize<'de> for CommandEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let command = match Words::deserialize(deserializer)? {
            Words::One(line) => CommandLine::Shell(line),
            Words::Many(words) => CommandLine::Words(words),
        };
        match &command {
            CommandLine::Shell(line) if line.trim().is_empty() => Err(de::Error::custom("the command is empty")),
            CommandLine::Words(words) if words.is_empty() => Err(de::Error::custom("the command is empty")),
            _ => Ok(Self(command)),
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Some(match Words::deserialize(deserializer)? {
        Words::One(one) => vec![one],
        Words::Many(many) => many,
    }))
}

/// A string or a list of strings; by hand, since serde's untagged enums lose the place of a fault.
enum Words {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrList;
        impl<'de> Visitor<'de> for StringOrList {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Words::Many(words))
            }
        }
        deserializer.deserialize_any(StringOrList)
    }
}
