//! Bytes between a client and a shim.

use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use budu_runtime::protocol::{self, Event, ExitRecord, HEADER, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::detach_keys::{Scanner, Typed};
use super::shim::Frames;

/// How much of a client's input goes to the shim at once.
const INPUT: usize = 8 << 10;

/// How a conversation is carried on.
#[derive(Debug)]
pub(super) struct Manner {
    /// The client gets plain bytes, as of a terminal. Else Docker's frames,
    /// which are the shim's own.
    pub(super) plain: bool,
    /// Send the client's input.
    pub(super) stdin: bool,
    /// Pass standard output on.
    pub(super) stdout: bool,
    /// Pass standard error on.
    pub(super) stderr: bool,
    /// Detach when these keys are typed.
    pub(super) keys: Option<Scanner>,
}

/// Why a conversation ended.
#[derive(Debug)]
pub(super) enum Reason {
    /// The shim closed it; an exec says first how its process ended.
    Shim(Option<ExitRecord>),
    /// The detach keys were typed.
    Keys,
    /// The client is gone.
    Client,
}

/// Two halves of a client's connection, and what tells that both are closed.
///
/// The end of the input says only that the client sends nothing more. `gone` resolves when it does not listen either,
/// as soon as that can be known; a writer alone learns of it with the next byte, which may never come.
#[derive(Debug)]
pub struct Peer<R, W, G> {
    /// What the client sends.
    pub reader: R,
    /// What it receives.
    pub writer: W,
    /// Resolves when the client has closed its connection; pending forever where nothing tells.
    pub gone: G,
}

/// Carries bytes until the shim, the client or the user ends it. One buffer
/// each way: who reads slowly is written to slowly.
pub(super) async fn run<R, W, G>(
    frames: &mut Frames<OwnedReadHalf>,
    shim: &mut OwnedWriteHalf,
    requests: Option<&mut mpsc::Receiver<Request>>,
    manner: &mut Manner,
    client: &mut Peer<R, W, G>,
) -> Reason
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Future<Output = ()> + Unpin,
{
    let Peer { reader, writer, gone } = client;
    let Manner { plain, stdin, stdout, stderr, keys } = manner;
    let wishes = [*stdout, *stderr];
    tokio::select! {
        reason = output(frames, *plain, wishes, writer) => reason,
        reason = input(shim, requests, *stdin, keys.as_mut(), reader, gone) => reason,
    }
}

/// From the shim to the client.
async fn output<W: AsyncWrite + Unpin>(
    frames: &mut Frames<OwnedReadHalf>,
    plain: bool,
    [stdout, stderr]: [bool; 2],
    writer: &mut W,
) -> Reason {
    loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => return Reason::Shim(None),
        };
        let wanted = match frame.kind() {
            protocol::STDOUT => stdout,
            protocol::STDERR => stderr,
            protocol::MESSAGE => match protocol::decode(frame.payload()) {
                Ok(Event::Exited(record)) => return Reason::Shim(Some(record)),
                _ => false,
            },
            _ => false,
        };
        let bytes = if plain { frame.payload() } else { frame.whole() };
        if wanted && writer.write_all(bytes).await.is_err() {
            return Reason::Client;
        }
    }
}

/// From the client, and from whoever resizes the terminal, to the shim.
async fn input<R, G>(
    shim: &mut OwnedWriteHalf,
    mut requests: Option<&mut mpsc::Receiver<Request>>,
    stdin: bool,
    mut keys: Option<&mut Scanner>,
    reader: &mut R,
    gone: &mut G,
) -> Reason
where
    R: AsyncRead + Unpin,
    G: Future<Output = ()> + Unpin,
{
    let mut buffer = vec![0u8; HEADER + INPUT];
    let mut open = true;
    loop {
        tokio::select! {
            request = next(&mut requests) => {
                let _ = shim.write_all(&protocol::encode(&request)).await;
            }
            () = &mut *gone, if !open => return Reason::Client,
            read = reader.read(&mut buffer[HEADER..]), if open => {
                let count = read.unwrap_or(0);
                open = count > 0;
                if !stdin {
                    continue;
                }
                if count == 0 {
                    // Half closed: the client still listens.
                    let _ = shim.write_all(&protocol::header(protocol::STDIN_EOF, 0)).await;
                    continue;
                }
                let detach = match keys.as_mut().map(|k| k.feed(&buffer[HEADER..HEADER + count])) {
                    None => {
                        let _ = frame(shim, &mut buffer, count).await;
                        continue;
                    }
                    Some(Typed::Pass(bytes)) => (bytes, false),
                    Some(Typed::Detach(bytes)) => (bytes, true),
                };
                let (bytes, detach) = detach;
                if bytes.len() > INPUT {
                    buffer.resize(HEADER + bytes.len(), 0);
                }
                buffer[HEADER..HEADER + bytes.len()].copy_from_slice(&bytes);
                if !bytes.is_empty() {
                    let _ = frame(shim, &mut buffer, bytes.len()).await;
                }
                if detach {
                    return Reason::Keys;
                }
            }
        }
    }
}

/// Sends the first `count` bytes behind the header's place as one frame.
async fn frame(shim: &mut OwnedWriteHalf, buffer: &mut [u8], count: usize) -> io::Result<()> {
    buffer[..HEADER].copy_from_slice(&protocol::header(protocol::STDIN, count));
    shim.write_all(&buffer[..HEADER + count]).await
}

/// The next request; never, when there is nobody to ask.
async fn next(requests: &mut Option<&mut mpsc::Receiver<Request>>) -> Request {
    match requests {
        Some(receiver) => match receiver.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Reads what is left after the client went, until the shim closes.
pub(super) async fn drain(frames: &mut Frames<OwnedReadHalf>) -> Option<ExitRecord> {
    while let Ok(Some(frame)) = frames.next().await {
        if frame.kind() == protocol::MESSAGE
            && let Ok(Event::Exited(record)) = protocol::decode(frame.payload())
        {
            return Some(record);
        }
    }
    None
}

/// Waits until the client has read everything sent to it so far, a second at
/// most. Clients that read an answer's head through a buffer (docker-py) lose
/// what arrives together with it.
pub async fn read_by_peer(socket: BorrowedFd<'_>) {
    for attempt in 0..1000 {
        if !budu_sys::socket::unread(socket).is_ok_and(|bytes| bytes > 0) {
            return;
        }
        // Most clients are there at once; the others are slow anyway.
        if attempt < 20 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
