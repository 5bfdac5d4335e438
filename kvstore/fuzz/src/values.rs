//! What a registry answers a templater, of which anybody may have written any: no bytes panic, a configuration has as many
//! lines as its template and instances make, and no command to HAProxy is more than one.

use std::sync::Arc;

use jiff::Timestamp;
use kvstore_client::types::{CatalogNode, CatalogServices, HealthCheck, KvEntry, Node, ServiceEntry};
use serde::Deserialize;
use templater::{
    functions::Setting,
    render::{Outcome, Sources, Template},
    target::runtime,
    values::{Answer, Dependency, Values},
};

/// All answers there are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answers {
    instances: Vec<ServiceEntry>,
    later: Vec<ServiceEntry>,
    services: CatalogServices,
    node: Option<CatalogNode>,
    nodes: Vec<Node>,
    health: Vec<HealthCheck>,
    datacenters: Vec<String>,
    key: Option<KvEntry>,
    pairs: Vec<KvEntry>,
}

const SERVERS: &str = "backend web\n{% for i in service(name='web', status='any') %}server {{ i.id }} {{ i.address }}:{{ i.port }} weight {{ i.weights.passing }} # {{ i.node.name }} {{ i.name }}\n{% endfor %}";

const REST: &str = "{% for i in service(name='web', status='any', raw=true) %}{{ i.id }}{{ i.tags | join(sep=',') }}{{ i.meta | json_encode }}{{ i.checks | json_encode }}{% endfor %}\
{% for s in services() %}{{ s.name }}{% endfor %}{% set n = node(name='n') %}{% if n %}{{ n.services | json_encode }}{% endif %}\
{% for n in nodes() %}{{ n.name }} {{ n.address }}{% endfor %}{{ datacenters() | join(sep=' ') }}\
{{ key(path='k', default='') }}{{ kv_list(prefix='p') | json_encode }}{{ kv_tree(prefix='p') | json_encode }}";

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let entry = r#"{"Node":{"ID":"","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","Meta":{"a":"b"},"CreateIndex":1,"ModifyIndex":1},"Service":{"ID":"web-1","Service":"web","Tags":["v1"],"Address":"10.0.0.2","Port":80,"Meta":{"version":"1"},"Weights":{"Passing":1,"Warning":1},"CreateIndex":1,"ModifyIndex":1},"Checks":[{"Node":"n1","CheckID":"c","Name":"c","Status":"passing","Output":"ok","ServiceID":"web-1"}]}"#;
    let node =
        r#"{"ID":"","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","Meta":{},"CreateIndex":1,"ModifyIndex":1}"#;
    let pair = r#"{"LockIndex":0,"Key":"p/a","Flags":0,"Value":"YQ==","CreateIndex":1,"ModifyIndex":1}"#;
    [
        format!(r#"{{"instances":[{entry}],"later":[{entry},{entry}]}}"#),
        format!(r#"{{"instances":[{entry}],"later":[{}]}}"#, entry.replace("10.0.0.2", "fd00::2").replace("80", "81")),
        format!(r#"{{"services":{{"web":["a"]}},"nodes":[{node}],"node":{{"Node":{node},"Services":{{}}}},"datacenters":["dc1"],"health":[]}}"#),
        format!(r#"{{"key":{pair},"pairs":[{pair},{}]}}"#, pair.replace("p/a", "p/b/c")),
    ]
    .map(String::into_bytes)
    .into()
}

fn render(text: &str, values: &Values) -> Outcome {
    let sources = Sources { main: "t".into(), files: [("t".to_owned(), text.to_owned())].into() };
    let mut template = Template::parse(&sources, Setting::default()).expect("a template");
    template.render(values.clone(), Timestamp::UNIX_EPOCH).outcome
}

/// The servers of a configuration, one a line.
fn servers(entries: Vec<ServiceEntry>) -> String {
    let answer = Answer::instances(entries);
    let Answer::Instances { safe, .. } = &answer else { unreachable!("they are instances") };
    let count = safe.len();
    let values = [(Arc::new(Dependency::service("web", false)), Arc::new(answer))].into();
    let Outcome::Text(text) = render(SERVERS, &values) else { panic!("all is known, and the template is right") };
    assert_eq!(text.lines().count(), count + 1, "{text}");
    assert_eq!(text.matches(char::is_control).count(), count + 1, "{text}");
    text
}

pub(crate) fn check(data: &[u8]) {
    let Ok(answers) = serde_json::from_slice::<Answers>(data) else { return };
    let all = [
        (Dependency::service("web", false), Answer::instances(answers.instances.clone())),
        (Dependency::Services, Answer::services(answers.services)),
        (Dependency::Node("n".into()), Answer::node(answers.node)),
        (Dependency::Nodes { near: None }, Answer::nodes(answers.nodes)),
        (Dependency::NodeHealth, Answer::node_health(answers.health)),
        (Dependency::Datacenters, Answer::datacenters(answers.datacenters)),
        (Dependency::Key("k".into()), Answer::key(answers.key)),
        (Dependency::Prefix("p".into()), Answer::pairs(answers.pairs)),
    ];
    let values: Values = all.into_iter().map(|(dependency, answer)| (Arc::new(dependency), Arc::new(answer))).collect();
    if let Outcome::Pending(missing) = render(REST, &values) {
        panic!("{missing:?} are answered");
    }
    let (old, new) = (servers(answers.instances), servers(answers.later));
    for command in runtime::commands(&old, &new).unwrap_or_default() {
        assert!(!command.contains([';', '\n', '\r']), "{command}");
    }
}
