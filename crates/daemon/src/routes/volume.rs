//! Volumes: Docker's endpoints, and those for what Docker's volumes cannot do.

use budu_spec::docker::{ApiVersion, VolumeCreate};
use hyper::StatusCode;

use crate::http::{Call, Failure, Reply, json, no_content, ok};

/// `GET /volumes`.
pub(crate) async fn list(call: Call) -> Reply {
    let said = |failure: Failure| Failure::invalid(format!("error reading volume filters: {}", failure.message));
    ok(&call.app.engine.volumes().list(&call.filters().map_err(said)?).await?)
}

/// `POST /volumes/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let wish: VolumeCreate = call.json().await?;
    if wish.cluster_volume_spec.is_some() && call.version >= ApiVersion::new(42) {
        return super::nothing::swarm(call).await;
    }
    json(StatusCode::CREATED, &call.app.engine.volumes().create(wish).await?)
}

/// `GET /volumes/{name}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    ok(&call.app.engine.volumes().inspect(&call.name).await?)
}

/// `PUT /volumes/{name}`.
pub(crate) async fn update(_: Call) -> Reply {
    Err(Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "volume update only valid for cluster volumes, but swarm is unavailable".to_owned(),
    })
}

/// `DELETE /volumes/{name}`.
pub(crate) async fn remove(call: Call) -> Reply {
    call.app.engine.volumes().remove(&call.name, call.query.flag("force")).await?;
    no_content()
}

/// `POST /volumes/prune`.
pub(crate) async fn prune(call: Call) -> Reply {
    let mut filters = call.filters()?;
    if call.version < ApiVersion::new(42) {
        // Older clients mean the volumes with names too.
        filters.add("all", "true");
    }
    ok(&call.app.engine.volumes().prune(&filters).await?)
}

/// `POST /volumes/{name}/rename?name=NEW`. Not Docker's.
pub(crate) async fn rename(call: Call) -> Reply {
    call.app.engine.rename_volume(&call.name, call.query.text("name")).await?;
    no_content()
}

/// What a clone may differ in.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CopyWish {
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// `POST /volumes/{name}/clone?name=NEW&snapshot=SNAPSHOT`. Not Docker's.
pub(crate) async fn copy(mut call: Call) -> Reply {
    let wish: CopyWish = call.json().await?;
    let snapshot = call.query.get("snapshot").filter(|name| !name.is_empty());
    let made = call.app.engine.clone_volume(&call.name, call.query.text("name"), wish.labels, snapshot).await?;
    json(StatusCode::CREATED, &made)
}

/// `POST /volumes/{name}/snapshot?name=SNAPSHOT&pause=0`. Not Docker's.
pub(crate) async fn snapshot(call: Call) -> Reply {
    let pause = call.query.get("pause").is_none() || call.query.flag("pause");
    let name = call.query.get("name").filter(|name| !name.is_empty());
    json(StatusCode::CREATED, &call.app.engine.snapshot_volume(&call.name, name, pause).await?)
}

/// `POST /volumes/{name}/restore?name=SNAPSHOT`. Not Docker's.
pub(crate) async fn restore(call: Call) -> Reply {
    call.app.engine.volumes().restore(&call.name, call.query.text("name")).await?;
    no_content()
}

/// `DELETE /volumes/{name}/snapshot?name=SNAPSHOT`. Not Docker's.
pub(crate) async fn remove_snapshot(call: Call) -> Reply {
    call.app.engine.volumes().remove_snapshot(&call.name, call.query.text("name")).await?;
    no_content()
}
