//! The body of `PUT /v1/catalog/register` as a command: pure.
//!
//! The texts are Consul's; there they all come with status 500.

use std::{net::IpAddr, sync::Arc, time::Duration};

use kvstore_client::types::{CatalogRegistration, CheckDefinition, CheckStatus, HealthCheck, NodeService};
use kvstore_core::{
    Command, TxnStep,
    health::Status,
    names::{CheckId, InstanceId, NameError, NodeKey, ServiceKey},
    row::{Check, Instance, Node, Owner, Probe, ProbeKind, TaggedAddress, Weights},
};
use serde_json::Value;

use crate::agent::{
    MIN_DEREGISTER_AFTER,
    registration::{chosen_port, is_default},
};

/// Why a registration is refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRegistration {
    #[error("Must provide node")]
    NoNode,
    #[error("Must provide address if SkipNodeUpdate is not set")]
    NoAddress,
    #[error("Bad node ID: {0}")]
    NodeId(String),
    #[error("Must provide service name (Service.Service) when service ID is provided")]
    NoServiceName,
    #[error("Invalid service address")]
    ServiceAddress,
    #[error("Node '{check_node}' for check '{check}' doesn't match register request node '{node}'")]
    OtherNode { check_node: String, check: String, node: String },
    #[error("Must provide a check ID or name")]
    NoCheckId,
    #[error("there is only the namespace \"default\" and the partition \"default\" here, not {0:?}")]
    Namespace(String),
    #[error(transparent)]
    Name(#[from] NameError),
}

pub(super) fn command(body: CatalogRegistration) -> Result<Command, InvalidRegistration> {
    if body.node.is_empty() {
        return Err(InvalidRegistration::NoNode);
    }
    if body.address.is_empty() && !body.skip_node_update {
        return Err(InvalidRegistration::NoAddress);
    }
    only_default(&body)?;
    let key = NodeKey::new(&body.node)?;
    let node = Node {
        id: node_id(&body.id)?,
        name: body.node,
        address: body.address,
        tagged_addresses: body.tagged_addresses,
        meta: body.node_meta,
    };
    let instance = body.service.map(|service| instance(&key, service)).transpose()?;
    let bodies = body.checks.into_iter().chain(body.check);
    let checks = bodies.map(|body| check(&node.name, &key, body)).collect::<Result<_, _>>()?;
    Ok(Command::Register { node, keep_node: body.skip_node_update, instance: instance.map(Box::new), checks })
}

/// A host as transactions write it.
pub(super) fn node(body: kvstore_client::types::Node) -> Result<Node, InvalidRegistration> {
    let (id, name, address) = (node_id(&body.id)?, body.node, body.address);
    Ok(Node { id, name, address, tagged_addresses: body.tagged_addresses, meta: body.meta })
}

fn only_default(body: &CatalogRegistration) -> Result<(), InvalidRegistration> {
    let of_service = body.service.iter().flat_map(|service| [&service.namespace, &service.partition]);
    let of_checks = body.checks.iter().chain(&body.check).flat_map(|check| [&check.namespace, &check.partition]);
    let mut all = [&body.partition].into_iter().chain(of_service).chain(of_checks);
    match all.find(|value| !is_default(value)) {
        Some(value) => Err(InvalidRegistration::Namespace(value.clone())),
        None => Ok(()),
    }
}

/// A UUID in lower case, or nothing.
fn node_id(text: &str) -> Result<String, InvalidRegistration> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.len() != 36 {
        return Err(InvalidRegistration::NodeId("uuid string is wrong length".into()));
    }
    let id = uuid::Uuid::parse_str(text).map_err(|e| InvalidRegistration::NodeId(e.to_string()))?;
    Ok(id.to_string())
}

pub(super) fn instance(node: &NodeKey, body: NodeService) -> Result<Instance, InvalidRegistration> {
    if body.service.is_empty() {
        return Err(InvalidRegistration::NoServiceName);
    }
    if body.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(InvalidRegistration::ServiceAddress);
    }
    ServiceKey::new(&body.service)?;
    let tagged = |a: kvstore_client::types::ServiceAddress| TaggedAddress { address: a.address, port: a.port };
    Ok(Instance {
        node: node.clone(),
        id: InstanceId::new(if body.id.is_empty() { &body.service } else { &body.id })?,
        service: body.service,
        tags: body.tags,
        address: body.address,
        port: chosen_port(body.port, &body.ports),
        socket_path: body.socket_path,
        tagged_addresses: body.tagged_addresses.into_iter().map(|(name, a)| (name, tagged(a))).collect(),
        meta: body.meta,
        weights: body.weights.map_or_else(Weights::default, |w| Weights { passing: w.passing, warning: w.warning }),
        enable_tag_override: body.enable_tag_override,
        kind: body.kind,
        proxy: body.proxy,
        connect: body.connect,
        owner: Owner::External,
        from_file: false,
    })
}

pub(super) fn check(node: &str, key: &NodeKey, body: HealthCheck) -> Result<Check, InvalidRegistration> {
    let id = if body.check_id.is_empty() { &body.name } else { &body.check_id };
    if id.is_empty() {
        return Err(InvalidRegistration::NoCheckId);
    }
    if !body.node.is_empty() && !body.node.eq_ignore_ascii_case(node) {
        let (check_node, check, node) = (body.node, id.clone(), node.to_owned());
        return Err(InvalidRegistration::OtherNode { check_node, check, node });
    }
    let of = if body.service_id.is_empty() { None } else { Some(InstanceId::new(&body.service_id)?) };
    let definition = serde_json::to_value(&body.definition).expect("API types have string keys only");
    Ok(Check {
        node: key.clone(),
        id: CheckId::new(id)?,
        name: body.name,
        status: match body.status {
            CheckStatus::Passing => Status::Passing,
            CheckStatus::Warning => Status::Warning,
            CheckStatus::Critical => Status::Critical,
        },
        notes: body.notes,
        output: body.output,
        service: of,
        kind: body.kind,
        probe: probe(&body.definition),
        interval: body.interval,
        timeout: body.timeout,
        definition: if definition.as_object().is_some_and(serde_json::Map::is_empty) {
            Value::Null
        } else {
            definition
        },
        owner: Owner::External,
        from_file: false,
    })
}

/// Leaves out what Consul keeps without acting on it.
pub(super) fn only_echo(command: &mut Command) {
    match command {
        Command::Register { checks, .. } => checks.iter_mut().for_each(|check| check.probe = None),
        Command::Txn { steps } => {
            for step in steps {
                if let TxnStep::Check { check: Some(check), .. } = step {
                    check.probe = None;
                }
            }
        }
        _ => {}
    }
}

/// What becomes of the check without being put again. Our extensions both: with a `TTL` it turns critical when it is not
/// put in time, and `DeregisterCriticalServiceAfter` counts for external checks as it does for an agent's own.
fn probe(definition: &CheckDefinition) -> Option<Arc<Probe>> {
    let after = definition.deregister_critical_service_after.map(|after| after.0).unwrap_or_default();
    let kind = match definition.ttl {
        Some(ttl) => ProbeKind::Ttl { ttl: ttl.0 },
        None if after.is_zero() => return None,
        None => ProbeKind::Reported,
    };
    let deregister_after = if after.is_zero() { after } else { after.max(MIN_DEREGISTER_AFTER) };
    Some(Arc::new(Probe { deregister_after, ..Probe::new(kind, Duration::ZERO, Duration::ZERO) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        command(serde_json::from_str(json).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_or_wrong_is_refused() {
        for (json, why) in [
            (r"{}", "Must provide node"),
            (r#"{"Node":"a"}"#, "Must provide address if SkipNodeUpdate is not set"),
            (r#"{"Node":"a","Address":"1.1.1.1","ID":"xyz"}"#, "Bad node ID: uuid string is wrong length"),
            (
                r#"{"Node":"a","Address":"1.1.1.1","Service":{"ID":"x"}}"#,
                "Must provide service name (Service.Service) when service ID is provided",
            ),
            (r#"{"Node":"a","Address":"1.1.1.1","Service":{"Service":"x","Address":"::"}}"#, "Invalid service address"),
            (
                r#"{"Node":"a","Address":"1.1.1.1","Check":{"Node":"b","CheckID":"c"}}"#,
                "Node 'b' for check 'c' doesn't match register request node 'a'",
            ),
            (r#"{"Node":"a","Address":"1.1.1.1","Check":{}}"#, "Must provide a check ID or name"),
            (
                r#"{"Node":"a","Address":"1.1.1.1","Service":{"Service":"x","Namespace":"team"}}"#,
                "there is only the namespace \"default\" and the partition \"default\" here, not \"team\"",
            ),
            ("{\"Node\":\"a\\u0007\",\"Address\":\"1.1.1.1\"}", "the node name \"a\\u{7}\" has a control character"),
        ] {
            assert_eq!(refused(json), why, "{json}");
        }
    }

    #[test]
    fn a_registration_is_host_instance_and_checks() {
        let body = r#"{"Node":"Alpha","Address":"10.0.0.1","NodeMeta":{"rack":"r1"},
            "Service":{"Service":"web","Port":80,"Tags":["v1"]},
            "Check":{"Name":"alive","Status":"passing"},
            "Checks":[{"CheckID":"web","ServiceID":"web","Definition":{"TCP":"10.0.0.1:80","Interval":"10s"}}]}"#;
        let Command::Register { node, keep_node, instance, checks } =
            command(serde_json::from_str(body).unwrap()).unwrap()
        else {
            panic!("a registration")
        };
        assert_eq!((node.name.as_str(), keep_node), ("Alpha", false));
        let instance = instance.unwrap();
        assert_eq!((instance.id.as_str(), instance.owner), ("web", Owner::External));
        let of: Vec<_> = checks.iter().map(|c| (c.id.as_str(), c.status, c.service.is_some())).collect();
        assert_eq!(of, [("web", Status::Critical, true), ("alive", Status::Passing, false)]);
        assert!(checks.iter().all(|check| check.probe.is_none()));
        assert_eq!(checks[0].definition, serde_json::json!({"TCP": "10.0.0.1:80", "Interval": "10s"}));
    }

    /// What the newest clients send along, and what becomes of a check by its definition alone.
    #[test]
    fn newer_fields_are_taken() {
        let json = r#"{"Node":"a","Address":"1.1.1.1","Partition":"default","Locality":{"Region":"r","Zone":"z"},
            "Service":{"Service":"web","Ports":[{"Name":"x","Port":1},{"Name":"y","Port":2,"Default":true}],
                "Locality":{"Region":"r"},"AI":{"Role":"agent"},"Namespace":"default","Datacenter":"dc1"},
            "Checks":[
                {"CheckID":"plain","Namespace":"","PeerName":"","Definition":{"SessionName":"s","Interval":"0s"}},
                {"CheckID":"reaped","Definition":{"DeregisterCriticalServiceAfter":"90s"}},
                {"CheckID":"soon","Definition":{"DeregisterCriticalServiceAfter":"1ms","TTL":"10s"}}]}"#;
        let mut taken = command(crate::http::json::decode(json.as_bytes()).unwrap()).unwrap();
        let probes = |command: &Command| {
            let Command::Register { checks, .. } = command else { panic!("a registration") };
            checks
                .iter()
                .map(|check| check.probe.as_ref().map(|p| (p.kind.clone(), p.deregister_after)))
                .collect::<Vec<_>>()
        };
        let (ttl, second) = (ProbeKind::Ttl { ttl: Duration::from_secs(10) }, Duration::from_secs(1));
        let reaped = Some((ProbeKind::Reported, Duration::from_secs(90)));
        assert_eq!(probes(&taken), [None, reaped, Some((ttl, second))]);
        let Command::Register { instance, .. } = &taken else { panic!("a registration") };
        assert_eq!(instance.as_ref().unwrap().port, 2);
        only_echo(&mut taken);
        assert_eq!(probes(&taken), [None, None, None]);
    }
}
