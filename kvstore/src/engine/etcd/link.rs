//! The connection to one member of etcd.

use std::{path::Path, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use kvstore_client::with_causes;
use tokio::time::timeout;

use super::address::Address;

/// A member that does not take a connection within this is passed over.
const CONNECT: Duration = Duration::from_secs(1);

/// A request that is not answered within this has failed; a write is refused within two seconds then.
const REQUEST: Duration = Duration::from_millis(1800);

/// Etcd takes more frequent pings for an attack (`--grpc-keepalive-min-time`: 5 s).
const PING: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));

/// A message of etcd may have a thousand changes, or as many rows as are asked for at once.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

/// A connection, and clients that take whatever etcd sends.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
}

impl Link {
    /// Connects; files of certificates and passwords are read anew.
    pub(super) async fn to(address: &Address, member: &str) -> Result<Self, String> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_keep_alive(PING.0, PING.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(user) = &address.user {
            let password = read(&user.password_file).await?;
            let password = String::from_utf8(password)
                .map_err(|_| format!("the password in {} is not text", user.password_file.display()))?;
            options = options.with_user(&user.name, password.trim_end()).with_auto_token_refresh(true);
        }
        let mut scheme = "http";
        if let Some(ca_file) = &address.ca_file {
            scheme = "https";
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca_file).await?));
            if let Some(own) = &address.identity {
                tls = tls.identity(Identity::from_pem(read(&own.cert_file).await?, read(&own.key_file).await?));
            }
            options = options.with_tls(tls);
        }
        let client = within(Client::connect([format!("{scheme}://{member}")], Some(options))).await?;
        Ok(Self { client })
    }

    pub(super) fn kv(&self) -> etcd_client::KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn lease(&self) -> etcd_client::LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn watch(&self) -> etcd_client::WatchClient {
        self.client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// What etcd answers, if it does so in time.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(REQUEST, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(why(&error)),
        Err(_) => Err(format!("no answer within {} s", REQUEST.as_secs_f64())),
    }
}

/// What went wrong, without the frame of the protocols around it.
pub(super) fn why(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => {
            let source = std::error::Error::source(status).map(|source| format!(": {}", with_causes(source)));
            format!("{}{}", status.message(), source.unwrap_or_default())
        }
        Error::TransportError(error) => with_causes(error),
        other => other.to_string(),
    }
}
