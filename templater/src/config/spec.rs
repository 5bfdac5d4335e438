//! What is to be rendered, and where it goes.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    functions::Bounds,
    output::{FileSpec, OutputSpec},
    quiescence::Debounce,
};

/// Templates whose texts are rendered, checked, swapped in and loaded together; mostly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// At least one.
    pub templates: Vec<TemplateSpec>,
    /// What is done about the rendered texts.
    pub output: OutputSpec,
    /// When to act on changes.
    pub debounce: Debounce,
    /// What the templates may read, and must find.
    pub bounds: Bounds,
    /// Where the last good data are kept, if they are.
    pub keep: Option<PathBuf>,
    /// Whether templates that change are read again by themselves.
    pub follow: bool,
}

impl JobSpec {
    /// The files that the texts go to.
    pub fn destinations(&self) -> impl Iterator<Item = &Path> {
        self.templates.iter().filter_map(TemplateSpec::destination_path)
    }
}

impl fmt::Display for JobSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.templates.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// One template and where its text goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSpec {
    /// The text of the template.
    pub source: SourceSpec,
    /// Where the rendered text goes.
    pub destination: DestinationSpec,
}

/// Where a template's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// In this file; absolute.
    File(PathBuf),
    /// In the configuration.
    Inline {
        /// For messages.
        name: String,
        /// The template itself.
        text: String,
        /// Where relative paths in it start.
        directory: PathBuf,
    },
}

/// Where a rendered text goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationSpec {
    /// Standard output.
    Stdout,
    /// A file.
    File(FileSpec),
    /// One file for each item of a list.
    Each(EachSpec),
}

/// One file for each item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EachSpec {
    /// The list, as a template writes it.
    pub items: String,
    /// The name of an item's file, as a template writes it.
    pub name: String,
    /// What holds for all of them; its destination is their directory.
    pub file: FileSpec,
}

impl fmt::Display for TemplateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            SourceSpec::File(path) => path.display().fmt(f),
            SourceSpec::Inline { name, .. } => f.write_str(name),
        }
    }
}

impl TemplateSpec {
    /// The file it goes to, if it goes to one.
    pub(crate) fn destination_path(&self) -> Option<&Path> {
        match &self.destination {
            DestinationSpec::Stdout | DestinationSpec::Each(_) => None,
            DestinationSpec::File(file) => Some(&file.destination),
        }
    }

    /// What names the records that are kept for it.
    pub(crate) fn record_path(&self) -> Option<PathBuf> {
        match &self.destination {
            DestinationSpec::Stdout => None,
            DestinationSpec::File(file) => Some(file.destination.clone()),
            DestinationSpec::Each(each) => {
                let plain = each.name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
                Some(each.file.destination.join(plain.collect::<String>()))
            }
        }
    }
}
