//! `overlay network`.

use clap::Subcommand;
use ipnet::Ipv4Net;
use overlay::{
    mesh::NewNetwork,
    network::{Hosts, NetworkName},
};
use serde_json::Value;

use super::{Daemon, Failure, show, table::table, text};

const EXAMPLES: &str = "\
Examples:
  overlay network create app                       on every host; addresses that nobody here uses
  overlay network create db --subnet 10.9.0.0/16   these addresses
  overlay network create db --hosts a,b            for containers of the hosts a and b
  overlay network create scratch --local --subnet 10.8.0.0/24
                                                   for this host alone";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a network, whose containers reach each other, on whichever host they are, and nobody else
    #[command(after_help = EXAMPLES)]
    Create {
        /// What it is to be called
        name: NetworkName,
        /// Its addresses [default: some that nobody here uses]
        #[arg(long, value_name = "CIDR")]
        subnet: Option<Ipv4Net>,
        /// Length of the prefix of the blocks that hosts claim of it [default: 24]
        #[arg(long, value_name = "BITS")]
        block_bits: Option<u8>,
        /// Keep it on this host
        #[arg(long, conflicts_with_all = ["hosts", "block_bits"])]
        local: bool,
        /// Only for containers of these hosts
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        hosts: Vec<String>,
    },
    /// Lists the networks
    Ls,
    /// Removes a network from all hosts
    Rm {
        /// Its name
        name: NetworkName,
    },
}

pub(crate) async fn run(command: Command, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    match command {
        Command::Create { name, subnet, block_bits, local, hosts } => {
            let hosts = if hosts.is_empty() { Hosts::All } else { Hosts::List(hosts.into_iter().collect()) };
            let made = daemon
                .post("/v1/networks", &NewNetwork { name, subnet, subnet6: None, block_bits, local, hosts })
                .await?;
            show(&made, json, |made| format!("{} {}\n", text(&made["name"]), text(&made["subnet"])));
        }
        Command::Ls => show(&daemon.get("/v1/held").await?, json, list),
        Command::Rm { name } => {
            let answer = daemon.delete(&format!("/v1/networks/{name}")).await?;
            show(&answer, json, |_| format!("{name}: removed\n"));
        }
    }
    Ok(())
}

pub(crate) fn list(held: &Value) -> String {
    let row = |held: &Value| {
        let network = &held["network"];
        let blocks = held["blocks"].as_array().into_iter().flatten().map(|block| text(&block["v4"]));
        let scope = match (network["local"].as_bool(), &network["hosts"]["list"]) {
            (Some(true), _) => "this host".to_owned(),
            (_, Value::Array(names)) => names.iter().map(text).collect::<Vec<_>>().join(","),
            _ => "all hosts".into(),
        };
        [
            text(&network["name"]),
            text(&network["subnet"]),
            text(&network["subnet6"]),
            scope,
            blocks.collect::<Vec<_>>().join(","),
        ]
    };
    let rows: Vec<_> = held["networks"].as_array().into_iter().flatten().map(row).collect();
    table(["NAME", "SUBNET", "IPV6", "FOR", "THIS HOST'S BLOCKS"], &rows)
}
