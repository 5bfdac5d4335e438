//! Where the texts of templates go if nothing else is said, and which templates there are in a directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::file::TemplateEntry;
use crate::target::absolute;

/// What the names of templates end in.
const SUFFIXES: [&str; 3] = [".tmpl", ".tera", ".j2"];

/// Where the text of `source` goes if nothing else is said.
pub(super) fn beside(source: &Path) -> Result<PathBuf, String> {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    let name = match stem {
        Some("haproxy") => "haproxy.cfg",
        Some("nginx") => "nginx.conf",
        Some(stem) if !stem.is_empty() => stem,
        _ => {
            return Err(format!(
                "template {}: it is not clear where its text goes; end its name in .tmpl, .tera or .j2, or say {}:DST",
                source.display(),
                source.display()
            ));
        }
    };
    Ok(source.with_file_name(name))
}

/// A directory of templates is as many entries as it has templates, each to a file of the same name without suffix.
pub(super) fn spread(entry: TemplateEntry, base: &Path, dirs: &mut Vec<PathBuf>) -> Result<Vec<TemplateEntry>, String> {
    let Some(dir) = entry.source.as_ref().map(|path| absolute(base, path)).filter(|path| path.is_dir()) else {
        return Ok(vec![entry]);
    };
    let Some(destination) = entry.destination.as_ref().map(|path| absolute(base, path)) else {
        return Err(format!(
            "{} is a directory of templates; name the directory that their texts go to",
            dir.display()
        ));
    };
    let sources = templates_in(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let one = |source: PathBuf| -> Result<TemplateEntry, String> {
        let name = beside(&source)?;
        let destination = destination.join(name.file_name().unwrap_or_default());
        Ok(TemplateEntry { source: Some(source), destination: Some(destination), ..entry.clone() })
    };
    dirs.push(dir);
    sources.into_iter().map(one).collect()
}

/// The templates in `directory`, in the order of their names; what begins with a dot or an underscore is for others to
/// include.
pub(super) fn templates_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && !name.starts_with(['.', '_']) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
