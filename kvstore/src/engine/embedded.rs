//! Keeps every row in two files of the data directory: the tables of redb, and a journal of what they lack.
//!
//! A batch is one record of the journal and one fsync. When the journal is full, the tables take what it has in one
//! transaction, and it begins again. Lazy batches wait in memory for the next one that is not. To start is to read the
//! tables and what the journal has beyond them; after a clean stop that is nothing.
//!
//! After a failed write nobody knows what the disk has of it. So it is not built upon: the next batch begins another run
//! of the journal, and the tables, which take only what was in the journal before, are read anew from the disk if it was
//! they that failed. Nothing is to be undone anywhere.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use kvstore_core::Index;

use super::{
    Commit, Conflict, Engine, EngineError, Loaded, Proposal,
    delta::Delta,
    file::{DataDir, Disk},
    journal::{self, Journal},
    tables::{Cause, Meta, Tables},
};

/// So many indexes are reserved with each write, so that lazy batches need no disk.
const RESERVE: u64 = 4096;

/// A lazy batch is written at once when so many rows wait already.
const MAX_WAITING: usize = 4096;

/// What tests have smaller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What a new journal holds. The more, the longer writes wait while the tables take it, and the fewer do.
    pub(super) journal_bytes: usize,
    /// From one attempt to write again after a failed one to the next: it may have to read the whole file.
    pub(super) pause: Duration,
}

const LIMITS: Limits = Limits { journal_bytes: 1 << 20, pause: Duration::from_millis(500) };

/// The engine of a single kvstore.
pub struct Embedded {
    disk: Box<dyn Disk>,
    limits: Limits,
    /// None from a failed write to them until they could be opened again.
    tables: Option<Tables>,
    /// As the tables have it.
    meta: Meta,
    /// None until the tables have named the run that it writes.
    journal: Option<Journal>,
    index: Index,
    /// No index above this one is given out without a write.
    reserved: Index,
    /// In the journal and not in the tables.
    journaled: Delta,
    /// In memory alone.
    waiting: Delta,
    commits: Vec<Commit>,
    /// When writing failed, and how; none once it succeeded.
    failed: Option<(Instant, String)>,
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
        Self::on(Box::new(DataDir::lock(dir)?), fresh, LIMITS)
    }

    pub(super) fn on(disk: Box<dyn Disk>, fresh: Index, limits: Limits) -> Result<Self, EngineError> {
        let refused = |why| EngineError::Open { path: disk.path().display().to_string(), why };
        let (tables, meta) = Tables::open_or_create(&*disk, fresh).map_err(refused)?;
        let found = journal::recover(&*disk, meta).map_err(refused)?;
        let index = meta.index.max(found.index.unwrap_or(meta.index));
        Ok(Self {
            disk,
            limits,
            tables: Some(tables),
            meta,
            journal: None,
            index,
            reserved: index,
            journaled: found.delta,
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
        let reserved = Index(last.0 + RESERVE);
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
        let mut journal = match self.journal.take() {
            Some(journal) if journal.has_room(&text) => journal,
            Some(journal) => self.begin_run(journal)?,
            None => {
                let journal = Journal::open_or_create(&*self.disk, self.meta.store, self.limits.journal_bytes)?;
                self.begin_run(journal)?
            }
        };
        journal.append(reserved, &text)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Has the tables take what is in `journal`, which then begins again.
    fn begin_run(&mut self, mut journal: Journal) -> Result<Journal, Cause> {
        let run = self.meta.run + 1;
        self.move_to_tables(Meta { index: self.reserved, run, unfinished: true, ..self.meta })?;
        journal.begin(run)?;
        Ok(journal)
    }

    fn move_to_tables(&mut self, meta: Meta) -> Result<(), Cause> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => Tables::reopen(&*self.disk)?,
        };
        tables.take(&self.journaled, meta)?;
        self.tables = Some(tables);
        self.meta = meta;
        self.journaled = Delta::default();
        Ok(())
    }
}

impl Engine for Embedded {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let tables = self.tables.as_ref().ok_or_else(|| "it is closed".to_owned());
        let rows = tables.and_then(|tables| tables.rows(&self.journaled, self.index));
        let rows = rows.map_err(|why| EngineError::Open { path: self.path(), why })?;
        Ok(Loaded { index: self.index, rows })
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Conflict>>, EngineError> {
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
            self.commits.push(Commit { index: self.index, changes });
            committed.push(Ok(self.index));
        }
        Ok(committed)
    }

    fn log(&mut self) -> Vec<Commit> {
        std::mem::take(&mut self.commits)
    }
}

impl Drop for Embedded {
    /// Moves everything to the tables, and gives back the indexes that were reserved and not used.
    fn drop(&mut self) {
        let clean = Meta { index: self.index, run: self.meta.run + 1, unfinished: false, ..self.meta };
        if !self.meta.unfinished && self.index == self.meta.index {
            return;
        }
        self.journaled.extend(std::mem::take(&mut self.waiting));
        if let Err(cause) = self.move_to_tables(clean) {
            tracing::warn!(path = self.path(), %cause, "the latest results of checks could not be stored");
        }
    }
}
