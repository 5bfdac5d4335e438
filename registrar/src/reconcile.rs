//! The loop: news of Docker and views of the registry -> world and ledger -> calls. Nothing in here waits but the loop
//! itself, so news never queue up behind a slow call.

mod log;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kvstore_client::{Error, with_causes};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    address::HostAddress,
    boot,
    callers::{self, Wanted},
    config::{Config, PolicySettings},
    container::{Container, short_id},
    docker::{
        Identity,
        follow::{Looks, News, follow},
    },
    ledger::{Call, Ledger, Outcome},
    plan::{Action, Actual, META_CONTAINER, Mark, Owner},
    registry::{Registry, follow::View, token_hint},
    status::Status,
    world::{Change, Deregister, Moment, World},
};
use log::{say_address, say_done};

/// News of Docker that may wait for the loop, which handles one in microseconds; Docker's own buffer is behind it.
const NEWS: usize = 256;
/// For everything that is left to do at the end.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// Keeps the registry equal to what Docker runs until `stop`.
pub async fn run(config: &Config, registry: Registry, state: String, status: Arc<Status>, stop: CancellationToken) {
    let registry = Arc::new(registry);
    let (news_in, news) = mpsc::channel(NEWS);
    let (views_in, views) = mpsc::channel(1);
    let (mark, mark_seen) = watch::channel(None);
    let (callers, callers_wanted) = watch::channel(None);
    let docker = {
        let target = config.docker.clone();
        let looks = Looks { resync: config.resync, at_the_ended: config.lives.deregister != Deregister::Always };
        let status = status.clone();
        let following = async move { follow(&target, looks, &status, news_in).await };
        tokio::spawn(stop.clone().run_until_cancelled_owned(following))
    };
    let former_removed = boot::of_docker(&config.docker).map(|boot| {
        let removing = boot::remove_former(registry.clone(), state.clone(), boot, mark_seen.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(removing))
    });
    let follower = {
        let following = registry.clone().follow(config.resync, status.clone(), mark_seen, views_in);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following))
    };
    let callers_kept = {
        let keeping = callers::keep(registry.clone(), callers_wanted);
        tokio::spawn(stop.clone().run_until_cancelled_owned(keeping))
    };
    let mut reconciler = Reconciler {
        registry,
        status,
        settings: config.policy.clone(),
        address_is_forced: config.address.is_forced(),
        state,
        mark,
        callers,
        identity: None,
        address: None,
        world: World::new(config.lives),
        ledger: Ledger::default(),
        calls: FuturesUnordered::new(),
        names: BTreeMap::new(),
        complaints: BTreeMap::new(),
        starting: true,
    };
    reconciler.follow(news, views, &stop).await;
    stop.cancel();
    for task in [docker, follower, callers_kept].into_iter().chain(former_removed) {
        if let Err(error) = task.await {
            warn!("a task ended badly: {error}");
        }
    }
    if tokio::time::timeout(LAST_CALLS, reconciler.finish(config.deregister_on_exit)).await.is_err() {
        warn!("the registry did not take the last calls within {LAST_CALLS:?}; the next run repairs what is missing");
    }
}

struct Reconciler {
    registry: Arc<Registry>,
    status: Arc<Status>,
    settings: PolicySettings,
    address_is_forced: bool,
    state: String,
    mark: watch::Sender<Option<Mark>>,
    callers: watch::Sender<Option<Wanted>>,
    identity: Option<Identity>,
    address: Option<HostAddress>,
    world: World,
    ledger: Ledger,
    calls: FuturesUnordered<BoxFuture<'static, (Call, Result<(), Error>)>>,
    /// Names by short id, also of those that have just gone: for the log.
    names: BTreeMap<String, String>,
    /// What was last said about an id that is not as wanted.
    complaints: BTreeMap<String, String>,
    /// Not everything has been seen on both sides yet.
    starting: bool,
}

impl Reconciler {
    async fn follow(
        &mut self,
        mut news: mpsc::Receiver<News>,
        mut views: mpsc::Receiver<View>,
        stop: &CancellationToken,
    ) {
        loop {
            self.start_calls();
            self.complain();
            self.tell_status();
            let deadline = self.world.next_deadline().into_iter().chain(self.ledger.next_deadline()).min();
            tokio::select! {
                () = stop.cancelled() => return,
                Some((call, result)) = self.calls.next(), if !self.calls.is_empty() => self.called(&call, result),
                Some(news) = news.recv() => self.heard(news),
                Some(view) = views.recv() => self.saw(view),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => self.tick(),
                else => return,
            }
        }
    }

    fn start_calls(&mut self) {
        let Some(address) = self.address else { return };
        while let Some(call) = self.ledger.next(&self.world, Instant::now()) {
            let registry = self.registry.clone();
            self.calls.push(Box::pin(async move {
                let result = registry.perform(&call.id, &call.action, address.main).await;
                (call, result)
            }));
        }
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Up(identity) => {
                self.identity = Some(identity);
                self.set_policy();
            }
            News::Seen { container, cause, clock } => {
                // What the list tells at the start is what was there, whichever side is known first.
                let cause = if self.starting && cause == "list" { "first look" } else { cause };
                let short = (!container.running).then(|| container.short_id().to_owned());
                self.names.insert(container.short_id().to_owned(), container.name.clone());
                let change = self.world.observe(*container, Moment { at: Instant::now(), docker: clock });
                self.changed(change, cause);
                if let Some(short) = short {
                    self.ledger.touch_container(&short, cause);
                }
            }
            News::Gone { id, cause } => {
                let change = self.world.gone(&id);
                self.changed(change, cause);
                self.ledger.touch_container(short_id(&id), cause);
            }
            News::Died { id, time } => {
                let change = self.world.died(&id, time, Instant::now());
                self.changed(change, "die");
            }
            News::Killed { id, signal, time } => {
                let touched = self.world.killed(&id, signal, time, Instant::now());
                self.ledger.touch(touched, "stop signal");
            }
            News::Unreadable { id } => self.world.unreadable(&id),
            News::AllSeen => {
                self.world.set_all_seen();
                self.ledger.touch_all(&self.world, "first look");
            }
        }
        self.take_over_drains();
        self.tell_callers(false);
    }

    fn saw(&mut self, view: View) {
        if self.address != Some(view.address) {
            self.address = Some(view.address);
            self.set_policy();
        }
        self.ledger.view(view.registered, view.asked, &self.world, view.cause);
        self.take_over_drains();
        // Said again, because the registry may have lost some.
        self.tell_callers(true);
    }

    fn tell_callers(&self, again: bool) {
        let wanted = self.world.callers();
        self.callers.send_if_modified(|old| {
            let is_news = again || *old != wanted;
            *old = wanted;
            is_news
        });
    }

    /// What a former run left draining is still on its way out, as far as anybody knows. The start is over when
    /// everything has been seen on both sides.
    fn take_over_drains(&mut self) {
        if !self.starting {
            return;
        }
        let touched = self.world.resume_drains(self.ledger.registered(), Instant::now());
        self.ledger.touch(touched, "drain of a former run");
        if self.world.all_seen() && self.address.is_some() {
            self.starting = false;
            let (containers, instances) = (self.world.containers().len(), self.world.wanted_ids().len());
            info!(containers, instances, "following Docker and the registry");
        }
    }

    fn changed(&mut self, change: Change, cause: &'static str) {
        for warning in change.warnings {
            warn!("{warning}");
        }
        for id in &change.touched {
            let names = self.world.rivals(id);
            if let (false, Some((_, winner))) = (names.is_empty(), self.world.desired(id)) {
                let (names, winner) = (names.join(", "), &winner.name);
                warn!("containers {names} claim one id, {id:?}; it stands for {winner}, the oldest that takes work");
            }
        }
        self.ledger.touch(change.touched, cause);
    }

    /// As soon as both sides are known, and again when one of them has moved.
    fn set_policy(&mut self) {
        let (Some(identity), Some(address)) = (&self.identity, self.address) else {
            self.announce_mark();
            return;
        };
        let policy = self.settings.policy(identity, address, self.address_is_forced, self.announced(identity));
        if self.world.policy().is_none_or(|old| old.address != policy.address) {
            say_address(&policy);
        }
        self.announce_mark();
        let change = self.world.set_policy(policy);
        let cause = if self.starting { "first look" } else { "new address" };
        self.changed(change, cause);
    }

    fn announced(&self, identity: &Identity) -> Mark {
        identity.mark(&self.state)
    }

    fn announce_mark(&self) {
        if let Some(identity) = &self.identity {
            self.mark.send_replace(Some(self.announced(identity)));
        }
    }

    fn called(&mut self, call: &Call, result: Result<(), Error>) {
        let known = self.ledger.registered().get(&call.id).cloned();
        let outcome = self.ledger.done(call, result, Instant::now());
        self.status.count_call(call.action.as_str(), outcome.as_str());
        match outcome {
            Outcome::Done => {
                let name = self.world.desired(&call.id).map(|(_, container)| container.name.clone());
                let gone = known.as_ref().and_then(|actual| self.container_of(actual));
                say_done(call, name.as_deref().or(gone), known.as_ref().map(|actual| actual.name.as_str()));
                if call.action == Action::Deregister {
                    self.forget_names();
                }
            }
            Outcome::Lost(error) => {
                debug!("{}", with_causes(&error));
                self.registry.look.notify_one();
            }
            Outcome::Unwilling(Some(error)) => {
                warn!("the registry takes no changes: {error}; asked again until it does");
            }
            Outcome::Refused(Some(error)) => {
                let (id, hint) = (&call.id, token_hint(&error));
                let container = self.world.desired(id).map(|(_, container)| container.name.clone());
                let container = container.unwrap_or_default();
                warn!(container, id, "the registry refuses: {error}{hint}; asked again now and then");
            }
            Outcome::Unwilling(None) | Outcome::Refused(None) => {}
            Outcome::Surprise => self.registry.look.notify_one(),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.ledger.renew(now);
        let passed = self.world.pass(now);
        for name in passed.did_not_stop {
            info!(container = name, "was told to stop and did not; it is back in service");
        }
        self.ledger.touch(passed.back, "did not stop");
        self.ledger.touch(passed.grown, "old enough");
        for short in passed.reaped {
            self.ledger.touch_container(&short, "reaped");
        }
    }

    /// Says once what keeps an id from being as it should be.
    fn complain(&mut self) {
        let taken = self.ledger.taken();
        self.complaints.retain(|id, _| taken.contains_key(id));
        for (id, why) in taken {
            if self.complaints.get(id) != Some(why) {
                let container = self.world.desired(id).map(|(_, container)| container.name.clone());
                warn!(
                    container,
                    "{why}; it is not touched. Give the container another SERVICE_ID, or remove that entry"
                );
                self.complaints.insert(id.clone(), why.clone());
            }
        }
    }

    /// Of those that are gone on both sides.
    fn forget_names(&mut self) {
        let runs = self.world.containers().map(Container::short_id);
        let registered = self.ledger.registered().values().filter_map(|actual| actual.meta.get(META_CONTAINER));
        let known: BTreeSet<&str> = runs.chain(registered.map(String::as_str)).collect();
        self.names.retain(|short, _| known.contains(short.as_str()));
    }

    fn tell_status(&self) {
        let status = &self.status;
        status.started.store(!self.starting, Relaxed);
        status.containers.store(self.world.containers().len(), Relaxed);
        status.wanted.store(self.world.wanted_ids().len(), Relaxed);
        status.registered.store(self.ledger.registered().len(), Relaxed);
        status.taken.store(self.ledger.taken().len(), Relaxed);
    }

    /// The container that an entry was made for, as far as it is known by name.
    fn container_of<'a>(&'a self, actual: &'a Actual) -> Option<&'a str> {
        let short = actual.meta.get(META_CONTAINER)?;
        Some(self.names.get(short).unwrap_or(short))
    }

    /// Waits for the calls under way, and takes everything out of the registry if that was asked for.
    async fn finish(&mut self, deregister: bool) {
        while let Some((call, result)) = self.calls.next().await {
            self.called(&call, result);
        }
        let (true, Some(policy), Some(address)) = (deregister, self.world.policy(), self.address) else { return };
        let ours = self.ledger.registered().iter().filter(|(_, actual)| policy.mark.judge(&actual.meta) == Owner::Us);
        info!(instances = ours.clone().count(), "removing everything of this host from the registry");
        for (id, actual) in ours {
            let call = Call { id: id.clone(), action: Action::Deregister, cause: "shutdown" };
            match self.registry.perform(id, &call.action, address.main).await {
                Ok(()) => say_done(&call, self.container_of(actual), Some(&actual.name)),
                Err(error) => warn!(id, "cannot be removed: {}", with_causes(&error)),
            }
        }
        if let Err(error) = callers::sync(&self.registry, &Wanted::nothing(&policy.mark)).await {
            warn!("keys about callers cannot be removed: {}", with_causes(&error));
        }
        if let Err(error) = self.registry.leave().await {
            warn!("the node cannot be removed: {}", with_causes(&error));
        }
    }
}
