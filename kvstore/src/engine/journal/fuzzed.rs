//! Whatever stands in a journal, a start finds what was written, from the first record on, and says so if
//! it leaves out the last, or what else is wrong. The
//! first byte says what the rest is: a file, what follows a header, or texts of records, parted by bytes of zero, of which
//! one byte of the file is damaged then.

use super::{Chain, Delta, HEADER_BYTES, HEADER_RUN, Header, Index, Meta, record};
use crate::engine::tables::OWN;

const META: Meta = Meta { index: Index(5), store: 7, run: 1, unfinished: true, copy_of: OWN };

/// The room that the header tells of.
const BYTES: usize = HEADER_BYTES + 4096;

fn header() -> Vec<u8> {
    let text = serde_json::to_vec(&Header { store: META.store, bytes: BYTES }).expect("plain numbers");
    let (mut content, _) = record(0, HEADER_RUN, Index(0), &text);
    content.resize(HEADER_BYTES, 0);
    content
}

/// A whole journal.
fn written(texts: &[&[u8]]) -> Vec<u8> {
    let (mut content, mut last) = (header(), 0);
    for (n, text) in texts.iter().enumerate() {
        let (bytes, sum) = record(last, META.run, Index(6 + n as u64), text);
        content.extend(bytes);
        last = sum;
    }
    content.resize(content.len().max(BYTES), 0);
    content
}

/// Also whether something was left out, and told of.
fn found(content: &[u8]) -> Result<(Delta, bool), String> {
    let mut chain = Chain::default();
    chain.replay(content, META.run, META)?;
    Ok((chain.found.delta, chain.found.torn.is_some()))
}

/// What the first `count` of `texts` come to.
fn all(texts: &[&[u8]], count: usize) -> Option<Delta> {
    texts[..count].iter().try_fold(Delta::default(), |mut all, text| {
        all.extend(Delta::decode(text).ok()?);
        Some(all)
    })
}

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"[\"k/a\",{\"created\":6,\"modified\":6,\"key\":\"a\",\"value\":\"1\"}]\n",
        b"{\"kv_prefix\":\"x/\"}\n\"all\"\n[\"k/a\",null]\n",
        b"[\"k/b\",{\"created\":8,\"modified\":8,\"key\":\"b\",\"value\":\"2\"}]\n[\"k/c\",null]\n",
    ];
    let content = written(texts);
    let damaged = |at: u16, with: u8| [&[2][..], &at.to_le_bytes(), &[with], &texts.join(&0)].concat();
    vec![
        [&[0][..], &content].concat(),
        [&[1][..], &content[HEADER_BYTES..]].concat(),
        damaged(0, 0),
        damaged(10, 1),
        damaged(4100, 1),
        damaged(4250, 0x80),
    ]
}

/// One input.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => assert!(told(rest)),
        1 => assert!(told(&[&header(), rest].concat())),
        _ => damaged(rest),
    }
}

/// No panic, and a word where there is an error.
fn told(content: &[u8]) -> bool {
    found(content)
        .err()
        .is_none_or(|why| why.starts_with("is damaged: ") || why.starts_with("ha") || why.starts_with("belongs "))
}

fn damaged(data: &[u8]) {
    let Some((&[low, high, with], rest)) = data.split_first_chunk() else { return };
    let texts: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    let mut content = written(&texts);
    let whole = all(&texts, texts.len());
    assert_eq!(found(&content).ok(), whole.clone().map(|delta| (delta, false)), "what was written is found");
    let at = usize::from(u16::from_le_bytes([low, high])) % content.len();
    content[at] ^= with;
    if let Ok((delta, torn)) = found(&content) {
        let less = all(&texts, texts.len() - 1);
        assert!(
            !torn && Some(&delta) == whole.as_ref() || torn && Some(&delta) == less.as_ref(),
            "less, and not a word"
        );
    }
}
