//! What is wrong with an expression, where, and what is possible there.

use std::fmt;

use super::{MAX_BYTES, MAX_DEPTH, MAX_PATTERNS};

/// So much of the text is quoted where it goes wrong.
const QUOTED_CHARS: usize = 20;

/// Why a text is not a filter, with the place as line, column (of characters, from 1) and offset (of bytes, from 0).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column} ({offset}): {problem}")]
pub struct FilterError {
    /// From 1.
    pub line: usize,
    /// Characters into the line, from 1.
    pub column: usize,
    /// Bytes into the text, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not the language.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What could stand there.
        wanted: &'static str,
        /// What does.
        found: Found,
    },
    /// A quoted text that has no meaning.
    #[error("{0}")]
    Text(&'static str),
    /// Longer than [`MAX_BYTES`].
    #[error("the expression has {bytes} bytes; the most is {MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} `not` and `(` inside each other")]
    TooDeep,
    /// The rows have no such field.
    #[error("Selector {selector:?} is not valid; {}", available(.fields))]
    Selector {
        /// Up to the part that is wrong.
        selector: String,
        /// What could stand in place of its last part.
        fields: Vec<&'static str>,
    },
    /// The field cannot be asked that.
    #[error("Invalid match operator {operator:?} for selector {selector:?}; {}", possible(.operators))]
    Operator {
        /// Asked.
        operator: &'static str,
        /// The field.
        selector: String,
        /// What it can be asked.
        operators: &'static [&'static str],
    },
    /// The field is never equal to that.
    #[error("Failed to coerce value {value:?} for selector {selector:?}: not {wanted}")]
    Value {
        /// Given.
        value: String,
        /// The field.
        selector: String,
        /// What its values are.
        wanted: &'static str,
    },
    /// Not a regular expression, or one that would grow too large.
    #[error("Failed to compile regular expression {pattern:?}: {why}")]
    Pattern {
        /// Given.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// More than [`MAX_PATTERNS`].
    #[error("more than {MAX_PATTERNS} regular expressions")]
    TooManyPatterns,
}

/// What stands where something else was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(String);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the end") } else { write!(f, "{:?}", self.0) }
    }
}

fn available(fields: &[&str]) -> String {
    if fields.is_empty() { "nothing is below it".into() } else { format!("available: {}", fields.join(", ")) }
}

fn possible(operators: &[&str]) -> String {
    if operators.is_empty() {
        "it has fields of its own to select".into()
    } else {
        format!("possible: {}", operators.join(", "))
    }
}

/// A problem at an offset; becomes a [`FilterError`] once the text is at hand again.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: Reason,
}

#[derive(Clone, Debug)]
pub(super) enum Reason {
    Expected(&'static str),
    Problem(Box<Problem>),
}

impl Fault {
    pub(super) fn new(at: usize, problem: Problem) -> Self {
        Self { at, reason: Reason::Problem(Box::new(problem)) }
    }

    pub(super) fn expected(at: usize, wanted: &'static str) -> Self {
        Self { at, reason: Reason::Expected(wanted) }
    }
}

impl FilterError {
    pub(super) fn new(text: &str, fault: Fault) -> Self {
        // Offsets come from the parser, which stops between characters.
        let (before, after) = text.split_at_checked(fault.at).unwrap_or((text, ""));
        let problem = match fault.reason {
            Reason::Problem(problem) => *problem,
            Reason::Expected(wanted) => {
                Problem::Expected { wanted, found: Found(after.chars().take(QUOTED_CHARS).collect()) }
            }
        };
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            offset: fault.at,
            problem,
        }
    }
}
