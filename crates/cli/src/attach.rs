//! Carries bytes between the user and a hijacked connection.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::client::Hijacked;
use crate::detach::{DetachKeys, Typed};
use crate::error::Error;
use crate::transport::Stream;

/// Which of the user's streams take part.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Send standard input.
    pub(crate) stdin: bool,
    /// Show standard output.
    pub(crate) stdout: bool,
    /// Show standard error.
    pub(crate) stderr: bool,
    /// The container has a terminal: bytes are raw.
    pub(crate) tty: bool,
    /// Keys that detach; only watched with a terminal.
    pub(crate) keys: Option<DetachKeys>,
}

/// Why carrying ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side closed.
    Finished,
    /// The user typed the detach keys.
    Detached,
}

/// Carries until the container's output ends or the user detaches.
pub(crate) async fn carry(hijacked: Hijacked, streams: Streams) -> Result<Ended, Error> {
    let Streams { stdin, stdout, stderr, tty, keys } = streams;
    let (reader, mut writer) = tokio::io::split(hijacked.stream);
    let show = stdout || stderr;
    let output = show_output(reader, hijacked.early, tty);
    let input = async { if stdin { send_input(&mut writer, keys).await } else { Ok(Ended::Finished) } };
    tokio::pin!(output, input);
    tokio::select! {
        done = &mut output, if show => done.map(|()| Ended::Finished),
        sent = &mut input, if stdin => match sent? {
            Ended::Detached => Ok(Ended::Detached),
            Ended::Finished if show => output.await.map(|()| Ended::Finished),
            Ended::Finished => Ok(Ended::Finished),
        },
        else => Ok(Ended::Finished),
    }
}

/// Reads standard input on a thread of its own: it may be a file, a pipe or a terminal shared with
/// others, none of which can be made non-blocking safely.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

async fn send_input(writer: &mut WriteHalf<Stream>, mut keys: Option<DetachKeys>) -> Result<Ended, Error> {
    let mut typed = typed();
    while let Some(bytes) = typed.recv().await {
        let (bytes, detach) = match keys.as_mut().map(|keys| keys.take(&bytes)) {
            None => (bytes, false),
            Some(Typed::Forward(bytes)) => (bytes, false),
            Some(Typed::Detach(bytes)) => (bytes, true),
        };
        if writer.write_all(&bytes).await.is_err() {
            // The container closed its input; its output still counts.
            return Ok(Ended::Finished);
        }
        if detach {
            return Ok(Ended::Detached);
        }
    }
    // Half close: the container sees the end of its input.
    let _ = writer.shutdown().await;
    Ok(Ended::Finished)
}

async fn show_output(mut reader: ReadHalf<Stream>, early: Bytes, raw: bool) -> Result<(), Error> {
    let mut demux = Demux::new(raw);
    demux.take(&early, &mut show)?;
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return demux.end(),
            Ok(count) => demux.take(&buffer[..count], &mut show)?,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return demux.end(),
            Err(error) => return Err(Error::Transport { reason: crate::error::os_text(&error) }),
        }
    }
}

/// Writes a piece of output where it belongs.
pub(crate) fn show(stream: Output, bytes: &[u8]) -> Result<(), Error> {
    match stream {
        Output::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
        }
        Output::Stderr => io::stderr().lock().write_all(bytes)?,
    }
    Ok(())
}

/// Where a piece of output belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the 8-byte frame headers out of a stream: `[stream, 0, 0, 0, length as big-endian u32]`.
#[derive(Debug)]
pub(crate) struct Demux {
    raw: bool,
    header: [u8; 8],
    filled: usize,
    left: usize,
    failure: Vec<u8>,
}

impl Demux {
    /// A demultiplexer, or with `raw` none at all.
    pub(crate) fn new(raw: bool) -> Demux {
        Demux { raw, header: [0; 8], filled: 0, left: 0, failure: Vec::new() }
    }

    /// Takes bytes as they come, hands out payload as it comes.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        show: &mut impl FnMut(Output, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.raw {
            return if bytes.is_empty() { Ok(()) } else { show(Output::Stdout, bytes) };
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let count = bytes.len().min(8 - self.filled);
                self.header[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                self.filled += count;
                bytes = &bytes[count..];
                if self.filled == 8 {
                    self.filled = 0;
                    let [.., a, b, c, d] = self.header;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            bytes = rest;
            match self.header[0] {
                0 | 1 => show(Output::Stdout, payload)?,
                2 => show(Output::Stderr, payload)?,
                3 => self.failure.extend_from_slice(payload),
                other => return Err(Error::Transport { reason: format!("unrecognized stream: {other}") }),
            }
            if self.left == 0 && !self.failure.is_empty() {
                return self.end();
            }
        }
        Ok(())
    }

    /// At the end: a system error that came through the stream is the result.
    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.failure.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.failure);
        Err(Error::new(format_args!("error from daemon in stream: {}", text.trim_end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_survive_any_cut() {
        let wire = [frame(1, b"out"), frame(2, b"err"), frame(1, b""), frame(1, b"more")].concat();
        for size in 1..wire.len() {
            let mut demux = Demux::new(false);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for piece in wire.chunks(size) {
                let mut show = |to, bytes: &[u8]| {
                    if to == Output::Stdout {
                        out.extend_from_slice(bytes)
                    } else {
                        err.extend_from_slice(bytes)
                    }
                    Ok(())
                };
                demux.take(piece, &mut show).unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"outmore"[..], &b"err"[..]), "cut into {size}");
        }
    }

    #[test]
    fn system_errors_become_errors() {
        let mut demux = Demux::new(false);
        let error = demux.take(&frame(3, b"disk on fire"), &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: disk on fire");
        assert!(Demux::new(false).take(&frame(9, b"x"), &mut |_, _| Ok(())).is_err());
    }
}
