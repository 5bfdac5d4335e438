//! The whole program against a registry that takes only what Consul takes: what is registered is in the file, and nothing
//! bad ever goes live.

mod process;
mod registry;

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use registry::Registry;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// More than any machine needs; only a failure waits so long.
const SOON: Duration = Duration::from_secs(20);

struct Place {
    dir: TempDir,
    registry: Registry,
}

impl Place {
    async fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), registry: Registry::start().await }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_templater"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("CONSUL_HTTP_ADDR", self.registry.url())
            .env_remove("CONSUL_HTTP_TOKEN")
            .env_remove("CONSUL_HTTP_TOKEN_FILE")
            .env_remove("DOCKER_HOST");
        command
    }

    /// Starts a templater; its log goes to `log` beside the files.
    fn start(&self, args: &[&str]) -> Templater {
        Templater::start(&mut self.command(args), self)
    }

    async fn wait(&self, what: &str, until: impl Fn() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < SOON, "{what}: not within {SOON:?}\n{}", self.read("log"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_for(&self, name: &str, text: &str) {
        self.wait(&format!("{name} is {text:?}"), || self.read(name) == text).await;
    }

    async fn wait_for_log(&self, words: &str) {
        self.wait(&format!("the log has {words:?}"), || self.read("log").contains(words)).await;
    }

    fn log_count(&self, words: &str) -> usize {
        self.read("log").matches(words).count()
    }
}

/// Killed when dropped.
struct Templater {
    child: Child,
}

impl Templater {
    fn start(command: &mut Command, place: &Place) -> Self {
        let log = File::options().create(true).append(true).open(place.at("log")).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < SOON, "the templater does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Templater {
    /// First asked to end, so that a failed test leaves no program of `--exec` behind.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LIST: &str = "{% for s in service(name='web') %}{{ s.id }}={{ s.address }}:{{ s.port }}\n{% endfor %}";

#[tokio::test(flavor = "multi_thread")]
async fn the_file_follows_the_registry() {
    let place = Place::new().await;
    place.write("a.txt.tmpl", LIST);
    place.registry.register("web/w1 10.0.0.1:80").await;
    let mut templater = place.start(&["-t", "a.txt.tmpl"]);
    place.wait_for("a.txt", "w1=10.0.0.1:80\n").await;
    place.registry.register("web/w2 10.0.0.2:80").await;
    place.wait_for("a.txt", "w1=10.0.0.1:80\nw2=10.0.0.2:80\n").await;
    place.registry.deregister("web/w1").await;
    place.registry.deregister("web/w2").await;
    place.wait_for("a.txt", "").await;
    templater.signal(Signal::SIGTERM);
    assert!(templater.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_appear_later_are_followed_too() {
    let place = Place::new().await;
    let text = "{% for s in services() %}{% if s.name != 'consul' %}{{ s.name }}:{% for i in service(name=s.name) %} {{ i.id }}{% endfor %}\n{% endif %}{% endfor %}";
    place.write("a.txt.tmpl", &format!("{text}{{{{ key(path='app/mode', default='none') }}}}\n"));
    let _templater = place.start(&["-t", "a.txt.tmpl"]);
    place.wait_for("a.txt", "none\n").await;
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.wait_for("a.txt", "web: w1\nnone\n").await;
    place.registry.register("api/a1 10.0.0.3:80").await;
    place.registry.put("app/mode", "blue").await;
    place.wait_for("a.txt", "api: a1\nweb: w1\nblue\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_file_never_goes_live_and_the_daemon_goes_on() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    let config = "templates:\n  - source: a.tmpl\n    destination: a.txt\n    check_cmd: '! grep -n bad {src} >&2'\n    reload_cmd: echo x >> reloads\n";
    place.write("c.yaml", config);
    place.registry.register("web/good 10.0.0.1:80").await;
    let _templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("reloads", "x\n").await;
    place.registry.register("web/bad 10.0.0.2:80").await;
    place.wait_for_log("check_cmd refused the new").await;
    place.wait_for_log("1:bad=10.0.0.2:80").await;
    assert_eq!(place.read("a.txt"), "good=10.0.0.1:80\n");
    place.registry.deregister("web/bad").await;
    place.registry.register("web/late 10.0.0.3:80").await;
    place.wait_for("a.txt", "good=10.0.0.1:80\nlate=10.0.0.3:80\n").await;
    place.wait_for("reloads", "x\nx\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_owed_survives_a_crash() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.write("wait", "");
    place.registry.register("web/w1 10.0.0.1:80").await;
    let command = "touch started; while [ -e wait ]; do sleep 0.05; done; echo x >> reloads";
    let mut templater = place.start(&["-t", &format!("a.tmpl:a.txt:{command}")]);
    place.wait("the reload has begun", || place.at("started").exists()).await;
    templater.signal(Signal::SIGKILL);
    assert_eq!(templater.ended().await.signal(), Some(9));
    assert_eq!(place.read("a.txt"), "w1=10.0.0.1:80\n", "live before the reload");
    // The orphan of the killed one must not count.
    let again = "echo again >> reloads2";
    let mut templater = place.start(&["-t", &format!("a.tmpl:a.txt:{again}")]);
    place.wait_for("reloads2", "again\n").await;
    templater.signal(Signal::SIGTERM);
    templater.ended().await;
    // And it is owed once only.
    let args = ["--once", "-t", &format!("a.tmpl:a.txt:{again}")];
    assert!(place.command(&args).status().unwrap().success());
    assert_eq!(place.read("reloads2"), "again\n");
    fs::remove_file(place.at("wait")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_reload_is_retried_and_never_an_exit() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.registry.register("web/w1 10.0.0.1:80").await;
    let command = "a.tmpl:a.txt:echo x >> tries; [ -e mended ]";
    let _templater = place.start(&["-t", command]);
    place.wait_for_log("the reload failed; it is tried again").await;
    place.write("mended", "");
    place.wait_for_log("all is well again").await;
    assert!(place.read("tries").lines().count() >= 2);
    assert_eq!(place.log_count("the reload failed"), 1, "told once\n{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_told_once_and_waited_for() {
    let mut place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.write("b.tmpl", "{{ key(path='k', default='none') }}\n");
    place.registry.stop().await;
    let mut templater = place.start(&["-t", "a.tmpl:a.txt", "-t", "b.tmpl:b.txt"]);
    place.wait_for_log("the registry does not answer").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(place.log_count("the registry does not answer"), 1, "{}", place.read("log"));
    assert!(!place.at("a.txt").exists());
    place.registry.serve().await;
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.wait_for("a.txt", "w1=10.0.0.1:80\n").await;
    place.wait_for("b.txt", "none\n").await;
    place.wait_for_log("answers again").await;
    assert_eq!(place.log_count("answers again"), 1, "{}", place.read("log"));
    assert!(templater.child.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_leaves_the_last_good_version_running() {
    let place = Place::new().await;
    place.write("a.tmpl", &format!("# v1\n{LIST}"));
    place.write("part", "p1");
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for("a.txt", "# v1\n").await;
    place.write("a.tmpl", "# v2\n{{ nope() }}");
    place.wait_for_log("Unknown function `nope`").await;
    place.wait_for_log("the last good version stays in use").await;
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.wait_for("a.txt", "# v1\nw1=10.0.0.1:80\n").await;
    // Mended by an editor that renames.
    place.write("new", &format!("# v3 {{% include 'part' %}}\n{LIST}"));
    fs::rename(place.at("new"), place.at("a.tmpl")).unwrap();
    place.wait_for("a.txt", "# v3 p1\nw1=10.0.0.1:80\n").await;
    place.write("part", "p2");
    place.wait_for("a.txt", "# v3 p2\nw1=10.0.0.1:80\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hup_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    let place = Place::new().await;
    let entry = |name: &str| format!("  - {{inline: '{name} {LIST_ONE_LINE}', destination: {name}}}\n");
    place.write("c.yaml", &format!("templates:\n{}", entry("a")));
    let templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("a", "a ").await;
    place.write("c.yaml", "templtes: []");
    templater.signal(Signal::SIGHUP);
    place.wait_for_log("unknown field `templtes`").await;
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.wait_for("a", "a w1").await;
    place.write("c.yaml", &format!("templates:\n{}{}", entry("a"), entry("b")));
    templater.signal(Signal::SIGHUP);
    place.wait_for("b", "b w1").await;
    place.write("c.yaml", &format!("templates:\n{}", entry("b")));
    templater.signal(Signal::SIGHUP);
    place.wait("the new configuration is in use", || place.log_count("the new configuration is in use") == 2).await;
    place.registry.deregister("web/w1").await;
    place.wait_for("b", "b ").await;
    assert_eq!(place.read("a"), "a w1", "no longer ours");
}

const LIST_ONE_LINE: &str = "{% for s in service(name=\"web\") %}{{ s.id }}{% endfor %}";

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_few_writes_and_a_slow_command_stalls_no_other_template() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    let _templater = place.start(&["-t", "a.tmpl:a.txt:echo x >> writes", "-t", "a.tmpl:slow.txt:sleep 600"]);
    place.wait_for("writes", "x\n").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for n in 0..50 {
        place.registry.register(&format!("web/w{n} 10.0.0.1:{}", 1000 + n)).await;
    }
    place.wait("all are in the file", || place.read("a.txt").lines().count() == 50).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let writes = place.read("writes").lines().count() - 1;
    assert!(writes <= 3, "{writes} writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_changes_is_few_reloads_and_ends_right() {
    const CHANGES: usize = 1000;
    let place = Place::new().await;
    place.write("a.tmpl", "{{ key(path='n', default='') }}");
    let _templater = place.start(&["-t", "a.tmpl:a:echo x >> reloads; cp a loaded"]);
    place.wait_for("reloads", "x\n").await;
    for n in 0..CHANGES {
        place.registry.put("n", &n.to_string()).await;
    }
    place.wait_for("loaded", &(CHANGES - 1).to_string()).await;
    // Six on a quiet machine, which make bench shows; one that is held up again and again sees pauses in the storm.
    let reloads = place.read("reloads").lines().count() - 1;
    assert!((1..=CHANGES / 20).contains(&reloads), "{reloads} reloads");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_could_inject_is_kept_out_and_told() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.registry.register("web/good 10.0.0.1:80").await;
    place.registry.register("web/evil; 10.0.0.2:80").await;
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for("a.txt", "good=10.0.0.1:80\n").await;
    place.wait_for_log("could break out of its line: id \"evil;\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_renders_all_or_names_what_is_missing() {
    let place = Place::new().await;
    place.write("a.tmpl", "{{ key(path='app/x') }}\n");
    let once = |extra: &[&str]| {
        let args = [&["--once", "--timeout", "300ms", "-t", "a.tmpl:a.txt"], extra].concat();
        place.command(&args).output().unwrap()
    };
    let output = tokio::task::block_in_place(|| once(&[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("key app/x is absent"), "{said}");
    place.registry.put("app/x", "1").await;
    let output = tokio::task::block_in_place(|| once(&["--dry-run"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\n+1\n"), "{output:?}");
    assert!(!place.at("a.txt").exists());
    assert!(tokio::task::block_in_place(|| once(&[])).status.success());
    assert_eq!(place.read("a.txt"), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_version_follows_its_release() {
    let place = Place::new().await;
    place.write("a.tmpl", "{% for s in service(name='web', live=true) %}{{ s.id }} {% endfor %}");
    place.registry.register_version("web/w1 10.0.0.1:80", "v1").await;
    place.registry.register_version("web/w2 10.0.0.2:80", "v2").await;
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for("a.txt", "w1 w2 ").await;
    place.registry.put("release/web", "v2").await;
    place.wait_for("a.txt", "w2 ").await;
    place.registry.put("release/web", "v1").await;
    place.wait_for("a.txt", "w1 ").await;
    place.registry.deregister("web/w1").await;
    place.wait_for("a.txt", "w2 ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_template_reads_are_followed() {
    let place = Place::new().await;
    place.write("a.tmpl", "[{{ file(path='part.txt') }}]");
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for_log("part.txt is absent").await;
    place.write("part.txt", "one");
    place.wait_for("a.txt", "[one]").await;
    place.write("new", "two");
    fs::rename(place.at("new"), place.at("part.txt")).unwrap();
    place.wait_for("a.txt", "[two]").await;
    fs::remove_file(place.at("part.txt")).unwrap();
    place.wait("its going is told", || place.log_count("part.txt is absent") == 2).await;
    assert_eq!(place.read("a.txt"), "[two]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_root_is_not_left_by_any_way() {
    let place = Place::new().await;
    fs::create_dir(place.at("files")).unwrap();
    place.write("secret", "s");
    place.write("files/in", "inside");
    std::os::unix::fs::symlink("../secret", place.at("files/link")).unwrap();
    let text = "{% for path in ['in', '/in', '../secret', 'link'] %}{{ file(path=path, default='none') }} {% endfor %}";
    place.write("a.tmpl", text);
    place.write("c.yaml", "file_root: files\ntemplates: [{source: a.tmpl, destination: a.txt}]\n");
    let _templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("a.txt", "inside inside none none ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_too_few_instances_leaves_the_file_or_is_an_error() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    let entry = |to: &str, more: &str| format!("  - {{source: a.tmpl, destination: {to}, {more}}}\n");
    let entries = entry("keep.txt", "min_instances: 1")
        + &entry("fail.txt", "on_empty: fail")
        + &entry("all.txt", "mode: '0644'");
    place.write("c.yaml", &format!("templates:\n{entries}"));
    place.registry.register("web/w1 10.0.0.1:80").await;
    let _templater = place.start(&["-c", "c.yaml"]);
    for file in ["keep.txt", "fail.txt", "all.txt"] {
        place.wait_for(file, "w1=10.0.0.1:80\n").await;
    }
    place.registry.deregister("web/w1").await;
    place.wait_for("all.txt", "").await;
    place.wait_for_log("not written: service web has 0 of at least 1 instances").await;
    place.wait_for_log("cause: service web has 0 of at least 1 instances").await;
    assert_eq!(place.read("keep.txt") + &place.read("fail.txt"), "w1=10.0.0.1:80\n".repeat(2));
    place.registry.register("web/w2 10.0.0.2:80").await;
    place.wait_for("keep.txt", "w2=10.0.0.2:80\n").await;
    place.wait_for("fail.txt", "w2=10.0.0.2:80\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lost_its_data_changes_nothing() {
    let mut place = Place::new().await;
    place.write("a.tmpl", LIST);
    for n in 1..=3 {
        place.registry.register(&format!("web/w{n} 10.0.0.{n}:80")).await;
    }
    let _templater = place.start(&["-t", "a.tmpl:a.txt:cat a.txt >> versions; echo >> versions"]);
    let all = "w1=10.0.0.1:80\nw2=10.0.0.2:80\nw3=10.0.0.3:80\n";
    place.wait_for("a.txt", all).await;
    place.registry.stop().await;
    place.wait_for_log("the registry does not answer").await;
    place.registry.serve().await;
    place.wait_for_log("the registry has 0 where it had 3; that is not believed for 600 s").await;
    assert_eq!(place.read("a.txt"), all);
    // It is filled again; what is then said is believed as soon as it is no sudden loss.
    for n in [1, 2, 3, 4] {
        place.registry.register(&format!("web/w{n} 10.0.0.{n}:80")).await;
    }
    place.wait_for("a.txt", &format!("{all}w4=10.0.0.4:80\n")).await;
    for version in place.read("versions").split_terminator("\n\n") {
        assert!(version.lines().count() >= 2, "{}", place.read("versions"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_beyond_max_drop_is_held_then_believed() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.write("c.yaml", "max_drop: 50%\ndrop_hold: 300ms\ntemplates: [{source: a.tmpl, destination: a.txt}]\n");
    for n in 1..=3 {
        place.registry.register(&format!("web/w{n} 10.0.0.{n}:80")).await;
    }
    let _templater = place.start(&["-c", "c.yaml"]);
    place.wait("all are in the file", || place.read("a.txt").lines().count() == 3).await;
    place.registry.deregister("web/w1").await;
    place.wait("a small loss is believed", || place.read("a.txt").lines().count() == 2).await;
    place.registry.deregister_node().await;
    place.wait_for_log("the registry has 0 where it had 2").await;
    place.wait_for("a.txt", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_last_life_are_rendered_while_the_registry_is_away() {
    let mut place = Place::new().await;
    place.write("a.tmpl", &format!("{LIST}{{{{ key(path='k') }}}} {{{{ now() }}}}\n"));
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.registry.put("k", "v").await;
    let mut templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait("the file is there", || place.read("a.txt").starts_with("w1=10.0.0.1:80\nv ")).await;
    templater.signal(Signal::SIGTERM);
    templater.ended().await;
    let before = place.read("a.txt");
    fs::remove_file(place.at("a.txt")).unwrap();

    place.registry.stop().await;
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for("a.txt", &before).await;
    place.wait_for_log("the registry has not answered yet; this is what it said until").await;
    place.registry.serve().await;
    place.wait_for_log("that is not believed").await;
    assert_eq!(place.read("a.txt"), before);
    // What is not believed for one thing holds up no other.
    place.registry.put("k", "new").await;
    place.wait("the rest is followed", || place.read("a.txt").starts_with("w1=10.0.0.1:80\nnew ")).await;
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.registry.register("web/w2 10.0.0.2:80").await;
    place.wait("it is followed again", || place.read("a.txt").contains("w2=10.0.0.2:80\nnew ")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_the_same_data_renders_at_once() {
    let place = Place::new().await;
    place.write("a.tmpl", &format!("{LIST}{{{{ now() }}}}"));
    place.registry.register("web/w1 10.0.0.1:80").await;
    let mut templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait("the file is there", || place.read("a.txt").starts_with("w1=")).await;
    templater.signal(Signal::SIGTERM);
    templater.ended().await;
    let before = place.read("a.txt");
    fs::remove_file(place.at("a.txt")).unwrap();
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for("a.txt", &before).await;
    assert_eq!(place.log_count("has not answered yet"), 0, "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_registry_is_asked_when_one_is_away() {
    let mut place = Place::new().await;
    let second = Registry::start().await;
    place.write("a.tmpl", LIST);
    place.registry.register("web/w1 10.0.0.1:80").await;
    second.register("web/w1 10.0.0.1:80").await;
    let addresses = format!("{},{}", place.registry.url(), second.url());
    let _templater = place.start(&["-t", "a.tmpl:a.txt", "--registry", &addresses]);
    place.wait_for("a.txt", "w1=10.0.0.1:80\n").await;
    place.registry.stop().await;
    second.register("web/w2 10.0.0.2:80").await;
    place.wait_for("a.txt", "w1=10.0.0.1:80\nw2=10.0.0.2:80\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_a_file_that_goes_with_it() {
    let place = Place::new().await;
    fs::create_dir(place.at("out")).unwrap();
    place.write("out/other.conf", "somebody else's");
    place.write("a.tmpl", "{% for s in service(name=item.name) %}{{ s.id }} {% endfor %}");
    let config = "templates:\n  - source: a.tmpl\n    for_each: services()\n    destination: out/{{ item.name }}.conf\n\
                  \x20   check_cmd: '! ls {stage} | grep bad'\n    reload_cmd: echo x >> reloads\n";
    place.write("c.yaml", config);
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.registry.register("api/a1 10.0.0.2:80").await;
    let mut templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("out/web.conf", "w1 ").await;
    place.wait_for("out/api.conf", "a1 ").await;
    place.registry.deregister("api/a1").await;
    place.wait("the file goes with its service", || !place.at("out/api.conf").exists()).await;
    templater.signal(Signal::SIGTERM);
    templater.ended().await;

    // What goes while nobody looks goes as well, and nothing else.
    place.registry.deregister("web/w1").await;
    place.registry.register("db/d1 10.0.0.3:80").await;
    let _templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("out/db.conf", "d1 ").await;
    place.wait("the file goes with its service", || !place.at("out/web.conf").exists()).await;
    assert_eq!(place.read("out/other.conf"), "somebody else's");
    // A refused file leaves all as they are.
    place.registry.register("bad/b1 10.0.0.4:80").await;
    place.wait_for_log("check_cmd refused the new").await;
    assert!(!place.at("out/bad.conf").exists() && place.at("out/db.conf").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_and_directories_of_templates_are_followed() {
    let place = Place::new().await;
    fs::create_dir(place.at("t")).unwrap();
    place.write("t/a.tmpl", "a {% include '_part.tmpl' %}");
    place.write("t/_part.tmpl", "p1");
    place.write("c.yaml", "templates: [{source: t/, destination: out/, create_dirs: true}]");
    let _templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("out/a", "a p1").await;
    place.write("t/_part.tmpl", "p2");
    place.wait_for("out/a", "a p2").await;
    place.write("t/b.tmpl", "b");
    place.wait_for("out/b", "b").await;
    place.write("new", "templates: [{source: t/, destination: out/}, {inline: c, destination: c}]");
    fs::rename(place.at("new"), place.at("c.yaml")).unwrap();
    place.wait_for("c", "c").await;
    place.write("c.yaml", "templates: [{inline: d, destnation: d}]");
    place.wait_for_log("the new configuration is not used; the old one stays").await;
    place.write("t/_part.tmpl", "p3");
    place.wait_for("out/a", "a p3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_are_not_followed_wait_for_a_hup() {
    let place = Place::new().await;
    place.write("a.tmpl", "old {{ key(path='k', default='-') }}");
    place.write("c.yaml", "follow_templates: false\ntemplates: [{source: a.tmpl, destination: a}]");
    let templater = place.start(&["-c", "c.yaml"]);
    place.wait_for("a", "old -").await;
    place.write("a.tmpl", "new {{ key(path='k', default='-') }}");
    // Edits are noticed within a fraction of this, where they are.
    tokio::time::sleep(Duration::from_millis(700)).await;
    place.registry.put("k", "1").await;
    place.wait_for("a", "old 1").await;
    templater.signal(Signal::SIGHUP);
    place.wait_for("a", "new 1").await;
    place.registry.put("k", "2").await;
    place.wait_for("a", "new 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_templates_only_the_touched_one_is_rendered() {
    let place = Place::new().await;
    fs::create_dir(place.at("t")).unwrap();
    for n in 0..200 {
        place.write(&format!("t/{n}.tmpl"), &format!("{{{{ key(path='k{n}', default='none') }}}}"));
    }
    place.write("c.yaml", "templates: [{source: t, destination: out, create_dirs: true}]");
    let _templater = place.start(&["-c", "c.yaml", "--log-level", "templater=debug"]);
    place.wait("all are there", || (0..200).all(|n| place.read(&format!("out/{n}")) == "none")).await;
    let passes = || place.log_count("rendered from");
    let mut before = 0;
    while passes() != before {
        before = passes();
        tokio::time::sleep(Duration::from_millis(300)).await; // what is still under way from the start
    }
    place.registry.put("k7", "new").await;
    place.wait_for("out/7", "new").await;
    place.registry.put("k8", "new").await;
    place.wait_for("out/8", "new").await;
    assert_eq!(passes() - before, 2, "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_log() {
    let mut place = Place::new().await;
    place.registry.put("db/password", "hunter-of-keys").await;
    place.write("a.tmpl", "{{ key(path='db/password') }} {{ get_env(name='CONSUL_HTTP_TOKEN', default='kept') }}\n");
    place.write("bad.tmpl", "{{ key(path='db/password') | int }}\n");
    place.write("token", "hunter-of-tokens\n");
    let args = ["-t", "a.tmpl:a.txt:exit 1", "-t", "bad.tmpl:bad.txt", "--token-file", "token", "--log-level", "debug"];
    let mut templater = place.start(&args);
    place.wait_for("a.txt", "hunter-of-keys kept\n").await;
    place.wait_for_log("the reload failed").await;
    place.wait_for_log("template").await;
    place.registry.stop().await;
    place.wait_for_log("the registry does not answer").await;
    templater.signal(Signal::SIGTERM);
    templater.ended().await;
    assert_eq!(place.log_count("hunter-of-tokens"), 0, "{}", place.read("log"));
    assert_eq!(place.log_count("hunter-of-keys"), 0, "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_without_a_loss_the_last_instance_may_go() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    place.registry.register("web/w1 10.0.0.1:80").await;
    let (relay, cut) = relay(place.registry.url().trim_start_matches("http://").to_owned()).await;
    let _templater = place.start(&["-t", "a.tmpl:a.txt", "--registry", &relay]);
    place.wait_for("a.txt", "w1=10.0.0.1:80\n").await;
    cut.notify_waiters();
    place.wait_for_log("answers again").await;
    place.registry.deregister("web/w1").await;
    place.wait_for("a.txt", "").await;
}

/// The same registry at another address, and what cuts all connections to it.
async fn relay(to: String) -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let cut = Arc::new(Notify::new());
    let cuts = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let (to, cut) = (to.clone(), cuts.clone());
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_has_one_templater() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    let _first = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for_log("live").await;
    let output = tokio::task::block_in_place(|| place.command(&["-t", "a.tmpl:a.txt"]).output().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is written by another templater (pid"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_reloaded_by_systemd() {
    let place = Place::new().await;
    place.write(
        "c.yaml",
        &format!("templates:\n  - {{inline: '{LIST_ONE_LINE}', destination: a, reload_unit: web.service}}\n"),
    );
    // In the place of systemd's own client, which wants systemd.
    fs::create_dir(place.at("bin")).unwrap();
    place.write("bin/systemctl", "#!/bin/sh\necho \"$@\" >> \"$0.log\"\n");
    fs::set_permissions(place.at("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.at("bin").display(), std::env::var("PATH").unwrap());
    place.registry.register("web/w1 10.0.0.1:80").await;
    let _templater = Templater::start(place.command(&["-c", "c.yaml"]).env("PATH", path), &place);
    place.wait_for("bin/systemctl.log", "reload web.service\n").await;
    place.wait_for_log("systemd has reloaded web.service").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_of_one_target_keep_their_distance_and_serve_all_files_that_are_live() {
    let place = Place::new().await;
    let entry = |name: &str| {
        format!(
            "  - {{inline: '{name} {LIST_ONE_LINE}', destination: {name}, reload_cmd: 'cat a b >> loaded; echo >> loaded', min_reload_interval: 10m}}\n"
        )
    };
    place.write("c.yaml", &format!("templates:\n{}{}", entry("a"), entry("b")));
    place.registry.register("web/w1 10.0.0.1:80").await;
    let mut templater = place.start(&["-c", "c.yaml"]);
    place.wait("the first reload", || place.at("loaded").exists()).await;
    place.registry.register("web/w2 10.0.0.1:80").await;
    // The file that is written waits for its reload; one that has not been written waits before that.
    place.wait("both are live", || place.read("a").contains("w1") && place.read("b").contains("w1")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(place.read("loaded").lines().count(), 1, "{}", place.read("loaded"));
    // At a stop nothing waits any more: whoever still has to reload does it now.
    templater.signal(Signal::SIGTERM);
    assert!(templater.ended().await.success());
    assert!(place.read("loaded").lines().last().is_some_and(|last| last.contains("b w1")), "{}", place.read("loaded"));
}

/// The figure that matters: run with `cargo test --release -p templater --test pipeline -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn latency_of_the_leading_edge() {
    let place = Place::new().await;
    place.write("a.tmpl", LIST);
    let _templater = place.start(&["-t", "a.tmpl:a.txt"]);
    place.wait_for_log("live").await;
    let mut times = Vec::new();
    for n in 0..50 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let started = Instant::now();
        place.registry.register(&format!("web/w{n:02} 10.0.0.1:80")).await;
        let expected = format!("w{n:02}=10.0.0.1:80\n");
        while !place.read("a.txt").ends_with(&expected) {
            std::hint::spin_loop();
        }
        times.push(started.elapsed());
    }
    times.sort();
    println!("change -> file live: median {:?}, p90 {:?}, max {:?}", times[25], times[45], times[49]);
}

/// A program of the machine that is ended with this value.
struct Proxy {
    child: Child,
}

impl Proxy {
    fn start(program: &Path, args: &[&str], place: &Place) -> Self {
        let log = File::create(place.at("proxy.log")).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(place.dir.path()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    let found = found.iter().map(|dir| Path::new(dir).join(program)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What `GET /` on `port` answers, as far as it comes.
async fn page(port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut text = String::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut text));
        let _ = read.await;
    }
    text
}

/// `proxy` runs on the rendered file; a change of the registry must show in what it answers.
async fn follows(place: &Place, port: u16) {
    for id in ["one", "two"] {
        place.registry.register(&format!("web/{id} 10.0.0.1:80")).await;
        let started = Instant::now();
        while !page(port).await.contains(id) {
            assert!(started.elapsed() < SOON, "{id} is not served\n{}\n{}", place.read("log"), place.read("proxy.log"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templater_with_a_template_alone_checks_and_reloads_a_running_haproxy() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let port = free_port();
    let text = format!(
        "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n\
         frontend web\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type text/plain string \
         \"[{{% for s in service(name='web') %}}{{{{ s.id }}}} {{% endfor %}}]\"\n{{{{ key(path='extra', default='') }}}}\n"
    );
    place.write("haproxy.tmpl", &text);
    // Nobody runs yet: the file is made for the one to come, checked, and that nothing was reloaded is said.
    let templater = place.start(&["--template", "haproxy.tmpl"]);
    place.wait_for_log("no running HAProxy uses this file; nothing to reload").await;
    drop(templater);
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    follows(&place, port).await;
    place.wait_for_log("HAProxy has reloaded it (pid ").await;
    place.registry.put("extra", "bogus line").await;
    place.wait_for_log("HAProxy refused the new").await;
    assert!(!place.read("haproxy.cfg").contains("bogus"));
    place.registry.put("extra", "# fine").await;
    place.registry.register("web/three 10.0.0.1:80").await;
    place.wait("the next good one goes live", || place.read("haproxy.cfg").contains("three")).await;
}

/// A server that answers every request with `word`; ends with the test.
async fn answering(word: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", word.len());
                let _ = stream.write_all(format!("{head}{word}").as_bytes()).await;
            });
        }
    });
    port
}

/// A file that the checker takes, and that cannot be loaded: somebody else has the port that it asks for.
async fn is_rolled_back(place: &Place, port: u16, config: &str) {
    place.wait("the proxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let before = place.read(config);
    let _templater = place.start(&["--template", &format!("{}.tmpl", config.split('.').next().unwrap())]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    place.registry.put("extra", &taken.local_addr().unwrap().port().to_string()).await;
    place.wait_for_log("the version before is back in use").await;
    assert_eq!(place.read(config), before);
    assert!(page(port).await.contains("200"), "{}", place.read("proxy.log"));
    drop(taken);
    // It is tried again, until it can be loaded.
    place.wait_for_log("all is well again").await;
    assert!(page(port).await.contains("200"), "{}", place.read("proxy.log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_nginx_cannot_load_is_rolled_back_and_tried_again() {
    let Some(nginx) = installed("nginx") else { return };
    let place = Place::new().await;
    let (port, dir) = (free_port(), place.dir.path().display().to_string());
    let text = format!(
        "daemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         listen 127.0.0.1:{{{{ key(path='extra') }}}};\n    return 200;\n  }}\n}}\n"
    );
    place.write("nginx.tmpl", &text);
    place.registry.put("extra", &free_port().to_string()).await;
    assert!(tokio::task::block_in_place(|| place.command(&["--once", "-t", "nginx.tmpl"]).status().unwrap()).success());
    let _proxy = Proxy::start(&nginx, &["-c", &format!("{dir}/nginx.conf")], &place);
    is_rolled_back(&place, port, "nginx.conf").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_haproxy_cannot_load_is_rolled_back_and_tried_again() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let port = free_port();
    let text = format!(
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend web\n  bind 127.0.0.1:{port}\n  \
         bind 127.0.0.1:{{{{ key(path='extra') }}}}\n  http-request return status 200\n"
    );
    place.write("haproxy.tmpl", &text);
    place.registry.put("extra", &free_port().to_string()).await;
    assert!(
        tokio::task::block_in_place(|| place.command(&["--once", "-t", "haproxy.tmpl"]).status().unwrap()).success()
    );
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    is_rolled_back(&place, port, "haproxy.cfg").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_is_told_of_its_servers_without_a_reload() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let (port, one, two) = (free_port(), answering("one").await, answering("two").await);
    let socket = place.at("h.sock");
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  \
         timeout server 1s\nfrontend web\n  bind 127.0.0.1:{port}\n  default_backend web\nbackend web\n  \
         server s1 {{{{ key(path='s1') }}}} weight 10\n  server s2 {{{{ key(path='s2') }}}}\n",
        socket.display()
    );
    place.write("haproxy.tmpl", &text);
    place.registry.put("s1", &format!("127.0.0.1:{one}")).await;
    place.registry.put("s2", "127.0.0.1:1 weight 10 disabled").await;
    assert!(
        tokio::task::block_in_place(|| place.command(&["--once", "-t", "haproxy.tmpl"]).status().unwrap()).success()
    );
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    place.wait("HAProxy takes commands", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    let serves = async |word: &str| {
        let started = Instant::now();
        while !page(port).await.ends_with(word) {
            assert!(
                started.elapsed() < SOON,
                "{word} is not served\n{}\n{}",
                place.read("log"),
                place.read("proxy.log")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What it runs is known once it has loaded it from us.
    place.registry.put("s1", &format!("127.0.0.1:{one} check")).await;
    place.wait_for_log("HAProxy has reloaded it").await;
    serves("one").await;

    place.registry.put("s1", &format!("127.0.0.1:{two} check")).await;
    place.wait_for_log("HAProxy was told of 1 servers, without a reload").await;
    serves("two").await;
    // A slot is filled, and the other one emptied: both are true of whoever asks from now on.
    place.registry.put("s2", &format!("127.0.0.1:{one} weight 10")).await;
    place.wait("the slot is filled", || place.log_count("without a reload") == 2).await;
    place.registry.put("s1", &format!("127.0.0.1:{two} check disabled")).await;
    place.wait("the other is emptied", || place.log_count("without a reload") == 3).await;
    for _ in 0..5 {
        assert!(page(port).await.ends_with("one"), "{}", place.read("log"));
    }
    assert_eq!(place.log_count("HAProxy has reloaded it"), 1, "{}", place.read("log"));
    // Another structure takes a reload, and leaves nothing behind of what was told before.
    place.registry.put("s1", &format!("127.0.0.1:{two} check inter 9s")).await;
    place.wait("it is reloaded", || place.log_count("HAProxy has reloaded it") == 2).await;
    serves("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_with_slots_is_scaled_without_a_reload() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let (port, socket) = (free_port(), place.at("h.sock"));
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  \
         timeout server 1s\nfrontend web\n  bind 127.0.0.1:{port}\n  default_backend web\nbackend web\n\
         {{% for s in service(name='web') | slots(n=4) %}}  server s{{{{ s.slot }}}} {{{{ s | hostport }}}}\
         {{% if not s.used %}} disabled{{% endif %}}\n{{% endfor %}}",
        socket.display()
    );
    place.write("haproxy.tmpl", &text);
    let status = tokio::task::block_in_place(|| place.command(&["--once", "-t", "haproxy.tmpl"]).status().unwrap());
    assert!(status.success());
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    place.wait("HAProxy takes commands", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    let register = async |word: &'static str| {
        place.registry.register(&format!("web/{word} 127.0.0.1:{}", answering(word).await)).await;
    };
    // What it runs is known once it has loaded it from us.
    register("one").await;
    place.wait_for_log("HAProxy has reloaded it").await;
    for (told, word) in ["two", "three"].into_iter().enumerate() {
        register(word).await;
        place.wait("a slot is filled", || place.log_count("without a reload") == told + 1).await;
    }
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let page = page(port).await;
        met.extend(["one", "two", "three"].into_iter().filter(|word| page.ends_with(word)));
    }
    assert_eq!(met.len(), 3, "{met:?}\n{}", place.read("log"));
    place.registry.deregister("web/two").await;
    place.wait("its slot is empty", || place.log_count("without a reload") == 3).await;
    for _ in 0..4 {
        assert!(!page(port).await.ends_with("two"), "{}", place.read("log"));
    }
    assert_eq!(place.log_count("HAProxy has reloaded it"), 1, "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_a_signal_would_end_is_not_signalled() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let text = |n: u32| {
        format!(
            "# {n}\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend web\n  bind unix@{}\n",
            place.at("sock").display()
        )
    };
    place.write("haproxy.cfg", &text(1));
    place.write("haproxy.tmpl", &text(2));
    let mut proxy = Proxy::start(&haproxy, &["-f", "haproxy.cfg"], &place);
    place.wait("HAProxy listens", || place.at("sock").exists()).await;
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    place.wait_for_log("start it with -W or -Ws").await;
    assert!(proxy.child.try_wait().unwrap().is_none(), "it lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn templater_with_a_template_alone_checks_and_reloads_a_running_nginx() {
    let Some(nginx) = installed("nginx") else { return };
    let place = Place::new().await;
    let port = free_port();
    let dir = place.dir.path().display().to_string();
    let text = format!(
        "daemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ return 200 \"[{{% for s in service(name='web') %}}{{{{ s.id }}}} {{% endfor %}}]\"; }}\n  }}\n}}\n"
    );
    place.write("nginx.tmpl", &text);
    assert!(tokio::task::block_in_place(|| place.command(&["--once", "-t", "nginx.tmpl"]).status().unwrap()).success());
    let _proxy = Proxy::start(&nginx, &["-c", &format!("{dir}/nginx.conf")], &place);
    let _templater = place.start(&["--template", "nginx.tmpl"]);
    follows(&place, port).await;
    place.wait_for_log("nginx has reloaded it (pid ").await;
}
