//! Calls of `/v1/session`.
#![allow(clippy::missing_errors_doc)] // said in the parent

use super::{Call, Client, Read, Wait};
use crate::{
    Error,
    types::{Session, SessionRequest},
};

impl Client {
    /// `PUT /v1/session/create`: the id of the new session.
    pub async fn session_create(&self, session: &SessionRequest) -> Result<String, Error> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        let created: Read<Created> = self.read(Call::put(&["session", "create"]).json(session)).await?;
        Ok(created.value.id)
    }

    /// `PUT /v1/session/renew/ID`; `None` if there is no such session any more.
    pub async fn session_renew(&self, id: &str) -> Result<Option<Session>, Error> {
        let renewed: Read<Vec<Session>> = self.read_or_404(Call::put(&["session", "renew", id])).await?;
        Ok(renewed.value.into_iter().next())
    }

    /// `PUT /v1/session/destroy/ID`; succeeds also for one that is not there.
    pub async fn session_destroy(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["session", "destroy", id])).await
    }

    /// `GET /v1/session/info/ID`; `None` if there is no such session.
    pub async fn session_info(&self, id: &str, wait: Option<Wait>) -> Result<Read<Option<Session>>, Error> {
        let read: Read<Vec<Session>> = self.read(Call::get(&["session", "info", id]).waiting(wait)).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().next() })
    }

    /// `GET /v1/session/list`.
    pub async fn session_list(&self, wait: Option<Wait>) -> Result<Read<Vec<Session>>, Error> {
        self.read(Call::get(&["session", "list"]).waiting(wait)).await
    }

    /// `GET /v1/session/node/NAME`: the sessions of a host.
    pub async fn session_node(&self, node: &str, wait: Option<Wait>) -> Result<Read<Vec<Session>>, Error> {
        self.read(Call::get(&["session", "node", node]).waiting(wait)).await
    }
}
