//! The reference for the list of services: a server that looks at the rows and serialises them for each request, as one
//! without answers at hand must. Same rows, same persistent maps, same HTTP library and threads as ours.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header::CONTENT_TYPE, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kvstore_client::{Client, types::CatalogService};
use kvstore_core::{
    Index, State,
    row::{Instance, Node, Row, Stamped},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

/// A running reference.
pub(crate) struct Reference {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reference {
    /// Serves the list of services that `client`'s registry has.
    pub(crate) async fn copy_of(client: &Client) -> Self {
        let state = Arc::new(State::load(Index(1), rows(client).await));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                let _ = stream.set_nodelay(true);
                let service = service_fn(move |_| std::future::ready(Ok::<_, Infallible>(answer(&state))));
                let mut http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, task }
    }
}

fn answer(state: &State) -> Response<Full<Bytes>> {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for service in state.services() {
        for view in state.instances_of(service) {
            let tags = listed.entry(view.instance.service.clone()).or_default();
            for tag in &view.instance.tags {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
    }
    let body = serde_json::to_vec(&listed).expect("keys are strings");
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

async fn rows(client: &Client) -> Vec<Stamped<Row>> {
    let services = client.catalog_services(None).await.expect("the registry answers").value;
    let mut rows = Vec::new();
    for service in services.keys() {
        let instances = client.catalog_service(service, None).await.expect("the registry answers").value;
        rows.extend(instances.into_iter().flat_map(|found| {
            let (created, modified) = (Index(found.create_index), Index(found.modify_index));
            both(found).map(|value| Stamped { created, modified, value })
        }));
    }
    rows
}

/// An instance and its host.
fn both(found: CatalogService) -> [Row; 2] {
    let node = Node {
        name: found.node,
        id: found.id,
        address: found.address,
        tagged_addresses: found.tagged_addresses,
        meta: found.node_meta,
    };
    // What the list does not show stays at its default.
    let instance = json!({
        "node": node.name, "id": found.service_id, "service": found.service_name, "tags": found.service_tags,
        "address": found.service_address, "port": found.service_port, "meta": found.service_meta,
    });
    let instance: Instance = serde_json::from_value(instance).expect("the registry took it");
    [Row::Node(node), Row::Instance(instance)]
}
