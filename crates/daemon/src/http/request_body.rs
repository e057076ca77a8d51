//! Bodies of requests.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

/// How much of a body that nobody wants is read nevertheless, as by Go's server.
const UNWANTED: usize = 256 << 10;
/// And for how long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the client sends: still on its way, or read already because somebody
/// had to see it before the handler does.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// On its way.
    Wire(Unread),
    /// Read.
    Read(Option<Bytes>),
}

/// A body that somebody may lose interest in.
#[derive(Debug)]
pub(crate) struct Unread(Option<Incoming>);

/// A client that is refused while it still sends would find its connection closed before it reads why.
impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take().filter(|rest| !rest.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(PATIENCE, discard(rest)));
        }
    }
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> RequestBody {
        RequestBody::Wire(Unread(Some(body)))
    }
}

async fn discard(mut rest: Incoming) {
    let mut count = 0;
    while count < UNWANTED
        && let Some(Ok(frame)) = rest.frame().await
    {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            RequestBody::Wire(Unread(Some(incoming))) => Pin::new(incoming).poll_frame(cx),
            RequestBody::Wire(Unread(None)) => Poll::Ready(None),
            RequestBody::Read(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Wire(body) => body.0.as_ref().is_none_or(Body::is_end_stream),
            RequestBody::Read(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Wire(body) => body.0.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
            RequestBody::Read(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
