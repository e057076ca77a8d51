//! Bodies of answers.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};

/// What is sent: at once, later, or piece by piece. Dropped when the client
/// goes away, and with it whatever makes it.
pub(crate) enum Body {
    /// At once.
    Full(Option<Bytes>),
    /// In one piece, when it is known. The head of the answer goes out before.
    Later(Option<Pin<Box<dyn Future<Output = Bytes> + Send>>>),
    /// Piece by piece, each flushed.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// Piece by piece; after an error the connection is cut, so that nobody takes what came for the whole.
    Fallible(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Full(None)
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()))
    }

    pub(crate) fn later(future: impl Future<Output = Bytes> + Send + 'static) -> Body {
        Body::Later(Some(Box::pin(future)))
    }

    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        Body::Stream(Box::pin(stream))
    }

    pub(crate) fn fallible(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        Body::Fallible(Box::pin(stream))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let bytes = match &mut *self {
            Body::Full(bytes) => bytes.take(),
            Body::Later(None) => None,
            Body::Later(slot @ Some(_)) => {
                let bytes = match slot {
                    Some(future) => ready!(future.as_mut().poll(cx)),
                    None => return Poll::Ready(None),
                };
                *slot = None;
                Some(bytes)
            }
            Body::Stream(stream) => ready!(stream.as_mut().poll_next(cx)),
            Body::Fallible(stream) => {
                let piece = ready!(stream.as_mut().poll_next(cx));
                return Poll::Ready(piece.map(|piece| piece.map(Frame::data)));
            }
        };
        Poll::Ready(bytes.map(|b| Ok(Frame::data(b))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None) | Body::Later(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Later(_) | Body::Stream(_) | Body::Fallible(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Body::Full(_) => "Body::Full",
            Body::Later(_) => "Body::Later",
            Body::Stream(_) => "Body::Stream",
            Body::Fallible(_) => "Body::Fallible",
        })
    }
}
