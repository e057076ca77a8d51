//! Connections and requests.

use std::convert::Infallible;
use std::path::PathBuf;

use budu_engine::caller::{self, Caller};
use budu_spec::docker::ApiVersion;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::http::{Body, Call, Failure, Query};
use crate::{Shared, route, routes, version};

/// The tasks that accept connections.
#[derive(Debug)]
pub(crate) struct Servers(JoinSet<()>);

impl Servers {
    /// Accepts no more connections. Requests under way go on.
    pub(crate) fn abort(mut self) {
        self.0.abort_all();
    }
}

/// Starts accepting on all sockets.
pub(crate) fn start(app: &Shared, listeners: Vec<(PathBuf, UnixListener)>) -> Servers {
    let mut set = JoinSet::new();
    for (_, listener) in listeners {
        set.spawn(accept(app.clone(), listener));
    }
    Servers(set)
}

async fn accept(app: Shared, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(app.clone(), stream));
            }
            Err(error) => {
                // Out of descriptors, most likely: give others time to close some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(app: Shared, stream: UnixStream) {
    let caller = peer(&stream);
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(guarded(app, caller, request).await) }
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(64 << 10).header_read_timeout(None);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Who is at the other end.
fn peer(stream: &UnixStream) -> Caller {
    stream.peer_cred().map_or_else(|_| Caller::default(), |peer| Caller { pid: peer.pid(), user: Some(peer.uid()) })
}

/// Answers a request in a task of its own: a client that goes away does not
/// leave a stop or a start half done, and a panic ends this request only.
async fn guarded(app: Shared, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let what = format!("{} {}", request.method(), request.uri());
    let answered = caller::on_behalf(caller, answer(app, request));
    let mut response = match tokio::spawn(answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => {
            tracing::debug!(request = what, status = failure.status.as_u16(), message = failure.message, "refused");
            failure.response()
        }
        Err(error) => {
            tracing::error!(request = what, %error, "a request failed badly; this is a bug");
            Failure::internal("internal error: see the daemon's log").response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(concat!("Budu/", env!("CARGO_PKG_VERSION"), " (linux)")));
    for (name, value) in [("ostype", "linux"), ("docker-experimental", "false")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(version) = HeaderValue::from_str(&ApiVersion::MAX.to_string()) {
        headers.insert(HeaderName::from_static("api-version"), version);
    }
    response
}

async fn answer(app: Shared, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    if request.method() == Method::OPTIONS {
        return Ok(Response::new(Body::empty()));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let (version, path) = version::split(parts.uri.path())?;
    let found = route::find(routes::TABLE, &parts.method, path);
    let (route, name) = found.ok_or_else(|| missing(&parts.method, path))?;
    let call = Call {
        app,
        version,
        name: name.map(crate::http::decode_path).unwrap_or_default(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body: Some(body),
        upgrade,
    };
    (route.handler)(call).await
}

/// Paths of Docker's API that are not built yet say so; others do not exist.
fn missing(method: &Method, path: &str) -> Failure {
    match route::find(routes::ABSENT, method, path) {
        Some((route, _)) => Failure::not_implemented(&format!("{method} {}", route.pattern)),
        None => Failure::page_not_found(),
    }
}
