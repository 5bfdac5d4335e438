//! Keeps every row as one entry of a redb file in the data directory.
//!
//! A batch is one transaction and one fsync. Lazy batches wait in memory for the next one that is not; a clean stop
//! writes them too. There is no log to compact and nothing to replay: to start is to read the table.
//!
//! After a failed write nobody knows what the disk has of it. The file is then closed, opened again as after a power
//! cut, and the rows that the failed batch touched are written back before anything else.

use std::{
    collections::BTreeMap,
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use kvstore_client::with_causes;
use kvstore_core::{
    Changes, Index, Op, Put,
    row::{Row, RowRange, Stamped},
};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition};

use super::{
    Commit, Conflict, Engine, EngineError, Loaded, Proposal,
    file::{DataDir, Disk},
};

/// Rows by their encoded keys.
const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");

/// Numbers about the store itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// In [`META`]: how the rest is to be read.
const FORMAT: &str = "format";

/// The format written, and the newest that is understood.
const CURRENT_FORMAT: u64 = 1;

/// In [`META`]: no index above this one has been given out.
const RESERVED: &str = "index";

/// So many indexes are reserved at a time: most batches need not touch [`META`], and lazy ones no disk.
const RESERVE: u64 = 4096;

/// Indexes stay below 2^53, which JavaScript reads exactly.
const INDEX_END: u64 = 1 << 53;

/// Reads come from memory; this only saves reading back the upper pages of the trees while writing.
const CACHE_BYTES: usize = 4 << 20;

/// A lazy batch is written at once when so many rows wait already.
const MAX_UNWRITTEN: usize = 4096;

/// From one attempt to open the file again after a failed write to the next: it reads the whole file.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// What went wrong below, whatever its type.
type Cause = Box<dyn Error + Send + Sync>;

/// Rows as encoded; `None`: to be absent.
type Rows = BTreeMap<String, Option<Vec<u8>>>;

/// The engine of a single kvstore.
pub struct Embedded {
    disk: Box<dyn Disk>,
    /// None from a failed write until the file could be opened again.
    db: Option<Database>,
    index: Index,
    /// As stored in [`META`].
    reserved: Index,
    /// Rows that the file lacks, or may have otherwise: lazy ones, and those of a failed batch as they were before it.
    unwritten: Rows,
    log: Vec<Commit>,
    /// When writing failed, and how; none once it succeeded.
    failed: Option<(Instant, String)>,
    reopen_pause: Duration,
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
        Self::on(Box::new(DataDir::lock(dir)?), fresh, REOPEN_PAUSE)
    }

    pub(super) fn on(disk: Box<dyn Disk>, fresh: Index, reopen_pause: Duration) -> Result<Self, EngineError> {
        let opened = open_or_create(&*disk, fresh);
        let (db, index) = opened.map_err(|why| EngineError::Open { path: disk.path().display().to_string(), why })?;
        Ok(Self {
            disk,
            db: Some(db),
            index,
            reserved: index,
            unwritten: Rows::new(),
            log: Vec::new(),
            failed: None,
            reopen_pause,
        })
    }

    fn path(&self) -> String {
        self.disk.path().display().to_string()
    }

    /// Whether `batch`, which ends with the index `last`, can wait in memory.
    fn may_wait(&self, batch: &[Proposal], last: Index) -> bool {
        let single_rows = |changes: &Changes| !changes.ops.iter().any(|op| matches!(op, Op::DeleteRange(_)));
        let lazy = |proposal: &Proposal| proposal.lazy && single_rows(&proposal.changes);
        batch.iter().all(lazy) && last <= self.reserved && self.unwritten.len() < MAX_UNWRITTEN
    }

    fn keep_in_memory(&mut self, batch: &[Proposal]) {
        let mut index = self.index;
        for Proposal { changes, .. } in batch {
            index = changes.index_after(index);
            for op in &changes.ops {
                match op {
                    Op::Put(put) => {
                        let (key, value) = encoded(put, index);
                        self.unwritten.insert(key, Some(value));
                    }
                    Op::Delete(key) => drop(self.unwritten.insert(key.encode(), None)),
                    Op::DeleteRange(_) => unreachable!("such a batch does not wait"),
                }
            }
        }
    }

    /// Writes what waits in memory and `batch` in one transaction, and reserves indexes up to `reserve` if one is given.
    fn write(&mut self, batch: &[Proposal], reserve: Option<Index>) -> Result<(), Cause> {
        let db = self.reopened()?;
        let mut before = Rows::new();
        let written = guarded(|| {
            transact(&db, |rows| {
                write_rows(rows, &self.unwritten)?;
                let mut index = self.index;
                for proposal in batch {
                    index = proposal.changes.index_after(index);
                    write_changes(rows, &proposal.changes, index, &mut before)?;
                }
                Ok(reserve)
            })
        });
        if let Err(cause) = written {
            // The transaction may have reached the disk all the same: what it changed is to be written back.
            for (key, value) in before {
                self.unwritten.entry(key).or_insert(value);
            }
            self.failed = Some((Instant::now(), cause.to_string()));
            return Err(cause);
        }
        self.db = Some(db);
        self.unwritten.clear();
        self.reserved = reserve.unwrap_or(self.reserved);
        Ok(())
    }

    /// The database; after a failed write opened again, with what the failed batch may have changed put right.
    fn reopened(&mut self) -> Result<Database, Cause> {
        if let Some(db) = self.db.take() {
            return Ok(db);
        }
        if let Some((when, why)) = &self.failed
            && when.elapsed() < self.reopen_pause
        {
            return Err(why.clone().into());
        }
        let reopened = guarded(|| self.reopen());
        match &reopened {
            Ok(_) => {
                tracing::info!(path = self.path(), "the store can be written again");
                self.failed = None;
            }
            Err(cause) => self.failed = Some((Instant::now(), cause.to_string())),
        }
        reopened
    }

    fn reopen(&mut self) -> Result<Database, Cause> {
        let db = self.disk.open(&builder())?;
        // Alone, before any new batch: so there is never more to put right than one batch.
        transact(&db, |rows| write_rows(rows, &self.unwritten).map(|()| None))?;
        self.unwritten.clear();
        Ok(db)
    }
}

impl Engine for Embedded {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let rows =
            self.db.as_ref().map_or_else(|| Err("it is closed".into()), |db| guarded(|| read_all(db, self.index)));
        let rows = rows.map_err(|cause| EngineError::Open { path: self.path(), why: damaged(&cause) })?;
        Ok(Loaded { index: self.index, rows })
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Conflict>>, EngineError> {
        let last = batch.iter().fold(self.index, |last, proposal| proposal.changes.index_after(last));
        if self.may_wait(&batch, last) {
            self.keep_in_memory(&batch);
        } else {
            let reserve = (last > self.reserved).then_some(Index(last.0 + RESERVE));
            self.write(&batch, reserve).map_err(|source| EngineError::Write { path: self.path(), source })?;
        }
        let mut committed = Vec::with_capacity(batch.len());
        for proposal in batch {
            self.index = proposal.changes.index_after(self.index);
            self.log.push(Commit { index: self.index, changes: proposal.changes });
            committed.push(Ok(self.index));
        }
        Ok(committed)
    }

    fn log(&mut self) -> Vec<Commit> {
        std::mem::take(&mut self.log)
    }
}

impl Drop for Embedded {
    /// Writes what waits in memory, and gives back the indexes that were reserved and not used.
    fn drop(&mut self) {
        self.reopen_pause = Duration::ZERO;
        let unused = (self.index < self.reserved).then_some(self.index);
        if (unused.is_some() || !self.unwritten.is_empty())
            && let Err(cause) = self.write(&[], unused)
        {
            tracing::warn!(path = self.path(), %cause, "the latest results of checks could not be stored");
        }
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The store and the last index it may have given out; or why not.
fn open_or_create(disk: &dyn Disk, fresh: Index) -> Result<(Database, Index), String> {
    if !disk.exists().map_err(|e| e.to_string())? {
        create(disk, fresh).map_err(|cause| format!("it cannot be made: {cause}"))?;
    }
    let opened = guarded(|| {
        let mut db = disk.open(&builder())?;
        // After a clean stop redb believes what it reads; this compares all of it with its checksums.
        db.check_integrity()?;
        let meta = read_meta(&db)?;
        Ok((db, meta))
    });
    let (db, (format, reserved)) = opened.map_err(|cause| match cause.downcast_ref() {
        Some(DatabaseError::DatabaseAlreadyOpen) => "another program has opened it; stop that one".into(),
        Some(DatabaseError::Storage(StorageError::Io(e))) if e.raw_os_error().is_some() => e.to_string(),
        _ => damaged(&cause),
    })?;
    match (format, reserved) {
        (Some(format), _) if format > CURRENT_FORMAT => Err(format!(
            "it has format {format}, and this kvstore reads no newer one than {CURRENT_FORMAT}; use the newer kvstore \
             that wrote it, or choose another --data-dir"
        )),
        (Some(_), Some(reserved)) if reserved < INDEX_END => Ok((db, Index(reserved))),
        _ => Err(damaged(&"its format or its index is missing or wrong".into())),
    }
}

/// Makes a store beside its place and puts it there: a power cut meanwhile leaves none, and not half of one.
fn create(disk: &dyn Disk, fresh: Index) -> Result<(), Cause> {
    let db = disk.create(&builder())?;
    let tx = db.begin_write()?;
    tx.open_table(ROWS)?;
    tx.open_table(META)?.insert(FORMAT, CURRENT_FORMAT)?;
    tx.open_table(META)?.insert(RESERVED, fresh.0)?;
    tx.commit()?;
    drop(db);
    Ok(disk.publish()?)
}

/// Runs `work` on the file; redb panics on some kinds of damage, which must not end the program without a word on the
/// file.
fn guarded<T>(work: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        Err(format!("redb gave up on it ({text})").into())
    })
}

fn damaged(cause: &Cause) -> String {
    let what = with_causes(&**cause);
    format!("it is damaged: {what}; it stays where it is: put a backup in its place, or move it away to begin empty")
}

fn read_meta(db: &Database) -> Result<(Option<u64>, Option<u64>), Cause> {
    let meta = db.begin_read()?.open_table(META)?;
    let number = |name| -> Result<_, Cause> { Ok(meta.get(name)?.map(|number| number.value())) };
    Ok((number(FORMAT)?, number(RESERVED)?))
}

/// Every row; `index` is the last one that can have been given out.
fn read_all(db: &Database, index: Index) -> Result<Vec<Stamped<Row>>, Cause> {
    let table = db.begin_read()?.open_table(ROWS)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let row = Row::decode(key.value(), value.value())?;
        if row.modified > index {
            return Err(format!("row {:?} has an index that was never given out", key.value()).into());
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Runs `write` on the rows, stores the reservation it gives, and makes all of it durable with one fsync.
fn transact(
    db: &Database,
    write: impl FnOnce(&mut Table<&'static str, &'static [u8]>) -> Result<Option<Index>, Cause>,
) -> Result<(), Cause> {
    let tx = db.begin_write()?;
    let reserve = write(&mut tx.open_table(ROWS)?)?;
    if let Some(Index(reserve)) = reserve {
        tx.open_table(META)?.insert(RESERVED, reserve)?;
    }
    Ok(tx.commit()?)
}

fn write_rows(table: &mut Table<&'static str, &'static [u8]>, rows: &Rows) -> Result<(), Cause> {
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    Ok(())
}

/// Carries out `changes`, noting in `before` what each row was before the batch.
fn write_changes(
    table: &mut Table<&'static str, &'static [u8]>,
    changes: &Changes,
    index: Index,
    before: &mut Rows,
) -> Result<(), Cause> {
    for op in &changes.ops {
        match op {
            Op::Put(put) => {
                let (key, value) = encoded(put, index);
                let old = table.insert(key.as_str(), value.as_slice())?.map(|old| old.value().to_vec());
                before.entry(key).or_insert(old);
            }
            Op::Delete(key) => remove(table, key.encode(), before)?,
            Op::DeleteRange(range) => {
                for key in keys_in(table, range)? {
                    remove(table, key, before)?;
                }
            }
        }
    }
    Ok(())
}

fn remove(table: &mut Table<&'static str, &'static [u8]>, key: String, before: &mut Rows) -> Result<(), Cause> {
    let old = table.remove(key.as_str())?.map(|old| old.value().to_vec());
    before.entry(key).or_insert(old);
    Ok(())
}

fn keys_in(table: &impl ReadableTable<&'static str, &'static [u8]>, range: &RowRange) -> Result<Vec<String>, Cause> {
    let prefix = range.prefix();
    let mut keys = Vec::new();
    for entry in table.range(prefix.as_str()..)? {
        let (key, _) = entry?;
        if !key.value().starts_with(&prefix) {
            break;
        }
        if range.contains(key.value()) {
            keys.push(key.value().into());
        }
    }
    Ok(keys)
}

fn encoded(put: &Put, index: Index) -> (String, Vec<u8>) {
    (put.row.key().encode(), put.row.encode(put.created.unwrap_or(index), index))
}
