//! What Docker says about a container, whose labels and environment are its author's: no bytes panic, and whatever is to be
//! registered has a name and an id that can be, is of bounded number, and comes out the same again.

use std::collections::BTreeSet;

use bollard::models::ContainerInspectResponse;
use registrar::{
    container::Container,
    mapping::{Choices, Mapped, Network, Policy, TagTemplates, map},
    plan::Mark,
};

fn policy() -> Policy {
    let tags = ["{{ labels['com.docker.compose.project'] }}", "port-{{ port }}"].map(String::from);
    Policy {
        host: "vm".into(),
        address: [10, 0, 0, 1].into(),
        other_address: "fd00::1".parse().ok(),
        address_is_forced: false,
        choices: Choices {
            ip_label: Some("ip".into()),
            version_from_tag: true,
            tags: TagTemplates::new(tags.into()).expect("templates"),
            script_checks: true,
            ..Choices::default()
        },
        probes_are_run: true,
        boot: Some("boot".into()),
        mark: Mark { docker: "DOCK:ER".into(), state: "uuid".into() },
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let all = |env: &str, labels: &str, more: &str| {
        format!(
            r#"{{"Id":"4f1c2b3a4d5e0000","Name":"/web","State":{{"Running":true,"StartedAt":"2025-11-21T10:00:01.000000002Z","Health":{{"Status":"healthy","Log":[{{"Output":"ok"}}]}}}},
            "Config":{{"Image":"reg.example:5000/acme/web:2.1","Hostname":"h","Env":[{env}],"Labels":{{{labels}}},"ExposedPorts":{{"80/tcp":{{}},"53/udp":{{}}}},"StopSignal":"SIGRTMIN+3"}},
            "HostConfig":{{"NetworkMode":"bridge"}},
            "NetworkSettings":{{"Ports":{{"80/tcp":[{{"HostIp":"0.0.0.0","HostPort":"18080"}},{{"HostIp":"::","HostPort":"18080"}}]}},"Networks":{{"bridge":{{"IPAddress":"172.17.0.2","GlobalIPv6Address":"fd00::2","NetworkID":"n","Aliases":["a"]}}}}}}{more}}}"#
        )
    };
    [
        all(r#""SERVICE_NAME=web","SERVICE_TAGS=a,b\\,c","SERVICE_80_CHECK_HTTP=/health","SERVICE_CHECK_INTERVAL=10s""#, "", ""),
        all(r#""SERVICE_53_UDP_NAME=dns","SERVICE_CHECK_TCP=true","SERVICE_WEIGHT=7","SERVICE_VERSION=2""#, r#""SERVICE_ID":"x","ip":"10.1.2.3""#, ""),
        all(r#""SERVICE_CHECK_SCRIPT=curl $SERVICE_IP","SERVICE_CHECK_TTL=1m","SERVICE_CHECK_INITIAL_STATUS=passing""#, r#""com.docker.compose.service":"web","com.docker.compose.project":"p""#, ""),
        all(r#""SERVICE_IGNORE=yes""#, r#""com.docker.swarm.service.name":"s""#, ""),
        all(r#""SERVICE_CHECK_GRPC=true","SERVICE_CHECK_HTTPS=/","SERVICE_CHECK_HEADER=A: b","SERVICE_CHECK_METHOD=HEAD","SERVICE_CHECK_DOCKER=false""#, r#""SERVICE_NAMES":"a b""#, ""),
    ]
    .map(String::into_bytes)
    .into()
}

pub(crate) fn check(data: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<ContainerInspectResponse>(data) else { return };
    let Ok(container) = Container::from_docker(answer) else { return };
    let internal = Choices { internal: true, explicit: true, ip_label: None, ..policy().choices };
    let policies = [policy(), Policy { choices: internal, ..policy() }];
    for policy in policies {
        for network in [Network::Own, Network::Of(&container), Network::Missing("other")] {
            let mapped = map(&container, network, &policy);
            whole(&mapped);
            assert_eq!(mapped, map(&container, network, &policy));
        }
    }
}

fn whole(mapped: &Mapped) {
    assert!(mapped.instances.len() <= 2048 && mapped.warnings.len() <= 21, "as much as somebody wants to read");
    for instance in &mapped.instances {
        let service = &instance.service;
        for text in [&service.id, &service.name] {
            assert!(!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control), "{text:?}");
        }
        let text = serde_json::to_vec(service).expect("it can be sent");
        assert!(text.len() < 1 << 20, "{} bytes for one instance", text.len());
        let ids: BTreeSet<_> = service.checks.iter().map(|check| &check.check_id).collect();
        assert_eq!(ids.len(), service.checks.len(), "two checks of one id: {:?}", service.checks);
    }
}
