//! Docker's dialect of HTTP: bodies, errors, streams, hijacked connections.

mod body;
mod call;
mod failure;
mod hijack;
mod pipe;
mod query;
mod raw;
mod request_body;
mod stranger;
mod websocket;

pub(crate) use body::Body;
pub(crate) use call::{Call, is_json};
pub(crate) use failure::Failure;
pub(crate) use hijack::content_type;
pub(crate) use pipe::{Encoding, Received, blocking, produce};
pub(crate) use query::Query;
pub(crate) use raw::Wire;
pub(crate) use request_body::RequestBody;
pub(crate) use stranger::refuse as refuse_web_pages;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What a handler answers.
pub(crate) type Reply = Result<Response<Body>, Failure>;

/// Answers with JSON, a line feed after it, as Docker does.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let mut bytes = serde_json::to_vec(value).map_err(|e| Failure::internal(e.to_string()))?;
    bytes.push(b'\n');
    Ok(typed(status, "application/json", Body::full(bytes)))
}

/// Answers 200 with JSON.
pub(crate) fn ok<T: Serialize>(value: &T) -> Reply {
    json(StatusCode::OK, value)
}

/// Answers 204.
pub(crate) fn no_content() -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Answers with a body of a type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Decodes a name in a path.
pub(crate) fn decode_path(text: &str) -> String {
    query::decode(text, false)
}

/// One message of a progress stream.
pub(crate) fn progress<T: Serialize>(message: &T) -> Bytes {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}
