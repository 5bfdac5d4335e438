//! A state -> an archive.

use std::io::{self, Read, Write};

use flate2::{Compression, write::GzEncoder};
use kvstore_core::{
    State,
    row::{Row, Stamped},
};
use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{FORMAT, Head, META, Meta, STATE, SUMS};

/// A snapshot to be written.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    /// What it holds.
    pub state: &'a State,
    /// Its id; unlike that of any other snapshot.
    pub id: &'a str,
    /// The name of the host that makes it.
    pub node_name: &'a str,
    /// The address of the host that makes it.
    pub address: &'a str,
    /// Seconds since 1970, for the files in the archive.
    pub time: u64,
}

impl Archive<'_> {
    /// Writes it to `out`, holding no more than a few rows in memory at a time: the state is encoded twice, since a tar
    /// tells the length of a file before the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut first = Encoded::new(self.state);
        let size = io::copy(&mut first, &mut io::sink())?;
        let meta = serde_json::to_vec(&self.meta(size)).expect("its keys are strings");
        let sums = format!("{}  {META}\n{}  {STATE}\n", hex(&Sha256::digest(&meta)), hex(&first.hash.finalize()));

        let mut tar = Builder::new(GzEncoder::new(out, Compression::fast()));
        tar.append(&self.header(META, meta.len() as u64)?, &meta[..])?;
        tar.append(&self.header(STATE, size)?, Encoded::new(self.state))?;
        tar.append(&self.header(SUMS, sums.len() as u64)?, sums.as_bytes())?;
        tar.into_inner()?.finish()?.flush()
    }

    fn meta(&self, size: u64) -> Meta {
        let index = self.state.index().0;
        let server = json!({"Suffrage": 0, "ID": self.node_name, "Address": self.address});
        Meta {
            version: 1,
            id: self.id.to_owned(),
            index,
            term: 1,
            peers: serde_json::Value::Null,
            configuration: json!({"Servers": [server]}),
            configuration_index: index,
            size,
        }
    }

    fn header(&self, name: &str, size: u64) -> io::Result<Header> {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// `state.bin`, made as it is read, and its sum so far.
struct Encoded<'a> {
    rows: Box<dyn Iterator<Item = Stamped<Row>> + 'a>,
    line: Vec<u8>,
    /// How much of the line was read.
    read: usize,
    hash: Sha256,
}

impl<'a> Encoded<'a> {
    fn new(state: &'a State) -> Self {
        let head = Head { format: FORMAT, rows: state.rows().count() };
        let mut line = serde_json::to_vec(&head).expect("its keys are strings");
        line.push(b'\n');
        Self { rows: Box::new(state.rows()), line, read: 0, hash: Sha256::new() }
    }
}

fn encode(row: &Stamped<Row>) -> Vec<u8> {
    let content = row.value.encode(row.created, row.modified);
    let content: &RawValue = serde_json::from_slice(&content).expect("rows are encoded as JSON");
    let mut line = serde_json::to_vec(&(row.value.key().encode(), content)).expect("its keys are strings");
    line.push(b'\n');
    line
}

impl Read for Encoded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read == self.line.len() {
            let Some(row) = self.rows.next() else { return Ok(0) };
            (self.line, self.read) = (encode(&row), 0);
        }
        let count = into.len().min(self.line.len() - self.read);
        let piece = &self.line[self.read..self.read + count];
        into[..count].copy_from_slice(piece);
        self.hash.update(piece);
        self.read += count;
        Ok(count)
    }
}
