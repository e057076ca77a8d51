//! Containers: create, look, clean up.

use budu_engine::ListOptions;
use budu_spec::docker::{ApiVersion, ContainerCreate, ContainerUpdate, ContainerUpdated};
use budu_spec::image::Platform;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::gate;
use crate::http::{Call, Failure, Reply, json as answer, ok};

/// `GET /containers/json`.
pub(crate) async fn list(call: Call) -> Reply {
    let limit: i64 = call.query.number("limit")?.unwrap_or(0);
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    ok(&call.app.engine.list(&options, call.version)?)
}

/// `POST /containers/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let mut wish: Value = call.required_json().await?;
    if wish.as_object().is_some_and(says_nothing) {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    let warnings = gate::create(&mut wish, call.version)?;
    call.app.config.get().fill(&mut wish);
    let wish: ContainerCreate =
        serde_json::from_value(wish).map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))?;
    let engine = &call.app.engine;
    call.app.built_in.provide(engine, &wish.config.image)?;
    if let Some(platform) = call.query.get("platform").filter(|_| call.version >= ApiVersion::new(41)) {
        check_platform(&call, &wish.config.image, platform)?;
    }
    let mut created = engine.create(call.query.get("name"), wish, call.version).await?;
    created.warnings.extend(warnings);
    answer(StatusCode::CREATED, &created)
}

/// Whether a request has nothing about the container itself, only about where it is put.
fn says_nothing(wish: &serde_json::Map<String, Value>) -> bool {
    wish.keys().all(|key| matches!(key.as_str(), "HostConfig" | "NetworkingConfig"))
}

/// Containers run on this machine: only its platform will do.
fn check_platform(call: &Call, image: &str, text: &str) -> Result<(), Failure> {
    let platform: Platform = text.parse().map_err(|e| Failure::invalid(format!("{e}")))?;
    let images = call.app.engine.images();
    match images.resolve_for(image, Some(&platform)) {
        Ok(found) if found.platform.distance(&platform).is_some() => return Ok(()),
        Ok(_) | Err(budu_image::Error::NoPlatform { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let found = images.resolve(image)?.platform.to_string();
    Err(budu_image::Error::PlatformMismatch { reference: image.to_owned(), found, wanted: text.to_owned() }.into())
}

/// `GET /containers/{id}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let size = call.query.flag("size");
    let inspected = call.app.engine.inspect(&call.name, size, call.version)?;
    let mut value = serde_json::to_value(&inspected).map_err(|error| Failure::internal(error.to_string()))?;
    gate::container(&mut value, call.version);
    ok(&value)
}

/// `GET /containers/{id}/top`.
pub(crate) async fn top(call: Call) -> Reply {
    ok(&call.app.engine.top(&call.name, call.query.text("ps_args")).await?)
}

/// `POST /containers/prune`.
pub(crate) async fn prune(call: Call) -> Reply {
    let (deleted, reclaimed) = call.app.engine.prune(&call.filters()?).await?;
    let deleted = if deleted.is_empty() { None } else { Some(deleted) };
    ok(&json!({"ContainersDeleted": deleted, "SpaceReclaimed": reclaimed}))
}

/// `POST /containers/{id}/update`.
pub(crate) async fn update(mut call: Call) -> Reply {
    let wish: ContainerUpdate = call.json().await?;
    let warnings = call.app.engine.update(&call.name, wish, call.version).await?;
    // No warning at all travels as `null`, as it does in Docker.
    if warnings.is_empty() { ok(&json!({"Warnings": null})) } else { ok(&ContainerUpdated { warnings }) }
}
