//! Prepared queries.

use kvstore_core::{
    QueryRefusal,
    prepared_query::{InvalidQuery, InvalidTemplate, NAME_PREFIX_MATCH, PreparedQuery, QueryId},
    row::Stamped,
};

use super::{Naive, unstamped};

impl Naive {
    pub(super) fn put_query(&mut self, query: &PreparedQuery) -> Result<(), QueryRefusal> {
        let (name, kind) = (&query.name, query.template.kind.as_str());
        if name.is_empty() && kind.is_empty() && query.session.is_empty() {
            return Err(InvalidQuery::Unbound.into());
        }
        if query.service.service.is_empty() {
            return Err(InvalidQuery::NoService.into());
        }
        let others = || self.queries.values().filter(|other| other.id != query.id);
        if name.is_empty() && !kind.is_empty() && others().any(|other| other.name.is_empty() && other.is_template()) {
            return Err(QueryRefusal::CatchAllTaken);
        }
        if !name.is_empty() && others().any(|other| other.name.to_lowercase() == name.to_lowercase()) {
            return Err(QueryRefusal::NameTaken(name.clone()));
        }
        if self.queries.keys().any(|id| id.as_str() == name) {
            return Err(QueryRefusal::NameIsId(name.clone()));
        }
        if !query.session.is_empty() && !self.sessions.keys().any(|id| id.as_str() == query.session) {
            return Err(QueryRefusal::UnknownSession(query.session.clone()));
        }
        if !matches!(kind, "" | NAME_PREFIX_MATCH) {
            return Err(InvalidTemplate::Kind(kind.into()).into());
        }
        self.queries.insert(query.id.clone(), unstamped(query.clone()));
        Ok(())
    }

    /// The id of the query that a name means, and what it asks for; an error if it is the id of a template.
    pub(crate) fn resolve(&self, asked: &str) -> Result<Option<(QueryId, String)>, ()> {
        if let Some(query) = self.queries.values().find(|query| query.id.as_str() == asked) {
            let found = (query.id.clone(), query.service.service.clone());
            return if query.is_template() { Err(()) } else { Ok(Some(found)) };
        }
        let folded = asked.to_lowercase();
        let fits = |query: &&Stamped<PreparedQuery>| {
            let own = query.name.to_lowercase();
            !own.is_empty() && own == folded || query.is_template() && folded.starts_with(&own)
        };
        let Some(query) = self.queries.values().filter(fits).max_by_key(|query| query.name.len()) else {
            return Ok(None);
        };
        let service = if query.is_template() {
            let suffix = &asked[query.name.len()..];
            query.service.service.replace("${name.full}", asked).replace("${name.suffix}", suffix)
        } else {
            query.service.service.clone()
        };
        Ok(Some((query.id.clone(), service)))
    }
}
