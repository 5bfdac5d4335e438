//! One TCP stream and four through the overlay's tunnel, what it costs, and how long a packet takes, beside the tunnels
//! that Debian has and the bare link: two network namespaces joined by a cable, all tunnels up, in turns.

mod kinds;
mod memory;
pub(crate) mod ours;
mod traffic;

use std::{collections::BTreeMap, time::Duration};

use crate::figures::{Row, Times};

use kinds::{Kind, Up};
use traffic::{Run, pings, stream};

const ROUNDS: usize = 3;
const SECONDS: u32 = 2;
const PINGS: u32 = 100;
const PINGS_LOADED: u32 = 30;

/// What was measured of one kind.
#[derive(Default)]
struct Found {
    one: Vec<Run>,
    four: Vec<Run>,
    idle: Times,
    loaded: Times,
}

pub(crate) async fn carried() -> Vec<Row> {
    tokio::task::spawn_blocking(measured).await.expect("it returns rows, or panics and tells why")
}

fn measured() -> Vec<Row> {
    let ups: Vec<_> = Kind::ALL.into_iter().map(Up::start).collect();
    let first = ups.iter().find(|up| up.kind == Kind::Ours).and_then(|up| up.first_packet).expect("it is one of all");
    let mut found: BTreeMap<Kind, Found> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for up in &ups {
            let found = found.entry(up.kind).or_default();
            found.idle = found.idle.iter().chain(pings(up, PINGS, "0.01")).collect();
            found.one.push(stream(up, 1, SECONDS));
            found.four.push(stream(up, 4, SECONDS));
            let mut server = traffic::load(up, SECONDS);
            found.loaded = found.loaded.iter().chain(pings(up, PINGS_LOADED, "0.05")).collect();
            server.end();
        }
    }
    drop(ups);
    let mut rows = told(&found);
    rows.extend(bounds(&found));
    rows.push(first_packet(first));
    rows.extend(memory::with_peers());
    rows
}

fn told(found: &BTreeMap<Kind, Found>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, found) in found {
        let (one, four) = (middle(&found.one), middle(&found.four));
        rows.push(Row::told(kind.name(), &format!("one stream {one}; four {four}")));
        let round = |times: &Times| format!("{:.2}", times.median().as_secs_f64() * 1000.0);
        let found = format!("round trip {} ms idle, {} ms beside a stream", round(&found.idle), round(&found.loaded));
        rows.push(Row::told("", &found));
    }
    rows
}

fn bounds(found: &BTreeMap<Kind, Found>) -> Vec<Row> {
    let rate = |kind| middle(&found[&kind].one).gbits;
    let ours = middle(&found[&Kind::Ours].one);
    let idle = |kind: Kind| found[&kind].idle.median().as_secs_f64();
    vec![
        Row::ratio("one stream", ours.gbits / rate(Kind::WireguardGo), Kind::WireguardGo.name(), 3.0),
        Row::ratio("", ours.gbits / rate(Kind::Nebula), Kind::Nebula.name(), 2.0),
        Row {
            what: "cores for each Gbit/s, both ends",
            found: format!("{:.2}", ours.cores_per_gbit()),
            bound: Some(("at most 0.7".into(), ours.cores_per_gbit() <= 0.7)),
        },
        Row::at_most("idle round trip", idle(Kind::Ours) / idle(Kind::WireguardGo), Kind::WireguardGo.name(), 1.0),
    ]
}

fn first_packet(took: Duration) -> Row {
    const LIMIT: Duration = Duration::from_millis(50);
    Row {
        what: "first packet to a new peer",
        found: format!("{:.1} ms", took.as_secs_f64() * 1000.0),
        bound: Some((format!("under {} ms", LIMIT.as_millis()), took < LIMIT)),
    }
}

/// The run whose rate is in the middle.
fn middle(runs: &[Run]) -> Run {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.gbits.total_cmp(&b.gbits));
    runs[runs.len() / 2].clone()
}
