//! Templates: one definition for every name that begins with its own, with parts of the name put into its texts.
//!
//! A text may hold `${name.full}`, `${name.prefix}`, `${name.suffix}`, `${agent.segment}`, which is always empty here,
//! `${match(1)}`, which is a group of the regular expression, and quoted texts with the same inside; `$${` is `${`.
//! That is the part of Consul's language for them that works on names; it can calculate and compare too.

mod syntax;

use regex::Regex;

use super::definition::{NAME_PREFIX_MATCH, PreparedQuery};
use crate::pattern;
use syntax::{Part, Text, Value};

/// All that is put into one definition from a name has at most this many bytes.
const MAX_RENDERED_BYTES: usize = 1 << 20;

/// Why a query cannot be a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// There is one kind.
    #[error("Bad Template.Type '{0}'")]
    Kind(String),
    /// A text that cannot be read.
    #[error("Bad format '{text}' in Service.{field}: {why}")]
    Text {
        /// Where it stands.
        field: &'static str,
        /// All of it, or its beginning.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No regular expression, or too large a one.
    #[error("Bad Regexp: {0}")]
    Regexp(String),
    /// It does not stand even for its own name.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Why a template does not stand for a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// `match` counts groups.
    #[error("Bad evaluation: match wants the number of a group, and {0:?} is no number")]
    NoNumber(String),
    /// Too much of the name is put in.
    #[error("Bad evaluation: the name is put in so often that it takes more than {MAX_RENDERED_BYTES} bytes")]
    TooLong,
}

/// A template, read once and ready to be rendered.
#[derive(Clone, Debug)]
pub struct Template {
    /// The texts of the definition, in the order of `ServiceQuery::try_map`.
    texts: Vec<Text>,
    pattern: Option<Regex>,
}

impl Template {
    /// Reads the texts of `query` and renders them once for its own name.
    ///
    /// # Errors
    /// [`InvalidTemplate`].
    pub fn compile(query: &PreparedQuery) -> Result<Self, InvalidTemplate> {
        if query.template.kind != NAME_PREFIX_MATCH {
            return Err(InvalidTemplate::Kind(query.template.kind.clone()));
        }
        let mut texts = Vec::new();
        query.service.try_map(|field, text| {
            let shown = || text.chars().take(100).collect();
            texts.push(syntax::parse(text).map_err(|why| InvalidTemplate::Text { field, text: shown(), why })?);
            Ok::<_, InvalidTemplate>(String::new())
        })?;
        let regexp = Some(query.template.regexp.as_str()).filter(|text| !text.is_empty());
        let pattern = regexp.map(pattern::compile).transpose().map_err(InvalidTemplate::Regexp)?;
        let template = Self { texts, pattern };
        template.render(query, &query.name)?;
        Ok(template)
    }

    /// `query`, of which this is the template, as it is for `name`.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&self, query: &PreparedQuery, name: &str) -> Result<PreparedQuery, RenderError> {
        let captures = self.pattern.as_ref().and_then(|pattern| pattern.captures(name));
        let groups = captures.iter().flat_map(|found| found.iter());
        let groups = groups.map(|group| group.map_or("", |group| group.as_str())).collect();
        let suffix = without_prefix(name, &query.name);
        let mut filling = Filling { full: name, prefix: &query.name, suffix, groups, left: MAX_RENDERED_BYTES };
        let mut texts = self.texts.iter();
        let mut service = query.service.try_map(|_, _| {
            let text = texts.next().expect("compiled from this very definition");
            filling.text(text)
        })?;
        if query.template.remove_empty_tags
            && let Some(tags) = &mut service.tags
        {
            tags.retain(|tag| !tag.is_empty());
        }
        Ok(PreparedQuery { service, ..query.clone() })
    }
}

/// What of `name` comes after `prefix`, in any case; all of it if it does not begin with that.
fn without_prefix<'a>(name: &'a str, prefix: &str) -> &'a str {
    let mut wanted = prefix.chars().flat_map(char::to_lowercase).peekable();
    for (at, char) in name.char_indices() {
        if wanted.peek().is_none() {
            return &name[at..];
        }
        if !char.to_lowercase().all(|lower| wanted.next() == Some(lower)) {
            return name;
        }
    }
    if wanted.peek().is_none() { "" } else { name }
}

/// Fills in texts from one name.
struct Filling<'a> {
    full: &'a str,
    prefix: &'a str,
    suffix: &'a str,
    groups: Vec<&'a str>,
    /// Bytes that may still be put in.
    left: usize,
}

impl Filling<'_> {
    fn text(&mut self, text: &Text) -> Result<String, RenderError> {
        let mut out = String::new();
        for part in text {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Fill(value) => {
                    let value = self.value(value)?;
                    self.left = self.left.checked_sub(value.len()).ok_or(RenderError::TooLong)?;
                    out.push_str(&value);
                }
            }
        }
        Ok(out)
    }

    fn value(&mut self, value: &Value) -> Result<String, RenderError> {
        Ok(match value {
            Value::Full => self.full.to_owned(),
            Value::Prefix => self.prefix.to_owned(),
            Value::Suffix => self.suffix.to_owned(),
            Value::Segment => String::new(),
            Value::Number(number) => number.to_string(),
            Value::Quoted(text) => self.text(text)?,
            Value::Match(number) => {
                let number = self.value(number)?;
                let Ok(at) = number.parse::<i64>() else { return Err(RenderError::NoNumber(number)) };
                let group = usize::try_from(at).ok().and_then(|at| self.groups.get(at));
                group.copied().unwrap_or_default().to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prepared_query::definition::tests::query;

    fn template(name: &str, regexp: &str, service: serde_json::Value) -> PreparedQuery {
        let mut query = query(1, name, service);
        query.template.kind = NAME_PREFIX_MATCH.into();
        query.template.regexp = regexp.into();
        query
    }

    /// What `text` becomes in a template `geo-` with groups, for `name`.
    fn rendered(text: &str, name: &str) -> Result<String, String> {
        let query = template("geo-", "^geo-(.*?)-([^-]+?)$", json!({"service": text}));
        let compiled = Template::compile(&query).map_err(|e| e.to_string())?;
        compiled.render(&query, name).map(|query| query.service.service).map_err(|e| e.to_string())
    }

    #[test]
    fn names_are_put_into_texts() {
        for (text, want) in [
            ("web", "web"),
            ("${name.full}|${name.prefix}|${name.suffix}", "geo-db-customer-master|geo-|db-customer-master"),
            ("${match(0)}", "geo-db-customer-master"),
            ("${match(1)}/${match(2)}", "db-customer/master"),
            ("${ match( 2 ) }", "master"),
            ("${match(\"2\")}", "master"),
            ("${match(3)}${match(-1)}${match(99999)}x", "x"),
            ("${agent.segment}x", "x"),
            ("$${name.full}", "${name.full}"),
            ("$$${name.suffix}", "$${name.suffix}"),
            ("a$b{c}d}", "a$b{c}d}"),
            ("${\"q\\\"\\n${name.prefix}\"}", "q\"\ngeo-"),
            ("${7}x", "7x"),
            ("\u{1F980}${name.prefix}", "\u{1F980}geo-"),
        ] {
            assert_eq!(rendered(text, "geo-db-customer-master").as_deref(), Ok(want), "{text}");
        }
        assert_eq!(rendered("[${match(1)}]", "geo-x").as_deref(), Ok("[]"), "no group without a match");
    }

    #[test]
    fn the_suffix_is_what_follows_in_any_case() {
        for (name, suffix) in [("GEO-Web", "Web"), ("geo-", ""), ("geo", "geo"), ("other", "other"), ("", "")] {
            assert_eq!(rendered("${name.suffix}", name).as_deref(), Ok(suffix), "{name}");
        }
        // Its lower case is longer than itself.
        assert_eq!(without_prefix("\u{130}x", "\u{130}"), "x");
        assert_eq!(without_prefix("\u{130}x", "i"), "\u{130}x");
        assert_eq!(without_prefix("abc", ""), "abc");
    }

    #[test]
    fn every_text_of_a_template_is_one() {
        let query = template(
            "t-",
            "",
            json!({"service": "${name.suffix}", "tags": ["${name.suffix}", "!${name.prefix}", ""], "near": "${name.full}",
                   "node_meta": {"${name.full}": "${name.full}"}, "failover": {"datacenters": ["${name.suffix}"]}}),
        );
        let compiled = Template::compile(&query).unwrap();
        let got = compiled.render(&query, "t-x").unwrap();
        let want = json!({"service": "x", "tags": ["x", "!t-", ""], "near": "t-x",
                          "node_meta": {"${name.full}": "t-x"}, "failover": {"datacenters": ["x"]}});
        assert_eq!(got, PreparedQuery { service: serde_json::from_value(want).unwrap(), ..query.clone() });
        let mut removing = query;
        removing.template.remove_empty_tags = true;
        let got = Template::compile(&removing).unwrap().render(&removing, "t-").unwrap();
        assert_eq!(got.service.tags.unwrap(), ["!t-"]);
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, why) in [
            ("${", "a value is wanted at the end"),
            ("${}", "a value is wanted before \"}\""),
            ("${name.full", "} is wanted at the end"),
            ("${name.full x}", "} is wanted before \"x}\""),
            ("${nope}", "unknown variable accessed: nope"),
            ("${match}", "( is wanted"),
            ("${match()}", "a value is wanted"),
            ("${match(1,2)}", ") is wanted"),
            ("${match(name.suffix)}", "Bad evaluation"),
            ("${match(9999999999999999999)}", "is no number"),
            ("${1-2}x", "1-2 is no number"),
            ("${\"a}", "\" is wanted at the end"),
            ("${\"\\x\"}", "after \\ comes"),
            ("${7}", "it is a number"),
        ] {
            let said = rendered(text, "geo-x").expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
        let deep = |n| format!("{}name.full{}", "${match(".repeat(n), ")}".repeat(n));
        let nested = |n| format!("${{{}1{}}}", "match(".repeat(n), ")".repeat(n));
        assert!(rendered(&deep(100_000), "geo-x").is_err());
        assert!(rendered(&nested(100_000), "geo-x").unwrap_err().contains("inside each other"));
        let mut query = template("t", "(", json!({"service": "x"}));
        assert!(Template::compile(&query).unwrap_err().to_string().starts_with("Bad Regexp: "));
        query.template.regexp = "(a{1000}){1000}".into();
        assert!(Template::compile(&query).unwrap_err().to_string().starts_with("Bad Regexp: "));
        query.template.kind = "other".into();
        assert_eq!(Template::compile(&query).unwrap_err().to_string(), "Bad Template.Type 'other'");
    }

    #[test]
    fn a_long_name_put_in_often_is_refused() {
        let often = "${name.full}".repeat(10_000);
        let name = format!("geo-{}", "x".repeat(1_000));
        assert_eq!(rendered(&often, &name), Err(RenderError::TooLong.to_string()));
        assert!(rendered(&often, "geo-x").is_ok());
    }
}
