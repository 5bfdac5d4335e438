//! The row `store`: what a kvstore must understand to take part, and where indexes begin. Pure.

use kvstore_core::Index;
use serde::{Deserialize, Serialize};

/// The format that is written, and the newest that is understood.
const FORMAT: u64 = 1;

/// Indexes end here, so that JavaScript reads them exactly.
const INDEX_END: u64 = 1 << 53;

/// Where indexes begin: a row's index is this plus the revision of etcd that put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base(pub(super) Index);

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u64,
    base: u64,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl Base {
    pub(super) fn index(self, revision: i64) -> Index {
        Index(self.0.0.saturating_add_signed(revision))
    }

    /// The revision of an index that was made by [`Base::index`].
    pub(super) fn revision(self, index: Index) -> i64 {
        i64::try_from(index.0.saturating_sub(self.0.0)).unwrap_or(i64::MAX)
    }

    /// The base with which the revision after `revision` has the index after `index`.
    pub(super) fn going_on(index: Index, revision: i64) -> Self {
        Self(Index(index.0.saturating_add_signed(-revision).max(1)))
    }

    pub(super) fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&Stored { format: FORMAT, base: self.0.0 }).expect("two numbers")
    }

    /// # Errors
    /// If the value is not one that this kvstore understands.
    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(value) {
            Ok(Format { format }) if format > FORMAT => Err(format!(
                "it has format {format}, and this kvstore understands {FORMAT}; run the kvstore that the other hosts run"
            )),
            _ => match serde_json::from_slice(value) {
                Ok(Stored { base, .. }) if base > 0 && base < INDEX_END / 2 => Ok(Self(Index(base))),
                _ => Err(format!(
                    "its row `store` is not {{\"format\":{FORMAT},\"base\":NUMBER}}; put back what was there"
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_base_plus_revision() {
        let base = Base::decode(&Base(Index(1_700_000_000_000)).encode()).unwrap();
        assert_eq!(base.index(12), Index(1_700_000_000_012));
        assert_eq!(base.revision(Index(1_700_000_000_012)), 12);
        assert_eq!(base.revision(Index(5)), 0);
        assert_eq!(Base::going_on(Index(2_000), 12).index(13), Index(2_001));
    }

    #[test]
    fn a_newer_format_and_nonsense_are_refused() {
        for (value, why) in [
            (r#"{"format":2,"bases":[1,2]}"#, "it has format 2, and this kvstore understands 1"),
            (r#"{"format":1}"#, "is not"),
            (r#"{"format":1,"base":0}"#, "is not"),
            (r#"{"format":1,"base":-5}"#, "is not"),
            (r#"{"format":1,"base":9007199254740992}"#, "is not"),
            ("17", "is not"),
            ("", "is not"),
        ] {
            let said = Base::decode(value.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{value}: {said}");
        }
    }
}
