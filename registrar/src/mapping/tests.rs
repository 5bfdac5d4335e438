use super::*;
use crate::container::tests::container;
use serde_json::{Value, json};

pub(crate) fn policy() -> Policy {
    Policy {
        host: "vm".into(),
        address: "10.0.0.1".parse().unwrap(),
        other_address: None,
        address_is_forced: false,
        choices: Choices::default(),
        probes_are_run: true,
        boot: None,
        mark: Mark { docker: "DOCK:ER".into(), state: "uuid".into() },
    }
}

pub(crate) fn choosing(choices: Choices) -> Policy {
    Policy { choices, ..policy() }
}

fn internally() -> Choices {
    Choices { internal: true, ..Choices::default() }
}

fn internal() -> Policy {
    choosing(internally())
}

/// `ID NAME ADDRESS:PORT TAGS`, one a line.
fn lines(mapped: &Mapped) -> Vec<String> {
    let line = |i: &Instance| {
        let s = &i.service;
        format!("{} {} {}:{} {}", s.id, s.name, s.address, s.port, s.tags.join(",")).trim_end().to_owned()
    };
    mapped.instances.iter().map(line).collect()
}

fn check(policy: &Policy, patch: &Value, expected: &[&str]) -> Mapped {
    let mapped = map(&container(patch), Network::Own, policy);
    assert_eq!(lines(&mapped), expected, "{patch}");
    mapped
}

/// `-p` options as Docker shows them: `("80/tcp", &[("0.0.0.0", 18080)])`.
fn ports(list: &[(&str, &[(&str, u16)])]) -> Value {
    let binding = |(ip, port): &(&str, u16)| json!({"HostIp": ip, "HostPort": port.to_string()});
    let all = list.iter().map(|(port, bindings)| {
        let list: Vec<_> = bindings.iter().map(binding).collect();
        ((*port).to_owned(), if list.is_empty() { Value::Null } else { json!(list) })
    });
    // The usual container has 80/tcp; a list without it means without it.
    let mut ports = json!({"80/tcp": null});
    ports.as_object_mut().unwrap().extend(all);
    ports
}

fn expose(list: &[&str]) -> Value {
    let mut exposed = json!({"80/tcp": null});
    for port in list {
        exposed[*port] = json!({});
    }
    exposed
}

#[test]
fn a_published_port_is_the_hosts_address_and_the_hosts_port() {
    check(&policy(), &json!({}), &["vm:web:80 hello 10.0.0.1:18080"]);
}

#[test]
fn names() {
    let env = |env: &[&str]| json!({"Config": {"Env": env}});
    let image = |image: &str| json!({"Config": {"Image": image}});
    check(&policy(), &env(&["SERVICE_NAME=shop"]), &["vm:web:80 shop 10.0.0.1:18080"]);
    check(&policy(), &env(&["SERVICE_80_NAME=shop"]), &["vm:web:80 shop 10.0.0.1:18080"]);
    check(&policy(), &image("reg.example:5000/acme/multi:2.1"), &["vm:web:80 multi 10.0.0.1:18080"]);
    check(&policy(), &image("acme/x@sha256:abc"), &["vm:web:80 x 10.0.0.1:18080"]);
    check(&policy(), &image("sha256:0123"), &["vm:web:80 web 10.0.0.1:18080"]);
    check(&policy(), &image(""), &["vm:web:80 web 10.0.0.1:18080"]);
    for (from, expected) in [
        (NameFrom::Container, "web"),
        (NameFrom::Hostname, "db.example.org"),
        (NameFrom::ComposeService, "front"),
        (NameFrom::Image, "hello"),
    ] {
        let policy = choosing(Choices { name_from: from, ..Choices::default() });
        let patch = json!({"Config": {"Hostname": "db", "Domainname": "example.org",
            "Labels": {"com.docker.compose.service": "front"}}});
        check(&policy, &patch, &[&format!("vm:web:80 {expected} 10.0.0.1:18080")]);
        if from != NameFrom::Container {
            check(&policy, &json!({}), &["vm:web:80 hello 10.0.0.1:18080"]);
        }
    }
}

#[test]
fn several_ports_get_a_suffix() {
    let three = |env: &[&str]| {
        json!({"Config": {"Env": env}, "NetworkSettings": {"Ports": ports(&[
            ("80/tcp", &[("0.0.0.0", 18081)]), ("443/tcp", &[("0.0.0.0", 18443)]), ("53/udp", &[("0.0.0.0", 18053)])])}})
    };
    check(
        &policy(),
        &three(&["SERVICE_NAME=multi"]),
        &[
            "vm:web:53:udp multi-53 10.0.0.1:18053 udp",
            "vm:web:80 multi-80 10.0.0.1:18081",
            "vm:web:443 multi-443 10.0.0.1:18443",
        ],
    );
    check(
        &policy(),
        &three(&[
            "SERVICE_80_NAME=http",
            "SERVICE_443_NAME=https",
            "SERVICE_443_ID=https.1",
            "SERVICE_53_UDP_NAME=dns",
        ]),
        &["vm:web:53:udp dns 10.0.0.1:18053 udp", "vm:web:80 http 10.0.0.1:18081", "https.1 https 10.0.0.1:18443"],
    );
}

#[test]
fn registrator_put_a_suffix_though_one_port_was_wanted() {
    let patch = json!({"Config": {"Env": ["SERVICE_NAME=web", "SERVICE_443_IGNORE=1"]},
        "NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 1)]), ("443/tcp", &[("0.0.0.0", 2)])])}});
    let mapped = check(&policy(), &patch, &["vm:web:80 web 10.0.0.1:1"]);
    assert_eq!(mapped.skipped[0].port, "443/tcp");
}

#[test]
fn tcp_and_udp_on_one_port() {
    let patch = json!({"NetworkSettings": {"Ports":
        ports(&[("53/tcp", &[("0.0.0.0", 5353)]), ("53/udp", &[("0.0.0.0", 5353)])])}});
    check(&policy(), &patch, &["vm:web:53 hello-53 10.0.0.1:5353", "vm:web:53:udp hello-53 10.0.0.1:5353 udp"]);
}

#[test]
fn registrator_mixed_container_address_and_host_port() {
    let patch = json!({"HostConfig": {"NetworkMode": "front"}, "NetworkSettings": {"Networks": {"bridge": null,
        "front": {"IPAddress": "172.18.0.2"}}}});
    let mapped = check(&policy(), &patch, &["vm:web:80 hello 10.0.0.1:18080"]);
    let tagged = &mapped.instances[0].service.tagged_addresses["net.front"];
    assert_eq!((tagged.address.as_str(), tagged.port), ("172.18.0.2", 80));
    check(&internal(), &patch, &["vm:web:80 hello 172.18.0.2:80"]);
}

#[test]
fn registrator_took_the_last_of_several_bindings() {
    let patch = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp",
        &[("::", 18087), ("0.0.0.0", 18087), ("::", 18086), ("0.0.0.0", 18086)])])}});
    let mapped = check(&policy(), &patch, &["vm:web:80 hello 10.0.0.1:18086"]);
    assert_eq!(mapped.instances[0].service.meta["bindings"], "18086,18087");
}

#[test]
fn docker_may_give_ipv4_and_ipv6_different_ports() {
    let patch = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 32773), ("::", 32772)])])}});
    let mapped = check(&policy(), &patch, &["vm:web:80 hello 10.0.0.1:32773"]);
    assert!(!mapped.instances[0].service.meta.contains_key("bindings"));
    let v6 = Policy { address: "fd00::1".parse().unwrap(), ..policy() };
    check(&v6, &patch, &["vm:web:80 hello fd00::1:32772"]);
    let only = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("::", 32772)])])}});
    check(&policy(), &only, &["vm:web:80 hello 10.0.0.1:32772"]);
}

#[test]
fn a_port_bound_to_one_address() {
    let at = |ip: &str| json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[(ip, 18080)])])}});
    let forced = Policy { address_is_forced: true, ..policy() };
    check(&policy(), &at("192.168.7.7"), &["vm:web:80 hello 192.168.7.7:18080"]);
    check(&forced, &at("192.168.7.7"), &["vm:web:80 hello 10.0.0.1:18080"]);
    for policy in [policy(), forced] {
        let mapped = check(&policy, &at("127.0.0.1"), &["vm:web:80 hello 127.0.0.1:18080"]);
        assert_eq!(mapped.instances[0].service.meta["scope"], "host-only");
    }
    check(&policy(), &at("::"), &["vm:web:80 hello 10.0.0.1:18080"]);
    let both = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("127.0.0.1", 1), ("0.0.0.0", 2)])])}});
    check(&policy(), &both, &["vm:web:80 hello 10.0.0.1:2"]);
}

#[test]
fn unpublished_ports_count_only_with_internal() {
    let patch = json!({"Config": {"ExposedPorts": expose(&["80/tcp", "9000/tcp"])},
        "NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 18080)]), ("9000/tcp", &[])])}});
    let mapped = check(&policy(), &patch, &["vm:web:80 hello 10.0.0.1:18080"]);
    assert_eq!(mapped.skipped[0].port, "9000/tcp");
    check(&internal(), &patch, &["vm:web:80 hello-80 172.17.0.2:80", "vm:web:9000 hello-9000 172.17.0.2:9000"]);
    let silent = json!({"Config": {"ExposedPorts": expose(&[])}, "NetworkSettings": {"Ports": ports(&[])}});
    for policy in [policy(), internal()] {
        assert_eq!(check(&policy, &silent, &[]).skipped.len(), 1);
    }
}

#[test]
fn host_network_needs_no_p() {
    let patch = json!({"HostConfig": {"NetworkMode": "host"}, "Config": {"Env": ["SERVICE_PORTS=8125/udp"]},
        "NetworkSettings": {"Ports": {"80/tcp": null}, "Networks": {"bridge": null, "host": {"IPAddress": ""}}}});
    for policy in [policy(), internal()] {
        let expected = ["vm:web:80 hello-80 10.0.0.1:80", "vm:web:8125:udp hello-8125 10.0.0.1:8125 udp"];
        check(&policy, &patch, &expected);
    }
}

#[test]
fn registrator_registered_containers_without_a_network() {
    let patch = json!({"HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Ports": {}, "Networks": {"bridge": null, "none": {"IPAddress": ""}}}});
    for policy in [policy(), internal()] {
        check(&policy, &patch, &[]);
    }
}

#[test]
fn registrator_chose_the_network_by_chance() {
    let two = |env: &str| {
        json!({"Config": {"Env": [env]}, "NetworkSettings": {"Networks": {"bridge": null,
            "alpha": {"IPAddress": ""}, "net2": {"IPAddress": "172.19.0.2"}, "net1": {"IPAddress": "172.18.0.2"}}}})
    };
    let asked = |name: &str| choosing(Choices { network: Some(name.into()), ..internally() });
    check(&internal(), &two("A=b"), &["vm:web:80 hello 172.18.0.2:80"]);
    check(&asked("net2"), &two("A=b"), &["vm:web:80 hello 172.19.0.2:80"]);
    check(&asked("net2"), &two("SERVICE_NETWORK=net1"), &["vm:web:80 hello 172.18.0.2:80"]);
    for missing in ["nosuch", "alpha"] {
        assert!(check(&asked(missing), &two("A=b"), &[]).skipped[0].why.contains(missing));
    }
    let with_bridge = json!({"NetworkSettings": {"Networks": {"alpha": {"IPAddress": "172.18.0.2"}}}});
    let mapped = check(&internal(), &with_bridge, &["vm:web:80 hello 172.17.0.2:80"]);
    let tagged: Vec<_> = mapped.instances[0].service.tagged_addresses.keys().collect();
    assert_eq!(tagged, ["net.alpha", "net.bridge"]);
}

#[test]
fn ipv6_of_the_chosen_network() {
    let both = json!({"NetworkSettings": {"Networks": {"bridge": {"GlobalIPv6Address": "fd00::2"}}}});
    let mapped = check(&internal(), &both, &["vm:web:80 hello 172.17.0.2:80"]);
    assert_eq!(mapped.instances[0].service.tagged_addresses["lan_ipv6"].address, "fd00::2");
    let only = json!({"Config": {"Env": ["SERVICE_CHECK_HTTP=/"]},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}}});
    let mapped = check(&internal(), &only, &["vm:web:80 hello fd00::2:80"]);
    assert_eq!(mapped.instances[0].service.checks[0].http, "http://[fd00::2]:80/");
}

#[test]
fn the_network_of_another_container() {
    let base = container(&json!({"Name": "/base", "Config": {"ExposedPorts": expose(&[])},
        "NetworkSettings": {"Networks": {"bridge": null, "front": {"IPAddress": "172.18.0.9"}}}}));
    let joined = container(&json!({"HostConfig": {"NetworkMode": "container:base"},
        "NetworkSettings": {"Ports": {"80/tcp": null}, "Networks": {"bridge": null}}}));
    let lines_of = |network, policy| lines(&map(&joined, network, &policy));
    assert_eq!(lines_of(Network::Of(&base), internal()), ["vm:web:80 hello 172.18.0.9:80"]);
    assert_eq!(lines_of(Network::Of(&base), policy()), ["vm:web:80 hello 10.0.0.1:18080"]);
    assert!(lines_of(Network::Missing("base"), policy()).is_empty());
    assert!(lines_of(Network::Own, policy()).is_empty());
}

#[test]
fn explicit_asks_for_a_name() {
    let policy = choosing(Choices { explicit: true, ..Choices::default() });
    check(&policy, &json!({}), &[]);
    check(&policy, &json!({"Config": {"Env": ["SERVICE_NAME=x"]}}), &["vm:web:80 x 10.0.0.1:18080"]);
    check(&policy, &json!({"Config": {"Labels": {"SERVICE_80_NAME": "x"}}}), &["vm:web:80 x 10.0.0.1:18080"]);
}

#[test]
fn registrator_ignored_what_said_ignore_false() {
    for (value, count) in [("false", 1), ("0", 1), ("no", 1), ("true", 0), ("1", 0), ("", 1)] {
        let patch = json!({"Config": {"Env": [format!("SERVICE_IGNORE={value}")]}});
        assert_eq!(map(&container(&patch), Network::Own, &policy()).instances.len(), count, "{value}");
    }
}

#[test]
fn tags_meta_and_weights() {
    let tags = TagTemplates::new(vec!["every".into()]).unwrap();
    let policy = choosing(Choices { tags, ..Choices::default() });
    let patch = json!({"Config": {"Env": [r"SERVICE_TAGS=v1,blue,esc\,aped", "SERVICE_REGION=from-image",
        "SERVICE_VERSION=2.1", "SERVICE_CHECK_TTL=9s", "SERVICE_WEIGHT=5"], "Labels": {"SERVICE_REGION": "eu"}}});
    let mapped = check(&policy, &patch, &["vm:web:80 hello 10.0.0.1:18080 v1,blue,esc,aped,every"]);
    let service = &mapped.instances[0].service;
    let own: Vec<_> = service.meta.iter().filter(|(k, _)| !k.starts_with("registrar")).collect();
    assert_eq!(format!("{own:?}"), r#"[("region", "eu"), ("version", "2.1")]"#);
    assert_eq!(service.meta["registrar"], "DOCK:ER/uuid");
    assert_eq!(service.meta["registrar-container"], "4f1c2b3a4d5e");
    assert_eq!(service.meta["registrar-checks"].len(), 16);
    assert_eq!(service.weights, Some(Weights { passing: 5, warning: 1 }));
    assert!(mapped.warnings.is_empty(), "{:?}", mapped.warnings);
}

#[test]
fn healthcheck_becomes_a_check() {
    let with = |env: &[&str]| {
        let patch = json!({"State": {"Health": {"Status": "starting"}}, "Config": {"Env": env}});
        map(&container(&patch), Network::Own, &policy()).instances[0].follows_docker
    };
    assert_eq!(with(&[]), Some(CheckStatus::Critical));
    assert_eq!(with(&["SERVICE_CHECK_INITIAL_STATUS=warning"]), Some(CheckStatus::Warning));
    assert_eq!(with(&["SERVICE_CHECK_DOCKER=off"]), None);
    let mapped = map(&container(&json!({})), Network::Own, &policy());
    assert_eq!(mapped.instances[0].follows_docker, None);
}

#[test]
fn probes_that_nobody_runs_are_not_registered() {
    let policy = Policy { probes_are_run: false, ..policy() };
    let mapped = map(&container(&json!({"Config": {"Env": ["SERVICE_CHECK_TCP=1"]}})), Network::Own, &policy);
    assert!(mapped.instances[0].service.checks.is_empty());
    assert_eq!(mapped.warnings.len(), 1);
}

#[test]
fn foreign_input_is_named_and_the_rest_is_registered() {
    let long = "x".repeat(600);
    let two = ports(&[("80/tcp", &[("0.0.0.0", 1)]), ("81/tcp", &[("0.0.0.0", 2)])]);
    for (variable, registered, word) in [
        ("SERVICE_80_NAME=a\u{7}b".to_owned(), 1, "control"),
        (format!("SERVICE_80_NAME={long}"), 1, "600 bytes"),
        (format!("SERVICE_80_ID={long}"), 1, "its id"),
        ("SERVICE_80_NAME=no dns name".into(), 2, "DNS"),
        ("SERVICE_80_NAME=a..b".into(), 2, "DNS"),
        ("SERVICE_TAGS=good,b\u{1b}ad".into(), 2, "a tag is left out"),
        (format!("SERVICE_NOTE={long}"), 2, "was cut"),
        ("SERVICE_NOTE=a\nb".into(), 2, "was cut"),
        ("SERVICE_A.B=x".into(), 2, "not allowed"),
        ("SERVICE_REGISTRAR=me".into(), 2, "the key is taken"),
        ("SERVICE_WEIGHT=heavy".into(), 2, "no weight"),
        ("SERVICE_PORTS=http".into(), 2, "no port"),
    ] {
        let patch = json!({"Config": {"Env": [variable]}, "NetworkSettings": {"Ports": two}});
        let mapped = map(&container(&patch), Network::Own, &policy());
        assert_eq!(mapped.instances.len(), registered, "{variable:?}");
        assert_eq!(mapped.warnings.iter().filter(|w| w.contains(word)).count(), 1, "{:?}", mapped.warnings);
    }
}

#[test]
fn a_container_does_not_fill_the_log() {
    let (long, many) = ("é".repeat(1 << 20), (0..1000).map(|n| format!("p{n}")).collect::<Vec<_>>().join(","));
    let env = [format!("SERVICE_WEIGHT={long}"), format!("SERVICE_{long}=x"), format!("SERVICE_PORTS={many}")];
    let mapped = check(&policy(), &json!({"Config": {"Env": env}}), &["vm:web:80 hello 10.0.0.1:18080"]);
    assert_eq!((mapped.warnings.len(), mapped.warnings[20].as_str()), (21, "and 982 warnings more"));
    assert!(mapped.warnings.iter().all(|warning| warning.len() < 600), "{:?}", mapped.warnings);
}

#[test]
fn a_container_does_not_fill_the_catalog() {
    let all = (1..=u16::MAX).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let patch = json!({"Config": {"Env": [format!("SERVICE_PORTS={all}")]}, "HostConfig": {"NetworkMode": "host"}});
    let mapped = map(&container(&patch), Network::Own, &policy());
    assert_eq!((mapped.instances.len(), mapped.instances[1023].service.port), (1024, 1024));
    assert_eq!(mapped.warnings, ["of its 65535 ports only the lowest 1024 are registered"]);
}

#[test]
fn metadata_has_limits() {
    let env: Vec<_> = (0..100).map(|n| format!("SERVICE_K{n}=v")).collect();
    let mapped = map(&container(&json!({"Config": {"Env": env}})), Network::Own, &policy());
    assert_eq!(mapped.instances[0].service.meta.len(), 64);
    assert!(!mapped.warnings.is_empty());
    let cut = map(
        &container(&json!({"Config": {"Env": [format!("SERVICE_N={}", "é".repeat(300))]}})),
        Network::Own,
        &policy(),
    );
    assert_eq!(cut.instances[0].service.meta["n"].len(), 512);
}

#[test]
fn registrator_added_the_port_though_nobody_wanted_it() {
    let patch =
        json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 1)]), ("443/tcp", &[("0.0.0.0", 2)])])}});
    let policy = choosing(Choices { no_port_suffix: true, ..Choices::default() });
    check(&policy, &patch, &["vm:web:80 hello 10.0.0.1:1", "vm:web:443 hello 10.0.0.1:2"]);
}

#[test]
fn one_family_or_both() {
    let both = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 32773), ("::", 32772)])]),
        "Networks": {"bridge": {"GlobalIPv6Address": "fd00::2"}}}});
    let of = |family| choosing(Choices { family, ..internally() });
    let mapped = check(&of(Family::Ipv4), &both, &["vm:web:80 hello 172.17.0.2:80"]);
    assert!(!mapped.instances[0].service.tagged_addresses.contains_key("lan_ipv6"));
    let mapped = check(&of(Family::Ipv6), &both, &["vm:web:80 hello fd00::2:80"]);
    assert_eq!(mapped.instances[0].service.tagged_addresses["net.bridge"].address, "fd00::2");
    check(&of(Family::Ipv6), &json!({}), &[]);
    let other = Policy { other_address: "fd00::1".parse().ok(), ..policy() };
    let mapped = check(&other, &both, &["vm:web:80 hello 10.0.0.1:32773"]);
    let beside = &mapped.instances[0].service.tagged_addresses["lan_ipv6"];
    assert_eq!((beside.address.as_str(), beside.port), ("fd00::1", 32772));
    let v4_only = json!({"NetworkSettings": {"Ports": ports(&[("80/tcp", &[("0.0.0.0", 1)])])}});
    let mapped = check(&other, &v4_only, &["vm:web:80 hello 10.0.0.1:1"]);
    assert!(!mapped.instances[0].service.tagged_addresses.contains_key("lan_ipv6"), "nobody listens there");
    let host = json!({"HostConfig": {"NetworkMode": "host"}, "NetworkSettings": {"Networks": {"bridge": null}}});
    let mapped = check(&other, &host, &["vm:web:80 hello 10.0.0.1:80"]);
    assert_eq!(mapped.instances[0].service.tagged_addresses["lan_ipv6"].address, "fd00::1");
}

#[test]
fn the_address_from_a_label() {
    let policy = |internal| choosing(Choices { ip_label: Some("net.ip".into()), internal, ..Choices::default() });
    let patch = |ip: &str| json!({"Config": {"Labels": {"net.ip": ip}}});
    check(&policy(false), &patch("10.42.0.7/16"), &["vm:web:80 hello 10.42.0.7:18080"]);
    check(&policy(true), &patch("10.42.0.7/16"), &["vm:web:80 hello 10.42.0.7:80"]);
    check(&policy(true), &json!({}), &["vm:web:80 hello 172.17.0.2:80"]);
    let mapped = check(&policy(true), &patch("nowhere"), &["vm:web:80 hello 172.17.0.2:80"]);
    assert!(mapped.warnings[0].contains("net.ip"), "{:?}", mapped.warnings);
    // a network that Docker knows nothing of
    let foreign =
        json!({"Config": {"Labels": {"net.ip": "10.42.0.7"}}, "NetworkSettings": {"Networks": {"bridge": null}}});
    check(&policy(true), &foreign, &["vm:web:80 hello 10.42.0.7:80"]);
}

#[test]
fn the_version_from_the_tag_of_the_image() {
    let policy = choosing(Choices { version_from_tag: true, ..Choices::default() });
    for (image, env, version) in [
        ("reg.example:5000/acme/web:2.1", "A=b", Some("2.1")),
        ("acme/web:2.1@sha256:abc", "A=b", Some("2.1")),
        ("reg.example:5000/acme/web", "A=b", None),
        ("web:latest", "A=b", None),
        ("sha256:0123", "A=b", None),
        ("web@sha256:0123", "A=b", None),
        ("web:2.1", "SERVICE_VERSION=3", Some("3")),
    ] {
        let mapped = map(&container(&json!({"Config": {"Image": image, "Env": [env]}})), Network::Own, &policy);
        let found = mapped.instances[0].service.meta.get("version").map(String::as_str);
        assert_eq!(found, version, "{image} {env}");
    }
    let mapped =
        check(&super::tests::policy(), &json!({"Config": {"Image": "web:2.1"}}), &["vm:web:80 web 10.0.0.1:18080"]);
    assert!(!mapped.instances[0].service.meta.contains_key("version"));
}

#[test]
fn what_compose_says_is_metadata() {
    let patch = json!({"Config": {"Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "front",
        "com.docker.compose.oneoff": "False"}}});
    let mapped = check(&policy(), &patch, &["vm:web:80 hello 10.0.0.1:18080"]);
    let own: Vec<_> = mapped.instances[0].service.meta.iter().filter(|(k, _)| !k.starts_with("registrar")).collect();
    assert_eq!(format!("{own:?}"), r#"[("compose-project", "shop"), ("compose-service", "front")]"#);
}

#[test]
fn registrator_did_not_see_the_tasks_of_a_swarm() {
    let task = |patch: &Value| {
        let mut task = json!({"Name": "/shop_web.1.x7", "Config": {"Labels": {"com.docker.swarm.service.name": "shop_web",
            "com.docker.swarm.task.name": "shop_web.1.x7", "com.docker.stack.namespace": "shop"}},
            "NetworkSettings": {"Ports": {"80/tcp": null}, "Networks": {"bridge": null,
                "ingress": {"IPAddress": "10.0.0.5"}, "shop_front": {"IPAddress": "10.0.1.5"}}}});
        crate::container::tests::merge(&mut task, patch);
        task
    };
    for policy in [policy(), internal()] {
        let mapped = check(&policy, &task(&json!({})), &["vm:shop_web.1.x7:80 shop_web 10.0.1.5:80"]);
        let meta = &mapped.instances[0].service.meta;
        assert_eq!((meta["swarm-service"].as_str(), meta["swarm-stack"].as_str()), ("shop_web", "shop"));
    }
    let on_host = json!({"NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}}});
    check(&policy(), &task(&on_host), &["vm:shop_web.1.x7:80 shop_web 10.0.0.1:8080"]);
    let balanced_only = json!({"NetworkSettings": {"Networks": {"shop_front": null}}});
    let mapped = check(&policy(), &task(&balanced_only), &[]);
    assert!(mapped.skipped[0].why.contains("mode=host"), "{:?}", mapped.skipped);
    let local = json!({"NetworkSettings": {"Networks": {"shop_front": null, "bridge": {"IPAddress": "172.17.0.2"}}}});
    check(&policy(), &task(&local), &[]);
    check(
        &policy(),
        &task(&json!({"Config": {"Env": ["SERVICE_NAME=shop"]}})),
        &["vm:shop_web.1.x7:80 shop 10.0.1.5:80"],
    );
}

#[test]
fn a_container_has_its_names_in_networks_that_span_hosts() {
    let patch = json!({"NetworkSettings": {"Networks": {
        "app": {"NetworkID": "n1", "IPAddress": "10.210.7.2", "GlobalIPv6Address": "fd00::2",
            "Aliases": ["cache", "4f1c2b3a4d5e", "not a name"]},
        "empty": {"NetworkID": "n2", "IPAddress": "", "Aliases": null},
        "near": {"NetworkID": "n3", "IPAddress": "10.1.0.2", "Aliases": ["near"]}}},
        "Config": {"Env": ["SERVICE_VERSION=v2"]}});
    let mapped = |policy: &Policy, patch: &Value| {
        let mut container = container(patch);
        for network in ["app", "empty"] {
            container.attachments.get_mut(network).unwrap().spans_hosts = true;
        }
        map(&container, Network::Own, policy)
    };
    let both = mapped(&policy(), &patch);
    let port = "vm:web:80 hello 10.0.0.1:18080";
    assert_eq!(
        lines(&both),
        [
            port,
            "vm:web:cache.app.overlay cache.app.overlay 10.210.7.2:0",
            "vm:web:web.app.overlay web.app.overlay 10.210.7.2:0"
        ]
    );
    let last = both.instances.last().unwrap();
    assert_eq!(last.service.meta["overlay-network"], "app");
    assert_eq!(last.service.meta["version"], "v2");
    assert_eq!(last.service.tagged_addresses["lan_ipv6"].address, "fd00::2");
    assert!(last.service.meta.contains_key("registrar") && last.service.checks.is_empty());
    assert!(both.warnings.iter().any(|warning| warning.contains("not a name")), "{:?}", both.warnings);
    let v6 = mapped(&choosing(Choices { family: Family::Ipv6, ..Choices::default() }), &patch);
    assert_eq!(v6.instances.last().unwrap().service.address, "fd00::2");

    let mut ignored = patch.clone();
    ignored["Config"]["Env"] = json!(["SERVICE_IGNORE=yes"]);
    assert!(mapped(&policy(), &ignored).instances.is_empty());
    let explicit = mapped(&choosing(Choices { explicit: true, ..Choices::default() }), &patch);
    assert_eq!(lines(&explicit).len(), 2, "a name is no service that somebody would have to ask for");
}
