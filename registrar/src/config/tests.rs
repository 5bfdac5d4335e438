use std::path::Path;

use super::*;

fn file(text: &str) -> Result<Config, Faults> {
    Config::new(Settings::default(), Some(("r.yaml", text)))
}

#[test]
fn defaults() {
    let config = Config::new(Settings::default(), None).unwrap();
    assert_eq!(config.registry.addresses, [DEFAULT_REGISTRY]);
    assert_eq!((config.docker.address.as_str(), config.resync), (DEFAULT_DOCKER, Some(DEFAULT_RESYNC)));
    assert_eq!(config.policy.place, Place::Agent);
    assert!(file("").is_ok() && file("{}").is_ok());
    let empty = file("registry: ''\ndocker: ''\nca-file: ''\ntoken: ''\n").unwrap();
    assert_eq!((empty.registry, empty.docker), (config.registry, config.docker));
}

#[test]
fn flags_win_over_the_file() {
    let text =
        "registry: [http://a:1, 'unix:///b']\nresync: 5s\nip: 10.0.0.9\ntoken: secret\nnode: box\ninternal: true\n";
    let config = file(text).unwrap();
    assert_eq!(config.registry.addresses, ["http://a:1", "unix:///b"]);
    assert_eq!(config.resync, Some(Duration::from_secs(5)));
    let address = HostAddress { main: "10.0.0.9".parse().unwrap(), other: None };
    assert_eq!(config.address, Source::Given(address));
    assert_eq!(config.registry.token.as_deref(), Some("secret"));
    let flags = Settings {
        registry: vec!["consul://c:8500".into()],
        resync: Some("0".into()),
        access: Access { token_file: Some("/dev/null".into()), ..Access::default() },
        ..Settings::default()
    };
    let config = Config::new(flags, Some(("r.yaml", text))).unwrap();
    assert_eq!(config.registry.addresses, ["http://c:8500"]);
    assert_eq!((config.resync, config.registry.token.as_deref()), (None, None));
    assert_eq!(config.registry.token_file.as_deref(), Some(Path::new("/dev/null")));
    assert!(config.policy.choices.internal && matches!(config.policy.place, Place::Node { .. }));
}

#[test]
fn every_fault_is_told_with_its_line() {
    let text =
        "# comment\nresinc: 5s\nresync: often\ninternal: maybe\nregistry: [ftp://x]\nname-from: moon\nip: 0.0.0.0\n";
    let Faults(faults) = file(text).err().unwrap();
    assert_eq!(faults.len(), 6, "{faults:#?}");
    assert!(faults[0].starts_with("r.yaml:2: resinc: unknown field"), "{}", faults[0]);
    assert!(faults[1].starts_with("r.yaml:4: internal: "), "{}", faults[1]);
    for (fault, key) in faults[2..].iter().zip(["registry", "ip", "resync", "name-from"]) {
        assert!(fault.starts_with(&format!("{key}: ")), "{fault}");
    }
}

#[test]
fn tls_is_spoken_with_whom_it_is_asked_for() {
    let text = "registry: [consul-tls://a:1, b:2, 'unix:///c']\nssl: true\nssl-verify: false\nca_path: /\ntls-server-name: n\n";
    let config = file(text).unwrap().registry;
    assert_eq!(config.addresses, ["https://a:1", "https://b:2", "unix:///c"]);
    assert_eq!((config.tls.authorities, config.tls.unverified), (vec!["/".into()], true));
    assert_eq!(config.tls.server_name.as_deref(), Some("n"));
    let Faults(faults) =
        file("registry: [https://a, https://b]\nca-file: /nonexistent/ca\nssl-verify: [x]\n").err().unwrap();
    assert!(faults[0].starts_with("r.yaml:3: ssl-verify: invalid type"), "{faults:?}");
    assert!(faults.len() == 2 && faults[1].starts_with("registry: cannot read /nonexistent/ca: "), "{faults:?}");
}

#[test]
fn keys_of_a_file_that_belong_together_stay_together() {
    let Faults(faults) =
        file("registry: https://a\nclient-cert: /nonexistent/c\nclient-key: /nonexistent/k\n").err().unwrap();
    assert!(faults.len() == 1 && faults[0].contains("cannot read /nonexistent/c"), "{faults:?}");
    let Faults(faults) = file("ca-file: a\nca_file: b\n").err().unwrap();
    assert!(faults.len() == 1 && faults[0].contains("duplicate field"), "{faults:?}");
}

#[test]
fn json_is_read_as_well() {
    let Faults(faults) = file("{\n \"ip\": \"10.0.0.1\",\n \"nosuch\": 1\n}").err().unwrap();
    assert!(faults[0].starts_with("r.yaml:3: nosuch: unknown field"), "{}", faults[0]);
    let tags = TagTemplates::new(vec!["a".into()]).unwrap();
    assert_eq!(file("{\"tags\": [\"a\"]}").unwrap().policy.choices.tags, tags);
    assert_eq!(file("tags: a").unwrap().policy.choices.tags, tags);
    let Faults(faults) = file("tags: {a: b}").err().unwrap();
    assert_eq!(faults, ["r.yaml:1: tags: a text or a list of texts"]);
}

#[test]
fn what_is_no_configuration_is_named() {
    for (text, word) in [("a: [1", "r.yaml:"), ("- a", "no list of keys"), ("a b", "no list of keys")] {
        let Faults(faults) = file(text).err().unwrap();
        assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
    }
}

#[test]
fn single_settings() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        Config::new(settings, None)
    };
    for (change, word) in [
        ((|s| s.docker = Some("ssh://x".into())) as fn(&mut Settings), "docker: "),
        (|s| s.node = Some(String::new()), "node: "),
        (|s| s.family = Some("5".into()), "family: "),
        (|s| (s.ip, s.family) = (vec!["10.0.0.1".into()], Some("6".into())), "ip: none of"),
        (|s| (s.ip, s.ip_from_interface) = (vec!["10.0.0.1".into()], Some("lo".into())), "ip and ip-from-interface"),
        (|s| (s.node, s.node_ttl) = (Some("n".into()), Some("10ms".into())), "node-ttl: "),
        (|s| s.access.token_file = Some("/nonexistent/token".into()), "registry: cannot read /nonexistent/token: "),
        (|s| s.access.client_key = Some("/nonexistent/key".into()), "client-cert and client-key: "),
        (|s| s.tags = vec!["{{ open".into()], "tags: "),
        (|s| s.log_format = Some("xml".into()), "log-format: "),
    ] {
        let Faults(faults) = with(change).err().unwrap();
        assert!(faults.len() == 1 && faults[0].starts_with(word), "{faults:?}");
    }
}

#[test]
fn where_the_address_comes_from() {
    let of = |text: &str| file(text).unwrap().address;
    assert_eq!(of(""), Source::Route);
    assert_eq!(of("ip-from-interface: eth0"), Source::Interface("eth0".into()));
    let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
    assert_eq!(of("ip: [10.0.0.1, 'fd00::1']"), Source::Given(HostAddress { main: v4, other: Some(v6) }));
    let flags = Settings { ip_from_interface: Some("eth0".into()), ..Settings::default() };
    let config = Config::new(flags, Some(("r.yaml", "ip: 10.0.0.1"))).unwrap();
    assert_eq!(config.address, Source::Interface("eth0".into()), "flags win");
}
