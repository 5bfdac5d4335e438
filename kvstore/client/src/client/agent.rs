//! Calls about one agent, those it knows, and what it is told to do.
#![allow(clippy::missing_errors_doc)] // said in the parent

use bytes::Bytes;

use super::{Call, Client, Download, Read, Wait};
use crate::{
    Error,
    types::{Member, RaftConfiguration, UserEvent},
};

impl Client {
    /// `GET /v1/agent/members`: the hosts that run an agent, of all datacenters if `wide`.
    pub async fn members(&self, wide: bool, filter: Option<&str>) -> Result<Vec<Member>, Error> {
        let mut call = Call::get(&["agent", "members"]);
        call = if wide { call.with("wan", "1") } else { call.with("segment", "_all") };
        if let Some(filter) = filter {
            call = call.with("filter", filter);
        }
        Ok(self.read(call).await?.value)
    }

    /// `PUT /v1/agent/join/ADDRESS`.
    pub async fn join(&self, address: &str, wide: bool) -> Result<(), Error> {
        let path = ["agent", "join", address];
        let call = Call::put(&path);
        self.write(if wide { call.with("wan", "1") } else { call }).await
    }

    /// `PUT /v1/agent/leave`: the agent stops in order.
    pub async fn leave(&self) -> Result<(), Error> {
        self.write(Call::put(&["agent", "leave"])).await
    }

    /// `PUT /v1/agent/force-leave/NODE`: takes a host that is gone out of the catalog. What comes back is why the
    /// registry did nothing, if it says so.
    pub async fn force_leave(&self, node: &str, prune: bool) -> Result<Option<String>, Error> {
        let path = ["agent", "force-leave", node];
        let call = Call::put(&path);
        Ok(self.call(if prune { call.with("prune", "1") } else { call }, false).await?.reason)
    }

    /// `PUT /v1/agent/reload`: the agent reads its configuration again.
    pub async fn reload(&self) -> Result<(), Error> {
        self.write(Call::put(&["agent", "reload"])).await
    }

    /// `GET /v1/agent/monitor`: the agent's log from now on, at `level`, without an end.
    pub async fn monitor(&self, level: &str, json: bool) -> Result<Download, Error> {
        let path = ["agent", "monitor"];
        let mut call = Call::get(&path);
        if !level.is_empty() {
            call = call.with("loglevel", level);
        }
        self.download(if json { call.with("logjson", "true") } else { call }, true).await
    }

    /// `PUT /v1/agent/maintenance`: takes the agent's node out of use, or back into it.
    pub async fn node_maintenance(&self, enable: bool, reason: &str) -> Result<(), Error> {
        self.write(maintenance(Call::put(&["agent", "maintenance"]), enable, reason)).await
    }

    /// `PUT /v1/agent/service/maintenance/ID`: the same for one of its instances; an unknown id is status 404.
    pub async fn service_maintenance(&self, id: &str, enable: bool, reason: &str) -> Result<(), Error> {
        let path = ["agent", "service", "maintenance", id];
        self.write(maintenance(Call::put(&path), enable, reason)).await
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
}

fn maintenance<'a>(call: Call<'a>, enable: bool, reason: &str) -> Call<'a> {
    let call = call.with("enable", enable.to_string());
    if reason.is_empty() { call } else { call.with("reason", reason) }
}
