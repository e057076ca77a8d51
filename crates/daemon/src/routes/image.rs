//! Images, one at a time.

use budu_image::{Image, Removed};
use budu_spec::Reference;
use budu_spec::docker::{
    ApiVersion, ContainerConfig, Empty, GraphDriver, HealthConfig, HistoryItem, ImageDeleted, ImageInspect,
    ImageMetadata, ImageRootFs,
};
use budu_spec::image::RunConfig;
use budu_spec::units::ZERO_TIME;
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::gate;
use crate::http::{Body, Call, Failure, Reply, ok};

/// `GET /images/{name}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    call.app.built_in.provide(&call.app.engine, &call.name)?;
    let image = match call.query.get("platform").filter(|_| call.version >= ApiVersion::new(49)) {
        Some(text) => {
            let platform =
                text.parse().map_err(|e: budu_spec::image::PlatformError| Failure::invalid(e.to_string()))?;
            call.app.engine.images().resolve_for(&call.name, Some(&platform))?
        }
        None => call.app.engine.images().resolve(&call.name)?,
    };
    // One made elsewhere may name a parent that is not here.
    let parent = &image.config.parent;
    let parent = if call.app.engine.images().resolve(parent).is_ok() { parent.clone() } else { String::new() };
    ok(&shape(&image, parent, call.version))
}

/// An image in the shape of an API version.
fn shape(image: &Image, parent: String, version: ApiVersion) -> Value {
    let config = &image.config;
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let inspect = ImageInspect {
        id: image.id.to_string(),
        parent,
        repo_tags: image.tags.iter().map(Reference::familiar).collect(),
        repo_digests: image.digests.clone(),
        comment: config.comment.clone(),
        created: image.created.clone(),
        author: config.author.clone(),
        config: Some(run_config(&config.config)),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        size,
        virtual_size: Some(size),
        graph_driver: Some(GraphDriver { data: None, name: "overlayfs".to_owned() }),
        root_fs: ImageRootFs {
            kind: "layers".to_owned(),
            layers: image.layers.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: ZERO_TIME.to_owned() },
        descriptor: serde_json::to_value(&image.target).ok(),
        ..ImageInspect::default()
    };
    let mut value = serde_json::to_value(&inspect).unwrap_or_default();
    gate::image(&mut value, version);
    value
}

fn run_config(config: &RunConfig) -> ContainerConfig {
    let keys = |map: &std::collections::BTreeMap<String, budu_spec::image::Empty>| {
        (!map.is_empty()).then(|| map.keys().map(|k| (k.clone(), Empty {})).collect())
    };
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let nanos = |n: i64| Some(n).filter(|n| *n != 0);
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: list(&config.env),
        cmd: config.cmd.clone(),
        entrypoint: config.entrypoint.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: Some(config.stop_signal.clone()).filter(|s| !s.is_empty()),
        on_build: list(&config.on_build),
        shell: list(&config.shell),
        args_escaped: config.args_escaped.then_some(true),
        healthcheck: config.healthcheck.as_ref().map(|h| HealthConfig {
            test: Some(h.test.clone()),
            interval: nanos(h.interval),
            timeout: nanos(h.timeout),
            start_period: nanos(h.start_period),
            start_interval: nanos(h.start_interval),
            retries: nanos(h.retries),
        }),
        ..ContainerConfig::default()
    }
}

/// Seconds of an RFC 3339 instant, 0 when it is none.
pub(super) fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second())
}

/// `GET /images/{name}/history`.
pub(crate) async fn history(call: Call) -> Reply {
    let image = call.app.engine.images().resolve(&call.name)?;
    let mut sizes = image.layer_sizes.iter();
    let mut size =
        |empty: bool| if empty { 0 } else { sizes.next().map_or(0, |n| i64::try_from(*n).unwrap_or(i64::MAX)) };
    let mut items: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| HistoryItem {
            id: "<missing>".to_owned(),
            created: step.created.as_deref().map_or(0, seconds),
            created_by: step.created_by.clone(),
            comment: step.comment.clone(),
            size: size(step.empty_layer),
            ..HistoryItem::default()
        })
        .collect();
    items.reverse();
    if let Some(top) = items.first_mut() {
        top.id = image.id.to_string();
        top.tags = (!image.tags.is_empty()).then(|| image.tags.iter().map(Reference::familiar).collect());
    }
    ok(&items)
}

/// `POST /images/{name}/tag`.
pub(crate) async fn tag(call: Call) -> Reply {
    let engine = &call.app.engine;
    let image = engine.images().resolve(&call.name)?;
    let repository = call.query.text("repo");
    let text = match call.query.get("tag") {
        Some(tag) if format!("x:{tag}").parse::<Reference>().is_err() => {
            return Err(Failure::invalid("invalid tag format"));
        }
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let target: Reference = text.parse::<Reference>()?.with_default_tag();
    engine.images().tag(&image.id, &target)?;
    let attributes = [("name".to_owned(), target.familiar())].into();
    engine.events().publish("image", "tag", &image.id.to_string(), attributes);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `DELETE /images/{name}`.
pub(crate) async fn remove(call: Call) -> Reply {
    let engine = &call.app.engine;
    let id = engine.images().resolve(&call.name)?.id.to_string();
    let (owner, name) = (engine.clone(), call.name.clone());
    let (force, prune) = (call.query.flag("force"), !call.query.flag("noprune"));
    let remove = move || owner.images().remove(&name, force, prune, &|container| owner.is_running(container));
    let removed = tokio::task::spawn_blocking(remove).await.map_err(|e| Failure::internal(e.to_string()))??;
    let mut answer = Vec::new();
    for step in removed {
        let (action, name) = match &step {
            Removed::Untagged(name) => ("untag", name.clone()),
            Removed::Deleted(id) => ("delete", id.clone()),
        };
        engine.events().publish("image", action, &id, [("name".to_owned(), name)].into());
        answer.push(match step {
            Removed::Untagged(name) => ImageDeleted { untagged: Some(name), deleted: None },
            Removed::Deleted(id) => ImageDeleted { untagged: None, deleted: Some(id) },
        });
    }
    ok(&answer)
}
