//! Prepared queries: who may have which name, and what goes with a session.

use super::{Draft, Refusal};
use crate::{
    names::SessionId,
    prepared_query::{InvalidQuery, InvalidTemplate, PreparedQuery, QueryId, Template},
    row::{Row, RowKey, RowRange},
};

/// Why a prepared query is not kept. Clients know the texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryRefusal {
    /// The definition is none.
    #[error("Invalid prepared query: {0}")]
    Invalid(#[from] InvalidQuery),
    /// Nothing is known of the query.
    #[error("Cannot modify non-existent prepared query: '{0}'")]
    Unknown(QueryId),
    /// Another query has the name.
    #[error("raft apply failed: name '{0}' aliases an existing query name")]
    NameTaken(String),
    /// There is a template for every name already.
    #[error("raft apply failed: a query template with an empty name already exists")]
    CatchAllTaken,
    /// Another query has the name as its id, and would be hidden by this one.
    #[error("raft apply failed: name '{0}' aliases an existing query ID")]
    NameIsId(String),
    /// It would go with a session that is not there.
    #[error("raft apply failed: invalid session {0:?}")]
    UnknownSession(String),
    /// It stands for no name.
    #[error("raft apply failed: failed compiling template: {0}")]
    Template(#[from] InvalidTemplate),
}

impl Draft<'_> {
    pub(super) fn create_query(&mut self, query: &PreparedQuery) -> Result<(), Refusal> {
        if self.query(&query.id).is_some() {
            // Ids are chosen by chance.
            return Err(Refusal::Conflict);
        }
        self.put_query(query)
    }

    pub(super) fn update_query(&mut self, query: &PreparedQuery) -> Result<(), Refusal> {
        self.need_query(&query.id)?;
        self.put_query(query)
    }

    pub(super) fn delete_query(&mut self, id: &QueryId) -> Result<(), Refusal> {
        self.need_query(id)?;
        self.delete(&RowKey::Query(id.clone()));
        Ok(())
    }

    /// Takes away the queries that go with a session.
    /// Takes at most so many of them away; whether there are more.
    pub(super) fn end_queries_of(&mut self, session: &SessionId, most: usize) -> bool {
        let mut ids: Vec<_> = self.state().queries.of_session(session.as_str()).cloned().collect();
        let more = ids.len() > most;
        ids.truncate(most);
        for id in ids {
            self.delete(&RowKey::Query(id));
        }
        more
    }

    fn need_query(&mut self, id: &QueryId) -> Result<(), QueryRefusal> {
        if self.query(id).is_some() { Ok(()) } else { Err(QueryRefusal::Unknown(id.clone())) }
    }

    fn put_query(&mut self, query: &PreparedQuery) -> Result<(), Refusal> {
        query.check().map_err(QueryRefusal::Invalid)?;
        self.claim_query_name(query)?;
        if !query.session.is_empty() {
            let session = SessionId::new(&query.session).ok().and_then(|id| self.session(&id));
            let session = session.ok_or_else(|| QueryRefusal::UnknownSession(query.session.clone()))?;
            self.join(RowKey::Session(session.id.clone()));
        }
        if query.is_template() {
            Template::compile(query).map_err(QueryRefusal::Template)?;
        }
        self.put(Row::Query(query.clone()));
        Ok(())
    }

    /// Names are unique without regard to case, and no name is the id of another query.
    fn claim_query_name(&mut self, query: &PreparedQuery) -> Result<(), QueryRefusal> {
        self.rely_on_range(RowRange::Queries);
        let queries = &self.state().queries;
        let is_other = |id: &&QueryId| **id != query.id;
        if query.name.is_empty() {
            let taken = query.is_template() && queries.catch_all().as_ref().is_some_and(is_other);
            return if taken { Err(QueryRefusal::CatchAllTaken) } else { Ok(()) };
        }
        if queries.named(&query.name).as_ref().is_some_and(is_other) {
            return Err(QueryRefusal::NameTaken(query.name.clone()));
        }
        if QueryId::new(&query.name).is_some_and(|id| queries.get(&id).is_some()) {
            return Err(QueryRefusal::NameIsId(query.name.clone()));
        }
        Ok(())
    }
}
