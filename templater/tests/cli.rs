//! The command line: help, version, and every kind of mistake ends with a clear word and the right exit code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn templater(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_templater"))
        .args(args)
        .current_dir(directory)
        .env_remove("CONSUL_HTTP_ADDR")
        .env_remove("CONSUL_HTTP_TOKEN")
        .env_remove("CONSUL_HTTP_TOKEN_FILE")
        .output()
        .expect("the binary runs")
}

/// Runs with `args` in a directory with `files`; checks the exit code and what is said on standard error.
#[track_caller]
fn check(args: &[&str], files: &[(&str, &str)], code: i32, said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let output = templater(dir.path(), args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{stderr}");
    for words in said {
        assert!(stderr.contains(words), "{args:?}: {words:?} is not in\n{stderr}");
    }
}

#[test]
fn help_has_examples_and_version_a_number() {
    let help = templater(Path::new("/"), &["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success());
    for words in ["templater --template haproxy.tmpl", "--dry-run", "service(name=", "CONSUL_HTTP_ADDR"] {
        assert!(text.contains(words), "{text}");
    }
    for args in [["version"], ["--version"]] {
        let version = templater(Path::new("/"), &args);
        let text = String::from_utf8_lossy(&version.stdout);
        assert_eq!(text.trim(), format!("templater {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn bad_usage_is_exit_code_2() {
    check(&["--nonsense"], &[], 2, &["--nonsense", "--help"]);
    check(&[], &[], 2, &["nothing to render", "--template"]);
    check(&["-t", "x"], &[], 2, &["it is not clear where its text goes"]);
    check(&["-t", "a.tmpl", "--registry", "ftp://x"], &[], 2, &["ftp://x", "http://HOST:PORT"]);
    check(&["-t", "a.tmpl", "--timeout", "soon"], &[], 2, &["soon", "is not a duration"]);
    check(&["-t", "a.tmpl", "--log-level", "x=y=z"], &[], 2, &["--log-level"]);
}

#[test]
fn a_bad_configuration_names_file_and_line() {
    let config = "templates:\n  - source: a.tmpl\n    destinaton: b\n";
    check(&["-c", "c.yaml"], &[("c.yaml", config)], 2, &["c.yaml", "unknown field `destinaton`", "line 3"]);
    check(&["-c", "gone.yaml"], &[], 2, &["gone.yaml", "No such file"]);
    check(&["-c", "c.json"], &[("c.json", "{\n \"x\": 1 }")], 2, &["c.json", "unknown field `x`", "line 2"]);
}

#[test]
fn a_missing_or_broken_template_is_exit_code_1() {
    check(&["-t", "gone.tmpl"], &[], 1, &["gone.tmpl cannot be read", "No such file"]);
    let files = [("a.tmpl", "line 1\n{{ servce(name='web') }}\n")];
    check(&["-t", "a.tmpl"], &files, 1, &["Unknown function `servce`", "a.tmpl:2:4", "try:", "service(name,"]);
    check(&["--once", "-t", "a.tmpl"], &files, 1, &["Unknown function `servce`"]);
}

#[test]
fn once_without_a_registry_says_what_is_missing_and_why() {
    let files = [("a.tmpl", "{% for s in service(name='web') %}{% endfor %}{{ key(path='app/x') }}")];
    let args = ["--once", "--timeout", "300ms", "--registry", "http://127.0.0.1:1", "-t", "a.tmpl"];
    check(
        &args,
        &files,
        1,
        &["not rendered after 300ms", "service web", "key app/x", "cannot talk to the registry", "127.0.0.1:1"],
    );
}

#[test]
fn a_template_without_data_needs_no_registry() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.tmpl"), "{% for i in range(end=3) %}{{ i }}{% endfor %}\n").unwrap();
    let output = templater(dir.path(), &["--once", "-t", "a.tmpl:-", "--registry", "http://127.0.0.1:1"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "012\n", "{output:?}");
    let output = templater(dir.path(), &["--dry-run", "-t", "a.tmpl"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("+012"), "{output:?}");
    assert!(!dir.path().join("a").exists());
    assert!(templater(dir.path(), &["--once", "-t", "a.tmpl"]).status.success());
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "012\n");
}

#[test]
fn check_finds_every_mistake_without_a_registry() {
    let good = ("good.tmpl", "{% include 'part' %}{% for s in service(name='web') %}{{ s | hostport }}{% endfor %}");
    let part = ("part", "{{ key(path='a', default='') }}");
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [good, part] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let output = templater(dir.path(), &["check", "good.tmpl"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 template is good\n", "{output:?}");
    let bad = [
        ("a.tmpl", "\n{% if false %}{{ service(nam='x') }}{% endif %}"),
        ("b.tmpl", "{{ 1 | nope }}"),
        ("c.tmpl", "{% for %}"),
        ("d.tmpl", "{% include 'gone' %}"),
        ("e.tmpl", "{% if false %}{{ <server x={1}/> }}{% endif %}"),
    ];
    let args = ["check", "a.tmpl", "b.tmpl", "c.tmpl", "d.tmpl", "e.tmpl", "none.tmpl"];
    let said = [
        "a.tmpl:2:26",
        "service() has no argument `nam`",
        "b.tmpl:1:8",
        "c.tmpl:1:8",
        "gone is looked for in the directory",
        "e.tmpl:1:",
        "none.tmpl cannot be read",
    ];
    check(&args, &bad, 1, &said);
    let config = "templates:\n  - {inline: '{{ nope() }}', destination: x}\n";
    check(&["check", "-c", "c.yaml"], &[("c.yaml", config)], 1, &["templates[0].inline:1:4", "nope"]);
    check(&["check"], &[], 2, &["FILE"]);
}

#[test]
fn render_shows_the_text_over_made_up_data() {
    let dir = tempfile::tempdir().unwrap();
    let text = "{% for s in services() %}{{ s.name }}:{% for i in service(name=s.name) %} {{ i | hostport }}{% endfor %}\n\
                {% endfor %}{{ key(path='app/name') }} {{ get_env(name='PORT') }} {{ file(path='part') }} {{ now() }}\n\
                {% set n = node(name='n1') %}{{ n.services | length }} {{ host_ip() }}\n";
    let data = "services:\n  web:\n    - {address: 10.0.0.1, port: 80, node: {name: n1}}\n    - {port: 81, status: critical}\n  api: []\n\
                nodes: [{name: n1, address: 10.9.9.9}]\nkeys: {app/name: shop}\nenv: {PORT: '80'}\naddresses: {eth0: [10.1.2.3]}\n\
                now: 2024-05-06T07:08:09Z\n";
    for (name, text) in [("a.tmpl", text), ("mock.yaml", data), ("part", "p"), ("bad.yaml", "servces: {}")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let render = |more: &[&str]| templater(dir.path(), &[&["render", "-t", "a.tmpl"], more].concat());
    let output = render(&["--data", "mock.yaml"]);
    let expected = "api:\nweb: 10.0.0.1:80\nshop 80 p 2024-05-06T07:08:09Z\n1 10.1.2.3\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");

    fs::write(dir.path().join("good.cfg"), expected).unwrap();
    fs::write(dir.path().join("old.cfg"), expected.replace("shop", "store")).unwrap();
    let output = render(&["--data", "mock.yaml", "--expect", "good.cfg"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let output = render(&["--data", "mock.yaml", "--expect", "old.cfg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\n-store 80 p"), "{output:?}");

    let said = |more: &[&str]| String::from_utf8_lossy(&render(more).stderr).into_owned();
    assert!(said(&["--data", "bad.yaml"]).contains("unknown field `servces`"), "{}", said(&["--data", "bad.yaml"]));
    assert!(said(&[]).contains("nothing would be written: key app/name is absent"), "{}", said(&[]));
    fs::write(dir.path().join("a.tmpl"), "{{ get_env(name='PORT') }}").unwrap();
    assert!(said(&[]).contains("`PORT` is not set"), "{}", said(&[]));
    fs::write(dir.path().join("a.tmpl"), "{{ service(name='web', filter='x') }}").unwrap();
    assert!(said(&[]).contains("only a registry knows filters"), "{}", said(&[]));
}

#[test]
fn convert_tells_what_it_could_not_and_the_rest_is_usable() {
    let dir = tempfile::tempdir().unwrap();
    let good =
        "{{ range service \"web\" }}{{ .Address }}:{{ .Port }}\n{{ end }}{{ keyOrDefault \"k\" \"d\" | toUpper }}\n";
    fs::write(dir.path().join("good.ctmpl"), good).unwrap();
    fs::write(dir.path().join("bad.ctmpl"), "a\n{{ with secret \"s\" }}{{ .Data.x }}{{ end }}\n").unwrap();
    fs::write(dir.path().join("mock.yaml"), "services: {web: [{address: 10.0.0.1, port: 80}]}").unwrap();
    let output = templater(dir.path(), &["convert", "good.ctmpl", "-o", "good.tmpl"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let output = templater(dir.path(), &["render", "-t", "good.tmpl", "-d", "mock.yaml"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10.0.0.1:80\nD\n", "{output:?}");

    let output = templater(dir.path(), &["convert", "bad.ctmpl"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.ctmpl:2: not converted: secret"), "{said}");
    fs::write(dir.path().join("bad.tmpl"), &output.stdout).unwrap();
    assert!(templater(dir.path(), &["check", "bad.tmpl"]).status.success());
    let output = templater(dir.path(), &["render", "-t", "bad.tmpl"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not converted: secret"), "{output:?}");
}

#[test]
fn templates_of_the_examples_are_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(examples).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let files = fs::read_dir(entry.path()).unwrap().flatten().map(|e| e.path());
        found.extend(files.filter(|p| p.extension().is_some_and(|e| e == "tmpl")).map(|p| p.display().to_string()));
    }
    assert!(found.len() >= 7, "{found:?}");
    let args: Vec<&str> = ["check"].into_iter().chain(found.iter().map(String::as_str)).collect();
    let output = templater(Path::new("/"), &args);
    assert!(output.status.success(), "{output:?}");
}
