//! TLS of probes: whom they trust, and as whom they speak.

use std::{io, path::PathBuf, sync::Arc};

use kvstore_client::{
    pem,
    tls::{self, Identity, TrustError},
};
use kvstore_core::row::ProbeTls;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Whom probes trust and as whom they speak, where the agent's configuration says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Files of certificates, or directories of such; empty: what the system trusts.
    pub authorities: Vec<PathBuf>,
    /// Certificates and key to show to servers that ask for them.
    pub identity: Option<Identity>,
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TrustError`] names the file.
    pub(crate) fn check(&self) -> Result<(), TrustError> {
        if *self == Self::default() { Ok(()) } else { configs(self).map(drop) }
    }
}

/// What is agreed on within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Nothing in particular.
    Anything,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Makes TLS out of connections. The certificates trusted are read once, when the first connection wants them.
#[derive(Debug)]
pub(super) struct Tls {
    trust: Trust,
    configs: OnceCell<Configs>,
}

#[derive(Clone, Debug)]
struct Configs {
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
    /// Nobody is trusted: this host has no certificates at all.
    nobody: bool,
}

impl Tls {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, configs: OnceCell::new() }
    }

    /// Shakes hands over `stream` with who is expected to be `host`, unless `how` has another name.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        how: &ProbeTls,
        speaks: Speaks,
    ) -> io::Result<TlsStream<TcpStream>> {
        let configs = self.configs().await?;
        let config = if how.skip_verify { &configs.trusting } else { &configs.verifying };
        let expected = if how.server_name.is_empty() { host } else { &how.server_name };
        let expected = expected.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(expected.as_str())
            .map_err(|_| io::Error::other(format!("{expected:?} is no name that a certificate can have")))?
            .to_owned();
        let connected = TlsConnector::from(speaking(config, speaks)).connect(name, stream).await;
        connected.map_err(|error| {
            if !configs.nobody || how.skip_verify {
                return error;
            }
            io::Error::other(format!(
                "{error}; this host has no certificates of authorities: install them (ca-certificates), or name a \
                 file in SSL_CERT_FILE or, with enable_agent_tls_for_checks, in ca_file"
            ))
        })
    }

    async fn configs(&self) -> io::Result<&Configs> {
        let load = || async {
            let trust = self.trust.clone();
            let loaded = tokio::task::spawn_blocking(move || configs(&trust)).await;
            loaded.map_err(io::Error::other)?.map_err(io::Error::other)
        };
        self.configs.get_or_try_init(load).await
    }
}

/// The same configuration with the protocols offered; sessions to be resumed stay shared.
fn speaking(config: &Arc<ClientConfig>, speaks: Speaks) -> Arc<ClientConfig> {
    let protocol: &[u8] = match speaks {
        Speaks::Anything => return config.clone(),
        Speaks::Http1 => b"http/1.1",
        Speaks::Http2 => b"h2",
    };
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config)
}

fn configs(trust: &Trust) -> Result<Configs, TrustError> {
    let roots = if trust.authorities.is_empty() { tls::of_system() } else { pem::authorities(&trust.authorities)? };
    let nobody = roots.is_empty();
    let speaking = |whom| tls::client_config(whom, trust.identity.as_ref());
    let (verifying, trusting) = (speaking(tls::Trust::Roots(roots))?, speaking(tls::Trust::Anybody)?);
    Ok(Configs { verifying: verifying.into(), trusting: trusting.into(), nobody })
}
