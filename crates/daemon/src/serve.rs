//! Connections and requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use budu_dial::tls;
use budu_engine::caller::{self, Caller as Process};
use budu_spec::docker::ApiVersion;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::authz::Caller;
use crate::http::{Body, Call, Failure, Query, RequestBody, Wire, refuse_web_pages};
use crate::listen::{Guard, Listener, Socket};
use crate::{Shared, authz, route, routes, version};

/// TCP connections at once.
const STRANGERS: usize = 1024;
/// How long a TCP client may take to agree on encryption.
const GREETING: Duration = Duration::from_secs(10);
/// How long a TCP client may take to say what it wants; Docker's limit.
const HEADERS: Duration = Duration::from_secs(5 * 60);

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
pub(crate) fn start(app: &Shared, listeners: Vec<Listener>) -> Servers {
    let mut set = JoinSet::new();
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    for listener in listeners {
        match listener.socket {
            Socket::Unix(socket) => set.spawn(accept(app.clone(), socket)),
            Socket::Tcp(socket, guard) => set.spawn(accept_tcp(app.clone(), socket, guard, strangers.clone())),
        };
    }
    Servers(set)
}

/// Out of descriptors, most likely: gives others time to close some.
async fn rest(error: std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn accept(app: Shared, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let told = stream.peer_cred().map(|peer| Process { pid: peer.pid(), user: Some(peer.uid()) });
                let peer = Peer { process: told.unwrap_or_default(), ..Peer::default() };
                tokio::spawn(connection(app.clone(), stream, Arc::new(peer)));
            }
            Err(error) => rest(error).await,
        }
    }
}

async fn accept_tcp(app: Shared, listener: TcpListener, guard: Guard, strangers: Arc<Semaphore>) {
    loop {
        // Waits while too many are connected: they are a burden that the sockets of this machine must not feel.
        let Ok(place) = strangers.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (app, guard) = (app.clone(), guard.clone());
                tokio::spawn(async move {
                    if let Err(why) = greet(app, stream, guard).await {
                        tracing::debug!(%from, why, "a client was not let in");
                    }
                    drop(place);
                });
            }
            Err(error) => rest(error).await,
        }
    }
}

/// Agrees on encryption, where it is wished, and serves.
async fn greet(app: Shared, stream: TcpStream, guard: Guard) -> Result<(), String> {
    // Answers are single small writes; waiting to fill packets only delays them.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &guard.tls else {
        connection(app, stream, Arc::new(Peer { stranger: true, ..Peer::default() })).await;
        return Ok(());
    };
    let greeting = tokio::time::timeout(GREETING, acceptor.accept(stream));
    let stream = greeting.await.map_err(|_| "no greeting in time".to_owned())?.map_err(|e| e.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates: Vec<Vec<u8>> = shown.iter().map(|certificate| certificate.to_vec()).collect();
    let user = certificates.first().and_then(|certificate| tls::common_name(certificate));
    let caller = Caller { user, certificates };
    let peer = Peer { stranger: !guard.verified, remote: true, caller, ..Peer::default() };
    connection(app, stream, Arc::new(peer)).await;
    Ok(())
}

/// Who is at the other end.
#[derive(Debug, Default)]
struct Peer {
    /// Anybody.
    stranger: bool,
    /// On another machine, perhaps.
    remote: bool,
    /// On this machine, as the kernel knows it.
    process: Process,
    /// As authorization plugins know it.
    caller: Caller,
}

async fn connection(app: Shared, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Arc<Peer>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(64 << 10);
    http.header_read_timeout((peer.stranger || peer.remote).then_some(HEADERS));
    let service = service_fn(move |request| {
        let (app, peer) = (app.clone(), peer.clone());
        async move { Ok::<_, Infallible>(guarded(app, peer, request).await) }
    });
    if let Err(error) = http.serve_connection(TokioIo::new(Wire::new(stream)), service).with_upgrades().await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Answers a request in a task of its own: a client that goes away does not
/// leave a stop or a start half done, and a panic ends this request only.
async fn guarded(app: Shared, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let what = format!("{} {}", request.method(), request.uri());
    // Clients that old read plain text.
    let plain = version::is_ancient(request.uri().path());
    let known = headers_of(request.method(), request.uri().path(), app.config.get().min_api_version);
    let experimental = app.config.get().experimental;
    let answered = caller::on_behalf(peer.process, answer(app, peer, request));
    let mut response = match tokio::spawn(answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => {
            tracing::debug!(request = what, status = failure.status.as_u16(), message = failure.message, "refused");
            if plain { failure.plain_response() } else { failure.response() }
        }
        Err(error) => {
            tracing::error!(request = what, %error, "a request failed badly; this is a bug");
            Failure::internal("internal error: see the daemon's log").response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(concat!("Budu/", env!("CARGO_PKG_VERSION"), " (linux)")));
    for (name, value) in [("ostype", "linux"), ("docker-experimental", if experimental { "true" } else { "false" })] {
        if known.contains(&name) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if let Ok(version) = HeaderValue::from_str(&ApiVersion::MAX.to_string()) {
        headers.insert(HeaderName::from_static("api-version"), version);
    }
    response
}

/// The headers about the engine that an answer has: none where there is nothing, and the first alone where the version
/// is refused.
fn headers_of(method: &Method, path: &str, oldest: ApiVersion) -> &'static [&'static str] {
    match version::split(path, oldest) {
        Err(failure) if failure.status == hyper::StatusCode::NOT_FOUND => &[],
        Err(_) => &["ostype"],
        Ok((_, path))
            if *method != Method::OPTIONS
                && [routes::TABLE, routes::ABSENT].iter().all(|table| route::find(table, method, path).is_none()) =>
        {
            &[]
        }
        Ok(_) => &["ostype", "docker-experimental"],
    }
}

async fn answer(app: Shared, peer: Arc<Peer>, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let config = app.config.get();
    if peer.stranger {
        let names = config.hosts.iter().filter_map(|host| host.strip_prefix("tcp://"));
        let mut names: Vec<&str> = names.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name)).collect();
        names.push(&app.host.name);
        refuse_web_pages(request.headers(), &names)?;
    }
    if request.method() == Method::OPTIONS {
        return Ok(Response::new(Body::empty()));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::from(body);
    let whole = parts.uri.path().to_owned();
    let (version, path) = version::split(&whole, config.min_api_version)?;
    let found = route::find(routes::TABLE, &parts.method, path);
    let (route, name) = found.ok_or_else(|| missing(&parts.method, path))?;
    let mut permit = None;
    if !config.authorization_plugins.is_empty() {
        let (plugins, names) = (app.engine.plugins(), &config.authorization_plugins);
        let (given, rest) = authz::request(plugins, names, &peer.caller, &parts, body).await?;
        (permit, body) = (Some(given), rest);
    }
    let call = Call {
        app,
        version,
        name: name.map(crate::http::decode_path).unwrap_or_default(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body: Some(body),
        upgrade,
    };
    let shared = call.app.clone();
    let begin = std::time::Instant::now();
    let result = (route.handler)(call).await;
    if result.is_ok() {
        shared.metrics.note(parts.method.as_str(), route.pattern, begin.elapsed());
    }
    let Some(permit) = permit else { return result };
    // Plugins see the answer that the client would, errors included.
    let response = result.unwrap_or_else(Failure::response);
    permit.of(&response, &whole).check().await?;
    Ok(response)
}

/// Paths of Docker's API that are not built yet say so; others do not exist.
fn missing(method: &Method, path: &str) -> Failure {
    match route::find(routes::ABSENT, method, path) {
        Some((route, _)) => Failure::not_implemented(&format!("{method} {}", route.pattern)),
        None => Failure::page_not_found(),
    }
}
