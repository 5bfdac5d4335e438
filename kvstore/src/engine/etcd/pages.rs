//! All keys of a span as they were at one revision, some at a time: what to ask for next. Pure.

use etcd_client::{GetOptions, GetResponse};

use super::keys::{Span, after};

/// Keys asked for at once; each has at most what etcd takes in a request.
const PAGE: i64 = 200;

/// What has not come yet.
pub(super) struct Pages {
    /// None when all has come.
    left: Option<Span>,
    revision: i64,
}

impl Pages {
    pub(super) fn of(span: Span, revision: i64) -> Self {
        Self { left: Some(span), revision }
    }

    /// What to ask for; none when all has come.
    pub(super) fn next(&self) -> Option<(Vec<u8>, GetOptions)> {
        let Span { from, to } = self.left.clone()?;
        Some((from, GetOptions::new().with_range(to).with_limit(PAGE).with_revision(self.revision)))
    }

    /// `page` has come.
    pub(super) fn came(&mut self, page: &GetResponse) {
        let last = page.kvs().last().filter(|_| page.more());
        self.left = self.left.take().zip(last).map(|(left, last)| Span { from: after(last.key()), ..left });
    }
}
