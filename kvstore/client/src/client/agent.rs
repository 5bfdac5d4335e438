//! Calls of `/v1/agent`: what one agent is, what is registered with it, whom it knows, and what it is told to do.
#![allow(clippy::missing_errors_doc)] // said in the parent

use std::collections::BTreeMap;

use super::{Call, Client, Download};
use crate::{
    Error,
    types::{AgentCheck, AgentService, CheckRegistration, CheckUpdate, Member, ServiceRegistration},
};

impl Client {
    /// `GET /v1/agent/self`: the agent's configuration and facts.
    pub async fn agent_self(&self) -> Result<serde_json::Value, Error> {
        Ok(self.read(Call::get(&["agent", "self"])).await?.value)
    }

    /// `GET /v1/agent/services`: the instances of the agent's own node, by id.
    pub async fn agent_services(&self) -> Result<BTreeMap<String, AgentService>, Error> {
        Ok(self.read(Call::get(&["agent", "services"])).await?.value)
    }

    /// `GET /v1/agent/checks`: the checks of the agent's own node, by id.
    pub async fn agent_checks(&self) -> Result<BTreeMap<String, AgentCheck>, Error> {
        Ok(self.read(Call::get(&["agent", "checks"])).await?.value)
    }

    /// `PUT /v1/agent/service/register`; checks of the same instance that the registration does not name are removed.
    pub async fn register_service(&self, service: &ServiceRegistration) -> Result<(), Error> {
        let path = ["agent", "service", "register"];
        self.write(Call::put(&path).with("replace-existing-checks", "true").json(service)).await
    }

    /// `PUT /v1/agent/service/deregister/ID`; an unknown id is status 404.
    pub async fn deregister_service(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["agent", "service", "deregister", id])).await
    }

    /// `PUT /v1/agent/check/register`.
    pub async fn register_check(&self, check: &CheckRegistration) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "register"]).json(check)).await
    }

    /// `PUT /v1/agent/check/deregister/ID`; an unknown id is status 404.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "deregister", id])).await
    }

    /// `PUT /v1/agent/check/update/ID`: sets the state of a TTL check and renews it.
    pub async fn update_check(&self, id: &str, update: &CheckUpdate) -> Result<(), Error> {
        self.write(Call::put(&["agent", "check", "update", id]).json(update)).await
    }

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
}

fn maintenance<'a>(call: Call<'a>, enable: bool, reason: &str) -> Call<'a> {
    let call = call.with("enable", enable.to_string());
    if reason.is_empty() { call } else { call.with("reason", reason) }
}
