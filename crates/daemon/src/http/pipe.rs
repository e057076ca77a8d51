//! Between bodies and code that reads and writes as files are read and written.
//!
//! Each side waits for the other, so that memory stays small however slow one of them is. The blocking side has a
//! thread of its own: clients that stall hold up nobody else.

use std::io::{self, BufRead, Read, Write};

use super::RequestBody;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use super::{Body, Call, Failure};

/// Bytes given on at once.
const PIECE: usize = 64 << 10;

/// Pieces under way.
const QUEUE: usize = 4;

/// Runs blocking work on a thread of its own and waits for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let (done, wait) = oneshot::channel();
    let run = move || {
        // Who asked may be gone.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("files".to_owned()).spawn(run).map_err(|e| Failure::internal(e.to_string()))?;
    wait.await.map_err(|_| Failure::internal("internal error: see the daemon's log"))
}

/// A body that `work` writes. When the client goes away, writing fails.
pub(crate) fn produce<F>(work: F) -> Result<Body, Failure>
where
    F: FnOnce(&mut Sink) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let run = move || {
        let mut sink = Sink { sender, buffer: BytesMut::with_capacity(PIECE) };
        let done = work(&mut sink).and_then(|()| sink.flush());
        if let Err(error) = done
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, "an answer breaks off");
            let _ = sink.sender.blocking_send(Err(error));
        }
    };
    std::thread::Builder::new().name("files".to_owned()).spawn(run).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(Body::fallible(stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })))
}

/// Where the pieces of a body are written.
pub(crate) struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Sink {
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
        let piece = self.buffer.split().freeze();
        self.buffer.reserve(PIECE);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A request's body, to be read on another thread.
pub(crate) struct Received {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Received {
    /// Starts receiving.
    pub(crate) fn new(body: Option<RequestBody>) -> Received {
        let (sender, receiver) = mpsc::channel(QUEUE);
        if let Some(mut body) = body {
            tokio::spawn(async move {
                while let Some(frame) = body.frame().await {
                    let piece = match frame.map(|frame| frame.into_data()) {
                        Ok(Ok(data)) => Ok(data),
                        Ok(Err(_)) => continue,
                        Err(error) => Err(io::Error::other(error)),
                    };
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            });
        }
        Received { receiver, current: Bytes::new() }
    }
}

impl BufRead for Received {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// What the client prefers of what we have.
    pub(crate) fn of(call: &Call) -> Encoding {
        let header = call.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Encoding::choose(header)
    }

    fn choose(header: &str) -> Encoding {
        let mut best = (0.0, Encoding::Identity);
        for word in header.split(',') {
            let (name, parameters) = word.split_once(';').unwrap_or((word, ""));
            let quality = parameters.trim().strip_prefix("q=").and_then(|q| q.trim().parse().ok()).unwrap_or(1.0);
            let encoding = match name.trim() {
                "gzip" | "*" => Encoding::Gzip,
                "deflate" => Encoding::Deflate,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, encoding);
            }
        }
        best.1
    }

    /// The header that says so.
    pub(crate) fn mark(self, headers: &mut hyper::HeaderMap) {
        let value = match self {
            Encoding::Identity => return,
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        };
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
    }

    /// Runs `work`, compressing what it writes.
    pub(crate) fn write(self, sink: &mut Sink, work: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let level = flate2::Compression::fast();
        match self {
            Encoding::Identity => work(sink),
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(sink, level);
                work(&mut encoder)?;
                encoder.finish().map(drop)
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(sink, level);
                work(&mut encoder)?;
                encoder.finish().map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        for (header, want) in [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("deflate, gzip;q=0.5", Encoding::Deflate),
            ("br, gzip;q=1.0, deflate", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
        ] {
            assert_eq!(Encoding::choose(header), want, "{header}");
        }
    }
}
