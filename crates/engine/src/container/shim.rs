//! Conversations with a shim: frames on a socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use budu_runtime::protocol::{self, Event, Failure, HEADER, Request};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::Error;

/// How much is read at once from a connection that carries streams.
const STREAM_READ: usize = 16 << 10;
/// How much is read at once from a connection that carries messages only.
const MESSAGE_READ: usize = 256;

/// Reads frames. Cancelling [`Frames::next`] loses nothing.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    from: R,
    buffer: BytesMut,
    read_size: usize,
    /// Stream frames that came while a message was awaited.
    early: VecDeque<Frame>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// For a connection that carries streams.
    pub(crate) fn streams(from: R) -> Frames<R> {
        Frames { from, buffer: BytesMut::new(), read_size: STREAM_READ, early: VecDeque::new() }
    }

    /// For a connection that carries messages: small buffers, since one is
    /// held per running container.
    pub(crate) fn messages(from: R) -> Frames<R> {
        Frames { from, buffer: BytesMut::new(), read_size: MESSAGE_READ, early: VecDeque::new() }
    }

    /// Returns the next frame, `None` at end of file.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        match self.early.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(self.read_size);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Returns the next message. Stream frames before it are kept for
    /// [`Frames::next`]: a quick program writes before its shim has said that
    /// it started.
    pub(crate) async fn event(&mut self) -> io::Result<Option<Event>> {
        while let Some(frame) = self.receive().await? {
            if frame.kind() == protocol::MESSAGE {
                return protocol::decode(frame.payload()).map(Some);
            }
            self.early.push_back(frame);
        }
        Ok(None)
    }

    /// The connection itself, for writing.
    pub(crate) fn connection(&mut self) -> &mut R {
        &mut self.from
    }

    fn parse(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let Some((_, length)) = protocol::parse_header(*head) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed shim frame"));
        };
        if self.buffer.len() < HEADER + length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        let whole = self.buffer.split_to(HEADER + length).freeze();
        if self.buffer.is_empty() && self.read_size == MESSAGE_READ {
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame(whole)))
    }
}

impl Frames<UnixStream> {
    /// Splits the connection; what was read already stays with the reader.
    pub(crate) fn split(self) -> (Frames<OwnedReadHalf>, OwnedWriteHalf) {
        let (from, to) = self.from.into_split();
        (Frames { from, buffer: self.buffer, read_size: self.read_size, early: self.early }, to)
    }
}

/// One frame with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// What it carries.
    pub(crate) fn kind(&self) -> u8 {
        self.0[0]
    }

    /// Without the header.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// With the header: how Docker's clients read it too.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.0
    }
}

/// Makes a shim's control connection ready for asynchronous use.
pub(crate) fn adopt(stream: StdStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Connects to the shim of a running container. The directory is opened first
/// and the socket reached through it: socket addresses hold 107 bytes only.
pub(crate) fn connect(run_dir: &Path) -> io::Result<UnixStream> {
    let dir = std::fs::File::open(run_dir)?;
    let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), protocol::SOCKET);
    adopt(StdStream::connect(path)?)
}

/// Opens a connection to a shim and says what it is for.
pub(crate) async fn open(run_dir: &Path, purpose: &Request) -> io::Result<UnixStream> {
    let mut stream = connect(run_dir)?;
    stream.write_all(&protocol::encode(purpose)).await?;
    Ok(stream)
}

/// The way to a running container's shim: requests go through the task that
/// watches it.
#[derive(Debug, Clone)]
pub(crate) struct Control(mpsc::Sender<Command>);

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<(), Failure>>,
}

impl Control {
    /// Makes both ends.
    pub(crate) fn pair() -> (Control, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(4);
        (Control(sender), receiver)
    }

    /// Sends a request and waits for its answer. `id` is for error texts.
    pub(crate) async fn ask(&self, id: &str, request: Request) -> Result<(), Error> {
        let (answer, result) = oneshot::channel();
        let gone = || Error::not_running(id);
        self.0.send(Command { request, answer }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?.map_err(|failure| match failure.class {
            protocol::FailureClass::State => Error::conflict(failure.message),
            protocol::FailureClass::Invalid => Error::invalid(failure.message),
            _ => Error::Runtime { message: failure.message },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_whole_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(1u8, &b"out"[..]), (2, b""), (1, b"more")] {
            bytes.extend(protocol::header(kind, payload.len()));
            bytes.extend(payload);
        }
        bytes.extend(protocol::encode(&Event::Done));
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let mut frames = Frames::streams(first.chain(second));
            for (kind, payload) in [(1u8, &b"out"[..]), (2, b""), (1, b"more")] {
                let frame = frames.next().await.unwrap().unwrap();
                assert_eq!((frame.kind(), frame.payload()), (kind, payload), "cut at {cut}");
            }
            assert!(matches!(frames.event().await.unwrap(), Some(Event::Done)), "cut at {cut}");
            assert_eq!(frames.next().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn output_before_a_message_is_not_lost() {
        let mut bytes = Vec::new();
        bytes.extend(protocol::header(1, 3));
        bytes.extend(b"out");
        bytes.extend(protocol::encode(&Event::Started { pid: 7 }));
        let mut frames = Frames::streams(&bytes[..]);
        assert!(matches!(frames.event().await.unwrap(), Some(Event::Started { pid: 7 })));
        assert_eq!(frames.next().await.unwrap().unwrap().payload(), b"out");
        assert_eq!(frames.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn half_a_frame_is_an_error() {
        let head = protocol::header(1, 10);
        let mut frames = Frames::messages(&head[..]);
        assert!(frames.next().await.is_err());
    }
}
