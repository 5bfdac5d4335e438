//! What is written is read back; what was changed in between is found, whatever it is.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use kvstore_core::{
    Index, State,
    row::{Row, Stamped},
};
use sha2::{Digest, Sha256};

use super::*;

const MAX: u64 = 1 << 20;

const ROWS: &[(&str, &str)] = &[
    ("n/db-1", r#"{"created":1,"modified":5,"name":"Db-1","address":"10.0.0.1"}"#),
    ("n/db-1/i/web%2F1", r#"{"created":2,"modified":6,"node":"db-1","id":"web/1","service":"web","port":81}"#),
    ("n/db-1/c/c1", r#"{"created":3,"modified":7,"node":"db-1","id":"c1","status":"critical","service":"web/1"}"#),
    ("k/a\n\"b", r#"{"created":4,"modified":8,"key":"a\n\"b","value":{"base64":"/wA="}}"#),
];

fn rows() -> Vec<Stamped<Row>> {
    ROWS.iter().map(|(key, value)| Row::decode(key, value.as_bytes()).unwrap()).collect()
}

fn archive(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    Archive { state, id: "1-8-0", node_name: "n", address: "10.0.0.1:8300", time: 0 }.write(&mut out).unwrap();
    out
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// The files of an archive, by name.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let file = |entry: std::io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    };
    tar.entries().unwrap().map(file).collect()
}

fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    packed(&tar.into_inner().unwrap())
}

/// The archive of [`ROWS`] with the lines of its state changed, and everything that depends on them put right.
fn with_state(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let mut all = files(&archive(&State::load(Index(9), rows())));
    let state = change(String::from_utf8(all[1].1.clone()).unwrap());
    let mut meta: Meta = serde_json::from_slice(&all[0].1).unwrap();
    meta.size = state.len() as u64;
    all[0].1 = serde_json::to_vec(&meta).unwrap();
    all[1].1 = state.into_bytes();
    let sum = |bytes: &[u8]| write::hex(&Sha256::digest(bytes));
    all[2].1 = format!("{}  meta.json\n{}  state.bin\n", sum(&all[0].1), sum(&all[1].1)).into_bytes();
    archive_of(&all)
}

fn fault(archive: &[u8]) -> String {
    read(archive, MAX).expect_err("it is damaged").to_string()
}

#[test]
fn what_is_written_is_read_back_whole() {
    for rows in [vec![], rows()] {
        let state = State::load(Index(9), rows.clone());
        let packed = archive(&state);
        let (meta, read) = read(&packed[..], MAX).unwrap();
        assert_eq!((read, meta.index, meta.version), (rows, 9, 1));
        let names: Vec<_> = files(&packed).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [META, STATE, SUMS]);
    }
}

#[test]
fn the_sums_are_what_sha256sum_prints() {
    let all = files(&archive(&State::load(Index(9), rows())));
    let sum = |bytes: &[u8]| write::hex(&Sha256::digest(bytes));
    let want = format!("{}  meta.json\n{}  state.bin\n", sum(&all[0].1), sum(&all[1].1));
    assert_eq!(String::from_utf8(all[2].1.clone()).unwrap(), want);
    assert_eq!(sum(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn every_kind_of_damage_is_named() {
    let whole = archive(&State::load(Index(9), rows()));
    assert!(fault(b"").starts_with("failed to decompress snapshot: "));
    assert!(fault(b"just some bytes that somebody has sent").starts_with("failed to decompress snapshot: "));
    assert!(fault(&[&whole[..], b"more"].concat()).starts_with("failed to decompress snapshot: "));
    assert!(fault(&packed(&[b'x'; 2000])).starts_with("failed to read snapshot file: "));
    let mut all = files(&whole);
    let extra = ("../etc/passwd".to_owned(), b"x".to_vec());
    for (names, says) in [
        (&[0, 1][..], "it has no \"SHA256SUMS\""),
        (&[0, 2], "it has no \"state.bin\""),
        (&[1, 2], "it has no \"meta.json\""),
        (&[0, 1, 1, 2], "unexpected file \"state.bin\""),
        (&[], "it has no \"meta.json\""),
    ] {
        let some: Vec<_> = names.iter().map(|&at| all[at].clone()).collect();
        assert!(fault(&archive_of(&some)).contains(says), "{names:?}");
    }
    // The tar crate does not write such a name, so it is put into the bytes.
    let mut tar = unpacked(&archive_of(&[vec![("xx/etc/passwd".to_owned(), extra.1)], all.clone()].concat()));
    tar[..2].copy_from_slice(b"..");
    let sum: u32 = tar[..148].iter().chain(&[b' '; 8]).chain(&tar[156..512]).map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(fault(&packed(&tar)).contains("unexpected file \"../etc/passwd\""), "{}", fault(&packed(&tar)));
    all[1].1[70] ^= 1;
    assert!(fault(&archive_of(&all)).contains("hash check failed for \"state.bin\""));
    all[0].1.push(b' ');
    assert!(fault(&archive_of(&all)).contains("hash check failed for \"meta.json\""));
}

type Change = Box<dyn FnOnce(String) -> String>;

#[test]
fn a_state_that_is_none_is_refused_though_its_sums_are_right() {
    let line = |state: &str, at: usize| state.lines().nth(at).unwrap().to_owned();
    let cases: Vec<(&str, Change)> = vec![
        ("has format 2", Box::new(|s| s.replace("\"flotilla-rows\":1", "\"flotilla-rows\":2"))),
        ("is not kvstore's", Box::new(|_| "\u{2}\u{81}\u{a9}LastIndex".into())),
        ("is not kvstore's", Box::new(|_| String::new())),
        ("not as long as it says", Box::new(move |s| s.replace(&format!("{}\n", line(&s, 4)), ""))),
        (
            "line 6 of the state in this snapshot is no row: it is there twice",
            Box::new(move |s| format!("{s}{}\n", line(&s, 4))),
        ),
        ("line 2 of the state in this snapshot is no row", Box::new(move |s| s.replace("\"n/db-1\"", "\"n/db-2\""))),
        ("is on a host that is not there", Box::new(move |s| s.replace(&format!("{}\n", line(&s, 1)), ""))),
        ("line 3", Box::new(|s| s.replace("\"port\":81", "\"port\":810000"))),
        ("9 cannot be its index", Box::new(|s| s.replace("\"modified\":8", "\"modified\":10"))),
        ("9 cannot be its index", Box::new(|s| s.replace("\"created\":4", "\"created\":9"))),
    ];
    assert!(read(&with_state(|state| state)[..], MAX).is_ok());
    for (says, change) in cases {
        let fault = fault(&with_state(change));
        assert!(fault.contains(says), "{says}: {fault}");
    }
}

#[test]
fn an_archive_cut_or_changed_anywhere_is_refused() {
    let whole = archive(&State::load(Index(9), rows()));
    for length in 0..whole.len() {
        assert!(read(&whole[..length], MAX).is_err(), "cut after {length} bytes");
    }
    let tar = unpacked(&whole);
    let mut read_all_the_same = 0;
    for at in 0..tar.len() {
        let mut changed = tar.clone();
        changed[at] ^= 0x10;
        if let Ok((_, read)) = read(&packed(&changed)[..], MAX) {
            assert_eq!(read, rows(), "byte {at}: what is taken is what was written");
            read_all_the_same += 1;
        }
    }
    assert!(read_all_the_same < tar.len() / 2, "only the padding of a tar is nobody's");
}

#[test]
fn what_unpacks_to_too_much_is_refused_early() {
    let bomb = packed(&vec![0; 8 << 20]);
    assert!(bomb.len() < 64 << 10);
    let refused = read(&bomb[..], MAX).unwrap_err();
    assert!(matches!(refused, Damage::TooLarge { max_bytes: MAX }), "{refused}");
    // A long line, a long list of sums, and a file that says it is longer than all there is.
    let long = with_state(|state| format!("{state}[\"k/x\",\"{}", "x".repeat(2 << 20)));
    assert!(matches!(read(&long[..], MAX).unwrap_err(), Damage::TooLarge { .. }));
    let mut all = files(&archive(&State::load(Index(9), rows())));
    all[2].1.resize(2 << 20, b' ');
    assert!(matches!(read(&archive_of(&all)[..], 8 << 20).unwrap_err(), Damage::TooLarge { .. }));
}
