//! Our tunnel as a program: `bench tunnel FILE`, with a file of JSON that says what it is to have.

use std::{fs, path::Path, thread};

use flotilla_tests::switch::Switch;
use overlay::{
    device::{self, Choice, Dataplane, Peer, Plane, Settings},
    keys::{PresharedKey, PrivateKey},
};
use serde_json::{Value, json};

/// Is one, if these arguments ask for it, until it is killed; else returns.
pub(crate) fn asked_for(args: &[String]) -> Option<String> {
    let [tunnel, file] = args else { return None };
    if tunnel != "tunnel" {
        return None;
    }
    match open(Path::new(file)) {
        Ok(_tunnel) => loop {
            thread::park();
        },
        Err(why) => Some(why),
    }
}

fn open(file: &Path) -> Result<Box<dyn Dataplane>, String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let asked: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is not a string"));
    let key = PrivateKey::load_or_make(Path::new(&text(&asked["key"])?)).map_err(|e| e.to_string())?;
    let port = asked["port"].as_u64().and_then(|n| n.try_into().ok()).ok_or("no port")?;
    let settings = Settings { interface: text(&asked["interface"])?, key, port, mtu: MTU };
    let tunnel = device::open(&settings, Choice::Only(Plane::User)).map_err(|e| e.to_string())?.tunnel;
    let mut peers = Vec::new();
    for peer in asked["peers"].as_array().into_iter().flatten() {
        peers.push(Peer {
            key: text(&peer["key"])?.parse().map_err(|_| "a key")?,
            preshared: PresharedKey::new([7; 32]),
            endpoint: peer["endpoint"].as_str().and_then(|endpoint| endpoint.parse().ok()),
            allowed: [text(&peer["allowed"])?.parse().map_err(|_| "a prefix")?].into(),
            keepalive: None,
        });
    }
    tunnel.set_peers(&peers).map_err(|e| e.to_string())?;
    Ok(tunnel)
}

pub(super) const MTU: u16 = 1_420;

/// What a program of the `n`th host is told: its key's file, and its peers' keys, endpoints and prefixes.
pub(super) fn asked(interface: &str, n: u8, key: &Path, peers: &[Value]) -> Value {
    json!({ "interface": interface, "key": key, "port": 51_000 + u32::from(n), "peers": peers })
}

/// The `n`th host, as another is told of it.
pub(super) fn peer(n: u8, key: &PrivateKey, allowed: &str) -> Value {
    let endpoint = format!("{}:{}", Switch::address(n), 51_000 + u32::from(n));
    json!({ "key": key.public().to_string(), "endpoint": endpoint, "allowed": allowed })
}
