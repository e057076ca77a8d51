//! Bearer tokens from a registry's token service (distribution's token specification).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};

use super::Credentials;
use super::challenge::Bearer;
use super::client::{Client, Request};
use super::origin::Origin;
use super::reply::{Refusal, whole};
use crate::error::Error;

/// Longest token response, bytes.
const MAX_TOKEN: u64 = 1 << 20;

#[derive(serde::Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// `Authorization: Basic …`; never logged.
pub(crate) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// `Authorization: Bearer …`; never logged.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Gets a token for what the challenge asks.
///
/// Without credentials any service may be asked (over TLS, unless the registry itself is in
/// clear text); with credentials only one they may go to.
pub(crate) async fn fetch(
    client: &Client,
    challenge: &Bearer,
    credentials: Option<&Credentials>,
) -> Result<HeaderValue, Error> {
    let registry = client.origin();
    let protocol = |detail: String| Error::Protocol { host: registry.authority(), detail };
    let uri: Uri = challenge
        .realm
        .parse()
        .map_err(|_| protocol(format!("its token service {:?} is not an address", challenge.realm)))?;
    let realm = Origin::of(&uri)
        .ok_or_else(|| protocol(format!("its token service {:?} is not an http address", challenge.realm)))?;
    if !realm.tls && registry.tls {
        return Err(Error::ForeignRealm { host: registry.authority(), realm: realm.to_string() });
    }
    let secrets = credentials.filter(|known| known.basic.is_some() || known.refresh_token.is_some());
    if secrets.is_some() && !realm.may_have_credentials_of(registry) {
        return Err(Error::ForeignRealm { host: registry.authority(), realm: realm.to_string() });
    }
    let scope = challenge.scope.clone().unwrap_or_else(|| client.scope());
    let request = match secrets {
        Some(Credentials { refresh_token: Some(refresh), .. }) => {
            refreshing(uri, refresh, challenge.service.as_deref(), &scope)
        }
        _ => {
            let basic = secrets.and_then(|known| known.basic.as_ref());
            asking(&uri, basic, challenge.service.as_deref(), &scope)
                .ok_or_else(|| protocol(format!("its token service {:?} is not an address", challenge.realm)))?
        }
    };
    let response = client.exchange(&realm, &request).await?;
    if !response.status().is_success() {
        let refusal = Refusal::read(response, client.read_timeout(), &realm).await;
        return Err(match refusal.status {
            401 | 403 if secrets.is_some() => {
                Error::Unauthorized { host: registry.authority(), detail: refusal.detail }
            }
            401 | 403 => client.denied(refusal.detail),
            status => Error::Registry {
                host: realm.authority(),
                status,
                what: "the request for a token".into(),
                detail: refusal.detail,
            },
        });
    }
    let body = whole(response, MAX_TOKEN, client.read_timeout(), &realm).await?;
    let token: Token = serde_json::from_slice(&body)
        .map_err(|error| protocol(format!("its token service's answer does not parse: {error}")))?;
    let text = if token.token.is_empty() { token.access_token } else { token.token };
    bearer(&text).filter(|_| !text.is_empty()).ok_or_else(|| protocol("its token service gave no usable token".into()))
}

/// The GET form; credentials as Basic.
fn asking(realm: &Uri, basic_auth: Option<&(String, String)>, service: Option<&str>, scope: &str) -> Option<Request> {
    let mut query = realm.query().map(|query| format!("{query}&")).unwrap_or_default();
    if let Some(service) = service {
        query.push_str(&format!("service={}&", escape(service)));
    }
    query.push_str(&format!("scope={}", escape(scope)));
    let mut authorization = None;
    if let Some((username, password)) = basic_auth {
        query.push_str(&format!("&account={}", escape(username)));
        authorization = basic(username, password);
    }
    let uri = Uri::builder()
        .scheme(realm.scheme_str()?)
        .authority(realm.authority()?.as_str())
        .path_and_query(format!("{}?{query}", realm.path()))
        .build()
        .ok()?;
    Some(Request { authorization, ..Request::get(uri) })
}

/// The POST form of OAuth2 with a refresh token.
fn refreshing(realm: Uri, refresh: &str, service: Option<&str>, scope: &str) -> Request {
    let mut form =
        format!("grant_type=refresh_token&client_id=budu&refresh_token={}&scope={}", escape(refresh), escape(scope));
    if let Some(service) = service {
        form.push_str(&format!("&service={}", escape(service)));
    }
    Request { method: Method::POST, form: Some(form), ..Request::get(realm) }
}

/// Percent-encodes a value of a query or form.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}
