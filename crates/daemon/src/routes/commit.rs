//! `POST /commit`: an image out of a container.

use budu_engine::Commit;
use budu_spec::Reference;
use budu_spec::docker::ContainerConfig;
use hyper::StatusCode;
use serde_json::json;

use crate::http::{Call, Failure, Reply, json as answer};

/// `POST /commit`.
pub(crate) async fn commit(mut call: Call) -> Reply {
    let config: Option<ContainerConfig> = call.json().await?;
    let name = name(call.query.text("repo"), call.query.text("tag"))?;
    let wish = Commit {
        name: name.clone(),
        author: call.query.text("author").to_owned(),
        comment: call.query.text("comment").to_owned(),
        changes: call.query.all("changes"),
        pause: call.query.get("pause").is_none() || call.query.flag("pause"),
        config,
    };
    let engine = &call.app.engine;
    let image = engine.commit_image(call.query.text("container"), wish).await?;
    let id = image.id.to_string();
    let attributes = |name: String| [("name".to_owned(), name)].into();
    engine.events().publish("image", "create", &id, attributes(id.clone()));
    if let Some(name) = name {
        engine.events().publish("image", "tag", &id, attributes(name.familiar()));
    }
    answer(StatusCode::CREATED, &json!({"Id": id}))
}

/// A name out of repository and tag; none without repository.
pub(super) fn name(repository: &str, tag: &str) -> Result<Option<Reference>, Failure> {
    let text = match (repository, tag) {
        ("", _) => return Ok(None),
        (repository, "") => repository.to_owned(),
        (repository, tag) => format!("{repository}:{tag}"),
    };
    let name: Reference = text.parse()?;
    match name.digest() {
        Some(_) => Err(Failure::invalid("cannot import digest reference")),
        None => Ok(Some(name.with_default_tag())),
    }
}
