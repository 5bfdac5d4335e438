//! The HTTP probe: 2xx passes, 429 warns, all else is critical.
//!
//! Each run makes its own connection: one kept open would not notice that nobody listens any more.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{
        ACCEPT, AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT,
        WWW_AUTHENTICATE,
    },
};
use hyper_util::rt::TokioIo;
use kvstore_core::{
    health::Status,
    row::{ProbeKind, ProbeTls},
};
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, error::Elapsed, timeout_at};
use url::Url;

use super::{
    Finding, critical, dial, failed, found, silent,
    tls::{Speaks, Tls},
};

/// What services see in their logs, as from Consul.
const AGENT: &str = "Consul Health Check";

/// Redirects followed at most.
const MAX_REDIRECTS: usize = 10;

/// Of an answer's head.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Headers that another host is not told.
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, WWW_AUTHENTICATE];

/// Makes the request of `kind`, which is an HTTP probe, and judges the answer, of which `max` bytes are read.
pub(super) async fn probe(tls: &Tls, kind: &ProbeKind, max: usize, what: &str, within: Duration) -> Finding {
    let ProbeKind::Http { no_redirects, tls_skip_verify, tls_server_name, .. } = kind else {
        return Finding::NotTried("this is no HTTP probe".into());
    };
    let how = ProbeTls { skip_verify: *tls_skip_verify, server_name: tls_server_name.clone() };
    let (until, redirects) = (Instant::now() + within, if *no_redirects { 0 } else { MAX_REDIRECTS });
    let exchange = Exchange { tls, how, redirects, max, until };
    let asked = match Asked::of(kind) {
        Ok(asked) => asked,
        Err(why) => return critical(what, &why),
    };
    match exchange.run(asked).await {
        Ok((code, body)) => judge(code, &body, what),
        Err(Failure::Late) => silent(what, within),
        Err(Failure::Io(error)) => failed(what, &error),
    }
}

/// One request, before it is on its way.
#[derive(Clone, Debug)]
struct Asked {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn of(kind: &ProbeKind) -> Result<Self, String> {
        let ProbeKind::Http { url, method, header, body, .. } = kind else { return Err(String::new()) };
        let url = Url::parse(url).map_err(|e| format!("this is no URL: {e}"))?;
        reachable(&url)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain, text/*, */*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.extend(basic(&url).map(|value| (AUTHORIZATION, value)));
        for (name, values) in header {
            put(&mut headers, name, values)?;
        }
        Ok(Self { url, method, headers, body: body.clone().into() })
    }

    /// What is asked after `response`, if that sends us elsewhere.
    fn redirected(&self, response: &Response<Incoming>) -> Result<Option<Self>, String> {
        use StatusCode as S;
        let keeps = match response.status() {
            S::MOVED_PERMANENTLY | S::FOUND | S::SEE_OTHER => false,
            S::TEMPORARY_REDIRECT | S::PERMANENT_REDIRECT => true,
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
        let location = String::from_utf8_lossy(location.as_bytes());
        let url =
            self.url.join(&location).map_err(|e| format!("it redirects to {location:?}, which is no URL: {e}"))?;
        reachable(&url)?;
        let mut next = Self { url, ..self.clone() };
        if !keeps {
            next.body = Bytes::new();
            next.method = if self.method == Method::HEAD { Method::HEAD } else { Method::GET };
        }
        if next.url.host_str() != self.url.host_str() {
            next.headers.remove(HOST);
            for secret in SECRETS {
                next.headers.remove(secret);
            }
        }
        Ok(Some(next))
    }

    fn into_request(self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::builder().method(self.method).uri(target).body(Full::new(self.body))?;
        *request.headers_mut() = self.headers;
        if !request.headers().contains_key(HOST) {
            let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
            request.headers_mut().insert(HOST, host.try_into()?);
        }
        Ok(request)
    }
}

/// Why there is no answer.
enum Failure {
    Late,
    Io(io::Error),
}

impl From<Elapsed> for Failure {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io(io::Error::other(error))
    }
}

/// What an answer is: the status and the beginning of the body, or where to ask instead.
enum Answer {
    Here(StatusCode, Vec<u8>),
    Elsewhere(Box<Asked>),
}

struct Exchange<'a> {
    tls: &'a Tls,
    how: ProbeTls,
    redirects: usize,
    max: usize,
    until: Instant,
}

impl Exchange<'_> {
    async fn run(&self, mut asked: Asked) -> Result<(StatusCode, Vec<u8>), Failure> {
        for _ in 0..self.redirects.max(1) {
            match self.once(asked).await? {
                Answer::Here(code, body) => return Ok((code, body)),
                Answer::Elsewhere(next) => asked = *next,
            }
        }
        Err(Failure::other(format!("stopped after {} redirects", self.redirects)))
    }

    async fn once(&self, asked: Asked) -> Result<Answer, Failure> {
        let (host, port) = (asked.url.host_str().unwrap_or_default(), asked.url.port_or_known_default().unwrap_or(80));
        let (address, how) = (format!("{host}:{port}"), (asked.url.scheme() == "https").then_some(&self.how));
        let stream = timeout_at(self.until, dial::with(self.tls, &address, how, Speaks::Http1)).await??;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let (mut requests, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Failure::other)?;
        let exchange = async {
            let request = asked.clone().into_request().map_err(Failure::other)?;
            let response = timeout_at(self.until, requests.send_request(request)).await?.map_err(Failure::other)?;
            let next = if self.redirects > 0 { asked.redirected(&response).map_err(Failure::other)? } else { None };
            Ok(match next {
                Some(next) => Answer::Elsewhere(Box::new(next)),
                None => Answer::Here(response.status(), self.beginning(response.into_body()).await),
            })
        };
        driven(connection, exchange).await
    }

    /// As much of the body as is kept; the rest is not read. Whatever ends the reading, what had come by then is it.
    async fn beginning(&self, mut body: Incoming) -> Vec<u8> {
        let mut kept = Vec::new();
        while kept.len() < self.max
            && let Ok(Some(Ok(frame))) = timeout_at(self.until, body.frame()).await
        {
            if let Ok(chunk) = frame.into_data() {
                kept.extend_from_slice(&chunk[..chunk.len().min(self.max - kept.len())]);
            }
        }
        kept
    }
}

/// Lets `connection` go on as long as `exchange` needs it, in one task: another one would double the wake-ups.
async fn driven<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let (connection, mut exchange) = (pin!(connection), pin!(exchange));
    tokio::select! {
        biased;
        done = &mut exchange => done,
        // What had come, and what went wrong, the exchange is told.
        _ = connection => exchange.await,
    }
}

fn reachable(url: &Url) -> Result<(), String> {
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(host)) if !host.is_empty() => Ok(()),
        (scheme, _) => Err(format!("{scheme}: is not supported; use http: or https:")),
    }
}

/// Name and password in a URL are sent as a header.
fn basic(url: &Url) -> Option<HeaderValue> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Values given replace a default of that name; the header's own values all stand.
fn put(headers: &mut HeaderMap, name: &str, values: &[String]) -> Result<(), String> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
    headers.remove(&parsed);
    for value in values {
        let value = HeaderValue::from_str(value).map_err(|_| format!("the value of header {name} is not valid"))?;
        headers.append(&parsed, value);
    }
    Ok(())
}

/// The status counts as soon as it is there; a body that breaks off or takes too long only spoils the output.
fn judge(code: StatusCode, body: &[u8], what: &str) -> Finding {
    let status = match code {
        _ if code.is_success() => Status::Passing,
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        _ => Status::Critical,
    };
    let reason = code.canonical_reason().unwrap_or_default();
    found(status, format!("{what}: {} {reason} Output: {}", code.as_u16(), String::from_utf8_lossy(body)))
}

/// The URL for people: a password in it is not theirs to see.
pub(super) fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // Fails only for URLs that can have no password.
            let _ = parsed.set_password(Some("xxxxx"));
            parsed.into()
        }
        _ => url.into(),
    }
}
