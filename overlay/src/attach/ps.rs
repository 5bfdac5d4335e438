//! Who has which address on this host, and by which door it came in.

use std::{collections::BTreeSet, net::IpAddr};

use kvstore_client::with_causes;
use serde_json::{Value, json};

use super::{Desk, shown};
use crate::{
    docker::{LABEL, Member},
    mesh::{Refusal, Request},
    plugin::{Attachment, Holder},
};

impl Desk {
    /// All containers with addresses of the overlay, or links by it, and this host; or only those called `name`.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn ps(&self, name: Option<&str>) -> Result<Vec<Value>, Refusal> {
        let mut rows = self.of_docker().await?;
        let kept = self.0.plugin.attachments().await;
        rows.extend(kept.iter().filter(|there| there.kept).map(shown));
        if let Some(wanted) = name {
            rows.retain(|row| {
                row["name"] == wanted || row["container"].as_str().is_some_and(|id| id.starts_with(wanted))
            });
        }
        rows.sort_by_key(|row| (row["name"].as_str().map(str::to_owned), row["network"].to_string()));
        Ok(rows)
    }

    /// What came in by Docker's own networks.
    async fn of_docker(&self) -> Result<Vec<Value>, Refusal> {
        if self.0.docker.is_none() {
            return Ok(Vec::new());
        }
        let docker = self.docker().await?;
        let away = |e| Refusal::Away(with_causes(&e));
        let made: BTreeSet<String> =
            self.0.plugin.made().await.iter().map(|made| made.id.as_str().to_owned()).collect();
        let networks = docker.networks().await.map_err(away)?;
        let labelled: BTreeSet<_> =
            networks.into_iter().filter(|there| there.labels.contains_key(LABEL)).map(|there| there.id).collect();
        let door = |network: &str| match () {
            () if made.contains(network) => Some("driver"),
            () if labelled.contains(network) => Some("ordinary"),
            () => None,
        };
        let rows = |member: &Member| {
            let of = member.networks.iter().filter_map(|there| {
                let door = door(&there.network)?;
                Some(json!({
                    "container": member.id, "name": member.name, "interface": null, "network": there.name,
                    "addresses": there.addresses, "mac": there.mac, "door": door,
                }))
            });
            of.collect::<Vec<_>>()
        };
        Ok(docker.members().await.map_err(away)?.iter().flat_map(rows).collect())
    }

    /// Has nobody keep an address that nobody has any more.
    ///
    /// # Errors
    /// [`Refusal`], saying who has it.
    pub async fn release(&self, address: IpAddr) -> Result<(), Refusal> {
        let _turn = self.0.turn.lock().await;
        let has = |there: &&Attachment| there.kept && there.addresses.iter().any(|a| a.addr() == address);
        if let Some(there) = self.0.plugin.attachments().await.iter().find(has) {
            return Err(Refusal::Conflict(match &there.holder {
                Holder::Host => format!("{address} is this host's; `overlay hide {address}` takes it away"),
                Holder::Container { name, .. } => {
                    format!("the container {name} has {address}; `overlay detach {name} {address}` takes it away")
                }
            }));
        }
        let text = address.to_string();
        let mine = |row: &&Value| row["addresses"].as_array().into_iter().flatten().any(|other| *other == *text);
        if let Some(row) = self.of_docker().await?.iter().find(mine) {
            let name = row["name"].as_str().unwrap_or_default();
            let network = row["network"].as_str().unwrap_or_default();
            return Err(Refusal::Conflict(format!(
                "the container {name} has {address}; `docker network disconnect {network} {name}` takes it away"
            )));
        }
        if self.0.plugin.release(address).await? {
            return Ok(());
        }
        Err(self.why_not(address).await)
    }

    /// Why an address is not this host's to release.
    async fn why_not(&self, address: IpAddr) -> Refusal {
        let status = self.0.mesh.ask(Request::Status).await.unwrap_or_default();
        let block = status["ipam"].as_array().into_iter().flatten().find(|row| {
            let inside = |part: &str| {
                row[part].as_str().is_some_and(|net| net.parse().is_ok_and(|net: ipnet::IpNet| net.contains(&address)))
            };
            inside("block") || inside("block6")
        });
        let text = |row: &Value, part: &str| row[part].as_str().unwrap_or_default().to_owned();
        match block {
            Some(row) if row["id"] == status["node"] => Refusal::Unknown(format!("{address} is free already")),
            Some(row) => {
                let (host, block) = (text(row, "host"), text(row, "block"));
                match row["away_seconds"].as_u64() {
                    None => Refusal::Conflict(format!(
                        "{address} is in {block}, which {host} gives addresses of; release it there"
                    )),
                    Some(age) => Refusal::Conflict(format!(
                        "{address} is in {block} of {host}, which is away for {age} s; after the grace time others get the \
                         block by themselves, and `overlay evict {host}` puts the host out before"
                    )),
                }
            }
            None => Refusal::Unknown(format!("nobody has a block with {address}; `overlay status ipam` shows them")),
        }
    }
}
