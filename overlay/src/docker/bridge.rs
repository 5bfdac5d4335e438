//! The bridges of networks that are Docker's own. Ours come first, and Docker takes them as they are: so they are marked,
//! have a hardware address that stays, and can be joined by what is attached beside Docker.

use crate::{
    docker::bridge_name,
    link::{LinkError, Links, mac_of},
    state::HeldNetwork,
};

/// Has the bridge of this network.
///
/// # Errors
/// [`LinkError`]
pub(crate) async fn have(links: &Links, held: &HeldNetwork) -> Result<(), LinkError> {
    let Some(block) = held.blocks.first() else { return Ok(()) };
    let (name, alias) = (bridge_name(held.network.id), format!("overlay: network {}", held.network.name));
    match links.find(&name).await? {
        // After a boot Docker is the first to make it.
        Some(link) if !link.ours => links.adopt(&name, &alias, held.mtu.into()).await?,
        _ => links.bridge(&name, &alias, held.mtu.into(), mac_of(block.gateway().into())).await?,
    };
    links.set(&format!("net/ipv4/conf/{name}/forwarding"), "1")
}

/// Has the host pass IPv6 on, for what is attached to such a bridge.
///
/// # Errors
/// [`LinkError`] where that cannot be switched on, as in a container.
pub(super) async fn forward_ipv6(links: &Links) -> Result<(), LinkError> {
    // A kernel without IPv6 has no addresses of it to give.
    if links.setting("net/ipv6/conf/all/forwarding").is_ok() { links.forward_ipv6().await } else { Ok(()) }
}

/// Has none for it.
///
/// # Errors
/// [`LinkError`]
pub(super) async fn remove(links: &Links, name: &str) -> Result<(), LinkError> {
    links.remove(name).await.map(|_| ())
}
