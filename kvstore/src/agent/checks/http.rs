//! The HTTP probe: 2xx passes, 429 warns, all else is critical.

use std::time::Duration;

use kvstore_core::{health::Status, row::ProbeKind};
use reqwest::{
    Client, Method, Request, Response, StatusCode, Url,
    header::{ACCEPT, CONNECTION, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};

use super::{Finding, MAX_OUTPUT_BYTES, critical, failed, found, silent};

/// What services see in their logs, as from Consul.
const USER_AGENT: &str = "Consul Health Check";

/// Redirects followed at most.
const MAX_REDIRECTS: usize = 10;

/// One client for all probes that follow redirects, one for those that do not.
#[derive(Debug)]
pub(super) struct Clients {
    following: Client,
    staying: Client,
}

impl Clients {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let client = |policy| {
            // Each run makes its own connection: one kept open would not notice that nobody listens any more.
            Client::builder().user_agent(USER_AGENT).redirect(policy).pool_max_idle_per_host(0).no_proxy().build()
        };
        Ok(Self { following: client(Policy::limited(MAX_REDIRECTS))?, staying: client(Policy::none())? })
    }

    /// Makes the request of `kind`, which is an HTTP probe, and judges the answer.
    pub(super) async fn probe(&self, kind: &ProbeKind, what: &str, within: Duration) -> Finding {
        let ProbeKind::Http { url, method, header, body, no_redirects, .. } = kind else {
            return Finding::NotTried("this is no HTTP probe".into());
        };
        let request = match request(url, method, header, body) {
            Ok(request) => request,
            Err(why) => return critical(what, &why),
        };
        let client = if *no_redirects { &self.staying } else { &self.following };
        let until = Instant::now() + within;
        match timeout_at(until, client.execute(request)).await {
            Ok(Ok(response)) => judge(response, what, until).await,
            Ok(Err(error)) => failed(what, &error.without_url()),
            Err(_) => silent(what, within),
        }
    }
}

type Header = std::collections::BTreeMap<String, Vec<String>>;

fn request(url: &str, method: &str, header: &Header, body: &str) -> Result<Request, String> {
    let url = Url::parse(url).map_err(|e| format!("this is no URL: {e}"))?;
    if url.scheme() != "http" {
        return Err(format!("{}: is not supported by this version; use http:", url.scheme()));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
    let mut request = Request::new(method, url);
    if !body.is_empty() {
        *request.body_mut() = Some(body.to_owned().into());
    }
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("text/plain, text/*, */*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, values) in header {
        put(headers, name, values)?;
    }
    Ok(request)
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
async fn judge(response: Response, what: &str, until: Instant) -> Finding {
    let code = response.status();
    let status = match code {
        _ if code.is_success() => Status::Passing,
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        _ => Status::Critical,
    };
    let mut body = Vec::new();
    // Whatever ended the reading, what had come by then is shown.
    let _ = timeout_at(until, beginning(response, &mut body)).await;
    let reason = code.canonical_reason().unwrap_or_default();
    found(status, format!("{what}: {} {reason} Output: {}", code.as_u16(), String::from_utf8_lossy(&body)))
}

/// As much of the body as is kept; the rest is not read.
async fn beginning(mut response: Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while body.len() < MAX_OUTPUT_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_OUTPUT_BYTES - body.len())]);
    }
    Ok(())
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
