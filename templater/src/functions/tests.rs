use super::*;
use crate::values::tests::entry;
use kvstore_client::types::{CatalogNode, KvEntry, Node, NodeService};
use tera::Context;

fn kv(key: &str, value: &str) -> KvEntry {
    KvEntry {
        lock_index: 0,
        key: key.into(),
        flags: 0,
        value: value.to_owned().into(),
        session: String::new(),
        create_index: 1,
        modify_index: 2,
    }
}

/// Two passing instances, one in warning, one draining; some keys; a node.
fn values() -> Values {
    let all = || {
        ["b 10.0.0.2:80 passing v1", "a 10.0.0.1:80 passing v1 v2", "w 10.0.0.3:80 warning", "d 10.0.0.4:80 draining"]
            .map(entry)
    };
    let passing = |p| Dependency::Service { name: "web".into(), passing: p };
    let node = CatalogNode {
        node: Node { node: "n1".into(), address: "10.9.9.9".into(), ..Node::default() },
        services: [("a".to_owned(), NodeService { id: "a".into(), service: "web".into(), ..NodeService::default() })]
            .into(),
    };
    let answers = [
        (passing(true), Answer::instances(all()[..2].to_vec())),
        (passing(false), Answer::instances(all().to_vec())),
        (
            Dependency::Services,
            Answer::services(
                [("web", vec!["v1".to_owned()]), ("consul", vec![])].map(|(n, t)| (n.to_owned(), t)).into(),
            ),
        ),
        (Dependency::Nodes, Answer::nodes(vec![node.node.clone()])),
        (Dependency::Node("n1".into()), Answer::node(Some(node))),
        (Dependency::Node("gone".into()), Answer::node(None)),
        (Dependency::Key("app/name".into()), Answer::key(Some(kv("app/name", "shop")))),
        (Dependency::Key("app/empty".into()), Answer::key(Some(kv("app/empty", "")))),
        (Dependency::Key("app/none".into()), Answer::key(None)),
        (
            Dependency::Prefix("app/".into()),
            Answer::pairs(vec![kv("app/", ""), kv("app/empty", ""), kv("app/name", "shop"), kv("app/x/y", "1")]),
        ),
    ];
    answers.into_iter().map(|(d, a)| (Arc::new(d), Arc::new(a))).collect()
}

/// Renders `template` over [`values`]: the text or the error, and what blocks the text.
fn render(template: &str) -> (String, Vec<String>) {
    let scope = SharedScope::default();
    let mut tera = Tera::new();
    register(&mut tera, &scope);
    tera.autoescape_on(Vec::<&str>::new());
    scope.lock().values = values();
    scope.lock().environment = Arc::new([("HOME".to_owned(), "/root".to_owned())].into());
    let text = tera
        .add_raw_template("t", template)
        .and_then(|()| tera.render("t", &Context::new()))
        .unwrap_or_else(|e| e.to_string());
    let blocked = scope.lock().blocked.clone();
    (text, blocked)
}

fn check(template: &str, expected: &str) {
    let (text, blocked) = render(template);
    assert!(text == expected || text.lines().next() == Some(&format!("error: {expected}")), "{template}\n{text}");
    assert_eq!(blocked, Vec::<String>::new(), "{template}");
}

/// Lists the ids that `call` gives.
fn check_ids(call: &str, expected: &str) {
    check(&format!("{{% for s in {call} %}}{{{{ s.id }}}} {{% endfor %}}"), expected);
}

#[test]
fn services_are_filtered_and_sorted() {
    check_ids("service(name='web')", "a b ");
    check_ids("service(name='web', tag='v2')", "a ");
    check_ids("service(name='web', tags=['v1', 'v2'])", "a ");
    check_ids("service(name='web', status='any')", "a b d w ");
    check_ids("service(name='web', status=['passing', 'warning'])", "a b w ");
    check_ids("service(name='web', status='draining')", "d ");
    check_ids("service(name='web', meta={'version': 'v9'})", "");
    check_ids("service(name='unknown')", "");
    check(
        "{% for s in service(name='web', tag='v2') %}{{ s.name }} {{ s.address }}:{{ s.port }} {{ s.node.name }} \
         {{ s.weights.passing }} {{ s.status }}{% endfor %}",
        "web 10.0.0.1:80 n1 1 passing",
    );
}

#[test]
fn wrong_arguments_are_named_with_what_is_known() {
    check("{{ service(nam='web') }}", "service() has no argument `nam`; it takes name, tag, tags, status, meta, raw");
    check("{{ nodes(x=1) }}", "nodes() has no argument `x`; it takes none");
    check("{{ service() }}", "Missing keyword argument `name`");
    check(
        "{{ service(name='web', status='up') }}",
        "service(): status \"up\" is none of any, passing, warning, critical, draining, maintenance",
    );
}

#[test]
fn the_registrys_own_service_is_listed_only_when_asked_for() {
    check("{% for s in services() %}{{ s.name }}:{{ s.tags | join(sep='+') }} {% endfor %}", "web:v1 ");
    check("{% for s in services(all=true) %}{{ s.name }} {% endfor %}", "consul web ");
    check("{% for s in services(tag='v2') %}{{ s.name }} {% endfor %}", "");
}

#[test]
fn nodes_have_services_and_absent_ones_are_undefined() {
    check("{% for n in nodes() %}{{ n.name }}={{ n.address }}{% endfor %}", "n1=10.9.9.9");
    check("{% set n = node(name='n1') %}{% for s in n.services %}{{ s.id }}@{{ s.address }}{% endfor %}", "a@10.9.9.9");
    check("{% if node(name='gone') is undefined %}none{% endif %}", "none");
}

#[test]
fn keys_have_values_defaults_and_lists() {
    check("{{ key(path='app/name') }} {{ key(path='/app/name') }}", "shop shop");
    check("[{{ key(path='app/empty', default='d') }}]", "[]");
    check("{{ key(path='app/none', default='d') }}", "d");
    check("{{ key_exists(path='app/name') }} {{ key_exists(path='app/none') }}", "true false");
    check("{% for p in kv_list(prefix='app/') %}{{ p.key }} {% endfor %}", "empty name ");
    check(
        "{% for p in kv_list(prefix='app/', recurse=true) %}{{ p.key }}={{ p.value }} {% endfor %}",
        "empty= name=shop x/y=1 ",
    );
}

#[test]
fn absent_keys_and_short_lists_block_the_text() {
    assert_eq!(render("{{ key(path='app/none') }}").1, ["key app/none is absent"]);
    assert_eq!(render("{{ kv_list(prefix='app/', min=3) }}").1, ["2 keys are below \"app/\", 3 are required"]);
}

#[test]
fn the_environment_is_read_and_a_missing_variable_is_an_error() {
    check("{{ get_env(name='HOME') }}{{ get_env(name='NO', default='x') }}", "/rootx");
    check("{{ get_env(name='NO') }}", "environment variable NO is not set; set it or give `default`");
}
