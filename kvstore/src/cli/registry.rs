//! Which registry a command talks to, and as whom.

use std::{path::PathBuf, time::Duration};

use kvstore_client::{Access, Client, ClientConfig, Consistency};

use super::failure::Failure;

const DEFAULT_ADDR: &str = "127.0.0.1:8500";

/// Options of every command that talks to a registry.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Registry")]
pub(super) struct RegistryArgs {
    /// Where the registry listens: `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`.
    #[arg(long, global = true, env = "CONSUL_HTTP_ADDR", value_name = "ADDRESS", default_value = DEFAULT_ADDR)]
    http_addr: String,
    #[command(flatten)]
    access: Access,
    /// The datacenter to ask for; the registry's own unless given.
    #[arg(long, global = true, value_name = "NAME")]
    datacenter: Option<String>,
    /// Let any server of a Consul cluster answer, even if what it knows is old.
    #[arg(long, global = true)]
    stale: bool,
}

impl RegistryArgs {
    /// The same for the registry at `address`.
    pub(super) fn at(self, address: String) -> Self {
        Self { http_addr: address, ..self }
    }

    /// For another registry, which gets a token of its own.
    pub(super) fn another(self, address: String, token_file: Option<PathBuf>) -> Self {
        let access = Access { token: None, token_file, ..self.access };
        Self { http_addr: address, access, ..self }
    }

    /// A client for it; nothing is sent yet.
    pub(super) fn client(self) -> Result<Client, Failure> {
        self.client_within(ClientConfig::default().timeout)
    }

    /// The same for calls that may take `timeout`.
    pub(super) fn client_within(self, timeout: Duration) -> Result<Client, Failure> {
        let address = Some(self.http_addr).filter(|address| !address.is_empty()).unwrap_or_else(|| DEFAULT_ADDR.into());
        let access = self.access.config(vec![address]).map_err(|error| Failure::usage(error.to_string()))?;
        let config = ClientConfig {
            datacenter: self.datacenter.filter(|name| !name.is_empty()),
            consistency: if self.stale { Consistency::Stale } else { Consistency::Default },
            basic_auth: std::env::var("CONSUL_HTTP_AUTH").ok().filter(|auth| !auth.is_empty()).map(name_and_password),
            timeout,
            ..access
        };
        let client = Client::new(&config)?;
        if let Some(warning) = config.warning() {
            eprintln!("kvstore: warning: {warning}");
        }
        Ok(client)
    }
}

/// Of `NAME:PASSWORD` or `NAME`.
fn name_and_password(auth: String) -> (String, String) {
    match auth.split_once(':') {
        Some((name, password)) => (name.into(), password.into()),
        None => (auth, String::new()),
    }
}
