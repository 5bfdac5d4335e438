//! How a program does, for those who watch over it: `/healthz` for a supervisor, `/metrics` for Prometheus.

mod ask;

use std::{convert::Infallible, fmt, future::ready, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

pub use ask::{NotWell, ask};

use crate::reference::{code, prose, table};

/// Connections at the same time; more wait for their turn.
const MAX_CONNECTIONS: usize = 16;
/// For one request to come and its answer to go.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// After the system could give us no connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Something that knows how it does.
pub trait Monitored: Send + Sync + 'static {
    /// What is wrong, one line each; empty: nothing.
    fn troubles(&self) -> String;

    /// What is counted, in Prometheus' text format: one [`family`] after the other.
    fn metrics(&self) -> String;
}

/// One thing that is counted or measured. A program declares each of its own once.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What it is called.
    pub name: &'static str,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels, with commas between.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// What goes up and down.
    pub const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: "gauge", labels, help }
    }

    /// What only grows.
    pub const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: "counter", labels, help }
    }

    /// How often a value was in which range.
    pub const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: "histogram", labels, help }
    }
}

/// Adds `metric` with its values to `text`; labels stand as they are written, `{a="b"}`, or are empty.
pub fn family<L: fmt::Display>(text: &mut String, metric: &Metric, values: impl IntoIterator<Item = (L, u64)>) {
    use fmt::Write;
    let Metric { name, kind, help, .. } = metric;
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

/// A page on what a program counts.
pub fn page(metrics: &[Metric]) -> String {
    let row = |m: &Metric| [code(m.name), m.kind.to_owned(), prose_labels(m.labels), prose(m.help)];
    table(["metric", "kind", "labels", "meaning"], metrics.iter().map(row))
}

/// Each name as code.
pub fn prose_labels(labels: &str) -> String {
    labels.split(", ").filter(|name| !name.is_empty()).map(code).collect::<Vec<_>>().join(", ")
}

/// Answers at `listener` for ever.
pub async fn serve(listener: TcpListener, monitored: Arc<impl Monitored>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let monitored = monitored.clone();
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(|request| ready(Ok::<_, Infallible>(answer(&request, &*monitored))));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(REQUEST_LIMIT).keep_alive(false);
            // Whoever hangs up or is slow has no answer; that is theirs to tell.
            let _ = timeout(2 * REQUEST_LIMIT, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, monitored: &impl Monitored) -> Response<String> {
    let (code, body) = match request.uri().path() {
        _ if ![Method::GET, Method::HEAD].contains(request.method()) => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".into())
        }
        "/healthz" => match monitored.troubles() {
            none if none.is_empty() => (StatusCode::OK, "ok\n".into()),
            troubles => (StatusCode::SERVICE_UNAVAILABLE, troubles),
        },
        "/metrics" => (StatusCode::OK, monitored.metrics()),
        _ => (StatusCode::NOT_FOUND, "there are /healthz and /metrics\n".into()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
