//! The life of one template: wait for a change, render, put the text where it belongs; or the same once.
//!
//! Each template has a task of its own, so that a slow command of one holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kvstore_client::{Backoff, with_causes};
use tokio::{sync::Notify, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, error, error_span, info, warn};

use crate::{
    config::{DestinationSpec, Mode, SourceSpec, TemplateSpec},
    output::{Output, Put, PutError},
    quiescence::Quiescence,
    render::{Outcome, Rendering, Sources, Template, TemplateError},
    report::with_details,
    source::{self, SourceWatcher},
    target::container::Docker,
    values::Dependency,
    watch::{Reader, Watches},
};

/// What all templates share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) watches: Watches,
    pub(crate) sources: SourceWatcher,
    pub(crate) docker: Arc<Docker>,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

/// One template at work.
pub(crate) struct Worker {
    spec: TemplateSpec,
    shared: Shared,
    reader: Reader,
    values_changed: Arc<Notify>,
    files_changed: Arc<Notify>,
    /// What was read last, good or bad.
    loaded: Sources,
    /// The last good version; `None` if there has been none.
    template: Option<Template>,
    /// Without answers to these another pass would be in vain.
    waiting_for: BTreeSet<Arc<Dependency>>,
    sink: Sink,
    quiescence: Quiescence,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// The last fault that was told; it is told once.
    told: Option<String>,
}

enum Sink {
    Stdout,
    File(Box<Output>),
}

/// What a pass came to.
enum Pass {
    /// The text is where it belongs.
    Done(Put),
    /// Something is not known, or is not there; in words.
    Waiting(String),
    /// Something is wrong; in words.
    Failed(String),
}

impl Worker {
    /// Reads the template; a broken one is kept for later mending, its fault is given along.
    pub(crate) fn new(spec: TemplateSpec, shared: Shared) -> (Self, Option<String>) {
        let values_changed = Arc::new(Notify::new());
        let sink = match &spec.destination {
            DestinationSpec::Stdout => Sink::Stdout,
            DestinationSpec::File(output) => {
                let output = Output::new((**output).clone(), shared.docker.clone());
                Sink::File(Box::new(output))
            }
        };
        let mut worker = Self {
            reader: shared.watches.reader(values_changed.clone()),
            quiescence: Quiescence::new(spec.debounce),
            spec,
            shared,
            values_changed,
            files_changed: Arc::new(Notify::new()),
            loaded: Sources::default(),
            template: None,
            waiting_for: BTreeSet::new(),
            sink,
            backoff: Backoff::between(Duration::from_secs(1), Duration::from_mins(1)),
            retry_at: None,
            told: None,
        };
        let fault = worker.load().err();
        (worker, fault)
    }

    /// What the log says beside each line about this template.
    pub(crate) fn span(&self) -> Span {
        let file = self.spec.destination_path().map_or("-".into(), |p| p.display().to_string());
        error_span!("file", path = file) // at this level it is never filtered away
    }

    /// Locks the destination.
    pub(crate) fn prepare(&mut self) -> Result<(), PutError> {
        match &mut self.sink {
            Sink::Stdout => Ok(()),
            Sink::File(output) => output.prepare(),
        }
    }

    /// Reads and parses the files; true if there is something new to render. After a fault the last good version stays.
    fn load(&mut self) -> Result<bool, String> {
        let sources = match &self.spec.source {
            SourceSpec::Inline { name, text } => {
                Ok(Sources { main: name.clone(), files: [(name.clone(), text.clone())].into() })
            }
            SourceSpec::File(path) => source::load(path),
        };
        if let SourceSpec::File(path) = &self.spec.source {
            let known = sources.as_ref().unwrap_or(&self.loaded);
            self.shared.sources.listen(path, known, &self.files_changed);
        }
        let sources = sources.map_err(|e| with_details(&e.to_string(), &cause_of(&e), None))?;
        if sources == self.loaded {
            return Ok(false);
        }
        let parsed = Template::parse(&sources, self.shared.environment.clone());
        self.loaded = sources;
        self.template = Some(parsed.map_err(|e| self.describe(&e))?);
        self.waiting_for.clear();
        Ok(true)
    }

    fn describe(&self, error: &TemplateError) -> String {
        let what = format!("template {} is wrong", self.spec);
        with_details(&what, &error.report, error.hint.as_deref())
    }

    /// Keeps the destination up to date until `stop`; a pass that has begun is ended first.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (values, files) = (self.values_changed.clone(), self.files_changed.clone());
        self.quiescence.change(Instant::now());
        loop {
            let next = self.next_pass();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
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
            }
        }
    }

    fn next_pass(&self) -> Option<Instant> {
        self.template.as_ref()?;
        [self.quiescence.due(), self.retry_at].into_iter().flatten().min()
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

    /// Renders, and puts or shows the text if there is one.
    async fn pass(&mut self, mode: Mode) -> Pass {
        let Some(mut template) = self.template.take() else {
            return Pass::Waiting(format!("template {} is wrong", self.spec));
        };
        let values = self.reader.values();
        let rendered = tokio::task::spawn_blocking(move || {
            let rendering = template.render(values);
            (template, rendering)
        });
        let Rendering { used, outcome } = match rendered.await {
            Ok((template, rendering)) => {
                self.template = Some(template);
                rendering
            }
            Err(panic) => {
                // The template went down with it.
                self.template = Template::parse(&self.loaded, self.shared.environment.clone()).ok();
                return Pass::Failed(format!("template {}: the engine failed: {panic}", self.spec));
            }
        };
        self.reader.follow(used);
        self.waiting_for.clear();
        match outcome {
            Outcome::Text(text) => self.put(&text, mode).await,
            Outcome::Pending(missing) => {
                let why = list(&missing);
                self.waiting_for = missing;
                Pass::Waiting(format!("no answer yet about {why}"))
            }
            Outcome::Blocked(reasons) => {
                let why = reasons.join(", ");
                if mode == Mode::Daemon && self.told.as_ref() != Some(&why) {
                    warn!("not written: {why}");
                    self.told = Some(why.clone());
                }
                Pass::Waiting(why)
            }
            Outcome::Failed(error) => Pass::Failed(self.describe(&error)),
        }
    }

    async fn put(&mut self, text: &str, mode: Mode) -> Pass {
        let result = match (&mut self.sink, mode) {
            (Sink::Stdout, _) => {
                print!("{text}");
                return Pass::Done(Put::Written);
            }
            (Sink::File(output), Mode::DryRun) => match output.preview(text).await {
                Ok(diff) => {
                    print!("{diff}");
                    if diff.is_empty() {
                        info!("nothing would change");
                    }
                    return Pass::Done(Put::Same);
                }
                Err(error) => Err(error),
            },
            (Sink::File(output), _) => output.put(text).await,
        };
        match result {
            Ok(put) => Pass::Done(put),
            Err(error) => Pass::Failed(error.report(&self.hint())),
        }
    }

    /// How to look at a refused text.
    fn hint(&self) -> String {
        match (&self.spec.source, self.spec.destination_path()) {
            (SourceSpec::File(source), Some(destination)) => {
                let (source, destination) = (source.display(), destination.display());
                format!("templater --once --template {source}:- | diff {destination} -")
            }
            _ => "templater --once --dry-run with the same configuration".to_owned(),
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

fn cause_of(error: &source::SourceError) -> String {
    let whole = with_causes(error);
    whole.strip_prefix(&format!("{error}: ")).unwrap_or(&whole).to_owned()
}

/// A few of many.
fn list(dependencies: &BTreeSet<Arc<Dependency>>) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<String> = dependencies.iter().take(SHOWN).map(ToString::to_string).collect();
    if dependencies.len() > SHOWN {
        names.push(format!("{} more", dependencies.len() - SHOWN));
    }
    names.join(", ")
}

/// Ends at `when`; never without one.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
