//! DNS: a thousand services of three instances, asked for by 8 clients, beside dnsmasq, Knot DNS and a bare echo, in turns.
//! Each server has the same one core, and so one worker; who asks takes what is left.

mod dnsperf;
pub(crate) mod echo;
mod latency;
mod questions;
mod servers;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::Duration,
};

use flotilla_tests::registry::Registry;
use nix::unistd::Pid;

use crate::{
    catalog,
    cpu::{self, OneCore},
    figures::Row,
    peers,
    wrk::Rates,
};
use echo::Echo;
use questions::Kind;

/// What a question may cost of a core, or as many times what it costs the echo if that is more: where the first was set
/// the echo took 2.35 microseconds.
const MICROS: f64 = 3.5;
const OF_ECHO: f64 = 1.5;

pub(crate) async fn answered() -> Vec<Row> {
    let dir = peers::dir();
    let mut registry = {
        let _one = OneCore::begin();
        Registry::in_memory().await
    };
    catalog::fill(&registry.client).await;
    let a = Contest::of(Kind::A, &mut registry, dir.path()).await;
    let reached = a.turns().await;
    let srv = Contest::of(Kind::Srv, &mut registry, dir.path()).await;
    let mut rows = a.rows(&reached);
    rows.extend(srv.rows(&srv.turns().await));
    // Last, since it changes what the others were given.
    rows.extend(latency::at_half(&a, &reached, &registry).await);
    rows
}

/// Replies a second to questions for A of so many of the small services.
pub(crate) async fn a_second(registry: &Registry, services: usize) -> f64 {
    let dir = peers::dir();
    let questions = Kind::A.file_of(catalog::small(services), dir.path());
    dnsperf::run(registry.dns_port(), &questions).await.rate
}

/// Those that take turns, by their place in each turn.
#[derive(Clone, Copy)]
enum Who {
    Ours,
    Dnsmasq,
    Knot,
    Echo,
}

/// A server as it is seen from outside.
#[derive(Clone, Copy)]
struct Server {
    pid: Pid,
    port: u16,
}

/// What one of them did in all its turns.
#[derive(Clone, Copy, Default)]
struct Done {
    cpu: Duration,
    replies: usize,
    lost: usize,
}

impl Done {
    #[allow(clippy::cast_precision_loss)] // far below what a float holds exactly
    fn micros_each(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.replies.max(1) as f64
    }
}

/// Servers that say the same, and what they are asked.
struct Contest {
    kind: Kind,
    questions: PathBuf,
    servers: [Server; 4],
    done: [Cell<Done>; 4],
    _running: (servers::Peer, servers::Peer, Echo),
}

impl Contest {
    async fn of(kind: Kind, registry: &mut Registry, dir: &Path) -> Self {
        let (port, questions) = (registry.dns_port(), kind.file(dir));
        let reply_bytes = questions::ask(port, &kind.packet()).await.unwrap_or_else(|e| panic!("{e}")).len();
        let (dnsmasq, knot, echo) = {
            let _one = OneCore::begin();
            (servers::dnsmasq(kind), servers::knot(), Echo::start(reply_bytes))
        };
        questions::all_say_the_same(kind, [port, dnsmasq.port, knot.port]).await;
        echo.answers(&kind.packet()).await;
        let servers = [
            (registry.program().pid(), port),
            (dnsmasq.program.pid(), dnsmasq.port),
            (knot.program.pid(), knot.port),
            (echo.program.pid(), echo.port),
        ];
        let servers = servers.map(|(pid, port)| Server { pid, port });
        Self { kind, questions, servers, done: Default::default(), _running: (dnsmasq, knot, echo) }
    }

    fn server(&self, who: Who) -> Server {
        self.servers[who as usize]
    }

    async fn turns(&self) -> Rates {
        let all = [Who::Ours, Who::Dnsmasq, Who::Knot, Who::Echo];
        Rates::in_turns(&all, async |who| {
            let (server, done) = (self.server(who), &self.done[who as usize]);
            let before = cpu::of(server.pid);
            let ran = dnsperf::run(server.port, &self.questions).await;
            let Done { cpu, replies, lost } = done.get();
            let cpu = cpu + cpu::of(server.pid).saturating_sub(before);
            done.set(Done { cpu, replies: replies + ran.replies, lost: lost + ran.lost });
            ran.rate
        })
        .await
    }

    fn rows(&self, rates: &Rates) -> Vec<Row> {
        let to = |who: Who| rates.ratio(Who::Ours as usize, who as usize);
        let micros = |who: Who| self.done[who as usize].get().micros_each();
        let rate = |what, who: Who| {
            Row::rate(what, rates.of(who as usize)).note(format!("{:.2} µs of a core each", micros(who)))
        };
        let (ours, limit) = (micros(Who::Ours), MICROS.max(OF_ECHO * micros(Who::Echo)));
        let lost = self.done[Who::Ours as usize].get().lost;
        vec![
            Row::ratio(self.kind.what(), to(Who::Dnsmasq), "dnsmasq", 1.2),
            Row::ratio("  and", to(Who::Knot), "Knot DNS", 0.95),
            Row::ratio("  and", to(Who::Echo), "a bare echo", 0.85),
            rate("  kvstore, replies a second", Who::Ours),
            rate("  dnsmasq", Who::Dnsmasq),
            rate("  Knot DNS", Who::Knot),
            rate("  bare echo of packets as long", Who::Echo),
            Row {
                what: "  kvstore, of a core each",
                found: format!("{ours:.2} µs"),
                bound: Some((format!("under {MICROS} µs or {OF_ECHO} of the echo's: {limit:.2}"), ours < limit)),
            },
            Row::none("  kvstore, replies lost", lost),
        ]
    }
}
