//! What is registered is in the file: which data a template follows, and which texts are written.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::place::{LIST, Place};

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
