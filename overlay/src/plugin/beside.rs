//! The book, for links that Docker does not ask for.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use kvstore_client::with_causes;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{
    Plugin, book,
    book::{Asked, Attachment, Bridge},
    nat::{self, Nat},
};
use crate::{
    docker::have_bridge,
    link::{LinkError, Owner, Route, Way},
    mesh::Refusal,
    state::HeldNetwork,
};

impl Plugin {
    /// All links.
    pub async fn attachments(&self) -> Vec<Attachment> {
        self.0.book.lock().await.attached.clone()
    }

    /// Notes a link. Waits a little for the first block of a new network.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn attach(&self, asked: &Asked) -> Result<Attachment, Refusal> {
        let until = Instant::now() + super::MESH_LIMIT;
        let mut changes = self.0.mesh.changes();
        loop {
            changes.mark_unchanged();
            match self.change(|book, world| book.attach(world, asked)).await {
                Err(Refusal::Away(why)) => match timeout_at(until, changes.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(Refusal::Away(why)),
                },
                done => return done,
            }
        }
    }

    /// Forgets a link.
    ///
    /// # Errors
    /// If that cannot be kept on the disk; then it is not forgotten.
    pub async fn detach(&self, attachment: &Attachment) -> Result<(), Refusal> {
        self.change(|book, _| {
            book.detach(attachment);
            Ok(())
        })
        .await
    }

    /// Its container has ended: others may have the addresses.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub async fn let_go(&self, attachment: &Attachment) -> Result<(), Refusal> {
        self.change(|book, _| {
            book.let_go(attachment);
            Ok(())
        })
        .await
    }

    /// Its container runs again.
    ///
    /// # Errors
    /// If it cannot have the addresses.
    pub async fn resume(&self, attachment: &Attachment) -> Result<Attachment, Refusal> {
        self.change(|book, world| book.resume(world, attachment)).await
    }

    /// An address is free again; whether it was taken by a container, as far as is known here.
    ///
    /// # Errors
    /// If that cannot be kept on the disk, or it is a gateway's.
    pub async fn release(&self, address: IpAddr) -> Result<bool, Refusal> {
        self.change(|book, _| book.release(address)).await
    }

    /// What Docker has asked for addresses of.
    pub async fn pools(&self) -> BTreeSet<IpNet> {
        let book = self.0.book.lock().await;
        book.pools.iter().filter(|(_, pool)| pool.gateway.is_some()).map(|(subnet, _)| *subnet).collect()
    }

    /// Forgets everything, and has nothing translated any more.
    ///
    /// # Errors
    /// If that cannot be kept on the disk, or the kernel is not to be told.
    pub async fn reset(&self) -> Result<(), Refusal> {
        self.change(|book, _| {
            *book = book::Book::default();
            Ok(())
        })
        .await?;
        let nothing = Nat::default();
        let done = nat::apply(self.0.links.namespace(), &nothing.ruleset()).await;
        *self.0.nat.lock().await = Some(nothing);
        done.map_err(|e| Refusal::Away(with_causes(&e)))
    }

    async fn change<T>(
        &self,
        change: impl Fn(&mut book::Book, book::World<'_>) -> Result<T, book::Refusal>,
    ) -> Result<T, Refusal> {
        let mut book = self.0.book.lock().await;
        let (held, busy, mut next) = (self.0.mesh.held(), BTreeSet::new(), book.clone());
        let done = change(&mut next, book::World { held: &held, busy: &busy, random: 0 });
        let refused = |refusal| match refusal {
            book::Refusal::Never(why) => Refusal::Conflict(why),
            book::Refusal::NotYet(why) => Refusal::Away(why),
        };
        let done = done.map_err(refused)?;
        self.keep(&book, &next).await.map_err(refused)?;
        self.turn_to(&mut book, next);
        // This host may be exposed now, or not any more.
        if let Err(error) = self.translate(&book).await {
            warn!("who is sent here from outside may not reach other hosts: {}", with_causes(&error));
        }
        Ok(done)
    }

    /// Has the bridge of a network be there, with this host's addresses; its name, and the gateways there.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::Missing`] for a network that this host has no block of.
    pub async fn bridge_to(&self, held: &HeldNetwork) -> Result<(String, Vec<IpAddr>), LinkError> {
        let book = self.0.book.lock().await;
        let (mesh, busy) = (self.0.mesh.held(), BTreeSet::new());
        let found = book.bridge_to(book::World { held: &mesh, busy: &busy, random: 0 }, held);
        let Some((bridge, drivers)) = found else { return Err(LinkError::Missing(held.network.name.to_string())) };
        if drivers {
            self.have_bridge(&bridge).await?;
        } else {
            self.have_docker_bridge(held, &bridge).await?;
        }
        Ok((bridge.name, book.gateways(held)))
    }

    /// Docker has addresses there, too, which stay.
    async fn have_docker_bridge(&self, held: &HeldNetwork, bridge: &Bridge) -> Result<(), LinkError> {
        let links = &self.0.links;
        have_bridge(links, held).await?;
        let there = links.addresses(&bridge.name).await?;
        let ipv6 = links.has_ipv6(&bridge.name);
        for address in bridge.addresses.difference(&there).filter(|address| ipv6 || address.addr().is_ipv4()) {
            links.add_address(&bridge.name, *address).await?;
        }
        for block in bridge.routes.iter().filter(|block| ipv6 || block.addr().is_ipv4()) {
            links.add_route(Owner::Containers, &Route::new(*block, Way::Link(bridge.name.clone()))).await?;
        }
        Ok(())
    }

    /// Takes an address from the bridge of a network, if it is there.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn no_address(&self, held: &HeldNetwork, address: IpAddr) -> Result<(), LinkError> {
        let book = self.0.book.lock().await;
        let (mesh, busy) = (self.0.mesh.held(), BTreeSet::new());
        let found = book.bridge_to(book::World { held: &mesh, busy: &busy, random: 0 }, held);
        let Some((bridge, _)) = found else { return Ok(()) };
        if self.0.links.find(&bridge.name).await?.is_none() {
            return Ok(());
        }
        self.0.links.remove_address(&bridge.name, address.into()).await
    }
}
