//! Deadlines of rows as leases of etcd. A row that must be renewed has a sign of life beside it, which its lease takes
//! away; a renewal keeps the lease, which writes nothing, takes no revision and wakes nobody. Any kvstore may do that.
//!
//! The lease is never on the row itself: what the end of a row brings with it is for the core to decide. So whoever sees
//! that a sign of life has gone proposes the end, on the condition that there is none again.

use std::time::Duration;

use etcd_client::{Error, KeyValue};
use futures_util::future::try_join_all;
use kvstore_core::Renewal;

use super::{
    super::Rejected,
    Connected, Shared,
    link::{Link, within},
};

/// The lease of a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// Etcd's name for it; 0: none.
    pub(super) id: i64,
    /// For how long one renewal lasts.
    pub(super) seconds: i64,
}

impl Lease {
    /// What a sign of life says.
    pub(super) fn of(sign: &KeyValue) -> Self {
        let seconds = sign.value_str().ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Self { id: sign.lease(), seconds }
    }

    pub(super) fn value(self) -> Vec<u8> {
        self.seconds.to_string().into()
    }
}

/// Etcd counts whole seconds. What is due later than asked for harms nobody; what is due earlier would.
pub(super) fn seconds(within: Duration) -> i64 {
    i64::try_from(within.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i64::MAX)
}

impl Shared {
    /// Has the deadlines begin anew; gives the leases of those that have no sign of life, or one for another time: they
    /// are to be put. A lease that is not put after all ends by itself.
    pub(super) async fn leases(
        &self,
        connected: &Connected,
        renews: &[Renewal],
    ) -> Result<Vec<(String, Lease)>, Rejected> {
        let renewed = try_join_all(renews.iter().map(|renewal| self.lease(&connected.link, renewal))).await;
        let put = renewed.map_err(|why| {
            self.is_doubted(&why);
            Rejected::Lost(format!("etcd does not renew it ({why}); try again"))
        })?;
        Ok(put.into_iter().flatten().collect())
    }

    async fn lease(&self, link: &Link, Renewal { row, within }: &Renewal) -> Result<Option<(String, Lease)>, String> {
        let (key, seconds) = (row.encode(), seconds(*within));
        let known = self.view().alive.get(&key).copied();
        if let Some(known) = known.filter(|known| known.id != 0 && known.seconds == seconds)
            && link.keep(known.id).await?
        {
            return Ok(None);
        }
        let id = link.grant(seconds).await?;
        Ok(Some((key, Lease { id, seconds })))
    }
}

impl Link {
    /// Whether the lease is there still; its time begins anew then.
    async fn keep(&self, lease: i64) -> Result<bool, String> {
        let mut client = self.lease();
        let kept = async {
            match client.keep_alive(lease).await {
                Ok(_) => Ok(true),
                // It knows none of that name.
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        within(kept).await
    }

    async fn grant(&self, seconds: i64) -> Result<i64, String> {
        within(self.lease().grant(seconds, None)).await.map(|granted| granted.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_asked_for() {
        for (millis, wanted) in [(1, 1), (1000, 1), (1001, 2), (11_000, 11), (86_400_000, 86_400)] {
            assert_eq!(seconds(Duration::from_millis(millis)), wanted, "{millis}");
        }
        assert_eq!(seconds(Duration::MAX), i64::MAX);
    }
}
