//! Files of the templater's configuration, `json` or `yaml`, a line end, and the text: none panics, what is wrong is said, at
//! a line that there is, and what is to be rendered has places that do not depend on where the templater was started.

use super::*;

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "yaml\nregistry: [http://10.0.0.1:8500, http://10.0.0.2:8500]\ndebounce: {quiet: 1s, max: 10s}\nmax_drop: 50%\nstate_dir: state\ntemplates:\n  - source: haproxy.tmpl\n    destination: haproxy.cfg\n    mode: 0640\n    check_cmd: [haproxy, -c, -f, '{src}']\n    reload_unit: haproxy\n    min_reload_interval: 2s\n",
        "yaml\ntemplates:\n  - target: nginx\n    create_dirs: true\n    stage_dir: /tmp\n    rollback: false\n    keep_versions: 0\n    files:\n      - {source: a.tera, destination: conf.d/a.conf}\n      - {inline: 'x {{ 1 }}', destination: conf.d/b.conf, user: '0', group: '0'}\n",
        "yaml\ntemplates:\n  - source: site.tera\n    for_each: services()\n    destination: 'conf.d/{{ item.name }}.conf'\n    container: proxy\n    reload_signal: SIGUSR1\n    on_empty: fail\n    min_instances: 2\n",
        "yaml\nexec: {command: ./web, reload_signal: HUP, kill_signal: TERM, kill_timeout: 3s, splay: 1s}\nhttp_addr: 127.0.0.1:9000\nconsistency: stale\ntemplates:\n  - {source: a.tera, target: haproxy, runtime_socket: /run/haproxy.sock}\n",
        "json\n{\"templates\": [{\"source\": \"a.tmpl\", \"destination\": \"-\"}, {\"source\": \"b.ctmpl\", \"destination\": \"a\", \"target\": \"signal\", \"pid_file\": \"p\"}], \"follow_templates\": false, \"keep_data\": false, \"empty_hold\": \"1m\"}",
        "yaml\nmax_drop: 101%\ntemplates: {source: a}\nunknown: 1\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// One input.
pub fn check(data: &[u8]) {
    let Some((form, text)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let json = match form {
        "json" => true,
        "yaml" => false,
        _ => return,
    };
    let mut given = match file::parse(text, json) {
        Ok(given) => given,
        Err(why) => return check_fault(text, &why),
    };
    let base = Path::new("/etc/templater");
    let entries = std::mem::take(&mut given.templates);
    let mut merged = File::default();
    merged.update(given, base);
    let paths = [&merged.state_dir, &merged.file_root, &merged.pid_file];
    assert!(paths.into_iter().flatten().all(|path| path.is_absolute()));
    let defaults = Defaults::new(Mode::Once, &merged);
    if let Err(why) = exec(merged.exec) {
        assert!(!why.is_empty());
    }
    for (at, entry) in entries.into_iter().enumerate() {
        match defaults.job(entry, base, at) {
            Ok(job) => check_job(&job),
            Err(why) => assert!(!why.is_empty()),
        }
    }
}

fn check_job(job: &JobSpec) {
    assert!(!job.templates.is_empty() && job.debounce.max >= job.debounce.quiet);
    assert!(job.destinations().chain(job.keep.as_deref()).all(Path::is_absolute), "{job:?}");
    for template in &job.templates {
        if let SourceSpec::File(source) = &template.source {
            assert!(source.is_absolute() && template.destination_path() != Some(source), "{template:?}");
        }
    }
}

/// It is said, and at a line that there is.
fn check_fault(text: &str, why: &str) {
    assert!(!why.is_empty());
    // YAML has more line ends than one, and tells an end that comes too early behind the last.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    let line = why.rsplit_once(" at line ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{why}");
}
