//! Calls about the registry as a whole: who leads it, all that it holds, and events, which are for every agent.
#![allow(clippy::missing_errors_doc)] // said in the parent

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{Call, Client, Download, Read, Wait};
use crate::{
    Error,
    types::{RaftConfiguration, UserEvent},
};

impl Client {
    /// `GET /v1/status/leader`: `IP:PORT` of who orders the writes; empty if the registry has nobody.
    pub async fn leader(&self) -> Result<String, Error> {
        Ok(self.read(Call::get(&["status", "leader"])).await?.value)
    }

    /// `PUT /v1/event/fire/NAME`: fires `event` with its name, payload and filters, and gives it back with its id.
    pub async fn fire_event(&self, event: &UserEvent) -> Result<UserEvent, Error> {
        let path = ["event", "fire", &event.name];
        let mut call = Call::put(&path);
        for (name, value) in
            [("node", &event.node_filter), ("service", &event.service_filter), ("tag", &event.tag_filter)]
        {
            if !value.is_empty() {
                call = call.with(name, value);
            }
        }
        call.body = Some(Bytes::clone(&event.payload));
        Ok(self.read(call).await?.value)
    }

    /// `GET /v1/event/list`: the newest events, oldest first; only those called `name` unless it is empty.
    pub async fn events(&self, name: &str, wait: Option<Wait>) -> Result<Read<Vec<UserEvent>>, Error> {
        let path = ["event", "list"];
        let call = Call::get(&path).waiting(wait);
        self.read(if name.is_empty() { call } else { call.with("name", name) }).await
    }

    /// `GET /v1/snapshot`: the whole state as an archive.
    pub async fn snapshot_save(&self) -> Result<Download, Error> {
        self.download(Call::get(&["snapshot"]), false).await
    }

    /// `PUT /v1/snapshot`: puts the state of an archive in place of all there is.
    pub async fn snapshot_restore(&self, archive: impl Into<Bytes>) -> Result<(), Error> {
        let mut call = Call::put(&["snapshot"]);
        call.body = Some(archive.into());
        self.write(call).await
    }

    /// `GET /v1/operator/raft/configuration`.
    pub async fn raft_configuration(&self) -> Result<RaftConfiguration, Error> {
        Ok(self.read(Call::get(&["operator", "raft", "configuration"])).await?.value)
    }

    /// How many there are in the list at `path`, below `/v1`.
    pub async fn number_of(&self, path: &[&str]) -> Result<usize, Error> {
        Ok(self.read::<Option<Vec<IgnoredAny>>>(Call::get(path)).await?.value.map_or(0, |all| all.len()))
    }
}
