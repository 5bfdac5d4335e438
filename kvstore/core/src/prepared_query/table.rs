//! The queries there are, and which of them a name means.

use std::{borrow::Cow, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::{
    definition::PreparedQuery,
    template::{RenderError, Template},
};
use crate::{Index, names::QueryId, row::Stamped};

/// Rows, names derived from them, and watermarks.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: OrdMap<QueryId, Arc<Stamped<PreparedQuery>>>,
    /// Derived: names in lower case, templates included.
    by_name: OrdMap<String, QueryId>,
    /// Derived: templates by their name in lower case, which may be empty.
    templates: OrdMap<String, (QueryId, Arc<Template>)>,
    /// Derived: what goes with a session.
    by_session: OrdMap<String, OrdSet<QueryId>>,
    /// When a query was last put or deleted.
    changed: Index,
    /// When one was last deleted.
    gone: Index,
}

/// A query as it is for a name.
pub type Resolved<'a> = Stamped<Cow<'a, PreparedQuery>>;

/// Why a name means no query, although there may be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Nothing was asked for.
    #[error("Missing Query ID")]
    Empty,
    /// A template means nothing without a name.
    #[error("prepared query templates can only be resolved up by name, not by ID")]
    TemplateById,
    /// Its texts cannot be made for this name.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It comes from a version that knew other templates.
    #[error("the template {0:?} cannot be read by this version")]
    NotCompiled(String),
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

impl Table {
    pub(crate) fn new(floor: Index) -> Self {
        let (by_name, templates, by_session) = (OrdMap::new(), OrdMap::new(), OrdMap::new());
        Self { rows: OrdMap::new(), by_name, templates, by_session, changed: floor, gone: floor }
    }

    pub(crate) fn get(&self, id: &QueryId) -> Option<&Arc<Stamped<PreparedQuery>>> {
        self.rows.get(id)
    }

    /// The rows, by id.
    pub(crate) fn rows(&self) -> &OrdMap<QueryId, Arc<Stamped<PreparedQuery>>> {
        &self.rows
    }

    /// Their contents, by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Stamped<PreparedQuery>>> {
        self.rows.values()
    }

    /// Those that go when the session ends, by id.
    pub(crate) fn of_session(&self, session: &str) -> impl Iterator<Item = &QueryId> {
        self.by_session.get(session).into_iter().flatten()
    }

    /// Who has this name, in any case.
    pub(crate) fn named(&self, name: &str) -> Option<&QueryId> {
        self.by_name.get(&fold(name))
    }

    /// The template that stands for every name.
    pub(crate) fn catch_all(&self) -> Option<&QueryId> {
        self.templates.get("").map(|(id, _)| id)
    }

    /// When a query was last put or deleted.
    pub(crate) fn changed(&self) -> Index {
        self.changed
    }

    /// When this one was last put, or if it is not there, when any was last deleted.
    pub(crate) fn changed_last(&self, id: &QueryId) -> Index {
        self.get(id).map_or(self.gone, |row| row.modified)
    }

    /// Puts a row.
    pub(crate) fn insert(&mut self, row: Arc<Stamped<PreparedQuery>>) {
        let id = row.id.clone();
        self.unlink(&id);
        self.changed = self.changed.max(row.modified);
        if !row.name.is_empty() {
            self.by_name.insert(fold(&row.name), id.clone());
        }
        if row.is_template()
            && let Ok(template) = Template::compile(&row)
        {
            self.templates.insert(fold(&row.name), (id.clone(), Arc::new(template)));
        }
        if !row.session.is_empty() {
            self.by_session.entry(row.session.clone()).or_default().insert(id.clone());
        }
        self.rows.insert(id, row);
    }

    /// Takes a row away; whether it was there.
    pub(crate) fn remove(&mut self, id: &QueryId, at: Index) -> bool {
        self.unlink(id);
        let was_there = self.rows.remove(id).is_some();
        if was_there {
            (self.changed, self.gone) = (at, at);
        }
        was_there
    }

    /// Forgets what was derived from a row.
    fn unlink(&mut self, id: &QueryId) {
        let Some(old) = self.rows.get(id) else { return };
        let name = fold(&old.name);
        self.by_name.remove(&name);
        if old.is_template() {
            self.templates.remove(&name);
        }
        if let Some(members) = self.by_session.get_mut(&old.session) {
            members.remove(id);
            if members.is_empty() {
                self.by_session.remove(&old.session);
            }
        }
    }

    /// The query that an id or a name means: by its id, by its own name, or the template with the longest beginning of
    /// the name.
    pub(crate) fn resolve(&self, id_or_name: &str) -> Result<Option<Resolved<'_>>, Unresolved> {
        if id_or_name.is_empty() {
            return Err(Unresolved::Empty);
        }
        if let Some(row) = QueryId::new(id_or_name).and_then(|id| self.get(&id)) {
            return if row.is_template() { Err(Unresolved::TemplateById) } else { Ok(Some(as_it_is(row))) };
        }
        let name = fold(id_or_name);
        let own = self.by_name.get(&name);
        let Some(row) = own.or_else(|| self.longest_prefix(&name)).and_then(|id| self.get(id)) else { return Ok(None) };
        if !row.is_template() {
            return Ok(Some(as_it_is(row)));
        }
        let (_, template) =
            self.templates.get(&fold(&row.name)).ok_or_else(|| Unresolved::NotCompiled(row.name.clone()))?;
        let value = Cow::Owned(template.render(row, id_or_name)?);
        Ok(Some(Stamped { created: row.created, modified: row.modified, value }))
    }

    /// The template whose name is the longest beginning of `name`.
    fn longest_prefix(&self, name: &str) -> Option<&QueryId> {
        let mut start = name;
        loop {
            // What is a beginning of `start` comes before it, and the longest of all comes last.
            let (candidate, (id, _)) = self.templates.get_prev(start)?;
            if start.starts_with(candidate.as_str()) {
                return Some(id);
            }
            start = &start[..common(start, candidate)];
        }
    }

    /// Whether a query has a name that ends in `.NAME`: then the name is a step to another one.
    pub(crate) fn leads_on(&self, name: &str) -> bool {
        let below = format!(".{}", fold(name));
        self.by_name.keys().any(|own| own.ends_with(&below))
    }
}

fn as_it_is(row: &Stamped<PreparedQuery>) -> Resolved<'_> {
    Stamped { created: row.created, modified: row.modified, value: Cow::Borrowed(&row.value) }
}

/// How many bytes two texts have in common at their beginning, whole characters only.
fn common(a: &str, b: &str) -> usize {
    let both = a.char_indices().zip(b.chars());
    both.take_while(|((_, a), b)| a == b).last().map_or(0, |((at, a), _)| at + a.len_utf8())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prepared_query::{
        NAME_PREFIX_MATCH,
        definition::tests::{id, query},
    };

    const START: Index = Index(100);

    fn table(queries: &[(&str, bool)]) -> Table {
        let mut table = Table::new(START);
        for ((name, is_template), number) in queries.iter().zip(1..) {
            let mut value = query(number, name, json!({"service": name}));
            if *is_template {
                value.template.kind = NAME_PREFIX_MATCH.into();
                value.service.service = format!("{name}:${{name.suffix}}");
            }
            let index = Index(100 + u64::from(number));
            table.insert(Stamped { created: index, modified: index, value }.into());
        }
        table
    }

    fn resolved(table: &Table, name: &str) -> String {
        match table.resolve(name) {
            Ok(Some(found)) => found.value.service.service.clone(),
            Ok(None) => "-".into(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn ids_then_names_then_the_longest_template() {
        let table = table(&[("web", false), ("we", true), ("web-", true), ("web-a-b", false), ("Z\u{e9}", true)]);
        for (name, want) in [
            ("web", "web"),
            ("WEB", "web"),
            ("webx", "we:bx"),
            ("web-", "web-:"),
            ("web-a", "web-:a"),
            ("Web-A", "web-:A"),
            ("web-a-b", "web-a-b"),
            ("web-a-bc", "web-:a-bc"),
            ("we", "we:"),
            ("w", "-"),
            ("x", "-"),
            ("zz", "-"),
            ("Z\u{e9}roes", "Z\u{e9}:roes"),
            (id(1).as_str(), "web"),
            (&id(1).as_str().to_uppercase(), "web"),
            (id(2).as_str(), "prepared query templates can only be resolved up by name, not by ID"),
            (id(9).as_str(), "-"),
            ("", "Missing Query ID"),
        ] {
            assert_eq!(resolved(&table, name), want, "{name}");
        }
    }

    #[test]
    fn the_longest_template_is_found_among_many_that_are_near() {
        let names = ["a", "ab", "abc", "abd", "abcde", "abce", "b", "a\u{10FFFF}"];
        let table = table(&names.map(|name| (name, true)));
        let asked = ["a", "ab", "abcd", "abcdz", "abcdef", "abz", "az", "b", "c", "0", "a\u{10FFFF}x", "ab\u{10FFFF}"];
        for name in asked {
            let longest = names.iter().filter(|own| name.starts_with(**own)).max_by_key(|own| own.len());
            let want = longest.map_or("-".into(), |own| format!("{own}:{}", &name[own.len()..]));
            assert_eq!(resolved(&table, name), want, "{name}");
        }
    }

    #[test]
    fn an_empty_template_catches_all() {
        let table = table(&[("", true), ("web-", true)]);
        assert_eq!(resolved(&table, "anything"), ":anything");
        assert_eq!(resolved(&table, "web-x"), "web-:x");
        assert_eq!(table.catch_all(), Some(&id(1)));
    }

    #[test]
    fn a_row_put_anew_or_deleted_leaves_no_names_behind() {
        let mut table = table(&[("web", false), ("t", true)]);
        let bound = |name: &str| {
            let value = PreparedQuery { session: "s".into(), ..query(1, name, json!({"service": "x"})) };
            Stamped { created: Index(101), modified: Index(200), value }
        };
        table.insert(bound("other").into());
        assert_eq!((resolved(&table, "web"), resolved(&table, "other")), ("-".into(), "x".into()));
        assert_eq!(table.of_session("s").collect::<Vec<_>>(), [&id(1)]);
        assert!(table.remove(&id(1), Index(201)) && !table.remove(&id(1), Index(202)));
        assert_eq!((table.of_session("s").count(), resolved(&table, "other")), (0, "-".into()));
        assert!(table.remove(&id(2), Index(203)));
        assert_eq!((resolved(&table, "tx"), table.all().count()), ("-".into(), 0));
        assert!(table.by_name.is_empty() && table.templates.is_empty() && table.by_session.is_empty());
    }

    #[test]
    fn marks_rise_with_changes() {
        let mut table = table(&[("a", false), ("b", false)]);
        assert_eq!(
            (table.changed(), table.changed_last(&id(1)), table.changed_last(&id(9))),
            (Index(102), Index(101), START)
        );
        table.remove(&id(1), Index(110));
        assert_eq!(
            (table.changed(), table.changed_last(&id(1)), table.changed_last(&id(2))),
            (Index(110), Index(110), Index(102))
        );
    }

    #[test]
    fn names_with_dots_lead_on() {
        let table = table(&[("a.B", false)]);
        assert!(table.leads_on("b") && !table.leads_on("a") && !table.leads_on("a.b"));
    }
}
