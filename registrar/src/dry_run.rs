//! `registrar --dry-run`: what would be changed in the registry just now. Asks Docker and the registry once, and changes
//! neither.

use std::time::Instant;

use crate::{
    Error,
    config::Config,
    docker::Connection,
    ledger::{Call, Ledger},
    plan::Action,
    state,
    world::{Deregister, Moment, World},
};

/// One line per change, in the order of the ids.
///
/// # Errors
/// [`Error`]
pub async fn dry_run(config: &Config) -> Result<Vec<String>, Error> {
    let (docker, identity) = Connection::open(&config.docker).await?;
    let registry = config.registry()?;
    let mark = identity.mark(&state::known(config.state_dir.as_deref())?);
    let address = registry.own_address().await?;
    let mut world = World::new(config.lives);
    world.set_policy(config.policy.policy(&identity, address, config.address.is_forced(), mark.clone()));
    let registered = registry.view(&mark).await?;
    let now = Moment { at: Instant::now(), docker: identity.time };
    for container in docker.containers(config.lives.deregister != Deregister::Always).await? {
        world.observe(container, now);
    }
    world.set_all_seen();
    world.resume_drains(&registered, now.at);
    let mut ledger = Ledger::default();
    ledger.view(registered, now.at, &world, "dry run");
    Ok(changes(&mut ledger, &world, now.at))
}

/// All calls until nothing is left to do, as if each of them succeeded.
fn changes(ledger: &mut Ledger, world: &World, now: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(call) = ledger.next(world, now) {
        let was = ledger.registered().get(&call.id).map(|actual| actual.name.clone());
        lines.push(line(&call, was.as_deref(), world));
        ledger.done(&call, Ok(()), now);
    }
    lines.extend(ledger.taken().values().map(|why| format!("leave    {why}")));
    lines
}

fn line(call: &Call, was: Option<&str>, world: &World) -> String {
    let id = &call.id;
    let container = world.desired(id).map(|(_, container)| format!(", container {}", container.name));
    let container = container.unwrap_or_default();
    let service = was.map(|name| format!(" ({name})")).unwrap_or_default();
    match &call.action {
        Action::Register(new) => {
            let verb = if was.is_some() { "update  " } else { "register" };
            format!("{verb} {id} as {} at {}:{}{container}", new.name, new.address, new.port)
        }
        Action::Report(update) => format!("report   {id}{service} is {}{container}", update.status),
        Action::Hold(hold) => format!("hold     {id}{service}: {}{container}", hold.as_str()),
        Action::Ask(_) => format!("hold     {id}{service}: draining{container}"),
        Action::DropCheck(check) => format!("release  {id}{service}: check {check} goes{container}"),
        Action::Deregister => format!("remove   {id}{service}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::Registered,
        world::tests::{named, see, world},
    };
    use serde_json::json;

    #[test]
    fn every_change_is_told_and_then_nothing_is_left() {
        let mut world = world();
        see(&mut world, named("a", 1, &json!({})));
        see(&mut world, named("gone", 2, &json!({})));
        world.set_all_seen();
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.view(Registered::new(), now, &world, "view");
        let register =
            |name: &str, port: u16| format!("register vm:{name}:80 as hello at 10.0.0.1:{port}, container {name}");
        assert_eq!(changes(&mut ledger, &world, now), [register("a", 1), register("gone", 2)]);
        assert!(changes(&mut ledger, &world, now).is_empty());
        let touched = world.gone(&crate::world::tests::id("gone")).touched;
        ledger.touch(touched, "die");
        ledger.touch(see(&mut world, named("a", 3, &json!({"State": {"Paused": true}}))).touched, "pause");
        assert_eq!(
            changes(&mut ledger, &world, now),
            [
                "hold     vm:a:80 (hello): paused, container a",
                "update   vm:a:80 as hello at 10.0.0.1:3, container a",
                "remove   vm:gone:80 (hello)"
            ]
        );
    }
}
