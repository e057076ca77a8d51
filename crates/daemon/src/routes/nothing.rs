//! Kinds of objects of which there are none yet: empty lists and "no such"
//! answers, so that clients that look everywhere for a name go on looking.

use hyper::StatusCode;
use serde_json::json;

use crate::http::{Call, Failure, Reply, ok};

fn no_such(message: String) -> Reply {
    Err(Failure { status: StatusCode::NOT_FOUND, message })
}

/// `POST /build/prune`: nothing is built, so nothing is kept. `docker system prune` asks for this, too.
pub(crate) async fn build_cache(_: Call) -> Reply {
    ok(&json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

/// `GET /plugins`.
pub(crate) async fn plugins(_: Call) -> Reply {
    ok(&json!([]))
}

/// `GET /plugins/{name}/json`.
pub(crate) async fn plugin(call: Call) -> Reply {
    no_such(format!("plugin \"{}\" not found", call.name))
}

/// Everything that needs a swarm, outside of one.
pub(crate) async fn swarm(_: Call) -> Reply {
    Err(Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.".to_owned(),
    })
}
