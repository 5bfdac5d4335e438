//! What a policy says: its text, checked.

use super::{
    Level, MAX_BYTES, MAX_DEPTH, Resource,
    syntax::{self, Content, Member, Value},
};

/// So much of the text is quoted where it goes wrong.
const QUOTED_CHARS: usize = 40;

/// The rules of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) resource: Resource,
    pub(super) scope: Scope,
    pub(super) level: Level,
}

/// What of its resource a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Exact(String),
    Prefix(String),
}

/// Why a text is not the rules of a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct RulesError {
    /// From 1.
    pub line: usize,
    /// Characters into the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong. Foreign text in it is shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Longer than [`MAX_BYTES`].
    #[error("the rules have {bytes} bytes; the most is {MAX_BYTES}")]
    TooLong {
        /// Their length.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} objects and lists inside each other")]
    TooDeep,
    /// Neither HCL nor JSON.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What could stand there.
        wanted: &'static str,
        /// What does.
        found: String,
    },
    /// Something has no end.
    #[error("{0} that is never closed")]
    Unclosed(&'static str),
    /// A quoted text that has no meaning.
    #[error(
        "a line that ends within quotes, or an unknown escape; there are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"
    )]
    Text,
    /// Nothing that rules could be about.
    #[error("unknown resource {name:?}; use one of: {}", resources())]
    Resource {
        /// Given.
        name: String,
    },
    /// Nothing that a rule could say of its resource.
    #[error("unknown setting {setting:?} of a rule for {}; use \"policy\"", .resource.word())]
    Setting {
        /// Given.
        setting: String,
        /// What the rule is about.
        resource: Resource,
    },
    /// No level, or none of this resource's.
    #[error("{level:?} is no level of {}; use one of: {}", .resource.word(), levels(*.resource))]
    Level {
        /// Given.
        level: String,
        /// What the rule is about.
        resource: Resource,
    },
    /// A rule that says nothing.
    #[error("the rule for {} {name:?} has no \"policy\"", .resource.word())]
    NoPolicy {
        /// What the rule is about.
        resource: Resource,
        /// Which one.
        name: String,
    },
}

impl Problem {
    pub(super) fn expected(wanted: &'static str, rest: &str) -> Self {
        let line = rest.lines().next().unwrap_or_default();
        let found = if rest.is_empty() { "the end".into() } else { format!("{:?}", quoted(line)) };
        Self::Expected { wanted, found }
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS).collect()
}

fn resources() -> String {
    let named = Resource::NAMED.iter().map(|resource| format!("{0}, {0}_prefix", resource.word()));
    named.chain(Resource::PLAIN.iter().map(|resource| resource.word().to_owned())).collect::<Vec<_>>().join(", ")
}

fn levels(resource: Resource) -> String {
    resource.levels().map(Level::word).collect::<Vec<_>>().join(", ")
}

/// A problem at an offset; becomes a [`RulesError`] once the text is at hand again.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

impl RulesError {
    fn new(text: &str, fault: Fault) -> Self {
        // Offsets come from the reader, which stops between characters.
        let before = text.get(..fault.at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Self { line, column, problem: fault.problem }
    }
}

impl Rules {
    /// The rules that `text` says, in HCL or JSON; an empty one says none. `intentions`, which rules for services can
    /// have, are checked and of no effect, for there is no mesh.
    ///
    /// # Errors
    /// [`RulesError`] says where `text` is wrong and what is possible there. Consul passes over resources and settings
    /// that it does not know; here, what somebody meant as a restriction is not passed over.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let rules = syntax::members(text).and_then(|members| {
            let mut rules = vec![];
            for member in &members {
                rules.append(&mut of_resource(member)?);
            }
            Ok(rules)
        });
        rules.map(|rules| Self { rules }).map_err(|fault| RulesError::new(text, fault))
    }
}

/// The rules under the name of a resource.
fn of_resource(member: &Member) -> Result<Vec<Rule>, Fault> {
    let name = member.name.as_str();
    if let Some(resource) = Resource::PLAIN.into_iter().find(|resource| resource.word() == name) {
        return Ok(vec![Rule { resource, scope: Scope::All, level: level(resource, &member.value)? }]);
    }
    let (word, scope): (_, fn(String) -> Scope) =
        name.strip_suffix("_prefix").map_or((name, Scope::Exact), |word| (word, Scope::Prefix));
    let unknown = || Fault { at: member.at, problem: Problem::Resource { name: quoted(name) } };
    let resource = Resource::NAMED.into_iter().find(|resource| resource.word() == word).ok_or_else(unknown)?;
    let rule = |member: &Member| {
        let scope = scope(member.name.clone());
        Ok(Rule { resource, scope, level: policy(resource, member)? })
    };
    objects(&member.value)?.map(rule).collect()
}

/// The level that the settings of a rule say.
fn policy(resource: Resource, rule: &Member) -> Result<Level, Fault> {
    let mut policy = None;
    for setting in objects(&rule.value)? {
        match setting.name.as_str() {
            "policy" => {
                let level = level(resource, &setting.value)?;
                policy = Some(policy.map_or(level, |before: Level| before.merged(level)));
            }
            "intentions" if resource == Resource::Service => drop(level(resource, &setting.value)?),
            name => {
                return Err(Fault { at: setting.at, problem: Problem::Setting { setting: quoted(name), resource } });
            }
        }
    }
    let name = quoted(&rule.name);
    policy.ok_or(Fault { at: rule.at, problem: Problem::NoPolicy { resource, name } })
}

/// The members of an object, or of a list of them: JSON's way to say the same name more than once.
fn objects(value: &Value) -> Result<impl Iterator<Item = &Member>, Fault> {
    let objects = match &value.content {
        Content::List(values) => values.iter().collect(),
        _ => vec![value],
    };
    let members = objects.into_iter().map(|value| match &value.content {
        Content::Object(members) => Ok(members),
        _ => Err(Fault { at: value.at, problem: Problem::Expected { wanted: "an object", found: kind(value) } }),
    });
    Ok(members.collect::<Result<Vec<_>, _>>()?.into_iter().flatten())
}

fn level(resource: Resource, value: &Value) -> Result<Level, Fault> {
    let Content::Text(text) = &value.content else {
        let problem = Problem::Expected { wanted: "a level in quotes", found: kind(value) };
        return Err(Fault { at: value.at, problem });
    };
    let unknown = || Fault { at: value.at, problem: Problem::Level { level: quoted(text), resource } };
    resource.levels().find(|level| level.word() == text).ok_or_else(unknown)
}

fn kind(value: &Value) -> String {
    let kind = match &value.content {
        Content::Text(_) => "a text",
        Content::Word => "a word without quotes",
        Content::Object(_) => "an object",
        Content::List(_) => "a list",
    };
    kind.into()
}

#[cfg(test)]
mod tests;
