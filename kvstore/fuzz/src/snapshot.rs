//! Snapshots: the first byte says what the rest is: an archive, a tar that is packed here, or a state whose archive is
//! made here with the right sums. None panics, none is unpacked beyond the limit, and what is taken is written back whole.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use kvstore::snapshot::{Archive, read};
use kvstore_core::{Index, State};
use sha2::{Digest, Sha256};

const MAX_BYTES: u64 = 1 << 20;

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn tar_of(state: &[u8]) -> Vec<u8> {
    let sum =
        |bytes: &[u8]| Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let meta = format!(r#"{{"Version":1,"ID":"1","Index":1000000,"Term":1,"Size":{}}}"#, state.len());
    let sums = format!("{}  meta.json\n{}  state.bin\n", sum(meta.as_bytes()), sum(state));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [("meta.json", meta.as_bytes()), ("state.bin", state), ("SHA256SUMS", sums.as_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn archive(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    Archive { state, id: "1", node_name: "n", address: "10.0.0.1:8300", time: 0 }.write(&mut out).unwrap();
    out
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut lines = format!("{{\"flotilla-rows\":1,\"rows\":{}}}\n", crate::given::ROWS.len()).into_bytes();
    for (key, value) in crate::given::ROWS {
        writeln!(lines, "[{},{value}]", serde_json::to_string(key).unwrap()).unwrap();
    }
    let seed = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    vec![
        seed(0, &archive(&crate::given::state())),
        seed(1, &tar_of(&lines)),
        seed(2, &lines),
        seed(2, b"{\"flotilla-rows\":1,\"rows\":0}\n"),
    ]
}

pub(crate) fn check(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let whole = match kind % 3 {
        0 => bytes.to_vec(),
        1 => packed(bytes),
        _ => packed(&tar_of(bytes)),
    };
    let Ok((meta, rows)) = read(&whole[..], MAX_BYTES) else { return };
    let state = State::load(Index(meta.index), rows);
    let (again, back) = read(&archive(&state)[..], u64::MAX).expect("what was taken can be taken again");
    assert_eq!((back, again.index), (state.rows().collect::<Vec<_>>(), meta.index));
}
