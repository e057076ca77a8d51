//! Paths of Docker's API that are not built yet: 501 with their name, so that
//! nobody takes a missing feature for a wrong address.

use hyper::Method;

use crate::http::{Call, Failure, Reply};
use crate::route::Route;

async fn absent(_: Call) -> Reply {
    Err(Failure::not_implemented("this endpoint"))
}

macro_rules! table {
    ($($method:ident $pattern:literal;)*) => {
        &[$(Route { method: Method::$method, pattern: $pattern, handler: |call| Box::pin(absent(call)) }),*]
    };
}

/// Known to Docker, unknown here.
pub(crate) static ABSENT: &[Route] = table! {
    GET "/containers/{id}/checkpoints";
    POST "/containers/{id}/checkpoints";
    POST "/build";
    POST "/build/cancel";
    GET "/images/search";
    POST "/images/{name}/push";
    GET "/images/{name}/attestations";
    GET "/distribution/{name}/json";
    POST "/session";
    POST "/grpc";
    GET "/plugins/privileges";
    POST "/plugins/{name}";
    POST "/swarm/init";
    POST "/swarm/join";
    POST "/swarm/unlock";
};
