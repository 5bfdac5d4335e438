//! Answers as handlers make them.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};

use super::{
    Body,
    json::{compact, pretty},
    routes::Route,
};

/// The methods of a path; for one query with a body, as Consul has it.
pub(super) fn options(strict: bool, routes: &[Route]) -> Response<Body> {
    let is_query = routes.iter().any(|route| route.path.starts_with("/v1/query/"));
    let body = if is_query { Bytes::from_static(b"{}") } else { Bytes::new() };
    let mut response = allow(StatusCode::OK, strict, routes, body);
    if is_query {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// An answer that says which methods the path takes.
pub(super) fn allow(status: StatusCode, strict: bool, routes: &[Route], body: Bytes) -> Response<Body> {
    let taken = routes.iter().filter(|route| !(strict && route.is_get_as_put()));
    let methods = taken.fold("OPTIONS".to_owned(), |list, route| format!("{list},{}", route.method));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(ALLOW, HeaderValue::from_str(&methods).expect("methods are plain ASCII"));
    response
}

/// A text for people.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A success without a body.
pub(super) fn empty() -> Response<Body> {
    Response::new(Body::default())
}

/// An answer of JSON, compact; see [`prettied`].
pub(super) fn json(value: &impl serde::Serialize) -> Response<Body> {
    json_bytes(compact(value))
}

fn json_bytes(bytes: Bytes) -> Response<Body> {
    json_body(Body::new(bytes))
}

pub(super) fn json_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    // All that a read adds; else they would move once on the way.
    response.headers_mut().reserve(12);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `?pretty`: JSON with four spaces and a line end; anything else as it is.
pub(super) fn prettied(response: Response<Body>) -> Response<Body> {
    if response.headers().get(CONTENT_TYPE).is_none_or(|t| t != "application/json") {
        return response;
    }
    response.map(|body| body.whole().map(|bytes| Body::new(pretty(bytes))).unwrap_or(body))
}
