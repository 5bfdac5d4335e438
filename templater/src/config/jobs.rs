//! From the entries of the configuration to jobs: what each says, and what holds where it says nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    DestinationSpec, EachSpec, JobSpec, Mode, SourceSpec, TemplateSpec,
    file::{File, FileEntry, OnEmpty, TargetName, TemplateEntry},
    merge_debounce,
    names::beside,
};
use crate::{
    command::CommandLine,
    functions::{Bounds, Floor},
    output::{FileSpec, OutputSpec, ReloadSpec, TargetSpec},
    quiescence::Debounce,
    state::data_path,
    target::{
        absolute,
        signal::{SignalSpec, Whom},
    },
};

/// What holds for every template.
pub(super) struct Defaults {
    pub(super) mode: Mode,
    pub(super) debounce: Debounce,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) file_root: Option<PathBuf>,
    pub(super) min_instances: Option<usize>,
    pub(super) on_empty: Option<OnEmpty>,
    pub(super) keep_data: bool,
    pub(super) follow: bool,
}

impl Defaults {
    /// What `merged`, all files and flags together, says of all of them.
    pub(super) fn new(mode: Mode, merged: &File) -> Self {
        Self {
            mode,
            debounce: merge_debounce(Debounce::default(), merged.debounce),
            state_dir: merged.state_dir.clone(),
            file_root: merged.file_root.clone(),
            min_instances: merged.min_instances,
            on_empty: merged.on_empty,
            keep_data: merged.keep_data.unwrap_or(true),
            follow: merged.follow_templates.unwrap_or(true),
        }
    }

    pub(super) fn job(&self, mut entry: TemplateEntry, base: &Path, at: usize) -> Result<JobSpec, String> {
        let file = entry.take_file();
        let templates = match (entry.files, file == FileEntry::default()) {
            (None, _) => vec![self.template(file, base, &format!("templates[{at}]"))?],
            (Some(files), true) if !files.is_empty() => {
                let one = |(n, file)| self.template(file, base, &format!("templates[{at}].files[{n}]"));
                files.into_iter().enumerate().map(one).collect::<Result<_, _>>()?
            }
            (Some(_), true) => return Err(format!("templates[{at}]: files is empty")),
            (Some(_), false) => {
                return Err(format!("templates[{at}]: source, destination and the like belong to each of files"));
            }
        };
        let several = templates.len() > 1;
        if several && templates.iter().any(|t| t.destination == DestinationSpec::Stdout) {
            return Err(format!("templates[{at}]: standard output cannot be one of several files"));
        }
        let (check_cmd, reload_cmd) = (entry.check_cmd.map(|c| c.0), entry.reload_cmd.map(|c| c.0));
        let one_file = |command: &CommandLine| command.mentions("{src}") || command.mentions("{dst}");
        if several && [&check_cmd, &reload_cmd].into_iter().flatten().any(one_file) {
            return Err(format!(
                "templates[{at}]: {{src}} and {{dst}} name one file, and there are several; use {{stage}}, a directory with all"
            ));
        }
        let signal = entry.reload_signal.map(|signal| signal.0);
        let signal = match (entry.pid_file, &entry.container) {
            (Some(path), None) => Some((signal.unwrap_or(Signal::SIGHUP), Whom::PidFile(absolute(base, &path)))),
            (None, Some(name)) if signal.is_some() || entry.target == TargetName::Signal => {
                Some((signal.unwrap_or(Signal::SIGHUP), Whom::Container(name.clone())))
            }
            (None, Some(_)) => None,
            (None, None) if signal.is_none() => None,
            _ => return Err(format!("templates[{at}]: a reload_signal goes to a pid_file or a container; give one")),
        };
        let signal = signal.map(|(signal, whom)| SignalSpec { signal, whom });
        let output = OutputSpec {
            target: match entry.target {
                TargetName::Auto => TargetSpec::Auto,
                TargetName::Known(kind) => TargetSpec::Known(kind),
                TargetName::Command | TargetName::Signal | TargetName::None => TargetSpec::Unknown,
            },
            check_cmd,
            stage_dir: entry.stage_dir.map(|p| absolute(base, &p)),
            container: matches!(entry.target, TargetName::Auto | TargetName::Known(_))
                .then(|| entry.container.clone())
                .flatten(),
            reload: reload(entry.target, reload_cmd, entry.reload_unit, signal)
                .map_err(|fault| format!("templates[{at}]: {fault}"))?,
            runtime_socket: entry.runtime_socket.map(|socket| socket.0),
            min_reload_interval: entry.min_reload_interval.map_or(Duration::ZERO, |d| d.0),
            command_timeout: entry.command_timeout.map_or(Duration::from_secs(30), |d| d.0),
            rollback: entry.rollback,
            keep_versions: entry.keep_versions.unwrap_or(3),
            state_dir: self.state_dir.clone(),
        };
        let floor = floor(entry.min_instances.or(self.min_instances), entry.on_empty.or(self.on_empty));
        let bounds = Bounds { file_root: self.file_root.clone(), floor };
        let debounce = merge_debounce(self.debounce, entry.debounce);
        let first = templates.iter().find_map(TemplateSpec::record_path).filter(|_| self.keep_data);
        let keep = first.map(|record| data_path(&record, self.state_dir.as_deref()));
        Ok(JobSpec { templates, output, debounce, bounds, keep, follow: self.follow })
    }

    /// `name` says where it stands in the configuration.
    fn template(&self, entry: FileEntry, base: &Path, name: &str) -> Result<TemplateSpec, String> {
        let source = match (entry.source, entry.inline) {
            (Some(path), None) => SourceSpec::File(absolute(base, &path)),
            (None, Some(text)) => {
                SourceSpec::Inline { name: format!("{name}.inline"), text, directory: base.to_owned() }
            }
            (Some(_), Some(_)) => return Err(format!("{name}: give source or inline, not both")),
            (None, None) => return Err(format!("{name}: source is missing (or inline)")),
        };
        if let Some(items) = entry.for_each {
            let path = entry.destination.ok_or_else(|| format!("{name}: destination is missing"))?;
            let path = absolute(base, &path);
            let (directory, file) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
            let file = file.to_string_lossy().into_owned();
            if directory.to_string_lossy().contains("{{") || !file.contains("{{") {
                return Err(format!(
                    "{name}: with for_each the destination is a file name made of the item in a fixed directory, such as \
                     conf.d/{{{{ item.name }}}}.conf"
                ));
            }
            let file_spec = FileSpec {
                destination: directory.to_owned(),
                mode: entry.mode.map(|m| m.0),
                owner: (id_of_user(entry.user)?, id_of_group(entry.group)?),
                create_dirs: entry.create_dirs,
            };
            let each = EachSpec { items, name: file, file: file_spec };
            return Ok(TemplateSpec { source, destination: DestinationSpec::Each(each) });
        }
        let destination = match (entry.destination, &source) {
            (Some(dash), _) if dash.as_os_str() == "-" => {
                if self.mode == Mode::Daemon {
                    return Err("standard output as a destination needs --once".into());
                }
                return Ok(TemplateSpec { source, destination: DestinationSpec::Stdout });
            }
            (Some(path), _) if path.as_os_str().to_string_lossy().ends_with('/') => {
                return Err(format!("destination {} is a directory; name the file", path.display()));
            }
            (Some(path), _) => absolute(base, &path),
            (None, SourceSpec::File(source)) => beside(source)?,
            (None, SourceSpec::Inline { .. }) => return Err(format!("{name}: destination is missing")),
        };
        if SourceSpec::File(destination.clone()) == source {
            return Err(format!("{} is both template and destination", destination.display()));
        }
        let file = FileSpec {
            destination,
            mode: entry.mode.map(|m| m.0),
            owner: (id_of_user(entry.user)?, id_of_group(entry.group)?),
            create_dirs: entry.create_dirs,
        };
        Ok(TemplateSpec { source, destination: DestinationSpec::File(file) })
    }
}

fn floor(min_instances: Option<usize>, on_empty: Option<OnEmpty>) -> Floor {
    match (min_instances, on_empty) {
        (None, None) | (_, Some(OnEmpty::Render)) => Floor::default(),
        (min, on_empty) => Floor { min_instances: min.unwrap_or(1), fail: on_empty == Some(OnEmpty::Fail) },
    }
}

/// The one way to reload that is given.
fn reload(
    target: TargetName,
    command: Option<CommandLine>,
    unit: Option<String>,
    signal: Option<SignalSpec>,
) -> Result<Option<ReloadSpec>, String> {
    let ways = [command.map(ReloadSpec::Command), unit.map(ReloadSpec::Unit), signal.map(ReloadSpec::Signal)];
    let mut ways = ways.into_iter().flatten();
    let (way, other) = (ways.next(), ways.next());
    if other.is_some() {
        return Err("give one of reload_cmd, reload_unit and reload_signal".into());
    }
    match (target, &way) {
        (TargetName::Command, Some(ReloadSpec::Signal(_)) | None) => {
            Err("target command wants a reload_cmd or a reload_unit".into())
        }
        (TargetName::Signal, Some(ReloadSpec::Command(_) | ReloadSpec::Unit(_)) | None) => {
            Err("target signal wants a pid_file or a container".into())
        }
        _ => Ok(way),
    }
}

fn id_of_user(name: Option<String>) -> Result<Option<u32>, String> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    match nix::unistd::User::from_name(&name) {
        Ok(Some(user)) => Ok(Some(user.uid.as_raw())),
        _ => Err(format!("there is no user {name:?}")),
    }
}

fn id_of_group(name: Option<String>) -> Result<Option<u32>, String> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    match nix::unistd::Group::from_name(&name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        _ => Err(format!("there is no group {name:?}")),
    }
}
