//! The journal: what was committed since the tables took all of it, one record a batch.
//!
//! A record is one write and one fsync. The file is made at its full length, so that neither changes anything about the
//! file itself, and it is written from its beginning over and over. Each such run has a number, which the tables name
//! before its first record is written: so what earlier runs left behind the newest record is known for what it is.
//!
//! Where the power went during a write, the last record is not whole, and nobody was told that it holds: it does not
//! count. A record that is not whole although another follows is damage.

use std::io;

use kvstore_core::Index;
use redb::StorageBackend;
use serde::{Deserialize, Serialize};

use super::{
    delta::Delta,
    file::{Disk, Part},
    tables::Meta,
};

/// The header has a block of its own, which is never written again: no failing write can touch it.
const HEADER_BYTES: usize = 4096;

/// The header is a record of this run; the tables name higher ones.
const HEADER_RUN: u64 = 0;

/// Four numbers begin a record: the length of its text, its checksum, its run and its index.
const HEAD_BYTES: usize = 4 * size_of::<u64>();

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// As in [`Meta`].
    store: u64,
    /// The file's length. A batch that is longer makes it longer, until the next run.
    bytes: usize,
}

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    file: Box<dyn StorageBackend>,
    bytes: usize,
    run: u64,
    /// Where the next record begins.
    end: usize,
}

impl Journal {
    /// The journal of `store`, made with `bytes` where it has none. [`Journal::begin`] it before the first record.
    pub(super) fn open_or_create(disk: &dyn Disk, store: u64, bytes: usize) -> io::Result<Self> {
        if let Some(journal) = Self::open(disk, store)? {
            return Ok(journal);
        }
        create(disk, &Header { store, bytes: HEADER_BYTES + bytes })?;
        Self::open(disk, store)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(disk: &dyn Disk, store: u64) -> io::Result<Option<Self>> {
        if !disk.exists(Part::Journal)? {
            return Ok(None);
        }
        let file = disk.open_journal()?;
        let content = read(&*file)?;
        let header = header(&content).filter(|header| header.store == store);
        Ok(header.map(|Header { bytes, .. }| Self { file, bytes, run: HEADER_RUN, end: content.len() }))
    }

    /// Begins `run`, which the tables have named: no record of an earlier one is needed any more.
    pub(super) fn begin(&mut self, run: u64) -> io::Result<()> {
        if self.end > self.bytes {
            self.file.set_len(self.bytes as u64)?;
        }
        (self.run, self.end) = (run, HEADER_BYTES);
        Ok(())
    }

    /// Whether `text` is to be appended to this run; one that no run can hold is to begin one.
    pub(super) fn has_room(&self, text: &[u8]) -> bool {
        self.end == HEADER_BYTES || self.end + HEAD_BYTES + text.len() <= self.bytes
    }

    /// Makes a record durable. After an error nobody knows what the disk has of it, and nothing may follow in this run.
    pub(super) fn append(&mut self, index: Index, text: &[u8]) -> io::Result<()> {
        let record = record(self.run, index, text);
        let start = self.end;
        self.end += record.len();
        if self.end > self.bytes {
            self.file.set_len(self.end as u64)?;
        }
        self.file.write(start as u64, &record)?;
        self.file.sync_data()
    }
}

/// What the records of a run say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) delta: Delta,
    /// That of the last record.
    pub(super) index: Option<Index>,
}

/// What the journal has that the tables lack; or what is wrong with it and what to do.
pub(super) fn recover(disk: &dyn Disk, meta: Meta) -> Result<Found, String> {
    let there = disk.exists(Part::Journal).map_err(|e| e.to_string())?;
    if !there && meta.unfinished {
        return Err(unusable("is missing, and the newest changes may be in it alone"));
    }
    if !there {
        return Ok(Found::default());
    }
    let content = disk.open_journal().and_then(|file| read(&*file));
    replay(&content.map_err(|e| format!("{}: {e}", Part::Journal.name()))?, meta).map_err(|what| unusable(&what))
}

fn unusable(what: &str) -> String {
    let journal = Part::Journal.name();
    format!(
        "{journal} beside it {what}; put a good copy of it there, or an empty file to go on without the newest changes"
    )
}

fn replay(content: &[u8], meta: Meta) -> Result<Found, String> {
    if content.is_empty() {
        tracing::warn!("the journal is empty: what was written last before the stop is lost");
        return Ok(Found::default());
    }
    match header(content) {
        Some(header) if header.store != meta.store => Err("belongs to another store".into()),
        Some(_) if record_at(content, HEADER_BYTES, |run| run > meta.run).is_some() => {
            Err(format!("has newer changes than {}, which must be an older copy", Part::Tables.name()))
        }
        _ if !meta.unfinished => Ok(Found::default()),
        Some(header) if content.len() < header.bytes => {
            Err(format!("is damaged: it was cut to {} of {} bytes", content.len(), header.bytes))
        }
        Some(_) => records(content, meta.run),
        None => Err("is damaged: its header cannot be read".into()),
    }
}

fn records(content: &[u8], run: u64) -> Result<Found, String> {
    let (mut found, mut at) = (Found::default(), HEADER_BYTES);
    while let Some((index, text)) = record_at(content, at, |found| found == run) {
        let delta = Delta::decode(text);
        found.delta.extend(delta.map_err(|e| format!("is damaged: the record at byte {at} cannot be read: {e}"))?);
        found.index = Some(index);
        at += HEAD_BYTES + text.len();
    }
    // Only the last record can have been cut off. No text has a byte of zero, and so none looks like a record.
    if (at..content.len()).any(|later| record_at(content, later, |found| found == run).is_some()) {
        return Err(format!("is damaged: the record at byte {at} is not whole, and later ones are"));
    }
    Ok(found)
}

/// Makes a journal beside its place and puts it there.
fn create(disk: &dyn Disk, header: &Header) -> io::Result<()> {
    let mut content = record(HEADER_RUN, Index(0), &serde_json::to_vec(header)?);
    content.resize(header.bytes, 0);
    let file = disk.create_journal()?;
    file.set_len(content.len() as u64)?;
    file.write(0, &content)?;
    file.sync_data()?;
    disk.publish(Part::Journal)
}

fn read(file: &dyn StorageBackend) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read(0, &mut content)?;
    Ok(content)
}

fn header(content: &[u8]) -> Option<Header> {
    let (_, text) = record_at(content, 0, |run| run == HEADER_RUN)?;
    serde_json::from_slice(text).ok()
}

fn record(run: u64, index: Index, text: &[u8]) -> Vec<u8> {
    let numbers = [text.len() as u64, checksum(run, index, text), run, index.0];
    let mut record: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    record.extend_from_slice(text);
    record
}

/// The record that begins at byte `at`, if a whole one does and its run is wanted.
fn record_at(content: &[u8], at: usize, wanted: impl Fn(u64) -> bool) -> Option<(Index, &[u8])> {
    let (head, rest) = content.get(at..)?.split_at_checked(HEAD_BYTES)?;
    let mut numbers = head.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut number = || numbers.next();
    let (bytes, sum, run, index) = (number()?, number()?, number()?, Index(number()?));
    let text = rest.get(..usize::try_from(bytes).ok()?)?;
    (wanted(run) && sum == checksum(run, index, text)).then_some((index, text))
}

fn checksum(run: u64, index: Index, text: &[u8]) -> u64 {
    let mut sum = crc32fast::Hasher::new();
    for part in [&run.to_le_bytes(), &index.0.to_le_bytes(), text] {
        sum.update(part);
    }
    sum.finalize().into()
}
