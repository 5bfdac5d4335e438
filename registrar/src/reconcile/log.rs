//! What the log says of changes.

use tracing::{debug, info, warn};

use crate::{
    ledger::Call,
    mapping::Policy,
    plan::{Action, Hold},
};

/// Where published ports are registered.
pub(super) fn say_address(policy: &Policy) {
    let address = policy.address;
    if policy.choices.internal {
        debug!(%address, "address of this host");
    } else if address.is_loopback() && !policy.address_is_forced {
        warn!(
            "the registry is on loopback, so published ports are registered at {address}, which only this host \
               reaches; give --ip ADDRESS if others shall"
        );
    } else {
        info!("published ports are registered at {address}");
    }
}

/// One line per change.
pub(super) fn say_done(call: &Call, container: Option<&str>, was: Option<&str>) {
    let Call { id, action, cause } = call;
    let service = was.unwrap_or_default();
    match action {
        Action::Register(new) => {
            let (service, port) = (&new.name, new.port);
            let what = if was.is_some() { "updated" } else { "registered" };
            info!(container, service, id, address = new.address, port, cause, "{what}");
        }
        Action::Report(update) => info!(container, service, id, status = update.status, cause, "health reported"),
        Action::Hold(Hold::Draining) => info!(container, service, id, cause, "draining"),
        Action::Hold(Hold::Paused) => info!(container, service, id, cause, "paused"),
        Action::Hold(Hold::Exited) => info!(container, service, id, cause, "has ended; its entry is kept as critical"),
        Action::Ask(_) => info!(container, service, id, cause, "draining, as was asked for"),
        Action::DropCheck(check) => info!(container, service, id, check, cause, "check removed"),
        Action::Deregister => info!(container, service, id, cause, "deregistered"),
    }
}
