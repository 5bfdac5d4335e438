//! Services and their checks as configuration files spell them: the API's fields in lower case with underscores.

use std::collections::BTreeMap;

use kvstore_client::types::{CheckRegistration, ServiceAddress, ServiceRegistration, Weights};
use serde::{Deserialize, de::DeserializeOwned};

use super::document::Section;

/// A part of a file, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    /// `FILE:LINE`
    pub(crate) place: String,
    /// `services[0]`
    pub(crate) key: String,
    pub(crate) body: T,
}

impl<T> Placed<T> {
    /// None if something is wrong with it, which was told then.
    fn read(section: &mut Section<'_>, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<Self> {
        let ((place, key), before) = (section.place(), section.faults());
        let body = read(section);
        (section.faults() == before).then_some(Self { place, key, body })
    }
}

/// What files define.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) services: Vec<Placed<ServiceRegistration>>,
    pub(crate) checks: Vec<Placed<CheckRegistration>>,
}

/// Reads `service`, `services`, `check` and `checks`, one or a list each.
pub(super) fn take(top: &mut Section<'_>, found: &mut Found) {
    for key in ["service", "services"] {
        top.sections(key, |section| found.services.extend(Placed::read(section, service)));
    }
    for key in ["check", "checks"] {
        top.sections(key, |section| found.checks.extend(Placed::read(section, standalone)));
    }
}

/// Reads `service` and `services` of a file that has nothing else.
pub(super) fn read(mut top: Section<'_>, services: &mut Vec<ServiceRegistration>) {
    for key in ["service", "services"] {
        top.sections(key, |section| services.push(service(section)));
    }
    top.finish();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: String,
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightPair {
    passing: u16,
    warning: u16,
}

/// The value under `key`; the default where there is none.
fn get<T: DeserializeOwned + Default>(section: &mut Section<'_>, key: &'static str) -> T {
    option(section, key).unwrap_or_default()
}

fn option<T: DeserializeOwned>(section: &mut Section<'_>, key: &'static str) -> Option<T> {
    let mut value = None;
    section.take(key, &mut value);
    value
}

fn service(s: &mut Section<'_>) -> ServiceRegistration {
    let mut body = ServiceRegistration {
        kind: get(s, "kind"),
        id: get(s, "id"),
        name: get(s, "name"),
        tags: get(s, "tags"),
        port: get(s, "port"),
        address: get(s, "address"),
        socket_path: get(s, "socket_path"),
        meta: get(s, "meta"),
        enable_tag_override: get(s, "enable_tag_override"),
        token: get(s, "token"),
        proxy: get(s, "proxy"),
        connect: get(s, "connect"),
        namespace: get(s, "namespace"),
        partition: get(s, "partition"),
        locality: get(s, "locality"),
        ..ServiceRegistration::default()
    };
    let weights: Option<WeightPair> = option(s, "weights");
    body.weights = weights.map(|w| Weights { passing: w.passing, warning: w.warning });
    let tagged: BTreeMap<String, Address> = get(s, "tagged_addresses");
    let tagged = tagged.into_iter().map(|(name, a)| (name, ServiceAddress { address: a.address, port: a.port }));
    body.tagged_addresses = tagged.collect();
    for key in ["check", "checks"] {
        s.sections(key, |section| body.checks.push(check(section)));
    }
    if body.name.is_empty() {
        s.fault("name", "a service needs a name");
    }
    body
}

fn standalone(s: &mut Section<'_>) -> CheckRegistration {
    let mut body = CheckRegistration { service_id: get(s, "service_id"), ..check(s) };
    if body.name.is_empty() {
        // As Consul has it, the id does.
        body.name = if body.id.is_empty() { body.check_id.clone() } else { body.id.clone() };
    }
    body
}

fn check(s: &mut Section<'_>) -> CheckRegistration {
    CheckRegistration {
        id: get(s, "id"),
        check_id: get(s, "check_id"),
        name: get(s, "name"),
        status: option(s, "status"),
        notes: get(s, "notes"),
        args: get(s, "args"),
        http: get(s, "http"),
        header: get(s, "header"),
        method: get(s, "method"),
        body: get(s, "body"),
        disable_redirects: get(s, "disable_redirects"),
        tcp: get(s, "tcp"),
        tcp_use_tls: get(s, "tcp_use_tls"),
        udp: get(s, "udp"),
        grpc: get(s, "grpc"),
        grpc_use_tls: get(s, "grpc_use_tls"),
        h2ping: get(s, "h2ping"),
        h2ping_use_tls: option(s, "h2ping_use_tls"),
        tls_server_name: get(s, "tls_server_name"),
        tls_skip_verify: get(s, "tls_skip_verify"),
        docker_container_id: get(s, "docker_container_id"),
        shell: get(s, "shell"),
        alias_node: get(s, "alias_node"),
        alias_service: get(s, "alias_service"),
        os_service: get(s, "os_service"),
        ttl: option(s, "ttl"),
        interval: option(s, "interval"),
        timeout: option(s, "timeout"),
        success_before_passing: option(s, "success_before_passing"),
        failures_before_warning: option(s, "failures_before_warning"),
        failures_before_critical: option(s, "failures_before_critical"),
        output_max_size: option(s, "output_max_size"),
        token: get(s, "token"),
        namespace: get(s, "namespace"),
        partition: get(s, "partition"),
        deregister_critical_service_after: option(s, "deregister_critical_service_after"),
        ..CheckRegistration::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::document::{Document, Format},
        *,
    };

    fn read_all(text: &str) -> (Vec<ServiceRegistration>, Vec<String>) {
        let (mut services, mut faults) = (Vec::new(), Vec::new());
        let document = Document::parse("f", text.into(), Format::Yaml).unwrap();
        read(document.section(&mut faults), &mut services);
        (services, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_is_read_field_by_field() {
        let (services, faults) = read_all(
            r#"{"service": {"name": "web", "id": "w1", "port": 80, "tags": ["a"], "meta": {"version": "2"},
                "weights": {"passing": 3, "warning": 1}, "tagged_addresses": {"lan": {"address": "10.0.0.1"}},
                "check": {"http": "http://10.0.0.1/", "interval": "10s"}, "checks": [{"ttl": "30s"}]},
                "services": [{"name": "db"}]}"#,
        );
        assert_eq!(faults, [""; 0]);
        let names: Vec<_> = services.iter().map(|s| (&*s.name, &*s.id, s.port, s.checks.len())).collect();
        assert_eq!(names, [("web", "w1", 80, 2), ("db", "", 0, 0)]);
        assert_eq!(services[0].weights.unwrap().passing, 3);
        assert_eq!(services[0].checks[0].http, "http://10.0.0.1/");
        assert_eq!(services[0].tagged_addresses["lan"].address, "10.0.0.1");
    }

    #[test]
    fn every_fault_names_its_line() {
        let (_, faults) =
            read_all("services:\n- nam: x\n- name: y\n  check:\n    intervall: 1s\n- 7\nservice: {port: x}\n");
        assert_eq!(
            faults,
            [
                "f:7  service.port: invalid type: string \"x\", expected u16",
                "f:7  service.name: a service needs a name",
                "f:2  services[0].name: a service needs a name",
                "f:2  services[0].nam: unknown key; did you mean \"name\"?",
                "f:5  services[1].check.intervall: unknown key; did you mean \"interval\"?",
                "f:6  services[2]: expected keys and values, found a number",
            ]
        );
    }
}
