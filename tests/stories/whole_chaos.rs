//! Everything at once: two hosts on which containers come and go while all that there is fails, one after the other and
//! together; what is registered, answered and balanced must be what runs.
//!
//! A round has two parts, for what is promised of them differs. First there are *changes*, made on purpose as an operator
//! makes them, on both hosts at a time: containers are replaced, added, drained and removed, restarted, and services come
//! and go so that proxies are reloaded again and again. Nothing is broken meanwhile, so not one request may fail. Then there are
//! *faults*, in two bouts: containers are killed, and so are dockerd, registry, replica, registrar, templater and overlay; the
//! link between the hosts is cut, and a template is edited so that its proxy would refuse it. They overlap as it comes. Then
//! a request may fail only if it was in flight on who was killed or cut off just then: its answer had begun, as a header of
//! the proxy shows, and who died meanwhile is known. One that nobody had begun to answer may not, since the proxy can try it
//! elsewhere. So what is killed and serves no visitor, such as the registry, excuses nothing.
//!
//! After each part all is mended, and once it is quiet everybody must say the same: both Dockers (and the kernel's list of
//! processes), both registries by HTTP and DNS, the running configuration of both proxies, and those who answer through
//! them. All the time each version of both live files is judged by `haproxy -c`.
//!
//! `SEED` gives the same changes and faults again, in the same order. `WHOLE_SECONDS` says for how long; `make chaos-whole`
//! takes ten minutes.

mod agree;
mod live_file;
mod site;
mod visitors;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Bed, Cut},
    needs::Need,
    story::{number, seed},
    web,
    whole::{
        faults::{Fault, HOSTS, Kind, Planned, bouts, changes},
        requests::{Death, Judged, Request, judge},
    },
};
use futures_util::FutureExt as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use site::{Machine, Site};
use visitors::Visitors;

/// The story without `WHOLE_SECONDS`: one round.
const SHORT: u64 = 0;
/// From so many seconds on each kind must have come [`OFTEN`] times.
const LONG: u64 = 600;
const OFTEN: usize = 10;
/// Services that come and go in one storm, and what is between two of their steps: more than templater waits for quiet.
const STORM: usize = 6;
const GUST: Duration = Duration::from_millis(120);

pub(crate) fn needs() -> Vec<Need> {
    let programs = ["nft", "iptables", "haproxy", "curl", "dig"].map(Need::Program);
    [&Bed::NEEDS[..], &Need::DOCKER, &[Need::Tun], &programs].concat()
}

/// How long it takes, with the time to start and to end.
pub(crate) fn limit() -> Duration {
    2 * length() + Duration::from_mins(8)
}

fn length() -> Duration {
    Duration::from_secs(number("WHOLE_SECONDS").unwrap_or(SHORT))
}

pub(crate) async fn story() {
    let seed = seed();
    live_file::finds_bad_ones();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut whole = Whole::start().await;
    let start = Instant::now();
    whole.quiet("all is there").await;
    whole.visit();
    while start.elapsed() < length() || whole.rarest() < often() {
        let round = AssertUnwindSafe(whole.round(&mut rng)).catch_unwind().await;
        if let Err(why) = round {
            println!("  it was in round {} of SEED={seed}", whole.rounds);
            for machine in &whole.site.machines {
                println!("{}", machine.logs());
            }
            std::panic::resume_unwind(why);
        }
        whole.rounds += 1;
    }
    let took = start.elapsed();
    whole.end(took).await;
}

fn is_long() -> bool {
    length() >= Duration::from_mins(2)
}

/// How often each kind is to come.
fn often() -> usize {
    if length() >= Duration::from_secs(LONG) { OFTEN } else { 1 }
}

struct Whole {
    visitors: Option<Visitors>,
    site: Site,
    rounds: usize,
    counts: BTreeMap<Kind, usize>,
    /// Of the changes and of the faults.
    judged: [Judged; 2],
    slowest: Duration,
}

impl Whole {
    async fn start() -> Self {
        let (site, judged) = (Site::start().await, <[Judged; 2]>::default());
        Self { visitors: None, site, rounds: 0, counts: BTreeMap::new(), judged, slowest: Duration::ZERO }
    }

    fn visit(&mut self) {
        let urls: Vec<_> = self.site.machines.iter().map(Machine::url).collect();
        self.visitors = Some(Visitors::begin(&self.site.bed, &urls));
    }

    async fn round(&mut self, rng: &mut StdRng) {
        let start = Instant::now();
        let lists = changes(rng, self.site.running(), usize::from(is_long()));
        for fault in lists.iter().flatten() {
            *self.counts.entry(fault.kind).or_default() += 1;
        }
        let [first, second] = &mut self.site.machines[..] else { unreachable!("there are two") };
        let bed = &self.site.bed;
        tokio::join!(change(bed, first, &lists[0]), change(bed, second, &lists[1]));
        let changed = self.quiet("after changes").await;
        self.judge(0, &[]).await;

        let mut quiet = Vec::new();
        for plan in bouts(rng, is_long()) {
            let mut deaths = Vec::new();
            self.fail(&plan, &mut deaths).await;
            for machine in &mut self.site.machines {
                machine.fill_up().await;
            }
            quiet.push(self.quiet("after faults").await.as_secs_f64());
            self.judge(1, &deaths).await;
        }
        println!(
            "  round {}: {:.1} s; quiet after changes for {:.1} s, after faults for {quiet:.1?} s",
            self.rounds,
            start.elapsed().as_secs_f64(),
            changed.as_secs_f64()
        );
    }

    /// Waits until all agree; how long that took.
    async fn quiet(&mut self, when: &str) -> Duration {
        let took = agree::all_agree(&mut self.site).await;
        let took = took.unwrap_or_else(|difference| panic!("round {}, {when}: {difference}", self.rounds));
        self.slowest = self.slowest.max(took);
        for machine in &self.site.machines {
            let found = machine.live.found();
            assert!(found.bad.is_empty(), "a bad file was live on h{}: {:#?}", machine.number + 1, found.bad);
        }
        took
    }

    /// Judges all requests since it was done last.
    async fn judge(&mut self, part: usize, deaths: &[Death]) {
        let requests: Vec<Request> = self.visitors.as_ref().expect("they have come").taken().await;
        let Judged { requests, in_flight, lost, guilty } = judge(&requests, deaths);
        let all = &mut self.judged[part];
        all.requests += requests;
        all.in_flight += in_flight;
        all.lost += lost;
        let what = ["changes", "faults"][part];
        println!("  {what}: {requests} requests; in flight on who died {in_flight}, of which failed {lost}");
        for request in &guilty {
            println!(
                "  GUILTY h{}: {:?} of {:?}, {:?} ago, after {:?}",
                request.host + 1,
                request.failed,
                request.server,
                request.ended.elapsed(),
                request.ended - request.begun
            );
        }
        assert!(requests > 0, "nobody asked anything");
        assert!(
            guilty.is_empty(),
            "round {}, {what}: {} requests failed, though nobody died who was answering them",
            self.rounds,
            guilty.len()
        );
    }

    /// Lets each fault begin and end in its turn, with the planned time between two turns, however long one takes.
    async fn fail(&mut self, plan: &[Planned], deaths: &mut Vec<Death>) {
        let (start, mut now) = (Instant::now(), Duration::ZERO);
        let mut steps: Vec<_> = plan.iter().flat_map(|one| [(one.at, true, one), (one.ends(), false, one)]).collect();
        steps.sort_by_key(|(at, ..)| *at);
        for (at, begins, one) in steps {
            sleep(at.saturating_sub(now)).await;
            now = at;
            if !begins && one.lasts.is_zero() {
                continue;
            }
            let what = if begins { "begin" } else { "end" };
            println!("  {:6.2} s: {what} {}", start.elapsed().as_secs_f64(), one.fault);
            if begins {
                *self.counts.entry(one.fault.kind).or_default() += 1;
                self.set(one.fault, deaths).await;
            } else {
                self.mend(one.fault, deaths).await;
            }
        }
        for host in 0..HOSTS {
            self.docker_is_back(host, deaths).await;
        }
    }

    /// Waits until the Docker of a host has started; whoever ran under it was dead by then.
    async fn docker_is_back(&mut self, host: usize, deaths: &mut [Death]) {
        let Some(since) = self.site.machines[host].docker_is_back().await else { return };
        let what = Fault { kind: Kind::Dockerd, host, pick: 0 }.to_string();
        for death in deaths.iter_mut().filter(|death| death.what == what) {
            death.until = since;
        }
    }

    async fn set(&mut self, fault: Fault, deaths: &mut Vec<Death>) {
        let Fault { kind, host, pick } = fault;
        match kind {
            Kind::Crash | Kind::Kill => self.docker_is_back(host, deaths).await,
            Kind::Cut | Kind::Overlay => {
                for host in 0..HOSTS {
                    self.docker_is_back(host, deaths).await;
                }
            }
            _ => {}
        }
        match kind {
            Kind::Crash | Kind::Kill => {
                let machine = &mut self.site.machines[host];
                let name = machine.picked(pick);
                let from = Instant::now();
                let servers = machine.addresses(std::slice::from_ref(&name)).await;
                if kind == Kind::Crash {
                    crash(machine, &name).await;
                } else {
                    machine.docker.docker(&["kill", &name]).await;
                }
                let servers = servers.into_iter().collect();
                deaths.push(Death { what: name.clone(), servers, seen_by: None, from, until: Instant::now() });
                if kind == Kind::Kill {
                    machine.removed(&name).await;
                }
            }
            Kind::Dockerd => {
                let machine = &self.site.machines[host];
                let from = Instant::now();
                let servers = machine.addresses(&machine.containers).await.into_iter().collect();
                machine.docker.halt(Signal::SIGKILL);
                deaths.push(Death { what: fault.to_string(), servers, seen_by: None, from, until: from });
            }
            Kind::Cut => {
                self.apart(fault, deaths).await;
                self.site.bed.cut(Cut::Between(0, 1));
            }
            Kind::Overlay => {
                self.apart(fault, deaths).await;
                self.site.machines[host].kill(kind);
            }
            Kind::Template => self.site.machines[host].spoil_template(pick),
            kind => self.site.machines[host].kill(kind),
        }
    }

    /// The hosts lose each other.
    async fn apart(&self, fault: Fault, deaths: &mut Vec<Death>) {
        for host in 0..HOSTS {
            let (other, from) = (&self.site.machines[1 - host], Instant::now());
            let servers = other.addresses(&other.containers).await.into_iter().collect();
            deaths.push(Death { what: fault.to_string(), servers, seen_by: Some(host), from, until: from });
        }
    }

    async fn mend(&mut self, fault: Fault, deaths: &mut [Death]) {
        let machine = &mut self.site.machines[fault.host];
        match fault.kind {
            // What it killed is dead when it has started.
            Kind::Dockerd => return machine.start_docker(),
            Kind::Cut => self.site.bed.mend(Cut::Between(0, 1)),
            Kind::Template => machine.mend_template(&self.site.bed).await,
            kind => machine.begin(&self.site.bed, kind).await,
        }
        for death in deaths.iter_mut().filter(|death| death.what == fault.to_string()) {
            death.until = Instant::now();
        }
    }

    async fn end(mut self, took: Duration) {
        self.visitors.take().expect("they have come").end().await;
        let versions = self.site.machines.iter_mut().map(|machine| machine.live.stop());
        let versions: Vec<_> = versions.map(|found| (found.good, found.bad.len())).collect();
        println!("  {} rounds in {:.0} s: {:?}", self.rounds, took.as_secs_f64(), self.counts);
        let [changes, faults] = &self.judged;
        println!("  changes: {} requests, 0 failed", changes.requests);
        println!(
            "  faults: {} requests; in flight on who died {}, of which failed {}; no other failed",
            faults.requests, faults.in_flight, faults.lost
        );
        let refused: usize = self.site.machines.iter().map(|machine| machine.refused).sum();
        println!("  bad templates refused by a templater that saw both them and their end: {refused}");
        println!(
            "  live files, good and bad: {versions:?}; all agreed after {:.1} s at most",
            self.slowest.as_secs_f64()
        );
        assert!(versions.iter().all(|(good, bad)| *good > 1 && *bad == 0), "{versions:?}");
    }

    /// How often the kind came that came least.
    fn rarest(&self) -> usize {
        Kind::all().map(|kind| self.counts.get(&kind).copied().unwrap_or_default()).min().unwrap_or_default()
    }
}

/// Kills the process of a container, as a fault of its own would; Docker starts it again.
async fn crash(machine: &Machine, name: &str) {
    let pid = machine.docker.docker(&["inspect", "--format", "{{.State.Pid}}", name]).await;
    match pid.parse() {
        // It may have crashed just before, and be about to start.
        Ok(0) | Err(_) => {}
        Ok(pid) => drop(kill(Pid::from_raw(pid), Signal::SIGKILL)),
    }
}

/// Makes the changes of one host, one after the other.
async fn change(bed: &Bed, machine: &mut Machine, list: &[Fault]) {
    for fault in list {
        println!("  {fault}");
        match fault.kind {
            Kind::Replace => {
                let old = machine.picked(fault.pick);
                machine.add().await;
                machine.take_away(&old).await;
            }
            Kind::Add => machine.add().await,
            Kind::Remove => {
                let name = machine.picked(fault.pick);
                if fault.pick % 2 == 0 {
                    machine.drain(bed, &name).await;
                }
                machine.take_away(&name).await;
            }
            Kind::Restart => {
                machine.docker.docker(&["restart", &machine.picked(fault.pick)]).await;
            }
            _ => storm(bed, machine, fault.pick).await,
        }
    }
}

/// Services come and go, each at a time of its own, by the registry of a host.
async fn storm(bed: &Bed, machine: &Machine, pick: u32) {
    let url = machine.registry();
    let blow = async move {
        for what in ["register", "deregister"] {
            for n in 0..STORM {
                let id = format!("storm-{pick}-{n}");
                let (path, body) = match what {
                    "register" => (String::new(), format!(r#"{{"Name": "{id}", "Address": "127.0.0.1", "Port": 9}}"#)),
                    _ => (format!("/{id}"), String::new()),
                };
                let url = format!("{url}/v1/agent/service/{what}{path}");
                let answer = web::send(reqwest::Method::PUT, &url, body).await.expect("nothing is broken");
                assert_eq!(answer.status, 200, "{url}: {}", answer.body);
                sleep(GUST).await;
            }
        }
    };
    bed.host(machine.number).run(blow).await;
}
