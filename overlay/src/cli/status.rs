//! `overlay status`: how everything stands, for people.

use clap::ValueEnum;
use serde_json::Value;

use super::{Daemon, Failure, show, table::table, text};

pub(crate) const PEER_EXAMPLES: &str = "\
Examples:
  overlay peer host2            its key, its path, what goes through, what is behind it
  overlay peer host2 --json";

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
    show(shown, json, |shown| match part {
        None => whole(shown),
        Some(Part::Peers) => peers(shown),
        Some(Part::Networks) => super::network::list(&serde_json::json!({ "networks": shown })),
        Some(Part::Ipam) => ipam(shown),
    });
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
    for lan in items(&status["lans"]) {
        let mut way = format!("{} behind {}", text(&lan["subnet"]), text(&lan["host"]));
        if let Some(other) = lan["carried_by"].as_str().filter(|carrier| lan["host"] != **carrier) {
            way = format!("{way}, carried by {other}");
        }
        line("LAN", lan["left_out"].as_str().map_or(way.clone(), |why| format!("{way} is LEFT OUT: {why}")));
    }
    all + "\n" + &peers(&status["peers"])
}

/// All of one host.
pub(crate) async fn peer(daemon: &Daemon, host: &str, json: bool) -> Result<(), Failure> {
    let status = daemon.get("/v1/status").await?;
    let is = |peer: &&Value| peer["name"] == host || peer["id"].as_str().is_some_and(|id| id.starts_with(host));
    let found: Vec<_> = items(&status["peers"]).filter(is).collect();
    match found[..] {
        [peer] => show(peer, json, one),
        [] => return Err(Failure::new(format!("no other host is called {host}; `overlay status peers` shows them"))),
        _ => {
            let ids = found.iter().map(|peer| text(&peer["id"])).collect::<Vec<_>>().join(", ");
            return Err(Failure::new(format!("{host} is several hosts; say which by its id: {ids}")));
        }
    }
    Ok(())
}

fn one(peer: &Value) -> String {
    let mut all = String::new();
    let mut line = |name: &str, value: String| all.extend([&*format!("{name:12}"), &value, "\n"]);
    line("host", format!("{} ({})", text(&peer["name"]), text(&peer["id"])));
    line("key", or_dash(&peer["key"]));
    line("version", text(&peer["version"]));
    line("alive", if peer["alive"] == true { "yes" } else { "its session in the registry has ended" }.into());
    line("path", text(&peer["path"]));
    line("endpoint", or_dash(&peer["endpoint"]));
    line("handshake", peer["handshake_seconds"].as_u64().map_or("-".into(), |age| format!("{age} s ago")));
    line("encryption", format!("WireGuard of the {}, secret of epoch {}", or_dash(&peer["plane"]), peer["epoch"]));
    line("MTU", peer["mtu"].to_string());
    let bytes = |part: &str| peer[part].as_u64().map_or("-".into(), |bytes| format!("{bytes} bytes"));
    line("traffic", format!("received {}, sent {}", bytes("received_bytes"), bytes("sent_bytes")));
    for route in items(&peer["routes"]) {
        line("route", text(route));
    }
    all
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
            mtu(peer),
            text(&peer["version"]),
            items(&peer["routes"]).map(text).filter(|route| !route.ends_with("/128")).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<_> = items(peers).map(row).collect();
    table(["PEER", "PATH", "ENDPOINT", "HANDSHAKE", "PLANE", "MTU", "VERSION", "ROUTES"], &rows)
}

/// What is not known to get through is likely to.
fn mtu(peer: &Value) -> String {
    let likely = if peer["mtu_known"] == true { "" } else { "?" };
    peer["mtu"].as_u64().map_or("-".into(), |mtu| format!("{mtu}{likely}"))
}

fn ipam(blocks: &Value) -> String {
    let row = |block: &Value| {
        let state = block["away_seconds"].as_u64().map_or("alive".into(), |age| format!("away for {age} s"));
        // Others count their own.
        let used = match (block["usage"]["used"].as_u64(), block["usage"]["capacity"].as_u64()) {
            (Some(used), Some(capacity)) => format!("{used} of {capacity}"),
            _ => "-".into(),
        };
        [text(&block["network"]), text(&block["block"]), text(&block["block6"]), text(&block["host"]), state, used]
    };
    let rows: Vec<_> = items(blocks).map(row).collect();
    table(["NETWORK", "BLOCK", "IPV6", "HOST", "HOST IS", "NETWORK'S ADDRESSES IN USE"], &rows)
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
