//! The row `store`: what a kvstore must understand to take part, whether the rows are a registry now, and where indexes
//! begin. Pure.

use kvstore_core::Index;
use serde::{Deserialize, Serialize};

/// The format that is written, and the newest that is understood.
const FORMAT: u64 = 1;

/// Indexes end here, so that JavaScript reads them exactly.
const INDEX_END: u64 = 1 << 53;

/// Where indexes begin: a row's index is this plus the revision of etcd that put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base(pub(super) Index);

/// What the row `store` says of the rows beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are a registry.
    Open(Base),
    /// A registry is moved here from elsewhere, and not all of it is here.
    Arriving {
        /// Where it comes from.
        from: String,
        /// Of this attempt.
        id: String,
    },
    /// They were a registry, which is moved elsewhere.
    Moved {
        /// Where indexes began.
        base: Base,
        /// Where it is now.
        to: String,
    },
}

/// Only an open registry has a base at the first level, where kvstores look that know no other standing.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    format: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arriving: Option<Arriving>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved: Option<Moved>,
}

#[derive(Serialize, Deserialize)]
struct Arriving {
    from: String,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Moved {
    base: u64,
    to: String,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl Standing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = match self {
            Self::Open(base) => Stored { base: Some(base.0.0), ..Stored::default() },
            Self::Arriving { from, id } => {
                let arriving = Arriving { from: from.clone(), id: id.clone() };
                Stored { arriving: Some(arriving), ..Stored::default() }
            }
            Self::Moved { base, to } => {
                Stored { moved: Some(Moved { base: base.0.0, to: to.clone() }), ..Stored::default() }
            }
        };
        serde_json::to_vec(&Stored { format: FORMAT, ..stored }).expect("numbers and texts")
    }

    /// # Errors
    /// If the value is not one that this kvstore understands.
    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        if let Ok(Format { format }) = serde_json::from_slice(value)
            && format > FORMAT
        {
            return Err(format!(
                "it has format {format}, and this kvstore understands {FORMAT}; run the kvstore that the other hosts run"
            ));
        }
        let base = |base: u64| (base > 0 && base < INDEX_END / 2).then_some(Base(Index(base)));
        let standing = match serde_json::from_slice(value) {
            Ok(Stored { base: Some(number), arriving: None, moved: None, .. }) => base(number).map(Self::Open),
            Ok(Stored { base: None, arriving: Some(Arriving { from, id }), moved: None, .. }) => {
                Some(Self::Arriving { from, id })
            }
            Ok(Stored { base: None, arriving: None, moved: Some(Moved { base: number, to }), .. }) => {
                base(number).map(|base| Self::Moved { base, to })
            }
            _ => None,
        };
        standing.ok_or_else(|| {
            format!("its row `store` is not {{\"format\":{FORMAT},\"base\":NUMBER}}; put back what was there")
        })
    }
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
        Standing::Open(self).encode()
    }

    /// # Errors
    /// If the value is not that of a registry which this kvstore understands, and which is there.
    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        match Standing::decode(value)? {
            Standing::Open(base) => Ok(base),
            Standing::Arriving { from, .. } => Err(format!(
                "a registry is moved there from {from} and has not arrived; let kvstore migrate end, or run it again"
            )),
            Standing::Moved { base, to } => {
                let back = String::from_utf8_lossy(&base.encode()).into_owned();
                Err(format!("its registry was moved to {to}; to have it here as it was, make its row `store` {back}"))
            }
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
            (r#"{"format":1,"base":5,"arriving":{"from":"x","id":"1"}}"#, "is not"),
            (r#"{"format":1,"moved":{"base":0,"to":"x"}}"#, "is not"),
            ("17", "is not"),
            ("", "is not"),
        ] {
            let said = Base::decode(value.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{value}: {said}");
        }
    }

    #[test]
    fn nobody_takes_part_in_what_is_on_its_way() {
        let moved = Standing::Moved { base: Base(Index(7)), to: "/var/lib/kvstore".into() };
        for (standing, text, why) in [
            (
                Standing::Arriving { from: "/data".into(), id: "1f".into() },
                r#"{"format":1,"arriving":{"from":"/data","id":"1f"}}"#,
                "is moved there from /data and has not arrived",
            ),
            (
                moved,
                r#"{"format":1,"moved":{"base":7,"to":"/var/lib/kvstore"}}"#,
                r#"was moved to /var/lib/kvstore; to have it here as it was, make its row `store` {"format":1,"base":7}"#,
            ),
        ] {
            let value = standing.encode();
            assert_eq!(String::from_utf8_lossy(&value), text);
            assert_eq!(Standing::decode(&value), Ok(standing));
            let said = Base::decode(&value).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
