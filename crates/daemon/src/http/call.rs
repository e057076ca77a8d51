//! A request on its way to its handler.

use std::time::Duration;

use budu_spec::Filters;
use budu_spec::docker::ApiVersion;
use http_body_util::{BodyExt, Limited};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use super::{Failure, Query, RequestBody};
use crate::Shared;

/// Largest JSON body.
const LIMIT: usize = 8 << 20;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a handler gets.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: Shared,
    /// The version the client speaks.
    pub(crate) version: ApiVersion,
    /// What the path names, decoded; empty when it names nothing.
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<RequestBody>,
    pub(crate) upgrade: OnUpgrade,
}

impl Call {
    /// Whether the client asks for its connection to be handed over.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters, Failure> {
        Ok(Filters::parse(self.query.text("filters"))?)
    }

    /// Reads the body as JSON; an empty one is the default value.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        self.check_type()?;
        parse(&bytes)
    }

    /// Reads a body that must not be empty.
    pub(crate) async fn required_json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let bytes = self.bytes().await?;
        if !bytes.is_empty() || self.headers.contains_key(CONTENT_TYPE) {
            self.check_type()?;
        }
        if bytes.is_empty() {
            return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
        }
        parse(&bytes)
    }

    /// Refuses any body.
    pub(crate) fn no_body(&self) -> Result<(), Failure> {
        let length = self.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if length.is_some_and(|n| n > 2) || self.headers.contains_key(TRANSFER_ENCODING) && length.is_none() {
            return Err(Failure::invalid(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
            ));
        }
        Ok(())
    }

    async fn bytes(&mut self) -> Result<bytes::Bytes, Failure> {
        let Some(body) = self.body.take() else { return Ok(bytes::Bytes::new()) };
        let collected = tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect());
        match collected.await.map_err(|_| Failure::invalid("the request body did not arrive in time"))? {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Failure::too_large(format!("request body is larger than {LIMIT} bytes")))
            }
            Err(error) => Err(Failure::invalid(format!("cannot read the request body: {error}"))),
        }
    }

    fn check_type(&self) -> Result<(), Failure> {
        if is_json(&self.headers) {
            return Ok(());
        }
        let kind = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Err(Failure::invalid(format!("unsupported Content-Type header ({kind}): must be 'application/json'")))
    }
}

/// Whether a body is said to be JSON. Nothing else is ever read as JSON:
/// authorization plugins see what this says yes to.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == "application/json"
}

/// Parses exactly one JSON value.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<T>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        // Nearly all words about JSON are the parser's own; these are what a cut connection gives.
        Some(Err(error)) if error.is_eof() => return Err(Failure::invalid("invalid JSON: unexpected EOF")),
        Some(Err(error)) => return Err(Failure::invalid(format!("invalid JSON: {error}"))),
        None => return Err(Failure::invalid("invalid JSON: got EOF while reading request body")),
    };
    let rest = bytes.get(values.byte_offset()..).unwrap_or_default();
    match rest.iter().all(u8::is_ascii_whitespace) {
        true => Ok(value),
        false => Err(Failure::invalid("unexpected content after JSON")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_and_nothing_after_it() {
        assert_eq!(parse::<Vec<u8>>(b"[1] \n").unwrap(), [1]);
        assert_eq!(parse::<Vec<u8>>(b"[1][2]").unwrap_err().message, "unexpected content after JSON");
        assert_eq!(parse::<Vec<u8>>(b"[1]x").unwrap_err().message, "unexpected content after JSON");
        assert!(parse::<Vec<u8>>(b"{").unwrap_err().message.starts_with("invalid JSON: "));
    }
}
