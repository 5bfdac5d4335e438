//! `overlay status`: how everything stands, for people.

use clap::ValueEnum;
use serde_json::Value;

use super::{Daemon, Failure, print_json, table::table, text};

/// A part of it.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Part {
    /// The other hosts, and how they are reached
    Peers,
    /// The networks, and this host's part of each
    Networks,
    /// Who holds which block
    Ipam,
}

pub(crate) async fn run(daemon: &Daemon, part: Option<Part>, json: bool) -> Result<(), Failure> {
    let status = daemon.get("/v1/status").await?;
    let shown = match part {
        None => &status,
        Some(Part::Peers) => &status["peers"],
        Some(Part::Networks) => &status["networks"],
        Some(Part::Ipam) => &status["ipam"],
    };
    if json {
        print_json(shown);
        return Ok(());
    }
    match part {
        None => print!("{}", whole(&status)),
        Some(Part::Peers) => print!("{}", peers(shown)),
        Some(Part::Networks) => print!("{}", super::network::list(&serde_json::json!({ "networks": shown }))),
        Some(Part::Ipam) => print!("{}", ipam(shown)),
    }
    Ok(())
}

fn whole(status: &Value) -> String {
    let mut all = String::new();
    let mut line = |name: &str, value: String| all.extend([&*format!("{name:12}"), &value, "\n"]);
    line("host", format!("{} ({})", text(&status["host"]), text(&status["node"])));
    line("version", text(&status["version"]));
    line("state", text(&status["state"]));
    let plane = match status["plane"].as_str() {
        Some("kernel") => format!("WireGuard of the kernel: {}", text(&status["plane_why"])),
        Some(_) => format!("WireGuard in this process: {}", text(&status["plane_why"])),
        None => "none: nothing is carried between hosts".to_owned(),
    };
    line("data plane", plane);
    line("encryption", text(&status["encryption"]));
    line("tunnel", format!("{}, UDP port {}, MTU {}", text(&status["interface"]), status["port"], status["mtu"]));
    line("epoch", status["epoch"].to_string());
    let registries = items(&status["registry"]["addresses"]).map(text).collect::<Vec<_>>().join(", ");
    line(
        "registry",
        match status["registry"]["away"].as_str() {
            Some(why) => format!("AWAY, all goes on as it is: {why}"),
            None => registries,
        },
    );
    for trouble in items(&status["troubles"]) {
        line("TROUBLE", text(trouble));
    }
    for refused in items(&status["refused"]) {
        line("LEFT OUT", format!("network {}: {}", text(&refused["network"]), text(&refused["why"])));
    }
    all + "\n" + &peers(&status["peers"])
}

fn peers(peers: &Value) -> String {
    let row = |peer: &Value| {
        let handshake = peer["handshake_seconds"].as_u64().map_or("-".into(), |age| format!("{age} s"));
        [
            text(&peer["name"]),
            text(&peer["path"]),
            or_dash(&peer["endpoint"]),
            handshake,
            or_dash(&peer["plane"]),
            peer["mtu"].to_string(),
            text(&peer["version"]),
            items(&peer["routes"]).map(text).filter(|route| !route.ends_with("/128")).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<_> = items(peers).map(row).collect();
    table(["PEER", "PATH", "ENDPOINT", "HANDSHAKE", "PLANE", "MTU", "VERSION", "ROUTES"], &rows)
}

fn ipam(blocks: &Value) -> String {
    let row = |block: &Value| {
        let state = block["away_seconds"].as_u64().map_or("alive".into(), |age| format!("away for {age} s"));
        [text(&block["network"]), text(&block["block"]), text(&block["block6"]), text(&block["host"]), state]
    };
    let rows: Vec<_> = items(blocks).map(row).collect();
    table(["NETWORK", "BLOCK", "IPV6", "HOST", "HOST IS"], &rows)
}

fn or_dash(value: &Value) -> String {
    if value.is_null() { "-".into() } else { text(value) }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Waits until the tunnel is up and every network of this host has a block.
pub(crate) async fn wait(daemon: &Daemon, limit: std::time::Duration) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + limit;
    loop {
        let lacks = match daemon.get("/v1/status").await {
            Ok(status) => lacks(&status),
            Err(failure) => Some(failure.to_string()),
        };
        match lacks {
            None => return Ok(()),
            Some(why) if tokio::time::Instant::now() >= until => {
                return Err(Failure::new(format!("not ready after {limit:?}: {why}")));
            }
            Some(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

fn lacks(status: &Value) -> Option<String> {
    if status["state"] != "up" {
        return Some(format!("the overlay is {}", text(&status["state"])));
    }
    if let Some(trouble) = items(&status["troubles"]).next() {
        return Some(text(trouble));
    }
    // Whoever knows networks goes on without the registry; a new host has to have asked it once.
    if status["registry"]["read"] != true && items(&status["networks"]).next().is_none() {
        let why = status["registry"]["away"].as_str().unwrap_or("it has not been asked yet");
        return Some(format!("the registry has not answered: {why}"));
    }
    let without = items(&status["networks"]).find(|held| items(&held["blocks"]).next().is_none())?;
    Some(format!("network {} has no addresses on this host yet", text(&without["network"]["name"])))
}
