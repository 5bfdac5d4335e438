//! The connection to one member of etcd.

use std::{path::Path, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use kvstore_client::causes;
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

/// What went wrong, without the frame of the protocols around it, and each thing once.
pub(super) fn why(error: &Error) -> String {
    let parts = match error {
        Error::GRpcStatus(status) => {
            let source = std::error::Error::source(status);
            [status.message().to_owned()].into_iter().chain(source.into_iter().flat_map(causes)).collect()
        }
        Error::TransportError(error) => causes(error),
        other => vec![other.to_string()],
    };
    let mut said: Vec<String> = Vec::new();
    for part in parts {
        if part != "transport error" && !said.iter().any(|said| said.contains(&part)) {
            said.push(part);
        }
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

/// What went wrong with the first word, and what may be behind it where etcd hung up without one.
pub(super) fn explained(address: &Address, why: &str) -> String {
    if why.contains("KeyMismatch") {
        return format!("{why}; cert_file and key_file do not belong together");
    }
    let hung_up = [
        "connection closed",
        "connection reset",
        "reset by peer",
        "roken pipe",
        "fatal alert",
        "handshake eof",
        "frame",
    ];
    if !hung_up.iter().any(|sign| why.contains(sign)) {
        return why.to_owned();
    }
    let hint = match (address.is_tls(), &address.identity) {
        (false, _) => "if it speaks TLS, name its authority by ca_file",
        (true, None) => "if it asks for a certificate, name one by cert_file and key_file",
        (true, Some(_)) => "it may not take the certificate of cert_file, or speak no TLS",
    };
    format!("{why}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_behind_a_closed_connection_is_said() {
        let check = |parameters: &str, why: &str, want: &str| {
            let address: Address = format!("etcd://h:1{parameters}").parse().unwrap();
            let said = explained(&address, why);
            assert!(said.starts_with(why) && said.ends_with(want), "{said}");
        };
        check("", "connection closed", "name its authority by ca_file");
        check("", "connection error: connection reset", "name its authority by ca_file");
        check("?ca_file=a", "connection closed", "by cert_file and key_file");
        check("?ca_file=a&cert_file=b&key_file=c", "Broken pipe", "or speak no TLS");
        check("?ca_file=a&cert_file=b&key_file=c", "KeyMismatch", "do not belong together");
        check("", "connection refused", "connection refused");
    }
}
