//! The templater as a process: signals, the program that it runs beside, systemd, the pid file, and what it tells of itself.

use std::{os::unix::net::UnixDatagram, process::Command};

use nix::sys::signal::Signal;

use crate::{
    place::{LIST, LIST_ONE_LINE, Place, SOON, Templater},
    proxies::{follows, free_port, installed, nginx_conf},
};

/// A program that says what it sees, and ends with 7 on TERM.
const PROGRAM: &str = "#!/bin/sh\n\
    say() { echo \"$@\" >> said; }\n\
    trap 'say reload; cat a >> said; echo >> said' HUP\n\
    trap 'say usr1' USR1\n\
    trap 'say term; exit 7' TERM\n\
    say start; cat a >> said; echo >> said\n\
    while :; do sleep 0.02; done\n";

/// A registry with an instance w1, the program, and a templater that keeps `a` and runs it with these keys.
async fn with_program(keys: &str) -> (Place, Templater) {
    let place = Place::new().await;
    place.write("program", PROGRAM);
    place.registry.register("web/w1 10.0.0.1:80").await;
    let exec = format!("exec: {{command: [sh, ./program]{keys}}}\n");
    place.write("c.yaml", &format!("{exec}templates:\n  - {{inline: '{LIST_ONE_LINE}', destination: a}}\n"));
    let templater = place.start(&["-c", "c.yaml"]);
    (place, templater)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_starts_with_live_files_is_told_of_changes_and_its_end_is_ours() {
    let (place, mut templater) = with_program(", reload_signal: HUP").await;
    place.wait_for("said", "start\nw1\n").await;
    place.registry.register("web/w2 10.0.0.1:80").await;
    place.wait_for("said", "start\nw1\nreload\nw1w2\n").await;
    templater.signal(Signal::SIGUSR1);
    place.wait_for("said", "start\nw1\nreload\nw1w2\nusr1\n").await;
    // It is asked to end, and that is no failure.
    templater.signal(Signal::SIGTERM);
    assert_eq!(templater.ended().await.code(), Some(0));
    assert!(place.read("said").ends_with("usr1\nterm\n"), "{}", place.read("said"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_reload_signal_is_started_anew_and_its_end_by_itself_has_its_code() {
    let (place, mut templater) = with_program("").await;
    place.wait_for("said", "start\nw1\n").await;
    place.registry.register("web/w2 10.0.0.1:80").await;
    place.wait_for("said", "start\nw1\nterm\nstart\nw1w2\n").await;
    place.write("program", "exit 5");
    place.registry.register("web/w3 10.0.0.1:80").await;
    assert_eq!(templater.ended().await.code(), Some(5), "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_end_is_killed_after_its_time_and_at_once_on_a_second_term() {
    for (timeout, terms) in [("100ms", 1), ("10m", 2)] {
        let place = Place::new().await;
        place.write("program", "trap '' TERM; echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.02; done");
        place.write("a.tmpl", "x");
        let args = ["-t", "a.tmpl", "--exec", "sh ./program", "--exec-kill-timeout", timeout];
        let mut templater = place.start(&args);
        place.wait("it runs", || place.at("pid").exists()).await;
        templater.signal(Signal::SIGTERM);
        place.wait_for_log("stopping").await;
        if terms == 2 {
            templater.signal(Signal::SIGTERM);
        }
        assert_eq!(templater.ended().await.code(), Some(terms - 1), "{}", place.read("log"));
        let proc = format!("/proc/{}", place.read("pid").trim());
        place.wait("it is gone", || !std::path::Path::new(&proc).exists()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_told() {
    let place = Place::new().await;
    place.write("c.yaml", "exec: {command: [/no/such/program]}\ntemplates: [{inline: x, destination: a}]\n");
    let mut templater = place.start(&["-c", "c.yaml"]);
    assert_eq!(templater.ended().await.code(), Some(127));
    assert!(place.read("log").contains("the program of --exec cannot be started"), "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_runs_beside_is_reloaded_not_restarted() {
    let Some(nginx) = installed("nginx") else { return };
    let place = Place::new().await;
    let port = free_port();
    let server = "return 200 \"[{% for s in service(name='web') %}{{ s.id }}{% endfor %}]\";";
    place.write("nginx.tmpl", &nginx_conf(&place, port, server));
    let exec = format!("{} -c {}", nginx.display(), place.at("nginx.conf").display());
    let mut templater = place.start(&["-t", "nginx.tmpl", "--exec", &exec]);
    follows(&place, port).await;
    place.wait_for_log("nginx has reloaded it (pid ").await;
    assert!(!place.read("log").contains("started anew"), "{}", place.read("log"));
    templater.signal(Signal::SIGTERM);
    assert!(templater.ended().await.success());
    assert!(!place.at("nginx.pid").exists(), "nginx ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_waits_for_all_files() {
    let place = Place::new().await;
    place.write("c.yaml", "exec: {command: touch started}\ntemplates:\n  - {inline: x, destination: a}\n  - {inline: '{{ key(path=\"k\") }}', destination: b}\n");
    let mut templater = place.start(&["-c", "c.yaml"]);
    place.wait_for_log("key k is absent").await;
    place.wait_for("a", "x").await;
    assert!(!place.at("started").exists());
    place.registry.put("k", "1").await;
    assert_eq!(templater.ended().await.code(), Some(0));
    assert!(place.at("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_and_a_pid_file_tell_that_it_is_ready() {
    let place = Place::new().await;
    place.write("a.tmpl", "{{ key(path='k') }}");
    let socket = UnixDatagram::bind(place.at("notify")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // All that is heard until this, and with it.
    let heard = |wanted: &str| {
        let (mut buffer, mut all) = ([0; 512], String::new());
        while !all.contains(wanted) {
            let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{wanted}: {e}\n{}", place.read("log")));
            all += &String::from_utf8_lossy(&buffer[..length]);
        }
        all
    };
    let mut command = place.command(&["-t", "a.tmpl:a:env > seen", "--pid-file", "pid"]);
    let mut templater = Templater::start(command.env("NOTIFY_SOCKET", place.at("notify")), &place);
    let before = tokio::task::block_in_place(|| heard("key k is absent"));
    assert!(!before.contains("READY"), "{before}");
    place.wait_for("pid", &format!("{}\n", templater.child.id())).await;
    place.registry.put("k", "1").await;
    tokio::task::block_in_place(|| heard("READY=1"));
    assert!(!place.read("seen").contains("NOTIFY_SOCKET"), "systemd's socket is not for commands");
    templater.signal(Signal::SIGTERM);
    tokio::task::block_in_place(|| heard("STOPPING=1"));
    assert!(templater.ended().await.success());
    assert!(!place.at("pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_does_is_told_to_whoever_asks() {
    let mut place = Place::new().await;
    place.write("a.tmpl", "{{ key(path='k') }}");
    let _templater = place.start(&["-t", "a.tmpl:a", "--http-addr", "127.0.0.1:0"]);
    place.wait_for_log("health and metrics at http://").await;
    let log = place.read("log");
    let address = log.split_once("health and metrics at ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let told = async |path: &str, words: &[&str]| {
        for _ in 0..600 {
            let answer = reqwest::get(format!("{address}{path}")).await.unwrap();
            let text = format!("{} {}", answer.status().as_u16(), answer.text().await.unwrap());
            if words.iter().all(|word| text.contains(word)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{words:?} are not told at {path}");
    };
    let health = || {
        let asked = Command::new(env!("CARGO_BIN_EXE_templater"))
            .args(["health", "--http-addr", address.trim_start_matches("http://")])
            .output()
            .unwrap();
        (asked.status.code(), String::from_utf8(asked.stderr).unwrap())
    };
    told("/healthz", &["503 ", "/a: key k is absent"]).await;
    let (code, why) = health();
    assert!(code == Some(1) && why.contains("/a: key k is absent"), "{code:?} {why}");
    place.registry.put("k", "1").await;
    told("/healthz", &["200 ok"]).await;
    assert_eq!(health(), (Some(0), String::new()));
    told("/metrics", &["templater_registry_up 1", "/a\",result=\"written\"} 1", "templater_texts{state=\"live\"} 1"])
        .await;
    place.registry.stop().await;
    told("/healthz", &["503 ", "the registry does not answer"]).await;
    told("/metrics", &["templater_registry_up 0", "templater_last_good_timestamp_seconds{file="]).await;
    told("/", &["404 ", "there are /healthz and /metrics"]).await;
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
