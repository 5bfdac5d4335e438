//! What is wrong with a template, where, and what would be right.

use tera::ErrorKind;

use crate::{
    arguments,
    filters::{FILTERS, TESTS},
    functions::known,
};

/// Why a template gives no text. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{report}")]
pub struct TemplateError {
    /// What is wrong, with file, line, column and the line itself.
    pub report: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// Tera's own report (which has file, line, column and the line), with what is available where a name is unknown.
pub(super) fn explain(error: &tera::Error) -> TemplateError {
    let report = error.to_string();
    let hint = match error.kind() {
        ErrorKind::MissingParent { parent, .. } => Some(beside(parent)),
        _ => hint(&report),
    };
    TemplateError { report: report.strip_prefix("error: ").unwrap_or(&report).to_owned(), hint }
}

/// Without the values that the message quotes and the template does not: they come from the registry or a file, and may
/// be secrets, which no log may have.
pub(super) fn discreet(error: TemplateError, said: &str) -> TemplateError {
    let (message, place) = error.report.split_at(error.report.rfind("--> ").unwrap_or(error.report.len()));
    let mut report = String::new();
    let mut rest = message;
    while let Some(start) = rest.find(['`', '"']) {
        let quote = rest[start..].chars().next().unwrap_or('"');
        let inside = &rest[start + 1..];
        let Some(end) = closing(inside, quote) else { break };
        report.push_str(&rest[..=start]);
        let (shown, end) = if said.contains(&inside[..end]) {
            (&inside[..end], end)
        } else {
            ("...", inside.rfind(quote).unwrap_or(end)) // the value may have quotes in it
        };
        report.push_str(shown);
        report.push(quote);
        rest = &inside[end + 1..];
    }
    let report = report + rest + place;
    TemplateError { report, ..error }
}

/// Where the quote ends.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| match c {
        _ if std::mem::take(&mut escaped) => None,
        '\\' if quote == '"' => {
            escaped = true;
            None
        }
        c => (c == quote).then_some(at),
    })
}

/// Every argument that a function does not have.
pub(super) fn check_arguments<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), TemplateError> {
    let in_file = |(name, text): (&str, &str)| {
        let faults = arguments::check(text).into_iter();
        faults.map(|fault| place(name, text, fault.at, &fault.message)).collect::<Vec<_>>()
    };
    let reports: Vec<String> = files.into_iter().flat_map(in_file).collect();
    if reports.is_empty() { Ok(()) } else { Err(TemplateError { report: reports.join("\n"), hint: None }) }
}

/// `message` with the place it is about, as Tera writes it.
fn place(name: &str, text: &str, at: usize, message: &str) -> String {
    let line = text[..at].matches('\n').count() + 1;
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let column = text[start..at].chars().count();
    let whole = text[start..].lines().next().unwrap_or_default();
    let indent = " ".repeat(line.to_string().len());
    let column_of = " ".repeat(column);
    format!(
        "{message}\n{indent}--> {name}:{line}:{}\n{indent} |\n{line} | {whole}\n{indent} | {column_of}^",
        column + 1
    )
}

fn beside(name: &str) -> String {
    format!("{name} is looked for in the directory of the template")
}

fn hint(report: &str) -> Option<String> {
    let functions = || {
        let all = known().map(|(name, arguments)| format!("{name}({})", arguments.join(", ")));
        all.collect::<Vec<_>>().join(", ")
    };
    let names = |list: &[(&str, &[&str])]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let first = report.lines().next()?;
    if first.contains("Unknown function") {
        return Some(format!("the functions are {}", functions()));
    }
    if first.contains("Unknown filter") {
        return Some(format!("the filters are {}", names(FILTERS)));
    }
    if first.contains("Unknown test") {
        return Some(format!("the tests are {}", names(TESTS)));
    }
    if let Some((_, name)) = first.split_once("Unknown template `") {
        return Some(beside(name.trim_end_matches('`')));
    }
    first
        .contains("is not defined")
        .then(|| format!("a template has the variables that it sets itself; data come from {}", functions()))
}
