//! Templates, consul-template's and ours: no text panics, what is converted can be read as a template of ours, and what
//! could not be is said, at a line that there is.

use templater::{
    convert::convert,
    functions::Setting,
    render::{Sources, Template, references},
};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "{{range service \"web\"}}\n  server {{.ID}} {{.Address}}:{{.Port}} check{{end}}",
        "{{- range service \"v1.web@dc2~n1\" \"passing,warning\" -}}{{ .Node }} {{ .ServiceMeta.zone }}{{- end -}}",
        "{{ range services }}{{ $name := .Name }}{{ range service .Name }}{{ $name }} {{ .Tags | join \",\" }}{{ end }}{{ end }}",
        "{{ range $tag, $services := service \"web\" | byTag }}{{ $tag }}{{ range $services }}{{ .ID }}{{ end }}{{ end }}",
        "{{ if service \"web\" | len | eq 0 }}none{{ else if gt (len (service \"web\")) 1 }}many{{ else }}one{{ end }}",
        "{{ with node \"n1\" }}{{ .Node.Node }}{{ range .Services }}{{ .Service }}:{{ .Port }}{{ end }}{{ end }}",
        "{{ key \"a/b\" }}{{ keyOrDefault \"c\" \"d\" | toUpper }}{{ range ls \"p\" }}{{ .Key }}={{ .Value }}{{ end }}",
        "{{ range $i, $s := service \"web\" }}{{ if $i }},{{ end }}{{ $s.Address }}{{ end }}{{/* comment */}}",
        "{{ define \"x\" }}{{ . }}{{ end }}{{ template \"x\" . }}{% raw %}{{ env `HOME` }}{{ printf \"%s-%d\" \"a\" 1 }}",
        "{% for i in service(name=\"web\") | sort(attribute=\"id\") %}{{ i.id }} {{ i.meta.x | default(value=1) }}{% endfor %}",
        "{% set x = kv_tree(prefix=\"a\") %}{% if x is defined and not x %}{{ x | json_encode }}{% else %}{% include 'b' %}{% endif %}",
        "{% macro m(a=1) %}{{ a }}{% endmacro %}{{ self::m(a=key(path='k', default=\"\")) ~ 'x' }}{# c #}{{ now(format='%Y') }}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn parse(text: &str) -> Result<Template, String> {
    let sources = Sources { main: "t".into(), files: [("t".to_owned(), text.to_owned())].into() };
    Template::parse(&sources, Setting::default()).map_err(|error| error.report)
}

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    references(text);
    if let Err(report) = parse(text) {
        assert!(!report.is_empty());
    }
    let converted = convert(text);
    let lines = text.matches('\n').count() + 1;
    for note in &converted.notes {
        assert!((1..=lines).contains(&note.line) && !note.message.is_empty(), "{note:?}");
    }
    if converted.notes.is_empty()
        && let Err(report) = parse(&converted.text)
    {
        panic!("nothing was said, and it cannot be read:\n{}\n{report}", converted.text);
    }
}
