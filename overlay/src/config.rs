//! Flags > environment > file -> [`Config`]; all faults are told at once. Nothing is opened but the files named.

mod settings;

use std::{fmt, path::PathBuf, time::Duration};

use clap::ValueEnum;
use kvstore_client::{Access, Client, ClientConfig, read_settings, with_causes};

pub use settings::Settings;

use crate::state::DEFAULT_DIR;

/// For one call to the registry.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8500";
/// A name travels in records and stands in tables.
const MAX_NAME_BYTES: usize = 64;

/// What the daemon needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the registry.
    pub registry: ClientConfig,
    /// What this host is called.
    pub name: String,
    /// Where key, secrets and state are kept.
    pub state_dir: PathBuf,
    /// How to log.
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names say it
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\noverlay: "))
    }
}

impl Config {
    /// From flags and environment, and the text of a file for what they leave open; `host` is what the system calls it.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn new(flags: Settings, file: Option<(&str, &str)>, host: &str) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let file = file.map(|(name, text)| read_settings(name, text, &mut faults)).unwrap_or_default();
        let config = check(flags.over(file), host, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }
}

fn check(settings: Settings, host: &str, faults: &mut Vec<String>) -> Config {
    Config {
        registry: registry(settings.registry, settings.access, faults),
        name: name(settings.name.as_deref().unwrap_or(host), faults),
        state_dir: settings.state_dir.unwrap_or_else(|| DEFAULT_DIR.into()),
        log_format: choice("log-format", settings.log_format, faults),
    }
}

fn name(text: &str, faults: &mut Vec<String>) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(good) {
        faults
            .push(format!("name: {text:?} is no name of a host: letters, digits, _ . and -, {MAX_NAME_BYTES} at most"));
    }
    text.to_owned()
}

/// What is empty, such as a variable that is set to nothing, says nothing.
fn registry(given: Vec<String>, access: Access, faults: &mut Vec<String>) -> ClientConfig {
    let mut addresses: Vec<_> = given.into_iter().filter(|address| !address.trim().is_empty()).collect();
    if addresses.is_empty() {
        addresses.push(DEFAULT_REGISTRY.to_owned());
    }
    let config = or_fault(access.config(addresses).map_err(|error| error.to_string()), faults).unwrap_or_default();
    let config = ClientConfig { timeout: CALL_LIMIT, ..config };
    if let Err(error) = Client::new(&config) {
        faults.push(format!("registry: {}", with_causes(&error)));
    }
    config
}

fn choice<T: ValueEnum + Default>(key: &str, text: Option<String>, faults: &mut Vec<String>) -> T {
    let Some(text) = text else { return T::default() };
    let parsed = T::from_str(&text, false).map_err(|_| {
        let all: Vec<_> =
            T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
        format!("{key}: {text:?} is none of {}", all.join(", "))
    });
    or_fault(parsed, faults).unwrap_or_default()
}

fn or_fault<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        Config::new(Settings::default(), Some(("o.yaml", text)), "h1").unwrap_err().0
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_that_over_the_defaults() {
        let none = Config::new(Settings::default(), None, "h1").unwrap();
        assert_eq!(
            (none.name.as_str(), none.registry.addresses.as_slice()),
            ("h1", &[DEFAULT_REGISTRY.to_owned()][..])
        );
        let file = "name: fromfile\nregistry: [http://a:1, 'unix:///b']\nstate-dir: /x\n";
        let flags = Settings { name: Some("flag".into()), ..Settings::default() };
        let both = Config::new(flags, Some(("o.yaml", file)), "h1").unwrap();
        assert_eq!((both.name.as_str(), both.state_dir.to_str()), ("flag", Some("/x")));
        assert_eq!(both.registry.addresses, ["http://a:1", "unix:///b"]);
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_lines() {
        let told = faults("registry: ftp://x\nname: a b\nlog-format: xml\nnosuch: 1\n");
        for part in ["o.yaml:4: nosuch", "registry: \"ftp://x\"", "name: \"a b\"", "log-format: \"xml\""] {
            assert!(told.iter().any(|fault| fault.starts_with(part)), "{part} in {told:?}");
        }
    }
}
