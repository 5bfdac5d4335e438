//! One template of a job: its files read and parsed, and where its texts belong.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvstore_client::with_causes;
use tokio::sync::Notify;

use super::Shared;
use crate::{
    config::{DestinationSpec, JobSpec, SourceSpec, TemplateSpec},
    each::{self, Made},
    functions::{Bounds, Setting},
    output::{FileSpec, Rendered},
    render::{Each, Sources, Template, TemplateError},
    report::with_details,
    source,
    state::data_path,
};

/// One template of a job.
pub(super) struct Part {
    pub(super) spec: TemplateSpec,
    bounds: Bounds,
    /// What was read last, good or bad.
    pub(super) loaded: Sources,
    /// The last good version; `None` if there has been none.
    pub(super) template: Option<Template>,
    /// The files that it has made, if it is one for many.
    pub(super) made: Option<Made>,
}

/// A text, and where it belongs.
pub(super) enum Text {
    Stdout(String),
    File(Rendered),
}

impl Part {
    /// Nothing is read yet.
    pub(super) fn new(template: &TemplateSpec, job: &JobSpec) -> Self {
        Self {
            spec: template.clone(),
            bounds: job.bounds.clone(),
            loaded: Sources::default(),
            template: None,
            made: made(template, job),
        }
    }

    fn setting(&self, shared: &Shared) -> Setting {
        let directory = match &self.spec.source {
            SourceSpec::File(path) => path.parent(),
            SourceSpec::Inline { directory, .. } => Some(&**directory),
        };
        Setting {
            host: shared.host.clone(),
            directory: directory.unwrap_or(Path::new("/")).to_owned(),
            bounds: self.bounds.clone(),
        }
    }

    pub(super) fn file(&self) -> Option<&FileSpec> {
        match &self.spec.destination {
            DestinationSpec::Stdout | DestinationSpec::Each(_) => None,
            DestinationSpec::File(file) => Some(file),
        }
    }

    pub(super) fn parse(&self, sources: &Sources, shared: &Shared) -> Result<Template, TemplateError> {
        Template::parse_each(sources, self.spec.each(), self.setting(shared))
    }

    pub(super) fn text(&self, text: String) -> Option<Text> {
        Some(match &self.spec.destination {
            DestinationSpec::Stdout => Text::Stdout(text),
            DestinationSpec::File(file) => Text::File(Rendered { file: file.clone(), text }),
            DestinationSpec::Each(_) => return None,
        })
    }

    /// Where each of the `files` belongs.
    pub(super) fn files(&self, files: Vec<(String, String)>) -> Result<Vec<Text>, String> {
        let DestinationSpec::Each(each) = &self.spec.destination else { return Ok(Vec::new()) };
        let mut names = BTreeSet::new();
        let place = |(name, text): (String, String)| {
            let destination = each::destination(&each.file.destination, &name)?;
            if !names.insert(name.clone()) {
                return Err(format!("two items have the file {name:?}"));
            }
            Ok(Text::File(Rendered { file: FileSpec { destination, ..each.file.clone() }, text }))
        };
        files.into_iter().map(place).collect::<Result<_, _>>().map_err(|e| format!("template {}: {e}", self.spec))
    }

    /// The files of items that have vanished.
    pub(super) fn gone(&self, wanted: &BTreeSet<PathBuf>) -> Vec<FileSpec> {
        let (Some(made), DestinationSpec::Each(each)) = (&self.made, &self.spec.destination) else { return Vec::new() };
        let spec = |destination| FileSpec { destination, ..each.file.clone() };
        made.gone(wanted).into_iter().map(spec).collect()
    }

    /// Reads and parses the files; true if they have changed. After a fault the last good version stays.
    pub(super) fn load(&mut self, shared: &Shared, wake: Option<&Arc<Notify>>) -> Result<bool, String> {
        let sources = match &self.spec.source {
            SourceSpec::Inline { name, text, .. } => {
                Ok(Sources { main: name.clone(), files: [(name.clone(), text.clone())].into() })
            }
            SourceSpec::File(path) => source::load(path),
        };
        if let (SourceSpec::File(path), Some(wake)) = (&self.spec.source, wake) {
            shared.sources.listen(path, sources.as_ref().unwrap_or(&self.loaded), wake);
        }
        let sources = sources.map_err(|e| with_details(&e.to_string(), &cause_of(&e), None))?;
        if sources == self.loaded {
            return Ok(false);
        }
        let parsed = self.parse(&sources, shared);
        self.loaded = sources;
        self.template = Some(parsed.map_err(|e| self.spec.describe(&e))?);
        Ok(true)
    }
}

/// The record of the files that a template for many has made.
fn made(template: &TemplateSpec, job: &JobSpec) -> Option<Made> {
    let DestinationSpec::Each(each) = &template.destination else { return None };
    let state_dir = job.output.state_dir.as_deref();
    let path = data_path(&template.record_path()?, state_dir).with_extension("made");
    Some(Made::load(path, each.file.create_dirs || state_dir.is_some()))
}

impl TemplateSpec {
    /// What makes it many files, if it is one for many.
    pub(crate) fn each(&self) -> Option<Each<'_>> {
        match &self.destination {
            DestinationSpec::Each(each) => Some(Each { items: &each.items, name: &each.name }),
            _ => None,
        }
    }

    /// The directory of its many files.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.destination {
            DestinationSpec::Each(each) => Some(&each.file.destination),
            _ => None,
        }
    }

    pub(super) fn describe(&self, error: &TemplateError) -> String {
        with_details(&format!("template {self} is wrong"), &error.report, error.hint.as_deref())
    }
}

fn cause_of(error: &source::SourceError) -> String {
    let whole = with_causes(error);
    whole.strip_prefix(&format!("{error}: ")).unwrap_or(&whole).to_owned()
}
