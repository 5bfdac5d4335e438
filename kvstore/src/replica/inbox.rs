//! The engine under a replica's store: what its log tells was committed by the hub, and nothing is committed here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    engine::{Engine, EngineError, Entry, Loaded, Proposal, Rejected, Silence},
    replica::Hub,
};

type News = Box<dyn Fn() + Send + Sync>;

/// Where what the hub has committed waits for the writer. Clones share it.
#[derive(Clone)]
pub(crate) struct Inbox {
    hub: Arc<Hub>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    first: Option<Loaded>,
    entries: Vec<Entry>,
    news: Option<News>,
}

impl Inbox {
    /// Begins with `first`.
    pub(crate) fn new(hub: Arc<Hub>, first: Loaded) -> Self {
        Self { hub, shared: Arc::new(Mutex::new(Shared { first: Some(first), ..Shared::default() })) }
    }

    /// Gives `entries` to the writer. Whoever does waits until the store shows them before there are more: so few wait.
    pub(super) fn put(&self, entries: Vec<Entry>) {
        let mut shared = self.lock();
        shared.entries.extend(entries);
        if let Some(news) = &shared.news {
            news();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Inbox {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let refused = || EngineError::Open { path: "of this replica".into(), why: "it was loaded before".into() };
        self.lock().first.take().ok_or_else(refused)
    }

    fn on_news(&mut self, news: News) {
        self.lock().news = Some(news);
    }

    /// Writes are passed on before they get here.
    fn commit(&mut self, _: Vec<Proposal>) -> Result<Vec<Result<kvstore_core::Index, Rejected>>, EngineError> {
        let source = "this is a replica: its hub takes writes".into();
        Err(EngineError::Write { path: "of this replica".into(), source })
    }

    fn silence(&self) -> Silence {
        let hub = self.hub.clone();
        Arc::new(move || hub.silence())
    }

    fn log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().entries)
    }
}
