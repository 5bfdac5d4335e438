//! Replies that were given lately, given again while what they follow from is unchanged.
//!
//! A reply is known by its question's bytes behind the id, but for the case of letters, which is echoed. It is checked
//! rather than flushed: each hit compares the index of what the reply follows from. Records of equal standing go round,
//! so that each instance comes first equally often. Names that do not exist are not kept: whoever invents some fills
//! nothing.

use super::Borders;
use crate::{
    Index, State,
    generations::{Generations, Size},
    names::{Key, ServiceKey},
};

/// What an entry takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 160;

/// A reply is made anew after so long, with another choice and order of records and another serial number of the zone.
const MAX_AGE_SECONDS: u32 = 4;

/// Where the name of the question begins, in every packet.
const NAME: usize = 12;

/// What an answer follows from, besides the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The rows of a service and of its hosts, but for the output of checks.
    Service(ServiceKey),
    /// The same, what the key says about its live version, and the version of who asks.
    Versions(ServiceKey, Key),
    /// Rows of any kind.
    State,
    /// Other things too. It is not given again.
    More,
}

impl Basis {
    /// The index of the last change to it; none if that is not known.
    fn index(&self, state: &State) -> Option<Index> {
        match self {
            Self::Service(service) => Some(state.status_index(service)),
            Self::Versions(service, release) => Some(state.status_index(service).max(state.key_index(release))),
            Self::State => Some(state.index()),
            Self::More => None,
        }
    }
}

/// Finished replies of one socket.
#[derive(Debug)]
pub struct Replies {
    kept: Generations<Box<[u8]>, Kept>,
    most_bytes: usize,
    /// That of the settings under which they were made.
    revision: u64,
    /// The question that is asked, as it is known here. Reused.
    key: Vec<u8>,
    hits: u64,
}

#[derive(Debug)]
enum Kept {
    Reply(Reply),
    /// There is one for each version of who asks, kept beside.
    OfVersions,
}

#[derive(Debug)]
struct Reply {
    bytes: Box<[u8]>,
    /// Where answers begin and end that may come in any order; nothing if they may not.
    answers: Box<[u16]>,
    /// Which of them came first the last time.
    turn: usize,
    basis: Basis,
    /// It is right in the state of this index.
    index: Index,
    made_at: u32,
}

impl Size for Kept {
    fn bytes(&self) -> usize {
        let own = if let Self::Reply(reply) = self { reply.bytes.len() + reply.answers.len() * 2 } else { 0 };
        own + OVERHEAD_BYTES
    }
}

impl Size for Box<[u8]> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Replies {
    /// Keeps up to `most_bytes`.
    pub fn new(most_bytes: usize) -> Self {
        Self { kept: Generations::new(most_bytes / 2), most_bytes, revision: 0, key: Vec::new(), hits: 0 }
    }

    /// Forgets all that was made under other settings than those of `revision`.
    pub fn keep_to(&mut self, revision: u64) {
        if self.revision != revision {
            self.kept = Generations::new(self.most_bytes / 2);
            self.revision = revision;
        }
    }

    /// How many questions were answered by a reply at hand since this was last asked.
    pub fn take_hits(&mut self) -> u64 {
        std::mem::take(&mut self.hits)
    }

    /// What they take, about.
    pub fn bytes(&self) -> usize {
        self.kept.bytes()
    }

    /// Writes the reply to `packet` over `out` if it is at hand and still right; `version` tells that of who asks.
    /// Allocates nothing then.
    pub(super) fn find<'s>(
        &mut self,
        packet: &[u8],
        version: impl FnOnce() -> Option<&'s str>,
        (state, unix_seconds): (&State, u32),
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(name_end) = end_of_name(packet) else { return false };
        self.set_key(packet, name_end);
        let mut kept = self.kept.find(&self.key[..]);
        if let Some(Kept::OfVersions) = kept {
            self.add_version(version());
            kept = self.kept.find(&self.key[..]);
        }
        let Some(Kept::Reply(reply)) = kept else { return false };
        if !reply.is_right(state, unix_seconds) {
            return false;
        }
        reply.write(out);
        self.hits += 1;
        out[..2].copy_from_slice(&packet[..2]);
        out[NAME..name_end].copy_from_slice(&packet[NAME..name_end]);
        true
    }

    /// Keeps the reply to `packet`, made at an index and a time for who has that version, if such questions are kept.
    pub(super) fn keep(
        &mut self,
        packet: &[u8],
        bytes: &[u8],
        made: Made,
        version: Option<&str>,
        (index, made_at): (Index, u32),
    ) {
        let Some(name_end) = end_of_name(packet) else { return };
        let Made { basis, any_order } = made;
        // A name that does not exist, or a failure.
        if basis == Basis::More || bytes.get(3).is_none_or(|flags| flags & 0x0f != 0) {
            return;
        }
        self.set_key(packet, name_end);
        if let Basis::Versions(..) = basis {
            self.kept.keep(self.key[..].into(), Kept::OfVersions);
            self.add_version(version);
        }
        let reply = Reply { bytes: bytes.into(), answers: any_order.into(), turn: 0, basis, index, made_at };
        self.kept.keep(self.key[..].into(), Kept::Reply(reply));
    }

    fn set_key(&mut self, packet: &[u8], name_end: usize) {
        self.key.clear();
        self.key.extend_from_slice(&packet[2..]);
        // Lengths of labels are below the letters.
        self.key[NAME - 2..name_end - 2].make_ascii_lowercase();
    }

    fn add_version(&mut self, version: Option<&str>) {
        self.key.push(u8::from(version.is_some()));
        self.key.extend_from_slice(version.unwrap_or_default().as_bytes());
    }
}

/// What a reply was made of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) basis: Basis,
    /// Where answers begin and end that may come in any order; nothing if they may not.
    pub(super) any_order: Borders,
}

impl Reply {
    fn is_right(&mut self, state: &State, unix_seconds: u32) -> bool {
        if unix_seconds.wrapping_sub(self.made_at) >= MAX_AGE_SECONDS {
            return false;
        }
        if self.index != state.index() {
            if self.basis.index(state).is_none_or(|changed| changed > self.index) {
                return false;
            }
            self.index = state.index();
        }
        true
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let [first, .., end] = *self.answers else {
            return out.extend_from_slice(&self.bytes);
        };
        self.turn = (self.turn + 1) % (self.answers.len() - 1);
        let [first, split, end] = [first, self.answers[self.turn], end].map(usize::from);
        out.extend_from_slice(&self.bytes[..first]);
        out.extend_from_slice(&self.bytes[split..end]);
        out.extend_from_slice(&self.bytes[first..split]);
        out.extend_from_slice(&self.bytes[end..]);
    }
}

/// Where the name of a plain question ends: one question, at most an OPT record without options, and nothing else. The
/// reply to such a one follows from its bytes and the state.
fn end_of_name(packet: &[u8]) -> Option<usize> {
    const COUNTS: [u8; 7] = [0, 1, 0, 0, 0, 0, 0];
    let head: &[u8; NAME] = packet.first_chunk()?;
    let is_query = head[2] & 0xf8 == 0;
    if !is_query || head[4..11] != COUNTS {
        return None;
    }
    let mut at = NAME;
    loop {
        match *packet.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let name_end = at + 1;
    let behind = packet.get(name_end + 4..)?;
    let plain = matches!((head[11], behind), (0, []) | (1, [0, 0, 41, _, _, _, _, _, _, 0, 0]));
    (plain && name_end - NAME <= 255).then_some(name_end)
}
