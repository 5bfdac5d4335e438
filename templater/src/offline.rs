//! `templater check` and `templater render`: what can be said of templates without a registry.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvstore_client::with_causes;

use crate::{
    config::{Config, SourceSpec},
    functions::Setting,
    mock::Mock,
    render::{Outcome, Sources, Template, TemplateError},
    report::with_details,
    source,
    values::{Answer, Dependency, Values},
    watch::read_below,
};

/// A template whose text asks for ever more is given up after so many passes.
const MAX_PASSES: usize = 100;

/// Parses every template of `config`: syntax, names of functions, filters, tests, components, includes, arguments.
///
/// # Errors
/// Every fault, in words.
pub fn check(config: &Config) -> Result<usize, Vec<String>> {
    let specs = config.jobs.iter().flat_map(|job| &job.templates);
    let (mut good, mut faults) = (0, Vec::new());
    for spec in specs {
        let sources = match &spec.source {
            SourceSpec::File(path) => source::load(path).map_err(|e| with_causes(&e)),
            SourceSpec::Inline { name, text, .. } => {
                Ok(Sources { main: name.clone(), files: [(name.clone(), text.clone())].into() })
            }
        };
        let parsed = sources.and_then(|sources| {
            let parsed = Template::parse_each(&sources, spec.each(), Setting::default());
            parsed.map_err(|e| wrong(&sources.main, &e))
        });
        match parsed {
            Ok(_) => good += 1,
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(faults) }
}

/// The text of `template` over the made-up data in the file `data`; over none without it.
///
/// # Errors
/// What is wrong or missing, in words.
pub fn render(template: &Path, data: Option<&Path>) -> Result<String, String> {
    let mock = match data {
        None => Mock::default(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| format!("data {}: {e}", path.display()))?;
            Mock::parse(&text).map_err(|e| format!("data {}: {e}", path.display()))?
        }
    };
    let template = std::path::absolute(template).map_err(|e| format!("template {}: {e}", template.display()))?;
    let name = template.display().to_string();
    let directory = template.parent().unwrap_or(Path::new("/")).to_owned();
    let setting = Setting { host: Arc::new(mock.host()), directory, ..Setting::default() };
    let now = mock.now()?;
    let mut parsed = parse(&template, setting)?;
    let mut values = Values::new();
    for _ in 0..MAX_PASSES {
        match parsed.render(values.clone(), now).outcome {
            Outcome::Text(text) => return Ok(text),
            Outcome::Files(files) => return Ok(files.into_iter().map(|(_, text)| text).collect()),
            Outcome::Failed(error) => return Err(wrong(&name, &error)),
            Outcome::Blocked(why) => {
                return Err(format!("template {name}: nothing would be written: {}", why.join(", ")));
            }
            Outcome::Pending(missing) => {
                for dependency in missing {
                    let answer = match &*dependency {
                        Dependency::File { root, path } => Answer::File(read_below(root, path)),
                        other => mock.answer(other).map_err(|why| format!("template {name}: {why}"))?,
                    };
                    values.insert(dependency, Arc::new(answer));
                }
            }
        }
    }
    Err(format!("template {name}: it asks for something new at each of {MAX_PASSES} passes"))
}

/// The difference of `text` to the content of the file `expected`, as a unified diff; empty if there is none.
///
/// # Errors
/// That the file cannot be read, in words.
pub fn compare(text: &str, expected: &PathBuf) -> Result<String, String> {
    let name = expected.display().to_string();
    let expected = fs::read_to_string(expected).map_err(|e| format!("{name}: {e}"))?;
    let diff = similar::TextDiff::from_lines(&*expected, text);
    Ok(diff.unified_diff().header(&name, "rendered").to_string())
}

fn parse(path: &Path, setting: Setting) -> Result<Template, String> {
    let sources = source::load(path).map_err(|e| with_causes(&e))?;
    Template::parse(&sources, setting).map_err(|e| wrong(&sources.main, &e))
}

fn wrong(name: &str, error: &TemplateError) -> String {
    with_details(&format!("template {name} is wrong"), &error.report, error.hint.as_deref())
}
