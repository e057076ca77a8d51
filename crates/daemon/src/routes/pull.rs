//! `POST /images/create`: pull, with progress.

use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use budu_image::{Error, Progress, Pulled, RegistryAuth};
use budu_spec::Reference;
use budu_spec::docker::{AuthConfig, ErrorDetail, JsonMessage, ProgressDetail};
use budu_spec::image::{Platform, PlatformError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use tokio::sync::mpsc;

use crate::http::{Body, Call, Failure, Reply, progress, typed};

/// Messages under way; a slow client slows the pull down.
const QUEUE: usize = 32;

/// `POST /images/create`.
pub(crate) async fn create(call: Call) -> Reply {
    let Some(name) = call.query.get("fromImage") else { return super::image_archive::import(call).await };
    let reference = reference(name, call.query.text("tag"))?;
    let platform: Option<Platform> = match call.query.get("platform") {
        Some(text) => Some(text.parse().map_err(|e: PlatformError| Failure::invalid(e.to_string()))?),
        None => None,
    };
    if call.app.built_in.is(&reference.familiar()) {
        call.app.built_in.provide(&call.app.engine, name)?;
        let status = format!("Status: Image is built in: {}", reference.familiar());
        let message = JsonMessage { status: Some(status), ..JsonMessage::default() };
        return Ok(typed(StatusCode::OK, "application/json", Body::full(progress(&message))));
    }
    let mut pull = Pull::start(&call, reference, platform, auth(&call));
    // Before the first message an error is still an ordinary answer.
    let first = match pull.next().await {
        Some(Step::Message(message)) => Some(message),
        Some(Step::Failed(error)) => return Err(error.into()),
        None => None,
    };
    let rest = stream::unfold(pull, |mut pull| async move {
        let bytes = match pull.next().await? {
            Step::Message(message) => message,
            Step::Failed(error) => failure(&error),
        };
        Some((bytes, pull))
    });
    Ok(typed(StatusCode::OK, "application/json", Body::stream(stream::iter(first).chain(rest))))
}

/// Puts name and tag (which may be a digest) together.
fn reference(name: &str, tag: &str) -> Result<Reference, Failure> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    Ok(text.parse::<Reference>()?.with_default_tag())
}

/// Credentials of the request; malformed ones are ignored, as in Docker.
fn auth(call: &Call) -> Option<RegistryAuth> {
    let header = call.headers.get("x-registry-auth")?.to_str().ok()?;
    let plain = header.trim_end_matches('=');
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(plain)
        .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(plain))
        .ok()?;
    let auth: AuthConfig = serde_json::from_slice(&bytes).ok()?;
    (auth != AuthConfig::default()).then(|| RegistryAuth {
        username: auth.username,
        password: auth.password,
        auth: String::new(),
        serveraddress: auth.serveraddress,
        identitytoken: auth.identitytoken,
        registrytoken: auth.registrytoken,
    })
}

/// One thing a pull says.
enum Step {
    Message(Bytes),
    Failed(Error),
}

type Work = Pin<Box<dyn Future<Output = Result<Pulled, Error>> + Send>>;

/// A pull under way. Dropping it gives the pull up.
struct Pull {
    progress: mpsc::Receiver<Progress>,
    work: Option<Work>,
    done: Option<Error>,
}

impl Pull {
    fn start(call: &Call, reference: Reference, platform: Option<Platform>, auth: Option<RegistryAuth>) -> Pull {
        let (sender, progress) = mpsc::channel(QUEUE);
        let engine = call.app.engine.clone();
        let work = async move {
            let pulled = engine.images().pull(&reference, platform.as_ref(), auth.as_ref(), sender).await?;
            let attributes = [("name".to_owned(), reference.familiar_name())].into();
            engine.events().publish("image", "pull", &reference.familiar(), attributes);
            Ok(pulled)
        };
        Pull { progress, work: Some(Box::pin(work)), done: None }
    }

    async fn next(&mut self) -> Option<Step> {
        loop {
            let Some(work) = &mut self.work else {
                // Everything said before the end comes before the end.
                return match self.progress.recv().await {
                    Some(message) => Some(Step::Message(encode(&message))),
                    None => self.done.take().map(Step::Failed),
                };
            };
            tokio::select! {
                biased;
                Some(message) = self.progress.recv() => return Some(Step::Message(encode(&message))),
                result = work => {
                    self.done = result.err();
                    self.work = None;
                }
            }
        }
    }
}

fn encode(message: &Progress) -> Bytes {
    let detail = match message {
        Progress::Layer { .. } => Some(match message.bytes() {
            Some((current, total)) => ProgressDetail { current: Some(current), total: Some(total) },
            None => ProgressDetail::default(),
        }),
        _ => None,
    };
    progress(&JsonMessage {
        status: Some(message.status()),
        id: message.id().map(str::to_owned),
        progress_detail: detail,
        ..JsonMessage::default()
    })
}

/// An error after the first byte.
pub(super) fn failure(error: &impl std::error::Error) -> Bytes {
    let message = error.to_string();
    progress(&JsonMessage {
        error_detail: Some(ErrorDetail { code: None, message: message.clone() }),
        error: Some(message),
        ..JsonMessage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tags_and_digests() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, tag, want) in [
            ("nginx", "", "nginx:latest".to_owned()),
            ("r:5000/a/b", "1", "r:5000/a/b:1".to_owned()),
            ("nginx", digest.as_str(), format!("nginx@{digest}")),
        ] {
            assert_eq!(reference(name, tag).unwrap().familiar(), want);
        }
        assert_eq!(reference("Bad Name", "").unwrap_err().status, 400);
    }

    #[test]
    fn messages_end_with_crlf_and_errors_come_in_band() {
        let text = encode(&Progress::Pulling { tag: "latest".into(), repository: "library/nginx".into() });
        assert_eq!(&text[..], b"{\"status\":\"Pulling from library/nginx\",\"id\":\"latest\"}\r\n");
        let text = failure(&Error::NotFound { name: "x".into() });
        assert_eq!(
            &text[..],
            b"{\"errorDetail\":{\"message\":\"No such image: x\"},\"error\":\"No such image: x\"}\r\n"
        );
    }
}
