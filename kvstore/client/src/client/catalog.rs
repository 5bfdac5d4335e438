//! Calls of `/v1/catalog`, and where its hosts are.
#![allow(clippy::missing_errors_doc)] // said in the parent

use super::{Call, Client, Read, Select, Wait};
use crate::{
    Error,
    types::{
        CatalogDeregistration, CatalogNode, CatalogRegistration, CatalogService, CatalogServices, Node, NodeCoordinate,
    },
};

impl Client {
    /// `GET /v1/catalog/datacenters`.
    pub async fn datacenters(&self) -> Result<Vec<String>, Error> {
        Ok(self.read(Call::get(&["catalog", "datacenters"])).await?.value)
    }

    /// `PUT /v1/catalog/register`.
    pub async fn catalog_register(&self, registration: &CatalogRegistration) -> Result<(), Error> {
        self.write(Call::put(&["catalog", "register"]).json(registration)).await
    }

    /// `PUT /v1/catalog/deregister`; succeeds also for what is not there.
    pub async fn catalog_deregister(&self, deregistration: &CatalogDeregistration) -> Result<(), Error> {
        self.write(Call::put(&["catalog", "deregister"]).json(deregistration)).await
    }

    /// `GET /v1/catalog/nodes`.
    pub async fn catalog_nodes(&self, wait: Option<Wait>) -> Result<Read<Vec<Node>>, Error> {
        self.read(Call::get(&["catalog", "nodes"]).waiting(wait)).await
    }

    /// `GET /v1/catalog/services`.
    pub async fn catalog_services(&self, wait: Option<Wait>) -> Result<Read<CatalogServices>, Error> {
        self.read(Call::get(&["catalog", "services"]).waiting(wait)).await
    }

    /// `GET /v1/catalog/service/NAME`.
    pub async fn catalog_service(&self, name: &str, wait: Option<Wait>) -> Result<Read<Vec<CatalogService>>, Error> {
        self.read(Call::get(&["catalog", "service", name]).waiting(wait)).await
    }

    /// `GET /v1/catalog/node/NAME`; `None` if there is no such node.
    pub async fn catalog_node(&self, name: &str, wait: Option<Wait>) -> Result<Read<Option<CatalogNode>>, Error> {
        self.read(Call::get(&["catalog", "node", name]).waiting(wait)).await
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

    /// `GET /v1/coordinate/nodes`: where hosts are to each other.
    pub async fn coordinates(&self) -> Result<Vec<NodeCoordinate>, Error> {
        Ok(self.read(Call::get(&["coordinate", "nodes"])).await?.value)
    }
}
