//! The Engine API's client: few connections, no request that is not needed.
//!
//! No ping: requests go out with our newest API version; a daemon that finds it too new says
//! which one it wants, and the request is sent again in that version.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::str::FromStr as _;

use budu_spec::docker::{ApiVersion, ErrorAnswer};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::host::{Choice, DOCKER_SOCKET, Host};
use crate::payload::Payload;
use crate::transport::Stream;

type Sender = SendRequest<Payload>;

/// Talks to one daemon.
#[derive(Debug)]
pub(crate) struct Client {
    host: RefCell<Host>,
    by_default: Cell<bool>,
    version: Cell<ApiVersion>,
    negotiate: bool,
    headers: HeaderMap,
    idle: RefCell<Vec<Sender>>,
}

/// A request before it is tied to a version and a connection.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    header: Option<(&'static str, String)>,
    upgrade: bool,
}

impl Call {
    /// A GET of `path` (without version).
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call { method: Method::GET, path: path.into(), body: None, header: None, upgrade: false }
    }

    /// A POST without body.
    pub(crate) fn post(path: impl Into<String>) -> Call {
        Call { method: Method::POST, ..Call::get(path) }
    }

    /// A HEAD.
    pub(crate) fn head(path: impl Into<String>) -> Call {
        Call { method: Method::HEAD, ..Call::get(path) }
    }

    /// A PUT.
    pub(crate) fn put(path: impl Into<String>) -> Call {
        Call { method: Method::PUT, ..Call::get(path) }
    }

    /// A DELETE.
    pub(crate) fn delete(path: impl Into<String>) -> Call {
        Call { method: Method::DELETE, ..Call::get(path) }
    }

    /// Adds a JSON body.
    pub(crate) fn json(mut self, body: &impl serde::Serialize) -> Call {
        self.body = Some(serde_json::to_vec(body).expect("API structs have string keys only").into());
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: Option<String>) -> Call {
        self.header = value.map(|value| (name, value));
        self
    }
}

/// A connection whose HTTP part is over.
#[derive(Debug)]
pub(crate) struct Hijacked {
    /// The stream.
    pub(crate) stream: Stream,
    /// Bytes that came right behind the answer.
    pub(crate) early: Bytes,
}

/// An answer whose body is still arriving, with the connection it arrives on.
#[derive(Debug)]
pub(crate) struct Streaming {
    response: Response<Incoming>,
    _connection: Sender,
}

impl Streaming {
    /// The answer's content type.
    pub(crate) fn content_type(&self) -> &str {
        self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A header field of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body, `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole rest of the body.
    pub(crate) async fn rest(&mut self) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

fn broken(error: &hyper::Error) -> Error {
    let mut reason = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        reason = format!("{reason}: {source}");
    }
    Error::Transport { reason }
}

impl Client {
    /// Prepares a client; connects with the first request.
    pub(crate) fn new(choice: &Choice, headers: &BTreeMap<String, String>) -> Result<Client, Error> {
        let asked = std::env::var("DOCKER_API_VERSION").ok().filter(|text| !text.is_empty());
        let version = match &asked {
            Some(text) => ApiVersion::from_str(text.trim_start_matches('v')).map_err(Error::new)?,
            None => ApiVersion::MAX,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) {
                map.insert(name, value);
            }
        }
        let agent = concat!("Budu-Client/", env!("CARGO_PKG_VERSION"), " (linux)");
        map.insert(USER_AGENT, HeaderValue::from_static(agent));
        map.insert(HOST, HeaderValue::from_static("api.moby.localhost"));
        Ok(Client {
            host: RefCell::new(choice.host.clone()),
            by_default: Cell::new(choice.by_default),
            version: Cell::new(version),
            negotiate: asked.is_none(),
            headers: map,
            idle: RefCell::default(),
        })
    }

    /// The API version requests are sent with.
    pub(crate) fn version(&self) -> ApiVersion {
        self.version.get()
    }

    /// The address, as it stands after fallbacks.
    pub(crate) fn host(&self) -> Host {
        self.host.borrow().clone()
    }

    /// Sends and decodes the JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let body = self.bytes(call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Transport { reason: format!("the daemon's answer is not understood: {error}") })
    }

    /// Sends and drops the answer's body.
    pub(crate) async fn done(&self, call: Call) -> Result<(), Error> {
        self.bytes(call).await.map(drop)
    }

    /// Sends and reads the whole answer; the connection is used again.
    pub(crate) async fn bytes(&self, call: Call) -> Result<Bytes, Error> {
        let mut streaming = self.stream(call).await?;
        let body = streaming.rest().await?;
        self.idle.borrow_mut().push(streaming._connection);
        Ok(body)
    }

    /// Sends and returns as soon as the answer's head is there.
    pub(crate) async fn stream(&self, call: Call) -> Result<Streaming, Error> {
        loop {
            let sent = self.version();
            let (response, connection) = self.send(&call, sent, None).await?;
            if response.status().as_u16() < 400 {
                return Ok(Streaming { response, _connection: connection });
            }
            self.refused(response, connection, sent).await?;
        }
    }

    /// Sends a body piece by piece and returns as soon as the answer's head is there. It is sent once only: the
    /// version must have been agreed on before, by any other request.
    pub(crate) async fn upload(&self, call: Call, payload: Payload) -> Result<Streaming, Error> {
        let sent = self.version();
        let (response, connection) = self.send(&call, sent, Some(payload)).await?;
        if response.status().as_u16() < 400 {
            return Ok(Streaming { response, _connection: connection });
        }
        self.refused(response, connection, sent).await?;
        Err(Error::Transport { reason: "the daemon speaks another version of the API".to_owned() })
    }

    /// Sends, and takes over the connection after `101`.
    pub(crate) async fn hijack(&self, call: Call) -> Result<Hijacked, Error> {
        let call = Call { upgrade: true, ..call };
        loop {
            let sent = self.version();
            let (response, connection) = self.send(&call, sent, None).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(response).await.map_err(|error| broken(&error))?;
                let parts = upgraded
                    .downcast::<TokioIo<Stream>>()
                    .map_err(|_| Error::Transport { reason: "the upgraded connection is not ours".to_owned() })?;
                return Ok(Hijacked { stream: parts.io.into_inner(), early: parts.read_buf });
            }
            if response.status().as_u16() < 400 {
                let reason = format!("unable to upgrade to tcp, received {}", response.status().as_u16());
                return Err(Error::Transport { reason });
            }
            self.refused(response, connection, sent).await?;
        }
    }

    /// Turns a refusal into an error, or returns when the call should be sent again in another version.
    async fn refused(&self, response: Response<Incoming>, connection: Sender, sent: ApiVersion) -> Result<(), Error> {
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        self.idle.borrow_mut().push(connection);
        let message = match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) if !answer.message.is_empty() => answer.message,
            _ if body.is_empty() => format!("request returned {status}"),
            _ => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        // Calls that were under way together are each refused once: what counts is the version this one went out in.
        if status == StatusCode::BAD_REQUEST
            && self.negotiate
            && let Some((_, newest)) = message.split_once("Maximum supported API version is ")
            && let Ok(newest) = newest.trim().parse::<ApiVersion>()
            && newest < sent
        {
            self.version.set(newest);
            return Ok(());
        }
        Err(Error::Api { status: status.as_u16(), message })
    }

    async fn send(
        &self,
        call: &Call,
        version: ApiVersion,
        payload: Option<Payload>,
    ) -> Result<(Response<Incoming>, Sender), Error> {
        let mut payload = payload;
        loop {
            let kept = self.idle.borrow_mut().pop();
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            if sender.ready().await.is_err() && reused {
                continue;
            }
            let response = sender
                .send_request(self.request(call, version, payload.take())?)
                .await
                .map_err(|error| broken(&error))?;
            return Ok((response, sender));
        }
    }

    fn request(&self, call: &Call, version: ApiVersion, payload: Option<Payload>) -> Result<Request<Payload>, Error> {
        let uri = format!("/v{version}{}", call.path);
        let archive = payload.is_some();
        let payload = payload.unwrap_or_else(|| Payload::Full(call.body.clone().unwrap_or_default()));
        let mut request = Request::new(payload);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() =
            uri.parse().map_err(|error| Error::new(format_args!("invalid request path {uri:?}: {error}")))?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if archive {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        }
        if call.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        }
        if let Some((name, value)) = &call.header {
            let value =
                HeaderValue::from_str(value).map_err(|error| Error::new(format_args!("header {name}: {error}")))?;
            headers.insert(*name, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Sender, Error> {
        let stream = self.dial().await?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            // Whoever sent the request learns of the failure from its answer.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    /// Connects; on the default address tries Docker's socket and then starts a daemon.
    pub(crate) async fn dial(&self) -> Result<Stream, Error> {
        let host = self.host();
        let error = match Stream::connect(&host).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !self.by_default.get() || !matches!(error, Error::Connect { .. }) {
            return Err(error);
        }
        let docker = Host::Unix(DOCKER_SOCKET.into());
        if let Ok(stream) = Stream::connect(&docker).await {
            *self.host.borrow_mut() = docker;
            self.by_default.set(false);
            return Ok(stream);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(error);
        }
        crate::autostart::start_daemon(&host).await
    }
}

/// Escapes a text for use inside a path segment or a query value.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Escapes an image name for use as path segments: slashes and colons stay.
pub(crate) fn escape_name(name: &str) -> String {
    escape(name).replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

/// Collects query parameters.
#[derive(Debug)]
pub(crate) struct Query {
    text: String,
}

impl Query {
    /// Starts at `path`.
    pub(crate) fn new(path: impl Into<String>) -> Query {
        Query { text: path.into() }
    }

    /// Adds `key=value`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Query {
        self.text.push(if self.text.contains('?') { '&' } else { '?' });
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&escape(value));
        self
    }

    /// Adds `key=1` when `on`.
    pub(crate) fn flag(self, key: &str, on: bool) -> Query {
        if on { self.set(key, "1") } else { self }
    }

    /// Adds `key=value` when there is a value.
    pub(crate) fn maybe(self, key: &str, value: Option<&str>) -> Query {
        match value {
            Some(value) if !value.is_empty() => self.set(key, value),
            _ => self,
        }
    }
}

impl From<Query> for String {
    fn from(query: Query) -> String {
        query.text
    }
}
