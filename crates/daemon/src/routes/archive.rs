//! Files of containers: archives out and in, export, changes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use budu_engine::{Download, Upload};
use budu_spec::docker::PathStat;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::http::{Body, Call, Encoding, Failure, Received, Reply, blocking, ok, produce, typed};

/// The header that says what is at the path.
const STAT: &str = "x-docker-container-path-stat";

/// Type of an archive.
const TAR: &str = "application/x-tar";

/// The path that is asked for.
fn path(call: &Call) -> Result<String, Failure> {
    match call.query.get("path") {
        Some(path) => Ok(path.to_owned()),
        None => Err(Failure::invalid("bad parameter: pathcannot be empty")),
    }
}

fn with_stat(mut response: Response<Body>, stat: &PathStat) -> Reply {
    let json = serde_json::to_vec(stat).map_err(|e| Failure::internal(e.to_string()))?;
    let value = HeaderValue::try_from(STANDARD.encode(json)).map_err(|e| Failure::internal(e.to_string()))?;
    response.headers_mut().insert(HeaderName::from_static(STAT), value);
    Ok(response)
}

/// `HEAD /containers/{id}/archive`.
pub(crate) async fn head(call: Call) -> Reply {
    let path = path(&call)?;
    let stat = blocking(move || call.app.engine.path_stat(&call.name, &path)).await??;
    with_stat(Response::new(Body::empty()), &stat)
}

/// `GET /containers/{id}/archive`.
pub(crate) async fn get(call: Call) -> Reply {
    let path = path(&call)?;
    let encoding = Encoding::of(&call);
    let (stat, download) = blocking(move || call.app.engine.download(&call.name, &path)).await??;
    let mut response = typed(StatusCode::OK, TAR, body(download, encoding)?);
    encoding.mark(response.headers_mut());
    with_stat(response, &stat)
}

fn body(download: Download, encoding: Encoding) -> Result<Body, Failure> {
    produce(move |sink| encoding.write(sink, |output| download.write(output).map(drop)))
}

/// `PUT /containers/{id}/archive`.
pub(crate) async fn put(mut call: Call) -> Reply {
    let wish = Upload {
        path: path(&call)?,
        keep_directories: call.query.flag("noOverwriteDirNonDir"),
        own: call.query.flag("copyUIDGID"),
    };
    let input = Received::new(call.body.take());
    blocking(move || call.app.engine.upload(&call.name, &wish, input)).await??;
    Ok(Response::new(Body::empty()))
}

/// `GET /containers/{id}/export`.
pub(crate) async fn export(call: Call) -> Reply {
    let download = blocking(move || call.app.engine.export(&call.name)).await??;
    Ok(typed(StatusCode::OK, "application/octet-stream", body(download, Encoding::Identity)?))
}

/// `GET /containers/{id}/changes`.
pub(crate) async fn changes(call: Call) -> Reply {
    let changes = blocking(move || call.app.engine.changes(&call.name)).await??;
    // No change at all travels as `null`, as it does in Docker.
    if changes.is_empty() { ok(&()) } else { ok(&changes) }
}
