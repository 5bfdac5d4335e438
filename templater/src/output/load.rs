//! Has the live files loaded: HAProxy told of what has changed, or a reload at its turn; else what was loaded last is put
//! back.

use std::{path::Path, pin::Pin, time::Duration};

use kvstore_client::with_causes;
use tracing::{info, warn};

use super::{
    Output, PutError, ReloadSpec,
    journal::Before,
    keep_version,
    set::{Change, names_of, put_back},
    versions,
};
use crate::{
    command::{self, Invocation},
    target::{
        readers::{Readers, ReloadError},
        runtime,
    },
};

/// What a target is known to run.
#[derive(PartialEq, Eq)]
pub(super) struct Running {
    readers: String,
    text: String,
}

impl Output {
    /// Has the live files loaded, or puts the last good ones back; gives what was done, in words.
    pub(super) async fn load(&mut self, set: &[Change], readers: Option<&Readers>) -> Result<String, PutError> {
        self.told = true;
        let told = match self.command(set, readers).await {
            Some(told) => Ok(told),
            None => self.reload(set, readers).await,
        };
        self.running = None;
        let error = match told {
            Ok(told) => {
                if let ([change], Some(readers)) = (set, readers) {
                    self.running = Some(Running { readers: readers.names(), text: change.text.clone() });
                }
                let there = set.iter().filter(|change| !change.gone);
                self.loaded(there.map(|change| (change.destination(), change.text.as_bytes())));
                for change in set.iter().filter(|change| change.gone) {
                    if let Some(state) = self.states.remove(change.destination()) {
                        state.forget();
                    }
                }
                return Ok(told);
            }
            Err(error) => error,
        };
        let files = names_of(set);
        let versions = |change: &Change| versions::newest(self.states[change.destination()].path());
        let good: Option<Vec<Vec<u8>>> = set.iter().map(versions).collect();
        let good = good.filter(|good| set.iter().zip(good).any(|(change, good)| change.text.as_bytes() != good));
        let (true, Some(good)) = (self.spec.rollback.unwrap_or(error.rejected), good) else {
            return Err(PutError::Reload { files, cause: error.cause });
        };
        let in_place = readers.is_some_and(Readers::need_the_same_inode);
        for (change, good) in set.iter().zip(&good) {
            let before = Before { destination: change.destination().to_owned(), content: Some(good.clone()) };
            put_back(&before, in_place)?;
        }
        let mut cause = error.cause;
        match self.reload(set, readers).await {
            Ok(_) => self.loaded(set.iter().zip(&good).map(|(change, good)| (change.destination(), &good[..]))),
            Err(error) => cause = format!("{cause}\nthe version before was not loaded either: {}", error.cause),
        }
        Err(PutError::RolledBack { files, cause })
    }

    /// Tells a running HAProxy what has changed, if it can be told; gives what was done, in words.
    async fn command(&self, set: &[Change], readers: Option<&Readers>) -> Option<String> {
        let ([change], None, Some(readers), Some(running)) = (set, &self.spec.reload, readers, &self.running) else {
            return None;
        };
        if change.gone
            || running.readers != readers.names()
            || change.before.as_deref() != Some(running.text.as_bytes())
        {
            return None;
        }
        let configured = self.spec.runtime_socket.as_ref();
        let socket = readers.runtime_socket(change.destination(), &change.text, configured)?;
        let commands = runtime::commands(&running.text, &change.text)?;
        match runtime::apply(&socket, &commands).await {
            Ok(()) => {
                let servers = runtime::servers(&commands);
                Some(format!("HAProxy was told of {servers} servers, without a reload ({})", readers.names()))
            }
            Err(error) => {
                info!("HAProxy is reloaded, for it does not take commands: {error}");
                None
            }
        }
    }

    async fn reload(&mut self, set: &[Change], readers: Option<&Readers>) -> Result<String, ReloadError> {
        let live = set[0].destination();
        let (target, reload): (String, Step<'_>) = match (&self.spec.reload, readers) {
            (Some(ReloadSpec::Command(command)), _) => {
                let invocation = command.expand(&[("{src}", live), ("{dst}", live)]);
                let target = invocation.to_string();
                (
                    target,
                    Box::pin(run_reload(invocation, self.spec.command_timeout, "the reload command has run".into())),
                )
            }
            (Some(ReloadSpec::Unit(unit)), _) => {
                let words = ["systemctl", "reload", unit].map(str::to_owned).to_vec();
                let invocation = Invocation { words, directory: None };
                let told = format!("systemd has reloaded {unit}");
                (format!("unit {unit}"), Box::pin(run_reload(invocation, self.spec.command_timeout, told)))
            }
            (Some(ReloadSpec::Signal(signal)), _) => (signal.whom.to_string(), Box::pin(signal.send(&self.docker))),
            (None, Some(readers)) if readers.is_empty() => return Ok(self.nobody(readers)),
            (None, Some(readers)) => {
                let target = format!("{} {}", readers.kind(), readers.names());
                (
                    target,
                    Box::pin(async {
                        readers.reload(&self.docker).await?;
                        Ok(format!("{} has reloaded it ({})", readers.kind(), readers.names()))
                    }),
                )
            }
            (None, None) => {
                self.told = false;
                return Ok("nobody is to be told".to_owned());
            }
        };
        let (queue, hurry) = (self.reloads.of(&target), self.hurry.clone());
        let result = queue.ask(self.spec.min_reload_interval, &hurry, reload).await;
        self.queue = Some(queue);
        result
    }

    /// That there is nobody to reload, in words.
    fn nobody(&mut self, readers: &Readers) -> String {
        self.told = false;
        if let Some(blind) = readers.blind()
            && !std::mem::replace(&mut self.warned.blind, true)
        {
            warn!("what runs in containers cannot be looked at: {blind}");
        }
        match &self.spec.container {
            Some(name) => format!("container {name} does not run; nothing to reload"),
            None => format!("no running {} uses this file; nothing to reload", readers.kind()),
        }
    }

    /// Remembers that `files` are loaded.
    fn loaded<'a>(&mut self, files: impl Iterator<Item = (&'a Path, &'a [u8])>) {
        for (destination, content) in files {
            let state = self.states.get_mut(destination).expect("prepare() comes first");
            keep_version(state, content, self.spec.keep_versions);
            if let Err(error) = state.reloaded(content) {
                warn!("{}; the next start reloads once more than needed", with_causes(&error));
            }
        }
    }
}

/// A reload that waits for its turn.
type Step<'a> = Pin<Box<dyn Future<Output = Result<String, ReloadError>> + Send + 'a>>;

async fn run_reload(invocation: Invocation, limit: Duration, told: String) -> Result<String, ReloadError> {
    match command::run(&invocation, limit).await {
        Ok(_) => Ok(told),
        Err(e) => Err(ReloadError { cause: format!("{}\n{}", with_causes(&e), e.output()), rejected: false }),
    }
}
