//! Authorization plugins: programs that are asked whether a request may be
//! served, and whether its answer may be given.
//!
//! A plugin sees exactly the bytes that the handler will see: a body that is
//! too large to be shown is refused, one without length is read to its end
//! first. Bodies that are not JSON are not shown, and no handler takes JSON
//! from them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use budu_engine::Plugins;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::http::{Body, Failure, RequestBody, is_json};

/// The interface of such plugins.
const INTERFACE: &str = "authz";
/// Largest body that is shown, bytes; Docker's limit.
const LIMIT: usize = 4 << 20;
/// How long a plugin may think.
const PATIENCE: Duration = Duration::from_secs(30);
/// Headers that plugins must not see.
const SECRET: &[&str] = &["x-registry-config", "x-registry-auth"];

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Common name of its certificate.
    pub(crate) user: Option<String>,
    /// Its certificates, DER.
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// What plugins are asked.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question {
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "str::is_empty", rename = "UserAuthNMethod")]
    authentication: &'static str,
    request_method: String,
    request_uri: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    request_headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_peer_certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status_code: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    response_body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    response_headers: BTreeMap<String, String>,
}

/// What they answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Verdict {
    allow: bool,
    msg: String,
    err: String,
}

/// A request that the plugins let pass, until its answer has, too.
#[derive(Debug)]
pub(crate) struct Permit {
    plugins: Plugins,
    names: Vec<String>,
    question: Question,
}

/// Asks all plugins, in order, whether a request may be served. The body comes
/// back as it must be used from now on.
///
/// # Errors
/// 403 when a plugin says no, 413 when the body is too large to be shown, 500
/// when a plugin does not answer.
pub(crate) async fn request(
    plugins: &Plugins,
    names: &[String],
    caller: &Caller,
    parts: &Parts,
    body: RequestBody,
) -> Result<(Permit, RequestBody), Failure> {
    let mut question = Question {
        user: caller.user.clone().unwrap_or_default(),
        authentication: if caller.certificates.is_empty() { "" } else { "TLS" },
        request_method: parts.method.to_string(),
        request_uri: parts.uri.to_string(),
        request_headers: headers(&parts.headers),
        request_peer_certificates: caller.certificates.iter().map(|der| STANDARD.encode(pem(der))).collect(),
        ..Question::default()
    };
    let mut body = body;
    if is_json(&parts.headers) {
        let bytes = read(body).await?;
        if shown(parts.uri.path()) {
            question.request_body = STANDARD.encode(&bytes);
        }
        body = RequestBody::Read(Some(bytes).filter(|bytes| !bytes.is_empty()));
    }
    let permit = Permit { plugins: plugins.clone(), names: names.to_vec(), question };
    permit.ask("AuthZPlugin.AuthZReq").await?;
    Ok((permit, body))
}

impl Permit {
    /// Takes a look at an answer. What is streamed is looked at before its
    /// first byte.
    #[must_use]
    pub(crate) fn of(mut self, response: &Response<Body>, path: &str) -> Permit {
        self.question.response_status_code = Some(response.status().as_u16());
        self.question.response_headers = headers(response.headers());
        if let Body::Full(Some(bytes)) = response.body()
            && is_json(response.headers())
            && shown(path)
        {
            self.question.response_body = STANDARD.encode(bytes);
        }
        self
    }

    /// Asks all plugins, in order, whether the answer that was looked at may be
    /// given.
    ///
    /// # Errors
    /// As for [`request`].
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        self.ask("AuthZPlugin.AuthZRes").await
    }

    async fn ask(&self, method: &str) -> Result<(), Failure> {
        for name in &self.names {
            let failed = |why: String| Failure::internal(format!("plugin {name} failed with error: {why}"));
            let plugin = self.plugins.get(name, INTERFACE).await.map_err(|e| failed(e.to_string()))?;
            let verdict: Verdict =
                plugin.call(method, &self.question, PATIENCE).await.map_err(|e| failed(e.to_string()))?;
            if !verdict.err.is_empty() {
                return Err(failed(verdict.err));
            }
            if !verdict.allow {
                let message = format!("authorization denied by plugin {name}: {}", verdict.msg);
                return Err(Failure { status: StatusCode::FORBIDDEN, message });
            }
        }
        Ok(())
    }
}

async fn read(body: RequestBody) -> Result<Bytes, Failure> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::too_large(format!(
            "request body too large for authorization plugin: size exceeds {LIMIT} bytes"
        ))),
        Err(error) => Err(Failure::invalid(format!("cannot read the request body: {error}"))),
    }
}

/// Passwords of registries are not shown.
fn shown(path: &str) -> bool {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let rest = match rest.split_once('/') {
        Some((version, rest)) if version.starts_with('v') && version[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            rest
        }
        _ => rest,
    };
    !rest.starts_with("auth")
}

/// Headers by the names that plugins know; the last of several counts.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let known = headers
        .iter()
        .filter(|(name, _)| **name != AUTHORIZATION && **name != HOST && !SECRET.contains(&name.as_str()));
    known
        .map(|(name, value)| (canonical(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// `content-type` is `Content-Type` to them.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_see() {
        let map = HeaderMap::from_iter([
            ("content-type".parse().unwrap(), "application/json".parse().unwrap()),
            ("x-registry-auth".parse().unwrap(), "secret".parse().unwrap()),
            (AUTHORIZATION, "secret".parse().unwrap()),
        ]);
        let seen: Vec<_> = headers(&map).into_iter().collect();
        assert_eq!(seen, [("Content-Type".to_owned(), "application/json".to_owned())]);
        assert!(shown("/v1.41/containers/create") && shown("/volumes/create"));
        assert!(!shown("/auth") && !shown("/v1.24/auth"));
        let question = Question { request_method: "GET".into(), request_uri: "/info".into(), ..Question::default() };
        let text = serde_json::to_string(&question).unwrap();
        assert_eq!(text, r#"{"RequestMethod":"GET","RequestUri":"/info"}"#);
        assert!(pem(&[0; 60]).lines().all(|line| line.len() <= 64));
    }
}
