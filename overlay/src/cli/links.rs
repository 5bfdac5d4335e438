//! `overlay attach`, `detach`, `expose`, `hide`, `ps` and `ipam`.

use std::net::{IpAddr, Ipv4Addr};

use clap::{Args, Subcommand};
use ipnet::Ipv4Net;
use overlay::{attach::NewLink, link::Mac, mesh::NewLan};
use serde_json::{Value, json};

use super::{Daemon, Failure, show, table::table, text};

pub(crate) const ATTACH_EXAMPLES: &str = "\
Examples:
  overlay attach web                        an address of the only network
  overlay attach web app                    an address of the network app
  overlay attach web 10.210.7.200           this address
  overlay attach web 192.0.2.9/24@192.0.2.1 --bridge br0
                                            beside the overlay: on a bridge of the host, with this default route
  overlay attach web 192.0.2.9/24 --parent eth0 --vlan 7
                                            in VLAN 7 of the network behind eth0";

pub(crate) const DETACH_EXAMPLES: &str = "\
Examples:
  overlay detach web          all links that were attached to it
  overlay detach web app      that of the network app
  overlay detach web 10.210.7.200";

pub(crate) const EXPOSE_EXAMPLES: &str = "\
Examples:
  overlay expose              an address of the only network for this host
  overlay expose app          one of the network app
  overlay expose 10.210.7.250 this address
  overlay expose --lan 192.168.7.0/24
                              containers of all hosts reach this subnet through this host
  overlay expose --lan 192.168.7.0/24 --name printer --address 192.168.7.9 --port 631
                              and the DNS knows printer.service.consul";

pub(crate) const HIDE_EXAMPLES: &str = "\
Examples:
  overlay hide                        this host's addresses in all networks
  overlay hide app                    that in this one
  overlay hide --lan 192.168.7.0/24   the way to this subnet, and its names";

const RELEASE_EXAMPLES: &str = "\
Examples:
  overlay ipam release 10.210.7.9     who has it is named, and keeps it";

pub(crate) const PS_EXAMPLES: &str = "\
Examples:
  overlay ps                  all containers with addresses of the overlay, and this host
  overlay ps web --json       those of one container, for programs";

#[derive(Args)]
pub(crate) struct Attach {
    /// The container's name, or the beginning of its id
    container: String,
    /// A network, or an address of one; outside of the overlay an address with its prefix, and @GATEWAY
    #[arg(value_name = "NETWORK|CIDR[@GATEWAY]")]
    at: Option<String>,
    /// A bridge of this host, instead of a network of the overlay
    #[arg(long, value_name = "BRIDGE", conflicts_with = "parent")]
    bridge: Option<String>,
    /// An interface of this host, whose network the container is to be in, by macvlan
    #[arg(long, value_name = "INTERFACE")]
    parent: Option<String>,
    /// The VLAN there
    #[arg(long, value_name = "ID", requires = "parent", value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// The hardware address [default: made of the address]
    #[arg(long, value_name = "ADDRESS")]
    mac: Option<Mac>,
}

#[derive(Args)]
pub(crate) struct Detach {
    /// The container's name, or the beginning of its id
    container: String,
    /// Only this network or address
    #[arg(value_name = "NETWORK|ADDRESS")]
    at: Option<String>,
}

#[derive(Args)]
pub(crate) struct Expose {
    /// A network, or an address of one [default: the only network]
    #[arg(value_name = "NETWORK|ADDRESS")]
    at: Option<String>,
    /// A subnet behind this host, which containers of all hosts then reach
    #[arg(long, value_name = "CIDR", conflicts_with = "at")]
    lan: Option<Ipv4Net>,
    /// What the DNS is to call something in it
    #[arg(long, requires_all = ["lan", "address"])]
    name: Option<String>,
    /// Where that is
    #[arg(long, value_name = "IP", requires = "name")]
    address: Option<Ipv4Addr>,
    /// And at which port
    #[arg(long, requires = "name")]
    port: Option<u16>,
}

#[derive(Args)]
pub(crate) struct Hide {
    /// Only this network or address
    #[arg(value_name = "NETWORK|ADDRESS")]
    at: Option<String>,
    /// A subnet behind this host, instead
    #[arg(long, value_name = "CIDR", conflicts_with = "at")]
    lan: Option<Ipv4Net>,
}

#[derive(Args)]
pub(crate) struct Ps {
    /// Only this one
    container: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Ipam {
    /// Has an address be given again that nobody has any more
    #[command(after_help = RELEASE_EXAMPLES)]
    Release {
        /// Which
        address: IpAddr,
    },
}

pub(crate) async fn attach(asked: Attach, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let Attach { container, at, bridge, parent, vlan, mac } = asked;
    let made = daemon.post("/v1/attach", &NewLink { container, at, bridge, parent, vlan, mac }).await?;
    show(&made, json, |made| format!("{} {}\n", text(&made["interface"]), addresses(made)));
    Ok(())
}

pub(crate) async fn detach(asked: Detach, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let gone = daemon.post("/v1/detach", &json!({ "container": asked.container, "at": asked.at })).await?;
    show(&gone, json, said_gone);
    Ok(())
}

pub(crate) async fn expose(asked: Expose, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    if let Some(subnet) = asked.lan {
        let port = asked.port.unwrap_or_default();
        let new = NewLan { subnet, name: asked.name, address: asked.address, port };
        show(&daemon.post("/v1/lans", &new).await?, json, |_| format!("{subnet} is reached through this host\n"));
        return Ok(());
    }
    let made = daemon.post("/v1/expose", &json!({ "at": asked.at })).await?;
    show(&made, json, |made| format!("{}\n", addresses(made)));
    Ok(())
}

pub(crate) async fn hide(asked: Hide, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    if let Some(subnet) = asked.lan {
        let gone = daemon.delete(&format!("/v1/lans/{subnet}")).await?;
        show(&gone, json, |gone| match gone["pending"].as_str() {
            Some(why) => format!("{subnet} is not reached through this host any more, but {why}\n"),
            None => format!("{subnet} is not reached through this host any more\n"),
        });
        return Ok(());
    }
    let gone = daemon.post("/v1/hide", &json!({ "at": asked.at })).await?;
    show(&gone, json, said_gone);
    Ok(())
}

pub(crate) async fn ps(asked: Ps, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let path = asked.container.map_or("/v1/ps".to_owned(), |name| format!("/v1/ps/{name}"));
    show(&daemon.get(&path).await?, json, listed);
    Ok(())
}

pub(crate) async fn ipam(command: Ipam, daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let Ipam::Release { address } = command;
    let done = daemon.post("/v1/ipam/release", &json!({ "address": address })).await?;
    show(&done, json, |_| format!("{address} is free\n"));
    Ok(())
}

fn said_gone(gone: &Value) -> String {
    let lines = gone.as_array().into_iter().flatten().map(|row| addresses(row) + ": taken away\n");
    lines.collect()
}

fn addresses(row: &Value) -> String {
    row["addresses"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ")
}

fn listed(all: &Value) -> String {
    let row = |row: &Value| {
        let (container, name) = match row["container"].as_str() {
            Some(id) => (id.get(..12).unwrap_or(id).to_owned(), text(&row["name"])),
            None => ("-".into(), "this host".into()),
        };
        let mac = row["mac"].as_str().unwrap_or("-").to_owned();
        [container, name, text(&row["network"]), addresses(row), mac, text(&row["door"])]
    };
    let rows: Vec<_> = all.as_array().into_iter().flatten().map(row).collect();
    table(["CONTAINER", "NAME", "NETWORK", "ADDRESSES", "MAC", "DOOR"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_this_host_stand_in_one_table() {
        let web = json!({
            "container": "0123456789abcdef", "name": "web", "interface": "ov0", "network": "app",
            "addresses": ["10.1.0.2", "fd00::2"], "mac": "02:42:0a:01:00:02", "door": "attached",
        });
        let host =
            json!({ "container": null, "name": null, "network": "app", "addresses": ["10.1.0.3"], "door": "exposed" });
        let shown = listed(&json!([web, host]));
        assert!(
            shown.contains("0123456789ab  web        app      10.1.0.2 fd00::2  02:42:0a:01:00:02  attached\n"),
            "{shown}"
        );
        assert!(
            shown.contains("-             this host  app      10.1.0.3          -                  exposed\n"),
            "{shown}"
        );
    }
}
