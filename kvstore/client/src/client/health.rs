//! Calls of `/v1/health`.
#![allow(clippy::missing_errors_doc)] // said in the parent

use super::{Call, Client, Read, Select, Wait};
use crate::{
    Error,
    types::{HealthCheck, ServiceEntry},
};

impl Client {
    /// `GET /v1/health/service/NAME`; only instances all of whose checks pass if `passing`.
    pub async fn health_service(
        &self,
        name: &str,
        passing: bool,
        wait: Option<Wait>,
    ) -> Result<Read<Vec<ServiceEntry>>, Error> {
        self.health_service_of(name, &Select { passing, ..Select::default() }, wait).await
    }

    /// `GET /v1/health/checks/NAME`.
    pub async fn health_checks(&self, name: &str, wait: Option<Wait>) -> Result<Read<Vec<HealthCheck>>, Error> {
        self.read(Call::get(&["health", "checks", name]).waiting(wait)).await
    }

    /// `GET /v1/health/node/NAME`.
    pub async fn health_node(&self, node: &str, wait: Option<Wait>) -> Result<Read<Vec<HealthCheck>>, Error> {
        self.read(Call::get(&["health", "node", node]).waiting(wait)).await
    }

    /// `GET /v1/health/service/NAME`, narrowed by all of `select`.
    pub async fn health_service_of(
        &self,
        name: &str,
        select: &Select,
        wait: Option<Wait>,
    ) -> Result<Read<Vec<ServiceEntry>>, Error> {
        let path = ["health", "service", name];
        let mut call = select.placed(Call::get(&path).waiting(wait));
        if select.passing {
            call = call.with("passing", "");
        }
        for tag in &select.tags {
            call = call.with("tag", tag);
        }
        self.read(call).await
    }

    /// `GET /v1/health/state/STATE`: `any`, `passing`, `warning` or `critical`.
    pub async fn health_state(&self, state: &str, wait: Option<Wait>) -> Result<Read<Vec<HealthCheck>>, Error> {
        self.read(Call::get(&["health", "state", state]).waiting(wait)).await
    }
}
