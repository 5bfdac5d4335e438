//! How everything stands, as the commands show it, and as it is counted.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Daemon, membership::STRANGER};
use crate::{
    network::NodeId,
    record::Key,
    state::{Held, Usage},
};

impl Daemon {
    pub(super) fn report(&self) -> Value {
        let dropped = self.tunnel.dropped();
        let held = self.held();
        let networks = held.networks.iter().map(|held| {
            let mut shown = serde_json::to_value(held).expect("plain data");
            shown["usage"] = json!(self.usage(held.network.id));
            shown
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "host": self.config.name,
            "node": self.me(),
            "state": self.state(),
            "plane": self.tunnel.plane(),
            "plane_why": self.tunnel.plane_why(),
            "encryption": "WireGuard: Curve25519, ChaCha20-Poly1305, and a preshared key for each pair",
            "interface": self.config.interface,
            "port": self.config.port,
            "mtu": self.config.mtu,
            "epoch": self.keyring.current().epoch(),
            "troubles": self.troubles(),
            "registry": { "addresses": self.config.registry.addresses, "away": self.registry_away, "read": self.read_once },
            "peers": self.peers(),
            "networks": networks.collect::<Vec<_>>(),
            "lans": self.lans(),
            "refused": self.refused(),
            "ipam": self.ipam(),
            "dropped": {
                "malformed": dropped.malformed, "replayed": dropped.replayed,
                "spoofed": dropped.spoofed, "unroutable": dropped.unroutable,
            },
        })
    }

    fn state(&self) -> &'static str {
        match () {
            () if self.world.evicted(self.me()) => "evicted",
            () if self.lacks_epoch.is_some() => "shut out",
            () if self.saved.left => "left",
            () if self.saved.stopped => "stopped",
            () if self.tunnel.plane().is_none() => "down",
            () => "up",
        }
    }

    fn troubles(&self) -> Vec<String> {
        let epoch = self.lacks_epoch.map(|epoch| {
            format!(
                "the mesh has a secret of epoch {epoch}, which this host does not have: it was evicted, or is to be given \
                 what `overlay secret show` prints on a member"
            )
        });
        let stranger = self.is_stranger.then(|| STRANGER.to_owned());
        self.tunnel.troubles().iter().cloned().chain(epoch).chain(stranger).collect()
    }

    fn usage(&self, network: crate::network::NetworkId) -> Option<Usage> {
        self.ends.usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&network).copied()
    }

    fn refused(&self) -> Vec<Value> {
        self.refused.values().map(|refused| json!({ "network": refused.name, "why": refused.why })).collect()
    }

    fn peers(&self) -> Vec<Value> {
        let stats = self.tunnel.stats();
        let heard = self.hearing.heard(Instant::now());
        let all = self.world.members(self.now()).filter(|(id, _)| *id != self.me());
        let show = |(id, node): (NodeId, &crate::record::NodeRecord)| {
            let record = self.world.record(&Key::Node(id));
            let key = record.map(|record| record.by.wireguard);
            let stat = stats.iter().find(|stat| Some(stat.key) == key);
            let planned = self.plan.peers.iter().find(|(other, _)| *other == id).map(|(_, peer)| peer);
            let path = match (heard.get(&id), self.plan.relayed.get(&id)) {
                (_, Some(hop)) => format!("through {}", self.name(*hop)),
                (Some(true), None) => "direct".into(),
                (Some(false), None) => "none".into(),
                (None, None) => "unknown".into(),
            };
            json!({
                "name": node.name, "id": id, "key": key.map(|key| key.to_string()),
                "version": node.version, "plane": node.plane,
                "mtu": self.way(id).map(|(size, _)| size), "mtu_known": self.way(id).is_some_and(|(_, known)| known),
                "epoch": record.map(|record| record.epoch),
                "alive": self.world.live(id),
                "path": path,
                "endpoint": stat.and_then(|s| s.endpoint).or(planned.and_then(|p| p.endpoint)),
                "handshake_seconds": stat.and_then(|stat| stat.handshake).map(|age| age.as_secs()),
                "received_bytes": stat.map(|stat| stat.received_bytes),
                "sent_bytes": stat.map(|stat| stat.sent_bytes),
                "routes": planned.map(|peer| &peer.allowed),
            })
        };
        all.map(show).collect()
    }

    fn lans(&self) -> Vec<Value> {
        let own = self
            .saved
            .lans
            .iter()
            .map(|lan| json!({ "subnet": lan.subnet, "host": self.config.name, "names": lan.names }));
        let others = self.world.members(self.now()).filter(|(id, _)| *id != self.me()).flat_map(|(id, node)| {
            node.lan.iter().map(move |lan| {
                let carrier = self.plan.lans.get(lan).map(|id| self.name(*id));
                let none =
                    || carrier.is_none().then(|| "it is no LAN, or overlaps with another one or a network".into());
                let why = self.lan_is_taken(*lan).err().or_else(none);
                json!({ "subnet": lan, "host": self.name(id), "carried_by": carrier, "left_out": why })
            })
        });
        own.chain(others).collect()
    }

    fn ipam(&self) -> Vec<Value> {
        let now = self.now();
        let networks = self.world.networks();
        let name = |id| networks.iter().find(|network| network.id == id).map(|network| &network.name);
        let show = |(block, (since, id)): (&crate::network::Block, &(u64, NodeId))| {
            let away = (!self.world.live(*id)).then(|| self.world.last_alive(*id)).flatten();
            json!({
                "network": name(block.network), "block": block.v4, "block6": block.v6,
                "host": self.name(*id), "id": id, "since_ms": since,
                "usage": (*id == self.me()).then(|| self.usage(block.network)).flatten(),
                "away_seconds": away.map(|seen| now.seconds.saturating_sub(seen)),
            })
        };
        self.world.holders(now).iter().map(show).collect()
    }

    /// For the metrics.
    pub(super) fn count(&self, held: &Held) {
        let heard = self.hearing.heard(Instant::now());
        let direct = heard.values().filter(|heard| **heard).count();
        let (all, relayed) = (self.plan.peers.len(), self.plan.relayed.len());
        let status = &self.status;
        status.up.store(self.tunnel.plane().is_some() && self.troubles().is_empty(), Relaxed);
        status.evicted.store(self.world.evicted(self.me()), Relaxed);
        status.direct.store(direct, Relaxed);
        status.relayed.store(relayed, Relaxed);
        status.unreached.store(all.saturating_sub(direct + relayed), Relaxed);
        status.blocks.store(held.networks.iter().map(|held| held.blocks.len()).sum(), Relaxed);
        status.networks.store(held.networks.len(), Relaxed);
        status.double_claims.store(self.world.double_claims(self.now()), Relaxed);
        status.set_troubles(self.troubles().join("; "));
        status.set_dropped(self.tunnel.dropped());
    }
}
