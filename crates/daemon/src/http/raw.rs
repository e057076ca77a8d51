//! Clients that take a connection over without asking for an upgrade.
//!
//! Old ones post to `attach` or `exec/…/start` as to any other path, and go on
//! in raw bytes behind an answer 200. HTTP knows no such thing, so hyper is
//! shown an upgrade, and the client the answer it expects: the head of a
//! connection's first request and of its answer are changed on the way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A longer head is hyper's to refuse.
const HEAD: usize = 16 << 10;
const END: &[u8] = b"\r\n\r\n";
const ASKED: &[u8] = b"Connection: Upgrade\r\nUpgrade: tcp\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    inner: S,
    /// Bytes of the client that hyper has not read, from `read` on.
    early: Vec<u8>,
    read: usize,
    /// The first head has not come whole.
    collecting: bool,
    /// The next answer that switches protocols is not to look like it.
    raw: bool,
    /// Bytes for the client that could not be sent yet, from `sent` on.
    late: Vec<u8>,
    sent: usize,
}

impl<S> Wire<S> {
    pub(crate) fn new(inner: S) -> Wire<S> {
        Wire { inner, early: Vec::new(), read: 0, collecting: true, raw: false, late: Vec::new(), sent: 0 }
    }

    /// The connection itself, and what it said that nobody has read.
    pub(super) fn into_parts(mut self) -> (S, Vec<u8>) {
        self.early.drain(..self.read);
        (self.inner, self.early)
    }
}

/// Whether a request's head takes the connection over without saying so.
fn takes_over(head: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(head) else { return false };
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let known = path.ends_with("/attach") || path.contains("/exec/") && path.ends_with("/start");
    let upgrade = |line: &str| line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    method == Some("POST") && known && words.next() == Some("HTTP/1.1") && !lines.any(upgrade)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.collecting {
            let mut piece = [0u8; 2048];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
            self.early.extend_from_slice(piece.filled());
            if let Some(end) = find(&self.early, END) {
                self.collecting = false;
                if takes_over(&self.early[..end]) {
                    self.raw = true;
                    let at = find(&self.early, b"\r\n").map_or(0, |line| line + 2);
                    self.early.splice(at..at, ASKED.iter().copied());
                }
            } else if piece.filled().is_empty() || self.early.len() > HEAD {
                self.collecting = false;
            }
        }
        if self.read < self.early.len() {
            let count = buffer.remaining().min(self.early.len() - self.read);
            let from = self.read;
            buffer.put_slice(&self.early[from..from + count]);
            self.read += count;
            if self.read == self.early.len() {
                (self.early, self.read) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.late.len() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.late[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_late(cx))?;
        if std::mem::take(&mut self.raw)
            && bytes.starts_with(SWITCHED)
            && let Some(end) = find(bytes, END)
        {
            (self.late, self.sent) = (ANSWER.to_vec(), 0);
            return Poll::Ready(Ok(end + END.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_late(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_late(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn who_takes_over() {
        for (head, want) in [
            ("POST /v1.51/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d", true),
            ("POST /exec/x/start HTTP/1.1\r\nContent-Length: 2", true),
            ("POST /containers/x/start HTTP/1.1\r\nHost: d", false),
            ("POST /containers/x/attach HTTP/1.1\r\nUPGRADE: tcp", false),
            ("GET /containers/x/attach HTTP/1.1\r\nHost: d", false),
            ("POST /containers/x/attach HTTP/1.0\r\nHost: d", false),
        ] {
            assert_eq!(takes_over(head.as_bytes()), want, "{head}");
        }
    }

    #[tokio::test]
    async fn heads_are_changed_and_nothing_else() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut wire = Wire::new(server);
        client.write_all(b"POST /containers/x/attach HTTP/1.1\r\nHo").await.unwrap();
        client.write_all(b"st: d\r\n\r\ninput").await.unwrap();
        let want = b"POST /containers/x/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nHost: d\r\n\r\ninput";
        let mut seen = vec![0u8; want.len()];
        wire.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, want);
        wire.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\noutput").await.unwrap();
        wire.flush().await.unwrap();
        let want = [ANSWER, b"output"].concat();
        let mut seen = vec![0u8; want.len()];
        client.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, want);
        client.write_all(b"more").await.unwrap();
        let mut more = [0u8; 4];
        wire.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
    }
}
