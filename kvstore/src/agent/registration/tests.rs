use std::time::Duration;

use kvstore_core::{
    health::Thresholds,
    row::{Probe, ProbeKind, ProbeTls},
};
use serde_json::json;

use super::{
    super::definition::{DEFAULT_TIMEOUT, MIN_INTERVAL},
    *,
};

fn node() -> NodeKey {
    NodeKey::new("n1").unwrap()
}

fn register(body: Value) -> Result<Service, InvalidRegistration> {
    service(Agent { node: &node(), scripts: false }, serde_json::from_value(body).expect("a body"))
}

fn register_check(body: Value) -> Result<StandaloneCheck, InvalidRegistration> {
    check(Agent { node: &node(), scripts: true }, serde_json::from_value(body).expect("a body"))
}

fn refused(body: Value) -> String {
    register(body).expect_err("refused").to_string()
}

#[test]
fn refuses_a_bad_service_in_consuls_words() {
    for (body, text) in [
        (json!({}), "Missing service name"),
        (json!({"ID": "x"}), "Missing service name"),
        (json!({"Name": "bad", "Address": "0.0.0.0"}), "Invalid service address"),
        (json!({"Name": "bad", "Address": "::"}), "Invalid service address"),
        (
            json!({"Name": "bad", "Weights": {"Passing": 0, "Warning": 1}}),
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            json!({"Name": "bad", "Meta": {"a b": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('a b', 'x'): Key contains invalid characters",
        ),
        (
            json!({"Name": "bad", "Meta": {"": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('', 'x'): Key cannot be blank",
        ),
        (
            json!({"Name": "bad", "Meta": {"consul-x": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('consul-x', 'x'): Key prefix 'consul-' is reserved \
             for internal use",
        ),
        (
            json!({"Name": "bad", "Check": {"HTTP": "http://127.0.0.1:1/"}}),
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (json!({"Name": "bad", "Check": {"Interval": "10s"}}), "Invalid check: TTL must be > 0 for TTL checks"),
        (json!({"Name": "bad", "Checks": [{}]}), "Invalid check: TTL must be > 0 for TTL checks"),
        (
            json!({"Name": "bad", "Check": {"TTL": "10s", "Interval": "10s"}}),
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            json!({"Name": "bad", "Check": {"TTL": "10s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 2}}),
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
        (
            json!({"Name": "bad", "Check": {"TTL": "10s", "Status": "bogus"}}),
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        (
            json!({"Name": "bad", "TaggedAddresses": {"lan_ipv4": {"Address": "::1", "Port": 1}}}),
            "Service tagged address \"lan_ipv4\" must be a valid ipv4 address",
        ),
        (json!({"Name": "a\nb"}), "Invalid name: the service name \"a\\nb\" has a control character"),
        (json!({"Name": "a", "Namespace": "team"}), "Invalid Namespace: \"team\" - there is only \"default\" here"),
    ] {
        assert_eq!(refused(body.clone()), text, "{body}");
    }
    let long = refused(json!({"Name": "bad", "Meta": {"k".repeat(129): "v"}}));
    assert!(long.ends_with("Key is too long (limit: 128 characters)"), "{long}");
    let long = refused(json!({"Name": "bad", "Meta": {"k": "v".repeat(513)}}));
    assert!(long.ends_with("Value is too long (limit: 512 characters)"), "{long}");
    let many: Meta = (0..65).map(|n| (n.to_string(), String::new())).collect();
    assert!(refused(json!({"Name": "bad", "Meta": many})).ends_with("more than 64 key/value pairs"));
}

#[test]
fn the_plainest_service_has_consuls_defaults() {
    let service = register(json!({"Name": "web", "Port": 8080})).unwrap();
    let expected = Instance {
        node: node(),
        id: InstanceId::new("web").unwrap(),
        service: "web".into(),
        tags: vec![],
        address: String::new(),
        port: 8080,
        socket_path: String::new(),
        tagged_addresses: [].into(),
        meta: None,
        weights: Weights { passing: 1, warning: 1 },
        enable_tag_override: false,
        kind: String::new(),
        proxy: Value::Null,
        connect: Value::Null,
        owner: Owner::Agent,
        from_file: false,
    };
    assert_eq!(service, Service { instance: expected, checks: vec![], warnings: vec![] });
}

#[test]
fn an_ip_address_gets_its_familys_names() {
    let names = |body: Value| {
        let tagged = register(body).unwrap().instance.tagged_addresses;
        tagged.into_iter().map(|(name, a)| format!("{name}={}:{}", a.address, a.port)).collect::<Vec<_>>()
    };
    assert_eq!(
        names(json!({"Name": "web", "Address": "10.2.0.2", "Port": 81, "TaggedAddresses": {
            "lan": {"Address": "10.2.0.2", "Port": 81}, "wan_ipv4": {"Address": "203.0.113.2", "Port": 80}}})),
        ["lan=10.2.0.2:81", "lan_ipv4=10.2.0.2:81", "wan_ipv4=203.0.113.2:80"]
    );
    assert_eq!(names(json!({"Name": "web", "Address": "fd00::2"})), ["lan_ipv6=fd00::2:0", "wan_ipv6=fd00::2:0"]);
    assert_eq!(names(json!({"Name": "web", "Address": "db.example"})), [""; 0]);
}

/// `id name kind` of each check.
fn names(body: Value) -> Vec<String> {
    let checks = register(body).unwrap().checks;
    assert!(checks.iter().all(|c| c.service.is_some() && c.owner == Owner::Agent && c.interval.is_empty()));
    checks.iter().map(|c| format!("{} | {} | {}", c.id, c.name, c.kind)).collect()
}

#[test]
fn checks_of_a_service_are_named_as_consul_names_them() {
    let http = json!({"HTTP": "http://127.0.0.1:1/", "Interval": "5s"});
    assert_eq!(
        names(json!({"Name": "web", "ID": "w1", "Check": {"TTL": "5s"}})),
        ["service:w1 | Service 'web' check | ttl"]
    );
    assert_eq!(
        names(json!({"Name": "web", "ID": "w1", "Checks": [{"TTL": "5s"}]})),
        ["service:w1 | Service 'web' check | ttl"]
    );
    assert_eq!(
        names(json!({"Name": "web", "Check": {}, "Checks": [{"CheckID": "a", "Name": "A", "TTL": "5s"}, http]})),
        ["a | A | ttl", "service:web:2 | Service 'web' check | http"]
    );
    assert_eq!(
        names(json!({"Name": "web", "Check": http, "Checks": [{"TCP": "127.0.0.1:1", "Interval": "5s"}]})),
        ["service:web:1 | Service 'web' check | http", "service:web:2 | Service 'web' check | tcp"]
    );
}

#[test]
fn of_two_checks_with_one_id_the_later_counts() {
    let service =
        register(json!({"Name": "web", "Checks": [{"CheckID": "a", "TTL": "5s"}, {"CheckID": "a", "TTL": "7s"}]}))
            .unwrap();
    let probe = service.checks[0].probe.as_deref().unwrap();
    assert_eq!(service.checks.len(), 1);
    assert_eq!(probe.kind, ProbeKind::Ttl { ttl: Duration::from_secs(7) });
    assert_eq!(service.warnings, ["check \"a\" is given twice; the later one counts"]);
}

#[test]
fn a_probe_is_taken_as_given_with_defaults_and_the_shortest_interval() {
    let parse = |body: Value| {
        let mut service = register(json!({"Name": "web", "Check": body})).unwrap();
        let probe = service.checks.remove(0).probe.expect("a probe");
        (Probe::clone(&probe), service.warnings)
    };
    let (probe, warnings) = parse(json!({
        "HTTP": "http://127.0.0.1:1/h", "Method": "POST", "Header": {"Host": ["x"]}, "Body": "b",
        "DisableRedirects": true, "TLSSkipVerify": true, "TLSServerName": "s", "Interval": "5s", "Timeout": "2s"}));
    let kind = ProbeKind::Http {
        url: "http://127.0.0.1:1/h".into(),
        method: "POST".into(),
        header: [("Host".to_owned(), vec!["x".to_owned()])].into(),
        body: "b".into(),
        no_redirects: true,
        tls_skip_verify: true,
        tls_server_name: "s".into(),
    };
    assert_eq!(probe, Probe::new(kind, Duration::from_secs(5), Duration::from_secs(2)));
    assert_eq!(warnings, [""; 0]);

    let (probe, warnings) = parse(json!({"TCP": "localhost:1", "Interval": "100ms"}));
    let kind = ProbeKind::Tcp { address: "localhost:1".into(), tls: None };
    assert_eq!(probe, Probe::new(kind, MIN_INTERVAL, DEFAULT_TIMEOUT));
    assert_eq!(warnings, ["check \"service:web\": an interval of 100ms is too short; raised to 1s"]);

    let (probe, warnings) = parse(json!({
        "HTTP": "http://x/", "Interval": "1s", "DeregisterCriticalServiceAfter": "90s", "SuccessBeforePassing": 2,
        "FailuresBeforeCritical": 3, "OutputMaxSize": 100}));
    let thresholds = Thresholds { success_before_passing: 2, failures_before_warning: 3, failures_before_critical: 3 };
    assert_eq!((probe.thresholds, probe.output_max_bytes), (thresholds, Some(100)));
    assert_eq!((probe.deregister_after, warnings), (Duration::from_secs(90), vec![]));

    let (probe, warnings) = parse(json!({"TTL": "1m", "DeregisterCriticalServiceAfter": "10ms",
        "FailuresBeforeWarning": 1, "FailuresBeforeCritical": 3, "OutputMaxSize": 0}));
    assert_eq!((probe.thresholds.failures_before_warning, probe.output_max_bytes), (1, None));
    assert_eq!(probe.deregister_after, Duration::from_secs(1));
    assert_eq!(
        warnings,
        ["check \"service:web\": a DeregisterCriticalServiceAfter of 10ms is too short; raised to 1s"]
    );
}

#[test]
fn every_kind_is_taken_as_given() {
    let args = vec!["sh".to_owned(), "-c".into(), "true".into()];
    let tls = |name: &str, skip_verify| Some(ProbeTls { skip_verify, server_name: name.into() });
    for (body, kind, timeout) in [
        (json!({"UDP": "h:1", "Interval": "5s"}), ProbeKind::Udp { address: "h:1".into() }, 10),
        (json!({"Args": args, "Interval": "5s"}), ProbeKind::Script { args: args.clone() }, 30),
        (json!({"ScriptArgs": args, "Interval": "5s", "Timeout": "7s"}), ProbeKind::Script { args: args.clone() }, 7),
        (
            json!({"TCP": "h:1", "TCPUseTLS": true, "TLSServerName": "s", "Interval": "5s"}),
            ProbeKind::Tcp { address: "h:1".into(), tls: tls("s", false) },
            10,
        ),
        (
            json!({"GRPC": "h:1/a/b", "GRPCUseTLS": true, "TLSSkipVerify": true, "Interval": "5s"}),
            ProbeKind::Grpc { address: "h:1".into(), service: "a/b".into(), tls: tls("", true) },
            10,
        ),
        (
            json!({"GRPC": "h:1", "Interval": "5s"}),
            ProbeKind::Grpc { address: "h:1".into(), service: String::new(), tls: None },
            10,
        ),
        (
            json!({"H2PING": "h:1", "Interval": "5s"}),
            ProbeKind::H2ping { address: "h:1".into(), tls: tls("", false) },
            10,
        ),
        (
            json!({"H2PING": "h:1", "H2PingUseTLS": false, "Interval": "5s"}),
            ProbeKind::H2ping { address: "h:1".into(), tls: None },
            10,
        ),
        (
            json!({"DockerContainerID": "c", "Shell": "/bin/bash", "Args": args, "Interval": "5s"}),
            ProbeKind::Docker { container: "c".into(), args: args.clone() },
            30,
        ),
        (
            json!({"DockerContainerID": "c", "Shell": "/bin/bash", "Args": ["a || b"], "Interval": "5s"}),
            ProbeKind::Docker { container: "c".into(), args: ["/bin/bash", "-c", "a || b"].map(String::from).into() },
            30,
        ),
        (json!({"OSService": "cron", "Interval": "5s"}), ProbeKind::OsService { name: "cron".into() }, 10),
        (json!({"AliasNode": "N2"}), ProbeKind::Alias { node: NodeKey::new("n2").unwrap(), service: None }, 0),
        (
            json!({"AliasService": "web-1"}),
            ProbeKind::Alias { node: node(), service: Some(InstanceId::new("web-1").unwrap()) },
            0,
        ),
    ] {
        let mut body = body;
        body["Name"] = json!("c");
        let check = register_check(body).unwrap().check;
        let probe = check.probe.as_deref().unwrap();
        assert_eq!((&probe.kind, probe.timeout), (&kind, Duration::from_secs(timeout)));
        assert_eq!(check.kind, kind.name());
    }
}

#[test]
fn programs_are_refused_unless_they_are_allowed() {
    let text =
        "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true";
    assert_eq!(refused(json!({"Name": "web", "Check": {"Args": ["true"], "Interval": "5s"}})), text);
}

#[test]
fn a_sidecar_is_ignored_aloud() {
    let service = register(json!({"Name": "web", "Connect": {"Native": true, "SidecarService": {"Port": 1}}})).unwrap();
    assert_eq!(service.instance.connect, json!({"Native": true}));
    assert_eq!(service.warnings, ["Connect.SidecarService is ignored: no mesh is run here"]);
}

#[test]
fn refuses_a_bad_check_in_consuls_words() {
    for (body, text) in [
        (json!({}), "Missing check name"),
        (json!({"ID": "x", "TTL": "5s"}), "Missing check name"),
        (json!({"Name": "c", "TTL": "5s", "Status": "bogus"}), "Bad check status"),
        (json!({"Name": "c"}), "Invalid check: TTL must be > 0 for TTL checks"),
        (json!({"Name": "c", "TTL": "0s"}), "Invalid check: TTL must be > 0 for TTL checks"),
    ] {
        assert_eq!(register_check(body.clone()).expect_err("refused").to_string(), text, "{body}");
    }
}

#[test]
fn a_check_by_itself_is_of_the_node_or_of_an_instance() {
    let check = register_check(json!({"Name": "memory", "TTL": "30s", "Notes": "m"})).unwrap().check;
    assert_eq!((check.id.as_str(), check.status, check.service), ("memory", Status::Critical, None));
    assert_eq!((&*check.interval, &*check.timeout, &*check.notes, &*check.kind), ("0s", "0s", "m", "ttl"));

    let body = json!({"ID": "extra", "Name": "x", "ServiceID": "db", "TCP": "h:1", "Interval": "10s",
        "Timeout": "1500ms", "Status": "passing"});
    let check = register_check(body).unwrap().check;
    assert_eq!((check.id.as_str(), check.name.as_str(), check.status), ("extra", "x", Status::Passing));
    assert_eq!(check.service, Some(InstanceId::new("db").unwrap()));
    assert_eq!((&*check.interval, &*check.timeout), ("10s", "1.5s"));
}
