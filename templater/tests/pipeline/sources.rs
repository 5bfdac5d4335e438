//! What files come from is changed while the templater runs: templates, what they read, the configuration.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;

use crate::place::{LIST, LIST_ONE_LINE, Place};

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

#[tokio::test(flavor = "multi_thread")]
async fn hup_with_a_broken_template_leaves_everything_as_it_was() {
    let place = Place::new().await;
    let entry = |name: &str, text: &str| format!("  - {{inline: '{text}', destination: {name}}}\n");
    place.write("c.yaml", &format!("templates:\n{}", entry("a", LIST_ONE_LINE)));
    let templater = place.start(&["-c", "c.yaml"]);
    place.wait_for_log("live").await;
    place.write("c.yaml", &format!("templates:\n{}{}", entry("a", "new"), entry("b", "{{ nope() }}")));
    templater.signal(Signal::SIGHUP);
    place.wait_for_log("the new configuration is not used; the old one stays").await;
    assert!(place.read("log").contains("Unknown function `nope`"), "{}", place.read("log"));
    place.registry.register("web/w1 10.0.0.1:80").await;
    place.wait_for("a", "w1").await;
    assert!(!place.at("b").exists());
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
