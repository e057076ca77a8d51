//! The HTTP surface spoken to over a real socket, with a real engine that
//! starts nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use budu_engine::{Engine, Options, Parts, PluginPlaces};
use budu_image::Store;
use budu_network::Networks;
use budu_runtime::Launcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::built_in::BuiltIn;
use crate::config::live::Live;
use crate::listen::{Listener, Socket};
use crate::metrics::Counters;
use crate::{App, Config, host, serve};

/// A daemon below a temporary directory.
struct Server {
    dir: tempfile::TempDir,
    _servers: serve::Servers,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

impl Server {
    async fn start() -> Server {
        Server::with(Config::default()).await
    }

    async fn with(config: Config) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            data_root: dir.path().join("data"),
            exec_root: dir.path().join("exec"),
            plugins: PluginPlaces { sockets: dir.path().join("plugins"), specs: Vec::new() },
            ..Options::default()
        };
        let parts = Parts {
            images: Store::open(&dir.path().join("image"), budu_image::Options::default()).unwrap(),
            networks: Networks::open(budu_network::Config { warm: 0, ..Default::default() }).unwrap(),
            launcher: Launcher::spawn().unwrap(),
        };
        let engine = Engine::open(options, parts).unwrap();
        engine.restore().await.unwrap();
        let app = Arc::new(App {
            config: Live::fixed(config),
            engine,
            id: "id".into(),
            host: host::Facts::default(),
            built_in: BuiltIn::new(b"program"),
            metrics: Counters::default(),
        });
        let path = dir.path().join("s");
        let socket = Socket::Unix(UnixListener::bind(&path).unwrap());
        let listener = Listener { address: String::new(), path: Some(path), socket };
        Server { _servers: serve::start(&app, vec![listener]), dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    async fn connect(&self, request: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path().join("s")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        let mut text = String::new();
        self.connect(&request).await.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { head: head.to_owned(), body: body.to_owned() }
    }

    async fn create(&self, name: &str) -> String {
        let answer = self.call("POST", &format!("/containers/create?name={name}"), r#"{"Image":"hello"}"#).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
        answer.json()["Id"].as_str().unwrap().to_owned()
    }
}

/// Reads until the head of an answer is complete.
async fn head(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the head must come at once");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn ping_and_headers_of_every_answer() {
    let server = Server::start().await;
    let answer = server.call("GET", "/_ping", "").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "OK"));
    for line in ["api-version: 1.55", "ostype: linux", "docker-experimental: false", "server: Budu/", "swarm: inactive"]
    {
        assert!(answer.head.to_lowercase().contains(&line.to_lowercase()), "{line} in {}", answer.head);
    }
    let answer = server.call("HEAD", "/_ping", "").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    assert_eq!(server.call("GET", "/version", "").await.json()["ApiVersion"], "1.55");
}

#[tokio::test]
async fn unknown_paths_versions_and_bodies() {
    let server = Server::start().await;
    for (method, path) in [("GET", "/nope"), ("PUT", "/info"), ("GET", "/v1.41/nope"), ("GET", "/v1.41")] {
        let answer = server.call(method, path, "").await;
        assert_eq!((answer.status(), answer.message().as_str()), (404, "page not found"), "{method} {path}");
    }
    let old = server.call("GET", "/v1.20/info", "").await;
    assert_eq!(old.status(), 400);
    // From before errors were JSON.
    assert!(old.body.starts_with("client version 1.20 is too old"), "{old:?}");
    let absent = server.call("POST", "/v1.41/build", "").await;
    assert_eq!((absent.status(), absent.message().as_str()), (501, "POST /build is not implemented"));
    let trailing = server.call("POST", "/containers/create", r#"{"Image":"hello"}{}"#).await;
    assert_eq!((trailing.status(), trailing.message().as_str()), (400, "unexpected content after JSON"));
    assert_eq!(server.call("POST", "/containers/create", "").await.status(), 400);
    let missing = server.call("POST", "/containers/create", r#"{"Image":"nope"}"#).await;
    assert_eq!((missing.status(), missing.message().as_str()), (404, "No such image: nope:latest"));
    let filter = server.call("GET", "/containers/json?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", "").await;
    assert_eq!((filter.status(), filter.message().as_str()), (400, "invalid filter 'nope'"));
}

#[tokio::test]
async fn a_container_before_its_start() {
    let server = Server::start().await;
    let id = server.create("web").await;
    let again = server.call("POST", "/containers/create?name=web", r#"{"Image":"hello"}"#).await;
    assert_eq!(again.status(), 409);
    assert!(again.message().contains(&format!("already in use by container \"{id}\"")));
    let inspect = server.call("GET", &format!("/v1.41/containers/{}/json", &id[..6]), "").await.json();
    assert_eq!((inspect["Name"].as_str(), inspect["State"]["Status"].as_str()), (Some("/web"), Some("created")));
    assert_eq!(inspect["Path"], "/hello");
    assert_eq!(server.call("GET", "/containers/json", "").await.json(), serde_json::json!([]));
    assert_eq!(server.call("GET", "/containers/json?all=1", "").await.json()[0]["Status"], "Created");
    for (method, path, status) in [
        ("POST", "/containers/web/stop", 304),
        ("POST", "/containers/web/kill", 409),
        ("POST", "/containers/web/pause", 409),
        ("POST", "/containers/web/exec", 400),
        ("GET", "/containers/web/logs", 400),
        ("GET", "/containers/web/logs?stdout=1", 200),
        ("GET", "/containers/web/top", 409),
        ("POST", "/containers/web/resize?h=1&w=1", 409),
        ("POST", "/containers/web/resize?h=x&w=1", 400),
        ("POST", "/containers/web/rename?name=db", 204),
        ("GET", "/containers/web/json", 404),
        ("DELETE", "/containers/db", 204),
        ("DELETE", "/containers/db", 404),
    ] {
        let answer = server.call(method, path, "").await;
        assert_eq!(answer.status(), status, "{method} {path}: {answer:?}");
    }
    assert!(!server.path().join("data/containers").join(&id).exists());
}

#[tokio::test]
async fn wait_answers_its_head_at_once_and_its_body_after_the_removal() {
    let server = Server::start().await;
    server.create("web").await;
    let mut wait =
        server.connect("POST /v1.41/containers/web/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head(&mut wait).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(server.call("DELETE", "/containers/web", "").await.status(), 204);
    let mut body = [0u8; 64];
    let count = tokio::time::timeout(Duration::from_secs(10), wait.read(&mut body)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&body[..count]).contains("{\"StatusCode\":0}"));
}

/// A plugin that says no to whatever contains `forbidden`, in request or
/// answer; returns what it was asked.
fn plugin(dir: &Path) -> tokio::sync::mpsc::UnboundedReceiver<(String, serde_json::Value)> {
    std::fs::create_dir(dir.join("plugins")).unwrap();
    let listener = UnixListener::bind(dir.join("plugins/judge.sock")).unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let sender = sender.clone();
                async move {
                    let method = request.uri().path().trim_start_matches('/').to_owned();
                    let bytes = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                    let asked: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
                    let text = |key: &str| asked[key].as_str().map(|t| STANDARD.decode(t).unwrap()).unwrap_or_default();
                    let seen = [text("RequestBody"), text("ResponseBody")].concat();
                    let bad = String::from_utf8(seen).unwrap().contains("forbidden");
                    let answer = match method.as_str() {
                        "Plugin.Activate" => serde_json::json!({"Implements": ["authz"]}),
                        _ => serde_json::json!({"Allow": !bad, "Msg": "not with me"}),
                    };
                    if method != "Plugin.Activate" {
                        let _ = sender.send((method, asked));
                    }
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(crate::http::Body::full(answer.to_string())))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    receiver
}

#[tokio::test]
async fn authorization_plugins_see_what_the_handler_sees() {
    let config = Config { authorization_plugins: vec!["judge".into()], ..Config::default() };
    let server = Server::with(config).await;
    let mut asked = plugin(server.path());
    assert_eq!(server.call("GET", "/_ping?x=1", "").await.status(), 200);
    let (method, question) = asked.recv().await.unwrap();
    assert_eq!((method.as_str(), &question["RequestUri"]), ("AuthZPlugin.AuthZReq", &"/_ping?x=1".into()));
    assert_eq!(asked.recv().await.unwrap().1["ResponseStatusCode"], 200);
    let denied = server.call("POST", "/containers/create", r#"{"Image":"forbidden"}"#).await;
    let text = "authorization denied by plugin judge: not with me";
    assert_eq!((denied.status(), denied.message().as_str()), (403, text));
    // The answer is judged, too, errors included.
    let denied = server.call("GET", "/containers/forbidden/json", "").await;
    assert_eq!((denied.status(), denied.message().as_str()), (403, text));
    let body = r#"{"Image":"forbidden"}"#;
    let head =
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json";
    let raw = async |request: String| {
        let mut text = String::new();
        server.connect(&request).await.read_to_string(&mut text).await.unwrap();
        text
    };
    // Without a length, in pieces; with an upgrade that the endpoint does not know.
    let chunked =
        raw(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
    assert!(chunked.starts_with("HTTP/1.1 403"), "{chunked}");
    let length = body.len();
    let upgrade =
        raw(format!("{head}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    assert!(upgrade.starts_with("HTTP/1.1 403"), "{upgrade}");
    // A body that is not said to be JSON is not shown, and not taken for JSON either.
    let other = head.replace("application/json", "text/plain");
    let other = raw(format!("{other}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    assert!(other.starts_with("HTTP/1.1 400"), "{other}");
    // Too large to be shown is too large.
    let large = format!(r#"{{"Image":"forbidden","x":"{}"}}"#, "x".repeat(4 << 20));
    let large = server.call("POST", "/containers/create", &large).await;
    assert_eq!(large.status(), 413);
    assert!(large.message().starts_with("request body too large for authorization plugin"));
    // Of what was allowed every byte arrived.
    let body = r#"{"Image":"hello"}"#;
    assert_eq!(server.call("POST", "/containers/create", body).await.status(), 201);
    while let Some((_, question)) = asked.recv().await {
        if question["RequestBody"].as_str().is_some_and(|text| STANDARD.decode(text).unwrap() == body.as_bytes()) {
            break;
        }
    }
    // Nobody gets in when the plugin is away.
    std::fs::remove_file(server.path().join("plugins/judge.sock")).unwrap();
    let away = server.call("GET", "/info", "").await;
    assert_eq!(away.status(), 500);
    assert!(away.message().starts_with("plugin judge failed with error: "), "{away:?}");
}

#[tokio::test]
async fn metrics_count() {
    let server = Server::start().await;
    server.create("web").await;
    let page = server.call("GET", "/metrics", "").await;
    assert!(page.head.contains("text/plain; version=0.0.4"), "{}", page.head);
    for line in [
        "engine_daemon_container_states_containers{state=\"stopped\"} 1",
        "engine_daemon_container_actions_seconds_count{action=\"create\"} 1",
        "engine_daemon_container_actions_seconds_count{action=\"start\"} 0",
    ] {
        assert!(page.body.lines().any(|found| found == line), "{line} in {}", page.body);
    }
}

#[tokio::test]
async fn attach_upgrades_when_asked_to() {
    let server = Server::start().await;
    server.create("web").await;
    let path = "/v1.42/containers/web/attach?stream=1&stdout=1";
    let upgrade = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    let text = head(&mut server.connect(&upgrade).await).await;
    assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{text}");
    let lower = text.to_lowercase();
    assert!(lower.contains("upgrade: tcp") && lower.contains("application/vnd.docker.multiplexed-stream"), "{text}");
    let plain = format!("POST {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let text = head(&mut server.connect(&plain).await).await;
    // Bytes until the connection ends, not chunks.
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("application/vnd.docker.raw-stream"), "{text}");
}

#[tokio::test]
async fn events_stream_and_images_follow_versions() {
    let server = Server::start().await;
    let mut events = server.connect("GET /v1.41/events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head(&mut events).await.starts_with("HTTP/1.1 200 OK"));
    server.create("web").await;
    let mut text = String::new();
    let reading = async {
        while !text.contains("\"status\":\"create\"") {
            let mut piece = [0u8; 4096];
            let count = events.read(&mut piece).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
    let row = async |version: &str| server.call("GET", &format!("/{version}/images/json"), "").await.json()[0].clone();
    let (old, new) = (row("v1.40").await, row("v1.51").await);
    assert!(old.get("VirtualSize").is_some() && new.get("VirtualSize").is_none());
    assert_eq!((&old["Containers"], &new["Containers"]), (&(-1).into(), &1.into()));
    let image = server.call("GET", "/v1.51/images/hello/json", "").await.json();
    assert!(image["Config"].get("Hostname").is_none());
    let image = server.call("GET", "/v1.44/images/hello/json", "").await.json();
    assert_eq!((&image["Config"]["Hostname"], image.get("Container")), (&"".into(), None));
}
