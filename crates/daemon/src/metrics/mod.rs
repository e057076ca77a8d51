//! Metrics for Prometheus, on a port of their own and as `GET /metrics`.
//!
//! Names and meanings are those of dockerd (`engine_daemon_…`); what it has
//! not begins with `budu_`. Whoever may connect to the port may read them: they
//! name containers and images, and nothing else about them.

mod counters;
mod page;

use std::convert::Infallible;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) use counters::Counters;

use crate::Shared;
use crate::http::{Body, Failure};
use crate::life::Fatal;

/// What Prometheus calls its text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the port of the metrics, if one is wished for.
pub(crate) async fn bind(address: Option<&str>) -> Result<Option<TcpListener>, Fatal> {
    let Some(address) = address else { return Ok(None) };
    let failed = |why: String| Fatal(format!("cannot serve metrics on {address}: {why}"));
    let (host, port) = address.rsplit_once(':').ok_or_else(|| failed("want HOST:PORT".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| failed("want HOST:PORT".to_owned()))?;
    let host = if host.is_empty() { "0.0.0.0" } else { host.trim_matches(['[', ']']) };
    let found = budu_dial::Resolver::system().lookup(host).await.map_err(failed)?;
    let first = *found.first().ok_or_else(|| failed("it has no address".to_owned()))?;
    let listener = TcpListener::bind((first, port)).await.map_err(|e| failed(e.to_string()))?;
    tracing::info!(address = %listener.local_addr().map_err(|e| failed(e.to_string()))?, "metrics");
    Ok(Some(listener))
}

/// Serves them until the result is dropped.
pub(crate) fn start(app: &Shared, listener: Option<TcpListener>) -> JoinSet<()> {
    let mut set = JoinSet::new();
    if let Some(listener) = listener {
        let app = app.clone();
        set.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(connection(app.clone(), stream));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
    }
    set
}

async fn connection(app: Shared, stream: tokio::net::TcpStream) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let app = app.clone();
        async move {
            let good = request.method() == Method::GET && request.uri().path() == "/metrics";
            let response = if good { answer(&app).await } else { Failure::page_not_found().response() };
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// The page as an answer.
pub(crate) async fn answer(app: &Shared) -> Response<Body> {
    let app = app.clone();
    // Reads some files per container.
    let text = tokio::task::spawn_blocking(move || page::page(&app)).await.unwrap_or_default();
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}
