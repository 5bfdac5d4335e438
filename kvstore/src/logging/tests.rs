use std::time::Duration;

use tracing::{Level, subscriber::with_default};

use super::*;

/// A log that only followers see, and the subscriber to say something to.
fn log() -> (Logs, impl Subscriber + Send + Sync) {
    let lines = broadcast::Sender::new(MAX_BEHIND);
    let (filter, handle) = reload::Layer::new(followed(LevelFilter::OFF));
    let subscriber = tracing_subscriber::registry().with(Publish(lines.clone()).with_filter(filter));
    let set_followed = move |level| drop(handle.reload(followed(level)));
    (Logs::new(lines, Box::new(|_| ()), Box::new(set_followed)), subscriber)
}

async fn next(follower: &mut Follower) -> Option<Result<Arc<Line>, u64>> {
    tokio::time::timeout(Duration::from_millis(10), follower.next()).await.ok().flatten()
}

#[tokio::test]
async fn followers_see_what_they_asked_for() {
    let (logs, subscriber) = log();
    let mut quiet = logs.follow(LevelFilter::WARN).unwrap();
    let mut chatty = logs.follow(LevelFilter::DEBUG).unwrap();
    with_default(subscriber, || {
        tracing::info!(node = "a b", count = 3, "one\ntwo");
        tracing::warn!("loud");
        tracing::trace!("too small");
        tracing::debug!(target: "hyper", "a library's own");
    });
    let line = next(&mut chatty).await.unwrap().unwrap();
    assert!(
        line.text().ends_with(" [INFO]  kvstore::logging::tests: one two: node=\"a b\" count=3\n"),
        "{}",
        line.text()
    );
    let json: Value = serde_json::from_str(&line.json()).unwrap();
    assert_eq!(
        (&json["@level"], &json["@message"], &json["node"]),
        (&"info".into(), &"one\ntwo".into(), &"a b".into())
    );
    assert_eq!(next(&mut chatty).await.unwrap().unwrap().level, Level::WARN);
    assert!(next(&mut chatty).await.is_none(), "below its level, or a library's");
    assert_eq!(next(&mut quiet).await.unwrap().unwrap().level, Level::WARN);
    assert!(next(&mut quiet).await.is_none());
}

#[tokio::test]
async fn who_is_too_slow_is_told_how_much_is_lost() {
    let (logs, subscriber) = log();
    let mut slow = logs.follow(LevelFilter::INFO).unwrap();
    with_default(subscriber, || (0..MAX_BEHIND + 5).for_each(|n| tracing::info!(n, "a line")));
    assert_eq!(next(&mut slow).await.unwrap().unwrap_err(), 5);
}

#[test]
fn nobody_following_leaves_nothing_behind_and_the_number_is_bounded() {
    let (logs, subscriber) = log();
    let enabled = || tracing::enabled!(Level::DEBUG);
    with_default(subscriber, || {
        assert!(!enabled());
        let followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| logs.follow(LevelFilter::DEBUG).unwrap()).collect();
        assert!(logs.follow(LevelFilter::DEBUG).is_err() && enabled());
        drop(followers);
        assert!(!enabled() && logs.0.followers.lock().unwrap().levels.is_empty());
    });
}

use serde_json::Value;
