use super::*;
use tera::Context;

fn check(template: &str, expected: &str) {
    let mut tera = Tera::new();
    register(&mut tera);
    tera.autoescape_on(Vec::<&str>::new());
    let got = tera.add_raw_template("t", template).and_then(|()| tera.render("t", &Context::new()));
    let got = got.unwrap_or_else(|e| e.to_string());
    assert!(got == expected || got.starts_with(&format!("error: {expected}")), "{template}\n{got}");
}

#[test]
fn what_others_wrote_is_quoted_or_refused() {
    check(r#"{{ 'a "b" \\ c' | nginx_quote }}"#, r#""a \"b\" \\ c""#);
    check("{{ '$host' | nginx_quote }}", "nginx_quote: ");
    check(r#"{{ "it's #1" | haproxy_quote }}"#, r"'it'\''s #1'");
    check("{{ \"a\nb\" | haproxy_quote }}", "haproxy_quote: ");
    check("{{ 'host:web 1/\u{e4}' | ident }}", "host_web_1__");
    check("{{ '8080' | must_be(type='int', min=1, max=65535) }}", "8080");
    check("{{ '0' | must_be(type='int', min=1) }}", "must_be: \"0\" is not between 1 and ∞");
    check("{{ '80;' | must_be(type='int') }}", "must_be: \"80;\" is not a whole number");
    check("{{ 'http' | must_be(one_of=['http', 'https']) }}", "http");
    check("{{ 'ftp' | must_be(one_of=['http', 'https']) }}", "must_be: \"ftp\" is not one of http, https");
    check("{{ 'x' | must_be(type='port') }}", "must_be: type \"port\" is not known");
}

#[test]
fn documents_are_read_and_written() {
    check("{{ ('{\"a\": [1, {\"b\": \"x\"}]}' | from_json)[\"a\"] | length }}", "2");
    check("{{ 'not json' | from_json }}", "from_json: ");
    check("{% set c = 'a: [1, 2]' | from_yaml %}{{ c.a | length }}", "2");
    check("{% set c = '[a]\nb = 7' | from_toml %}{{ c.a.b }}", "7");
    check("{{ '=' | from_toml }}", "from_toml: ");
    check("{{ {'a': [1, 'x']} | to_yaml }}", "a:\n- 1\n- x\n");
    check("{{ {'a': {'b': 'x'}, 'n': 1} | to_toml }}", "n = 1\n\n[a]\nb = \"x\"\n");
    check("{{ {'a': '<&>'} | json_encode }}", "{\"a\":\"<&>\"}");
    check("{{ {'a': 1} | dump }}", "# {\n#   \"a\": 1\n# }");
    check("{{ 'YWJj' | b64_decode }}{{ 'abc' | b64_encode }}", "abcYWJj");
    check("{{ 'abc' | sha256 }}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn lists_and_objects_are_taken_apart_and_put_together() {
    check("{{ ['a', 'b'] | has_all(of=['b', 'a']) }} {{ ['a'] | has_all(of=['b', 'a']) }}", "true false");
    check("{{ ['a'] | has_any(of=['b', 'a']) }} {{ [] | has_any(of=['b']) }}", "true false");
    check("{{ [3, 1, 2] | min }} {{ [3, 1, 2] | max }}", "1 3");
    check("{{ [] | max }}", "max: the list is empty");
    let maps = "{% set a = {'x': {'p': 1, 'q': 2}, 'y': 1} %}{% set b = {'x': {'q': 3}} %}";
    check(&format!("{maps}{{{{ a | merge(with=b) | json_encode }}}}"), "{\"x\":{\"q\":3},\"y\":1}");
    check(&format!("{maps}{{{{ a | merge(with=b, deep=true) | json_encode }}}}"), "{\"x\":{\"p\":1,\"q\":3},\"y\":1}");
    check("{{ {'a': 1} | set_key(k='b', v=2) | json_encode }}", "{\"a\":1,\"b\":2}");
    check("{{ 'a:1, b:2,c' | split_map | json_encode }}", "{\"a\":\"1\",\"b\":\"2\",\"c\":\"\"}");
    check("{{ 'a=1;b=2' | split_map(pair=';', kv='=') | json_encode }}", "{\"a\":\"1\",\"b\":\"2\"}");
    check("{{ 'Yes' | bool }} {{ '' | bool }} {{ 1 | bool }}", "true false true");
    check("{{ 'maybe' | bool }}", "bool: \"maybe\" is neither true nor false");
    check("{{ 'v1.2' is matching(pat='^v[0-9]') }}", "true");
    check("{{ 'v1.2' | regex_replace(pattern='[.].*', rep='') }}", "v1");
}

#[test]
fn instances_are_grouped_and_addressed() {
    check(
        "{% set g = [{'n': 1, 'tags': ['b', 'a']}, {'n': 2, 'tags': ['a']}] | by_tag %}\
         {% for tag, items in g %}{{ tag }}={% for i in items %}{{ i.n }}{% endfor %} {% endfor %}",
        "a=12 b=1 ",
    );
    check("{{ [{'n': 1}] | by_tag }}", "by_tag: ");
    check(
        "{% set g = [{'n': 1, 'meta': {'v': '2', 'z': 'b'}}, {'n': 2, 'meta': {'v': '1'}}] | by_meta(keys=['v', 'z'], default='none') %}\
         {% for key, items in g %}{{ key }}={% for i in items %}{{ i.n }}{% endfor %} {% endfor %}",
        "1_none=2 2_b=1 ",
    );
    check(
        "{% set g = [{'key': 'a/x', 'value': '1'}, {'key': 'a/y', 'value': '2'}] | by_key %}{{ g.a.x }}{{ g.a.y }}",
        "12",
    );
    let instance = "{% set i = {'id': 'w', 'address': '10.0.0.1', 'port': 80, 'tagged_addresses': \
                    {'net.front': {'address': '172.18.0.2', 'port': 80}, 'lan_ipv6': {'address': 'fd00::2', 'port': 80}}} %}";
    check(&format!("{instance}{{{{ i | addr }}}} {{{{ i | addr(net='front') }}}}"), "10.0.0.1 172.18.0.2");
    check(&format!("{instance}{{{{ i | addr(family=6) }}}}"), "fd00::2");
    check(&format!("{instance}{{{{ i | addr(net='back') }}}}"), "addr: instance w has no address on network back");
    check("{{ {'address': 'fd00::2', 'port': 80} | hostport }}", "[fd00::2]:80");
    check("{{ {'address': '10.0.0.1', 'port': 80} | hostport }}", "10.0.0.1:80");
}

#[test]
fn slots_stay_where_instances_come_and_go() {
    let line = "{% for s in list | slots(n=3) %}s{{ s.slot }} {{ s | hostport }}{% if not s.used %} disabled{% endif %}, {% endfor %}";
    let web = |id: &str| format!("{{'id': '{id}', 'address': '10.0.0.1', 'port': 80}}");
    check(
        &format!("{{% set list = [] %}}{line}"),
        "s1 127.0.0.1:1 disabled, s2 127.0.0.1:1 disabled, s3 127.0.0.1:1 disabled, ",
    );
    check(
        &format!("{{% set list = [{}] %}}{line}", web("web-1")),
        "s1 127.0.0.1:1 disabled, s2 10.0.0.1:80, s3 127.0.0.1:1 disabled, ",
    );
    check(&format!("{{% set list = [{0}, {0}] %}}{{{{ list | slots(n=0) }}}}", web("a")), "slots: n is 0");
    check("{{ [1] | slots(n=3) }}", "slots: an item of the list has no `id`");
}

/// Every filter and test that is listed is there, and what is there is listed: the list is what `check` goes by.
#[test]
fn the_lists_are_complete() {
    for (name, _) in FILTERS {
        check(&format!("{{% if false %}}{{{{ 1 | {name} }}}}{{% endif %}}"), "");
    }
    for (name, _) in TESTS {
        check(&format!("{{% if false and 1 is {name} %}}{{% endif %}}"), "");
    }
}
