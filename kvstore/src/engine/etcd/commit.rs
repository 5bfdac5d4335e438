//! The writer's proposals as transactions of etcd: many on their way at once, and answered when all that they changed has
//! come back.

use std::time::Duration;

use etcd_client::{ResponseHeader, TxnOpResponse};
use futures_util::future::join_all;
use kvstore_core::{Changes, Expect, Index};
use tokio::time::timeout;

use super::{
    super::{Proposal, Rejected},
    incarnation::{Incarnation, number},
    lease::Lease,
    link::within,
    shared::{Connected, Shared, View},
    transaction::{Basis, transaction},
};

/// Whoever was refused for what a kvstore did not change, but somebody by hand, waits so long for it to come.
const BY_HAND: Duration = Duration::from_millis(200);

impl Shared {
    /// Commits what relies on nothing of the batch at once, and what does after that; waits until the view has all.
    pub(super) async fn commit(
        &self,
        connected: &Connected,
        start: Index,
        batch: Vec<Proposal>,
    ) -> Vec<Result<Index, Rejected>> {
        let mut results = Vec::with_capacity(batch.len());
        let (mut decided, mut exact, mut newest) = (start, true, 0);
        for wave in batch.chunk_by(|_, next| !relies_on_later(&next.changes, start)) {
            let made = wave.iter().map(|proposal| self.commit_one(connected, (start, exact), &proposal.changes));
            for (Proposal { changes, .. }, (result, revision)) in wave.iter().zip(join_all(made).await) {
                decided = changes.index_after(decided);
                exact &= result == Ok(decided);
                newest = revision.max(newest);
                results.push(result);
            }
            // Who did not answer is not asked again.
            if let Some(lost) = results.iter().find(|result| matches!(result, Err(Rejected::Lost(_)))).cloned() {
                results.resize(batch.len(), lost);
                break;
            }
        }
        if let Err(why) = self.reach(newest).await {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(Rejected::Lost(why.clone()));
            }
        }
        results
    }

    /// Has deadlines begin anew; only one that is not kept yet is written. Waits until the view has all of that.
    pub(super) async fn renew(
        &self,
        connected: &Connected,
        start: Index,
        renewals: Vec<Changes>,
    ) -> Vec<Result<(), Rejected>> {
        let renewed = renewals.iter().map(|changes| async move {
            match self.leases(connected, &changes.renews).await {
                Ok(leases) if leases.is_empty() => (Ok(()), 0),
                Ok(leases) => {
                    let (result, revision) = self.transact(connected, (start, false), changes, &leases).await;
                    (result.map(drop), revision)
                }
                Err(rejected) => (Err(rejected), 0),
            }
        });
        let (results, revisions): (Vec<_>, Vec<_>) = join_all(renewed).await.into_iter().unzip();
        // Where that is not heard of, the next renewal puts it once more.
        let _ = self.reach(revisions.into_iter().max().unwrap_or(0)).await;
        results
    }

    /// See [`Shared::transact`].
    async fn commit_one(
        &self,
        connected: &Connected,
        since: (Index, bool),
        changes: &Changes,
    ) -> (Result<Index, Rejected>, i64) {
        match self.leases(connected, &changes.renews).await {
            Ok(leases) => self.transact(connected, since, changes, &leases).await,
            Err(rejected) => (Err(rejected), 0),
        }
    }

    /// `start` and `exact` are those of its [`Basis`]; gives also the revision that the view must have before who is
    /// answered looks.
    async fn transact(
        &self,
        connected: &Connected,
        (start, exact): (Index, bool),
        changes: &Changes,
        leases: &[(String, Lease)],
    ) -> (Result<Index, Rejected>, i64) {
        let made = {
            let view = self.view();
            let Connected { base, store_revision, .. } = *connected;
            let (keys, View { unreadable, alive, .. }) = (&self.keys, &*view);
            let incarnation = match view.incarnation {
                Incarnation::Newest(ours) => Some((keys.agent(&self.host), ours)),
                Incarnation::None | Incarnation::Replaced => None,
            };
            let basis = Basis { keys, base, store_revision, unreadable, alive, start, incarnation, exact };
            transaction(changes, leases, &basis)
        };
        let (txn, base) = match made {
            Ok(made) => made,
            Err(rejected) => return (Err(rejected), 0),
        };
        let answer = match within(connected.link.kv().txn(txn)).await {
            Ok(answer) => answer,
            Err(why) => {
                self.is_doubted(&why);
                return (Err(Rejected::Lost(format!("etcd does not take it ({why}); try again"))), 0);
            }
        };
        if answer.succeeded() {
            let revision = answer.header().map_or(0, ResponseHeader::revision);
            return (Ok(base.index(revision)), revision);
        }
        let mut looked = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().cloned(),
            _ => None,
        });
        let mark = looked.next().flatten().map_or(0, |last| last.mod_revision());
        if let Some(newest) = looked.next() {
            self.newest_is(newest.as_ref().map_or(0, number));
            if let Err(why) = self.is_newest() {
                return (Err(Rejected::Lost(why)), 0);
            }
            if newest.is_none() {
                self.is_doubted("the row of this host's newest process is gone");
            }
        }
        if mark <= *self.revision.borrow() {
            let _ = timeout(BY_HAND, self.revision.subscribe().changed()).await;
        }
        (Err(Rejected::Conflict), mark)
    }
}

/// Whether the changes rely on what is later than `start`, and so on what comes before them in their batch.
fn relies_on_later(changes: &Changes, start: Index) -> bool {
    let on_later = |expect: &Expect| match expect {
        Expect::Row(_, index) | Expect::Unchanged(_, index) | Expect::Unjoined(_, index) => *index > start,
        Expect::Absent(_) | Expect::Lapsed(_) => false,
    };
    changes.above > start || changes.expects.iter().any(on_later)
}
