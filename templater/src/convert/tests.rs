//! Forms as they are found in configurations, and what becomes of them. Every result must be a template that parses.

use super::convert;
use crate::{
    functions::Setting,
    render::{Sources, Template},
};

fn converted(text: &str) -> (String, Vec<String>) {
    let converted = convert(text);
    let sources = Sources { main: "t".into(), files: [("t".to_owned(), converted.text.clone())].into() };
    if let Err(error) = Template::parse(&sources, Setting::default()) {
        panic!("{text}\n{}\n{error}", converted.text);
    }
    let notes = converted.notes.into_iter().map(|note| format!("{}: {}", note.line, note.message));
    (converted.text, notes.collect())
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let (got, notes) = converted(text);
        assert_eq!(got, *expected, "{text}");
        assert_eq!(notes, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn services_and_their_fields() {
    check(&[
        (
            "{{range service \"web\"}}\n  server {{.ID}} {{.Address}}:{{.Port}} check{{end}}",
            "{% for instance in service(name=\"web\") %}\n  server {{ instance.id }} {{ instance.address }}:{{ instance.port }} check{% endfor %}",
        ),
        (
            "{{- range service \"v1.web@dc2~n1\" \"passing,warning\" -}}{{ .Node }} {{ .NodeAddress }} {{ .ServiceMeta.zone }}{{- end -}}",
            "{%- for instance in service(name=\"web\", tag=\"v1\", status=[\"passing\", \"warning\"], dc=\"dc2\", near=\"n1\") -%}\
             {{ instance.node.name }} {{ instance.node.address }} {{ instance.meta.zone }}{%- endfor -%}",
        ),
        (
            "{{ range service \"web|any\" }}{{ .Status }}{{ end }}",
            "{% for instance in service(name=\"web\", status=\"any\") %}{{ instance.status }}{% endfor %}",
        ),
        (
            "{{ range services }}{{ $name := .Name }}{{ range service .Name }}{{ $name }} {{ .Tags | join \",\" }}{{ end }}{{ end }}",
            "{% for service in services(all=true) %}{% set name = service.name %}{% for instance in service(name=service.name) %}\
             {{ name }} {{ instance.tags | join(sep=\",\") }}{% endfor %}{% endfor %}",
        ),
        (
            "{{ range $i, $s := service \"web\" }}{{ if $i }},{{ end }}{{ $s.Address }}{{ end }}",
            "{% for s in service(name=\"web\") %}{% if loop.index0 %},{% endif %}{{ s.address }}{% endfor %}",
        ),
        (
            "{{ range $tag, $services := service \"web\" | byTag }}{{ $tag }}{{ range $services }}{{ .ID }}{{ end }}{{ end }}",
            "{% for tag, services in service(name=\"web\") | by_tag %}{{ tag }}{% for instance in services %}{{ instance.id }}{% endfor %}{% endfor %}",
        ),
        (
            "{{ range service \"web\" }}a{{ else }}b{{ end }}",
            "{% for instance in service(name=\"web\") %}a{% else %}b{% endfor %}",
        ),
        (
            "{{ if service \"web\" | len | eq 0 }}none{{ else if gt (len (service \"web\")) 1 }}many{{ else }}one{{ end }}",
            "{% if 0 == (service(name=\"web\") | length) %}none{% elif (service(name=\"web\") | length) > 1 %}many{% else %}one{% endif %}",
        ),
        (
            "{{ with node \"n1\" }}{{ .Node.Node }} {{ .Node.Address }}{{ range .Services }}{{ .Service }}:{{ .Port }}{{ end }}{{ end }}",
            "{% set node = node(name=\"n1\") %}{% if node %}{{ node.name }} {{ node.address }}\
             {% for instance in node.services %}{{ instance.name }}:{{ instance.port }}{% endfor %}{% endif %}",
        ),
        (
            "{{ range nodes \"@dc2\" }}{{ .Node }}={{ .Address }}{{ end }}",
            "{% for node in nodes(dc=\"dc2\") %}{{ node.name }}={{ node.address }}{% endfor %}",
        ),
        (
            "{{ with service \"web\" }}{{ with index . 0 }}{{ .Address }}{{ end }}{{ end }}",
            "{% set instances = service(name=\"web\") %}{% if instances %}{% set instance = instances[0] %}{% if instance %}{{ instance.address }}{% endif %}{% endif %}",
        ),
        (
            "{{ range service \"web\" }}{{ range .Checks }}{{ .Output }}{{ end }}{{ if .Tags | contains \"v1\" }}x{{ end }}{{ if .Tags.Contains \"v2\" }}y{{ end }}{{ end }}",
            "{% for instance in service(name=\"web\") %}{% for check in instance.checks %}{{ check.output }}{% endfor %}\
             {% if \"v1\" in instance.tags %}x{% endif %}{% if \"v2\" in instance.tags %}y{% endif %}{% endfor %}",
        ),
    ]);
}

#[test]
fn keys_and_the_environment() {
    check(&[
        ("{{ key \"app/name\" }}", "{{ key(path=\"app/name\") }}"),
        ("{{ key \"app/name@dc2\" | toUpper }}", "{{ key(path=\"app/name\", dc=\"dc2\") | upper }}"),
        ("{{ keyOrDefault \"app/max\" \"10\" | parseInt }}", "{{ key(path=\"app/max\", default=\"10\") | int }}"),
        ("{{ if keyExists \"app/on\" }}x{{ end }}", "{% if key_exists(path=\"app/on\") %}x{% endif %}"),
        (
            "{{ range ls \"app\" }}{{ .Key }}={{ .Value }}\n{{ end }}",
            "{% for pair in kv_list(prefix=\"app/\") %}{{ pair.key }}={{ pair.value }}\n{% endfor %}",
        ),
        (
            "{{ range safeTree \"app/\" }}{{ .Path }}{{ end }}",
            "{% for pair in kv_list(prefix=\"app/\", recurse=true, min=1) %}{{ pair.path }}{% endfor %}",
        ),
        (
            "{{ with $d := key \"app/json\" | parseJSON }}{{ $d.host }}:{{ .port }}{{ end }}",
            "{% set d = key(path=\"app/json\") | from_json %}{% if d %}{{ d.host }}:{{ d.port }}{% endif %}",
        ),
        ("{{ tree \"app\" | explode | toJSONPretty }}", "{{ kv_tree(prefix=\"app/\") | json_encode(pretty=true) }}"),
        (
            "{{ range $k, $v := tree \"app\" | explode }}{{ $k }}={{ $v }}{{ end }}",
            "{% for k, v in kv_tree(prefix=\"app/\") %}{{ k }}={{ v }}{% endfor %}",
        ),
        (
            "{{ env \"HOME\" }} {{ mustEnv \"A\" }} {{ envOrDefault \"B\" \"c\" }}",
            "{{ get_env(name=\"HOME\", default=\"\") }} {{ get_env(name=\"A\") }} {{ get_env(name=\"B\", default=\"c\") }}",
        ),
        ("{{ file \"/etc/x\" | trimSpace }}", "{{ file(path=\"/etc/x\") | trim }}"),
        (
            "{{ sockaddr \"GetPrivateIP\" }} {{ timestamp }} {{ timestamp \"unix\" }}",
            "{{ host_ip() }} {{ now() }} {{ now(unix=true) }}",
        ),
    ]);
}

#[test]
fn expressions_and_variables() {
    check(&[
        ("{{/* a comment */}}x{{- /* b */ -}}", "{# a comment #}x{#- b -#}"),
        (
            "{{ $x := 1 }}{{ range loop 3 }}{{ $x = add 1 $x }}{{ . }}{{ end }}{{ $x }}",
            "{% set x = 1 %}{% for item in range(end=3) %}{% set_global x = x + 1 %}{{ item }}{% endfor %}{{ x }}",
        ),
        (
            "{{ if and (eq (env \"A\") \"1\") (not (env \"B\")) }}x{{ end }}",
            "{% if (get_env(name=\"A\", default=\"\") == \"1\") and (not get_env(name=\"B\", default=\"\")) %}x{% endif %}",
        ),
        ("{{ printf \"%s-%d\" (env \"A\") 7 }}", "{{ get_env(name=\"A\", default=\"\") ~ \"-\" ~ 7 }}"),
        ("{{ \"a,b\" | split \",\" | join \"+\" }}", "{{ (\"a,b\" | split(pat=\",\")) | join(sep=\"+\") }}"),
        (
            "{{ if env \"A\" | regexMatch \"^v[0-9]\" }}x{{ end }}",
            "{% if get_env(name=\"A\", default=\"\") is matching(pat=\"^v[0-9]\") %}x{% endif %}",
        ),
        (
            "{{ env \"A\" | replaceAll \"a\" \"b\" }}",
            "{{ get_env(name=\"A\", default=\"\") | replace(from=\"a\", to=\"b\") }}",
        ),
        ("{{ key `a` | base64Decode }}", "{{ key(path=\"a\") | b64_decode }}"),
        ("a {% b }} c {{ \"}}\" }}", "{% raw %}a {% b }} c {% endraw %}{{ \"}}\" }}"),
    ]);
}

#[test]
fn what_is_not_known_is_told_and_cannot_be_rendered_by_mistake() {
    let cases = [
        ("\n{{ with secret \"a/b\" }}{{ .Data.password }}{{ end }}", "2: not converted: secret, which is Vault's"),
        ("{{ plugin \"x\" }}", "1: not converted: plugin, which runs a program"),
        ("{{ scratch.Set \"a\" 1 }}", "1: not converted: scratch.Set, a store; use {% set %}"),
        ("{{ define \"x\" }}a{{ end }}{{ template \"x\" . }}", "1: not converted: named templates"),
        ("{{ executeTemplate \"x\" }}", "1: not converted: named templates"),
        ("{{ printf \"%05d\" 7 }}", "1: not converted: printf"),
        ("{{ sprig_upper \"x\" }}", "1: not converted: sprig_upper, of a library"),
        ("{{ .Foo }}", "1: not converted: the dot outside of range and with"),
        ("{{ $nope }}", "1: not converted: the variable $nope"),
        ("{{ range service \"web\" }}{{ .Foo }}{{ end }}", "1: the field .Foo is not known"),
        ("{{ range service $x }}{{ end }}", "1: not converted: the variable $x"),
        ("{{ range service (env \"A\") }}{{ end }}", "is taken as a name without tag and datacenter"),
        ("{{ range service \"web?ns=x\" }}{{ end }}", "namespaces, partitions and peers are left out"),
        ("{{ end }}", "1: an end of nothing"),
        ("{{ if true }}", "1: a block without its end"),
    ];
    for (text, note) in cases {
        let converted = convert(text);
        let notes: Vec<_> = converted.notes.iter().map(|note| format!("{}: {}", note.line, note.message)).collect();
        assert!(notes.iter().any(|found| found.contains(note)), "{text}\n{notes:?}\n{}", converted.text);
    }
    let (text, _) = converted("{{ with secret \"a/b\" }}{{ .Data.password }}{{ end }}");
    assert!(text.starts_with("{% set item = throw(message=\"not converted: secret\") %}"), "{text}");
}

#[test]
fn a_whole_configuration() {
    let text = r#"# HAProxy
{{- $max := keyOrDefault "haproxy/maxconn" "256" }}
global
    maxconn {{ $max }}
{{ range services }}{{ if .Tags | contains "http" }}
backend {{ .Name }}
    {{- range service .Name "passing,warning" }}
    server {{ .Node }}-{{ .Port }} {{ .Address }}:{{ .Port }} weight {{ .Weights.Passing }} check
    {{- else }}
    server none 127.0.0.1:1
    {{- end }}
{{ end }}{{ end }}"#;
    let expected = r#"# HAProxy
{%- set max = key(path="haproxy/maxconn", default="256") %}
global
    maxconn {{ max }}
{% for service in services(all=true) %}{% if "http" in service.tags %}
backend {{ service.name }}
    {%- for instance in service(name=service.name, status=["passing", "warning"]) %}
    server {{ instance.node.name }}-{{ instance.port }} {{ instance.address }}:{{ instance.port }} weight {{ instance.weights.passing }} check
    {%- else %}
    server none 127.0.0.1:1
    {%- endfor %}
{% endif %}{% endfor %}"#;
    assert_eq!(converted(text), (expected.to_owned(), Vec::new()));
}

#[test]
fn what_cannot_be_read_afterwards_is_said() {
    for (text, said) in [("a{{ else }}b", "1: an else of nothing"), ("a\n{{ break }}b", "1: the result cannot be read")]
    {
        let notes: Vec<_> =
            convert(text).notes.into_iter().map(|note| format!("{}: {}", note.line, note.message)).collect();
        assert!(notes.iter().any(|note| note.starts_with(said)), "{text}: {notes:?}");
    }
}
