//! What a check is to do: the kind, interval and timeout of a registration. Pure.

use std::time::Duration;

use kvstore_client::types::CheckRegistration;
use kvstore_core::row::{Probe, ProbeKind};

/// No probe runs more often.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// For one run, unless the registration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A probe, and what of the registration was taken otherwise than written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) probe: Probe,
    pub(super) warnings: Vec<String>,
}

/// The probe that `body` describes.
///
/// # Errors
/// What is wrong, in Consul's words where Consul has the rule.
pub(super) fn parse(body: &CheckRegistration) -> Result<Parsed, String> {
    validate(body)?;
    let kind = kind(body)?;
    let mut warnings = ignored(body);
    let given = |d: Option<kvstore_client::GoDuration>| d.map(|d| d.0).filter(|d| !d.is_zero());
    if matches!(kind, ProbeKind::Ttl { .. }) {
        let probe = Probe::new(kind, Duration::ZERO, Duration::ZERO);
        return Ok(Parsed { probe, warnings });
    }
    let mut interval = given(body.interval).unwrap_or(MIN_INTERVAL);
    if interval < MIN_INTERVAL {
        warnings.push(format!("an interval of {interval:?} is too short; raised to {MIN_INTERVAL:?}"));
        interval = MIN_INTERVAL;
    }
    let timeout = given(body.timeout).unwrap_or(DEFAULT_TIMEOUT);
    Ok(Parsed { probe: Probe::new(kind, interval, timeout), warnings })
}

/// Consul's rules, in its order and words.
fn validate(body: &CheckRegistration) -> Result<(), String> {
    let is_set = |d: Option<kvstore_client::GoDuration>| d.is_some_and(|d| !d.0.is_zero());
    let (interval, ttl) = (is_set(body.interval), is_set(body.ttl));
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
fn kind(body: &CheckRegistration) -> Result<ProbeKind, String> {
    if let Some(ttl) = body.ttl.filter(|ttl| !ttl.0.is_zero()) {
        return Ok(ProbeKind::Ttl { ttl: ttl.0 });
    }
    if !body.http.is_empty() {
        return http(body);
    }
    if !body.tcp.is_empty() {
        return Ok(ProbeKind::Tcp { address: body.tcp.clone() });
    }
    let name = if !body.udp.is_empty() {
        "UDP"
    } else if !body.grpc.is_empty() {
        "gRPC"
    } else if !body.docker_container_id.is_empty() {
        "Docker"
    } else if !body.args.is_empty() {
        "script"
    } else if !body.h2ping.is_empty() {
        "H2PING"
    } else if !body.os_service.is_empty() {
        "OSService"
    } else {
        "alias"
    };
    Err(unsupported(&format!("{name} checks are")))
}

fn http(body: &CheckRegistration) -> Result<ProbeKind, String> {
    if body.http.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        return Err(unsupported("https is"));
    }
    Ok(ProbeKind::Http {
        url: body.http.clone(),
        method: if body.method.is_empty() { "GET".into() } else { body.method.clone() },
        header: body.header.clone(),
        body: body.body.clone(),
        no_redirects: body.disable_redirects,
        tls_skip_verify: body.tls_skip_verify,
        tls_server_name: body.tls_server_name.clone(),
    })
}

fn unsupported(what: &str) -> String {
    format!("{what} not supported by this version of kvstore; use HTTP (http://...), TCP or TTL")
}

/// What is accepted, because clients send it, but has no effect yet.
fn ignored(body: &CheckRegistration) -> Vec<String> {
    let given = [
        ("SuccessBeforePassing", body.success_before_passing.is_some_and(|n| n > 0)),
        ("FailuresBeforeWarning", body.failures_before_warning.is_some_and(|n| n > 0)),
        ("FailuresBeforeCritical", body.failures_before_critical.is_some_and(|n| n > 0)),
        ("OutputMaxSize", body.output_max_size.is_some_and(|n| n > 0)),
        ("DeregisterCriticalServiceAfter", body.deregister_critical_service_after.is_some_and(|d| !d.0.is_zero())),
    ];
    let names: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![format!("{} has no effect in this version of kvstore", names.join(", "))]
}
