//! Keeps every row in files of the data directory: the tables of redb, and two journals of what they lack.
//!
//! A batch is one record of a journal and one fsync. When the journal is full, the tables take what it has in one
//! transaction, on a thread of their own, while the other journal is written. Lazy batches wait in memory for the next one
//! that is not. To start is to read the tables and what the journals have beyond them; after a clean stop that is nothing.
//!
//! After a failed write nobody knows what the disk has of it. So it is not built upon: before the next batch the tables
//! take all that was acknowledged, and name a new run. The tables take only what was in a journal before, and are read
//! anew from the disk if it was they that failed. Nothing is to be undone anywhere.

use std::{
    path::Path,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use kvstore_client::with_causes;
use kvstore_core::{
    Changes, Index,
    row::{Row, Stamped},
};

use super::{
    Commit, Engine, EngineError, Entry, Loaded, Proposal, Rejected,
    delta::Delta,
    file::{DataDir, Disk, Part},
    journal::{self, Journals},
    tables::{self, Cause, Meta, OWN, Tables},
};

/// So many indexes are reserved with each write, so that lazy batches need no disk.
const RESERVE: u64 = 4096;

/// A copy has no index but those of what it copies.
const NO_RESERVE: u64 = 0;

/// A lazy batch is written at once when so many rows wait already.
const MAX_WAITING: usize = 4096;

/// What tests have smaller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What a new journal holds. The more, the fewer pages the tables write for it all, and the more memory it takes.
    pub(super) journal_bytes: usize,
    /// From one attempt to write again after a failed one to the next: it may have to read the whole file.
    pub(super) pause: Duration,
    /// So many indexes are reserved with each write.
    pub(super) reserve: u64,
}

const LIMITS: Limits = Limits { journal_bytes: 1 << 20, pause: Duration::from_millis(500), reserve: RESERVE };

/// The engine of a single kvstore.
pub struct Embedded {
    disk: Box<dyn Disk>,
    limits: Limits,
    /// None from a failed write to them until they could be opened again.
    tables: Option<Arc<Tables>>,
    /// As the tables have it, apart from what they are taking.
    meta: Meta,
    /// The last run that may have a record.
    run: u64,
    /// None until the tables have named the run that is written.
    journals: Option<Journals>,
    index: Index,
    /// No index above this one is given out without a write.
    reserved: Index,
    /// In a journal, and not in the tables nor on its way there.
    journaled: Delta,
    moving: Option<Moving>,
    /// In memory alone.
    waiting: Delta,
    commits: Vec<Entry>,
    /// When writing failed, and how; none once it succeeded.
    failed: Option<(Instant, String)>,
}

/// A full journal that the tables are taking.
struct Moving {
    delta: Arc<Delta>,
    /// As the tables have it then.
    meta: Meta,
    /// Tells whether they have; none if the system had no thread for it.
    thread: Option<JoinHandle<bool>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.disk.path()).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in `dir`, making directory and store where they are missing; the first change of a new store
    /// comes after `fresh`.
    ///
    /// # Errors
    /// [`EngineError::Open`] if the directory is in use or the store cannot be read; a damaged store is left as it is.
    pub fn open(dir: &Path, fresh: Index) -> Result<Self, EngineError> {
        let store = Self::on(Box::new(DataDir::lock(dir)?), fresh, LIMITS)?;
        if store.meta.copy_of == OWN { Ok(store) } else { Err(store.is_a_copy()) }
    }

    /// Opens the copy of another registry in `dir`, as [`Embedded::open`] does a store. Its indexes are that registry's,
    /// after a crash too. A damaged one is thrown away, as long as it is a copy.
    ///
    /// # Errors
    /// [`EngineError::Open`] if the directory is in use or no copy can be made there.
    pub(crate) fn open_copy(dir: &Path) -> Result<Self, EngineError> {
        let limits = Limits { reserve: NO_RESERVE, ..LIMITS };
        let opened = Self::on(Box::new(DataDir::lock(dir)?), Index(1), limits);
        match opened {
            Ok(copy) => Ok(copy),
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "the copy of the registry cannot be used and is made anew");
                let disk = DataDir::lock(dir)?;
                disk.clear().map_err(|e| EngineError::Open { path: dir.display().to_string(), why: e.to_string() })?;
                Self::on(Box::new(disk), Index(1), limits)
            }
        }
    }

    /// Of a copy: the life of the registry that it is of, none before the first.
    pub(crate) fn copy_of(&self) -> Option<u64> {
        (self.meta.copy_of != OWN).then_some(self.meta.copy_of)
    }

    /// Has `loaded`, which is all that a registry had in that life, take the place of all there is. The index may be
    /// lower than before.
    ///
    /// # Errors
    /// [`EngineError::Write`]: nobody knows what the disk has. To be tried again before anything else.
    pub(crate) fn replace(
        &mut self,
        life: u64,
        index: Index,
        rows: impl Iterator<Item = Stamped<Row>>,
    ) -> Result<(), EngineError> {
        self.settle();
        self.journals = None;
        (self.waiting, self.journaled) = (Delta::default(), Delta::of_all(rows));
        (self.index, self.reserved, self.meta.copy_of) = (index, index, life);
        self.journals = Some(self.begin().map_err(|source| EngineError::Write { path: self.path(), source })?);
        Ok(())
    }

    /// Has `commits` of the registry that this is a copy of follow, each at its own index.
    ///
    /// # Errors
    /// [`EngineError::Write`]: none of them does.
    pub(crate) fn follow(&mut self, commits: Vec<Commit>) -> Result<(), EngineError> {
        let proposal = |Commit { index, changes }: Commit| {
            // The next index there is after the one before is just that.
            Proposal { changes: Changes { above: Index(index.0 - 1), ..changes }, lazy: false }
        };
        self.commit(commits.into_iter().map(proposal).collect())?;
        // The log tells what was just told.
        self.commits.clear();
        Ok(())
    }

    fn is_a_copy(&self) -> EngineError {
        let why = "it is a replica's copy of another registry; to go on with what is in it, save a snapshot of that replica \
                   and restore it where another --data-dir is given";
        EngineError::Open { path: self.path(), why: why.into() }
    }

    /// Opens the store in `dir`, if there is one.
    ///
    /// # Errors
    /// As [`Embedded::open`], and if there is none; nothing is made then.
    pub(super) fn open_existing(dir: &Path) -> Result<Self, EngineError> {
        if !dir.join(Part::Tables.name()).is_file() {
            let why = format!("there is no {} in it", Part::Tables.name());
            return Err(EngineError::Open { path: dir.display().to_string(), why });
        }
        Self::open(dir, Index(1))
    }

    /// Makes a store in `dir` with all that another one had. It is there as a whole, read back, or not at all.
    ///
    /// # Errors
    /// As [`Embedded::check_vacant`], or if the disk does not take it.
    pub(super) fn create(dir: &Path, with: &Loaded) -> Result<(), EngineError> {
        Self::check_vacant(dir)?;
        let disk = DataDir::lock(dir)?;
        let refused = |source| EngineError::Write { path: dir.display().to_string(), source };
        tables::create(&disk, with).map_err(refused)
    }

    /// # Errors
    /// [`EngineError::Open`] if there is a store in `dir`, or a part of one.
    pub(super) fn check_vacant(dir: &Path) -> Result<(), EngineError> {
        let parts = [Part::Tables, Part::EvenJournal, Part::OddJournal].map(Part::name);
        let there: Vec<_> = parts.into_iter().filter(|name| dir.join(name).exists()).collect();
        if there.is_empty() {
            return Ok(());
        }
        let why = format!("there is a registry in it already; move {} away, or choose another", there.join(", "));
        Err(EngineError::Open { path: dir.display().to_string(), why })
    }

    pub(super) fn on(disk: Box<dyn Disk>, fresh: Index, limits: Limits) -> Result<Self, EngineError> {
        let refused = |why| EngineError::Open { path: disk.path().display().to_string(), why };
        let (tables, meta) = Tables::open_or_create(&*disk, fresh).map_err(refused)?;
        let found = journal::recover(&*disk, meta).map_err(refused)?;
        let index = meta.index.max(found.index.unwrap_or(meta.index));
        Ok(Self {
            disk,
            limits,
            tables: Some(Arc::new(tables)),
            meta,
            run: meta.run.max(found.run),
            journals: None,
            index,
            reserved: index,
            journaled: found.delta,
            moving: None,
            waiting: Delta::default(),
            commits: Vec::new(),
            failed: None,
        })
    }

    fn path(&self) -> String {
        self.disk.path().display().to_string()
    }

    /// Whether `batch`, which ends with the index `last`, can wait in memory.
    fn may_wait(&self, batch: &[Proposal], last: Index) -> bool {
        batch.iter().all(|proposal| proposal.lazy) && last <= self.reserved && self.waiting.rows.len() < MAX_WAITING
    }

    /// Makes what waits in memory and then `delta`, whose last index is `last`, durable.
    fn write(&mut self, delta: Delta, last: Index) -> Result<(), Cause> {
        if let Some((when, why)) = &self.failed
            && when.elapsed() < self.limits.pause
        {
            return Err(why.clone().into());
        }
        let reserved = Index(last.0 + self.limits.reserve);
        if let Err(cause) = self.append(&delta, reserved) {
            self.failed = Some((Instant::now(), cause.to_string()));
            return Err(cause);
        }
        if self.failed.take().is_some() {
            tracing::info!(path = self.path(), "the store can be written again");
        }
        self.reserved = reserved;
        self.journaled.extend(std::mem::take(&mut self.waiting));
        self.journaled.extend(delta);
        Ok(())
    }

    fn append(&mut self, delta: &Delta, reserved: Index) -> Result<(), Cause> {
        let mut text = Vec::new();
        self.waiting.encode(&mut text);
        delta.encode(&mut text);
        // Gone from here until all has succeeded.
        let mut journals = match self.journals.take() {
            Some(journals) if journals.has_room(&text) => journals,
            Some(journals) => self.turn(journals)?,
            None => self.begin()?,
        };
        journals.append(reserved, &text)?;
        self.journals = Some(journals);
        Ok(())
    }

    /// The first run since the start or a failed write.
    fn begin(&mut self) -> Result<Journals, Cause> {
        self.settle();
        let mut journals = Journals::open_or_create(&*self.disk, self.meta.store, self.limits.journal_bytes)?;
        self.move_now(self.next_meta())?;
        journals.begin(self.run)?;
        Ok(journals)
    }

    /// Turns from the journal that is full to the other, once the tables have that one's content.
    fn turn(&mut self, mut journals: Journals) -> Result<Journals, Cause> {
        if self.settle() {
            self.start_moving();
            journals.go_on_with(self.run)?;
        } else {
            self.move_now(self.next_meta())?;
            journals.begin(self.run)?;
        }
        Ok(journals)
    }

    fn next_meta(&self) -> Meta {
        Meta { index: self.reserved, run: self.run + 1, unfinished: true, ..self.meta }
    }

    /// Has the tables take what is in the journals, and waits for it.
    fn move_now(&mut self, meta: Meta) -> Result<(), Cause> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => Arc::new(Tables::reopen(&*self.disk)?),
        };
        tables.take(&self.journaled, meta)?;
        self.tables = Some(tables);
        (self.run, self.meta) = (meta.run, meta);
        self.journaled = Delta::default();
        Ok(())
    }

    /// Has them take it while we go on. [`Embedded::settle`] comes before the next time.
    fn start_moving(&mut self) {
        let meta = self.next_meta();
        self.run = meta.run;
        let delta = Arc::new(std::mem::take(&mut self.journaled));
        let (tables, taken, path) = (self.tables.clone(), delta.clone(), self.path());
        let work = move || {
            let done = tables.map_or_else(|| Err("they are closed".into()), |tables| tables.take(&taken, meta));
            if let Err(cause) = &done {
                tracing::warn!(path, %cause, "the store's journal could not be emptied; it is tried again when the other is full");
            }
            done.is_ok()
        };
        let thread = Builder::new().name("journal".into()).spawn(work).ok();
        self.moving = Some(Moving { delta, meta, thread });
    }

    /// Waits until the tables have taken what they were taking; whether they lack nothing but the current run.
    fn settle(&mut self) -> bool {
        let Some(Moving { delta, meta, thread }) = self.moving.take() else { return self.tables.is_some() };
        if thread.is_some_and(|thread| thread.join().unwrap_or(false)) {
            self.meta = meta;
            return true;
        }
        self.tables = None;
        let later = std::mem::replace(&mut self.journaled, Arc::unwrap_or_clone(delta));
        self.journaled.extend(later);
        false
    }
}

impl Engine for Embedded {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let tables = self.tables.as_ref().ok_or_else(|| "it is closed".to_owned());
        let rows = tables.and_then(|tables| tables.rows(&self.journaled, self.index));
        let rows = rows.map_err(|why| EngineError::Open { path: self.path(), why })?;
        Ok(Loaded { index: self.index, rows })
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Rejected>>, EngineError> {
        let (mut delta, mut last) = (Delta::default(), self.index);
        for Proposal { changes, .. } in &batch {
            last = changes.index_after(last);
            delta.add(changes, last);
        }
        if self.may_wait(&batch, last) {
            self.waiting.extend(delta);
        } else {
            self.write(delta, last).map_err(|source| EngineError::Write { path: self.path(), source })?;
        }
        let mut committed = Vec::with_capacity(batch.len());
        for Proposal { changes, .. } in batch {
            self.index = changes.index_after(self.index);
            self.commits.push(Entry::Commit(Commit { index: self.index, changes }));
            committed.push(Ok(self.index));
        }
        Ok(committed)
    }

    fn log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.commits)
    }
}

impl Drop for Embedded {
    /// Moves everything to the tables, and gives back the indexes that were reserved and not used.
    fn drop(&mut self) {
        self.settle();
        if !self.meta.unfinished && self.index == self.meta.index {
            return;
        }
        self.journaled.extend(std::mem::take(&mut self.waiting));
        let clean = Meta { index: self.index, unfinished: false, ..self.next_meta() };
        if let Err(cause) = self.move_now(clean) {
            tracing::warn!(path = self.path(), %cause, "the latest results of checks could not be stored");
        }
    }
}
