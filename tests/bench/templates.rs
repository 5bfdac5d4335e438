//! Large templates and many of them: what a change costs that touches a list of 1,000 services, or one template of 200.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use flotilla_tests::{program::Launch, registry::Registry};
use kvstore_client::KvPut;

use crate::{
    catalog,
    figures::{Row, Times},
};

const ROUNDS: usize = 30;
const LIMIT: Duration = Duration::from_millis(50);
const TEMPLATES: usize = 200;
/// Longer than any wait for quiet, so that each change is a first one after a pause.
const PAUSE: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn touched() -> Vec<Row> {
    vec![large().await, many().await]
}

/// Every instance of every service in one file.
async fn large() -> Row {
    let registry = Registry::in_memory().await;
    catalog::fill(&registry.client).await;
    let times = all_in_one(&registry, ROUNDS).await;
    Row::within("1,003 services in a file, change -> live", &times, LIMIT, "all 3,103 instances rendered again")
}

/// From a change until the file is live that has all that the registry has.
pub(crate) async fn all_in_one(registry: &Registry, rounds: usize) -> Times {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (template, file) = (dir.path().join("all.tmpl"), dir.path().join("all"));
    // What looks like HAProxy's would be checked by HAProxy, which takes longer than all else.
    let text = "{% for s in services() %}\n{{ s.name }}:\n{% for i in service(name=s.name) %}  {{ i.id }} {{ i.address }}:{{ i.port }} \
                {{ i.weights.passing }}\n{% endfor %}{% endfor %}# {{ key(path=\"round\", default=\"none\") }}\n";
    fs::write(&template, text).expect("our own directory");
    let templater = Launch::ours("templater").args(["--registry", &registry.url(), "--template"]).args([&template]);
    let templater = templater.start();
    until(&file, "# none\n", &|| templater.log());
    let mut times = Times::default();
    for round in 0..rounds {
        tokio::time::sleep(PAUSE).await;
        let sent = Instant::now();
        registry.client.kv_put("round", round.to_string(), KvPut::default()).await.expect("the registry answers");
        until(&file, &format!("# {round}\n"), &|| templater.log());
        times.push(sent.elapsed());
    }
    times
}

/// One of many templates reads what has changed.
async fn many() -> Row {
    let registry = Registry::in_memory().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    fs::create_dir(dir.path().join("t")).expect("our own directory");
    for n in 0..TEMPLATES {
        let text = format!("{{{{ key(path=\"k{n}\", default=\"none\") }}}}\n");
        fs::write(dir.path().join(format!("t/{n}.tmpl")), text).expect("our own directory");
    }
    let launch = Launch::ours("templater").dir(dir.path()).args(["--registry", &registry.url(), "--template", "t:out"]);
    fs::create_dir(dir.path().join("out")).expect("our own directory");
    let templater = launch.start();
    let file = |n: usize| dir.path().join(format!("out/{n}"));
    (0..TEMPLATES).for_each(|n| until(&file(n), "none\n", &|| templater.log()));
    tokio::time::sleep(PAUSE).await;
    let written = || (0..TEMPLATES).map(|n| fs::metadata(file(n)).and_then(|m| m.modified()).ok()).collect::<Vec<_>>();
    let before = written();
    registry.client.kv_put("k7", "new", KvPut::default()).await.expect("the registry answers");
    until(&file(7), "new\n", &|| templater.log());
    tokio::time::sleep(PAUSE).await;
    let changed = written().into_iter().zip(before).filter(|(after, before)| after != before).count();
    let others = changed.checked_sub(1).expect("the one that was touched is written");
    Row::none("200 templates, others written with one", others)
}

/// Waits until the file ends so.
fn until(path: &Path, end: &str, log: &dyn Fn() -> String) {
    let start = Instant::now();
    while !fs::read_to_string(path).is_ok_and(|text| text.ends_with(end)) {
        assert!(start.elapsed() < PATIENCE, "{} did not change:\n{}", path.display(), log());
        std::thread::sleep(Duration::from_micros(200));
    }
}
