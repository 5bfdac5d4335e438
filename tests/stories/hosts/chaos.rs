//! Everything fails in turn while clients write through all hosts, and what they were answered is judged.
//!
//! In rounds: clients count, add to a set, write a register and lock, each kind through each host's kvstore, while processes
//! are killed and frozen, links cut and slowed and disks filled, by a seed that is printed. Then all is mended: every host
//! must show the same, a lock whose holder is dead must be handed on, and the round's history be one that a single registry
//! could have had.

mod clients;
mod history;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{
        Cable, Cut,
        faults::{Fault, Planned, plan},
    },
    story::{number, seed},
    wait::poll,
    web,
};
use nix::sys::signal::Signal;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinHandle, time::sleep};

use super::Lab;
use clients::{Acknowledged, Round};
use history::Judged;

const HOSTS: usize = 3;
/// How long things go wrong before all is mended, at most; what is longer takes long to judge.
const ROUND: Duration = Duration::from_secs(20);
/// From the last mending to all hosts' showing the same.
const EQUAL: Duration = Duration::from_secs(5);
/// From the last mending until a lock whose holder is dead is another's: the lifetime of its session, which may have begun
/// anew with the last leader of etcd or the last connection to it, and what it takes until there is none newer
/// (docs/engines.md).
const HANDED_ON: Duration = Duration::from_secs(11 + 10);
/// The story without `CHAOS_SECONDS`.
const SHORT: u64 = 20;

/// How long it takes, with the time to start and to end.
pub(crate) fn limit() -> Duration {
    2 * length() + Duration::from_mins(4)
}

fn length() -> Duration {
    Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SHORT))
}

pub(crate) async fn story() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut lab = Lab::start(HOSTS, HOSTS).await;
    let (start, mut all) = (Instant::now(), Total::default());
    while all.rounds == 0 || start.elapsed() < length() {
        let prefix = format!("chaos/{}/", all.rounds);
        let plan = plan(&mut rng, HOSTS, length().min(ROUND));
        round(&mut lab, &plan, Round::new(prefix), &mut all).await;
    }
    let Total { rounds, faults, judged: Judged { operations, unknown }, counted, added, locked, abandoned, .. } = all;
    println!(
        "  {rounds} rounds, {faults} faults in {:.0} s: {operations} operations, {unknown} of unknown outcome; {counted} \
         counted, {added} added, {locked} locks, {abandoned} of the dead; all hosts equal after {:.2} s at most, locks of \
         the dead handed on after {:.2} s at most",
        start.elapsed().as_secs_f64(),
        all.slowest.as_secs_f64(),
        all.handed_on.as_secs_f64()
    );
}

#[derive(Default)]
struct Total {
    rounds: usize,
    faults: usize,
    judged: Judged,
    counted: u64,
    added: usize,
    locked: u64,
    abandoned: u64,
    slowest: Duration,
    handed_on: Duration,
}

async fn round(lab: &mut Lab, plan: &[Planned], round: Round, all: &mut Total) {
    let round = Arc::new(round);
    let clients = begin(lab, &round);
    let mut holders: Vec<_> = (0..HOSTS).map(|host| hold(lab, host, &round)).collect();
    let start = Instant::now();
    fail(lab, plan, start, &round, &mut holders).await;
    let mended = Instant::now();
    round.stop.store(true, Ordering::Relaxed);
    let equal = equal(lab, mended).await;
    let handed_on = handed_on(lab, &round, mended).await;
    round.close.store(true, Ordering::Relaxed);
    for client in clients.into_iter().chain(holders) {
        client.await.expect("a client has met what must not be");
    }
    last_reads(lab, &round).await;
    let judging = Instant::now();
    let judged = round.history.judge();
    let acknowledged = std::mem::take(&mut *round.acknowledged.lock().expect("no client panicked"));
    println!(
        "  round {}: {} faults, {} operations, {} of unknown outcome, {} locks of the dead; equal after {:.2} s, handed on \
         after {:.2} s, judged in {:.2} s",
        all.rounds,
        plan.len(),
        judged.operations,
        judged.unknown,
        acknowledged.abandoned,
        equal.as_secs_f64(),
        handed_on.as_secs_f64(),
        judging.elapsed().as_secs_f64()
    );
    assert!(
        acknowledged.counted > 0 && !acknowledged.elements.is_empty() && acknowledged.locked > 0,
        "{acknowledged:?}"
    );
    all.rounds += 1;
    all.faults += plan.len();
    all.judged += judged;
    all.counted += acknowledged.counted;
    all.added += acknowledged.elements.len();
    all.locked += acknowledged.locked;
    all.abandoned += acknowledged.abandoned;
    all.slowest = all.slowest.max(equal);
    all.handed_on = all.handed_on.max(handed_on);
}

/// One client of each kind through each kvstore.
fn begin(lab: &Lab, round: &Arc<Round>) -> Vec<JoinHandle<()>> {
    let mut started = Vec::new();
    for agent in &lab.agents {
        let (host, shared) = (lab.bed.host(agent.host), || (round.clone(), agent.client.clone()));
        started.extend([
            host.spawn(clients::count(shared())),
            host.spawn(clients::add(shared())),
            host.spawn(clients::write(shared())),
            host.spawn(clients::lock(shared())),
            host.spawn(clients::abandon(shared())),
            host.spawn(clients::watch(shared())),
        ]);
    }
    started
}

/// Who holds a lock on a host until killed.
fn hold(lab: &Lab, host: usize, round: &Arc<Round>) -> JoinHandle<()> {
    lab.bed.host(host).spawn(clients::hold((round.clone(), lab.agents[host].client.clone())))
}

/// Lets each fault begin and end in its time. What ends by itself meanwhile is started again, as by a service manager.
async fn fail(lab: &mut Lab, plan: &[Planned], start: Instant, round: &Arc<Round>, holders: &mut [JoinHandle<()>]) {
    let mut steps: Vec<_> =
        plan.iter().flat_map(|one| [(one.at, true, one.fault), (one.ends(), false, one.fault)]).collect();
    steps.sort_by_key(|(at, ..)| *at);
    for (at, begins, fault) in steps {
        while start.elapsed() < at {
            supervise(lab);
            sleep(at.saturating_sub(start.elapsed()).min(Duration::from_millis(100))).await;
        }
        println!("  {:6.2} s: {} {fault}", at.as_secs_f64(), if begins { "begin" } else { "end" });
        match fault {
            Fault::KillHolder(host) if begins => holders[host].abort(),
            Fault::KillHolder(host) => holders[host] = hold(lab, host, round),
            fault if begins => set(lab, fault).await,
            fault => mend(lab, fault).await,
        }
    }
}

fn supervise(lab: &mut Lab) {
    let Lab { agents, cluster, bed } = lab;
    for agent in agents {
        if agent.supervise(bed) {
            println!("  kvstore on h{} had ended, and is started again", agent.host + 1);
        }
    }
    for member in &mut cluster.members {
        if member.supervise(bed) {
            println!("  etcd on h{} had ended, and is started again", member.host + 1);
        }
    }
}

async fn set(lab: &mut Lab, fault: Fault) {
    match fault {
        Fault::KillAgent(host) => lab.agents[host].kill(),
        Fault::FreezeAgent(host) => lab.agents[host].signal(Signal::SIGSTOP),
        Fault::KillEtcd(host) => lab.cluster.members[host].kill(),
        Fault::FreezeEtcd(host) => lab.cluster.members[host].signal(Signal::SIGSTOP),
        Fault::KillHost(host) => {
            lab.bed.cut(Cut::Host(host));
            lab.agents[host].kill();
            lab.cluster.members[host].kill();
        }
        Fault::Cut(cut) => lab.bed.cut(cut),
        Fault::Lose(host, permille) => lab.bed.lose(host, permille),
        Fault::Slow(host, millis) => {
            let delay = Duration::from_millis(millis);
            lab.bed.plug(host, Cable::Slow { delay, jitter: delay }).await;
        }
        Fault::FillDisks(host) => {
            lab.agents[host].fill(&lab.bed);
            lab.cluster.members[host].fill(&lab.bed);
        }
        Fault::KillHolder(_) => {}
    }
}

async fn mend(lab: &mut Lab, fault: Fault) {
    match fault {
        Fault::KillAgent(host) => lab.agents[host].begin(&lab.bed),
        Fault::FreezeAgent(host) => lab.agents[host].signal(Signal::SIGCONT),
        Fault::KillEtcd(host) => lab.cluster.members[host].start_again(&lab.bed),
        Fault::FreezeEtcd(host) => lab.cluster.members[host].signal(Signal::SIGCONT),
        Fault::KillHost(host) => {
            lab.bed.mend(Cut::Host(host));
            lab.cluster.members[host].start_again(&lab.bed);
            lab.agents[host].begin(&lab.bed);
        }
        Fault::Cut(cut) => lab.bed.mend(cut),
        Fault::Lose(host, _) => lab.bed.lose(host, 0),
        Fault::Slow(host, _) => lab.bed.plug(host, Cable::Plain).await,
        Fault::FillDisks(host) => {
            lab.agents[host].clear(&lab.bed);
            lab.cluster.members[host].clear(&lab.bed);
        }
        Fault::KillHolder(_) => {}
    }
}

/// Waits until every kvstore shows the same; how long after `mended` that was.
async fn equal(lab: &mut Lab, mended: Instant) -> Duration {
    let seen = async || {
        supervise(lab);
        // What etcd has; then what each shows by itself, for all could show the same old things.
        let mut states = BTreeSet::from([state(lab, 0, "consistent").await?]);
        for host in 0..HOSTS {
            states.insert(state(lab, host, "stale").await?);
            if let Some((name, _)) = lab.alive(host).await?.iter().find(|(_, alive)| !alive) {
                return Err(format!("h{} takes {name} for dead", host + 1));
            }
        }
        if states.len() > 1 {
            return Err(differences(&states));
        }
        for host in 1..HOSTS {
            state(lab, host, "consistent").await?;
        }
        Ok(mended.elapsed())
    };
    let equal = poll("all hosts show the same", EQUAL + Duration::from_secs(30), seen).await;
    let equal = equal.unwrap_or_else(|error| panic!("{error}"));
    assert!(equal <= EQUAL, "all hosts show the same after {equal:?}");
    equal
}

/// The session that has the lock of the dead, if one has it.
async fn holder(lab: &Lab, round: &Round) -> Result<Option<String>, String> {
    let (client, key) = (lab.agents[0].client.consistent(), round.key("abandoned"));
    let read = lab.bed.host(0).run(async move { client.kv_get(&key, None).await }).await;
    let value = read.map_err(|error| error.to_string())?.value;
    Ok(value.map(|entry| entry.session).filter(|session| !session.is_empty()))
}

/// Waits until the lock that some session has now, whose holder is dead, is another's; how long after `mended` that was.
async fn handed_on(lab: &Lab, round: &Round, mended: Instant) -> Duration {
    let dead = holder(lab, round).await.expect("all is mended");
    let another = async || match holder(lab, round).await? {
        Some(living) if dead.as_ref() != Some(&living) => Ok(mended.elapsed()),
        other => Err(format!("{other:?} has it")),
    };
    let handed_on = poll("a lock of the dead is handed on", HANDED_ON + Duration::from_secs(30), another).await;
    let handed_on = handed_on.unwrap_or_else(|error| panic!("{error}"));
    assert!(handed_on <= HANDED_ON, "a lock of the dead is handed on after {handed_on:?}");
    handed_on
}

/// All rows that one kvstore shows, as it tells them, one a line; how much it takes care that they are the newest is
/// `consistency`.
async fn state(lab: &Lab, host: usize, consistency: &'static str) -> Result<String, String> {
    let base = lab.agents[host].url();
    let read = async move {
        let mut all = String::new();
        for path in ["kv/?recurse&", "session/list?", "catalog/nodes?", "health/state/any?"] {
            all += &web::get(&format!("{base}/v1/{path}{consistency}")).await?.replace("},{", "},\n{");
            all += "\n";
        }
        Ok(all)
    };
    lab.bed.host(host).run(read).await
}

/// Lines that not all states have.
fn differences(states: &BTreeSet<String>) -> String {
    let in_all = |line: &str| states.iter().all(|state| state.lines().any(|other| other == line));
    let lines: BTreeSet<_> = states.iter().flat_map(|state| state.lines()).filter(|line| !in_all(line)).collect();
    lines.into_iter().take(10).collect::<Vec<_>>().join("\n")
}

/// Reads what is there at the end, through every kvstore, and compares it with what was acknowledged.
async fn last_reads(lab: &Lab, round: &Arc<Round>) {
    for agent in &lab.agents {
        let (shared, client) = (round.clone(), agent.client.clone());
        let read = async move {
            let mut values = Vec::new();
            for name in ["count", "set", "register"] {
                let entry = shared.read(&client, &shared.key(name)).await.expect("all is mended");
                values.push(entry.map(|entry| entry.value).unwrap_or_default());
            }
            values
        };
        let values = lab.bed.host(agent.host).run(read).await;
        round.acknowledged(|all| nothing_is_lost(all, &values[0], &values[1]));
    }
}

fn nothing_is_lost(all: &Acknowledged, count: &[u8], set: &[u8]) {
    let count: u64 = String::from_utf8_lossy(count).parse().expect("it was counted");
    let possible = all.counted..=all.counted + all.perhaps_counted;
    assert!(possible.contains(&count), "counted to {count}, and {possible:?} were acknowledged");
    let list = clients::elements(set);
    let set: BTreeSet<_> = list.iter().copied().collect();
    assert_eq!(list.len(), set.len(), "an element was added twice: {list:?}");
    let lost: Vec<_> = all.elements.difference(&set).collect();
    assert!(lost.is_empty(), "added, acknowledged and lost: {lost:?}");
    let refused: Vec<_> =
        set.iter().filter(|one| !all.elements.contains(one) && !all.perhaps_elements.contains(one)).collect();
    assert!(refused.is_empty(), "refused and added: {refused:?}");
}
