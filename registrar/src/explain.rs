//! `registrar list` and `registrar explain`: what would be registered, and why not. Asks Docker once, and the registry
//! nothing.

use std::{fmt::Write, time::Instant};

use serde::Serialize;

use crate::{
    Error, checks,
    config::Config,
    container::Container,
    docker::Connection,
    mapping::{Instance, Mapped, Skipped, map},
    world::{Moment, World},
};

/// One container, for people and for `--format json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    pub(crate) container: String,
    id: String,
    pub(crate) instances: Vec<Line>,
    skipped: Vec<Skipped>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Line {
    id: String,
    service: String,
    address: String,
    port: u16,
    tags: Vec<String>,
    checks: Vec<String>,
    meta: std::collections::BTreeMap<String, String>,
}

/// Every running container, or the one named `name`.
///
/// # Errors
/// [`Error::Docker`], [`Error::Address`], [`Error::NoContainer`]
pub async fn explain(config: &Config, name: Option<&str>) -> Result<Vec<Explanation>, Error> {
    let (docker, identity) = Connection::open(&config.docker).await?;
    let registry = config.registry.addresses.first().map(String::as_str).unwrap_or_default();
    let address = config.address.resolve(config.policy.choices.family, registry).await.map_err(Error::Address)?;
    let mark = identity.mark("-");
    let mut world = World::default();
    world.set_policy(config.policy.policy(&identity, address, config.address.is_forced(), mark));
    let now = Moment { at: Instant::now(), docker: identity.time };
    for container in docker.containers(false).await? {
        world.observe(container, now);
    }
    let wanted = |container: &&Container| {
        name.is_none_or(|name| container.name == name || !name.is_empty() && container.id.starts_with(name))
    };
    let mut all: Vec<_> = world.containers().filter(wanted).map(|container| world.explain(container)).collect();
    all.sort_by(|a, b| a.container.cmp(&b.container));
    match name {
        Some(name) if all.is_empty() => Err(Error::NoContainer(name.to_owned())),
        _ => Ok(all),
    }
}

impl World {
    fn explain(&self, container: &Container) -> Explanation {
        let mapped = self.policy().map(|policy| map(container, self.network(container).0, policy)).unwrap_or_default();
        Explanation::new(container, mapped)
    }
}

impl Explanation {
    fn new(container: &Container, mapped: Mapped) -> Self {
        Self {
            container: container.name.clone(),
            id: container.short_id().to_owned(),
            instances: mapped.instances.into_iter().map(Line::new).collect(),
            skipped: mapped.skipped,
            warnings: mapped.warnings,
        }
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let mut text = format!("{} ({})\n", self.container, self.id);
        for line in &self.instances {
            let tags = if line.tags.is_empty() { String::new() } else { format!(" [{}]", line.tags.join(", ")) };
            let _ = writeln!(text, "  {} at {}:{}{tags}, id {}", line.service, line.address, line.port, line.id);
            for check in &line.checks {
                let _ = writeln!(text, "    check: {check}");
            }
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "  {}: not registered: {}", skipped.port, skipped.why);
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "  warning: {warning}");
        }
        text
    }
}

impl Line {
    fn new(instance: Instance) -> Self {
        let docker = instance.follows_docker.map(|_| "what Docker says of the HEALTHCHECK".to_owned());
        let service = instance.service;
        let meta = service.meta.into_iter().filter(|(key, _)| !key.starts_with("registrar"));
        Self {
            checks: service.checks.iter().map(checks::describe).chain(docker).collect(),
            meta: meta.collect(),
            id: service.id,
            service: service.name,
            address: service.address,
            port: service.port,
            tags: service.tags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        container::tests::container,
        mapping::{Network, tests::policy},
    };
    use serde_json::json;

    #[test]
    fn says_what_and_why_not() {
        let container = container(&json!({"Config": {"ExposedPorts": {"9000/tcp": {}},
            "Env": ["SERVICE_NAME=a b", "SERVICE_TAGS=x,y", "SERVICE_CHECK_TCP=1"]},
            "State": {"Health": {"Status": "starting"}}}));
        let text = Explanation::new(&container, map(&container, Network::Own, &policy())).text();
        assert_eq!(
            text,
            "web (4f1c2b3a4d5e)\n  a b at 10.0.0.1:18080 [x, y], id vm:web:80\n    check: TCP 10.0.0.1:18080 every 10s\n    \
             check: what Docker says of the HEALTHCHECK\n  9000/tcp: not registered: it is not published on the host (-p), \
             and --internal is off\n  warning: service name \"a b\" is no DNS name: it is registered, but DNS cannot find it\n"
        );
    }
}
