//! `SERVICE_CHECK_*` variables -> checks of one instance. Pure.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use kvstore_client::{
    GoDuration,
    types::{CheckRegistration, CheckStatus},
};

use crate::variables::{Variables, boolean};

/// Between two probes, unless `SERVICE_CHECK_INTERVAL` says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Runs the scripts.
const SHELL: &str = "/bin/sh";
/// How long the registry believes the last word about a HEALTHCHECK, or a mark such as draining. Only for the case
/// that the registrar never comes back: it renews the word well before.
pub const MESSENGER_TTL: Duration = Duration::from_hours(24);

/// The instance that the checks are about.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the names say it
pub struct Subject<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub address: SocketAddr,
    /// The container in which scripts may be run; `None` if they may not.
    pub scripts_in: Option<&'a str>,
}

/// Everything that the variables ask the registry to probe, in a fixed order; faults are added to `warnings`.
///
/// Ids are what Consul would choose itself: `service:ID`, or `service:ID:1`, `:2`... if there are several.
pub fn probes(variables: &Variables<'_>, subject: Subject<'_>, warnings: &mut Vec<String>) -> Vec<CheckRegistration> {
    let mut checks: Vec<_> = [http(variables, subject, "http", warnings), http(variables, subject, "https", warnings)]
        .into_iter()
        .chain([tcp(variables, subject), grpc(variables, subject, warnings)])
        .chain(["check_cmd", "check_script"].map(|key| script(variables, subject, key, warnings)))
        .flatten()
        .collect();
    for check in &mut checks {
        check.interval = Some(duration(variables, "check_interval", warnings).unwrap_or(GoDuration(DEFAULT_INTERVAL)));
        check.timeout = duration(variables, "check_timeout", warnings);
        check.tls_skip_verify = variables.flag("check_tls_skip_verify", warnings).unwrap_or(false);
    }
    checks.extend(duration(variables, "check_ttl", warnings).map(|ttl| CheckRegistration::ttl(ttl.0)));
    let several = checks.len() > 1;
    for (at, check) in checks.iter_mut().enumerate() {
        let number = if several { format!(":{}", at + 1) } else { String::new() };
        check.check_id = format!("service:{}{number}", subject.id);
        check.name = format!("Service '{}' check", subject.name);
        check.status = initial_status(variables, warnings).map(|s| s.to_string());
        check.deregister_critical_service_after = duration(variables, "check_deregister_after", warnings);
    }
    checks
}

fn http(
    variables: &Variables<'_>,
    subject: Subject<'_>,
    scheme: &str,
    warnings: &mut Vec<String>,
) -> Option<CheckRegistration> {
    let key = format!("check_{scheme}");
    let path = variables.get(&key)?;
    if boolean(path) == Some(false) {
        return None;
    }
    if path.contains(|c: char| c.is_control() || c == ' ') {
        warnings.push(format!("SERVICE_{}: {path:?} is no path; no such check", key.to_uppercase()));
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(CheckRegistration {
        http: format!("{scheme}://{}{slash}{path}", subject.address),
        method: variables.get(&format!("{key}_method")).unwrap_or_default().to_uppercase(),
        header: headers(variables),
        ..CheckRegistration::default()
    })
}

/// `SERVICE_CHECK_HTTP_HEADER_X_TOKEN=y` is sent as `x-token: y`.
fn headers(variables: &Variables<'_>) -> BTreeMap<String, Vec<String>> {
    let named = |(key, value): (&str, &str)| {
        let name = key.strip_prefix("check_http_header_")?.replace('_', "-");
        (!name.is_empty()).then(|| (name, vec![value.trim().to_owned()]))
    };
    variables.iter().filter_map(named).collect()
}

fn tcp(variables: &Variables<'_>, subject: Subject<'_>) -> Option<CheckRegistration> {
    wanted(variables, "check_tcp")
        .then(|| CheckRegistration { tcp: subject.address.to_string(), ..CheckRegistration::default() })
}

fn grpc(variables: &Variables<'_>, subject: Subject<'_>, warnings: &mut Vec<String>) -> Option<CheckRegistration> {
    wanted(variables, "check_grpc").then(|| CheckRegistration {
        grpc: subject.address.to_string(),
        grpc_use_tls: variables.flag("check_grpc_use_tls", warnings).unwrap_or(false),
        ..CheckRegistration::default()
    })
}

/// Run by the registry's agent inside of the container, by Docker's exec.
fn script(
    variables: &Variables<'_>,
    subject: Subject<'_>,
    key: &str,
    warnings: &mut Vec<String>,
) -> Option<CheckRegistration> {
    let text = variables.get(key)?;
    let Some(container) = subject.scripts_in else {
        let key = key.to_uppercase();
        warnings.push(format!("SERVICE_{key} is left out: use a HEALTHCHECK, or allow scripts by --script-checks"));
        return None;
    };
    // what Registrator put in
    let (ip, port) = (subject.address.ip().to_string(), subject.address.port().to_string());
    let text = text.replace("$SERVICE_IP", &ip).replace("$SERVICE_PORT", &port);
    Some(CheckRegistration {
        docker_container_id: container.to_owned(),
        shell: SHELL.into(),
        args: vec!["-c".into(), text],
        ..CheckRegistration::default()
    })
}

/// Any word but a no asks for the check: `SERVICE_CHECK_TCP=connect` is common.
fn wanted(variables: &Variables<'_>, key: &str) -> bool {
    variables.get(key).is_some_and(|value| boolean(value) != Some(false))
}

/// `SERVICE_CHECK_INITIAL_STATUS`: what counts until the first result.
pub fn initial_status(variables: &Variables<'_>, warnings: &mut Vec<String>) -> Option<CheckStatus> {
    match variables.get("check_initial_status")? {
        "passing" => Some(CheckStatus::Passing),
        "warning" => Some(CheckStatus::Warning),
        "critical" => Some(CheckStatus::Critical),
        other => {
            let why = "is none of passing, warning, critical; ignored";
            warnings.push(format!("SERVICE_CHECK_INITIAL_STATUS: {other:?} {why}"));
            None
        }
    }
}

fn duration(variables: &Variables<'_>, key: &str, warnings: &mut Vec<String>) -> Option<GoDuration> {
    let text = variables.get(key)?;
    match text.parse::<GoDuration>() {
        Ok(value) if !value.0.is_zero() => Some(value),
        Ok(_) => None,
        Err(why) => {
            warnings.push(format!("SERVICE_{}: {why}; ignored", key.to_uppercase()));
            None
        }
    }
}

/// Whether the container's HEALTHCHECK, if it has one, becomes a check: `SERVICE_CHECK_DOCKER`, `auto` by default.
pub fn follows_docker(variables: &Variables<'_>, warnings: &mut Vec<String>) -> bool {
    let Some(word) = variables.get("check_docker") else { return true };
    match boolean(word) {
        Some(yes) => yes,
        None if word == "none" => false,
        None => {
            if word != "auto" {
                warnings.push(format!("SERVICE_CHECK_DOCKER: {word:?} is neither auto nor off; taken as auto"));
            }
            true
        }
    }
}

/// The check that the registrar feeds with the container's HEALTHCHECK.
pub fn docker_check_id(service_id: &str) -> String {
    format!("docker-health:{service_id}")
}

/// One `GET`-like check per line, for tests and `registrar explain`.
pub fn describe(check: &CheckRegistration) -> String {
    let tls = if check.grpc_use_tls { " with TLS" } else { "" };
    let what = match check {
        c if !c.http.is_empty() => format!("{} {}", if c.method.is_empty() { "GET" } else { &c.method }, c.http),
        c if !c.tcp.is_empty() => format!("TCP {}", c.tcp),
        c if !c.docker_container_id.is_empty() => {
            format!("in the container {:?}", c.args.last().map_or("", String::as_str))
        }
        c if !c.grpc.is_empty() => format!("gRPC {}{tls}", c.grpc),
        c => format!("TTL {}", c.ttl.unwrap_or_default()),
    };
    match check.interval {
        Some(interval) => format!("{what} every {interval}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(env: &[&str]) -> (Vec<CheckRegistration>, Vec<String>) {
        run_with(env, None)
    }

    fn run_with(env: &[&str], scripts_in: Option<&str>) -> (Vec<CheckRegistration>, Vec<String>) {
        let container = crate::container::tests::container(&json!({"Config": {"Env": env}}));
        let mut warnings = Vec::new();
        let subject = Subject { id: "vm:web:80", name: "web", address: "10.0.0.1:18080".parse().unwrap(), scripts_in };
        let checks = probes(&Variables::of(&container, "80".parse().ok()), subject, &mut warnings);
        (checks, warnings)
    }

    fn check(env: &[&str], expected: &[&str]) {
        let (checks, warnings) = run(env);
        let got: Vec<_> = checks.iter().map(|c| format!("{} = {}", c.check_id, describe(c))).collect();
        assert_eq!(got, expected, "{env:?}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn every_kind() {
        check(&["SERVICE_CHECK_HTTP=/"], &["service:vm:web:80 = GET http://10.0.0.1:18080/ every 10s"]);
        check(
            &["SERVICE_CHECK_HTTP=health", "SERVICE_CHECK_HTTP_METHOD=head", "SERVICE_CHECK_INTERVAL=2s"],
            &["service:vm:web:80 = HEAD http://10.0.0.1:18080/health every 2s"],
        );
        check(&["SERVICE_CHECK_HTTPS=/s"], &["service:vm:web:80 = GET https://10.0.0.1:18080/s every 10s"]);
        check(&["SERVICE_CHECK_TCP=true"], &["service:vm:web:80 = TCP 10.0.0.1:18080 every 10s"]);
        check(&["SERVICE_CHECK_GRPC=yes"], &["service:vm:web:80 = gRPC 10.0.0.1:18080 every 10s"]);
        check(&["SERVICE_CHECK_TTL=30s"], &["service:vm:web:80 = TTL 30s"]);
        check(&["SERVICE_80_CHECK_TCP=1"], &["service:vm:web:80 = TCP 10.0.0.1:18080 every 10s"]);
        check(&["SERVICE_CHECK_INTERVAL=2s"], &[]);
    }

    #[test]
    fn registrator_took_only_the_first_check() {
        check(
            &["SERVICE_CHECK_TCP=1", "SERVICE_CHECK_HTTP=/", "SERVICE_CHECK_TTL=1m"],
            &[
                "service:vm:web:80:1 = GET http://10.0.0.1:18080/ every 10s",
                "service:vm:web:80:2 = TCP 10.0.0.1:18080 every 10s",
                "service:vm:web:80:3 = TTL 1m0s",
            ],
        );
    }

    #[test]
    fn registrator_turned_tls_on_for_false() {
        let tls = |env: &[&str]| run(env).0.pop().unwrap().grpc_use_tls;
        assert!(!tls(&["SERVICE_CHECK_GRPC=1", "SERVICE_CHECK_GRPC_USE_TLS=false"]));
        assert!(tls(&["SERVICE_CHECK_GRPC=1", "SERVICE_CHECK_GRPC_USE_TLS=true"]));
        check(&["SERVICE_CHECK_TCP=false", "SERVICE_CHECK_GRPC=0", "SERVICE_CHECK_HTTP=no"], &[]);
    }

    #[test]
    fn registrator_verified_https_whatever_was_asked() {
        let (checks, _) = run(&["SERVICE_CHECK_HTTPS=/", "SERVICE_CHECK_TLS_SKIP_VERIFY=yes"]);
        assert!(checks[0].tls_skip_verify);
    }

    #[test]
    fn all_settings_reach_the_check() {
        let (checks, warnings) = run(&[
            "SERVICE_CHECK_HTTP=/",
            "SERVICE_CHECK_TIMEOUT=1s",
            "SERVICE_CHECK_INITIAL_STATUS=passing",
            "SERVICE_CHECK_DEREGISTER_AFTER=10m",
            "SERVICE_CHECK_HTTP_HEADER_X_TOKEN=a b",
        ]);
        let check = &checks[0];
        assert_eq!(check.timeout, "1s".parse().ok());
        assert_eq!(check.status.as_deref(), Some("passing"));
        assert_eq!(check.deregister_critical_service_after, "10m".parse().ok());
        assert_eq!(check.header["x-token"], ["a b"]);
        assert_eq!(check.name, "Service 'web' check");
        assert!(warnings.is_empty());
    }

    #[test]
    fn nonsense_is_named_and_the_default_taken() {
        let (checks, warnings) = run(&[
            "SERVICE_CHECK_TCP=1",
            "SERVICE_CHECK_INTERVAL=10",
            "SERVICE_CHECK_TIMEOUT=-1s",
            "SERVICE_CHECK_INITIAL_STATUS=fine",
            "SERVICE_CHECK_CMD=true",
        ]);
        assert_eq!(describe(&checks[0]), "TCP 10.0.0.1:18080 every 10s");
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        for (warning, key) in warnings.iter().zip(["CMD", "INTERVAL", "TIMEOUT", "INITIAL_STATUS"]) {
            assert!(warning.contains(&format!("SERVICE_CHECK_{key}")), "{warning}");
        }
    }

    #[test]
    fn registrator_registered_scripts_that_nobody_could_run() {
        let env = ["SERVICE_CHECK_SCRIPT=nc $SERVICE_IP $SERVICE_PORT", "SERVICE_CHECK_CMD=/ok"];
        let (checks, warnings) = run_with(&env, Some("4f1c"));
        let got: Vec<_> = checks.iter().map(|c| (c.docker_container_id.as_str(), describe(c))).collect();
        let expected = ["in the container \"/ok\" every 10s", "in the container \"nc 10.0.0.1 18080\" every 10s"];
        assert_eq!(got, expected.map(|check| ("4f1c", check.to_owned())));
        assert_eq!(
            (checks[0].shell.as_str(), checks[0].args.as_slice()),
            ("/bin/sh", &["-c".to_owned(), "/ok".into()][..])
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        let (checks, warnings) = run(&env);
        assert!(checks.is_empty() && warnings.len() == 2 && warnings[0].contains("--script-checks"), "{warnings:?}");
    }

    #[test]
    fn registrator_forgot_the_brackets_of_ipv6() {
        let mut warnings = Vec::new();
        let container = crate::container::tests::container(&json!({"Config": {"Env": ["SERVICE_CHECK_TCP=1"]}}));
        let subject = Subject { id: "i", name: "n", address: "[fd00::2]:80".parse().unwrap(), scripts_in: None };
        let checks = probes(&Variables::of(&container, None), subject, &mut warnings);
        assert_eq!(checks[0].tcp, "[fd00::2]:80");
    }

    #[test]
    fn healthcheck_is_followed_unless_told_otherwise() {
        for (env, follows, complaints) in [
            (&[][..], true, 0),
            (&["SERVICE_CHECK_DOCKER=auto"], true, 0),
            (&["SERVICE_CHECK_DOCKER=off"], false, 0),
            (&["SERVICE_CHECK_DOCKER=none"], false, 0),
            (&["SERVICE_CHECK_DOCKER=maybe"], true, 1),
        ] {
            let container = crate::container::tests::container(&json!({"Config": {"Env": env}}));
            let mut warnings = Vec::new();
            let got = follows_docker(&Variables::of(&container, None), &mut warnings);
            assert_eq!((got, warnings.len()), (follows, complaints), "{env:?}");
        }
    }
}
