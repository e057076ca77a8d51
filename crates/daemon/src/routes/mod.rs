//! The handlers, by resource: decode, call the owner of the data, encode.

mod absent;
mod archive;
mod auth;
mod commit;
mod container;
mod disk;
mod events;
mod exec;
mod image;
mod image_archive;
mod image_list;
mod image_prune;
mod lifecycle;
mod network;
mod nothing;
mod pull;
mod stats;
mod streams;
mod system;
mod volume;

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

pub(crate) use absent::ABSENT;

use crate::http::{Call, Reply};
use crate::route::Route;

/// What answers a request.
pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

macro_rules! table {
    ($($method:ident $pattern:literal $handler:path;)*) => {
        &[$(Route { method: Method::$method, pattern: $pattern, handler: |call| Box::pin($handler(call)) }),*]
    };
}

/// Everything that is answered. Paths with a name come after those they could
/// swallow.
pub(crate) static TABLE: &[Route] = table! {
    HEAD "/_ping" system::ping;
    GET "/_ping" system::ping;
    GET "/version" system::version;
    GET "/metrics" system::metrics;
    GET "/info" system::info;
    GET "/events" events::events;
    GET "/containers/json" container::list;
    POST "/containers/create" container::create;
    POST "/containers/prune" container::prune;
    GET "/containers/{id}/json" container::inspect;
    GET "/containers/{id}/top" container::top;
    GET "/containers/{id}/logs" streams::logs;
    GET "/containers/{id}/stats" stats::stats;
    GET "/containers/{id}/changes" archive::changes;
    GET "/containers/{id}/export" archive::export;
    HEAD "/containers/{id}/archive" archive::head;
    GET "/containers/{id}/archive" archive::get;
    PUT "/containers/{id}/archive" archive::put;
    POST "/containers/{id}/attach" streams::attach;
    GET "/containers/{id}/attach/ws" streams::attach_websocket;
    POST "/containers/{id}/wait" streams::wait;
    POST "/containers/{id}/start" lifecycle::start;
    POST "/containers/{id}/stop" lifecycle::stop;
    POST "/containers/{id}/restart" lifecycle::restart;
    POST "/containers/{id}/kill" lifecycle::kill;
    POST "/containers/{id}/pause" lifecycle::pause;
    POST "/containers/{id}/unpause" lifecycle::unpause;
    POST "/containers/{id}/resize" lifecycle::resize;
    POST "/containers/{id}/rename" lifecycle::rename;
    POST "/containers/{id}/update" container::update;
    POST "/containers/{id}/exec" exec::create;
    DELETE "/containers/{id}" lifecycle::remove;
    POST "/exec/{id}/start" exec::start;
    POST "/exec/{id}/resize" exec::resize;
    GET "/exec/{id}/json" exec::inspect;
    GET "/images/json" image_list::list;
    POST "/images/create" pull::create;
    POST "/images/load" image_archive::load;
    POST "/images/prune" image_prune::prune;
    GET "/images/get" image_archive::save_several;
    GET "/images/{name}/get" image_archive::save;
    POST "/commit" commit::commit;
    POST "/auth" auth::auth;
    GET "/system/df" disk::df;
    GET "/images/{name}/json" image::inspect;
    GET "/images/{name}/history" image::history;
    POST "/images/{name}/tag" image::tag;
    DELETE "/images/{name}" image::remove;
    GET "/networks" network::list;
    GET "/networks/" network::list;
    POST "/networks/create" network::create;
    POST "/networks/prune" network::prune;
    POST "/networks/{id}/connect" network::connect;
    POST "/networks/{id}/disconnect" network::disconnect;
    GET "/networks/{id}" network::inspect;
    DELETE "/networks/{id}" network::remove;
    GET "/volumes" volume::list;
    POST "/volumes/create" volume::create;
    POST "/volumes/prune" volume::prune;
    POST "/volumes/{name}/rename" volume::rename;
    POST "/volumes/{name}/clone" volume::copy;
    POST "/volumes/{name}/snapshot" volume::snapshot;
    POST "/volumes/{name}/restore" volume::restore;
    DELETE "/volumes/{name}/snapshot" volume::remove_snapshot;
    GET "/volumes/{name}" volume::inspect;
    PUT "/volumes/{name}" volume::update;
    DELETE "/volumes/{name}" volume::remove;
    POST "/build/prune" nothing::build_cache;
    GET "/plugins" nothing::plugins;
    GET "/plugins/{name}/json" nothing::plugin;
    GET "/swarm" nothing::swarm;
    GET "/swarm/{name}" nothing::swarm;
    POST "/swarm/leave" nothing::swarm;
    POST "/swarm/update" nothing::swarm;
    GET "/nodes" nothing::swarm;
    GET "/nodes/{id}" nothing::swarm;
    POST "/nodes/{id}" nothing::swarm;
    DELETE "/nodes/{id}" nothing::swarm;
    GET "/services" nothing::swarm;
    GET "/services/{id}" nothing::swarm;
    POST "/services/{id}" nothing::swarm;
    DELETE "/services/{id}" nothing::swarm;
    GET "/tasks" nothing::swarm;
    GET "/tasks/{id}" nothing::swarm;
    GET "/secrets" nothing::swarm;
    GET "/secrets/{id}" nothing::swarm;
    POST "/secrets/{id}" nothing::swarm;
    DELETE "/secrets/{id}" nothing::swarm;
    GET "/configs" nothing::swarm;
    GET "/configs/{id}" nothing::swarm;
    POST "/configs/{id}" nothing::swarm;
    DELETE "/configs/{id}" nothing::swarm;
};
