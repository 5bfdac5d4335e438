//! Asks the daemon over its socket.

use std::{path::PathBuf, time::Duration};

use kvstore_client::with_causes;
use reqwest::{Client, Method};
use serde::Serialize;
use serde_json::Value;

use super::Failure;

/// The daemon may wait for the registry, which has 5 seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// The daemon of this host.
pub(crate) struct Daemon {
    socket: PathBuf,
    http: Client,
}

impl Daemon {
    pub(crate) fn at(socket: PathBuf) -> Result<Self, Failure> {
        // TLS is never spoken over this socket; the client wants to know all the same who would do it, and whom it trusts:
        // nobody, for where nothing is installed that says so.
        kvstore_client::choose_crypto();
        let http = Client::builder().unix_socket(socket.clone()).tls_certs_only([]).timeout(LIMIT).build();
        let http = http.map_err(|e| Failure::new(format!("cannot speak HTTP: {}", with_causes(&e))))?;
        Ok(Self { socket, http })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(serde_json::to_vec(body).expect("plain data"))).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Value, Failure> {
        let request = self.http.request(method, format!("http://overlay{path}")).body(body.unwrap_or_default());
        let response = request.send().await.map_err(|e| self.away(&e))?;
        let good = response.status().is_success();
        let text = response.bytes().await.map_err(|e| self.away(&e))?;
        let answer = serde_json::from_slice::<Value>(&text);
        let answer = answer.map_err(|e| Failure::new(format!("the daemon's answer cannot be read: {e}")))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(why) if !good => Err(Failure::new(why)),
            None if !good => Err(Failure::new(format!("the daemon refused: {answer}"))),
            _ => Ok(answer),
        }
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let socket = self.socket.display();
        Failure::new(format!(
            "nobody answers at {socket}; is the overlay up (systemctl start overlay, or: overlay up), and may you open it?\n  \
             cause: {}",
            with_causes(error)
        ))
    }
}
