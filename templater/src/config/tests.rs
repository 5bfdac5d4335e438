use super::*;
use crate::{
    functions::Floor,
    output::{FileSpec, OutputSpec, ReloadSpec, TargetSpec},
    target::{
        Kind,
        signal::{SignalSpec, Whom},
    },
};

fn args(words: &[&str]) -> RunArgs {
    let words = ["templater"].iter().chain(words);
    let mut run = <crate::cli::Cli as clap::Parser>::try_parse_from(words).unwrap().run;
    // What the machine of the tests happens to have set is no matter of theirs.
    if !words_name_registry(&run) {
        run.registries.clear();
    }
    run.access = Access::default();
    run
}

fn words_name_registry(run: &RunArgs) -> bool {
    run.registries.iter().any(|r| r.contains("registry"))
}

fn only(config: &Config) -> (&FileSpec, &OutputSpec) {
    match &config.jobs[0].templates[0].destination {
        DestinationSpec::File(file) => (file, &config.jobs[0].output),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_destination_is_beside_the_template_unless_given() {
    let cases = [
        ("haproxy.tmpl", "/w/haproxy.cfg"),
        ("nginx.j2", "/w/nginx.conf"),
        ("sub/site.conf.tera", "/w/sub/site.conf"),
        ("/t/a.tmpl", "/t/a"),
        ("a.tmpl:b", "/w/b"),
        ("../a.tmpl:/x/../b", "/b"),
    ];
    for (flag, expected) in cases {
        let config = load(&args(&["--template", flag]), Path::new("/w")).unwrap();
        assert_eq!(only(&config).0.destination, Path::new(expected), "{flag}");
    }
}

#[test]
fn a_command_may_have_colons() {
    let config = load(&args(&["--template", "a:b:curl http://x:1/"]), Path::new("/w")).unwrap();
    let expected = CommandLine::Shell("curl http://x:1/".into());
    assert_eq!(only(&config).1.reload, Some(ReloadSpec::Command(expected)));
}

#[test]
fn bad_templates_are_told_all_at_once() {
    let faults = |words: &[&str]| load(&args(words), Path::new("/w")).unwrap_err().faults;
    let all = faults(&["-t", "a", "-t", ":b", "-t", "x.tmpl:d/", "-t", "y.tmpl:-", "--registry", "ftp://registry"]);
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(faults(&[])[0].contains("nothing to render"));
    assert!(faults(&["-t", "a:x", "-t", "b:x"])[0].contains("two templates have the destination /w/x"));
    assert!(faults(&["-t", "a:a"])[0].contains("both template and destination"));
    assert!(faults(&["-t", "a.tmpl", "--debounce", "fast"])[0].contains("\"fast\" is not a duration"));
}

#[test]
fn standard_output_is_for_once() {
    let config = load(&args(&["--once", "-t", "a:-"]), Path::new("/w")).unwrap();
    assert_eq!(config.jobs[0].templates[0].destination, DestinationSpec::Stdout);
}

const FULL: &str = r#"
registry: http://registry:8500
debounce: {quiet: 20ms}
templates:
  - source: haproxy.tmpl
    destination: /etc/haproxy/haproxy.cfg
    mode: "0640"
    user: root
    group: "0"
    create_dirs: true
    target: haproxy
    check_cmd: haproxy -c -f {src}
    reload_cmd: [systemctl, reload, haproxy]
    command_timeout: 5s
    debounce: {max: 2s}
  - inline: "{{ key(path='a') }}"
    destination: a.txt
    target: none
"#;

#[test]
fn a_file_says_everything_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("10.yaml"), FULL).unwrap();
    std::fs::write(dir.path().join("20.json"), r#"{"registry": ["http://registry2:1", "unix:///registry.sock"]}"#)
        .unwrap();
    std::fs::write(dir.path().join("README"), "not: [read").unwrap();
    let path = dir.path().to_str().unwrap();
    let config = load(&args(&["--config", path]), Path::new("/w")).unwrap();
    assert_eq!(config.registry.addresses, ["http://registry2:1", "unix:///registry.sock"]);
    let (file, output) = only(&config);
    assert_eq!((file.mode, file.owner), (Some(0o640), (Some(0), Some(0))));
    assert_eq!(output.target, TargetSpec::Known(Kind::HaProxy));
    assert_eq!(output.check_cmd, Some(CommandLine::Shell("haproxy -c -f {src}".into())));
    assert_eq!(
        output.reload,
        Some(ReloadSpec::Command(CommandLine::Words(["systemctl", "reload", "haproxy"].map(str::to_owned).into())))
    );
    assert_eq!(output.command_timeout, Duration::from_secs(5));
    let debounce = config.jobs[0].debounce;
    assert_eq!((debounce.quiet, debounce.max), (Duration::from_millis(20), Duration::from_secs(2)));
    assert_eq!(config.jobs[0].templates[0].source, SourceSpec::File(dir.path().join("haproxy.tmpl")));
    assert_eq!(config.jobs[1].destinations().collect::<Vec<_>>(), [dir.path().join("a.txt")]);

    let config = load(&args(&["--config", path, "--registry", "http://registry:9"]), Path::new("/w")).unwrap();
    assert_eq!(config.registry.addresses, ["http://registry:9"]);
}

#[test]
fn files_that_belong_together_are_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let load = |entry: &str| {
        std::fs::write(&path, format!("templates:\n  - {entry}\n")).unwrap();
        super::load(&args(&["--config", path.to_str().unwrap()]), Path::new("/w"))
    };
    let files = "files: [{source: a.tmpl}, {inline: x, destination: sub/b, mode: '0600'}]";
    let config = load(&format!("{files}\n    check_cmd: check {{stage}}\n    stage_dir: sub")).unwrap();
    let job = &config.jobs[0];
    assert_eq!(job.destinations().collect::<Vec<_>>(), [dir.path().join("a"), dir.path().join("sub/b")]);
    assert_eq!(job.output.stage_dir, Some(dir.path().join("sub")));
    for (entry, fault) in [
        ("files: []".to_owned(), "files is empty"),
        (format!("{files}\n    source: c.tmpl"), "belong to each of files"),
        (format!("{files}\n    check_cmd: check {{src}}"), "use {stage}"),
        ("files: [{inline: x}]".to_owned(), "templates[0].files[0]: destination is missing"),
    ] {
        let faults = load(&entry).unwrap_err().faults;
        assert!(faults[0].contains(fault), "{faults:?}");
    }
}

#[test]
fn faults_of_a_file_have_a_line() {
    let cases = [
        ("templates:\n  - source: a\n    sorce: b\n", false, "unknown field `sorce`", "line 3"),
        ("templats: []\n", false, "unknown field `templats`", "line 1"),
        ("templates:\n  - source: a\n    mode: 644\n", false, "an octal mode in quotes", "line 3"),
        ("templates:\n  - source: a\n    target: apache\n", false, "\"apache\" is no target", "line 2"),
        ("debounce:\n  quiet: soon\n", false, "\"soon\" is not a duration", "line 2"),
        ("registry: x\nca_file: [a]\n", false, "ca_file: invalid type", "line 2"),
        ("{\n\"token\": 1}", true, "expected a string", "line 2"),
        ("templates:\n  - source: a\n    reload_cmd: []\n", false, "the command is empty", "line 2"),
        ("templates: [\n", false, "", "line 2"),
    ];
    for (text, json, what, line) in cases {
        let error = file::parse(text, json).unwrap_err();
        assert!(error.contains(what) && error.contains(line), "{text}\n{error}");
    }
    assert!(file::parse("", false).is_ok());
}

#[test]
fn a_token_comes_from_a_flag_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "secret\n").unwrap();
    let mut args = args(&["-t", "a.tmpl"]);
    let of = |args: &RunArgs| load(args, dir.path()).map(|config| (config.registry.token, config.registry.token_file));
    args.access.token_file = Some("token".into());
    assert_eq!(of(&args).unwrap(), (None, Some(dir.path().join("token"))));
    args.access.token = Some("flag".into());
    assert_eq!(of(&args).unwrap().0.as_deref(), Some("flag"));
    args.access.token = None;
    args.access.token_file = Some("gone".into());
    let faults = of(&args).unwrap_err().faults;
    assert!(faults[0].starts_with("cannot read ") && faults[0].contains("/gone: "), "{faults:?}");
}

#[test]
fn how_to_speak_tls_comes_from_files_and_flags_over_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cas")).unwrap();
    let (weak, strong) = (dir.path().join("1.yaml"), dir.path().join("2.json"));
    std::fs::write(&weak, "ssl: true\nca_path: cas\ntls_server_name: weak\nssl_verify: false\n").unwrap();
    std::fs::write(&strong, r#"{"tls-server-name": "strong", "registry": ["a:1", "unix:///b"]}"#).unwrap();
    let mut args = args(&["-t", "a.tmpl", "-c", weak.to_str().unwrap(), "-c", strong.to_str().unwrap()]);
    args.access.ssl_verify = Some(true);
    let config = load(&args, Path::new("/w")).unwrap().registry;
    assert_eq!(config.addresses, ["https://a:1", "unix:///b"]);
    assert_eq!(config.tls.authorities, [dir.path().join("cas")]);
    assert_eq!((config.tls.server_name.as_deref(), config.tls.unverified), (Some("strong"), false));
    args.access.client_cert = Some("alone.pem".into());
    assert!(load(&args, Path::new("/w")).unwrap_err().faults[0].contains("client-key"));
}

#[test]
fn targets_are_told_in_several_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let load = |keys: &str| {
        std::fs::write(&path, format!("templates:\n  - inline: x\n    destination: x\n    {keys}\n")).unwrap();
        super::load(&args(&["--config", path.to_str().unwrap()]), Path::new("/w"))
    };
    let signal = |signal, whom| Some(ReloadSpec::Signal(SignalSpec { signal, whom }));
    let pid_file = Whom::PidFile(dir.path().join("x.pid"));
    let container = || Whom::Container("lb".into());
    for (keys, target, reload, inside) in [
        ("target: haproxy\n    container: lb", TargetSpec::Known(Kind::HaProxy), None, Some("lb")),
        ("reload_unit: nginx", TargetSpec::Auto, Some(ReloadSpec::Unit("nginx".into())), None),
        ("target: signal\n    pid_file: x.pid", TargetSpec::Unknown, signal(Signal::SIGHUP, pid_file.clone()), None),
        ("target: signal\n    container: lb", TargetSpec::Unknown, signal(Signal::SIGHUP, container()), None),
        ("pid_file: x.pid\n    reload_signal: usr1", TargetSpec::Auto, signal(Signal::SIGUSR1, pid_file), None),
        (
            "container: lb\n    target: nginx\n    reload_signal: SIGUSR2",
            TargetSpec::Known(Kind::Nginx),
            signal(Signal::SIGUSR2, container()),
            Some("lb"),
        ),
        ("target: none", TargetSpec::Unknown, None, None),
    ] {
        let config = load(keys).unwrap();
        let output = only(&config).1;
        assert_eq!((output.target, &output.reload, output.container.as_deref()), (target, &reload, inside), "{keys}");
    }
    for (keys, fault) in [
        ("target: command", "target command wants a reload_cmd"),
        ("target: signal\n    reload_cmd: x", "target signal wants a pid_file"),
        ("reload_unit: x\n    reload_cmd: x", "give one of reload_cmd"),
        ("reload_signal: HUP", "goes to a pid_file or a container"),
        ("pid_file: x\n    container: y", "goes to a pid_file or a container"),
        ("reload_signal: FOO", "\"FOO\" is no signal"),
    ] {
        let faults = load(keys).unwrap_err().faults;
        assert!(faults[0].contains(fault), "{keys}: {faults:?}");
    }
}

#[test]
fn a_directory_of_templates_is_as_many_templates() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    for name in ["b.conf.tmpl", "a.tera", "_part.tmpl", ".hidden.tmpl", "notes.txt"] {
        fs::write(dir.path().join("t").join(name), "").unwrap();
    }
    let config = load(&args(&["--template", "t/:out/:reload"]), dir.path()).unwrap();
    let destinations: Vec<_> = config.jobs.iter().flat_map(JobSpec::destinations).collect();
    assert_eq!(destinations, [dir.path().join("out/a"), dir.path().join("out/b.conf")]);
    assert_eq!(config.template_dirs, [dir.path().join("t")]);
    let error = load(&args(&["--template", "t/"]), dir.path()).unwrap_err();
    assert!(error.to_string().contains("is a directory of templates; name the directory"), "{error}");
}

#[test]
fn files_for_each_item_lie_in_a_fixed_directory() {
    let dir = tempfile::tempdir().unwrap();
    let load_with = |entries: &str| {
        fs::write(dir.path().join("c.yaml"), format!("templates:\n{entries}")).unwrap();
        load(&args(&["--config", "c.yaml"]), dir.path())
    };
    let entry = |to: &str| format!("  - {{inline: x, for_each: services(), destination: '{to}'}}\n");
    let config = load_with(&entry("out/{{ item.name }}.conf")).unwrap();
    let DestinationSpec::Each(each) = &config.jobs[0].templates[0].destination else { panic!() };
    assert_eq!((&*each.items, &*each.name), ("services()", "{{ item.name }}.conf"));
    assert_eq!(each.file.destination, dir.path().join("out"));
    for bad in ["out/{{ item.name }}/x", "out/x.conf"] {
        let error = load_with(&entry(bad)).unwrap_err().to_string();
        assert!(error.contains("a file name made of the item in a fixed directory"), "{bad}: {error}");
    }
    let twice = entry("out/{{ item.name }}.conf") + &entry("out/{{item.name}}.conf");
    assert!(load_with(&twice).unwrap_err().to_string().contains("two templates have the destination"));
}

#[test]
fn guards_are_read_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let text = "consistency: stale\nmax_drop: 30%\ndrop_hold: 5s\nmin_instances: 2\ntemplates:\n\
                \x20 - {inline: x, destination: a}\n\
                \x20 - {inline: x, destination: b, on_empty: fail}\n\
                \x20 - {inline: x, destination: c, on_empty: render}\n";
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    let config = load(&args(&["--config", "c.yaml"]), dir.path()).unwrap();
    assert_eq!((config.drops.max_drop, config.drops.hold), (Some(30), Duration::from_secs(5)));
    assert_eq!(config.registry.consistency, kvstore_client::Consistency::Stale);
    let floors: Vec<_> = config.jobs.iter().map(|job| job.bounds.floor).collect();
    let floor = |min_instances, fail| Floor { min_instances, fail };
    assert_eq!(floors, [floor(2, false), floor(2, true), floor(0, false)]);
    fs::write(dir.path().join("c.yaml"), "max_drop: 130%").unwrap();
    let error = load(&args(&["--config", "c.yaml"]), dir.path()).unwrap_err().to_string();
    assert!(error.contains("\"130%\" is no part of a whole"), "{error}");
}

/// The keys that a mapping takes, as the fault about another one names them.
fn keys_taken_beside(text: &str) -> Vec<String> {
    let fault = file::parse(text, false).expect_err("there is no such key");
    let (_, expected) = fault.split_once("expected one of ").expect("the fault names those there are");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_documentation_is_a_configuration_and_names_every_key() {
    let told = include_str!("../config.md");
    let (_, example) = told.split_once("```yaml\n").expect("there is an example");
    file::parse(example.split("```").next().expect("it ends"), false).expect("it can be read");
    for text in ["exec: {x: 1}", "templates: [{x: 1}]", "templates: [{files: [{x: 1}]}]"] {
        for key in keys_taken_beside(text) {
            assert!(told.contains(&format!("{key}:")), "{key} of {text} is not told");
        }
    }
}
