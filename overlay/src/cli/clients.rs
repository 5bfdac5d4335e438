//! `overlay client`.

use std::net::SocketAddr;

use clap::Subcommand;
use overlay::{
    clients::NewClient,
    keys::{PrivateKey, PublicKey},
    network::NetworkName,
};
use serde_json::Value;

use super::{Daemon, Failure, show, table::table, text};

const EXAMPLES: &str = "\
Examples:
  overlay client add laptop --network app > laptop.conf    then, on the laptop: wg-quick up ./laptop.conf
  overlay client add phone --network app --endpoint 203.0.113.7 | qrencode -t ansiutf8
  overlay client add box --network app --public-key KEY    its secret key stays where it was made";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Prints what a machine without this program is to give its WireGuard, once; its only peer is this host
    #[command(after_help = EXAMPLES)]
    Add {
        /// What it is to be called
        name: String,
        /// The network whose containers it reaches, and that reach it
        #[arg(long)]
        network: NetworkName,
        /// Its key, if it has one already [default: a new one, whose secret half is printed and kept nowhere]
        #[arg(long, value_name = "KEY")]
        public_key: Option<PublicKey>,
        /// Where it reaches this host: IP or IP:PORT [default: what this host tells others, or an address of its own]
        #[arg(long, value_name = "ADDRESS")]
        endpoint: Option<String>,
    },
    /// Lists the clients of this host
    List,
    /// Removes a client: nothing of it is taken any more
    Rm {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(command: Command, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    match command {
        Command::Add { name, network, public_key, endpoint } => {
            let made = match public_key {
                Some(_) => None,
                None => Some(PrivateKey::generate().map_err(|e| Failure::new(format!("no randomness: {e}")))?),
            };
            let key = public_key.or_else(|| made.as_ref().map(PrivateKey::public)).expect("one of the two is there");
            let endpoint = match endpoint {
                Some(text) => Some(place(&text, daemon).await?),
                None => None,
            };
            let mut answer =
                daemon.post("/v1/clients", &NewClient { name, network, key: key.to_string(), endpoint }).await?;
            if let Some(made) = made {
                let told = text(&answer["configuration"]).replace(&text(&answer["secret"]), &made.text());
                answer["configuration"] = told.into();
            }
            show(&answer, json, |answer| text(&answer["configuration"]));
        }
        Command::List => show(&daemon.get("/v1/clients").await?, json, list),
        Command::Rm { name } => {
            let answer = daemon.delete(&format!("/v1/clients/{name}")).await?;
            show(&answer, json, |_| format!("{name}: removed\n"));
        }
    }
    Ok(())
}

/// Without a port it is that of the tunnel.
async fn place(text: &str, daemon: &Daemon) -> Result<SocketAddr, Failure> {
    if let Ok(ip) = text.parse() {
        let port = daemon.get("/v1/status").await?["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        return Ok(SocketAddr::new(ip, port.unwrap_or_default()));
    }
    text.parse().map_err(|_| Failure::usage(format!("--endpoint: {text:?} is neither IP nor IP:PORT")))
}

fn list(clients: &Value) -> String {
    let or_dash = |value: &Value| if value.is_null() { "-".into() } else { text(value) };
    let row = |client: &Value| {
        let handshake = client["handshake_seconds"].as_u64().map_or("-".into(), |age| format!("{age} s"));
        [
            text(&client["name"]),
            or_dash(&client["network"]),
            text(&client["address"]),
            text(&client["address6"]),
            or_dash(&client["endpoint"]),
            handshake,
            text(&client["key"]),
        ]
    };
    let rows: Vec<_> = clients.as_array().into_iter().flatten().map(row).collect();
    table(["CLIENT", "NETWORK", "ADDRESS", "IPV6", "ENDPOINT", "HANDSHAKE", "KEY"], &rows)
}
