//! Hijacked connections: after the answer's head the bytes are not HTTP.

use std::future::Future;
use std::io::Cursor;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use budu_engine::Peer;
use budu_spec::docker::ApiVersion;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::{Body, Call, Reply, Wire, typed, websocket};

/// A hijacked connection.
pub(crate) type Channel =
    Peer<Pin<Box<dyn AsyncRead + Send>>, Pin<Box<dyn AsyncWrite + Send>>, Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Bytes between the two halves of a connection that was not upgraded.
const BUFFER: usize = 16 << 10;

/// Type of a stream: framed or plain.
pub(crate) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if !tty && version >= ApiVersion::new(42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

impl Call {
    /// Answers and hands the connection to `run`, which goes on after the
    /// request is over: 101 when the client asked for an upgrade, else a
    /// plain answer without end.
    pub(crate) fn hijack<F, R>(self, kind: &'static str, run: F) -> Reply
    where
        F: FnOnce(Channel) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        if !self.wants_upgrade() {
            return Ok(self.raw(run));
        }
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => run(channel(upgraded).await).await,
                Err(error) => tracing::debug!(%error, "a client left before its connection was handed over"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        Ok(response)
    }

    /// As [`Call::hijack`], in the frames of a WebSocket.
    pub(crate) fn websocket<F, R>(self, run: F) -> Reply
    where
        F: FnOnce(Channel) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = websocket::accept(&self.headers)?;
        // Older clients were written for text.
        let binary = self.version >= ApiVersion::new(28);
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => run(websocket::wrap(channel(upgraded).await, binary)).await,
                Err(error) => tracing::debug!(%error, "a client left before its connection was handed over"),
            }
        });
        Ok(response)
    }

    /// For clients without `Upgrade`: request and answer bodies are the stream.
    fn raw<F, R>(self, run: F) -> Response<Body>
    where
        F: FnOnce(Channel) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (from, mut to) = tokio::io::split(ours);
        // Lives as long as the answer's body, which hyper drops when the client leaves.
        let (listens, gone) = oneshot::channel::<()>();
        let body = self.body;
        tokio::spawn(async move {
            let Some(mut body) = body else { return };
            while let Some(Ok(frame)) = body.frame().await {
                if let Some(data) = frame.data_ref()
                    && to.write_all(data).await.is_err()
                {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(theirs);
            let gone = Box::pin(async { _ = gone.await });
            run(Channel { reader: Box::pin(reader), writer: Box::pin(writer), gone }).await;
        });
        let pieces = stream::unfold((from, listens), |(mut from, listens)| async move {
            let mut buffer = vec![0u8; BUFFER];
            match from.read(&mut buffer).await {
                Ok(count) if count > 0 => {
                    buffer.truncate(count);
                    Some((Bytes::from(buffer), (from, listens)))
                }
                _ => None,
            }
        });
        let mut response = typed(StatusCode::OK, "application/vnd.docker.raw-stream", Body::stream(pieces));
        // Such clients read bytes, not chunks: only HTTP/1.0 has a body that just ends with the connection.
        *response.version_mut() = Version::HTTP_10;
        response
    }
}

/// Takes the connection out of hyper, with what it read already.
async fn channel(upgraded: Upgraded) -> Channel {
    match upgraded.downcast::<TokioIo<Wire<UnixStream>>>() {
        Ok(parts) => {
            let (stream, unread) = parts.io.into_inner().into_parts();
            let early = [&parts.read_buf[..], &unread].concat();
            budu_engine::read_by_peer(stream.as_fd()).await;
            let gone = Box::pin(closed(stream.as_fd().try_clone_to_owned().ok()));
            let (reader, writer) = stream.into_split();
            let reader: Pin<Box<dyn AsyncRead + Send>> = match early.is_empty() {
                true => Box::pin(reader),
                false => Box::pin(Cursor::new(early).chain(reader)),
            };
            Channel { reader, writer: Box::pin(writer), gone }
        }
        Err(upgraded) => {
            // TCP tells the end of the input, and with the next byte sent that nobody listens; nothing between.
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            Channel { reader: Box::pin(reader), writer: Box::pin(writer), gone: Box::pin(std::future::pending()) }
        }
    }
}

/// Resolves when a unix socket is closed by its other side, both ways (EPOLLHUP, which is told to everyone who asks
/// for anything: asked for is what a unix socket never has).
async fn closed(socket: Option<OwnedFd>) {
    #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor stays open as long as it is watched")]
    let watched = socket.and_then(|fd| AsyncFd::with_interest(fd, Interest::PRIORITY).ok());
    match watched {
        Some(fd) => _ = fd.ready(Interest::PRIORITY).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_socket_is_told_from_one_that_only_says_no_more() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let gone = Box::pin(closed(server.as_fd().try_clone_to_owned().ok()));
        client.write_all(b"unread").await.unwrap();
        client.shutdown().await.unwrap();
        let mut told = tokio::spawn(gone);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!told.is_finished(), "the client still listens");
        drop(client);
        (&mut told).await.unwrap();
    }

    #[test]
    fn types_by_version() {
        let framed = "application/vnd.docker.multiplexed-stream";
        let raw = "application/vnd.docker.raw-stream";
        for (tty, minor, want) in [(false, 42, framed), (false, 41, raw), (true, 51, raw)] {
            assert_eq!(content_type(tty, ApiVersion::new(minor)), want);
        }
    }
}
