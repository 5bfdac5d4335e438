//! `registrar doctor`: one finding for each thing that a run needs, and nothing left behind.

use registrar::{
    config::{Config, Settings},
    doctor::{Finding, Verdict, examine},
};
use serde_json::json;

use crate::{
    host::{Host, command},
    registry::Registry,
};

/// Subject, verdict and text of each finding, on a host with these settings.
fn findings(host: &Host, change: impl FnOnce(&mut Settings)) -> Vec<Finding> {
    let mut settings = host.settings(&host.dir.path().join("state"));
    // Nobody has the other host's address.
    settings.ip = vec!["127.0.0.1".into()];
    change(&mut settings);
    command(examine(&Config::new(settings, None).unwrap()))
}

fn verdicts(findings: &[Finding]) -> Vec<(&str, Verdict)> {
    findings.iter().map(|finding| (finding.subject, finding.verdict)).collect()
}

/// The first finding about `subject` that is not good.
fn fault<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.subject == subject && finding.verdict != Verdict::Good);
    found.unwrap_or_else(|| panic!("{findings:#?}"))
}

use Verdict::{Bad, Doubtful, Good, Skipped};

#[test]
fn all_is_well_and_nothing_is_left_behind() {
    let host = Host::new();
    host.docker.run("web", 1, &json!({}));
    host.registry.forget_writes();
    let found = findings(&host, |_| ());
    assert_eq!(
        verdicts(&found),
        ["docker", "identity", "address", "registry", "writing", "containers"].map(|subject| (subject, Good)),
        "{found:#?}"
    );
    assert!(found[0].text.contains("Docker 20.10.24, API 1.41 at unix://"), "{}", found[0]);
    assert!(found[5].text.starts_with("1 running, 1 instances"), "{}", found[5]);
    let writes: Vec<_> = host.registry.writes().into_iter().map(|(_, write)| write).collect();
    assert_eq!(writes.len(), 2, "{writes:#?}");
    assert!(writes[0].contains("registrar-doctor") && writes[0].contains("critical"), "{}", writes[0]);
    assert!(writes[1].contains("/deregister/registrar-doctor"), "{}", writes[1]);
    assert!(host.registry.ids().is_empty());
}

#[test]
fn beside_a_registrar_at_work() {
    let mut host = Host::started();
    host.run("web", 1);
    let found = findings(&host, |_| ());
    assert!(found.iter().all(|finding| finding.verdict == Good), "{found:#?}");
    host.has(&["web"]);
    host.stop();
}

#[test]
fn a_node_of_its_own_is_there_only_if_it_was_before() {
    let host = Host::with(Registry::beyond_consul());
    let found = findings(&host, |s| s.node = Some("box".into()));
    assert!(found.iter().all(|finding| finding.verdict == Good), "{found:#?}");
    assert_eq!(host.registry.nodes(), ["agent-node"]);
}

#[test]
fn what_is_missing_is_told_and_the_rest_is_looked_at_all_the_same() {
    let mut host = Host::new();
    host.docker.run("web", 1, &json!({"Config": {"Env": ["SERVICE_WEIGHT=heavy"]}}));
    let found = findings(&host, |s| s.ip = vec!["192.0.2.1".into()]);
    assert!(fault(&found, "address").text.contains("192.0.2.1, as it was given: no interface"), "{found:#?}");
    assert!(fault(&found, "containers").text.contains("web: SERVICE_WEIGHT: \"heavy\""), "{found:#?}");
    let found = findings(&host, |s| s.ip = Vec::new());
    assert!(fault(&found, "address").text.contains("only this host reaches it"), "{found:#?}");

    host.registry.refuse(Some(403));
    let found = findings(&host, |_| ());
    assert_eq!(verdicts(&found)[3..5], [("registry", Good), ("writing", Bad)], "{found:#?}");
    assert!(fault(&found, "writing").advice.as_ref().unwrap().contains("--token-file"), "{found:#?}");
    host.registry.refuse(None);

    let closed = "http://127.0.0.1:1".to_owned();
    let found = findings(&host, |s| s.registry.push(closed.clone()));
    assert_eq!(verdicts(&found)[3..6], [("registry", Good), ("registry", Doubtful), ("writing", Good)], "{found:#?}");
    let found = findings(&host, |s| s.registry = vec![closed]);
    assert_eq!(verdicts(&found)[3..5], [("registry", Bad), ("writing", Skipped)], "{found:#?}");
    assert!(found[3].text.contains("127.0.0.1:1") && found[3].text.contains("refused"), "{}", found[3]);

    host.docker.stop();
    let found = findings(&host, |_| ());
    let wanted = [("docker", Bad), ("identity", Good), ("address", Good), ("registry", Good), ("writing", Skipped)];
    assert_eq!(verdicts(&found)[..5], wanted, "{found:#?}");
    assert!(found[0].advice.as_ref().unwrap().contains("see that Docker runs"), "{}", found[0]);
}
