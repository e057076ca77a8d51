//! A daemon that remembers what it was asked and answers from a script chosen by the image's name.
//!
//! `echo` writes to both outputs and ends with 3; `cat` sends its input back and ends with 0;
//! `absent` must be pulled first; `nocmd` cannot be started.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Id of the only container.
pub(crate) const ID: &str = "c0ffee0123456789c0ffee0123456789c0ffee0123456789c0ffee0123456789";

/// The newest version the client speaks (API 1.55): a daemon of that version refuses no first request.
pub(crate) const NEWEST: u16 = 55;

type Body = BoxBody<Bytes, Infallible>;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) body: serde_json::Value,
}

struct State {
    asked: Mutex<Vec<Asked>>,
    arrived: Condvar,
    newest: u16,
    image: Mutex<String>,
    tty: Mutex<bool>,
    pulled: Mutex<bool>,
    started: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

/// The daemon; it ends with its directory when dropped.
pub(crate) struct Fake {
    directory: tempfile::TempDir,
    state: Arc<State>,
}

impl Fake {
    /// Starts one that speaks up to API 1.`newest`.
    pub(crate) fn start(newest: u16) -> Fake {
        let directory = tempfile::tempdir().expect("temporary directory");
        let state = Arc::new(State {
            asked: Mutex::default(),
            arrived: Condvar::default(),
            newest,
            image: Mutex::default(),
            tty: Mutex::default(),
            pulled: Mutex::default(),
            started: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        });
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("sock")).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async { serve(UnixListener::from_std(listener).expect("listener"), shared).await });
        });
        Fake { directory, state }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().expect("lock").clone()
    }

    /// Waits for a request whose method and path `matches` likes; fails after ten seconds.
    pub(crate) fn wait_until(&self, matches: impl Fn(&str) -> bool) {
        let asked = self.state.asked.lock().expect("lock");
        let missing = |asked: &mut Vec<Asked>| !asked.iter().any(|asked| matches(&asked.line));
        let (asked, result) =
            self.state.arrived.wait_timeout_while(asked, Duration::from_secs(10), missing).expect("lock");
        assert!(!result.timed_out(), "the request never came: {asked:?}");
    }

    /// Methods and paths without version and query.
    pub(crate) fn steps(&self) -> Vec<String> {
        let plain = |asked: Asked| {
            let (method, path) = asked.line.split_once(' ').expect("method and path");
            let path = path.split('?').next().unwrap_or_default();
            let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
            format!("{method} {}", path.replace(ID, "ID"))
        };
        self.asked().into_iter().map(plain).collect()
    }
}

async fn serve(listener: UnixListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(request, state).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let _ = connection.await;
        });
    }
}

fn full(status: u16, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("status");
    response.headers_mut().insert("Api-Version", "1.50".parse().expect("header"));
    response.headers_mut().insert("Ostype", "linux".parse().expect("header"));
    response
}

fn refuse(status: u16, message: &str) -> Response<Body> {
    let mut response = full(status, serde_json::json!({ "message": message }).to_string());
    response.headers_mut().insert("Content-Type", "application/json".parse().expect("header"));
    response
}

async fn answer(mut request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    let line = format!("{} {}", request.method(), request.uri());
    let upgrade = hyper::upgrade::on(&mut request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    state.asked.lock().expect("lock").push(Asked { line, body: body.clone() });
    state.arrived.notify_all();
    let path = uri.path();
    let (version, path) = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) => (version.parse().unwrap_or(0), format!("/{rest}")),
        None => (0, path.to_owned()),
    };
    if version > state.newest {
        let text =
            format!("client version 1.{version} is too new. Maximum supported API version is 1.{}", state.newest);
        return refuse(400, &text);
    }
    let path = path.replace(ID, "ID").replace("/containers/web", "/containers/ID");
    match (method, path.as_str()) {
        (_, "/_ping") => full(200, "OK"),
        (Method::POST, "/containers/create") => create(&state, &body),
        (Method::POST, "/images/create") => {
            *state.pulled.lock().expect("lock") = true;
            full(
                200,
                "{\"status\":\"Pulling from library/absent\",\"id\":\"latest\"}\r\n{\"status\":\"Status: Downloaded newer image for absent:latest\"}\r\n",
            )
        }
        (Method::POST, "/containers/ID/attach") => hijack(upgrade, state),
        (Method::POST, "/containers/ID/wait") => wait(state),
        (Method::POST, "/containers/ID/start") => start(&state),
        (Method::POST, "/containers/ID/exec") => {
            "echo".clone_into(&mut state.image.lock().expect("lock"));
            full(201, r#"{"Id":"exec1"}"#)
        }
        (Method::POST, "/exec/exec1/start") => {
            state.started.send_replace(true);
            hijack(upgrade, state)
        }
        (Method::GET, "/exec/exec1/json") => full(200, r#"{"ID":"exec1","Running":false,"ExitCode":42}"#),
        (Method::POST, "/containers/ID/stop" | "/containers/ID/kill" | "/containers/ID/resize") => full(204, ""),
        (Method::GET, path) => fixture(path),
        (_, path) => refuse(404, &format!("No such container: {}", path.split('/').nth(2).unwrap_or_default())),
    }
}

fn fixture(path: &str) -> Response<Body> {
    match path {
        "/containers/json" => full(200, include_str!("containers.json")),
        "/images/json" => full(200, include_str!("images.json")),
        "/containers/ID/json" => full(
            200,
            r#"{"Id":"c0ffee0123456789c0ffee0123456789c0ffee0123456789c0ffee0123456789","Name":"/web","State":{"Status":"running","Running":true,"Pid":7},"Config":{"Tty":false,"Labels":{"a.b":"c"}},"Args":[],"HostConfig":{}}"#,
        ),
        "/containers/ID/logs" => {
            let mut response = full(200, "\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
            let kind = "application/vnd.docker.multiplexed-stream".parse().expect("header");
            response.headers_mut().insert("Content-Type", kind);
            response
        }
        other => refuse(404, &format!("No such container: {}", other.split('/').nth(2).unwrap_or_default())),
    }
}

fn create(state: &State, body: &serde_json::Value) -> Response<Body> {
    let image = body["Image"].as_str().unwrap_or_default().to_owned();
    if image == "absent" && !*state.pulled.lock().expect("lock") {
        return refuse(404, "No such image: absent:latest");
    }
    *state.tty.lock().expect("lock") = body["Tty"].as_bool().unwrap_or_default();
    *state.image.lock().expect("lock") = image;
    full(201, format!(r#"{{"Id":"{ID}","Warnings":["mind the gap"]}}"#))
}

fn start(state: &State) -> Response<Body> {
    if *state.image.lock().expect("lock") == "nocmd" {
        state.ended.send_replace(true);
        return refuse(400, "exec: \"nope\": executable file not found in $PATH");
    }
    state.started.send_replace(true);
    full(204, "")
}

fn wait(state: Arc<State>) -> Response<Body> {
    let body = async_stream(async move {
        let _ = state.ended.subscribe().wait_for(|ended| *ended).await;
        let code = if *state.image.lock().expect("lock") == "echo" { 3 } else { 0 };
        Bytes::from(format!(r#"{{"StatusCode":{code}}}"#))
    });
    Response::new(body)
}

/// A body that comes later than the head.
fn async_stream(later: impl Future<Output = Bytes> + Send + Sync + 'static) -> Body {
    let stream = futures_util::stream::once(async move { Ok::<_, Infallible>(Frame::data(later.await)) });
    StreamBody::new(stream).boxed()
}

fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
    frame.extend(payload);
    frame
}

fn hijack(upgrade: hyper::upgrade::OnUpgrade, state: Arc<State>) -> Response<Body> {
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let _ = state.started.subscribe().wait_for(|started| *started).await;
        let image = state.image.lock().expect("lock").clone();
        let tty = *state.tty.lock().expect("lock");
        let framed = |n, bytes: &[u8]| if tty { bytes.to_vec() } else { frame(n, bytes) };
        if image == "cat" {
            let mut buffer = [0u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let _ = stream.write_all(&framed(1, &buffer[..count])).await;
            }
        } else {
            let _ = stream.write_all(&[framed(1, b"out\n"), framed(2, b"err\n")].concat()).await;
        }
        let _ = stream.shutdown().await;
        state.ended.send_replace(true);
    });
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("Connection", "Upgrade".parse().expect("header"));
    response.headers_mut().insert("Upgrade", "tcp".parse().expect("header"));
    response
}
