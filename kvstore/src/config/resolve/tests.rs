use std::{net::SocketAddr, path::PathBuf};

use kvstore_client::logging::LogFormat;

use super::{
    super::{
        DnsSettings, Recursor,
        document::{Document, Format},
        keys,
    },
    *,
};
use crate::http::digest;

fn facts() -> Facts {
    Facts {
        hostname: Some("host1".into()),
        route_address: Some([10, 0, 0, 5].into()),
        default_data_dir: Some("/state".into()),
    }
}

fn read(text: &str, faults: &mut Vec<Fault>) -> Layer {
    let mut layer = Layer::default();
    let document = Document::parse("f", text.into(), Format::Yaml).expect("well-formed");
    keys::read(document.section(faults), &mut layer);
    layer
}

/// The agent of a file with these lines.
fn agent(text: &str) -> Agent {
    let mut faults = Vec::new();
    let layer = read(text, &mut faults);
    let agent = resolve(layer, &facts(), &mut faults);
    assert_eq!(faults, []);
    agent.expect("complete")
}

/// What is wrong with a file with these lines.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let layer = read(text, &mut faults);
    resolve(layer, &facts(), &mut faults);
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn without_a_word_it_is_consul_on_loopback() {
    let agent = agent("");
    assert_eq!((&*agent.node_name, &*agent.datacenter, &*agent.domain), ("host1", "dc1", "consul"));
    assert_eq!(agent.http, [HttpAddr::Tcp(([127, 0, 0, 1], 8500).into())]);
    assert_eq!(agent.dns, [([127, 0, 0, 1], 8600).into()]);
    assert_eq!((agent.advertise, agent.server_port), ([10, 0, 0, 5].into(), 8300));
    assert_eq!(agent.engine, Engine::Embedded { data_dir: "/state".into() });
    assert_eq!(agent.notes.len(), 2, "{:?}", agent.notes);
    assert_eq!(agent.warnings, [""; 0]);
    assert_eq!(agent.dns_settings, DnsSettings::default());
}

#[test]
fn a_configuration_of_consul_is_taken_with_one_warning() {
    let agent = agent(
        r#"{
 "server": true,
 "bootstrap": true,
 "node_name": "wire-node",
 "node_id": "11111111-1111-4111-8111-111111111111",
 "datacenter": "DC1",
 "data_dir": "/data",
 "bind_addr": "127.0.0.1",
 "client_addr": "127.0.0.1 ::1",
 "ports": {"http": 39500, "dns": 39600, "server": 39300, "serf_lan": 39301, "https": -1},
 "enable_script_checks": true,
 "node_meta": {"wire": "yes"},
 "acl": {"enabled": false, "default_policy": "allow"},
 "retry_join": ["10.0.0.1"],
 "recursors": ["10.0.0.2", "[::1]:54"],
 "log_level": "ERR",
 "log_json": true,
 "check_update_interval": "5m",
 "limits": {"kv_max_value_size": 1000},
 "dns_config": {"node_ttl": "10s", "service_ttl": {"Web": "5s", "*": "1s"}, "enable_truncate": false,
   "recursor_strategy": "random", "soa": {"min_ttl": 60}, "a_record_limit": 3,
   "response_rate_limit": 50, "max_udp_bytes": 1232}
}"#,
    );
    assert_eq!((&*agent.node_name, &*agent.datacenter), ("wire-node", "dc1"));
    assert_eq!(agent.node_id, "11111111-1111-4111-8111-111111111111");
    let http: Vec<_> = agent.http.iter().map(ToString::to_string).collect();
    assert_eq!(http, ["http://127.0.0.1:39500", "http://[::1]:39500"]);
    assert_eq!(agent.dns.len(), 2);
    assert_eq!((agent.advertise, agent.server_port, agent.programs), ([127, 0, 0, 1].into(), 39300, Programs::All));
    assert_eq!(agent.node_meta, [("wire".to_owned(), "yes".to_owned())].into());
    assert_eq!(agent.recursors[1], Recursor::At("[::1]:54".parse().unwrap()));
    assert_eq!(agent.log, Log { level: Some("error".into()), format: LogFormat::Json });
    assert_eq!(agent.check_output_interval, Duration::from_mins(5));
    assert_eq!(agent.limits, Limits { kv_value_bytes: 1000, ..Limits::default() });
    let dns = agent.dns_settings;
    assert_eq!((dns.node_ttl, dns.service_ttl["web"]), (Duration::from_secs(10), Duration::from_secs(5)));
    assert_eq!((dns.truncate, dns.random_recursor, dns.a_record_limit), (false, true, 3));
    assert_eq!((dns.response_rate_limit, dns.max_udp_bytes), (50, 1232));
    assert_eq!((dns.soa.min_ttl, dns.soa.retry), (Duration::from_mins(1), Duration::from_mins(10)));
    assert_eq!(
        agent.warnings,
        ["without effect, because there is no Raft, Serf, gRPC or Connect here: ports.serf_lan, bootstrap, retry_join"]
    );
}

#[test]
fn addresses_come_from_the_most_particular_word() {
    let shown = |text: &str| {
        let agent = agent(text);
        let http: Vec<_> = agent.http.iter().map(ToString::to_string).collect();
        let dns: Vec<_> = agent.dns.iter().map(ToString::to_string).collect();
        format!("{} {} | {}", http.join(" "), dns.join(" "), agent.advertise)
    };
    for (text, expected) in [
        ("client_addr: 0.0.0.0", "http://0.0.0.0:8500 0.0.0.0:8600 | 10.0.0.5"),
        ("{client_addr: 0.0.0.0, http_addr: '127.0.0.1:1'}", "http://127.0.0.1:1 0.0.0.0:8600 | 10.0.0.5"),
        ("addresses: {http: 'unix:///s 127.0.0.2'}", "unix:///s http://127.0.0.2:8500 127.0.0.1:8600 | 10.0.0.5"),
        ("ports: {http: 80, dns: -1}", "http://127.0.0.1:80  | 10.0.0.5"),
        ("dns_addr: ['0.0.0.0:53', '0.0.0.0:8600']", "http://127.0.0.1:8500 0.0.0.0:53 0.0.0.0:8600 | 10.0.0.5"),
        ("bind_addr: 10.1.1.1", "http://127.0.0.1:8500 127.0.0.1:8600 | 10.1.1.1"),
        ("{bind_addr: 10.1.1.1, advertise_addr: 192.0.2.7}", "http://127.0.0.1:8500 127.0.0.1:8600 | 192.0.2.7"),
        ("bind_addr: 0.0.0.0", "http://127.0.0.1:8500 127.0.0.1:8600 | 10.0.0.5"),
        ("dev: true", "http://127.0.0.1:8500 127.0.0.1:8600 | 127.0.0.1"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn snapshots_need_a_place_a_second_and_one_to_keep() {
    assert_eq!(agent("").snapshots, None);
    let hourly = agent("snapshots: {directory: /backup}").snapshots.unwrap();
    assert_eq!((hourly.every, hourly.keep), (Duration::from_hours(1), 24));
    for (text, fault) in [
        ("snapshots: {every: 5m}", "configuration  snapshots.directory: snapshots are to be taken, but nowhere"),
        ("snapshots: {directory: /backup, every: 100ms}", "configuration  snapshots.every: it must be a second"),
        ("snapshots: {directory: /backup, keep: 0}", "configuration  snapshots.keep: it must be 1 at least"),
        ("snapshots: {directory: /backup, keeps: 3}", "snapshots.keeps: unknown key; did you mean \"keep\"?"),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].contains(fault), "{text}: {found:?}");
    }
}

#[test]
fn a_replica_has_a_hub_and_neither_an_engine_nor_services_of_its_own() {
    assert_eq!(agent("hub: {token: t}").replica_of, None);
    let hub = agent("{replica_of: 'http://a:1', hub: {token_file: /t, ca_file: /ca.pem}}").replica_of.unwrap();
    assert_eq!((&hub.addresses[..], hub.token_file), (&["http://a:1".to_owned()][..], Some("/t".into())));
    assert_eq!(hub.tls.authorities, [PathBuf::from("/ca.pem")]);
    let two = agent("{replica_of: ['http://a:1', 'https://b:2'], hub: {ssl_verify: false}}");
    assert_eq!(two.replica_of.unwrap().addresses, ["http://a:1", "https://b:2"]);
    assert!(two.warnings.iter().any(|warning| warning.contains("NOT verified")), "{:?}", two.warnings);
    for (text, fault) in [
        ("{replica_of: 'http://a:1', engine: memory}", "engine: a replica has the state of its hub"),
        ("{replica_of: 'http://a:1', engine: embedded}", "engine: a replica has the state of its hub"),
        ("{replica_of: 'http://a:1', service: {name: web}}", "services: a replica runs no checks"),
        (
            "{replica_of: 'http://a:1', hub: {client_cert: /c}}",
            "hub: client-cert and client-key: one of them is missing",
        ),
        ("{replica_of: 'http://a:1', hub: {tokens: x}}", "hub.tokens: unknown key"),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].contains(fault), "{text}: {found:?}");
    }
}

#[test]
fn flags_win_over_files() {
    let mut faults = Vec::new();
    let mut layer = read("{node_name: a, http_addr: '127.0.0.1:1', node_meta: {x: y}, engine: memory}", &mut faults);
    layer.overlay(Layer {
        node_name: Some("b".into()),
        client: Some(vec![[10, 0, 0, 9].into()]),
        node_meta: [("z".to_owned(), String::new())].into(),
        ..Layer::default()
    });
    let agent = resolve(layer, &facts(), &mut faults).unwrap();
    assert_eq!((&*agent.node_name, agent.node_meta.len(), agent.engine), ("b", 2, Engine::Memory));
    assert_eq!(agent.http, [HttpAddr::Tcp(([10, 0, 0, 9], 8500).into())]);
}

#[test]
fn everything_wrong_is_said_at_once_and_what_cannot_be_done_is_no_surprise_later() {
    assert_eq!(
        faults(
            "datacenter: 'd c'\nacl: {default_policy: maybe}\nports: {http: 8501, htp: 1}\nacl_datacenter: x\nengine: raft\n"
        ),
        [
            "f:1  datacenter: \"d c\" is no name for a datacenter; use letters, digits, - and _",
            "f:5  engine: there is no engine \"raft\"; use embedded, memory or etcd://HOST:PORT,...",
            "f:3  ports.htp: unknown key; did you mean \"http\"?",
            "f:2  acl.default_policy: \"maybe\" is no policy; use allow or deny",
            "f:4  acl_datacenter: not supported by this version",
        ]
    );
    assert_eq!(
        faults("{ports: {http: 70000}, advertise_addr: 0.0.0.0, node_meta: {'a b': c}}"),
        [
            "configuration  advertise_addr: 0.0.0.0 is nobody's address; give the one others reach",
            "configuration  ports.http: 70000 is no port",
            "configuration  node_meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
        ]
    );
}

#[test]
fn an_hcl_file_of_consul_is_taken() {
    let text = r#"
node_name  = "hcl-node"
datacenter = "dc2"
ports { http = 9500 }
node_meta { rack = "r1" }
service {
  name = "web"
  port = 80
  tags = ["v1"]
  check { ttl = "10s" }
}
service {
  id   = "api-1"
  name = "api"
  checks = [{ ttl = "10s" }, { ttl = "20s" }]
}
"#;
    let (mut faults, mut layer) = (Vec::new(), Layer::default());
    let document = Document::parse("f.hcl", text.into(), Format::Hcl).expect("well-formed");
    keys::read(document.section(&mut faults), &mut layer);
    let agent = resolve(layer, &facts(), &mut faults).expect("complete");
    assert_eq!(faults, []);
    assert_eq!((&*agent.node_name, &*agent.datacenter, &*agent.node_meta["rack"]), ("hcl-node", "dc2", "r1"));
    assert_eq!(agent.http[0].to_string(), "http://127.0.0.1:9500");
    let services =
        agent.definitions.services.iter().map(|s| (&*s.instance.service, s.checks.len())).collect::<Vec<_>>();
    assert_eq!(services, [("web", 1), ("api", 2)]);
}

#[test]
fn what_is_closed_is_told_or_refused() {
    let agent = agent(
        "http_config: {block_endpoints: [/v1/agent/force-leave], allow_write_http_from: [127.0.0.0/8, '::1'], \
         response_headers: {X-Frame-Options: DENY}}",
    );
    assert_eq!(agent.guard.blocked, ["/v1/agent/force-leave"]);
    assert_eq!(agent.guard.writers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.0/8", "::1/128"]);
    assert_eq!(agent.guard.headers["x-frame-options"], "DENY");
    assert_eq!(
        faults("http_config: {block_endpoints: v1/kv, allow_write_http_from: [local], response_headers: {'a b': c}}"),
        [
            "f:1  http_config.block_endpoints[0]: \"v1/kv\" is no path; they begin with /",
            "f:1  http_config.allow_write_http_from[0]: \"local\" is no network; write it as 10.0.0.0/8 or fd00::/8",
            "f:1  http_config.response_headers: \"a b\": \"c\" cannot be a header; names are letters, digits and hyphens",
        ]
    );
}

#[test]
fn domains_of_others_have_recursors_of_their_own_and_ours_has_none() {
    let agent = agent("recursor: corp.example=10.0.0.2\nrecursors: [10.in-addr.arpa=10.0.0.2:54, auto]\n");
    let of = |domain: &str, at: &str| Recursor::For { domain: domain.into(), at: at.parse().unwrap() };
    let parts = [of("corp.example", "10.0.0.2:53"), of("10.in-addr.arpa", "10.0.0.2:54"), Recursor::System];
    assert_eq!(agent.recursors, parts);
    assert_eq!(
        faults(
            "alt_domain: sd.corp\ndns_config: {recursor_timeout: 0s, recursor_strategy: best}\n\
             recursors: [dc2.consul=10.0.0.2, sd.corp=10.0.0.2, corp=10.0.0.2, notconsul=10.0.0.2, x=y]\n"
        ),
        [
            "f:3  recursors[4]: \"y\" is not IP, IP:PORT or \"auto\", nor DOMAIN=IP or DOMAIN=IP:PORT for one domain",
            "f:2  dns_config.recursor_timeout: it must be positive",
            "f:2  dns_config.recursor_strategy: \"best\" is no strategy; use sequential or random",
            "configuration  recursors: names in dc2.consul are answered here, since consul is ours: nobody else is asked",
            "configuration  recursors: names in sd.corp are answered here, since sd.corp is ours: nobody else is asked",
        ]
    );
}

#[test]
fn what_the_host_does_not_say_is_asked_for() {
    let mut faults = Vec::new();
    assert_eq!(resolve(Layer::default(), &Facts::default(), &mut faults), None);
    let whys: Vec<_> = faults.iter().map(|f| &*f.key).collect();
    assert_eq!(whys, ["node_name", "data_dir"]);

    let layer = Layer { dev: Some(true), node_name: Some("n_1".into()), ..Layer::default() };
    let agent = resolve(layer, &Facts::default(), &mut Vec::new()).unwrap();
    assert!(agent.warnings[0].contains("DNS will not find it"), "{:?}", agent.warnings);
}

#[test]
fn definitions_become_rows_and_name_their_line() {
    let text = "node_name: n\nservice: {name: web, port: 80, check: {ttl: 9s}}\nservices:\n- {name: db}\n- {name: db, port: 1}\n\
                checks:\n- {name: disk, ttl: 9s}\n- {id: of-web, service_id: web, tcp: 'h:1', interval: 9s}\n";
    let found = agent(text);
    let ids: Vec<_> = found.definitions.services.iter().map(|s| (s.instance.id.as_str(), s.checks.len())).collect();
    assert_eq!(ids, [("web", 1), ("db", 0)]);
    assert_eq!(found.definitions.services[1].instance.port, 1);
    let checks: Vec<_> = found.definitions.checks.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
    assert_eq!(checks, [("disk", "disk"), ("of-web", "of-web")]);
    assert_eq!(found.warnings, ["f:5  services[1]: the service \"db\" is defined twice; this one counts"]);

    let text = "service:\n  name: web\n  address: 0.0.0.0\nservices:\n- check: {ttl: 9s}\n- name: a\n  check: {intervall: 9s, ttl: x}\n\
                checks:\n- name: c\n- {name: d, ttl: 9s, status: bogus}\n";
    assert_eq!(
        faults(text),
        [
            "f:5  services[0].name: a service needs a name",
            "f:7  services[1].check.ttl: \"x\" is not a duration; use a number and a unit, such as 10m, 30s or 250ms",
            "f:7  services[1].check.intervall: unknown key; did you mean \"interval\"?",
            "f:1  service: Invalid service address",
            "f:9  checks[0]: Invalid check: TTL must be > 0 for TTL checks",
            "f:10  checks[1]: Bad check status",
        ]
    );
}

#[test]
fn certificates_concern_checks_only_where_that_is_said() {
    let files = "ca_file: /ca\ntls: {defaults: {cert_file: /c, key_file: /k, ca_path: ''}, grpc: {}}\n";
    let without = agent(files);
    assert_eq!(without.check_trust, Trust::default());
    let warning = "without effect, because there is no Raft, Serf, gRPC or Connect here: ";
    assert_eq!(without.warnings, [format!("{warning}tls.grpc, ca_file, cert_file, key_file")]);
    let with = agent(&format!("{files}enable_agent_tls_for_checks: true\n")).check_trust;
    let identity = Identity { certificates: "/c".into(), key: "/k".into() };
    assert_eq!(with, Trust { authorities: vec!["/ca".into()], identity: Some(identity) });
    let half = "{enable_agent_tls_for_checks: true, cert_file: /c}";
    assert_eq!(faults(half), ["configuration  tls: cert_file and key_file are of use only together"]);
}

#[test]
fn https_is_served_where_it_is_asked_for_and_with_what() {
    let tls = |certificates: &str, key: &str, clients: &[&str]| {
        let clients = clients.iter().map(PathBuf::from).collect();
        let identity = Identity { certificates: certificates.into(), key: key.into() };
        Some(ServerTls { identity, clients })
    };
    let at = |ip: &str, port: u16| HttpAddr::Tls(SocketAddr::new(ip.parse().unwrap(), port));
    let https = |text: &str| {
        let agent = agent(text);
        let served = agent.http.into_iter().filter(|address| matches!(address, HttpAddr::Tls(_))).collect::<Vec<_>>();
        (served, agent.tls, agent.warnings)
    };
    let files =
        "{defaults: {cert_file: /c, key_file: /k, ca_file: /ca, verify_incoming: true}, https: {key_file: /hk}}";
    for (text, addresses, expected) in [
        ("{cert_file: /c, key_file: /k, ports: {https: -1}}", vec![], None),
        (
            "{cert_file: /c, key_file: /k, ca_file: /ca, ports: {https: 8501}}",
            vec![at("127.0.0.1", 8501)],
            tls("/c", "/k", &[]),
        ),
        (
            "{cert_file: /c, key_file: /k, ca_file: /ca, ca_path: /cas, https_addr: ['[::1]:1'], verify_incoming: true}",
            vec![at("::1", 1)],
            tls("/c", "/k", &["/ca", "/cas"]),
        ),
        (
            &format!("{{tls: {files}, ports: {{https: 8501}}, addresses: {{https: 10.0.0.1}}}}"),
            vec![at("10.0.0.1", 8501)],
            tls("/c", "/hk", &["/ca"]),
        ),
        (
            "{cert_file: /c, key_file: /k, http_addr: ['https://127.0.0.1:2'], verify_incoming: true, \
             verify_incoming_https: false}",
            vec![at("127.0.0.1", 2)],
            tls("/c", "/k", &[]),
        ),
    ] {
        let (served, with, warnings) = https(text);
        assert_eq!((served, &with), (addresses, &expected), "{text}");
        assert_eq!(warnings.is_empty(), with.is_some(), "{text}: {warnings:?}");
    }
    for (text, fault) in [
        ("{https_addr: ['127.0.0.1:1']}", "HTTPS needs a certificate: name cert_file and key_file"),
        ("{https_addr: ['127.0.0.1:1'], cert_file: /c}", "cert_file and key_file are of use only together"),
        (
            "{https_addr: ['127.0.0.1:1'], cert_file: /c, key_file: /k, verify_incoming: true}",
            "verify_incoming needs a ca_file or ca_path",
        ),
    ] {
        let found = faults(text);
        assert!(matches!(&found[..], [only] if only.contains(fault)), "{text}: {found:?}");
    }
}

#[test]
fn who_opens_plain_http_to_others_is_told() {
    let told =
        |text: &str| agent(text).warnings.iter().any(|warning| warning.contains("may read and write everything"));
    for (text, expected) in [
        ("", false),
        ("http_addr: ['unix:///run/x.sock', '[::1]:8500', '127.1.2.3:8500']", false),
        ("http_addr: ['0.0.0.0:8500']", true),
        ("client_addr: 10.0.0.1", true),
        ("{client_addr: 10.0.0.1, http_config: {allow_write_http_from: [10.0.0.0/8]}}", false),
        ("{client_addr: 10.0.0.1, access: {write_tokens: [0123456789abcdef]}}", false),
        ("{client_addr: 10.0.0.1, acl: {enabled: true}}", true),
        ("{client_addr: 10.0.0.1, acl: {enabled: true, default_policy: deny}}", false),
        ("{https_addr: ['0.0.0.0:8501'], cert_file: /c, key_file: /k}", false),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn tokens_are_read_and_never_said_again() {
    let access = agent("access: {read_tokens: [aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb], write_tokens: cccccccccccccccc}")
        .guard
        .access;
    let tokens = |all: &[&str]| all.iter().map(|secret| digest(secret)).collect::<Vec<_>>();
    assert_eq!(access.readers, tokens(&["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]));
    assert_eq!(access.writers, tokens(&["cccccccccccccccc"]));
    for (text, fault) in [
        ("access: {write_tokens: [too-short]}", "a token has at least 16 characters"),
        ("access: {write_tokens: ['with a blank in the middle']}", "all of them visible ASCII ones"),
        ("access: {read_tokens: [aaaaaaaaaaaaaaaa]}", "with read tokens alone nobody could write"),
    ] {
        let found = faults(text);
        assert!(matches!(&found[..], [only] if only.contains(fault)), "{text}: {found:?}");
        assert!(["too-short", "blank in", "aaaa"].iter().all(|secret| !found[0].contains(secret)), "{found:?}");
    }
}

#[test]
fn access_control_has_consuls_keys() {
    let secret = "11111111-2222-3333-4444-555555555555";
    let text = format!(
        "acl: {{enabled: true, default_policy: deny, down_policy: extend-cache,\n tokens: {{initial_management: {secret}, \
         default: aaaaaaaaaaaaaaaa, dns: bbbbbbbbbbbbbbbb, agent: cccccccccccccccc}}}}"
    );
    let read = agent(&text);
    let tokens = AgentTokens { default: Some(digest(&"a".repeat(16))), dns: Some(digest(&"b".repeat(16))) };
    assert_eq!(read.guard.access.acl, Some(Acl { default_policy: DefaultPolicy::Deny, tokens }));
    assert_eq!(read.acl_management, Some(digest(secret)));
    assert_eq!(read.warnings, ["without effect in this version: acl.tokens.agent, acl.down_policy"]);
    assert_eq!(agent("acl: {tokens: {default: aaaaaaaaaaaaaaaa}}").guard.access.acl, None);
    let old = agent(&format!("acl: {{enabled: true, tokens: {{master: {secret}}}}}"));
    assert_eq!(old.acl_management, Some(digest(secret)));
    assert_eq!(old.guard.access.acl.unwrap().default_policy, DefaultPolicy::Allow);
    for wrong in ["tokens: {default: 1234567890123456}", "tokens: {dns: short-one}"] {
        let found = faults(&format!("acl: {{{wrong}}}"));
        assert!(matches!(&found[..], [only] if !only.contains("short-one") && !only.contains("1234")), "{found:?}");
    }
}

#[test]
fn what_checks_say_is_limited() {
    let outputs = |text: &str| agent(text).check_outputs;
    assert_eq!(outputs(""), Outputs { max_bytes: 4096, discard: false });
    let given = "{check_output_max_size: 10, discard_check_output: true}";
    assert_eq!(outputs(given), Outputs { max_bytes: 10, discard: true });
    let zero = "check_output_max_size: 0\n";
    assert_eq!(faults(zero), ["f:1  check_output_max_size: it must be positive; discard_check_output keeps nothing"]);
}
