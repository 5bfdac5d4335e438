use super::*;
use crate::values::ServiceQuery;
use crate::values::tests::entry;
use kvstore_client::types::{CatalogNode, KvEntry, Node, NodeService, ServiceEntry};
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
    let passing = |p| Dependency::service("web", p);
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
        (Dependency::Nodes { near: None }, Answer::nodes(vec![node.node.clone()])),
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
    let file = |path: &str| Dependency::File { root: "/".into(), path: path.into() };
    let v1 = |mut entry: ServiceEntry, version: &str| {
        entry.service.meta = Some([("version".to_owned(), version.to_owned())].into());
        entry
    };
    let versions = || vec![v1(entry("old 10.0.0.1:80 passing"), "v1"), v1(entry("new 10.0.0.2:80 passing"), "v2")];
    let query = |name: &str| ServiceQuery { name: name.into(), passing: true, ..ServiceQuery::default() };
    let near = ServiceQuery { near: Some("n9".into()), ..query("web") };
    let filtered = ServiceQuery { filter: Some("Service.Port == 80".into()), ..query("web") };
    let more = [
        (Dependency::service("Api", true), Answer::instances(versions())),
        (Dependency::Key("release/api".into()), Answer::key(Some(kv("release/api", "v2\n")))),
        (Dependency::service("db", true), Answer::instances(versions())),
        (Dependency::Key("release/db".into()), Answer::key(Some(kv("release/db", "v9")))),
        (Dependency::Service(near), Answer::nearest(all()[..2].to_vec())),
        (Dependency::Service(filtered), Answer::instances(all()[..1].to_vec())),
        (Dependency::service("web", true).in_datacenter(Some("dc2".into())), Answer::instances(all()[1..2].to_vec())),
        (Dependency::service("consul", false), Answer::instances(vec![])),
        (Dependency::Datacenters, Answer::datacenters(vec!["dc2".into(), "dc1".into(), "d;c".into()])),
        (Dependency::NodeHealth, Answer::node_health(vec![])),
        (file("etc/site/a.txt"), Answer::File(Ok("text".into()))),
        (file("etc/b.txt"), Answer::File(Ok("other".into()))),
        (file("etc/site/none"), Answer::File(Err("is absent".into()))),
    ];
    answers.into_iter().chain(more).map(|(d, a)| (Arc::new(d), Arc::new(a))).collect()
}

/// A host with two interfaces, and files below `/etc`.
fn setting() -> Setting {
    let host = Host {
        environment: [("HOME".to_owned(), "/root".to_owned())].into(),
        addresses: [("eth0", "10.1.2.3"), ("eth1", "192.168.1.7"), ("eth1", "fd00::7")]
            .map(|(name, address)| (name.to_owned(), address.parse().unwrap()))
            .into(),
    };
    Setting { host: Arc::new(host), directory: "/etc/site".into(), ..Setting::default() }
}

/// Renders `template` over [`values`]: the text or the error, and what blocks the text.
fn render(template: &str) -> (String, Vec<String>) {
    let scope = SharedScope::default();
    let mut tera = Tera::new();
    register(&mut tera, &scope);
    tera.autoescape_on(Vec::<&str>::new());
    scope.lock().values = values();
    scope.lock().setting = setting();
    scope.lock().now = "2024-05-06T07:08:09Z".parse().unwrap();
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
    check(
        "{{ service(nam='web') }}",
        "service() has no argument `nam`; it takes name, tag, tags, status, meta, live, near, filter, dc, min, raw",
    );
    check("{{ datacenters(x=1) }}", "datacenters() has no argument `x`; it takes none");
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
    check("{{ get_env(name='NO') }}", "environment variable `NO` is not set; set it or give a default");
}

#[test]
fn only_the_live_version_is_given_if_one_of_it_passes() {
    check_ids("service(name='Api')", "new old ");
    check_ids("service(name='Api', live=true)", "new ");
    check_ids("service(name='db', live=true)", "new old ");
}

#[test]
fn nearness_filters_and_datacenters_are_the_registrys_business() {
    check_ids("service(name='web', near='n9')", "b a ");
    check_ids("service(name='web', filter='Service.Port == 80')", "b ");
    check_ids("service(name='web', dc='dc2')", "a ");
    check("{{ datacenters() | join(sep=' ') }}", "dc1 dc2");
}

#[test]
fn too_few_instances_block_the_text_or_are_an_error() {
    assert_eq!(render("{{ service(name='web', min=3) | length }}").1, ["service web has 2 of at least 3 instances"]);
    let with = |floor, template: &str| {
        let scope = SharedScope::default();
        let mut tera = Tera::new();
        register(&mut tera, &scope);
        scope.lock().values = values();
        scope.lock().setting.bounds.floor = floor;
        tera.add_raw_template("t", template).unwrap();
        let text = tera.render("t", &Context::new()).map_err(|e| e.to_string());
        let blocked = scope.lock().blocked.clone();
        (text, blocked)
    };
    let keep = Floor { min_instances: 1, fail: false };
    let none = "{{ service(name='web', tag='v9') | length }}";
    assert_eq!(with(keep, none).1, ["service web has 0 of at least 1 instances"]);
    assert_eq!(with(keep, "{{ service(name='web') | length }}"), (Ok("2".into()), vec![]));
    assert_eq!(with(keep, "{{ service(name='web', tag='v9', min=0) | length }}"), (Ok("0".into()), vec![]));
    let error = with(Floor { min_instances: 1, fail: true }, none).0.unwrap_err();
    assert!(error.contains("service web has 0 of at least 1 instances"), "{error}");
}

#[test]
fn services_are_counted_and_found_by_metadata_where_that_is_asked_for() {
    check("{% for s in services(counts=true) %}{{ s.name }} {{ s.instances }} {{ s.passing }}{% endfor %}", "web 4 2");
    check("{% for s in services(meta={'version': 'v9'}) %}{{ s.name }}{% endfor %}", "");
}

#[test]
fn nodes_are_found_by_their_checks() {
    check("{% for n in nodes(status='passing') %}{{ n.name }}{% endfor %}", "n1");
    check("{% for n in nodes(status='critical') %}{{ n.name }}{% endfor %}", "");
    check("{{ nodes(status='well') }}", "nodes(): status \"well\" is none of passing, warning, critical");
}

#[test]
fn keys_make_a_tree() {
    check("{{ kv_tree(prefix='app/') | json_encode }}", r#"{"empty":"","name":"shop","x":{"y":"1"}}"#);
    check("{% set app = kv_tree(prefix='app/') %}{{ app.x.y }}", "1");
    let pairs = |keys: &[&str]| {
        let mut root = keys::Branch::default();
        for key in keys {
            root.add(key, "v");
        }
        serde_json::to_string(&Value::from(root.into_map())).unwrap()
    };
    assert_eq!(pairs(&["a", "a/b", "a//c/", "d/"]), r#"{"a":{"b":"v","c":"v","":"v"},"d":"v"}"#);
}

#[test]
fn files_are_read_from_the_templates_directory_on() {
    check("{{ file(path='a.txt') }} {{ file(path='/etc/b.txt') }}", "text other");
    check("{{ file(path='none', default='d') }}", "d");
    assert_eq!(render("{{ file(path='none') }}").1, ["file /etc/site/none is absent"]);
}

#[test]
fn the_host_has_addresses_and_the_data_a_time() {
    check("{{ host_ip() }} {{ host_ip(interface='eth1') }} {{ host_ip(family=6) }}", "10.1.2.3 192.168.1.7 fd00::7");
    check("{{ host_ip(cidr='192.168.0.0/16') }}", "192.168.1.7");
    check("{{ host_ip(cidr='172.16.0.0/12') }}", "host_ip(): this host has no such address");
    check("{{ host_ip(cidr='x') }}", "host_ip(): \"x\" is no network; write 10.0.0.0/8");
    check("{{ now() }} {{ now(format='%Y') }} {{ now(unix=true) }}", "2024-05-06T07:08:09Z 2024 1714979289");
}

#[test]
fn macros_are_components() {
    check(
        "{% component server(i, options='') %}server {{ i.id }} {{ i | hostport }}{{ options }}{% endcomponent server %}\
         {% for i in service(name='web', tag='v2') %}{{ <server i={i} options=' check'/> }}{% endfor %}",
        "server a 10.0.0.1:80 check",
    );
}
