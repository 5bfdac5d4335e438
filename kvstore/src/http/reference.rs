//! The endpoints, for readers. Pure.

use kvstore_client::reference::{code, table};

use super::{
    acl, mesh, operator, prepared_query,
    routes::{ROUTES, Route},
    strict::EXTENSIONS,
};

/// Every endpoint, by what it belongs to, and what Consul does not have.
pub(crate) fn page() -> String {
    let both: Vec<&Route> = ROUTES.iter().chain(prepared_query::ROUTES).chain(acl::ROUTES).collect();
    let stand_ins: Vec<&Route> = operator::ROUTES.iter().chain(mesh::ROUTES).collect();
    let extensions = EXTENSIONS.iter().map(|(here, strict)| [(*here).to_owned(), (*strict).to_owned()]);
    format!(
        "{}\nStand-ins for what is not inside, so that Consul's clients and tools get an answer they know:\n\n{}\n\
         What Consul does not have, and `--strict-consul` switches off:\n\n{}",
        endpoints(&both),
        endpoints(&stand_ins),
        table(["here", "with `--strict-consul`"], extensions),
    )
}

fn endpoints(routes: &[&Route]) -> String {
    let rows = routes.chunk_by(|a, b| a.path == b.path).map(|routes| {
        let method = |route: &&Route| {
            format!("{}{}", route.method, if route.is_get_as_put() { " (as `PUT`, not in Consul)" } else { "" })
        };
        let methods: Vec<_> = routes.iter().map(method).collect();
        let path = routes[0].path.replace('*', "…");
        [code(&if path.ends_with('/') { path + "…" } else { path }), methods.join(", ")]
    });
    table(["path", "methods"], rows)
}
