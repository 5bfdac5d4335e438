//! Template and values to text. Pure: sources and values are given.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use tera::{Context, Kwargs, State, Tera, TeraResult, Value};

pub use error::TemplateError;
use error::{check_arguments, discreet, explain};

use crate::{
    functions::{Setting, SharedScope, register},
    values::{Dependency, Values},
};

/// A template's text and the texts of what it includes or extends, by name; the names are what errors show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The name of the template to render.
    pub main: String,
    /// Every file, `main` among them.
    pub files: BTreeMap<String, String>,
}

/// The names that `text` includes or extends, as far as they are written out.
///
/// Found by their spelling, not by parsing: a name inside a comment costs one look for a file, and a file that is
/// missed is named by the parser's error.
pub fn references(text: &str) -> Vec<String> {
    let tags = text.split("{%").skip(1);
    let name = |tag: &str| {
        let tag = tag.trim_start_matches('-').trim_start();
        let rest = ["include", "extends"].iter().find_map(|word| tag.strip_prefix(word))?;
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
        let (name, _) = rest[1..].split_once(quote)?;
        Some(name.to_owned())
    };
    tags.filter_map(name).collect()
}

/// What a pass over the values gave, and what it read.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// Everything that was asked for, answered or not.
    pub used: BTreeSet<Arc<Dependency>>,
    /// Text, or why there is none.
    pub outcome: Outcome,
}

/// What makes one template many files.
#[derive(Clone, Copy, Debug)]
pub struct Each<'a> {
    /// An expression that gives a list.
    pub items: &'a str,
    /// The text that an item's file is named by.
    pub name: &'a str,
}

/// The names of the templates that an [`Each`] is made into, as errors show them.
const ITEMS: &str = "for_each";
const NAME: &str = "destination";

/// The result of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was read is known.
    Text(String),
    /// The same of an [`Each`]: the name and the text of each file.
    Files(Vec<(String, String)>),
    /// These have no answer yet; whatever else the pass said does not count.
    Pending(BTreeSet<Arc<Dependency>>),
    /// All is known, and something that the template requires is not there.
    Blocked(Vec<String>),
    /// All is known, and the template is wrong.
    Failed(TemplateError),
}

/// A parsed template with all it includes.
pub struct Template {
    tera: Tera,
    main: String,
    is_each: bool,
    /// All that the templates say themselves.
    said: String,
    scope: SharedScope,
}

impl Template {
    /// Parses `sources`, to be rendered in `setting`.
    ///
    /// # Errors
    /// The first syntax error, or every unknown function, filter, test and template; else every unknown argument.
    pub fn parse(sources: &Sources, setting: Setting) -> Result<Self, TemplateError> {
        Self::parse_each(sources, None, setting)
    }

    /// The same, rendered once for each item that `each` gives, as `item`.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_each(sources: &Sources, each: Option<Each<'_>>, setting: Setting) -> Result<Self, TemplateError> {
        let scope = SharedScope::default();
        scope.lock().setting = setting;
        let mut tera = Tera::new();
        // By default files named .html and .xml are escaped; no configuration wants that.
        tera.autoescape_on(Vec::<&str>::new());
        register(&mut tera, &scope);
        tera.add_raw_templates(&sources.files).map_err(|e| explain(&e))?;
        check_arguments(sources.files.iter().map(|(name, text)| (&**name, &**text)))?;
        if let Some(Each { items, name }) = each {
            let kept = scope.clone();
            tera.register_function("keep_items", move |kwargs: Kwargs, _: &State| -> TeraResult<&'static str> {
                kept.lock().items = kwargs.must_get::<&[Value]>("of")?.to_vec();
                Ok("")
            });
            let items = format!("{{{{ keep_items(of={items}) }}}}");
            let made = [(ITEMS, &*items), (NAME, name)];
            tera.add_raw_templates(made).map_err(|e| explain(&e))?;
            check_arguments(made)?;
        }
        let texts = sources.files.values().map(String::as_str).chain(each.iter().flat_map(|e| [e.items, e.name]));
        let said = texts.collect::<Vec<_>>().join("\n");
        Ok(Self { tera, main: sources.main.clone(), is_each: each.is_some(), said, scope })
    }

    /// One pass over `values`, which last changed at `now`. It is exclusive because the functions share one scope.
    pub fn render(&mut self, values: Values, now: Timestamp) -> Rendering {
        {
            let mut scope = self.scope.lock();
            scope.values = values;
            scope.now = now;
            scope.used.clear();
            scope.blocked.clear();
        }
        let result = if self.is_each { self.files() } else { self.text(&Context::new()).map(Outcome::Text) };
        let (values, used, blocked) = {
            let mut scope = self.scope.lock();
            let scope = &mut *scope;
            (std::mem::take(&mut scope.values), std::mem::take(&mut scope.used), std::mem::take(&mut scope.blocked))
        };
        let missing: BTreeSet<_> = used.iter().filter(|d| !values.contains_key(*d)).cloned().collect();
        let outcome = match result {
            _ if !missing.is_empty() => Outcome::Pending(missing),
            _ if !blocked.is_empty() => Outcome::Blocked(blocked),
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(discreet(explain(&error), &self.said)),
        };
        Rendering { used, outcome }
    }

    fn text(&self, context: &Context) -> TeraResult<String> {
        self.tera.render(&self.main, context)
    }

    fn files(&self) -> TeraResult<Outcome> {
        self.tera.render(ITEMS, &Context::new())?;
        let items = std::mem::take(&mut self.scope.lock().items);
        let file = |item: Value| {
            let mut context = Context::new();
            context.insert_value("item", item);
            Ok((self.tera.render(NAME, &context)?, self.text(&context)?))
        };
        items.into_iter().map(file).collect::<TeraResult<_>>().map(Outcome::Files)
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("main", &self.main).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{Answer, tests::entry};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn template(text: &str) -> Result<Template, TemplateError> {
        let sources =
            Sources { main: "dir/web.tmpl".into(), files: [("dir/web.tmpl".to_owned(), text.to_owned())].into() };
        Template::parse(&sources, Setting::default())
    }

    fn passing(name: &str) -> Dependency {
        Dependency::service(name, true)
    }

    #[test]
    fn dependencies_are_discovered_by_rendering_level_by_level() {
        let text = "{% for s in services() %}{% for i in service(name=s.name) %}{{ i.id }} {% endfor %}{% endfor %}";
        let mut template = template(text).unwrap();
        let mut values = Values::new();
        let pending = |rendering: &Rendering| match &rendering.outcome {
            Outcome::Pending(missing) => missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(pending(&template.render(values.clone(), NOW)), ["the list of services"]);
        let services = Answer::services([("web".to_owned(), vec![]), ("api".to_owned(), vec![])].into());
        values.insert(Arc::new(Dependency::Services), Arc::new(services));
        assert_eq!(pending(&template.render(values.clone(), NOW)), ["service api", "service web"]);
        for name in ["web", "api"] {
            let answer = Answer::instances(vec![entry(&format!("{name}1 10.0.0.1:80 passing"))]);
            values.insert(Arc::new(passing(name)), Arc::new(answer));
        }
        let rendering = template.render(values, NOW);
        assert_eq!(rendering.outcome, Outcome::Text("api1 web1 ".into()));
        assert_eq!(rendering.used.len(), 3);
    }

    #[test]
    fn an_error_counts_only_when_everything_is_known() {
        let mut template = template("{% set all = service(name='web') %}{{ all[0].address }}").unwrap();
        assert!(matches!(template.render(Values::new(), NOW).outcome, Outcome::Pending(_)));
        let none: Values = [(Arc::new(passing("web")), Arc::new(Answer::instances(vec![])))].into();
        let Outcome::Failed(error) = template.render(none, NOW).outcome else { panic!() };
        assert!(error.report.contains("--> dir/web.tmpl:1:"), "{error}");
    }

    #[test]
    fn an_absent_key_blocks_the_text() {
        let mut template = template("{{ key(path='a') }}").unwrap();
        let values: Values = [(Arc::new(Dependency::Key("a".into())), Arc::new(Answer::key(None)))].into();
        assert_eq!(template.render(values, NOW).outcome, Outcome::Blocked(vec!["key a is absent".into()]));
    }

    #[test]
    fn errors_have_file_line_column_and_what_is_available() {
        let cases = [
            ("a\n  {{ nope() }}", "dir/web.tmpl:2:6", "service(name,"),
            ("a\n{{ 1 | nope }}", "dir/web.tmpl:2:8", "haproxy_quote"),
            ("{% if %}", "dir/web.tmpl:1:7", ""),
            ("{% include 'part.tera' %}", "dir/web.tmpl:1:12", "part.tera is looked for"),
            ("{% extends 'part.tera' %}", "part.tera", "part.tera is looked for"),
            ("{% if false %}{{ key(pth='a') }}{% endif %}", "dir/web.tmpl:1:22", ""),
            ("{% if 1 is nope %}{% endif %}", "dir/web.tmpl:1:12", "matching"),
            ("\n\n{{ instances }}", "dir/web.tmpl:3:4", "service(name,"),
        ];
        for (text, place, hint) in cases {
            let error = template(text).map(|mut t| t.render(Values::new(), NOW).outcome);
            let error = match error {
                Err(error) | Ok(Outcome::Failed(error)) => error,
                other => panic!("{text}: {other:?}"),
            };
            assert!(error.report.contains(place), "{text}\n{error}");
            assert!(error.hint.clone().unwrap_or_default().contains(hint), "{text}\n{error:?}");
        }
    }

    #[test]
    fn a_template_for_each_item_gives_as_many_files() {
        let parse = |items, name| {
            let text = "{{ item.name }}: {{ service(name=item.name) | length }}";
            let sources = Sources { main: "t".into(), files: [("t".to_owned(), text.to_owned())].into() };
            Template::parse_each(&sources, Some(Each { items, name }), Setting::default())
        };
        let mut template = parse("services()", "{{ item.name }}.conf").unwrap();
        let services = Answer::services([("web".to_owned(), vec![]), ("api".to_owned(), vec![])].into());
        let mut values: Values = [(Arc::new(Dependency::Services), Arc::new(services))].into();
        assert!(
            matches!(template.render(values.clone(), NOW).outcome, Outcome::Pending(missing) if missing.len() == 2)
        );
        for name in ["web", "api"] {
            values.insert(Arc::new(passing(name)), Arc::new(Answer::instances(vec![])));
        }
        let files = [("api.conf", "api: 0"), ("web.conf", "web: 0")].map(|(n, t)| (n.to_owned(), t.to_owned()));
        assert_eq!(template.render(values.clone(), NOW).outcome, Outcome::Files(files.into()));
        assert!(parse("servces()", "x").unwrap_err().report.contains("for_each:1:18"));
        assert!(parse("services(tg='x')", "x").unwrap_err().report.contains("services() has no argument `tg`"));
        assert!(parse("services()", "{{ x(").unwrap_err().report.contains("destination:1:"));
        let Outcome::Failed(error) = parse("services()", "{{ x }}").unwrap().render(values, NOW).outcome else {
            panic!()
        };
        assert!(error.report.contains("destination:1:4"), "{error}");
    }

    #[test]
    fn values_are_in_no_error() {
        let values = || -> Values {
            [(Arc::new(Dependency::Key("k".into())), Arc::new(Answer::Key(Some("hunter\"2;`\nhunter-->".into()))))]
                .into()
        };
        let fails = |text: &str| match template(text).unwrap().render(values(), NOW).outcome {
            Outcome::Failed(error) => error.report,
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            "{{ key(path='k') | int }}",
            "{{ key(path='k') | haproxy_quote }}",
            "{{ key(path='k') | must_be(type='int') }}",
            "{{ key(path='k') | from_json }}",
            "{{ key(path='k') | bool }}",
            "{{ get_env(name=key(path='k')) }}",
        ] {
            assert!(!fails(text).contains("hunter"), "{text}\n{}", fails(text));
        }
        assert!(fails("{{ service(name='web', status='up') }}").contains("status \"up\" is none of"));
    }

    #[test]
    fn included_names_are_found() {
        let text = r#"{% include "a.tera" %}{%- include 'b/c.tera' -%}{% extends "d" %}{{ include }}{% include x %}"#;
        assert_eq!(references(text), ["a.tera", "b/c.tera", "d"]);
    }
}
