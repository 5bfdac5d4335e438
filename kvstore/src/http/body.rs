//! An answer's body: bytes that are at hand, or pieces that are still to come.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use hyper::body::{Frame, SizeHint};

use super::shared::Rendered;

/// An answer's body.
pub(crate) struct Body(Inner);

enum Inner {
    /// `None` once it was sent.
    Whole(Option<Bytes>),
    /// The same, of bytes that others get too.
    Shared(Option<Arc<Rendered>>),
    Pieces(BoxStream<'static, Bytes>),
}

impl Body {
    /// Bytes that are at hand.
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Inner::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// Bytes that others get too.
    pub(super) fn shared(rendered: &Arc<Rendered>) -> Self {
        Self(Inner::Shared((!rendered.bytes().is_empty()).then(|| rendered.clone())))
    }

    /// Where packed bytes are kept for others, if others get these bytes too.
    pub(super) fn rendered(&self) -> Option<&Arc<Rendered>> {
        if let Inner::Shared(rendered) = &self.0 { rendered.as_ref() } else { None }
    }

    /// Pieces, sent one by one as they come; the stream bounds what waits.
    pub(super) fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Inner::Pieces(stream.boxed()))
    }

    /// All of it, unless it comes in pieces.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref(),
            Inner::Shared(rendered) => rendered.as_ref().map(|rendered| rendered.bytes()),
            Inner::Pieces(_) => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self(Inner::Whole(None))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Whole(_) | Inner::Shared(_) => write!(f, "Body({} bytes)", self.whole().map_or(0, Bytes::len)),
            Inner::Pieces(_) => f.write_str("Body(pieces)"),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Shared(rendered) => {
                Poll::Ready(rendered.take().map(|rendered| Ok(Frame::data(rendered.bytes().clone()))))
            }
            Inner::Pieces(stream) => stream.poll_next_unpin(context).map(|next| next.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Whole(None) | Inner::Shared(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(_) | Inner::Shared(_) => {
                SizeHint::with_exact(self.whole().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Pieces(_) => SizeHint::default(),
        }
    }
}
