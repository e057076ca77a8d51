//! Connections: resolve, connect, TLS, HTTP/1.1; kept for the next request to the same place.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use budu_dial::tls;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::origin::Origin;
use crate::error::Error;

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Makes and keeps connections.
#[derive(Debug)]
pub(crate) struct Connector {
    /// Of the whole way to an open connection.
    timeout: Duration,
    idle: Mutex<HashMap<Origin, Vec<Sender>>>,
}

/// What stands in the way of a connection.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Nobody answers.
    Unreachable(String),
    /// Somebody answers, but not with TLS that can be accepted.
    Tls(String),
}

impl Obstacle {
    pub(crate) fn into_error(self, origin: &Origin) -> Error {
        let cause = match self {
            Obstacle::Unreachable(cause) => cause,
            Obstacle::Tls(cause) => format!("TLS: {cause}"),
        };
        Error::Unreachable { host: origin.authority(), cause: plain(&cause) }
    }
}

/// A system error's text without its number, in lower case like all of ours.
fn plain(cause: &str) -> String {
    let text = cause.split(" (os error").next().unwrap_or(cause);
    text.replace("Connection refused", "connection refused").replace("No route", "no route")
}

impl Connector {
    pub(crate) fn new(timeout: Duration) -> Connector {
        Connector { timeout, idle: Mutex::default() }
    }

    /// An open connection that is idle, if there is one.
    pub(crate) fn idle(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(origin)?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().position(SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    /// Takes a connection back; it is idle once the response's body has been read.
    pub(crate) fn keep(&self, origin: &Origin, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(origin.clone()).or_default().push(sender);
    }

    /// A new connection. `verify` is false for insecure registries.
    pub(crate) async fn connect(&self, origin: &Origin, verify: bool) -> Result<Sender, Obstacle> {
        let whole = async {
            let stream = budu_dial::tcp(&origin.host, origin.port).await.map_err(Obstacle::Unreachable)?;
            if !origin.tls {
                return http(stream).await;
            }
            let config = if verify { tls::of_the_system() } else { tls::client(&tls::Files::default(), false) };
            let config = config.map_err(|error| Obstacle::Tls(error.to_string()))?;
            let name = tls::ServerName::try_from(origin.host.clone())
                .map_err(|_| Obstacle::Tls(format!("{} is not a valid server name", origin.host)))?;
            let stream = tls::Connector::from(config)
                .connect(name, stream)
                .await
                .map_err(|error| Obstacle::Tls(error.to_string()))?;
            http(stream).await
        };
        limited(self.timeout, whole).await
    }
}

async fn http(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Result<Sender, Obstacle> {
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| Obstacle::Unreachable(error.to_string()))?;
    // Ends when the sender and the last response's body are dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "registry connection ended");
        }
    });
    Ok(sender)
}

async fn limited<T>(timeout: Duration, work: impl Future<Output = Result<T, Obstacle>>) -> Result<T, Obstacle> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(Obstacle::Unreachable(format!("no connection within {} s", timeout.as_secs_f32()))),
    }
}
