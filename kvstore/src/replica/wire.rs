//! What a replica is told: which changes there were, as lines of JSON. Pure.
//!
//! ```text
//! {"flotilla-changes":1,"life":"9f0c...","index":1007,"path":["51aa..."],"guarded":false}   the format, and where it stands
//! {"index":1006,"steps":[{"put":["k/greeting",{"created":1002,"key":"greeting","value":"hi"}]}]}
//! {"index":1007,"steps":[{"empty":{"node":"host-1"}},{"delete":"k/old"}]}
//! ```
//!
//! Each line after the first is one commit, its steps in order, rows as an engine keeps them. Where changes were missed
//! there is the first line alone, and all rows are to be fetched as a snapshot.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use std::{borrow::Cow, fmt, str::FromStr};

use bytes::Bytes;
use kvstore_client::with_causes;
use kvstore_core::{
    Changes, Index, Op, Put,
    row::{Row, RowKey, RowRange},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

use crate::engine::Commit;

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// Indexes stay below 2^53, which JavaScript reads exactly.
const INDEX_END: u64 = 1 << 53;

/// A time in which a kvstore's indexes name one order of changes, or a process; unlike any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) u64);

impl Life {
    /// A new one. Zero is none, so it is not given.
    pub(crate) fn begin() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Life {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let fits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let life = u64::from_str_radix(text, 16).ok().filter(|life| fits && *life != 0);
        life.map(Self).ok_or("a life is 16 hexadecimal digits")
    }
}

impl Serialize for Life {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// How far a replica is: it has all changes of that life up to that index, that one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) life: Life,
    pub(crate) index: Index,
}

/// What is said before the changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "flotilla-changes")]
    format: u32,
    pub(crate) life: Life,
    /// All changes up to this one follow, or are known to the replica already.
    pub(crate) index: Index,
    /// The processes that the changes come by, from the one where they are made to the one that tells them.
    pub(crate) path: Vec<Life>,
    /// Whether one must show a token to read.
    pub(crate) guarded: bool,
}

impl Head {
    pub(crate) fn new(at: Position, path: Vec<Life>, guarded: bool) -> Self {
        Self { format: FORMAT, life: at.life, index: at.index, path, guarded }
    }
}

/// Why an answer does not tell changes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Something else answered.
    #[error("what answers there does not tell changes; is it a kvstore, and no older than this one?")]
    Foreign,
    /// Of a later version.
    #[error(
        "it tells changes in format {0}, and this kvstore reads none newer than {FORMAT}; use a newer kvstore here"
    )]
    Newer(u32),
    /// A line that is no commit.
    #[error("line {line} of the changes is none: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// One step of a commit, as written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step<'a> {
    #[serde(borrow)]
    Put(RowText<'a>),
    Delete(Cow<'a, str>),
    Empty(RowRange),
}

/// Key and content of a row.
#[derive(Serialize, Deserialize)]
struct RowText<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a RawValue);

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    index: Index,
    #[serde(borrow)]
    steps: Vec<Step<'a>>,
}

/// An answer: `head`, then commits as [`encode`] gives them.
pub(crate) fn answer(head: &Head, commits: &[Bytes]) -> Bytes {
    let mut text = serde_json::to_vec(head).expect("its keys are strings");
    text.push(b'\n');
    text.extend(commits.iter().flatten());
    text.into()
}

/// A commit as a line.
pub(crate) fn encode(commit: &Commit) -> Bytes {
    let contents: Vec<_> = commit.changes.ops.iter().map(content).collect();
    let steps = commit.changes.ops.iter().zip(&contents).map(|(op, content)| match op {
        Op::Put(put) => {
            let content = serde_json::from_slice(content).expect("rows are encoded as JSON");
            Step::Put(RowText(put.row.key().encode().into(), content))
        }
        Op::Delete(key) => Step::Delete(key.encode().into()),
        Op::DeleteRange(range) => Step::Empty(range.clone()),
    });
    let line = Line { index: commit.index, steps: steps.collect() };
    let mut line = serde_json::to_vec(&line).expect("its keys are strings");
    line.push(b'\n');
    line.into()
}

fn content(op: &Op) -> Vec<u8> {
    match op {
        Op::Put(put) => put.row.encode_unstamped(put.created),
        Op::Delete(_) | Op::DeleteRange(_) => Vec::new(),
    }
}

/// The head of an answer, and its commits, which come in order and end with the head's index at the latest.
///
/// # Errors
/// [`WireError`], whichever is met first.
pub(crate) fn decode(answer: &[u8]) -> Result<(Head, Vec<Commit>), WireError> {
    let mut lines = answer.split_inclusive(|byte| *byte == b'\n');
    let head = head(lines.next().unwrap_or_default())?;
    let mut commits: Vec<Commit> = Vec::new();
    for (number, text) in lines.enumerate() {
        let wrong = |why: String| WireError::Line { line: number + 2, why };
        if !text.ends_with(b"\n") {
            return Err(wrong("it was cut".into()));
        }
        let commit = commit(text).map_err(wrong)?;
        if commits.last().is_some_and(|before| before.index >= commit.index) || commit.index > head.index {
            return Err(wrong(format!("{} is not its place in the order", commit.index)));
        }
        commits.push(commit);
    }
    Ok((head, commits))
}

fn head(line: &[u8]) -> Result<Head, WireError> {
    /// All that every format has.
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "flotilla-changes")]
        format: u32,
    }
    let any: Any = serde_json::from_slice(line).map_err(|_| WireError::Foreign)?;
    if any.format > FORMAT {
        return Err(WireError::Newer(any.format));
    }
    let head: Head = serde_json::from_slice(line).map_err(|_| WireError::Foreign)?;
    if head.index.0 < INDEX_END { Ok(head) } else { Err(WireError::Foreign) }
}

fn commit(line: &[u8]) -> Result<Commit, String> {
    let Line { index, steps } = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let ops = steps.into_iter().map(|step| op(step, index)).collect::<Result<_, _>>()?;
    Ok(Commit { index, changes: Changes { ops, ..Changes::default() } })
}

fn op(step: Step<'_>, index: Index) -> Result<Op, String> {
    Ok(match step {
        Step::Put(RowText(key, content)) => {
            let row = Row::decode_unstamped(&key, content.get().as_bytes(), index).map_err(|e| with_causes(&e))?;
            Op::Put(Put { row: row.value, created: Some(row.created) })
        }
        Step::Delete(key) => Op::Delete(RowKey::decode(&key).ok_or_else(|| format!("no table has a row {key:?}"))?),
        Step::Empty(range) => Op::DeleteRange(range),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_at(index: u64) -> Head {
        Head::new(Position { life: Life(7), index: Index(index) }, vec![Life(1)], false)
    }

    fn row(key: &str, value: &str) -> Row {
        Row::decode_unstamped(key, value.as_bytes(), Index(1)).unwrap().value
    }

    fn put(key: &str, value: &str, created: Option<u64>) -> Op {
        Op::Put(Put { row: row(key, value), created: created.map(Index) })
    }

    fn commit_of(index: u64, ops: Vec<Op>) -> Commit {
        Commit { index: Index(index), changes: Changes { ops, ..Changes::default() } }
    }

    #[test]
    fn changes_are_told_as_they_were_made() {
        let key = r#"{"key":"a\"b","value":{"base64":"/wA="}}"#;
        let made = [
            commit_of(5, vec![put(r#"k/a"b"#, key, None), put("n/h", r#"{"name":"h","address":"10.0.0.1"}"#, Some(3))]),
            commit_of(9, Vec::new()),
            commit_of(
                10,
                vec![
                    Op::DeleteRange(RowRange::KvPrefix("x/".into())),
                    Op::Delete(RowKey::decode("n/h").unwrap()),
                    put(r#"k/a"b"#, key, Some(5)),
                ],
            ),
        ];
        let lines: Vec<_> = made.iter().map(encode).collect();
        let (head, told) = decode(&answer(&head_at(10), &lines)).unwrap();
        assert_eq!(head, head_at(10));
        assert_eq!(told.len(), made.len());
        for (told, mut made) in told.into_iter().zip(made) {
            // Whoever is told need not know which was the first change of a row.
            for op in &mut made.changes.ops {
                if let Op::Put(put) = op {
                    put.created = put.created.or(Some(made.index));
                }
            }
            assert_eq!((told.index, told.changes), (made.index, made.changes));
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let head = r#"{"flotilla-changes":1,"life":"0000000000000007","index":10,"path":[],"guarded":false}"#;
        let good = r#"{"index":5,"steps":[]}"#;
        for (text, why) in [
            (String::new(), "does not tell changes"),
            ("<html>".into(), "does not tell changes"),
            ("true\n".into(), "does not tell changes"),
            (head.replace("0000000000000007", "7"), "does not tell changes"),
            (head.replace("0000000000000007", "0000000000000000"), "does not tell changes"),
            (head.replace("10", "9007199254740992"), "does not tell changes"),
            (r#"{"flotilla-changes":2,"all":"new"}"#.into(), "format 2"),
            (format!("{head}\n{good}"), "line 2 of the changes is none: it was cut"),
            (format!("{head}\n{good}\n{good}\n"), "line 3 of the changes is none: 5 is not its place"),
            (format!("{head}\n{}\n", good.replace('5', "11")), "11 is not its place"),
            (format!("{head}\n{}\n", r#"{"index":5,"steps":[{"burn":"k/a"}]}"#), "line 2"),
            (format!("{head}\n{}\n", r#"{"index":5,"steps":[{"delete":"z/a"}]}"#), r#"no table has a row "z/a""#),
            (format!("{head}\n{}\n", r#"{"index":5,"steps":[{"put":["k/a",{"key":"b","value":""}]}]}"#), "k/a"),
            (format!("{head}\n{}\n", r#"{"index":5,"steps":[{"put":["k/a",7]}]}"#), "k/a"),
        ] {
            let said = decode(text.as_bytes()).map(drop).expect_err(&text).to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
        let later = head.replace("\"guarded\"", "\"added\":[1],\"guarded\"");
        assert!(decode(format!("{later}\n{good}\n").as_bytes()).is_ok(), "a later version may add to it");
    }

    /// Whatever else a peer sends is refused or taken, and nothing worse.
    #[test]
    fn bytes_of_strangers_do_no_harm() {
        use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
        let line = encode(&commit_of(5, vec![put("k/a", r#"{"key":"a","value":"1"}"#, None)]));
        let whole = answer(&head_at(10), &[line]);
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut text = whole.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..text.len());
                text[at] = random.random();
            }
            if let Ok((_, commits)) = decode(&text) {
                let mut state = kvstore_core::State::empty(Index(0));
                for commit in commits {
                    state.apply(commit.index, &commit.changes);
                }
            }
        }
    }
}
