//! Asking web servers, each time on a new connection, as visitors do.

use std::{collections::BTreeSet, sync::OnceLock, time::Duration};

use reqwest::{Client, Method};
use tokio::task::JoinHandle;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        kvstore_client::choose_crypto();
        let builder = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(5)).no_proxy();
        builder.build().expect("no part of it can fail")
    })
}

/// Sends a request without a body.
///
/// # Errors
/// If there is no whole answer.
pub async fn ask(method: Method, url: &str) -> Result<Answer, String> {
    send(method, url, String::new()).await
}

/// Sends one request.
///
/// # Errors
/// If there is no whole answer.
pub async fn send(method: Method, url: &str, body: String) -> Result<Answer, String> {
    let told = |e: reqwest::Error| {
        let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        format!("{e}: {cause}")
    };
    let response = client().request(method, url).body(body).send().await.map_err(told)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.text().await.map_err(told)? })
}

/// `GET url`; only a 200 is good.
///
/// # Errors
/// If there is no whole answer, or another status.
pub async fn get(url: &str) -> Result<String, String> {
    match ask(Method::GET, url).await? {
        Answer { status: 200, body } => Ok(body),
        Answer { status, body } => Err(format!("{url} answers {status}: {}", body.trim())),
    }
}

/// `GET url` with this Host header; only a 200 is good.
///
/// # Errors
/// As [`get`].
pub async fn get_from(url: &str, host: &str) -> Result<String, String> {
    get_with(url, "Host", host).await
}

/// `GET url` with this cookie; only a 200 is good.
///
/// # Errors
/// As [`get`].
pub async fn get_with_cookie(url: &str, cookie: &str) -> Result<String, String> {
    get_with(url, "Cookie", cookie).await
}

async fn get_with(url: &str, header: &str, value: &str) -> Result<String, String> {
    let response = client().get(url).header(header, value).send().await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response.text().await.map_err(|e| e.to_string())?;
    if status == 200 { Ok(body) } else { Err(format!("{url} answers {status}: {}", body.trim())) }
}

/// `GET url` until its answer has begun; the task reads the rest, however long that takes.
///
/// # Errors
/// If no answer begins.
pub async fn begin(url: &str) -> Result<JoinHandle<Result<String, String>>, String> {
    let response = client().get(url).timeout(Duration::from_mins(1)).send().await.map_err(|e| e.to_string())?;
    Ok(tokio::spawn(async move { response.text().await.map_err(|e| e.to_string()) }))
}

/// The cookie that an answer of `url` sets, as a visitor sends it back.
///
/// # Errors
/// If there is no whole answer, or it sets none.
pub async fn cookie(url: &str) -> Result<String, String> {
    let response = client().get(url).send().await.map_err(|e| e.to_string())?;
    let set = response.headers().get("Set-Cookie").and_then(|value| value.to_str().ok());
    let pair = set.and_then(|set| set.split(';').next());
    pair.map(str::to_owned).ok_or_else(|| format!("{url} sets no cookie"))
}

/// What a `hello-web` says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hello {
    /// The container's short id.
    pub id: String,
    /// `VERSION`.
    pub version: String,
}

/// Reads the answer of a `hello-web`.
///
/// # Errors
/// If it is not one.
pub fn hello(body: &str) -> Result<Hello, String> {
    let words: Vec<_> = body.split_whitespace().collect();
    match words[..] {
        ["hello", "from", id, "version", version, "path", _] => Ok(Hello { id: id.into(), version: version.into() }),
        _ => Err(format!("not the answer of a hello-web: {body:?}")),
    }
}

/// Asks `url` `times` times; all who answered.
///
/// # Errors
/// The first failure.
pub async fn who_answers(url: &str, times: usize) -> Result<BTreeSet<Hello>, String> {
    let mut found = BTreeSet::new();
    for _ in 0..times {
        found.insert(hello(&get(url).await?)?);
    }
    Ok(found)
}
