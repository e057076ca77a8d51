//! Requests to one repository: authentication, redirects, and what comes back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use budu_spec::image::{Descriptor, media_type};
use budu_spec::{Digest, Reference};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode, Uri};

use super::challenge::{self, Challenge};
use super::connect::{Connector, Obstacle};
use super::origin::Origin;
use super::reply::{Refusal, explain, whole};
use super::{Credentials, RegistryAuth, token};
use crate::document::{MAX_DOCUMENT, digest_of};
use crate::error::Error;
use crate::store::Options;

const MAX_REDIRECTS: usize = 10;
/// Docker Hub's registry; `docker.io` is only its name in references.
const HUB: &str = "registry-1.docker.io";
const AGENT: &str = concat!("budu/", env!("CARGO_PKG_VERSION"));

/// What is asked for, before authentication.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) accept: Option<String>,
    pub(crate) authorization: Option<HeaderValue>,
    /// Bytes to leave out at the start.
    pub(crate) skip: u64,
    /// Body of a POST.
    pub(crate) form: Option<String>,
}

impl Request {
    pub(crate) fn get(uri: Uri) -> Request {
        Request { method: Method::GET, uri, accept: None, authorization: None, skip: 0, form: None }
    }
}

/// A manifest or index as it was served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

/// One repository of one registry, for the length of one pull.
pub(crate) struct Client {
    connector: Connector,
    origin: Origin,
    reference: Reference,
    credentials: Option<Credentials>,
    /// Proof that satisfied the registry last.
    authorization: Mutex<Option<HeaderValue>>,
    /// Clear text and any certificate are acceptable.
    insecure: bool,
    read_timeout: Duration,
}

impl Client {
    /// Finds out how to speak to the registry of `reference`.
    pub(crate) async fn connect(
        reference: &Reference,
        auth: Option<&RegistryAuth>,
        options: &Options,
    ) -> Result<Client, Error> {
        let registry = reference.registry();
        let authority = if registry == "docker.io" { HUB } else { registry };
        let mut origin = Origin::new(true, authority);
        let insecure = origin.is_loopback() || options.insecure_registries.iter().any(|listed| listed == registry);
        let connector = Connector::new(options.connect_timeout);
        match connector.connect(&origin, !insecure).await {
            Ok(sender) => connector.keep(&origin, sender),
            // A port that speaks HTTP answers a TLS greeting with something else; without a port
            // in the name, clear text is on another port.
            Err(Obstacle::Tls(_)) if insecure => origin = Origin::new(false, authority),
            Err(Obstacle::Unreachable(_)) if insecure && Origin::new(false, authority).port != origin.port => {
                origin = Origin::new(false, authority);
            }
            Err(obstacle) => return Err(obstacle.into_error(&origin)),
        }
        Ok(Client {
            connector,
            origin,
            reference: reference.clone(),
            credentials: auth.and_then(|auth| auth.for_registry(registry)),
            authorization: Mutex::default(),
            insecure,
            read_timeout: options.read_timeout,
        })
    }

    /// The first mirror of Docker Hub that has what `reference` names. Credentials for the Hub are not shown to mirrors.
    pub(crate) async fn of_a_mirror(reference: &Reference, options: &Options) -> Option<Client> {
        let mirrors = options.registry_mirrors.iter().filter(|_| reference.registry() == "docker.io");
        let selector = reference.digest().map(|digest| digest.to_string());
        let selector = selector.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_else(|| "latest".to_owned());
        for mirror in mirrors {
            match Client::mirror(mirror, reference, options).await {
                Ok(client) => match client.manifest(&selector).await {
                    Ok(_) => return Some(client),
                    Err(error) => tracing::info!(%mirror, %error, "the mirror does not have the image"),
                },
                Err(error) => tracing::warn!(%mirror, %error, "the mirror cannot be used"),
            }
        }
        None
    }

    async fn mirror(address: &str, reference: &Reference, options: &Options) -> Result<Client, Error> {
        let uri = address.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri));
        let origin = uri.ok_or_else(|| Error::Unreachable {
            host: address.to_owned(),
            cause: "a mirror's address begins with http:// or https://".to_owned(),
        })?;
        let authority = origin.authority();
        let insecure = origin.is_loopback() || options.insecure_registries.contains(&authority);
        let connector = Connector::new(options.connect_timeout);
        let sender = connector.connect(&origin, !insecure).await.map_err(|obstacle| obstacle.into_error(&origin))?;
        connector.keep(&origin, sender);
        Ok(Client {
            connector,
            origin,
            reference: reference.clone(),
            credentials: None,
            authorization: Mutex::default(),
            insecure,
            read_timeout: options.read_timeout,
        })
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// What a token must allow.
    pub(crate) fn scope(&self) -> String {
        format!("repository:{}:pull", self.reference.repository())
    }

    pub(crate) fn denied(&self, detail: String) -> Error {
        Error::Denied { name: self.reference.familiar_name(), detail }
    }

    /// Fetches the manifest or index by tag or digest; a digest is verified.
    pub(crate) async fn manifest(&self, selector: &str) -> Result<Served, Error> {
        let mut request = Request::get(self.uri(&format!("manifests/{selector}"))?);
        let accept =
            [media_type::OCI_INDEX, media_type::DOCKER_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];
        request.accept = Some(format!("{}, */*;q=0.1", accept.join(", ")));
        let response = self.send(&request).await?;
        if response.status() != StatusCode::OK {
            let refusal = Refusal::read(response, self.read_timeout, &self.origin).await;
            return Err(self.refused(refusal, &format!("the request for manifest {selector}")));
        }
        let media_type = header(&response, CONTENT_TYPE.as_str());
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let claimed = header(&response, "docker-content-digest").parse::<Digest>().ok();
        let bytes = whole(response, MAX_DOCUMENT, self.read_timeout, &self.origin).await?;
        let digest = digest_of(&bytes);
        let expected = selector.parse::<Digest>().ok().or(claimed);
        match expected {
            Some(expected) if expected != digest => {
                Err(Error::DigestMismatch { what: "manifest", digest: expected, actual: digest })
            }
            _ => Ok(Served { bytes, media_type, digest }),
        }
    }

    /// Fetches a small blob whole and verifies it.
    pub(crate) async fn document(&self, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>, Error> {
        let digest = descriptor.digest;
        let wrong_size = |actual| Error::SizeMismatch { what, digest, expected: descriptor.size, actual };
        if descriptor.size > MAX_DOCUMENT {
            let detail = format!("{} bytes are more than the {MAX_DOCUMENT} allowed", descriptor.size);
            return Err(Error::Document { what, digest, detail });
        }
        let response = self.blob(&digest, 0).await?;
        let bytes = whole(response, MAX_DOCUMENT, self.read_timeout, &self.origin).await?;
        if bytes.len() as u64 != descriptor.size {
            return Err(wrong_size(bytes.len() as u64));
        }
        let actual = digest_of(&bytes);
        if actual != digest {
            return Err(Error::DigestMismatch { what, digest, actual });
        }
        Ok(bytes)
    }

    /// Begins to fetch a blob, leaving out the first `skip` bytes if the registry can:
    /// the status tells (206) whether it did.
    pub(crate) async fn blob(&self, digest: &Digest, skip: u64) -> Result<Response<Incoming>, Error> {
        let request = Request { skip, ..Request::get(self.uri(&format!("blobs/{digest}"))?) };
        let response = self.send(&request).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::PARTIAL_CONTENT if skip > 0 => Ok(response),
            _ => {
                let refusal = Refusal::read(response, self.read_timeout, &self.origin).await;
                Err(self.refused(refusal, &format!("the request for blob {digest}")))
            }
        }
    }

    /// Asks whether the registry speaks to us at all: the status of its base address.
    pub(crate) async fn check(&self) -> Result<StatusCode, Error> {
        let text = format!("{}/v2/", self.origin);
        let uri = text.parse().map_err(|_| Error::Protocol {
            host: self.origin.authority(),
            detail: format!("{text:?} is not an address"),
        })?;
        Ok(self.send(&Request::get(uri)).await?.status())
    }

    fn uri(&self, rest: &str) -> Result<Uri, Error> {
        let text = format!("{}/v2/{}/{rest}", self.origin, self.reference.repository());
        text.parse().map_err(|_| Error::Protocol {
            host: self.origin.authority(),
            detail: format!("{text:?} is not an address"),
        })
    }

    fn refused(&self, refusal: Refusal, what: &str) -> Error {
        let host = self.origin.authority();
        match (refusal.status, refusal.code.as_str()) {
            (401, _) if self.credentials.is_some() => Error::Unauthorized { host, detail: refusal.detail },
            (401 | 403, _) | (_, "DENIED" | "UNAUTHORIZED") => self.denied(refusal.detail),
            (404, _) if what.contains("manifest") => {
                let detail = if refusal.code.is_empty() {
                    format!("manifest unknown: {}", refusal.detail)
                } else {
                    refusal.detail
                };
                Error::ManifestUnknown { reference: self.reference.familiar(), detail }
            }
            (status, _) => Error::Registry { host, status, what: what.to_owned(), detail: refusal.detail },
        }
    }

    /// Sends a request with whatever proof the registry wants, following redirects.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = Request { authorization: known, ..request.clone() };
        let response = self.follow(&request).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // Once more with new proof: there was none, or the token has run out.
        let Some(authorization) = self.prove(&response).await? else { return Ok(response) };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
        request.authorization = Some(authorization);
        self.follow(&request).await
    }

    /// Makes the proof that a 401 of the registry asks for; `None` when we have none.
    async fn prove(&self, response: &Response<Incoming>) -> Result<Option<HeaderValue>, Error> {
        if let Some(token) = self.credentials.as_ref().and_then(|known| known.bearer.as_ref()) {
            return Ok(token::bearer(token));
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        for challenge in &challenges {
            if let Challenge::Bearer(bearer) = challenge {
                return token::fetch(self, bearer, self.credentials.as_ref()).await.map(Some);
            }
        }
        let basic = self.credentials.as_ref().and_then(|known| known.basic.as_ref());
        Ok(match basic {
            Some((username, password)) if challenges.contains(&Challenge::Basic) => token::basic(username, password),
            _ => None,
        })
    }

    async fn follow(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        let mut request = request.clone();
        let mut origin = self.origin.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(&origin, &request).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                // A 401 from elsewhere must not be taken for the registry's own.
                if response.status() == StatusCode::UNAUTHORIZED && origin != self.origin {
                    let refusal = Refusal::read(response, self.read_timeout, &origin).await;
                    return Err(Error::Registry {
                        host: origin.authority(),
                        status: refusal.status,
                        what: format!("a request that {} redirected", self.origin.authority()),
                        detail: refusal.detail,
                    });
                }
                return Ok(response);
            }
            let next = self.target(&request.uri, &header(&response, LOCATION.as_str()))?;
            let next_origin = self.acceptable(&next)?;
            if next_origin != origin {
                // Signed addresses carry their own proof; ours is nobody else's business.
                request.authorization = None;
            }
            request.uri = next;
            origin = next_origin;
        }
        Err(Error::Protocol { host: self.origin.authority(), detail: "it redirects without end".into() })
    }

    fn acceptable(&self, uri: &Uri) -> Result<Origin, Error> {
        let host = self.origin.authority();
        let origin = Origin::of(uri).ok_or_else(|| Error::Protocol {
            host: host.clone(),
            detail: "it redirects to something that is not an http address".into(),
        })?;
        if !origin.tls && self.origin.tls && !self.insecure {
            return Err(Error::Protocol {
                host,
                detail: format!("it redirects from https to clear text on {}", origin.authority()),
            });
        }
        Ok(origin)
    }

    /// The absolute address that a `Location` means.
    fn target(&self, from: &Uri, location: &str) -> Result<Uri, Error> {
        let base = format!(
            "{}://{}",
            from.scheme_str().unwrap_or("https"),
            from.authority().map_or("", |authority| authority.as_str())
        );
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        let text = if location.contains("://") {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{}:{location}", from.scheme_str().unwrap_or("https"))
        } else if location.starts_with('/') {
            format!("{base}{location}")
        } else {
            format!("{base}{directory}/{location}")
        };
        let text = text.split('#').next().unwrap_or_default();
        text.parse().map_err(|_| Error::Protocol {
            host: self.origin.authority(),
            detail: "it redirects to something that is not an address".into(),
        })
    }

    /// One request and the beginning of its response.
    pub(crate) async fn exchange(&self, origin: &Origin, request: &Request) -> Result<Response<Incoming>, Error> {
        // A kept connection may have been closed by the other side meanwhile: then a new one.
        if let Some(mut sender) = self.connector.idle(origin)
            && let Ok(Ok(response)) =
                tokio::time::timeout(self.read_timeout, sender.send_request(self.build(origin, request)?)).await
        {
            self.connector.keep(origin, sender);
            return Ok(response);
        }
        let verify = !(self.insecure && origin.host == self.origin.host);
        let connected = self.connector.connect(origin, verify).await;
        let mut sender = connected.map_err(|obstacle| obstacle.into_error(origin))?;
        let sent = tokio::time::timeout(self.read_timeout, sender.send_request(self.build(origin, request)?)).await;
        let cause = match sent {
            Ok(Ok(response)) => {
                self.connector.keep(origin, sender);
                return Ok(response);
            }
            Ok(Err(error)) => explain(&error),
            Err(_) => format!("no answer for {} s", self.read_timeout.as_secs_f32()),
        };
        Err(Error::Unreachable { host: origin.authority(), cause })
    }

    fn build(&self, origin: &Origin, request: &Request) -> Result<hyper::Request<Full<Bytes>>, Error> {
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(path)
            .header(HOST, origin.authority())
            .header(USER_AGENT, AGENT);
        if let Some(accept) = &request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if request.skip > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", request.skip));
        }
        let body = match &request.form {
            Some(form) => {
                builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                Full::from(form.clone())
            }
            None => Full::default(),
        };
        builder.body(body).map_err(|error| Error::Protocol {
            host: origin.authority(),
            detail: format!("cannot ask for {path}: {error}"),
        })
    }
}

fn header(response: &Response<Incoming>, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
