//! Images as archives: load, save, import.

use budu_image::{CommitWish, Error, Image};
use budu_spec::docker::JsonMessage;
use budu_spec::image::{Platform, PlatformError, RunConfig, change};
use budu_spec::units::rfc3339_nano;
use hyper::StatusCode;

use super::commit::name;
use super::pull::failure;
use crate::http::{Body, Call, Failure, Received, Reply, blocking, produce, progress, typed};

/// A platform as a client spells it: JSON, or `os/arch`; in a list, the first.
fn platform(call: &Call) -> Result<Option<Platform>, Failure> {
    let Some(text) = call.query.get("platform") else { return Ok(None) };
    let bad = |error: String| Failure::invalid(format!("invalid platform: {error}"));
    if text.starts_with('[') {
        let list: Vec<Platform> = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        return Ok(list.into_iter().next());
    }
    if text.starts_with('{') {
        return serde_json::from_str(text).map(Some).map_err(|error| bad(error.to_string()));
    }
    text.parse().map(Some).map_err(|error: PlatformError| Failure::invalid(error.to_string()))
}

fn say(text: String) -> bytes::Bytes {
    progress(&JsonMessage { stream: Some(text), ..JsonMessage::default() })
}

/// `POST /images/load`. What goes wrong is said in the answer's body, as clients expect.
pub(crate) async fn load(mut call: Call) -> Reply {
    let platform = platform(&call)?;
    let input = Received::new(call.body.take());
    let engine = call.app.engine.clone();
    let store = engine.images().clone();
    let loaded = blocking(move || store.load(input, platform.as_ref())).await?;
    let lines = match loaded {
        Ok(loaded) => {
            let mut lines = Vec::new();
            for one in loaded {
                let id = one.image.to_string();
                engine.events().publish("image", "load", &id, [("name".to_owned(), id.clone())].into());
                lines.push(say(match &one.name {
                    Some(name) => format!("Loaded image: {}\n", name.familiar()),
                    None => format!("Loaded image ID: {id}\n"),
                }));
            }
            lines
        }
        Err(error) => vec![failure(&error)],
    };
    Ok(typed(StatusCode::OK, "application/json", Body::full(lines.concat())))
}

/// `GET /images/get`.
pub(crate) async fn save_several(call: Call) -> Reply {
    let names = call.query.all("names");
    save_names(call, names).await
}

/// `GET /images/{name}/get`.
pub(crate) async fn save(call: Call) -> Reply {
    let names = vec![call.name.clone()];
    save_names(call, names).await
}

async fn save_names(call: Call, names: Vec<String>) -> Reply {
    let platform = platform(&call)?;
    let engine = call.app.engine.clone();
    for name in &names {
        call.app.built_in.provide(&engine, name)?;
    }
    let save = engine.images().save(&names, platform.as_ref())?;
    let ids: Vec<String> = save.images().iter().map(ToString::to_string).collect();
    let body = produce(move |sink| {
        save.write(sink)?;
        for id in ids {
            engine.events().publish("image", "save", &id, [("name".to_owned(), id.clone())].into());
        }
        Ok(())
    })?;
    Ok(typed(StatusCode::OK, "application/x-tar", body))
}

/// `POST /images/create?fromSrc=…`: the body is an archive of files.
pub(super) async fn import(mut call: Call) -> Reply {
    let source = call.query.text("fromSrc").to_owned();
    if source != "-" {
        return Err(match source.is_empty() {
            true => Failure::invalid("one of fromImage and fromSrc is required"),
            false => Failure::not_implemented("importing an image from an address"),
        });
    }
    let mut config = RunConfig::default();
    change::apply(&mut config, &call.query.all("changes")).map_err(|error| Failure::invalid(error.to_string()))?;
    let comment = call.query.text("message").to_owned();
    let wish = CommitWish {
        name: name(call.query.text("repo"), call.query.text("tag"))?,
        config,
        comment: if comment.is_empty() { format!("Imported from {source}") } else { comment },
        created: rfc3339_nano(jiff::Timestamp::now()),
        ..CommitWish::default()
    };
    let platform = platform(&call)?.unwrap_or_else(Platform::host);
    let input = Received::new(call.body.take());
    let engine = call.app.engine.clone();
    let (store, named) = (engine.images().clone(), wish.name.clone());
    let made: Result<Image, Error> = blocking(move || store.import(input, &platform, wish)).await?;
    let line = match made {
        Ok(image) => {
            let id = image.id.to_string();
            let name = named.map_or_else(|| id.clone(), |name| name.familiar());
            engine.events().publish("image", "import", &id, [("name".to_owned(), name)].into());
            progress(&JsonMessage { status: Some(id), ..JsonMessage::default() })
        }
        Err(error) => failure(&error),
    };
    Ok(typed(StatusCode::OK, "application/json", Body::full(line)))
}
