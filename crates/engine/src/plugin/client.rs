//! One question and its answer: a POST on a connection of its own.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use budu_dial::tls;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// What plugins are told that we understand.
const PROTOCOL: &str = "application/vnd.docker.plugins.v1.2+json";
/// The host that plugins on a unix socket are asked for.
const NOBODY: &str = "plugin.moby.localhost";
/// Longest answer, bytes.
const LIMIT: usize = 8 << 20;
/// How long a connection is tried for, all attempts together, and the longest
/// pause between two.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket.
    Unix(PathBuf),
    /// Somewhere else.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Set for `https`.
        tls: Option<Tls>,
    },
}

/// How to trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Certificates.
    pub(super) files: tls::Files,
    /// Whether its certificate is looked at.
    pub(super) verify: bool,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls { files: tls::Files::default(), verify: true }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port, tls: None } => write!(f, "tcp://{host}:{port}"),
            Address::Tcp { host, port, tls: Some(_) } => write!(f, "https://{host}:{port}"),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Asks and returns status and body of the answer. A connection that is
/// refused is tried again after 1, 2, 4, 8 seconds when `patient`.
pub(super) async fn exchange(
    address: &Address,
    method: &str,
    body: Bytes,
    timeout: Duration,
    patient: bool,
) -> Result<(u16, Bytes), String> {
    let stream = reach(address, method, timeout, patient).await?;
    tokio::time::timeout(timeout, ask(stream, address, method, body))
        .await
        .map_err(|_| format!("no answer within {} s", timeout.as_secs_f32()))?
}

async fn reach(address: &Address, method: &str, timeout: Duration, patient: bool) -> Result<Box<dyn Stream>, String> {
    let start = Instant::now();
    let mut pause = Duration::from_secs(1);
    loop {
        let problem = match tokio::time::timeout(timeout, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(problem)) => problem,
            Err(_) => "it does not accept connections".to_owned(),
        };
        if !patient || start.elapsed() + pause >= PATIENCE {
            return Err(problem);
        }
        tracing::warn!(%address, method, problem, ?pause, "cannot connect to a plugin, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PATIENCE);
    }
}

async fn connect(address: &Address) -> Result<Box<dyn Stream>, String> {
    let (host, port, tls) = match address {
        Address::Unix(path) => {
            return Ok(Box::new(UnixStream::connect(path).await.map_err(|e| e.to_string())?));
        }
        Address::Tcp { host, port, tls } => (host, *port, tls),
    };
    let stream = budu_dial::tcp(host, port).await?;
    let Some(wish) = tls else { return Ok(Box::new(stream)) };
    let config = tls::client(&wish.files, wish.verify).map_err(|e| e.to_string())?;
    let name = tls::ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
    let stream = tls::Connector::from(config).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
    Ok(Box::new(stream))
}

async fn ask(stream: Box<dyn Stream>, address: &Address, method: &str, body: Bytes) -> Result<(u16, Bytes), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let host = match address {
        Address::Unix(_) => NOBODY.to_owned(),
        Address::Tcp { host, port, .. } => format!("{host}:{port}"),
    };
    let request = Request::post(format!("/{method}"))
        .header(HOST, host)
        .header(ACCEPT, PROTOCOL)
        .header(CONTENT_TYPE, PROTOCOL)
        .body(Full::new(body))
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    };
    // The connection makes progress only while it is polled, and ends with us.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        result = connection => match result {
            // It may end because the answer is complete.
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// What a plugin says is wrong: the field `Err`, else all it said.
pub(super) fn complaint(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Err")]
        error: String,
    }
    match serde_json::from_slice::<Answer>(bytes) {
        Ok(answer) if !answer.error.is_empty() => answer.error,
        _ => String::from_utf8_lossy(bytes).trim_end().to_owned(),
    }
}
