//! Flags, environment and files to one checked [`Config`]; tells all faults at once.
//!
#![doc = include_str!("config.md")]

mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod jobs;
mod names;
mod spec;
mod watch;

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kvstore_client::{Access, Client, ClientConfig, GoDuration, logging::LogFormat, with_causes};
use nix::sys::signal::Signal;

use crate::{
    cli::RunArgs, command::CommandLine, exec::ExecSpec, guard::DropPolicy, quiescence::Debounce, target::absolute,
};
use file::{DebounceEntry, ExecEntry, File, SignalName, TemplateEntry};
use jobs::Defaults;
use names::{spread, templates_in};

pub use spec::{DestinationSpec, EachSpec, JobSpec, SourceSpec, TemplateSpec};
pub use watch::ConfigWatch;

/// Everything a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the registry is, and the token.
    pub registry: ClientConfig,
    /// What to render.
    pub jobs: Vec<JobSpec>,
    /// For how long, and with what effect.
    pub mode: Mode,
    /// With [`Mode::Once`] and [`Mode::DryRun`]: how long to wait for data.
    pub timeout: Duration,
    /// How the log looks.
    pub log_format: LogFormat,
    /// Which losses are not believed at once.
    pub drops: DropPolicy,
    /// Directories of which every template is rendered.
    pub template_dirs: Vec<PathBuf>,
    /// A program to run beside.
    pub exec: Option<ExecSpec>,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Where to tell how it does.
    pub http: Option<SocketAddr>,
}

/// For how long, and with what effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until told to stop.
    Daemon,
    /// Until all is rendered.
    Once,
    /// Until all is rendered; writes and reloads nothing.
    DryRun,
}

/// What is wrong with the configuration: every fault, each with its place. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct ConfigError {
    /// One sentence each.
    pub faults: Vec<String>,
}

/// Reads the files that `args` name and puts flags over them. Relative paths of flags are relative to `directory`, those
/// in a file to the file.
///
/// # Errors
/// [`ConfigError`].
pub fn load(args: &RunArgs, directory: &Path) -> Result<Config, ConfigError> {
    let mut faults = Faults::default();
    let mut merged = File::default();
    let mut templates = Vec::new();
    for path in config_files(&args.configs, directory, &mut faults) {
        if let Some(mut file) = faults.take(file::read(&path)) {
            let base = path.parent().unwrap_or(Path::new("/")).to_owned();
            let entries = std::mem::take(&mut file.templates);
            templates.extend(entries.into_iter().map(|entry| (entry, base.clone())));
            merged.update(file, &base);
        }
    }
    merged.update(flags(args, directory, &mut faults), directory);
    let mode = match (args.dry_run, args.once) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::Once,
        (false, false) => Mode::Daemon,
    };
    let defaults = Defaults::new(mode, &merged);
    let mut jobs = Vec::new();
    let mut template_dirs = Vec::new();
    for (at, (entry, base)) in templates.into_iter().enumerate() {
        for entry in faults.take(spread(entry, &base, &mut template_dirs)).into_iter().flatten() {
            jobs.extend(faults.take(defaults.job(entry, &base, at)));
        }
    }
    for text in &args.templates {
        let entries = split(text).and_then(|entry| spread(entry, directory, &mut template_dirs));
        for entry in faults.take(entries).into_iter().flatten() {
            jobs.extend(faults.take(defaults.job(entry, directory, 0)));
        }
    }
    if jobs.is_empty() && faults.is_empty() {
        faults.add("there is nothing to render; give --template SRC or --config PATH with templates");
    }
    same_destination_twice(&jobs, &mut faults);
    let exec = faults.take(exec(merged.exec)).flatten();
    let consistency = merged.consistency.unwrap_or_default();
    let registry = ClientConfig { consistency, ..registry(merged.registry, merged.access, &mut faults) };
    faults.or(Config {
        registry,
        jobs,
        template_dirs,
        mode: defaults.mode,
        timeout: args.timeout.0,
        log_format: merged.log_format.unwrap_or_default(),
        drops: DropPolicy {
            max_drop: merged.max_drop.map(|p| p.0),
            hold: merged.drop_hold.map_or(DropPolicy::default().hold, |d| d.0),
            empty_hold: merged.empty_hold.map_or(DropPolicy::default().empty_hold, |d| d.0),
        },
        exec,
        pid_file: merged.pid_file,
        http: merged.http_addr,
    })
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn or<T>(self, value: T) -> Result<T, ConfigError> {
        if self.is_empty() { Ok(value) } else { Err(ConfigError { faults: self.0 }) }
    }
}

/// The program to run beside, if there is one.
fn exec(entry: Option<ExecEntry>) -> Result<Option<ExecSpec>, String> {
    let Some(entry) = entry else { return Ok(None) };
    Ok(Some(ExecSpec {
        command: entry.command.ok_or("exec: the command is missing")?.0,
        reload_signal: entry.reload_signal.map(|signal| signal.0),
        kill_signal: entry.kill_signal.map_or(Signal::SIGTERM, |signal| signal.0),
        kill_timeout: entry.kill_timeout.map_or(Duration::from_secs(30), |d| d.0),
        splay: entry.splay.map_or(Duration::ZERO, |d| d.0),
    }))
}

/// What the flags say of a program.
fn exec_flags(args: &RunArgs, faults: &mut Faults) -> Option<ExecEntry> {
    let mut signal = |flag: &str, name: &Option<String>| {
        let name = name.as_ref()?;
        faults.take(name.parse::<SignalName>().map_err(|e| format!("{flag}: {e}")))
    };
    let (reload_signal, kill_signal) = (
        signal("--exec-reload-signal", &args.exec_reload_signal),
        signal("--exec-kill-signal", &args.exec_kill_signal),
    );
    args.exec.as_ref().map(|line| ExecEntry {
        command: Some(file::CommandEntry(CommandLine::Shell(line.clone()))),
        reload_signal,
        kill_signal,
        kill_timeout: args.exec_kill_timeout,
        splay: args.exec_splay,
    })
}

/// The files that `paths` name; those of a directory in the order of their names.
fn config_files(paths: &[PathBuf], base: &Path, faults: &mut Faults) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        let path = absolute(base, path);
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        let known = |p: &PathBuf| {
            let extension = p.extension().and_then(|e| e.to_str());
            matches!(extension, Some("yaml" | "yml" | "json")) && p.is_file()
        };
        match fs::read_dir(&path) {
            Ok(entries) => {
                let mut inside: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(known).collect();
                inside.sort();
                files.extend(inside);
            }
            Err(error) => faults.add(format!("{}: {error}", path.display())),
        }
    }
    files
}

/// The flags in the shape of a file, to be put over the others.
fn flags(args: &RunArgs, directory: &Path, faults: &mut Faults) -> File {
    File {
        registry: (!args.registries.is_empty()).then(|| args.registries.clone()),
        access: args.access.clone(),
        debounce: args.debounce.as_deref().and_then(|d| faults.take(parse_debounce(d))),
        state_dir: args.state_dir.as_ref().map(|p| absolute(directory, p)),
        log_format: args.log_format,
        exec: exec_flags(args, faults),
        pid_file: args.pid_file.as_ref().map(|p| absolute(directory, p)),
        http_addr: args.http_addr,
        ..File::default()
    }
}

/// `QUIET[:MAX]`; MAX is ten times QUIET unless given.
fn parse_debounce(text: &str) -> Result<DebounceEntry, String> {
    let (quiet, max) = text.split_once(':').unwrap_or((text, ""));
    let duration = |text: &str| text.parse::<GoDuration>().map_err(|e| format!("--debounce: {e}"));
    let quiet = duration(quiet)?;
    let max = if max.is_empty() { GoDuration(quiet.0 * 10) } else { duration(max)? };
    Ok(DebounceEntry { quiet: Some(quiet), max: Some(max) })
}

fn merge_debounce(base: Debounce, over: Option<DebounceEntry>) -> Debounce {
    let quiet = over.and_then(|o| o.quiet).map_or(base.quiet, |d| d.0);
    let max = over.and_then(|o| o.max).map_or(base.max, |d| d.0);
    Debounce { quiet, max: max.max(quiet) }
}

/// `SRC[:DST[:CMD]]`; the command may have colons.
fn split(text: &str) -> Result<TemplateEntry, String> {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let source = next().ok_or_else(|| format!("--template {text:?}: the template's file is missing"))?;
    let (destination, command) = (next(), next());
    Ok(TemplateEntry {
        source: Some(source.into()),
        destination: destination.map(Into::into),
        reload_cmd: command.map(|c| file::CommandEntry(CommandLine::Shell(c.to_owned()))),
        ..TemplateEntry::default()
    })
}

fn same_destination_twice(jobs: &[JobSpec], faults: &mut Faults) {
    let mut seen = HashSet::new();
    for path in jobs.iter().flat_map(|job| &job.templates).filter_map(TemplateSpec::record_path) {
        if !seen.insert(path.clone()) {
            faults.add(format!("two templates have the destination {}", path.display()));
        }
    }
}

fn registry(addresses: Option<Vec<String>>, access: Access, faults: &mut Faults) -> ClientConfig {
    // One variable holds them all, separated by commas.
    let given = addresses.unwrap_or_default();
    let given = given.iter().flat_map(|a| a.split(',')).map(str::trim).filter(|a| !a.is_empty());
    let given: Vec<String> = given.map(str::to_owned).collect();
    let addresses = if given.is_empty() { ClientConfig::default().addresses } else { given };
    let config = faults.take(access.config(addresses).map_err(|e| e.to_string())).unwrap_or_default();
    if let Err(error) = Client::new(&config) {
        faults.add(with_causes(&error));
    }
    config
}

#[cfg(test)]
mod tests;
