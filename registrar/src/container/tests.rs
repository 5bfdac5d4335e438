use super::*;
use bollard::models::ContainerInspectResponse;
pub(crate) use flotilla_tests::fake_docker::merge;
use serde_json::json;

/// What Docker 20.10 (API 1.41) answers, cut to what is read, with `patch` merged over it.
pub(crate) fn inspect(patch: &serde_json::Value) -> ContainerInspectResponse {
    let mut answer = json!({
        "Id": "4f1c2b3a4d5e60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "Created": "2025-11-21T10:00:00.000000001Z",
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "", "StartedAt": "2025-11-21T10:00:01.000000002Z",
            "FinishedAt": "0001-01-01T00:00:00Z"},
        "Image": "sha256:0d1e", "Name": "/web", "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
        "HostConfig": {"NetworkMode": "default", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "18080"}]}},
        "Config": {"Hostname": "4f1c2b3a4d5e", "Domainname": "", "Env": ["PATH=/bin"],
            "ExposedPorts": {"80/tcp": {}}, "Image": "acme/hello:1", "Labels": {}},
        "NetworkSettings": {"SandboxID": "a1", "SandboxKey": "/var/run/docker/netns/a1",
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}]},
            "Networks": {"bridge": {"NetworkID": "b1", "EndpointID": "e1", "Gateway": "172.17.0.1",
                "IPAddress": "172.17.0.2", "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "",
                "MacAddress": "02:42:ac:11:00:02"}}}
    });
    merge(&mut answer, patch);
    serde_json::from_value(answer).unwrap()
}

pub(crate) fn container(patch: &serde_json::Value) -> Container {
    Container::from_docker(inspect(patch)).unwrap()
}

#[test]
fn reads_the_usual_container() {
    let got = container(&json!({}));
    assert_eq!((got.name.as_str(), got.short_id()), ("web", "4f1c2b3a4d5e"));
    assert_eq!(got.image, "acme/hello:1");
    assert_eq!(got.hostname, None, "Docker's own choice of a hostname is no name");
    assert!(got.running && !got.paused);
    assert_eq!(got.started, 1_763_719_201_000_000_002);
    assert_eq!((got.stop_signal, got.stop_timeout), (15, Duration::from_secs(10)));
    assert_eq!(got.network_mode, NetworkMode::Networks);
    let port: Port = "80/tcp".parse().unwrap();
    assert_eq!(got.exposed, BTreeSet::from([port]));
    let text: Vec<_> = got.bindings[&port].iter().map(|b| format!("{} {}", b.port, b.address)).collect();
    assert_eq!(text, ["18080 0.0.0.0", "18080 ::"]);
    assert_eq!(got.networks["bridge"].ipv4, Some("172.17.0.2".parse().unwrap()));
    assert!(got.env.is_empty() && got.problems.is_empty());
}

#[test]
fn a_restarting_or_dead_container_does_not_run() {
    for (patch, runs) in [
        (json!({"State": {"Running": true, "Restarting": true}}), false),
        (json!({"State": {"Running": false}}), false),
        (json!({"State": {"Dead": true}}), false),
        (json!({"State": {"Paused": true}}), true),
        (json!({"State": null}), false),
    ] {
        assert_eq!(container(&patch).running, runs, "{patch}");
    }
}

#[test]
fn bad_ports_and_addresses_are_named_and_the_rest_is_used() {
    let got = container(&json!({
        "Config": {"ExposedPorts": {"70000/tcp": {}, "0/tcp": {}, "x": {}, "9/ipx": {}}},
        "NetworkSettings": {"Ports": {"81/tcp": [{"HostIp": "nowhere", "HostPort": "1"},
            {"HostIp": "", "HostPort": "99999"}, {"HostIp": "", "HostPort": "81"}]},
            "Networks": {"odd": {"IPAddress": "not an address"}}}}));
    assert_eq!(got.problems.len(), 6, "{:?}", got.problems);
    assert_eq!(got.exposed.len(), 1);
    assert_eq!(got.bindings[&"81".parse().unwrap()].len(), 1);
    assert_eq!(got.networks["odd"], Endpoint::default());
}

#[test]
fn an_answer_without_id_or_name_is_refused() {
    for patch in [json!({"Id": null}), json!({"Name": null}), json!({"Name": "/"})] {
        assert!(Container::from_docker(inspect(&patch)).is_err(), "{patch}");
    }
}

#[test]
fn signals_in_every_spelling() {
    for (text, number) in [
        ("SIGTERM", Some(15)),
        ("quit", Some(3)),
        ("9", Some(9)),
        ("SIGRTMIN+3", Some(37)),
        ("RTMIN", Some(34)),
        ("SIGRTMIN-3", None),
        ("", None),
        ("0", None),
        ("NOSUCH", None),
    ] {
        assert_eq!(signal(text), number, "{text}");
    }
}

#[test]
fn hostname_network_and_health() {
    let got = container(&json!({
        "Config": {"Hostname": "db", "Domainname": "example.org", "StopSignal": "SIGQUIT", "StopTimeout": 60,
            "Env": ["SERVICE_NAME=db", "SERVICE_EMPTY=", "NOISE"]},
        "HostConfig": {"NetworkMode": "container:abc"},
        "State": {"Health": {"Status": "unhealthy", "FailingStreak": 3,
            "Log": [{"ExitCode": 0, "Output": "old"}, {"ExitCode": 1, "Output": " refused\n"}]}}}));
    assert_eq!(got.hostname.as_deref(), Some("db.example.org"));
    assert_eq!((got.stop_signal, got.stop_timeout), (3, Duration::from_mins(1)));
    assert_eq!(got.network_mode, NetworkMode::Container("abc".into()));
    assert_eq!(got.env, [("SERVICE_NAME".into(), "db".into()), ("SERVICE_EMPTY".into(), String::new())]);
    let health = got.health.unwrap();
    assert_eq!((health.state, health.output.as_str()), (HealthState::Unhealthy, "refused"));
    assert_eq!(container(&json!({"State": {"Health": {"Status": "none"}}})).health, None);
}

#[test]
fn times() {
    assert_eq!(nanoseconds("1970-01-01T00:00:01.5Z"), 1_500_000_000);
    assert_eq!(nanoseconds("1970-01-01T01:00:01+01:00"), 1_000_000_000);
    assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), 0);
    assert_eq!(nanoseconds("yesterday"), 0);
}
