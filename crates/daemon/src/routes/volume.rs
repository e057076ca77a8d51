//! Volumes.

use budu_spec::docker::{ApiVersion, VolumeCreate};
use hyper::StatusCode;

use crate::http::{Call, Failure, Reply, json, no_content, ok};

/// `GET /volumes`.
pub(crate) async fn list(call: Call) -> Reply {
    ok(&call.app.engine.volumes().list(&call.filters()?)?)
}

/// `POST /volumes/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let wish: VolumeCreate = call.required_json().await?;
    if wish.cluster_volume_spec.is_some() && call.version >= ApiVersion::new(42) {
        return super::nothing::swarm(call).await;
    }
    json(StatusCode::CREATED, &call.app.engine.volumes().create(wish).await?)
}

/// `GET /volumes/{name}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    ok(&call.app.engine.volumes().inspect(&call.name)?)
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
