//! When commands check and reload, how often, and what becomes of a reload that fails or is cut short.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::place::{LIST, LIST_ONE_LINE, Place, Templater};

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
