//! An archive -> rows, once all of it was found whole.

use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Read},
};

use flate2::read::MultiGzDecoder;
use kvstore_core::{
    names::NodeKey,
    row::{Row, RowError, Stamped},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{FORMAT, Head, META, Meta, STATE, SUMS, write::hex};

/// `meta.json` and `SHA256SUMS` have at most this many bytes; ours have some hundred.
const MAX_SMALL_BYTES: u64 = 1 << 20;

/// A state's index is below this: there must be room for the changes to come, and all stay below 2^53.
const MAX_INDEX: u64 = 1 << 52;

/// What is wrong with an archive. The beginnings of the texts are Consul's.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// No gzip, or a damaged or cut one.
    #[error("failed to decompress snapshot: {0}")]
    Gzip(#[source] io::Error),
    /// It would be too much.
    #[error(
        "failed to read snapshot file: it unpacks to more than {max_bytes} bytes; limits.snapshot_max_size is the limit"
    )]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// No tar, or a damaged one.
    #[error("failed to read snapshot file: {0}")]
    Tar(#[source] io::Error),
    /// A file that does not belong into a snapshot, or is there twice.
    #[error("failed to read snapshot file: unexpected file {0:?} in snapshot")]
    Unexpected(String),
    /// A file that is not there.
    #[error("failed to read snapshot file: it has no {0:?}")]
    Missing(&'static str),
    /// A description that is none.
    #[error("failed to read snapshot metadata: {0}")]
    Meta(#[source] serde_json::Error),
    /// Its bytes are not those that were written.
    #[error("failed checking integrity of snapshot: hash check failed for {0:?}")]
    Sum(&'static str),
    /// Not the number of bytes or rows that it says it has.
    #[error("failed checking integrity of snapshot: {0} is not as long as it says")]
    Length(&'static str),
    /// Of another program.
    #[error("the state in this snapshot is not kvstore's; a snapshot of Consul cannot be restored here")]
    Foreign,
    /// Of a later version.
    #[error(
        "the state in this snapshot has format {0}, and this kvstore reads none newer than {FORMAT}; use a newer kvstore"
    )]
    Newer(u32),
    /// Below that of one of its rows, or too high to count on from.
    #[error("failed checking integrity of snapshot: {0} cannot be its index")]
    Index(u64),
    /// A line that is no row.
    #[error("line {line} of the state in this snapshot is no row: {why}")]
    Row {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// The rows of `archive`, and what it says about itself. Unpacks no more than `max_bytes`.
///
/// # Errors
/// [`Damage`], whichever is met first; a sum that is wrong is told before what is wrong inside.
pub fn read(archive: impl Read, max_bytes: u64) -> Result<(Meta, Vec<Stamped<Row>>), Damage> {
    let mut tar = tar::Archive::new(Bounded { inner: MultiGzDecoder::new(archive), left: max_bytes, fault: None });
    let files = Files::of(&mut tar);
    let mut unpacked = tar.into_inner();
    if unpacked.fault.is_none() {
        // The sum of the gzip comes last; if it is wrong, that is noted as the fault.
        let _ = io::copy(&mut unpacked, &mut io::sink());
    }
    // Whatever a cut or damaged gzip made of the tar, that is not the tar's fault.
    match unpacked.fault {
        Some(Fault::Gzip(error)) => return Err(Damage::Gzip(error)),
        Some(Fault::TooLarge) => return Err(Damage::TooLarge { max_bytes }),
        None => {}
    }
    files?.checked()
}

/// What ended the reading of a [`Bounded`].
enum Fault {
    Gzip(io::Error),
    TooLarge,
}

/// A gzip that fails once it has unpacked too much, and remembers why it failed.
struct Bounded<R> {
    inner: MultiGzDecoder<R>,
    left: u64,
    fault: Option<Fault>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let fault = match self.inner.read(into) {
            Ok(count) if count as u64 <= self.left => {
                self.left -= count as u64;
                return Ok(count);
            }
            Ok(_) => Fault::TooLarge,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => Fault::Gzip(error),
        };
        self.fault.get_or_insert(fault);
        Err(io::Error::other("the snapshot cannot be unpacked"))
    }
}

/// The files of an archive, not yet believed.
#[derive(Default)]
struct Files {
    meta: Option<Vec<u8>>,
    sums: Option<Vec<u8>>,
    state: Option<StateFile>,
}

struct StateFile {
    bytes: u64,
    sum: String,
    rows: Result<Vec<Stamped<Row>>, Damage>,
}

impl Files {
    fn of(tar: &mut tar::Archive<impl Read>) -> Result<Self, Damage> {
        let mut files = Self::default();
        // Raw: long names and the like, which a tar can have, are not followed.
        for entry in tar.entries().map_err(Damage::Tar)?.raw(true) {
            let mut entry = entry.map_err(Damage::Tar)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match name.as_str() {
                META if files.meta.is_none() => files.meta = Some(small(&mut entry)?),
                SUMS if files.sums.is_none() => files.sums = Some(small(&mut entry)?),
                STATE if files.state.is_none() => files.state = Some(StateFile::read(entry)?),
                _ => return Err(Damage::Unexpected(name)),
            }
        }
        Ok(files)
    }

    fn checked(self) -> Result<(Meta, Vec<Stamped<Row>>), Damage> {
        let bytes = self.meta.ok_or(Damage::Missing(META))?;
        let state = self.state.ok_or(Damage::Missing(STATE))?;
        let sums = String::from_utf8(self.sums.ok_or(Damage::Missing(SUMS))?).map_err(|_| Damage::Sum(SUMS))?;
        let listed = |name: &str| sums.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
        for (name, sum) in [(META, &hex(&Sha256::digest(&bytes))), (STATE, &state.sum)] {
            if listed(name).is_none_or(|listed| !listed.eq_ignore_ascii_case(sum)) {
                return Err(Damage::Sum(name));
            }
        }
        let meta: Meta = serde_json::from_slice(&bytes).map_err(Damage::Meta)?;
        if meta.size != state.bytes {
            return Err(Damage::Length(STATE));
        }
        let rows = state.rows?;
        let later = |row: &Stamped<Row>| row.created > row.modified || row.modified.0 > meta.index;
        if meta.index >= MAX_INDEX || rows.iter().any(later) {
            return Err(Damage::Index(meta.index));
        }
        Ok((meta, rows))
    }
}

fn small(entry: &mut impl Read) -> Result<Vec<u8>, Damage> {
    let mut bytes = Vec::new();
    let count = entry.take(MAX_SMALL_BYTES + 1).read_to_end(&mut bytes).map_err(Damage::Tar)?;
    if count as u64 > MAX_SMALL_BYTES { Err(Damage::TooLarge { max_bytes: MAX_SMALL_BYTES }) } else { Ok(bytes) }
}

impl StateFile {
    fn read(entry: impl Read) -> Result<Self, Damage> {
        let mut summed = Summed { inner: entry, hash: Sha256::new(), bytes: 0 };
        let rows = rows(&mut BufReader::with_capacity(64 << 10, &mut summed));
        // The rest, if reading ended at a line that is no row.
        io::copy(&mut summed, &mut io::sink()).map_err(Damage::Tar)?;
        Ok(Self { bytes: summed.bytes, sum: hex(&summed.hash.finalize()), rows })
    }
}

/// Sums up what is read.
struct Summed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hash.update(&into[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// A line after the first.
#[derive(Deserialize)]
struct Line<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>, #[serde(borrow)] &'a RawValue);

/// Every line of `state.bin`, decoded; each row once, and on a host that is there.
fn rows(state: &mut impl BufRead) -> Result<Vec<Stamped<Row>>, Damage> {
    let mut line = Vec::new();
    state.read_until(b'\n', &mut line).map_err(Damage::Tar)?;
    let head: Head = serde_json::from_slice(&line).map_err(|_| Damage::Foreign)?;
    if head.format > FORMAT {
        return Err(Damage::Newer(head.format));
    }
    let (mut rows, mut keys, mut hosts) = (Vec::new(), HashSet::new(), HashSet::new());
    for number in 2.. {
        line.clear();
        if state.read_until(b'\n', &mut line).map_err(Damage::Tar)? == 0 {
            break;
        }
        let wrong = |why: String| Damage::Row { line: number, why };
        let Line(key, content) = serde_json::from_slice(&line).map_err(|e| wrong(e.to_string()))?;
        let row = Row::decode(&key, content.get().as_bytes()).map_err(|e| wrong(with_cause(&e)))?;
        if let Row::Node(node) = &row.value {
            hosts.insert(node.key());
        }
        if host_of(&row.value).is_some_and(|host| !hosts.contains(host)) {
            return Err(wrong(format!("{key:?} is on a host that is not there")));
        }
        if !keys.insert(key.into_owned()) {
            return Err(wrong("it is there twice".into()));
        }
        rows.push(row);
    }
    if rows.len() == head.rows { Ok(rows) } else { Err(Damage::Length("the list of rows")) }
}

/// The host without which the row could not be; hosts come first.
fn host_of(row: &Row) -> Option<&NodeKey> {
    match row {
        Row::Instance(instance) => Some(&instance.node),
        Row::Check(check) => Some(&check.node),
        _ => None,
    }
}

fn with_cause(error: &RowError) -> String {
    kvstore_client::with_causes(error)
}
