//! Lists narrowed and sorted by the registry.
#![allow(clippy::missing_errors_doc)] // said in the parent

use super::{Call, Client, Read, Wait};
use crate::{
    Error,
    types::{CatalogServices, HealthCheck, Node, NodeCoordinate, ServiceEntry},
};

/// What is wanted of a list. Not every list knows everything; what a list does not know is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Only instances all of whose checks pass.
    pub passing: bool,
    /// Only instances with all of these tags.
    pub tags: Vec<String>,
    /// Only of hosts with all of these pairs of metadata, `KEY:VALUE`.
    pub node_meta: Vec<String>,
    /// Only what this expression is true of.
    pub filter: Option<String>,
    /// Nearest to this host first.
    pub near: Option<String>,
}

impl Select {
    /// Adds the parameters that each list knows.
    fn common<'a>(&self, mut call: Call<'a>) -> Call<'a> {
        for pair in &self.node_meta {
            call = call.with("node-meta", pair);
        }
        if let Some(filter) = &self.filter {
            call = call.with("filter", filter);
        }
        call
    }

    /// The same for lists of hosts or of what is on them.
    fn placed<'a>(&self, call: Call<'a>) -> Call<'a> {
        let call = self.common(call);
        if let Some(near) = &self.near { call.with("near", near) } else { call }
    }
}

impl Client {
    /// `GET /v1/catalog/datacenters`.
    pub async fn datacenters(&self) -> Result<Vec<String>, Error> {
        Ok(self.read(Call::get(&["catalog", "datacenters"])).await?.value)
    }

    /// `GET /v1/catalog/nodes`, narrowed by metadata and filter.
    pub async fn catalog_nodes_of(&self, select: &Select, wait: Option<Wait>) -> Result<Read<Vec<Node>>, Error> {
        self.read(select.placed(Call::get(&["catalog", "nodes"])).waiting(wait)).await
    }

    /// `GET /v1/catalog/services`, narrowed by the hosts' metadata and filter.
    pub async fn catalog_services_of(
        &self,
        select: &Select,
        wait: Option<Wait>,
    ) -> Result<Read<CatalogServices>, Error> {
        self.read(select.common(Call::get(&["catalog", "services"])).waiting(wait)).await
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

    /// `GET /v1/coordinate/nodes`: where hosts are to each other.
    pub async fn coordinates(&self) -> Result<Vec<NodeCoordinate>, Error> {
        Ok(self.read(Call::get(&["coordinate", "nodes"])).await?.value)
    }
}
