//! Stored rows, a key, a line end, and a value: no bytes panic, and what is a row is stored as the same row again.

use kvstore_core::{Command, Index, State, decide, row::Row};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    crate::given::ROWS.iter().map(|(key, value)| format!("{key}\n{value}").into_bytes()).collect()
}

pub(crate) fn check(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(key) = std::str::from_utf8(&data[..end]) else { return };
    let Ok(row) = Row::decode(key, &data[end + 1..]) else { return };
    #[cfg(feature = "planted")]
    planted(&row.value);
    assert_eq!(row.value.key().encode(), key);
    let stored = row.value.encode(row.created, row.modified);
    assert_eq!(Row::decode(key, &stored).expect("what was a row is one"), row);

    let loaded = State::load(Index(u64::MAX / 2), [row.clone()]);
    assert_eq!(loaded.rows().collect::<Vec<_>>(), std::slice::from_ref(&row));
    let mut state = crate::given::state();
    let command = Command::Restore { rows: vec![row], index: Index(5) };
    let changes = decide(&state, &command).expect("a restore is never refused").changes;
    state.apply(changes.index_after(state.index()), &changes);
    assert_eq!(state.rows().count(), 1);
}

/// Found only by who follows the coverage: each step is likely once the one before is taken, and all at once are not.
#[cfg(feature = "planted")]
fn planted(row: &Row) {
    use std::hint::black_box;

    let Row::Instance(instance) = row else { return };
    if black_box(instance.port) != 0 {
        return;
    }
    if !black_box(instance.address.is_empty()) {
        return;
    }
    if !black_box(instance.tags.is_empty()) {
        return;
    }
    if black_box(instance.meta.is_some()) {
        return;
    }
    panic!("the planted bug");
}
