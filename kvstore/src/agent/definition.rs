//! What a check is to do: the kind, interval and timeout of a registration. Pure.

use std::time::Duration;

use kvstore_client::types::CheckRegistration;
use kvstore_core::{
    health::Thresholds,
    names::{InstanceId, NodeKey},
    row::{Probe, ProbeKind, ProbeTls},
};

/// No probe runs more often.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// For one run, unless the registration says otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for programs.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// No instance goes sooner after its check turned critical.
pub(crate) const MIN_DEREGISTER_AFTER: Duration = Duration::from_secs(1);

/// A probe, and what of the registration was taken otherwise than written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) probe: Probe,
    pub(super) warnings: Vec<String>,
}

/// The probe that `body`, registered with the agent of `node`, describes.
///
/// # Errors
/// What is wrong, in Consul's words where Consul has the rule.
pub(super) fn parse(node: &NodeKey, body: &CheckRegistration) -> Result<Parsed, String> {
    validate(body)?;
    let kind = kind(node, body)?;
    let mut warnings = Vec::new();
    let (interval, timeout) = match kind {
        ProbeKind::Ttl { .. } | ProbeKind::Alias { .. } => (Duration::ZERO, Duration::ZERO),
        ProbeKind::Script { .. } | ProbeKind::Docker { .. } => (interval(body, &mut warnings), SCRIPT_TIMEOUT),
        _ => (interval(body, &mut warnings), DEFAULT_TIMEOUT),
    };
    let timeout = given(body.timeout).filter(|_| !timeout.is_zero()).unwrap_or(timeout);
    let critical = body.failures_before_critical.unwrap_or(0);
    let mut deregister_after = given(body.deregister_critical_service_after).unwrap_or_default();
    if !deregister_after.is_zero() && deregister_after < MIN_DEREGISTER_AFTER {
        warnings.push(format!(
            "a DeregisterCriticalServiceAfter of {deregister_after:?} is too short; raised to {MIN_DEREGISTER_AFTER:?}"
        ));
        deregister_after = MIN_DEREGISTER_AFTER;
    }
    let thresholds = Thresholds {
        success_before_passing: body.success_before_passing.unwrap_or(0),
        failures_before_warning: body.failures_before_warning.unwrap_or(critical),
        failures_before_critical: critical,
    };
    let output_max_bytes = body.output_max_size.filter(|max| *max > 0);
    let probe = Probe { thresholds, output_max_bytes, deregister_after, ..Probe::new(kind, interval, timeout) };
    Ok(Parsed { probe, warnings })
}

/// Zero is as good as nothing.
fn given(duration: Option<kvstore_client::GoDuration>) -> Option<Duration> {
    duration.map(|d| d.0).filter(|d| !d.is_zero())
}

fn interval(body: &CheckRegistration, warnings: &mut Vec<String>) -> Duration {
    let interval = given(body.interval).unwrap_or(MIN_INTERVAL);
    if interval < MIN_INTERVAL {
        warnings.push(format!("an interval of {interval:?} is too short; raised to {MIN_INTERVAL:?}"));
    }
    interval.max(MIN_INTERVAL)
}

/// Consul's rules, in its order and words.
fn validate(body: &CheckRegistration) -> Result<(), String> {
    let (interval, ttl) = (given(body.interval).is_some(), given(body.ttl).is_some());
    let alias = !body.alias_node.is_empty() || !body.alias_service.is_empty();
    let addressed = [&body.http, &body.tcp, &body.udp, &body.grpc, &body.h2ping, &body.os_service];
    let probed = !body.args.is_empty() || addressed.iter().any(|text| !text.is_empty());
    let why = if interval && ttl {
        "Interval and TTL cannot both be specified"
    } else if probed && !interval {
        "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
    } else if probed && alias {
        "Interval cannot be set for Alias checks"
    } else if alias && ttl {
        "TTL must be not be set for Alias checks"
    } else if !probed && !alias && !ttl {
        "TTL must be > 0 for TTL checks"
    } else if body.failures_before_warning.unwrap_or(0) > body.failures_before_critical.unwrap_or(0) {
        "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"
    } else {
        return Ok(());
    };
    Err(why.into())
}

/// The kind, chosen in Consul's order where several are given.
fn kind(node: &NodeKey, body: &CheckRegistration) -> Result<ProbeKind, String> {
    if let Some(ttl) = body.ttl.filter(|ttl| !ttl.0.is_zero()) {
        return Ok(ProbeKind::Ttl { ttl: ttl.0 });
    }
    if !body.http.is_empty() {
        return Ok(http(body));
    }
    if !body.tcp.is_empty() {
        return Ok(ProbeKind::Tcp { address: body.tcp.clone(), tls: body.tcp_use_tls.then(|| tls(body)) });
    }
    if !body.udp.is_empty() {
        return Ok(ProbeKind::Udp { address: body.udp.clone() });
    }
    if !body.grpc.is_empty() {
        let (address, service) = body.grpc.split_once('/').unwrap_or((&body.grpc, ""));
        let tls = body.grpc_use_tls.then(|| tls(body));
        return Ok(ProbeKind::Grpc { address: address.into(), service: service.into(), tls });
    }
    if !body.docker_container_id.is_empty() {
        return Ok(ProbeKind::Docker { container: body.docker_container_id.clone(), args: in_container(body) });
    }
    if !body.args.is_empty() {
        return Ok(ProbeKind::Script { args: body.args.clone() });
    }
    if !body.h2ping.is_empty() {
        let tls = body.h2ping_use_tls.unwrap_or(true).then(|| tls(body));
        return Ok(ProbeKind::H2ping { address: body.h2ping.clone(), tls });
    }
    if !body.os_service.is_empty() {
        return Ok(ProbeKind::OsService { name: body.os_service.clone() });
    }
    alias(node, body)
}

fn tls(body: &CheckRegistration) -> ProbeTls {
    ProbeTls { skip_verify: body.tls_skip_verify, server_name: body.tls_server_name.clone() }
}

/// A single argument is a line for `Shell`, where one is given.
fn in_container(body: &CheckRegistration) -> Vec<String> {
    match &body.args[..] {
        [line] if !body.shell.is_empty() => vec![body.shell.clone(), "-c".into(), line.clone()],
        args => args.into(),
    }
}

fn alias(own: &NodeKey, body: &CheckRegistration) -> Result<ProbeKind, String> {
    let node = if body.alias_node.is_empty() { Ok(own.clone()) } else { NodeKey::new(&body.alias_node) };
    let service = Some(&body.alias_service).filter(|id| !id.is_empty()).map(|id| InstanceId::new(id));
    let (node, service) = (node.map_err(|e| e.to_string())?, service.transpose().map_err(|e| e.to_string())?);
    Ok(ProbeKind::Alias { node, service })
}

fn http(body: &CheckRegistration) -> ProbeKind {
    ProbeKind::Http {
        url: body.http.clone(),
        method: if body.method.is_empty() { "GET".into() } else { body.method.clone() },
        header: body.header.clone(),
        body: body.body.clone(),
        no_redirects: body.disable_redirects,
        tls_skip_verify: body.tls_skip_verify,
        tls_server_name: body.tls_server_name.clone(),
    }
}
