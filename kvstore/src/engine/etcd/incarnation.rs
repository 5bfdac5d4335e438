//! Which process is a host's kvstore: of those with one host's id the one that was started last. A process that was frozen,
//! and replaced meanwhile, must not write over what its successor has written; so each has a number, beside the rows, that
//! every transaction compares.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};

use super::{
    Shared,
    link::{Link, within},
};

/// What is told to whoever would write through a process that another has replaced.
const REPLACED: &str = "another kvstore that was started later has this host's node-id, so that this one writes no more; \
                        stop one of them, and if that is another host, remove the file node-id there";

/// A process among those of its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Incarnation {
    /// Not known yet; or it has no host, and nobody to tell it from.
    #[default]
    None,
    /// The newest, as far as is known.
    Newest(u64),
    /// Another was started later.
    Replaced,
}

impl Incarnation {
    /// After it was seen that the newest has the number `seen`.
    fn after(self, seen: u64) -> Self {
        match self {
            Self::Newest(ours) if seen > ours => Self::Replaced,
            other => other,
        }
    }
}

/// The number that is kept under the key of a host.
pub(super) fn number(kept: &KeyValue) -> u64 {
    kept.value_str().ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Shared {
    /// Before the first write: makes this process the newest of its host. Not any sooner, or one that may not write would
    /// replace another.
    pub(super) async fn begin_to_write(&self, link: &Link) -> Result<(), String> {
        let begins = self.view().incarnation == Incarnation::None && !self.host.is_empty();
        if begins { self.claim(link).await } else { Ok(()) }
    }

    /// With each new connection: whether it still is the newest.
    pub(super) async fn go_on(&self, link: &Link) -> Result<(), String> {
        let goes_on = matches!(self.view().incarnation, Incarnation::Newest(_));
        if goes_on { self.claim(link).await } else { Ok(()) }
    }

    async fn claim(&self, link: &Link) -> Result<(), String> {
        let (mut kv, key) = (link.kv(), self.keys.agent(&self.host));
        let got = within(kv.get(key.clone(), None)).await?;
        let (newest, revision) = got.kvs().first().map_or((0, 0), |kept| (number(kept), kept.mod_revision()));
        let ours = match self.view().incarnation {
            Incarnation::None => newest + 1,
            Incarnation::Newest(ours) => ours,
            Incarnation::Replaced => return Ok(()),
        };
        if newest >= ours {
            self.newest_is(newest);
            return Ok(());
        }
        // It is new, or somebody has taken the key away, or restored an older etcd.
        let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
        let put = TxnOp::put(key, ours.to_string(), None);
        if !within(kv.txn(Txn::new().when([unchanged]).and_then([put]))).await?.succeeded() {
            return Err("another kvstore with this host's id is started at the same time".into());
        }
        self.view().incarnation = Incarnation::Newest(ours);
        Ok(())
    }

    /// Takes note of the number of this host's newest process.
    pub(super) fn newest_is(&self, seen: u64) {
        let mut view = self.view();
        let after = view.incarnation.after(seen);
        if std::mem::replace(&mut view.incarnation, after) != after {
            tracing::error!("{REPLACED}; reads and DNS go on");
        }
    }

    /// # Errors
    /// If another has replaced this process.
    pub(super) fn is_newest(&self) -> Result<(), String> {
        match self.view().incarnation {
            Incarnation::Replaced => Err(REPLACED.into()),
            Incarnation::None | Incarnation::Newest(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_one_replaces_it() {
        for (seen, after) in [(1, Incarnation::Newest(2)), (2, Incarnation::Newest(2)), (3, Incarnation::Replaced)] {
            assert_eq!(Incarnation::Newest(2).after(seen), after);
        }
        assert_eq!(Incarnation::Replaced.after(1), Incarnation::Replaced);
        assert_eq!(Incarnation::None.after(1), Incarnation::None);
    }
}
