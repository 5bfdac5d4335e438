//! Calls of `/v1/query`.

use reqwest::Method;

use super::{Call, Client, Read, Wait};
use crate::{
    Error,
    types::{PreparedQuery, QueryCreated, QueryExecution, QueryExplanation},
};

/// What is wanted of the instances that a prepared query finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecuteQuery {
    /// So many at most; 0: all.
    pub limit: u32,
    /// The host whose neighbours come first, or `_agent`; none: as the query says.
    pub near: Option<String>,
    /// Only instances that are in a mesh.
    pub connect: bool,
}

impl Client {
    /// `POST /v1/query`: keeps a new query; answers its id.
    ///
    /// # Errors
    /// [`Error::Status`] 500 with the reason if the definition is none or its name is taken.
    pub async fn query_create(&self, query: &PreparedQuery) -> Result<String, Error> {
        let mut call = Call::put(&["query"]).json(query);
        call.method = Method::POST;
        let created: QueryCreated = self.read(call).await?.value;
        Ok(created.id)
    }

    /// `PUT /v1/query/ID`: puts another definition in the place of one.
    ///
    /// # Errors
    /// [`Error::Status`] 500 with the reason, also if there is no such query.
    pub async fn query_update(&self, id: &str, query: &PreparedQuery) -> Result<(), Error> {
        self.write(Call::put(&["query", id]).json(query)).await
    }

    /// `DELETE /v1/query/ID`.
    ///
    /// # Errors
    /// [`Error::Status`] 500 if there is no such query.
    pub async fn query_delete(&self, id: &str) -> Result<(), Error> {
        self.write(Call::delete(&["query", id])).await
    }

    /// `GET /v1/query/ID`; `None` if there is no such query.
    ///
    /// # Errors
    /// [`Error::Status`] 500 for what is no UUID.
    pub async fn query_get(&self, id: &str, wait: Option<Wait>) -> Result<Read<Option<PreparedQuery>>, Error> {
        let read: Read<Vec<PreparedQuery>> = self.read_or_404(Call::get(&["query", id]).waiting(wait)).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().next() })
    }

    /// `GET /v1/query`: every query, by id.
    ///
    /// # Errors
    /// [`Error`] if the registry does not answer.
    pub async fn query_list(&self, wait: Option<Wait>) -> Result<Read<Vec<PreparedQuery>>, Error> {
        self.read(Call::get(&["query"]).waiting(wait)).await
    }

    /// `GET /v1/query/NAME/execute`: the instances found by the query of that id or name; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Status`] 500 if a template cannot be rendered for the name.
    pub async fn query_execute(&self, id_or_name: &str, ask: &ExecuteQuery) -> Result<Option<QueryExecution>, Error> {
        let path = ["query", id_or_name, "execute"];
        let mut call = Call::get(&path);
        if ask.limit > 0 {
            call = call.with("limit", ask.limit.to_string());
        }
        if let Some(near) = &ask.near {
            call = call.with("near", near);
        }
        if ask.connect {
            call = call.with("connect", "true");
        }
        Ok(self.read_or_404(call).await?.value)
    }

    /// `GET /v1/query/NAME/explain`: the query of that id or name as it would be executed; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Status`] 500 if a template cannot be rendered for the name.
    pub async fn query_explain(&self, id_or_name: &str) -> Result<Option<QueryExplanation>, Error> {
        Ok(self.read_or_404(Call::get(&["query", id_or_name, "explain"])).await?.value)
    }
}
