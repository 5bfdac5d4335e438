use super::*;
use kvstore_client::types::NodeService;

/// `web1 10.0.0.1:80 passing`, and optionally tags: as the registry would answer.
pub(crate) fn entry(line: &str) -> ServiceEntry {
    let words: Vec<&str> = line.split(' ').collect();
    let (address, port) = words[1].rsplit_once(':').unwrap();
    let (check_id, status) = match words[2] {
        "maintenance" => ("_node_maintenance", CheckStatus::Critical),
        "draining" => ("_draining:x", CheckStatus::Critical),
        "warning" => ("c", CheckStatus::Warning),
        "critical" => ("c", CheckStatus::Critical),
        _ => ("c", CheckStatus::Passing),
    };
    ServiceEntry {
        node: Node { node: "n1".into(), address: "10.9.9.9".into(), ..Node::default() },
        service: NodeService {
            id: words[0].into(),
            service: "web".into(),
            address: address.into(),
            port: port.parse().unwrap(),
            tags: words[3..].iter().map(|&t| t.to_owned()).collect(),
            ..NodeService::default()
        },
        checks: vec![HealthCheck { check_id: check_id.into(), status, ..HealthCheck::default() }],
    }
}

fn safe(answer: &Answer) -> Vec<&Instance> {
    let Answer::Instances { safe, .. } = answer else { panic!("{answer:?}") };
    safe.iter().map(|i| &i.data).collect()
}

#[test]
fn an_instance_has_the_worst_status_and_never_an_empty_address() {
    for status in ["passing", "warning", "critical", "draining", "maintenance"] {
        let answer = Answer::instances(vec![entry(&format!("web1 :80 {status} b a"))]);
        let got = safe(&answer);
        assert_eq!(got[0].status.as_str(), status);
        assert_eq!(got[0].address, "10.9.9.9");
        assert_eq!(got[0].tags, ["a", "b"]);
    }
}

#[test]
fn the_container_is_known_where_a_registrar_of_ours_told_it() {
    let mut told = entry("web1 10.0.0.1:80 passing");
    told.service.meta = Some([("registrar-container".to_owned(), "0123456789ab".to_owned())].into());
    let answer = Answer::instances(vec![told, entry("web2 10.0.0.2:80 passing")]);
    let containers: Vec<_> = safe(&answer).into_iter().map(|i| i.container.as_ref().map(|c| c.id.as_str())).collect();
    assert_eq!(containers, [Some("0123456789ab"), None]);
}

#[test]
fn text_that_could_break_out_of_a_line_is_kept_from_templates() {
    let cases = [
        ("web1", "10.0.0.1", true),
        ("host:web.v1/x:80", "web-1.example.com", true),
        ("web1", "fe80::1", true),
        ("web1", "/run/web.sock", true),
        ("web1;", "10.0.0.1", false),
        ("web{1}", "10.0.0.1", false),
        ("web 1", "10.0.0.1", false),
        ("web1\nserver evil 1.2.3.4:80", "10.0.0.1", false),
        ("web1", "10.0.0.1;return", false),
        ("web1", "10.0.0.1\n", false),
        ("web1", "10.0.0.1 backup", false),
        ("web1", "$host", false),
        ("\u{2028}", "10.0.0.1", false),
    ];
    for (id, address, good) in cases {
        let mut one = entry("id :80 passing");
        one.service.id = id.into();
        one.service.address = address.into();
        let answer = Answer::instances(vec![one]);
        assert_eq!(safe(&answer).len() == 1, good, "{id:?} {address:?}");
        assert_eq!(answer.rejected().is_empty(), good, "{id:?} {address:?}");
    }
}

#[test]
fn tags_and_metadata_lose_entries_with_control_characters() {
    let mut one = entry("web1 10.0.0.1:80 passing ok bad\nline");
    one.service.meta = Some([("a", "b"), ("evil", "x\r\ny")].map(|(k, v)| (k.into(), v.into())).into());
    let answer = Answer::instances(vec![one]);
    let got = safe(&answer)[0];
    assert_eq!(got.tags, ["ok"]);
    assert_eq!(got.meta.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn unsafe_service_and_node_names_are_left_out() {
    let services = [("web", vec![]), ("a;b", vec![])].map(|(k, v)| (k.to_owned(), v));
    let Answer::Services(names) = Answer::services(services.into()) else { panic!() };
    assert_eq!(names.len(), 1);
    let node = |name: &str| Node { node: name.into(), address: "10.0.0.1".into(), ..Node::default() };
    let Answer::Nodes(nodes) = Answer::nodes(vec![node("b"), node("a"), node("x\ny")]) else { panic!() };
    let names: Vec<_> = nodes.iter().map(|n| n.data.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}
