//! The rows as redb keeps them in a file, and the numbers beside them that tell how the files are to be read.

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
};

use kvstore_client::with_causes;
use kvstore_core::{
    Index,
    row::{Row, RowRange, Stamped},
};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition,
    TableError, TransactionError,
};

use super::{
    Loaded,
    delta::Delta,
    file::{Disk, Part},
    moving::Sum,
};

/// Rows by their encoded keys.
const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");

/// Numbers about the store itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// In [`META`]: how the rest is to be read.
const FORMAT: &str = "format";

/// The format written, and the one that is understood. The two before it were never released.
const CURRENT_FORMAT: u64 = 3;

/// In [`META`]: [`Meta`]'s fields.
const INDEX: &str = "index";
const STORE: &str = "store";
const RUN: &str = "run";
const UNFINISHED: &str = "unfinished";
const COPY_OF: &str = "copy-of";

/// A store that is no copy.
pub(super) const OWN: u64 = 0;

/// Indexes stay below 2^53, which JavaScript reads exactly.
const INDEX_END: u64 = 1 << 53;

/// Reads come from memory; this only saves reading back the upper pages of the trees while writing.
const CACHE_BYTES: usize = 4 << 20;

/// What went wrong below, whatever its type.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

type Rows<'a> = Table<'a, &'static str, &'static [u8]>;

/// What the tables know beside the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// No index above this one was given out when it was written.
    pub(super) index: Index,
    /// Which store this is: its journals have the same number.
    pub(super) store: u64,
    /// The first run whose records the tables lack; all of earlier ones they have. Only one more can have records.
    pub(super) run: u64,
    /// Whether there may be such records; not so after a clean stop.
    pub(super) unfinished: bool,
    /// Of a copy: the life of the registry that it is of; else [`OWN`].
    pub(super) copy_of: u64,
}

/// An open file of tables.
pub(super) struct Tables(Database);

impl Tables {
    /// The tables, made where they are missing, and what they know; or why not.
    pub(super) fn open_or_create(disk: &dyn Disk, fresh: Index) -> Result<(Self, Meta), String> {
        if !disk.exists(Part::Tables).map_err(|e| e.to_string())? {
            create(disk, &Loaded { index: fresh, rows: Vec::new() })
                .map_err(|cause| format!("it cannot be made: {}", with_causes(&*cause)))?;
        }
        let opened = guarded(|| {
            let mut db = disk.open(&builder())?;
            // After a clean stop redb believes what it reads; this compares all of it with its checksums.
            db.check_integrity()?;
            let numbers = numbers(&db)?;
            Ok((db, numbers))
        });
        let (db, numbers) = opened.map_err(|cause| match cause.downcast_ref() {
            Some(DatabaseError::DatabaseAlreadyOpen) => "another program has opened it; stop that one".into(),
            _ => unreadable(&cause),
        })?;
        Ok((Self(db), understood(&numbers)?))
    }

    /// The tables that were open before a write failed.
    pub(super) fn reopen(disk: &dyn Disk) -> Result<Self, Cause> {
        guarded(|| Ok(Self(disk.open(&builder())?)))
    }

    /// Makes `delta` and `meta` durable in one transaction.
    pub(super) fn take(&self, delta: &Delta, meta: Meta) -> Result<(), Cause> {
        guarded(|| {
            let tx = self.0.begin_write()?;
            write_rows(&mut tx.open_table(ROWS)?, delta)?;
            write_meta(&mut tx.open_table(META)?, meta)?;
            Ok(tx.commit()?)
        })
    }

    /// Every row as it is once `later` is taken; `index` is the last one that can have been given out.
    ///
    /// # Errors
    /// What is to be said of a store that cannot be read.
    pub(super) fn rows(&self, later: &Delta, index: Index) -> Result<Vec<Stamped<Row>>, String> {
        guarded(|| read_rows(&self.0, later, index)).map_err(|cause| unreadable(&cause))
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes a store beside its place and puts it there: a power cut meanwhile leaves none, and not half of one.
pub(super) fn create(disk: &dyn Disk, with: &Loaded) -> Result<(), Cause> {
    for part in [Part::EvenJournal, Part::OddJournal] {
        if disk.exists(part)? {
            let journal = part.name();
            return Err(format!(
                "{journal} beside it has changes of a store that is gone; put that back, or move {journal} away"
            )
            .into());
        }
    }
    let tables = Tables(disk.create(&builder())?);
    let (index, rows) = (with.index, Delta::of_all(with.rows.iter().cloned()));
    tables.take(&rows, Meta { index, store: rand::random(), run: 0, unfinished: false, copy_of: OWN })?;
    let (wanted, read) = (Sum::of(&with.rows), Sum::of(&tables.rows(&Delta::default(), index)?));
    if read != wanted {
        return Err(format!("what was read back ({read}) is not what was put ({wanted})").into());
    }
    drop(tables);
    Ok(disk.publish(Part::Tables)?)
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

/// What is to be said of a file that cannot be read: what the system says, if it does, or else that it is damaged.
fn unreadable(cause: &Cause) -> String {
    let storage = cause.downcast_ref::<StorageError>().or_else(|| match cause.downcast_ref() {
        Some(DatabaseError::Storage(storage)) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match cause.downcast_ref() {
        Some(TableError::Storage(storage)) => Some(storage),
        _ => None,
    });
    let storage = storage.or_else(|| match cause.downcast_ref() {
        Some(TransactionError::Storage(storage)) => Some(storage),
        _ => None,
    });
    match storage {
        Some(StorageError::Io(error)) if error.raw_os_error().is_some() => error.to_string(),
        _ => damaged(cause),
    }
}

fn damaged(cause: &Cause) -> String {
    let (what, tables) = (with_causes(&**cause), Part::Tables.name());
    let [even, odd] = [Part::EvenJournal, Part::OddJournal].map(Part::name);
    format!(
        "it is damaged: {what}; it stays where it is: put a backup in its place, or move {tables}, {even} and {odd} away \
         to begin empty"
    )
}

/// All of [`META`].
type Numbers = BTreeMap<String, u64>;

fn numbers(db: &Database) -> Result<Numbers, Cause> {
    let mut numbers = Numbers::new();
    for entry in db.begin_read()?.open_table(META)?.iter()? {
        let (name, number) = entry?;
        numbers.insert(name.value().into(), number.value());
    }
    Ok(numbers)
}

fn understood(numbers: &Numbers) -> Result<Meta, String> {
    let number = |name| numbers.get(name).copied();
    let all = (number(FORMAT), number(INDEX), number(STORE), number(RUN), number(UNFINISHED));
    match all {
        (Some(format), ..) if format != CURRENT_FORMAT => Err(format!(
            "it has format {format}, and this kvstore reads {CURRENT_FORMAT}; have the kvstore that wrote it save a \
             snapshot and restore that here, or choose another --data-dir"
        )),
        (Some(_), Some(index), Some(store), Some(run), Some(unfinished)) if index < INDEX_END => {
            let copy_of = number(COPY_OF).unwrap_or(OWN);
            Ok(Meta { index: Index(index), store, run, unfinished: unfinished != 0, copy_of })
        }
        _ => Err(damaged(&"its format, its index or another of its numbers is missing or wrong".into())),
    }
}

fn write_meta(table: &mut Table<&'static str, u64>, meta: Meta) -> Result<(), Cause> {
    let Meta { index, store, run, unfinished, copy_of } = meta;
    let numbers = [
        (FORMAT, CURRENT_FORMAT),
        (INDEX, index.0),
        (STORE, store),
        (RUN, run),
        (UNFINISHED, unfinished.into()),
        (COPY_OF, copy_of),
    ];
    for (name, number) in numbers {
        table.insert(name, number)?;
    }
    Ok(())
}

fn write_rows(table: &mut Rows<'_>, delta: &Delta) -> Result<(), Cause> {
    for range in &delta.ranges {
        for key in keys_in(table, range)? {
            table.remove(key.as_str())?;
        }
    }
    for (key, value) in &delta.rows {
        match value {
            Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    Ok(())
}

fn read_rows(db: &Database, later: &Delta, index: Index) -> Result<Vec<Stamped<Row>>, Cause> {
    let table = db.begin_read()?.open_table(ROWS)?;
    let mut gone = HashSet::new();
    for range in &later.ranges {
        gone.extend(keys_in(&table, range)?);
    }
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        if !gone.contains(key.value()) && !later.rows.contains_key(key.value()) {
            rows.push(read_row(key.value(), value.value(), index)?);
        }
    }
    for (key, value) in later.puts() {
        rows.push(read_row(key, value, index)?);
    }
    Ok(rows)
}

fn read_row(key: &str, value: &[u8], index: Index) -> Result<Stamped<Row>, Cause> {
    let row = Row::decode(key, value)?;
    if row.modified > index {
        return Err(format!("row {key:?} has an index that was never given out").into());
    }
    Ok(row)
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
