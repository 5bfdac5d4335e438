//! The life of one job: wait for a change, then make a pass, over and over; or one pass alone.
//!
//! Each job has a task of its own, so that a slow command of one holds up no other.

mod part;
mod pass;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kvstore_client::Backoff;
use tokio::{sync::Notify, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, error, error_span, info, warn};

use crate::{
    config::{JobSpec, Mode},
    host::Host,
    kept::Kept,
    output::{Output, Put, PutError},
    progress::Progress,
    quiescence::Quiescence,
    report::with_details,
    source::SourceWatcher,
    target::{docker::Docker, reloads::Reloads},
    values::Dependency,
    watch::{Reader, Watches},
};
use part::Part;
use pass::Pass;

/// Data are kept on disk this long after they were rendered; a storm of changes is one write.
const KEEP_AFTER: Duration = Duration::from_secs(2);

/// What all templates share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) watches: Watches,
    pub(crate) sources: SourceWatcher,
    pub(crate) docker: Arc<Docker>,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) host: Arc<Host>,
    pub(crate) progress: Arc<Progress>,
}

/// One job at work.
pub(crate) struct Worker {
    spec: JobSpec,
    shared: Shared,
    reader: Reader,
    values_changed: Arc<Notify>,
    files_changed: Arc<Notify>,
    parts: Vec<Part>,
    /// The data of the last texts, and since when they are so.
    data: Option<Kept>,
    /// When to keep them on disk.
    save_at: Option<Instant>,
    /// Without answers to these another pass would be in vain.
    waiting_for: BTreeSet<Arc<Dependency>>,
    output: Output,
    quiescence: Quiescence,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// The last fault that was told; it is told once.
    told: Option<String>,
    told_unsaved: bool,
}

impl Worker {
    /// Reads the templates; a broken one is kept for later mending, its fault is given along.
    pub(crate) fn new(spec: JobSpec, shared: Shared) -> (Self, Option<String>) {
        let values_changed = Arc::new(Notify::new());
        let mut worker = Self {
            reader: shared.watches.reader(values_changed.clone()),
            quiescence: Quiescence::new(spec.debounce),
            parts: spec.templates.iter().map(|template| Part::new(template, &spec)).collect(),
            output: Output::new(spec.output.clone(), shared.docker.clone(), shared.reloads.clone()),
            spec,
            shared,
            values_changed,
            files_changed: Arc::new(Notify::new()),
            data: None,
            save_at: None,
            waiting_for: BTreeSet::new(),
            backoff: Backoff::between(Duration::from_secs(1), Duration::from_mins(1)),
            retry_at: None,
            told: None,
            told_unsaved: false,
        };
        let fault = worker.load().err();
        (worker, fault)
    }

    /// What the log says beside each line about this job.
    pub(crate) fn span(&self) -> Span {
        error_span!("file", path = self.files()) // at this level it is never filtered away
    }

    fn files(&self) -> String {
        let files: Vec<_> = self.spec.destinations().map(|path| path.display().to_string()).collect();
        if files.is_empty() { "-".into() } else { files.join(", ") }
    }

    /// Locks the destinations.
    pub(crate) fn prepare(&mut self) -> Result<(), PutError> {
        self.output.prepare(self.parts.iter().filter_map(Part::file))
    }

    /// Reads and parses the files; true if there is something new to render. After a fault the last good version stays.
    fn load(&mut self) -> Result<bool, String> {
        let (mut new, mut faults) = (false, Vec::new());
        for part in &mut self.parts {
            match part.load(&self.shared, self.spec.follow.then_some(&self.files_changed)) {
                Ok(changed) => new |= changed,
                Err(fault) => faults.push(fault),
            }
        }
        if new {
            self.waiting_for.clear();
        }
        if faults.is_empty() { Ok(new) } else { Err(faults.join("\n")) }
    }

    /// Keeps the destination up to date until `stop`; a pass that has begun is ended first.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (values, files) = (self.values_changed.clone(), self.files_changed.clone());
        let progress = self.shared.progress.clone();
        progress.begin(&self.files());
        self.output.hurry_at(stop.clone());
        self.take_up();
        self.quiescence.change(Instant::now());
        loop {
            let next = self.next_pass();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    if self.save_at.is_some() {
                        self.save().await;
                    }
                    return progress.end(&self.files());
                }
                () = files.notified() => self.files_have_changed(),
                () = values.notified() => {
                    if self.reader.knows(&self.waiting_for) {
                        self.quiescence.change(Instant::now());
                    }
                }
                () = at(next) => {
                    self.retry_at = None;
                    self.quiescence.begin();
                    let pass = self.pass(Mode::Daemon).await;
                    self.conclude(pass);
                }
                () = at(self.save_at) => self.save().await,
            }
        }
    }

    fn next_pass(&self) -> Option<Instant> {
        self.parts.iter().all(|part| part.template.is_some()).then_some(())?;
        let due = [self.quiescence.due(), self.retry_at].into_iter().flatten().min()?;
        // What is written before its target may be reloaded would only be old by then.
        Some(self.output.ready().map_or(due, |ready| due.max(ready)))
    }

    fn files_have_changed(&mut self) {
        match self.load() {
            Ok(true) => {
                info!("the template has changed");
                self.quiescence.change(Instant::now());
            }
            Ok(false) => {}
            Err(fault) => self.tell(format!("{fault}\n  the last good version stays in use")),
        }
    }

    fn conclude(&mut self, pass: Pass) {
        let (files, progress) = (self.files(), &self.shared.progress);
        match &pass {
            Pass::Done(put) => progress.live(&files, *put != Put::Same && !self.output.has_told()),
            Pass::Waiting(why) | Pass::Failed(why) => progress.troubled(&files, why),
        }
        let result = match &pass {
            Pass::Done(Put::Same) => "same",
            Pass::Done(_) => "written",
            Pass::Waiting(_) => "waiting",
            Pass::Failed(_) => "failed",
        };
        progress.count(&files, result, matches!(pass, Pass::Done(_)));
        let effective = match pass {
            Pass::Done(put) => {
                if self.told.take().is_some() {
                    info!("all is well again");
                }
                self.backoff.reset();
                put != Put::Same
            }
            Pass::Waiting(why) => {
                debug!("not written yet: {why}");
                false
            }
            Pass::Failed(fault) => {
                self.retry_at = Some(Instant::now() + self.backoff.delay());
                self.tell(fault);
                true
            }
        };
        self.quiescence.end(Instant::now(), effective);
    }

    /// Once for each fault, not at each try.
    fn tell(&mut self, fault: String) {
        if self.told.as_ref() == Some(&fault) {
            debug!("{fault}");
        } else {
            error!("{fault}");
            self.told = Some(fault);
        }
    }

    /// Takes up the data of an earlier life.
    fn take_up(&mut self) {
        if let Some(kept) = self.spec.keep.as_deref().and_then(Kept::load) {
            self.shared.watches.keep(kept.values());
            self.data = Some(kept);
        }
    }

    /// Keeps the newest data on disk.
    async fn save(&mut self) {
        self.save_at = None;
        let (Some(data), Some(path)) = (self.data.clone(), self.spec.keep.clone()) else { return };
        let shown = path.display().to_string();
        let saved = tokio::task::spawn_blocking(move || data.save(&path)).await;
        if let Err(error) = saved.unwrap_or_else(|e| Err(std::io::Error::other(e)))
            && !std::mem::replace(&mut self.told_unsaved, true)
        {
            warn!("the data cannot be kept in {shown} for the next start: {error}");
        }
    }

    /// Renders once, waiting at most `limit` for data.
    ///
    /// # Errors
    /// What is missing or wrong, in words.
    pub(crate) async fn once(mut self, mode: Mode, limit: Duration) -> Result<(), String> {
        let until = Instant::now() + limit;
        let changed = self.values_changed.clone();
        loop {
            let why = match self.pass(mode).await {
                Pass::Done(_) => return Ok(()),
                Pass::Failed(fault) => return Err(fault),
                Pass::Waiting(why) => why,
            };
            loop {
                tokio::select! {
                    () = changed.notified() => {}
                    () = at(Some(until)) => {
                        let cause = self.shared.watches.trouble();
                        let what = format!("template {} is not rendered after {limit:?}: {why}", self.spec);
                        return Err(with_details(&what, &cause.unwrap_or_default(), None));
                    }
                }
                if self.reader.knows(&self.waiting_for) {
                    break;
                }
            }
        }
    }
}

/// Ends at `when`; never without one.
pub(crate) async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
