//! Responses: bodies with limits, and what a registry's errors mean.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use super::origin::Origin;
use crate::error::Error;

/// Longest error body read, bytes.
const MAX_ERROR: u64 = 64 << 10;

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut Incoming, timeout: Duration, origin: &Origin) -> Result<Option<Bytes>, Error> {
    loop {
        let cause = match tokio::time::timeout(timeout, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing we need.
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => explain(&error),
            Err(_) => format!("no data for {} s", timeout.as_secs_f32()),
        };
        return Err(Error::Unreachable { host: origin.authority(), cause });
    }
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn whole(
    response: Response<Incoming>,
    limit: u64,
    timeout: Duration,
    origin: &Origin,
) -> Result<Vec<u8>, Error> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body, timeout, origin).await? {
        if bytes.len() as u64 + piece.len() as u64 > limit {
            let detail = format!("its answer is longer than {limit} bytes");
            return Err(Error::Protocol { host: origin.authority(), detail });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// hyper's messages leave the cause to the source.
pub(crate) fn explain(error: &hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What a registry said instead of what was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The first error's code, or empty.
    pub(crate) code: String,
    /// `manifest unknown: …` as Docker prints it.
    pub(crate) detail: String,
}

#[derive(serde::Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(serde::Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads an unsuccessful response.
    pub(crate) async fn read(response: Response<Incoming>, timeout: Duration, origin: &Origin) -> Refusal {
        let status = response.status();
        let body = whole(response, MAX_ERROR, timeout, origin).await.unwrap_or_default();
        let parsed: Option<Errors> = serde_json::from_slice(&body).ok();
        if let Some(error) = parsed.and_then(|errors| errors.errors.into_iter().next()) {
            let name = error.code.to_lowercase().replace('_', " ");
            let detail = if error.message.is_empty() { name } else { format!("{name}: {}", error.message) };
            return Refusal { status: status.as_u16(), code: error.code, detail: clean(&detail) };
        }
        let reason = status.canonical_reason().unwrap_or("unknown status");
        Refusal { status: status.as_u16(), code: String::new(), detail: reason.to_lowercase() }
    }
}

/// Somebody else's text, made fit for a terminal and a log.
fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(400).collect()
}
