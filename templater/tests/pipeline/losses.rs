//! A registry that is away, or says that much is gone: what is believed, and what files say meanwhile.

use std::{fs, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{
    place::{LIST, Place},
    registry::Registry,
};

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
