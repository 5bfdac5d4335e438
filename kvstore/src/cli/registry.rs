//! Which registry a command talks to, and as whom.

use std::{fs, path::PathBuf, time::Duration};

use kvstore_client::{Client, ClientConfig};

use super::failure::Failure;

/// Options of every command that talks to a registry.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Registry")]
pub(super) struct RegistryArgs {
    /// Where the registry listens: `HOST:PORT`, `http://HOST:PORT` or `unix:///PATH`.
    #[arg(long, global = true, env = "CONSUL_HTTP_ADDR", value_name = "ADDRESS", default_value = "127.0.0.1:8500")]
    http_addr: String,
    /// The token to show. Better in the environment or a file than here, where others on the host can see it.
    #[arg(long, global = true, env = "CONSUL_HTTP_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token.
    #[arg(long, global = true, env = "CONSUL_HTTP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The datacenter to ask for; the registry's own unless given.
    #[arg(long, global = true, value_name = "NAME")]
    datacenter: Option<String>,
    /// Let any server of a Consul cluster answer, even if what it knows is old.
    #[arg(long, global = true)]
    stale: bool,
}

impl RegistryArgs {
    /// A client for it; nothing is sent yet.
    pub(super) fn client(self) -> Result<Client, Failure> {
        self.client_within(ClientConfig::default().timeout)
    }

    /// The same for calls that may take `timeout`.
    pub(super) fn client_within(self, timeout: Duration) -> Result<Client, Failure> {
        if self.http_addr.starts_with("https://") || truthy("CONSUL_HTTP_SSL") {
            // Going on without TLS would show the token to the network.
            return Err(Failure::usage("https is not supported by this version")
                .hint("http://HOST:PORT, and CONSUL_HTTP_SSL unset"));
        }
        let token = match (self.token.filter(|token| !token.is_empty()), self.token_file) {
            (None, Some(file)) => Some(read_token(&file)?),
            (token, _) => token,
        };
        let config = ClientConfig {
            addresses: vec![self.http_addr],
            token,
            datacenter: self.datacenter.filter(|name| !name.is_empty()),
            stale: self.stale,
            basic_auth: std::env::var("CONSUL_HTTP_AUTH").ok().filter(|auth| !auth.is_empty()).map(name_and_password),
            timeout,
        };
        Ok(Client::new(&config)?)
    }
}

fn truthy(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| matches!(&*value.to_ascii_lowercase(), "1" | "t" | "true"))
}

/// Of `NAME:PASSWORD` or `NAME`.
fn name_and_password(auth: String) -> (String, String) {
    match auth.split_once(':') {
        Some((name, password)) => (name.into(), password.into()),
        None => (auth, String::new()),
    }
}

fn read_token(file: &PathBuf) -> Result<String, Failure> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|e| Failure::new(format!("cannot read the token file {}", file.display())).because(&e))?;
    Ok(text.trim().to_owned())
}
