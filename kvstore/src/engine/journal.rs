//! The journals: what was committed since the tables took all of it, one record a batch.
//!
//! A record is one write and one fsync. The file is made at its full length, so that neither changes anything about the
//! file itself, and it is written from its beginning over and over. Each such run has a number, so what earlier runs left
//! behind the newest record is known for what it is. Runs go to two files in turn: while the tables take one, the next is
//! written.
//!
//! Where the power went during a write, the last record is not whole, and nobody was told that it holds: it does not
//! count. A record that is not whole although another follows is damage; each tells which one it follows, from one file
//! to the other, too.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

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

/// These numbers begin a record.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// The length of the text behind it.
    bytes: u64,
    /// Of all the rest.
    sum: u64,
    /// The sum of the record before; 0 for the first one since the tables took all.
    follows: u64,
    run: u64,
    index: Index,
}

const HEAD_BYTES: usize = 5 * size_of::<u64>();

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// As in [`Meta`].
    store: u64,
    /// The file's length. A batch that is longer makes it longer, until the next run.
    bytes: usize,
}

/// Both files, of which one is written.
#[derive(Debug)]
pub(super) struct Journals {
    files: [Journal; 2],
    run: u64,
    /// The sum of the last record.
    last: u64,
}

impl Journals {
    /// The journals of `store`, each made with `bytes` where there is none. [`Journals::begin`] before the first record.
    pub(super) fn open_or_create(disk: &dyn Disk, store: u64, bytes: usize) -> io::Result<Self> {
        let file = |part| Journal::open_or_create(disk, part, store, bytes);
        Ok(Self { files: [file(part_of(0))?, file(part_of(1))?], run: HEADER_RUN, last: 0 })
    }

    /// Begins `run`, after which the tables have named it: no record of an earlier one is needed any more.
    pub(super) fn begin(&mut self, run: u64) -> io::Result<()> {
        self.last = 0;
        self.go_on_with(run)
    }

    /// Begins `run`, which follows on the one before; the tables have what the same file had of an earlier one.
    pub(super) fn go_on_with(&mut self, run: u64) -> io::Result<()> {
        self.run = run;
        self.current().begin()
    }

    fn current(&mut self) -> &mut Journal {
        &mut self.files[place_of(self.run)]
    }

    /// Whether `text` is to be appended to this run; one that no run can hold is to begin one.
    pub(super) fn has_room(&self, text: &[u8]) -> bool {
        let Journal { end, bytes, .. } = self.files[place_of(self.run)];
        end == HEADER_BYTES || end + HEAD_BYTES + text.len() <= bytes
    }

    /// Makes a record durable. After an error nobody knows what the disk has of it, and nothing may follow in this run.
    pub(super) fn append(&mut self, index: Index, text: &[u8]) -> io::Result<()> {
        let (record, sum) = record(self.last, self.run, index, text);
        self.current().append(&record)?;
        self.last = sum;
        Ok(())
    }
}

/// Which of the two files has `run`.
fn place_of(run: u64) -> usize {
    usize::from(run % 2 == 1)
}

fn part_of(run: u64) -> Part {
    [Part::EvenJournal, Part::OddJournal][place_of(run)]
}

/// A file that is written.
#[derive(Debug)]
struct Journal {
    file: Box<dyn StorageBackend>,
    bytes: usize,
    /// Where the next record begins.
    end: usize,
}

impl Journal {
    fn open_or_create(disk: &dyn Disk, part: Part, store: u64, bytes: usize) -> io::Result<Self> {
        if let Some(journal) = Self::open(disk, part, store)? {
            return Ok(journal);
        }
        create(disk, part, &Header { store, bytes: HEADER_BYTES + bytes })?;
        Self::open(disk, part, store)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(disk: &dyn Disk, part: Part, store: u64) -> io::Result<Option<Self>> {
        if !disk.exists(part)? {
            return Ok(None);
        }
        let file = disk.open_journal(part)?;
        let content = read(&*file)?;
        let header = header(&content).filter(|header| header.store == store);
        Ok(header.map(|Header { bytes, .. }| Self { file, bytes, end: content.len() }))
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.end > self.bytes {
            self.file.set_len(self.bytes as u64)?;
        }
        self.end = HEADER_BYTES;
        Ok(())
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let start = self.end;
        self.end += record.len();
        if self.end > self.bytes {
            self.file.set_len(self.end as u64)?;
        }
        self.file.write(start as u64, record)?;
        self.file.sync_data()
    }
}

/// What the records say that the tables lack.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) delta: Delta,
    /// That of the last record.
    pub(super) index: Option<Index>,
    /// The last run that has a record.
    pub(super) run: u64,
    /// Where a record begins that is not whole and does not count.
    torn: Option<usize>,
}

/// What the journals have that the tables lack; or what is wrong with one and what to do.
pub(super) fn recover(disk: &dyn Disk, meta: Meta) -> Result<Found, String> {
    let mut chain = Chain::default();
    // The tables may still have been taking the first of these runs while the second was written.
    for run in [meta.run, meta.run + 1] {
        let part = part_of(run);
        let there = disk.exists(part).map_err(|e| e.to_string())?;
        if !there && meta.unfinished {
            return Err(unusable(part, "is missing, and the newest changes may be in it alone"));
        }
        if there {
            let content = disk.open_journal(part).and_then(|file| read(&*file));
            let content = content.map_err(|e| format!("{}: {e}", part.name()))?;
            chain.replay(&content, run, meta).map_err(|what| unusable(part, &what))?;
            if let Some(at) = chain.found.torn.take() {
                let journal = part.name();
                tracing::warn!(
                    "the last record of {journal}, at byte {at}, is not whole and does not count; nobody was told that it \
                     holds if the power went while it was written, and if it did not, this disk loses what it has"
                );
            }
        }
    }
    Ok(chain.found)
}

fn unusable(part: Part, what: &str) -> String {
    let journal = part.name();
    format!(
        "{journal} beside it {what}; put a good copy of it there, or an empty file to go on without the newest changes"
    )
}

/// Records that follow one on the other.
#[derive(Default)]
struct Chain {
    found: Found,
    /// The sum of the last one; none before the first.
    last: Option<u64>,
}

impl Chain {
    /// Adds what `content` has of `run`.
    fn replay(&mut self, content: &[u8], run: u64, meta: Meta) -> Result<(), String> {
        if content.is_empty() {
            tracing::warn!("a journal is empty: what was written last before the stop is lost");
            return Ok(());
        }
        let newest = meta.run + u64::from(meta.unfinished);
        match header(content) {
            Some(header) if header.store != meta.store => Err("belongs to another store".into()),
            Some(_) if record_at(content, HEADER_BYTES, |run| run > newest).is_some() => {
                Err(format!("has newer changes than {}, which must be an older copy", Part::Tables.name()))
            }
            _ if !meta.unfinished => Ok(()),
            Some(header) if content.len() < header.bytes => {
                Err(format!("is damaged: it was cut to {} of {} bytes", content.len(), header.bytes))
            }
            Some(_) => self.records(content, run, run == meta.run),
            None => Err("is damaged: its header cannot be read".into()),
        }
    }

    /// `first`: whether no record comes before this run's.
    fn records(&mut self, content: &[u8], run: u64, first: bool) -> Result<(), String> {
        let (mut at, mut alone) = (HEADER_BYTES, first);
        while let Some((head, text)) = record_at(content, at, |found| found == run) {
            if !alone && self.last != Some(head.follows) {
                return Err(format!("has a record, at byte {at}, that follows on one that is not there"));
            }
            let delta = Delta::decode(text);
            let delta = delta.map_err(|e| format!("is damaged: the record at byte {at} cannot be read: {e}"))?;
            self.found.delta.extend(delta);
            (self.found.index, self.found.run) = (Some(head.index), run);
            (self.last, alone) = (Some(head.sum), false);
            at += HEAD_BYTES + text.len();
        }
        // Only the last record can have been cut off. No text has a byte of zero, and so none looks like a record.
        if (at..content.len()).any(|later| record_at(content, later, |found| found == run).is_some()) {
            return Err(format!("is damaged: the record at byte {at} is not whole, and later ones are"));
        }
        self.found.torn = begun_at(content, at, run).then_some(at);
        Ok(())
    }
}

/// Makes a journal beside its place and puts it there.
fn create(disk: &dyn Disk, part: Part, header: &Header) -> io::Result<()> {
    let (mut content, _) = record(0, HEADER_RUN, Index(0), &serde_json::to_vec(header)?);
    content.resize(header.bytes, 0);
    let file = disk.create_journal(part)?;
    file.set_len(content.len() as u64)?;
    file.write(0, &content)?;
    file.sync_data()?;
    disk.publish(part)
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

/// A record's bytes, and its sum.
fn record(follows: u64, run: u64, index: Index, text: &[u8]) -> (Vec<u8>, u64) {
    let sum = checksum(follows, run, index, text);
    let numbers = [text.len() as u64, sum, follows, run, index.0];
    let mut record: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    record.extend_from_slice(text);
    (record, sum)
}

/// The record that begins at byte `at`, if a whole one does and its run is wanted.
fn record_at(content: &[u8], at: usize, wanted: impl Fn(u64) -> bool) -> Option<(Head, &[u8])> {
    let (head, rest) = head_at(content, at)?;
    let text = rest.get(..usize::try_from(head.bytes).ok()?)?;
    let whole = wanted(head.run) && head.sum == checksum(head.follows, head.run, head.index, text);
    whole.then_some((head, text))
}

/// Whether something of a record of `run` stands at byte `at`, where there is no whole one.
fn begun_at(content: &[u8], at: usize, run: u64) -> bool {
    head_at(content, at).is_some_and(|(head, rest)| {
        let text = usize::try_from(head.bytes).ok().and_then(|bytes| rest.get(..bytes));
        head.run == run || text.is_some_and(|text| head.sum == checksum(head.follows, run, head.index, text))
    })
}

fn head_at(content: &[u8], at: usize) -> Option<(Head, &[u8])> {
    let (head, rest) = content.get(at..)?.split_at_checked(HEAD_BYTES)?;
    let mut numbers = head.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut number = || numbers.next();
    let head = Head { bytes: number()?, sum: number()?, follows: number()?, run: number()?, index: Index(number()?) };
    Some((head, rest))
}

fn checksum(follows: u64, run: u64, index: Index, text: &[u8]) -> u64 {
    let mut sum = crc32fast::Hasher::new();
    for part in [&follows.to_le_bytes(), &run.to_le_bytes(), &index.0.to_le_bytes(), text] {
        sum.update(part);
    }
    sum.finalize().into()
}
