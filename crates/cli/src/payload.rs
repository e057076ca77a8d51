//! Bodies of requests: at once, or piece by piece from a file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// What a request carries.
#[derive(Debug)]
pub(crate) enum Payload {
    /// At once; nothing when empty.
    Full(Bytes),
    /// Piece by piece, with the length when it is known.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Payload {
    /// Sends what `work` writes. It runs on a thread of its own; when the daemon takes no more, writing fails.
    pub(crate) fn produce(work: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static) -> Payload {
        let (sender, receiver) = mpsc::channel(4);
        std::thread::spawn(move || {
            let mut sink = Sink { sender, buffer: Vec::with_capacity(PIECE) };
            let done = work(&mut sink).and_then(|()| io::Write::flush(&mut sink));
            if let Err(error) = done {
                // Nobody may be listening any more, which is why it failed then.
                let _ = sink.sender.blocking_send(Err(error));
            }
        });
        Payload::Pieces(receiver)
    }

    /// Sends everything that can be read.
    pub(crate) fn read(mut input: impl io::Read + Send + 'static) -> Payload {
        Payload::produce(move |sink| io::copy(&mut input, sink).map(drop))
    }
}

/// Where the pieces are written.
pub(crate) struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Payload::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Payload::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Payload::Pieces(receiver) => receiver.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Pieces(_) => SizeHint::default(),
        }
    }
}
